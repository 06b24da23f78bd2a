//! HTTP/2 backends, with the real program: h2 is the backend, raw sockets are the clients.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, outside test functions")]

#[path = "../support/mod.rs"]
#[allow(unused_imports, reason = "each test program uses its own part of it")]
mod support;

mod bounds;
mod frames;
mod going;
mod keep_alive;
mod owner;
mod real;

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use weir_snapshot::{
    Config,
    config::{Backend, Protocol},
};

use support::{FakeControlPlane, Node};

type Asked = (Request<RecvStream>, SendResponse<Bytes>);

/// A node with an HTTP/2 backend whose streams the test answers.
struct Stage {
    _control: FakeControlPlane,
    node: Node,
    asked: mpsc::UnboundedReceiver<Asked>,
    connections: mpsc::UnboundedReceiver<()>,
}

impl Stage {
    async fn new() -> Self {
        Self::with_backends(1).await
    }

    async fn with_backends(count: usize) -> Self {
        let mut config = Config::default();
        config.pools[0].protocol = Protocol::Http2;
        let (tell, asked) = mpsc::unbounded_channel();
        let (count_connection, connections) = mpsc::unbounded_channel();
        for i in 0..count {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let backend = Backend { id: format!("b{i}"), url, weight: 1, state: Default::default() };
            config.pools[0].backends.push(backend);
            tokio::spawn(answer(listener, tell.clone(), count_connection.clone()));
        }
        let control = FakeControlPlane::start(config).await;
        let node = Node::start(&control.url()).await;
        node.ready().await;
        Self { _control: control, node, asked, connections }
    }

    async fn asked(&mut self) -> Asked {
        within(self.asked.recv()).await.expect("a stream")
    }

    async fn client(&self, says: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.node.http).await.unwrap();
        stream.write_all(says.as_bytes()).await.unwrap();
        stream
    }
}

async fn answer(listener: TcpListener, tell: mpsc::UnboundedSender<Asked>, count: mpsc::UnboundedSender<()>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tell, count) = (tell.clone(), count.clone());
        tokio::spawn(async move {
            let mut builder = h2::server::Builder::new();
            let mut connection =
                builder.enable_connect_protocol().handshake::<_, Bytes>(stream).await.unwrap();
            let _ = count.send(());
            while let Some(Ok(asked)) = connection.accept().await {
                let _ = tell.send(asked);
            }
        });
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(support::DEADLINE, future).await.expect("in time")
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    within(async {
        while !read.ends_with(end.as_bytes()) {
            read.push(
                stream
                    .read_u8()
                    .await
                    .unwrap_or_else(|_| panic!("ended after {:?}", String::from_utf8_lossy(&read))),
            );
        }
    })
    .await;
    String::from_utf8(read).unwrap()
}

async fn read_body(body: &mut RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut read = Vec::new();
    while let Some(data) = within(body.data()).await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        read.extend_from_slice(&data);
    }
    (read, within(body.trailers()).await.unwrap())
}

fn trailers(name: &'static str, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(value))])
}

#[tokio::test]
async fn a_request_with_body_and_trailers_becomes_a_stream_and_its_answer_comes_back() {
    let mut stage = Stage::new().await;
    let mut client = stage
        .client(
            "POST /books?x=1 HTTP/1.1\r\nHost: shop.example\r\nTE: trailers\r\nConnection: te, x-hop\r\nX-Hop: 1\r\n\
             X-Mine: a\r\nX-Mine: b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n",
        )
        .await;
    let (request, mut respond) = stage.asked().await;
    assert_eq!(request.method(), "POST");
    assert_eq!(request.uri().path_and_query().unwrap(), "/books?x=1");
    assert_eq!(request.uri().authority().unwrap(), "shop.example");
    let fields = request.headers();
    assert_eq!(fields.get_all("x-mine").iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(fields["te"], "trailers");
    assert_eq!(fields["x-forwarded-for"], "127.0.0.1");
    assert_eq!(fields["x-forwarded-proto"], "http");
    assert_eq!(fields["via"], "1.1 weir");
    for hop in ["x-hop", "connection", "transfer-encoding", "host"] {
        assert!(!fields.contains_key(hop), "{hop}: {fields:?}");
    }
    let mut body = request.into_body();
    let (read, sum) = read_body(&mut body).await;
    assert_eq!((read.as_slice(), sum.unwrap()["x-sum"].as_bytes()), (&b"hello"[..], &b"5"[..]));

    let answer = Response::builder().status(201).header("x-from", "h2").body(()).unwrap();
    let mut stream = respond.send_response(answer, false).unwrap();
    stream.send_data("made".into(), false).unwrap();
    stream.send_trailers(trailers("x-after", "1")).unwrap();
    let text = read_until(&mut client, "\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 201 Created\r\n") && text.contains("\r\nx-from: h2\r\n"), "{text}");
    assert_eq!(
        read_until(&mut client, "0\r\nx-after: 1\r\n\r\n").await,
        "4\r\nmade\r\n0\r\nx-after: 1\r\n\r\n"
    );
}

