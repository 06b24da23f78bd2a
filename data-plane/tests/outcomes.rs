//! Ends and kinds of responses, as a node counts them in batches, tail events and metrics; over HTTP/1 and HTTP/2,
//! with backends that finish, break off or never end.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, outside test functions")]

#[allow(unused_imports, reason = "each test program uses its own part of it")]
mod support;

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use weir_proto::v1::{self, AnswerKind, Outcome, TailEvent, subscribe_response::Message};
use weir_snapshot::{config::Route, units::HumanDuration};

use support::{
    wire::{Kind, Wire, config},
    within,
};

const PLAIN: &str = "text/plain";
const EVENTS: &str = "text/event-stream";
const GRPC: &str = "application/grpc";
/// A message of two bytes.
const MESSAGE: &[u8] = b"\0\0\0\0\x02ab";

/// A backend that answers according to the path: `/KIND/HOW`.
async fn backend() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    url
}

async fn serve(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap();
        if !answer(&mut stream, path).await {
            return;
        }
    }
}

/// Whether the connection can carry another request.
async fn answer(stream: &mut TcpStream, path: &str) -> bool {
    let (kind, how) = path[1..].split_once('/').unwrap();
    let content_type = match kind {
        "events" => EVENTS,
        "grpc" => GRPC,
        _ => PLAIN,
    };
    let head = |rest: &str| format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n{rest}\r\n");
    let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let write = async |stream: &mut TcpStream, bytes: &[u8]| stream.write_all(bytes).await.is_ok();
    match how {
        "whole" => {
            write(stream, format!("{}abcd", head("content-length: 4\r\n")).as_bytes()).await;
            true
        }
        "cut-length" => {
            write(stream, format!("{}abcd", head("content-length: 9\r\n")).as_bytes()).await;
            false
        }
        "one" | "two" | "one-cut" | "two-cut" => {
            write(stream, head("transfer-encoding: chunked\r\n").as_bytes()).await;
            for _ in 0..if how.starts_with("one") { 1 } else { 2 } {
                write(stream, &chunk(MESSAGE)).await;
            }
            let is_whole = !how.ends_with("cut");
            if is_whole {
                write(stream, b"0\r\n\r\n").await;
            }
            is_whole
        }
        // Only the client ends it.
        "endless" => {
            write(stream, head("transfer-encoding: chunked\r\n").as_bytes()).await;
            while write(stream, &chunk(MESSAGE)).await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            false
        }
        "silent" => {
            let _ = stream.read_u8().await;
            false
        }
        // To a proxy this is a WebSocket; the rest depends on the first byte.
        "upgrade" => {
            write(stream, b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n").await;
            let word = stream.read_u8().await;
            if matches!(word, Ok(b'r')) {
                socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap();
                return false;
            }
            while stream.read_u8().await.is_ok() {}
            false
        }
        other => panic!("{other}"),
    }
}

/// Sends a GET. With `leaves`, the client leaves after the head and a first piece, or while it waits for a head.
async fn get(wire: &Wire, kind: Kind, path: &str, leaves: bool) {
    if kind.is_http2() {
        let mut client = wire.h2(kind).await.ready().await.unwrap();
        let request = http::Request::get(format!("http://a.example{path}")).body(()).unwrap();
        let (answer, mut stream) = client.send_request(request, true).unwrap();
        if path.ends_with("silent") {
            // The node has the request before it is cancelled.
            tokio::time::sleep(Duration::from_millis(100)).await;
            stream.send_reset(h2::Reason::CANCEL);
            return;
        }
        let Ok(answer) = within(answer).await else { return };
        let mut body = answer.into_body();
        while let Some(Ok(bytes)) = within(body.data()).await {
            let _ = body.flow_control().release_capacity(bytes.len());
            if leaves {
                stream.send_reset(h2::Reason::CANCEL);
                return;
            }
        }
        return;
    }
    let mut io = wire.connect(kind).await;
    io.write_all(format!("GET {path} HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    if path.ends_with("silent") {
        return;
    }
    let mut bytes = Vec::new();
    while within(io.read_buf(&mut bytes)).await.is_ok_and(|read| read > 0) {
        if leaves && bytes.windows(2).any(|pair| pair == b"ab") {
            return;
        }
    }
}

async fn start() -> Wire {
    let mut config = config(&[backend().await]);
    let mut late: Route = config.routes[0].clone();
    late.name = "late".into();
    late.matches.path = Some("/late".into());
    late.timeouts.request = Some(HumanDuration(Duration::from_millis(400)));
    config.routes.push(late);
    config.pools[0].timeouts.tunnel = HumanDuration(Duration::from_secs(2));
    let wire = Wire::start(config).await;
    wire.control
        .push(Message::Tail(v1::Tail { filters: vec![v1::TailFilter { id: 1, ..Default::default() }] }));
    // The filter is active once a request is seen.
    for n in 0.. {
        assert!(n < 2_000, "no request is seen");
        get(&wire, Kind::Http1, "/plain/whole", false).await;
        if wire.control.heard(|heard| !heard.seen.is_empty()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    wire
}

#[tokio::test]
async fn every_end_of_an_answer_is_counted_and_shown() {
    use AnswerKind::{Answer, EventStream, GrpcStream};
    use Outcome::{CutByBackend, CutByClient, CutByNode, Finished};
    let wire = start().await;
    let before = wire.node.ask("/metrics").await.body;
    let cases = [
        ("/plain/whole", false, 200, Finished, Answer),
        ("/plain/cut-length", false, 200, CutByBackend, Answer),
        ("/plain/two", false, 200, Finished, Answer),
        ("/plain/two-cut", false, 200, CutByBackend, Answer),
        ("/plain/endless", true, 200, CutByClient, Answer),
        ("/plain/silent", true, 499, CutByClient, Answer),
        ("/late/endless", false, 200, CutByNode, Answer),
        ("/events/two", false, 200, Finished, EventStream),
        ("/events/one-cut", false, 200, CutByBackend, EventStream),
        ("/events/endless", true, 200, CutByClient, EventStream),
        ("/grpc/one", false, 200, Finished, Answer),
        ("/grpc/two", false, 200, Finished, GrpcStream),
        ("/grpc/one-cut", false, 200, CutByBackend, GrpcStream),
        ("/grpc/endless", true, 200, CutByClient, GrpcStream),
    ];
    for kind in [Kind::Http1, Kind::H2c] {
        for (path, leaves, status, outcome, answer) in cases {
            let wanted = (status, outcome, answer);
            // The same path over two protocols is distinguished by the requests seen before.
            let seen = wire.control.heard(|heard| heard.seen.len());
            get(&wire, kind, path, leaves).await;
            let find = |heard: &support::control_plane::Heard| {
                heard.seen.iter().skip(seen).find(|event| event.path == path).cloned()
            };
            let event = wire.control.wait(&format!("{kind:?} {path}"), find).await;
            let is = (event.status, event.outcome(), event.kind());
            assert_eq!(is, wanted, "{kind:?} {path}: {event:?}");
            assert!(event.head_us > 0 && event.head_us <= event.latency_us, "{event:?}");
        }
    }
    // 14 cases over two protocols: each is counted as in the events.
    let of = |outcome: Outcome| {
        wire.control
            .heard(|heard| heard.seen.iter().filter(|event| event.outcome() == outcome).count() as u64)
    };
    let [client, backend, node] = [CutByClient, CutByBackend, CutByNode].map(of);
    assert_eq!([client, backend, node], [8, 8, 2]);
    let counted = |batches: &[v1::ReportRequest]| {
        let mut sum = v1::Cut::default();
        for cut in batches.iter().flat_map(|batch| &batch.rows).filter_map(|row| row.cut) {
            sum.client += cut.client;
            sum.backend += cut.backend;
            sum.node += cut.node;
        }
        sum
    };
    let expected = v1::Cut { client, backend, node };
    wire.control.wait("the counts", |heard| (counted(&heard.batches) == expected).then_some(())).await;
    assert!(!before.contains("weir_node_requests_cut_total{by=\"backend\"} 8"), "{before}");
    let metrics = wire.node.ask("/metrics").await.body;
    for line in [
        "weir_node_requests_cut_total{by=\"client\"} 8",
        "weir_node_requests_cut_total{by=\"backend\"} 8",
        "weir_node_requests_cut_total{by=\"node\"} 2",
        "weir_node_pool_cut_by_backend_total{pool=\"default\"} 8",
        "weir_node_streams_total 12",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

/// Number of samples in the latencies and durations of all rows, without those by host.
fn samples(batches: &[v1::ReportRequest]) -> (u64, u64, u64) {
    let read = |bytes: &[u8]| -> u64 {
        if bytes.is_empty() {
            return 0;
        }
        let mut reader = hdrhistogram::serialization::Deserializer::new();
        let histogram: hdrhistogram::Histogram<u64> = reader.deserialize(&mut &*bytes).unwrap();
        histogram.len()
    };
    let rows = batches.iter().flat_map(|batch| &batch.rows);
    rows.fold((0, 0, 0), |(requests, latencies, streams), row| {
        (requests + row.requests, latencies + read(&row.latency), streams + read(&row.stream_duration))
    })
}

#[tokio::test]
async fn an_answer_that_is_still_running_when_the_node_stops_is_cut_by_the_node() {
    for kind in [Kind::Http1, Kind::H2c] {
        let mut wire = Wire::start_with(config(&[backend().await]), &["--drain-timeout", "300ms"]).await;
        let client = async {
            get(&wire, kind, "/plain/endless", false).await;
        };
        let stopped = async {
            // The backend has the request.
            let busy = |answer: &support::node::Answer| {
                let mut lines =
                    answer.body.lines().filter(|line| line.starts_with("weir_node_backend_active_requests"));
                lines.any(|line| line.ends_with(" 1"))
            };
            wire.node.ask_until("/metrics", busy).await;
            wire.node.terminate();
        };
        tokio::join!(client, stopped);
        assert!(wire.node.ended().await.success());
        let cut = wire.control.heard(|heard| {
            heard.batches.iter().flat_map(|batch| &batch.rows).filter_map(|row| row.cut).collect::<Vec<_>>()
        });
        assert_eq!(cut, [v1::Cut { client: 0, backend: 0, node: 1 }], "{kind:?}");
    }
}

#[tokio::test]
async fn a_request_is_sent_as_often_as_attempts_says_however_it_fails() {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    let sent = std::sync::Arc::new(AtomicU32::new(0));
    // Four backends: those of /reset close without an answer, those of /status answer 503.
    let mut urls = Vec::new();
    for _ in 0..4 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        urls.push(format!("http://{}", listener.local_addr().unwrap()));
        let sent = std::sync::Arc::clone(&sent);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n")
                    && stream.read_buf(&mut head).await.is_ok_and(|read| read > 0)
                {}
                sent.fetch_add(1, Relaxed);
                if head.starts_with(b"GET /status") {
                    let answer =
                        b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    let _ = stream.write_all(answer).await;
                }
            }
        });
    }
    for attempts in 1..=4 {
        let mut config = config(&urls);
        config.pools[0].retry.attempts = attempts;
        config.pools[0].breaker.enabled = false;
        let wire = Wire::start(config).await;
        for path in ["/status", "/reset"] {
            sent.store(0, Relaxed);
            // The budget begins with five retries.
            if attempts == 4 && path == "/reset" {
                continue;
            }
            get(&wire, Kind::Http1, path, false).await;
            assert_eq!(sent.load(Relaxed), attempts, "{path}, attempts: {attempts}");
        }
    }
}

async fn upgraded(wire: &Wire) -> support::wire::BoxIo {
    let mut io = wire.connect(Kind::Http1).await;
    io.write_all(b"GET /tunnel/upgrade HTTP/1.1\r\nhost: a.example\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        .await
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(io.read_u8()).await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    io
}

#[tokio::test]
async fn a_tunnel_has_a_duration_and_an_end_and_no_latency() {
    let wire = start().await;
    let before = wire.control.heard(|heard| heard.seen.len());
    let events = async |n: usize| {
        let all = |heard: &support::control_plane::Heard| {
            let tunnels = heard.seen.iter().skip(before).filter(|event| event.kind() == AnswerKind::Tunnel);
            let tunnels: Vec<TailEvent> = tunnels.cloned().collect();
            (tunnels.len() >= n).then_some(tunnels)
        };
        wire.control.wait("the tunnels", all).await
    };
    // Both sides end it.
    let mut io = upgraded(&wire).await;
    io.write_all(b"hello").await.unwrap();
    io.shutdown().await.unwrap();
    assert_eq!(within(io.read(&mut [0; 9])).await.unwrap(), 0);
    let seen = events(1).await;
    assert_eq!((seen[0].outcome(), seen[0].status, seen[0].bytes_in), (Outcome::Finished, 101, 5));
    // The backend resets it.
    let mut io = upgraded(&wire).await;
    io.write_all(b"r").await.unwrap();
    let _ = within(io.read(&mut [0; 9])).await;
    assert_eq!(events(2).await[1].outcome(), Outcome::CutByBackend);
    // No byte moves for `timeouts.tunnel`.
    let mut io = upgraded(&wire).await;
    let _ = within(io.read(&mut [0; 9])).await;
    let idle = events(3).await[2].clone();
    assert_eq!(idle.outcome(), Outcome::CutByNode);
    assert!(idle.latency_us >= 2_000_000 && idle.head_us < idle.latency_us, "{idle:?}");
    // A tunnel that lasted 2 s is in no latency.
    let all = |heard: &support::control_plane::Heard| {
        let (requests, latencies, streams) = samples(&heard.batches);
        (streams == 3).then_some((requests, latencies))
    };
    let (requests, latencies) = wire.control.wait("the counts", all).await;
    assert_eq!(latencies + 3, requests);
    let slowest = wire.control.heard(|heard| {
        let rows = heard.batches.iter().flat_map(|batch| &batch.rows);
        rows.map(|row| (row.latency_max_us, row.stream_max_us)).max_by_key(|(_, stream)| *stream).unwrap()
    });
    assert!(slowest.0 == 0 && slowest.1 >= 2_000_000, "the row of status 101: {slowest:?}");
}

#[tokio::test]
async fn a_target_with_bytes_beyond_ascii_is_refused() {
    let wire = start().await;
    for bytes in [&b"\xe2\x80\xae"[..], b"\xc2\x9b", b"\x1b", b"\x7f", b"\xff"] {
        let mut io = wire.connect(Kind::Http1).await;
        let request = [b"GET /plain/whole?", bytes, b" HTTP/1.1\r\nhost: a.example\r\n\r\n"].concat();
        io.write_all(&request).await.unwrap();
        let mut answer = Vec::new();
        let _ = within(io.read_to_end(&mut answer)).await;
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{bytes:?}: {}", String::from_utf8_lossy(&answer));
    }
}
