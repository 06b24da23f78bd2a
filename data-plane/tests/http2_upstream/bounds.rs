//! Limits of response heads, and body timeouts, with HTTP/2 on both sides.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use tokio::net::TcpListener;
use weir_proto::v1::subscribe_response::Message;
use weir_snapshot::{Config, config::Protocol};

use crate::{
    frames::{GET, POST, Stage},
    support::{
        FakeControlPlane, Node, snapshot,
        wire::{Kind, Wire, config},
        within,
    },
};

const SHORT: &str = "200ms";
const PAUSE: Duration = Duration::from_millis(700);

/// A backend whose responses have `fields`, then `first` as body, and the rest after a pause; it counts requests.
async fn backend(fields: HeaderMap, pause: Option<Duration>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (fields, seen) = (fields.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut answer))) = connection.accept().await {
                    seen.fetch_add(1, SeqCst);
                    let mut response = Response::new(());
                    *response.headers_mut() = fields.clone();
                    let Ok(mut body) = answer.send_response(response, false) else { continue };
                    tokio::spawn(async move {
                        let _ = body.send_data(Bytes::from_static(b"half"), false);
                        if let Some(pause) = pause {
                            tokio::time::sleep(pause).await;
                        }
                        let _ = body.send_data(Bytes::from_static(b"half"), true);
                        drop(request);
                    });
                }
            });
        }
    });
    (address, count)
}

/// This number of fields, the last of which has a value of this number of bytes.
fn fields(count: usize, bytes: usize) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for i in 1..count {
        let name = http::HeaderName::from_bytes(format!("x-{i}").as_bytes()).unwrap();
        fields.insert(name, HeaderValue::from_static("y"));
    }
    fields.insert("x-last", HeaderValue::from_str(&"y".repeat(bytes)).unwrap());
    fields
}

fn limits(head: &str, fields: u32) -> impl Fn(&mut Config) {
    move |config| {
        config.pools[0].limits.max_response_head = head.parse().unwrap();
        config.pools[0].limits.max_response_headers = fields;
    }
}

#[tokio::test]
async fn the_head_of_an_answer_is_bounded_as_the_pool_says() {
    let cases = [
        (fields(128, 1), "64KiB", 256, "200"),
        (fields(256, 1), "64KiB", 256, "200"),
        (fields(257, 1), "64KiB", 256, "502"),
        (fields(1024, 1), "64KiB", 1024, "200"),
        (fields(11, 1), "64KiB", 10, "502"),
        (fields(2, 65_000), "64KiB", 256, "200"),
        (fields(2, 66_000), "64KiB", 256, "502"),
        (fields(2, 300_000), "64KiB", 256, "502"),
        (fields(2, 300_000), "1MiB", 256, "200"),
        (fields(2, 2000), "1KiB", 256, "502"),
    ];
    for (i, (fields, head, most, status)) in cases.into_iter().enumerate() {
        let large = fields["x-last"].len() > 100_000;
        let (address, count) = backend(fields, None).await;
        let stage = Stage::with(&[address], limits(head, most)).await;
        // A request that a backend has acted on is not sent to it again.
        for (n, request) in [GET, POST, GET].into_iter().enumerate() {
            let said = stage.ask(request).await;
            assert_eq!(said.get(9..12), Some(status), "{i}: {}", said.len());
            // Far beyond the limit, the HTTP/2 library has discarded the head.
            assert_eq!(said.contains("limits.max_response_head"), status == "502" && !large, "{i}");
            assert_eq!(count.load(SeqCst), n + 1, "{i}");
        }
    }
}

#[tokio::test]
async fn a_larger_limit_holds_for_the_connections_that_are_open_already() {
    let (address, _) = backend(fields(2, 90_000), None).await;
    let mut config = config(&[format!("http://{address}")]);
    config.pools[0].protocol = Protocol::Http2;
    let control = FakeControlPlane::start(config.clone()).await;
    let node = Node::start(&control.url()).await;
    node.ready().await;
    assert_eq!(node.get("/").await.status, 502);
    limits("1MiB", 256)(&mut config);
    control.push(Message::Snapshot(snapshot(2, &config)));
    control.acked(2).await;
    for _ in 0..10 {
        assert_eq!(node.get("/").await.status, 200);
    }
}

