//! HTTP/2 clients on the cleartext port, with the real program: hyper is the client, the test plays the backend byte
//! by byte.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, outside test functions")]

#[allow(unused_imports, reason = "each test program uses its own part of it")]
mod support;

use std::{convert::Infallible, future::poll_fn, task::Poll};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use weir_snapshot::{Config, config::Backend};

use support::{FakeControlPlane, Node};

type Body = BoxBody<Bytes, Infallible>;

/// A node with a backend played by the test.
struct Stage {
    _control: FakeControlPlane,
    node: Node,
    backend: TcpListener,
}

impl Stage {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::default();
        let url = format!("http://{}", backend.local_addr().unwrap());
        config.pools[0].backends.push(Backend { id: "b1".into(), url, weight: 1, state: Default::default() });
        change(&mut config);
        let control = FakeControlPlane::start(config).await;
        let node = Node::start(&control.url()).await;
        node.ready().await;
        Self { _control: control, node, backend }
    }

    async fn client(&self) -> SendRequest<Body> {
        let stream = TcpStream::connect(self.node.http).await.unwrap();
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn accept(&self) -> TcpStream {
        within(self.backend.accept()).await.unwrap().0
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(support::DEADLINE, future).await.expect("in time")
}

fn get(path: &str) -> Request<Body> {
    Request::get(format!("http://example.com{path}")).body(Empty::new().boxed()).unwrap()
}

/// Reads until the data ends with `end`.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    within(async {
        while !read.ends_with(end.as_bytes()) {
            read.push(stream.read_u8().await.unwrap());
        }
    })
    .await;
    String::from_utf8(read).unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(within(response.into_body().collect()).await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn a_stream_becomes_a_request_and_its_response_is_returned() {
    let stage = Stage::new().await;
    let mut client = stage.client().await;
    let mut request = get("/a%2Fb?c=d");
    request.headers_mut().append("cookie", "a=1".parse().unwrap());
    request.headers_mut().append("cookie", "b=2".parse().unwrap());
    let answer = tokio::spawn(client.send_request(request));
    let mut backend = stage.accept().await;
    let head = read_until(&mut backend, "\r\n\r\n").await;
    assert!(head.starts_with("GET /a%2Fb?c=d HTTP/1.1\r\nHost: example.com\r\n"), "{head}");
    assert!(head.contains("Cookie: a=1; b=2\r\n"), "{head}");
    assert!(
        head.contains("X-Forwarded-For: 127.0.0.1\r\n") && head.contains("X-Forwarded-Host: example.com\r\n"),
        "{head}"
    );
    backend
        .write_all(b"HTTP/1.1 201 Created\r\nConnection: keep-alive\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok")
        .await
        .unwrap();
    let response = within(answer).await.unwrap().unwrap();
    assert_eq!(response.status(), 201);
    assert!(!response.headers().contains_key("connection"));
    assert_eq!(response.headers().get_all("set-cookie").iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(text(response).await, "ok");
}

#[tokio::test]
async fn many_streams_run_side_by_side_on_one_connection() {
    let stage = Stage::new().await;
    let client = stage.client().await;
    // In the second round, the tasks of the first streams are reused; there are more streams than tasks are kept.
    for _ in 0..2 {
        let mut answers = Vec::new();
        for n in 0..80 {
            answers.push(tokio::spawn(client.clone().send_request(get(&format!("/{n}")))));
        }
        let mut backends = Vec::new();
        for _ in 0..80 {
            backends.push(stage.accept().await);
        }
        // All of them wait at the same time and are answered in another order.
        for backend in backends.iter_mut().rev() {
            let head = read_until(backend, "\r\n\r\n").await;
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let length = path.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{path}");
            backend.write_all(answer.as_bytes()).await.unwrap();
        }
        for (n, answer) in answers.into_iter().enumerate() {
            assert_eq!(text(within(answer).await.unwrap().unwrap()).await, format!("/{n}"));
        }
    }
}

#[tokio::test]
async fn bodies_and_trailers_stream_both_ways() {
    let stage = Stage::new().await;
    let mut client = stage.client().await;
    let (send, frames) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(4);
    let body = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(frames)).boxed();
    let request = Request::post("http://a/").header("te", "trailers").body(body).unwrap();
    let answer = tokio::spawn(client.send_request(request));
    send.send(Ok(Frame::data("abc".into()))).await.unwrap();
    let mut backend = stage.accept().await;
    let head = read_until(&mut backend, "3\r\nabc\r\n").await;
    assert!(head.contains("Transfer-Encoding: chunked\r\n") && head.contains("TE: trailers\r\n"), "{head}");
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "3".parse().unwrap());
    send.send(Ok(Frame::trailers(trailers))).await.unwrap();
    drop(send);
    read_until(&mut backend, "0\r\nx-sum: 3\r\n\r\n").await;
    backend.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n").await.unwrap();
    let mut body = within(answer).await.unwrap().unwrap().into_body();
    let first = within(body.frame()).await.unwrap().unwrap();
    assert_eq!(first.data_ref().unwrap(), "hi");
    backend.write_all(b"0\r\ngrpc-status: 0\r\n\r\n").await.unwrap();
    let last = within(body.frame()).await.unwrap().unwrap();
    assert_eq!(last.trailers_ref().unwrap()["grpc-status"], "0");
    assert!(within(body.frame()).await.is_none());
}