#[tokio::test]
async fn requests_of_many_clients_share_a_connection() {
    let mut stage = Stage::new().await;
    let mut clients = Vec::new();
    for i in 0..20 {
        clients.push(stage.client(&format!("GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n")).await);
    }
    let mut asked = Vec::new();
    for _ in 0..20 {
        asked.push(stage.asked().await);
    }
    for (request, mut respond) in asked {
        let answer = Response::builder().header("x-path", request.uri().path()).body(()).unwrap();
        respond.send_response(answer, true).unwrap();
    }
    for (i, client) in clients.iter_mut().enumerate() {
        let text = read_until(client, "\r\n\r\n").await;
        assert!(
            text.contains(&format!("\r\nx-path: /{i}\r\n")) && text.contains("Content-Length: 0"),
            "{text}"
        );
    }
    within(stage.connections.recv()).await;
    assert!(stage.connections.try_recv().is_err(), "one connection was enough");
}

#[tokio::test]
async fn a_stream_that_was_refused_unseen_is_repeated_elsewhere_even_for_a_post() {
    let mut stage = Stage::with_backends(2).await;
    let mut client = stage.client("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    let (_, mut respond) = stage.asked().await;
    respond.send_reset(Reason::REFUSED_STREAM);
    let (_, mut respond) = stage.asked().await;
    respond.send_response(Response::new(()), true).unwrap();
    let text = read_until(&mut client, "\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
}

#[tokio::test]
async fn a_post_that_may_have_been_seen_is_not_repeated() {
    let mut stage = Stage::with_backends(2).await;
    let mut client = stage.client("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    let (_, mut respond) = stage.asked().await;
    respond.send_reset(Reason::INTERNAL_ERROR);
    let text = read_until(&mut client, "\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 502 "), "{text}");
    assert!(stage.asked.try_recv().is_err());
}

#[tokio::test]
async fn a_reset_within_the_answer_is_a_visible_truncation() {
    let mut stage = Stage::new().await;
    let mut client = stage.client("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (_, mut respond) = stage.asked().await;
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream.send_data("half".into(), false).unwrap();
    read_until(&mut client, "4\r\nhalf\r\n").await;
    stream.send_reset(Reason::INTERNAL_ERROR);
    let mut rest = Vec::new();
    // A reset, or an end without the last chunk.
    let _ = within(client.read_to_end(&mut rest)).await;
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_stream() {
    let mut stage = Stage::new().await;
    let client = stage.client("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (_, mut respond) = stage.asked().await;
    socket2::SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(client);
    let reason = within(std::future::poll_fn(|cx| respond.poll_reset(cx))).await.unwrap();
    assert_eq!(reason, Reason::CANCEL);
}

#[tokio::test]
async fn interim_answers_pass() {
    let mut stage = Stage::new().await;
    let mut client = stage.client("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (_, mut respond) = stage.asked().await;
    let hints = Response::builder().status(103).header("link", "</a.css>").body(()).unwrap();
    respond.send_informational(hints).unwrap();
    let text = read_until(&mut client, "\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n"), "{text}");
    respond.send_response(Response::new(()), true).unwrap();
    assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_websocket_of_http1_becomes_an_extended_connect() {
    let mut stage = Stage::new().await;
    // The backend must first announce support, which its first response does.
    let mut first = stage.client("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (_, mut respond) = stage.asked().await;
    respond.send_response(Response::new(()), true).unwrap();
    read_until(&mut first, "\r\n\r\n").await;

    let mut client = stage
        .client(
            "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await;
    let (request, mut respond) = stage.asked().await;
    assert_eq!(request.method(), "CONNECT");
    assert_eq!(request.extensions().get::<h2::ext::Protocol>().unwrap().as_str(), "websocket");
    assert_eq!(
        (request.uri().path(), request.headers()["sec-websocket-version"].as_bytes()),
        ("/chat", &b"13"[..])
    );
    assert!(!request.headers().contains_key("sec-websocket-key"));
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    let text = read_until(&mut client, "\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
    // The example of RFC 6455, 1.3.
    assert!(text.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{text}");
    client.write_all(b"up").await.unwrap();
    let mut body = request.into_body();
    assert_eq!(within(body.data()).await.unwrap().unwrap(), "up");
    stream.send_data("down".into(), true).unwrap();
    let mut down = Vec::new();
    client.shutdown().await.unwrap();
    within(client.read_to_end(&mut down)).await.unwrap();
    assert_eq!(down, b"down");
    let rest = within(body.data()).await;
    assert!(rest.as_ref().is_none_or(|rest| rest.as_ref().is_ok_and(Bytes::is_empty)), "{rest:?}");
}
