//! A route's bounds and deadlines, through the real program.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, outside test functions")]

#[allow(unused_imports, reason = "each test program uses its own part of it")]
mod support;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use weir_snapshot::{Config, config::Backend, units::ByteSize};

use support::{FakeControlPlane, Node};

/// A node in front of a backend that the test plays.
struct Stage {
    _control: FakeControlPlane,
    node: Node,
    backend: TcpListener,
}

impl Stage {
    async fn new(change: impl FnOnce(&mut Config)) -> Self {
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

    async fn client(&self, says: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.node.http).await.unwrap();
        stream.write_all(says.as_bytes()).await.unwrap();
        stream
    }

    async fn accept(&self) -> TcpStream {
        within(self.backend.accept()).await.unwrap().0
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(support::DEADLINE, future).await.expect("in time")
}

/// All that comes until the end, clean or not.
async fn all(mut stream: TcpStream) -> (String, bool) {
    let mut read = Vec::new();
    let clean = within(stream.read_to_end(&mut read)).await.is_ok();
    (String::from_utf8(read).unwrap(), clean)
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_refused_before_a_backend_sees_it() {
    let stage = Stage::new(|config| config.routes[0].limits.max_body = Some(ByteSize(10))).await;
    let client = stage
        .client("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n")
        .await;
    let (text, _) = all(client).await;
    assert!(text.starts_with("HTTP/1.1 413 Content Too Large\r\n"), "{text}");
    assert!(
        text.contains("\r\nConnection: close\r\n") && text.contains("application/problem+json"),
        "{text}"
    );
    let mut client = stage.client("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789").await;
    let mut backend = stage.accept().await;
    let mut seen = vec![0; 1024];
    let read = within(backend.read(&mut seen)).await.unwrap();
    assert!(seen[..read].ends_with(b"0123456789"));
    backend.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    let read = within(client.read(&mut seen)).await.unwrap();
    assert!(seen[..read].starts_with(b"HTTP/1.1 204 "));
}

#[tokio::test]
async fn a_body_that_grows_too_large_is_refused_and_the_backend_never_sees_its_end() {
    let stage = Stage::new(|config| config.routes[0].limits.max_body = Some(ByteSize(10))).await;
    let mut client =
        stage.client("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n").await;
    let mut backend = stage.accept().await;
    let mut seen = Vec::new();
    while !seen.ends_with(b"abcde\r\n") {
        seen.push(within(backend.read_u8()).await.unwrap());
    }
    client.write_all(b"6\r\nfghijk\r\n").await.unwrap();
    let (text, _) = all(client).await;
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
    let (rest, _) = all(backend).await;
    assert!(!rest.contains("0\r\n\r\n"), "{rest:?}");
}

#[tokio::test]
async fn a_request_that_takes_longer_than_its_route_allows_is_answered_with_504() {
    let stage = Stage::new(|config| config.routes[0].timeouts.request = Some("300ms".parse().unwrap())).await;
    let client = stage.client("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let _silent = stage.accept().await;
    let (text, _) = all(client).await;
    assert!(text.starts_with("HTTP/1.1 504 ") && text.contains("longer than its route allows"), "{text}");
}

#[tokio::test]
async fn an_answer_that_does_not_end_in_its_routes_time_is_cut_visibly() {
    let stage = Stage::new(|config| config.routes[0].timeouts.request = Some("300ms".parse().unwrap())).await;
    let client = stage.client("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut backend = stage.accept().await;
    backend.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await.unwrap();
    let drip = tokio::spawn(async move {
        while backend.write_all(b"1\r\nx\r\n").await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    let (text, clean) = all(client).await;
    assert!(!clean || !text.ends_with("0\r\n\r\n"), "{text}");
    within(drip).await.unwrap();
}

#[tokio::test]
async fn a_backends_connection_is_left_before_the_time_that_it_names() {
    // Long before the pool's own time, which is 50 s.
    for (fields, is_kept) in [
        ("Keep-Alive: timeout=2\r\n", false),
        ("Connection: keep-alive\r\nKeep-Alive: timeout=1, max=100\r\n", false),
        ("Keep-Alive: timeout=60\r\n", true),
        ("", true),
    ] {
        let stage = Stage::new(|_| {}).await;
        let asked = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut client = stage.client(asked).await;
        let mut backend = stage.backend.accept().await.unwrap().0;
        let read_head = async |stream: &mut TcpStream| {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
        };
        read_head(&mut backend).await;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{fields}\r\n");
        backend.write_all(answer.as_bytes()).await.unwrap();
        read_head(&mut client).await;
        if is_kept {
            client.write_all(asked.as_bytes()).await.unwrap();
            read_head(&mut backend).await;
        } else {
            let mut byte = [0; 1];
            let closed = tokio::time::timeout(support::DEADLINE, backend.read(&mut byte));
            assert_eq!(closed.await.expect("the node closes first").unwrap(), 0, "{fields}");
        }
    }
}
