//! Server-sent events, with the real program. The backend sends each event only after the client has received the
//! previous one, so that any buffering blocks the test. Over every listener, with HTTP/1.1 and HTTP/2 backends.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, outside test functions")]

#[allow(unused_imports, reason = "each test program uses its own part of it")]
mod support;

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use weir_snapshot::{
    config::{Config, Protocol},
    units::HumanDuration,
};

use support::{
    wire::{BoxIo, Kind, Wire, config},
    within,
};

/// A client that listens for events.
enum Listener {
    Http1 { io: BoxIo, read: Vec<u8> },
    Http2 { body: h2::RecvStream, read: Vec<u8> },
}

/// How a stream of events ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// A regular end.
    Clean,
    Broken,
}

impl Listener {
    /// Requests events and waits for the response head.
    async fn open(wire: &Wire, kind: Kind, last_event_id: Option<&str>) -> Self {
        let id = last_event_id.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        if kind.is_http2() {
            let client = wire.h2(kind).await;
            let mut request =
                http::Request::get("http://a.example/events").header("accept", "text/event-stream");
            if let Some(id) = last_event_id {
                request = request.header("last-event-id", id);
            }
            let mut client = client.ready().await.unwrap();
            let (answer, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
            let answer = within(answer).await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.headers()["content-type"], "text/event-stream");
            return Self::Http2 { body: answer.into_body(), read: Vec::new() };
        }
        let mut io = wire.connect(kind).await;
        let head =
            format!("GET /events HTTP/1.1\r\nhost: a.example\r\naccept: text/event-stream\r\n{id}\r\n");
        io.write_all(head.as_bytes()).await.unwrap();
        let mut this = Self::Http1 { io, read: Vec::new() };
        let head = this.until("\r\n\r\n").await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.to_lowercase().contains("content-type: text/event-stream\r\n"), "{head}");
        this
    }

    /// Everything up to and including `what`; an error if the stream ends before.
    async fn until(&mut self, what: &str) -> Result<String, End> {
        within(async {
            loop {
                let read = match self {
                    Self::Http1 { read, .. } | Self::Http2 { read, .. } => read,
                };
                if let Some(at) = read.windows(what.len()).position(|window| window == what.as_bytes()) {
                    return Ok(String::from_utf8(read.drain(..at + what.len()).collect()).unwrap());
                }
                self.more().await?;
            }
        })
        .await
    }

    async fn more(&mut self) -> Result<(), End> {
        match self {
            Self::Http1 { io, read } => match io.read_buf(read).await {
                Ok(0) if read.ends_with(b"0\r\n\r\n") => Err(End::Clean),
                // A chunked body without its last chunk is cut. A body that ends with the connection cannot be
                // distinguished from a complete one, and these backends send none.
                Ok(0) | Err(_) => Err(End::Broken),
                Ok(_) => Ok(()),
            },
            Self::Http2 { body, read } => match body.data().await {
                None => Err(End::Clean),
                Some(Err(_)) => Err(End::Broken),
                Some(Ok(bytes)) => {
                    let _ = body.flow_control().release_capacity(bytes.len());
                    read.extend_from_slice(&bytes);
                    Ok(())
                }
            },
        }
    }

    async fn end(mut self) -> End {
        loop {
            if let Err(end) = within(self.more()).await {
                return end;
            }
        }
    }
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// An HTTP/1.1 backend played by the test.
struct Source {
    listener: TcpListener,
}

impl Source {
    async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }

    /// The head of the next request, and the connection for the response.
    async fn request(&self) -> (TcpStream, String) {
        let (mut stream, _) = within(self.listener.accept()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within(stream.read_u8()).await.unwrap());
        }
        (stream, String::from_utf8(head).unwrap())
    }
}

async fn say(stream: &mut TcpStream, event: &str) {
    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
    stream.write_all(chunk.as_bytes()).await.unwrap();
}