/// Whether a client gets a complete response despite the pause.
async fn is_whole(wire: &Wire, kind: Kind) -> bool {
    let mut client = wire.h2(kind).await.ready().await.unwrap();
    let request = http::Request::get("http://a/").body(()).unwrap();
    let answer = client.send_request(request, true).unwrap().0;
    let mut body = within(answer).await.unwrap().into_body();
    let mut read = Vec::new();
    while let Some(piece) = within(body.data()).await {
        match piece {
            Ok(piece) => read.extend_from_slice(&piece),
            Err(error) => {
                assert!(error.is_reset() && read == b"half", "{error} {read:?}");
                return false;
            }
        }
    }
    assert_eq!(read, b"halfhalf");
    true
}

#[tokio::test]
async fn a_pause_in_an_answers_body_is_bounded_by_its_own_timeout() {
    let plain = || fields(1, 1);
    let typed = |value| {
        let mut fields = plain();
        fields.insert("content-type", HeaderValue::from_static(value));
        fields
    };
    let mut tasks = tokio::task::JoinSet::new();
    // Content type, the pool's timeout, the route's timeout, and whether the response is complete.
    for (fields, pool, route, whole) in [
        (plain(), None, None, true),
        (plain(), Some(SHORT), None, false),
        (plain(), Some(SHORT), Some("0s"), true),
        (plain(), None, Some(SHORT), false),
        (typed("application/x-ndjson"), None, None, true),
        (typed("multipart/x-mixed-replace; boundary=x"), None, None, true),
        (typed("text/event-stream"), Some(SHORT), None, true),
        (typed("text/event-stream"), Some(SHORT), Some(SHORT), false),
        (typed("application/grpc"), Some(SHORT), None, true),
        (typed("application/grpc"), Some(SHORT), Some(SHORT), false),
    ] {
        tasks.spawn(async move {
            let (address, _) = backend(fields.clone(), Some(PAUSE)).await;
            let mut config = config(&[format!("http://{address}")]);
            config.pools[0].protocol = Protocol::Http2;
            // None of these timeouts applies to the response body.
            config.pools[0].timeouts.response = SHORT.parse().unwrap();
            config.settings.downstream.body_timeout = SHORT.parse().unwrap();
            config.settings.downstream.send_timeout = SHORT.parse().unwrap();
            if let Some(pool) = pool {
                config.pools[0].timeouts.response_body = pool.parse().unwrap();
            }
            config.routes[0].timeouts.response_body = route.map(|route| route.parse().unwrap());
            let wire = Wire::start(config).await;
            let (clear, tls) = tokio::join!(is_whole(&wire, Kind::H2c), is_whole(&wire, Kind::H2));
            assert_eq!((clear, tls), (whole, whole), "{fields:?} {pool:?} {route:?}");
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// Whether a client whose window is closed for a while still gets its response.
async fn outlives_a_pause(wire: &Wire, kind: Kind) -> bool {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1);
    let (client, connection) = builder.handshake::<_, Bytes>(wire.connect(kind).await).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = http::Request::get("http://a/").body(()).unwrap();
    let answer = client.send_request(request, true).unwrap().0;
    let mut body = within(answer).await.unwrap().into_body();
    let mut read = within(body.data()).await.unwrap().unwrap().to_vec();
    tokio::time::sleep(PAUSE).await;
    loop {
        // Each byte is released, so that the next one may come; a stream that was reset has no window.
        let _ = body.flow_control().release_capacity(1);
        match within(body.data()).await {
            Some(Ok(piece)) => read.extend_from_slice(&piece),
            Some(Err(error)) => {
                assert!(error.is_reset(), "{error}");
                break;
            }
            None => break,
        }
    }
    connection.abort();
    read == b"halfhalf"
}

#[tokio::test]
async fn a_client_may_take_nothing_for_as_long_as_the_settings_or_the_route_say() {
    let mut tasks = tokio::task::JoinSet::new();
    for (of_all, of_route, whole) in
        [("20s", None, true), (SHORT, None, false), (SHORT, Some("0s"), true), ("20s", Some(SHORT), false)]
    {
        tasks.spawn(async move {
            let (address, _) = backend(fields(1, 1), None).await;
            let mut config = config(&[format!("http://{address}")]);
            config.pools[0].protocol = Protocol::Http2;
            config.pools[0].timeouts.response_body = SHORT.parse().unwrap();
            config.settings.downstream.body_timeout = SHORT.parse().unwrap();
            config.settings.downstream.send_timeout = of_all.parse().unwrap();
            config.routes[0].timeouts.send = of_route.map(|route| route.parse().unwrap());
            let wire = Wire::start(config).await;
            let both = tokio::join!(outlives_a_pause(&wire, Kind::H2c), outlives_a_pause(&wire, Kind::H2));
            assert_eq!(both, (whole, whole), "{of_all} {of_route:?}");
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}
