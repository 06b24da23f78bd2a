//! Limits and timeouts of routes, with the real program.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, outside test functions")]

#[allow(unused_imports, reason = "each test program uses its own part of it")]
mod support;

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use weir_snapshot::{Config, config::Backend, units::ByteSize};

use support::{FakeControlPlane, Node};

/// A node with a backend played by the test.
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

/// All data until the end of the connection, and whether it ended cleanly.
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
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let (text, clean) = all(client).await;
    assert!(!clean || !text.ends_with("0\r\n\r\n"), "{text}");
    within(drip).await.unwrap();
}

#[tokio::test]
async fn a_backends_connection_is_left_before_the_time_that_it_names() {
    // Long before the pool's own timeout of 50 s.
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

/// Sends the first part, pauses, and sends the rest.
async fn pausing(backend: &mut TcpStream, first: &[u8], pause: Duration, rest: &[u8]) {
    let mut seen = [0; 4096];
    let _ = within(backend.read(&mut seen)).await.unwrap();
    backend.write_all(first).await.unwrap();
    tokio::time::sleep(pause).await;
    // The node may have closed the connection.
    let _ = backend.write_all(rest).await;
}

const SHORT: &str = "200ms";
const PAUSE: Duration = Duration::from_millis(700);
const HALF: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// The client's part of a response whose body pauses.
async fn of_a_pause_in_the_body(change: impl FnOnce(&mut Config)) -> String {
    let stage = Stage::new(change).await;
    let client = stage.client(GET).await;
    let mut backend = stage.accept().await;
    pausing(&mut backend, HALF, PAUSE, b"half").await;
    all(client).await.0
}

#[tokio::test]
async fn the_time_for_an_answers_head_does_not_count_for_pauses_in_its_body() {
    let said = of_a_pause_in_the_body(|config| {
        config.pools[0].timeouts.response = SHORT.parse().unwrap();
        config.settings.downstream.body_timeout = SHORT.parse().unwrap();
        config.settings.downstream.send_timeout = SHORT.parse().unwrap();
    });
    assert!(said.await.ends_with("halfhalf"));
}

#[tokio::test]
async fn a_pause_in_an_answers_body_is_bounded_by_the_pool_and_by_the_route_in_its_place() {
    let short = |config: &mut Config| config.pools[0].timeouts.response_body = SHORT.parse().unwrap();
    let said = of_a_pause_in_the_body(short).await;
    assert!(said.ends_with("\r\nhalf"), "{said}");
    for instead in ["0s", "20s"] {
        let said = of_a_pause_in_the_body(|config| {
            short(config);
            config.routes[0].timeouts.response_body = Some(instead.parse().unwrap());
        });
        let said = said.await;
        assert!(said.ends_with("halfhalf"), "{instead}: {said}");
    }
    let said = of_a_pause_in_the_body(|config| {
        config.routes[0].timeouts.response_body = Some(SHORT.parse().unwrap());
    });
    assert!(said.await.ends_with("\r\nhalf"));
}

#[tokio::test]
async fn an_event_stream_may_pause_unless_its_route_says_otherwise() {
    const EVENT: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 8\r\n\r\nhalf";
    for (of_route, whole) in [(None, true), (Some(SHORT), false)] {
        let stage = Stage::new(|config| {
            config.pools[0].timeouts.response_body = SHORT.parse().unwrap();
            config.routes[0].timeouts.response_body = of_route.map(|text| text.parse().unwrap());
        });
        let stage = stage.await;
        let client = stage.client(GET).await;
        let mut backend = stage.accept().await;
        pausing(&mut backend, EVENT, PAUSE, b"half").await;
        assert_eq!(all(client).await.0.ends_with("halfhalf"), whole, "{of_route:?}");
    }
}

#[tokio::test]
async fn the_time_for_an_answers_head_is_the_pools_or_the_routes_in_its_place() {
    for (of_pool, of_route, status) in
        [(SHORT, None, 504), (SHORT, Some("20s"), 200), ("20s", Some(SHORT), 504), ("20s", None, 200)]
    {
        let stage = Stage::new(|config| {
            config.pools[0].timeouts.response = of_pool.parse().unwrap();
            config.routes[0].timeouts.response = of_route.map(|text| text.parse().unwrap());
        });
        let stage = stage.await;
        let client = stage.client(GET).await;
        let mut backend = stage.accept().await;
        pausing(&mut backend, b"", PAUSE, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        let said = all(client).await.0;
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{of_pool} {of_route:?}: {said}");
    }
}

#[tokio::test]
async fn a_client_may_pause_in_its_request_as_long_as_the_settings_or_the_route_say() {
    for (of_all, of_route, status) in
        [(SHORT, None, 408), (SHORT, Some("0s"), 200), (SHORT, Some("20s"), 200), ("20s", Some(SHORT), 408)]
    {
        let stage = Stage::new(|config| {
            config.settings.downstream.body_timeout = of_all.parse().unwrap();
            config.routes[0].timeouts.request_body = of_route.map(|text| text.parse().unwrap());
            // The wait for a backend has another limit.
            config.pools[0].timeouts.response = "5s".parse().unwrap();
        });
        let stage = stage.await;
        let mut client = stage.client("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf").await;
        let mut backend = stage.accept().await;
        tokio::time::sleep(PAUSE).await;
        // If the node has closed the connection, this resets it.
        let _ = client.write_all(b"half").await;
        let mut seen = Vec::new();
        while status == 200 && !seen.ends_with(b"halfhalf") {
            seen.push(within(backend.read_u8()).await.unwrap());
        }
        let _ = backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        let mut said = [0; 12];
        within(client.read_exact(&mut said)).await.unwrap();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert_eq!(said, format!("HTTP/1.1 {status}"), "{of_all} {of_route:?}");
    }
}

/// How many bytes a client gets of a large response that it does not read at once.
async fn of_a_reader_that_pauses(change: impl FnOnce(&mut Config)) -> usize {
    const LENGTH: usize = 24 << 20;
    let stage = Stage::new(change).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = socket.connect(stage.node.http).await.unwrap();
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut backend = stage.accept().await;
    let sending = tokio::spawn(async move {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
        backend.write_all(head.as_bytes()).await.unwrap();
        // The node may have closed the connection.
        let _ = backend.write_all(&vec![b'x'; LENGTH]).await;
        backend
    });
    tokio::time::sleep(PAUSE).await;
    let mut read = Vec::new();
    let _ = within(client.read_to_end(&mut read)).await;
    drop(sending);
    let head = read.windows(4).position(|part| part == b"\r\n\r\n").map_or(0, |at| at + 4);
    LENGTH.checked_sub(read.len() - head).unwrap()
}

#[tokio::test]
async fn a_client_may_stop_reading_as_long_as_the_settings_or_the_route_say() {
    let set = |config: &mut Config, of_all: &str, of_route: Option<&str>| {
        // The timeouts of uploads and backends are different settings.
        config.settings.downstream.body_timeout = SHORT.parse().unwrap();
        config.pools[0].timeouts.response = SHORT.parse().unwrap();
        config.pools[0].timeouts.response_body = SHORT.parse().unwrap();
        config.settings.downstream.send_timeout = of_all.parse().unwrap();
        config.routes[0].timeouts.send = of_route.map(|text| text.parse().unwrap());
    };
    for (of_all, of_route, whole) in
        [("20s", None, true), (SHORT, None, false), (SHORT, Some("0s"), true), ("20s", Some(SHORT), false)]
    {
        let missing = of_a_reader_that_pauses(|config| set(config, of_all, of_route)).await;
        assert_eq!(missing == 0, whole, "{of_all} {of_route:?}: {missing} bytes are missing");
    }
}

/// The status for a response head with `fields` fields and `bytes` bytes.
async fn of_a_head(fields: usize, bytes: usize, change: impl FnOnce(&mut Config)) -> (String, usize) {
    let stage = Stage::new(change).await;
    let client = stage.client(GET).await;
    let mut backend = stage.accept().await;
    let mut head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n".to_vec();
    (1..fields).for_each(|i| head.extend_from_slice(format!("X-{i}: y\r\n").as_bytes()));
    if let Some(missing) = bytes.checked_sub(head.len() + 2) {
        // In the last one's value.
        head.truncate(head.len() - 2);
        head.extend(std::iter::repeat_n(b'y', missing));
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\nhello");
    pausing(&mut backend, &head, Duration::ZERO, b"").await;
    let said = all(client).await.0;
    assert!(!said.starts_with("HTTP/1.1 200 ") || said.ends_with("\r\n\r\nhello"), "cut: {}", said.len());
    let status = said.get(9..12).unwrap_or_default().to_owned();
    if status == "502" {
        assert!(said.contains("limits.max_response_head"), "{said}");
    }
    (status, said.lines().filter(|line| line.starts_with("X-")).count())
}

#[tokio::test]
async fn the_head_of_an_answer_is_bounded_in_fields_and_bytes_and_the_bounds_can_be_set() {
    let bounds = |head: &'static str, fields: u32| {
        move |config: &mut Config| {
            config.pools[0].limits.max_response_head = head.parse().unwrap();
            config.pools[0].limits.max_response_headers = fields;
        }
    };
    let default = |_: &mut Config| {};
    for fields in [128, 129, 256] {
        assert_eq!(of_a_head(fields, 0, default).await, ("200".into(), fields - 1), "{fields}");
    }
    assert_eq!(of_a_head(257, 0, default).await.0, "502");
    assert_eq!(of_a_head(1024, 0, bounds("64KiB", 1024)).await, ("200".into(), 1023));
    assert_eq!(of_a_head(1025, 0, bounds("1MiB", 1024)).await.0, "502");
    assert_eq!(of_a_head(11, 0, bounds("64KiB", 10)).await.0, "502");
    for (bytes, status) in [(65_535, "200"), (65_537, "502")] {
        assert_eq!(of_a_head(5, bytes, default).await, (status.into(), if status == "200" { 4 } else { 0 }));
    }
    for (bytes, status) in [(65_537, "200"), (300_000, "200"), (300_001, "502")] {
        let limit = bounds("300000", 256);
        assert_eq!(of_a_head(5, bytes, limit).await.0, status, "{bytes}");
    }
    assert_eq!(of_a_head(700, 1 << 20, bounds("1MiB", 1024)).await, ("200".into(), 699));
    assert_eq!(of_a_head(5, 2000, bounds("1KiB", 256)).await.0, "502");
}