/// Request timeouts shorter than the pauses in these tests.
fn impatient(mut config: Config) -> Config {
    let short = HumanDuration(Duration::from_millis(300));
    (config.pools[0].timeouts.response, config.pools[0].timeouts.response_body) = (short, short);
    config.pools[0].timeouts.idle = short;
    let downstream = &mut config.settings.downstream;
    (downstream.header_timeout, downstream.body_timeout, downstream.idle_timeout) = (short, short, short);
    config
}

#[tokio::test]
async fn each_event_arrives_before_the_next_is_sent() {
    let source = Source::start().await;
    let wire = Wire::start(config(&[source.url()])).await;
    for kind in Kind::ALL {
        let opening = Listener::open(&wire, kind, None);
        let answering = async {
            let (mut backend, _) = source.request().await;
            backend.write_all(HEAD.as_bytes()).await.unwrap();
            backend
        };
        let (mut client, mut backend) = tokio::join!(opening, answering);
        for n in 0..100 {
            say(&mut backend, &format!("id: {n}\ndata: {kind:?}\n\n")).await;
            client.until(&format!("id: {n}\ndata: {kind:?}\n\n")).await.unwrap();
        }
        backend.write_all(b"0\r\n\r\n").await.unwrap();
        if kind.is_http2() {
            assert_eq!(client.end().await, End::Clean, "{kind:?}");
        } else {
            client.until("0\r\n\r\n").await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_pause_longer_than_every_timeout_ends_no_stream() {
    let source = Source::start().await;
    let wire = Wire::start(impatient(config(&[source.url()]))).await;
    let mut open = Vec::new();
    for kind in Kind::ALL {
        let answering = async {
            let (mut backend, _) = source.request().await;
            backend.write_all(HEAD.as_bytes()).await.unwrap();
            backend
        };
        let (mut client, mut backend) = tokio::join!(Listener::open(&wire, kind, None), answering);
        say(&mut backend, "data: first\n\n").await;
        client.until("data: first\n\n").await.unwrap();
        open.push((kind, client, backend));
    }
    let since = Instant::now();
    for (kind, client, _) in &mut open {
        let silence =
            Duration::from_millis(1200).saturating_sub(since.elapsed()).max(Duration::from_millis(10));
        let heard = timeout(silence, async { while client.more().await.is_ok() {} }).await;
        assert!(heard.is_err(), "{kind:?}: cut off");
    }
    for (kind, client, backend) in &mut open {
        say(backend, "data: after\n\n").await;
        client.until("data: after\n\n").await.unwrap_or_else(|end| panic!("{kind:?}: {end:?}"));
    }
}

#[tokio::test]
async fn a_pause_of_an_http2_backend_ends_no_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = impatient(config(&[format!("http://{}", listener.local_addr().unwrap())]));
    config.pools[0].protocol = Protocol::Http2;
    let (events, mut next) = tokio::sync::mpsc::unbounded_channel::<&'static str>();
    let backend = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        let answer = http::Response::builder().header("content-type", "text/event-stream").body(()).unwrap();
        let mut body = respond.send_response(answer, false).unwrap();
        tokio::spawn(async move {
            while let Some(event) = next.recv().await {
                body.send_data(Bytes::from_static(event.as_bytes()), false).unwrap();
            }
            // Dropping the body would end the stream regularly; the test ends it with a reset.
            body.send_reset(h2::Reason::INTERNAL_ERROR);
        });
        while connection.accept().await.is_some() {}
    });
    let wire = Wire::start(config).await;
    let mut client = Listener::open(&wire, Kind::H2, None).await;
    events.send("data: first\n\n").unwrap();
    client.until("data: first\n\n").await.unwrap();
    assert!(timeout(Duration::from_millis(1200), client.more()).await.is_err());
    events.send("data: after\n\n").unwrap();
    client.until("data: after\n\n").await.unwrap();
    drop(events);
    assert_eq!(client.end().await, End::Broken);
    backend.abort();
}