#[tokio::test]
async fn a_broken_response_resets_only_its_own_stream() {
    let stage = Stage::new().await;
    let mut client = stage.client().await;
    let answer = tokio::spawn(client.send_request(get("/")));
    let mut backend = stage.accept().await;
    read_until(&mut backend, "\r\n\r\n").await;
    backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await.unwrap();
    let response = within(answer).await.unwrap().unwrap();
    drop(backend);
    assert!(within(response.into_body().collect()).await.is_err());

    let answer = tokio::spawn(client.send_request(get("/")));
    let mut backend = stage.accept().await;
    read_until(&mut backend, "\r\n\r\n").await;
    backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    assert_eq!(text(within(answer).await.unwrap().unwrap()).await, "ok");
}

#[tokio::test]
async fn a_response_that_breaks_off_is_truncated_after_its_head_and_the_received_part() {
    let stage = Stage::new().await;
    let mut client = stage.client().await;
    for round in 0..60 {
        let framing = ["Content-Length: 10", "Transfer-Encoding: chunked"][round % 2];
        let piece = ["abc", "3\r\nabc\r\n"][round % 2];
        let answer = tokio::spawn(client.send_request(get("/")));
        let mut backend = stage.accept().await;
        read_until(&mut backend, "\r\n\r\n").await;
        let said = format!("HTTP/1.1 201 Created\r\n{framing}\r\n\r\n{piece}");
        backend.write_all(said.as_bytes()).await.unwrap();
        drop(backend);
        let response = within(answer).await.unwrap().unwrap_or_else(|error| panic!("{round}: {error:?}"));
        assert_eq!(response.status(), 201);
        let mut body = response.into_body();
        let first = within(body.frame()).await.unwrap().unwrap_or_else(|error| panic!("{round}: {error:?}"));
        assert_eq!(first.into_data().unwrap(), "abc");
        assert!(within(body.frame()).await.unwrap().is_err(), "{round}: it ended as if it were whole");
    }
}

#[tokio::test]
async fn a_cancelled_stream_cancels_the_request_upstream() {
    let stage = Stage::new().await;
    let mut client = stage.client().await;
    let answer = tokio::spawn(client.send_request(get("/")));
    let mut backend = stage.accept().await;
    read_until(&mut backend, "\r\n\r\n").await;
    answer.abort();
    assert_eq!(within(backend.read(&mut [0])).await.unwrap_or_default(), 0);
}

#[tokio::test]
async fn a_draining_node_sends_goaway_and_finishes_running_streams() {
    let mut stage = Stage::new().await;
    let mut client = stage.client().await;
    let answer = tokio::spawn(client.send_request(get("/")));
    let mut backend = stage.accept().await;
    read_until(&mut backend, "\r\n\r\n").await;
    stage.node.terminate();
    stage.node.ask_until("/readyz", |answer| answer.body.contains("draining")).await;
    backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    assert_eq!(text(within(answer).await.unwrap().unwrap()).await, "ok");
    // The client keeps its connection open, so the node itself must close it before its drain deadline.
    assert!(within(stage.node.ended()).await.success());
    drop(client);
}

#[tokio::test]
async fn an_early_refusal_is_not_followed_by_a_reset_while_the_client_sends() {
    type Change = fn(&mut Config);
    let refusals: [(u16, Change); 3] = [
        (405, |config| config.routes[0].allow_methods = vec!["GET".into()]),
        (413, |config| config.routes[0].limits.max_body = Some("1KiB".parse().unwrap())),
        (404, |config| config.routes[0].matches.hosts = vec!["other.example".into()]),
    ];
    for (status, change) in refusals {
        let stage = Stage::with(change).await;
        let stream = TcpStream::connect(stage.node.http).await.unwrap();
        let (sender, mut connection) = h2::client::handshake(stream).await.unwrap();
        let mut pings = connection.ping_pong().unwrap();
        tokio::spawn(connection);
        let mut sender = within(sender.ready()).await.unwrap();
        let request =
            Request::post("http://example.com/").header("content-length", 1 << 20).body(()).unwrap();
        let (response, mut body) = sender.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(&[b'x'; 1000]), false).unwrap();
        let mut response = within(response).await.unwrap();
        assert_eq!(response.status(), status);
        while let Some(data) = within(response.body_mut().data()).await {
            data.unwrap();
        }
        // Frames that the node sent with the end of its response arrive before the answer to a PING.
        within(pings.ping(h2::Ping::opaque())).await.unwrap();
        let reset = poll_fn(|cx| Poll::Ready(body.poll_reset(cx))).await;
        assert!(reset.is_pending(), "{status}: {reset:?}");
        if status == 405 {
            // The client need not send the rest forever.
            let reason = within(poll_fn(|cx| body.poll_reset(cx))).await.unwrap();
            assert_eq!(reason, h2::Reason::NO_ERROR);
        }
    }
}