#[tokio::test]
async fn the_last_event_id_reaches_the_backend() {
    let source = Source::start().await;
    let wire = Wire::start(config(&[source.url()])).await;
    for kind in Kind::ALL {
        let answering = async {
            let (mut backend, head) = source.request().await;
            backend.write_all(HEAD.as_bytes()).await.unwrap();
            (backend, head)
        };
        let (_client, (_backend, head)) = tokio::join!(Listener::open(&wire, kind, Some("a-17")), answering);
        assert!(head.to_lowercase().contains("last-event-id: a-17\r\n"), "{kind:?}: {head}");
        assert!(head.to_lowercase().contains("accept: text/event-stream\r\n"), "{kind:?}: {head}");
    }
}

#[tokio::test]
async fn a_lost_backend_truncates_the_stream_and_the_next_request_uses_another() {
    for kind in Kind::ALL {
        let (first, second) = (Source::start().await, Source::start().await);
        let wire = Wire::start(config(&[first.url(), second.url()])).await;
        let answering = async {
            tokio::select! {
                (stream, _) = first.request() => (stream, true),
                (stream, _) = second.request() => (stream, false),
            }
        };
        let opening = Listener::open(&wire, kind, None);
        let answering = async {
            let (mut backend, at_first) = answering.await;
            backend.write_all(HEAD.as_bytes()).await.unwrap();
            say(&mut backend, "id: 1\ndata: x\n\n").await;
            (backend, at_first)
        };
        let (mut client, (backend, at_first)) = tokio::join!(opening, answering);
        client.until("id: 1\ndata: x\n\n").await.unwrap();
        // The backend has closed its port: new connections are refused.
        drop(backend);
        let healthy = if at_first {
            drop(first);
            second
        } else {
            drop(second);
            first
        };
        assert_eq!(client.end().await, End::Broken, "{kind:?}");
        for n in 1..4 {
            let id = format!("{n}");
            let answering = async {
                let (mut backend, head) = healthy.request().await;
                assert!(head.to_lowercase().contains(&format!("last-event-id: {n}\r\n")), "{head}");
                backend.write_all(HEAD.as_bytes()).await.unwrap();
                say(&mut backend, "data: back\n\n").await;
                backend
            };
            let (mut client, _backend) = tokio::join!(Listener::open(&wire, kind, Some(&id)), answering);
            client.until("data: back\n\n").await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_request_at_the_backend() {
    let source = Source::start().await;
    let wire = Wire::start(config(&[source.url()])).await;
    for kind in Kind::ALL {
        let answering = async {
            let (mut backend, _) = source.request().await;
            backend.write_all(HEAD.as_bytes()).await.unwrap();
            backend
        };
        let (client, mut backend) = tokio::join!(Listener::open(&wire, kind, None), answering);
        drop(client);
        // An HTTP/1 client that has closed its side may only have finished sending; the next events show the
        // difference.
        let ended = async {
            let mut byte = [0];
            loop {
                tokio::select! {
                    read = backend.read(&mut byte) => return read.unwrap_or_default(),
                    () = tokio::time::sleep(Duration::from_millis(10)), if !kind.is_http2() => {}
                }
                if backend.write_all(b"1\r\n\n\r\n").await.is_err() {
                    return 0;
                }
            }
        };
        assert_eq!(within(ended).await, 0, "{kind:?}");
    }
}

#[tokio::test]
async fn a_drain_truncates_a_stream_at_its_deadline_and_not_before() {
    for kind in Kind::ALL {
        let source = Source::start().await;
        let mut wire = Wire::start_with(config(&[source.url()]), &["--drain-timeout", "1s"]).await;
        let answering = async {
            let (mut backend, _) = source.request().await;
            backend.write_all(HEAD.as_bytes()).await.unwrap();
            backend
        };
        let (mut client, mut backend) = tokio::join!(Listener::open(&wire, kind, None), answering);
        wire.node.terminate();
        wire.node.ask_until("/readyz", |answer| answer.body.contains("draining")).await;
        say(&mut backend, "data: still\n\n").await;
        client.until("data: still\n\n").await.unwrap();
        assert_eq!(client.end().await, End::Broken, "{kind:?}");
        wire.node.ended().await;
    }
}
