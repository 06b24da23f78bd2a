//! Clients that try to use up shared capacity: slow bodies, bodies that never begin, and too many requests at once.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};
use weir_snapshot::Config;

use super::{
    backend::Backend,
    stage::{Stage, gauge, status_of},
};
use crate::support::{
    DEADLINE,
    wire::{Kind, Wire, config},
};

/// Time that attackers have; far below the default of 30 s for a single pause.
const GRACE: &str = "1s";

async fn wire(backend: &Backend, change: impl FnOnce(&mut Config)) -> Wire {
    let mut config = config(&[format!("http://{}", backend.address)]);
    change(&mut config);
    Wire::start(config).await
}

/// A connection from another loopback address, which counts as another client.
async fn from(address: &str, node: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    socket.connect(node).await.unwrap()
}

/// The status of a GET from another client than the other connections.
async fn neighbour(node: SocketAddr) -> u16 {
    let mut stream = from("127.0.0.9", node).await;
    stream.write_all(b"GET /length HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut said = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut said)).await.expect("in time").unwrap();
    said.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{said:?}"))
}

fn post(content_type: &str) -> http::Request<()> {
    http::Request::post("http://a/length").header("content-type", content_type).body(()).unwrap()
}

type Open = (h2::SendStream<Bytes>, h2::client::ResponseFuture);

/// Opens as many streams as the node allows, each with one byte of a body.
async fn open_uploads(mut client: h2::client::SendRequest<Bytes>, content_type: &str) -> Vec<Open> {
    client = client.ready().await.unwrap();
    let pongs = async {
        // The node's SETTINGS have arrived once it has responded.
        let request = http::Request::get("http://a/length").body(()).unwrap();
        let _ = client.send_request(request, true).unwrap().0.await;
    };
    timeout(DEADLINE, pongs).await.unwrap();
    let most = client.current_max_send_streams();
    let mut open = Vec::new();
    for _ in 0..most {
        client = client.ready().await.unwrap();
        let (response, mut body) = client.send_request(post(content_type), false).unwrap();
        body.send_data(Bytes::from_static(b"x"), false).unwrap();
        open.push((body, response));
    }
    open
}

#[tokio::test]
async fn by_default_an_address_cannot_use_all_connections_of_a_pool() {
    let backend = Backend::start().await;
    let wire = wire(&backend, |_| {}).await;
    let mut held = Vec::new();
    for _ in 0..6 {
        let open = open_uploads(wire.h2(Kind::H2c).await, "text/plain").await;
        assert_eq!(open.len(), 100);
        held.push(open);
    }
    let in_flight = |metrics: &str| gauge(metrics, "weir_node_backend_active_requests");
    let full = wire.node.ask_until("/metrics", |answer| {
        in_flight(&answer.body) == 512
            && gauge(&answer.body, "weir_node_requests_over_client_limit_total") >= 88
    });
    full.await;
    assert_eq!(neighbour(wire.node.http).await, 200);
    assert!(wire.node.log().contains("max_requests_per_ip"), "{}", wire.node.log());
}

#[tokio::test]
async fn an_address_with_all_its_requests_in_flight_gets_429_and_others_are_served() {
    let backend = Backend::start().await;
    for content_type in ["text/plain", "application/grpc"] {
        let wire = wire(&backend, |config| {
            config.pools[0].limits.max_connections = 12;
            config.settings.downstream.max_requests_per_ip = 8;
        })
        .await;
        let open = open_uploads(wire.h2(Kind::H2c).await, content_type).await;
        let refused = |metrics: &str| gauge(metrics, "weir_node_requests_over_client_limit_total");
        wire.node.ask_until("/metrics", |answer| refused(&answer.body) == 92).await;
        // HTTP/1 requests count together with streams.
        assert_eq!(status_of(wire.node.http, "/length").await, 429);
        assert_eq!(neighbour(wire.node.http).await, 200);
        let mut answers = tokio::task::JoinSet::new();
        for (body, response) in open {
            answers.spawn(async move { (response.await, body).0 });
        }
        for _ in 0..92 {
            let answer = timeout(DEADLINE, answers.join_next()).await.unwrap().unwrap().unwrap().unwrap();
            let grpc = answer.headers().get("grpc-status").map(|status| status.as_bytes());
            assert!(answer.status() == 429 || grpc == Some(b"8"), "{answer:?}");
        }
        drop(answers);
        // Its requests have ended, so it is served again.
        let served = async { while status_of(wire.node.http, "/length").await != 200 {} };
        timeout(DEADLINE, served).await.expect("200 again");
    }
}

/// Sends data, and then a little more forever, until the node responds or closes; returns the response.
async fn drip(node: SocketAddr, says: &[u8], then: &'static [u8], every: Duration) -> Vec<u8> {
    let mut stream = TcpStream::connect(node).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(says).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let dripping = tokio::spawn(async move {
        while to.write_all(then).await.is_ok() {
            sleep(every).await;
        }
    });
    let mut said = vec![0; 4096];
    let read = timeout(DEADLINE, from.read(&mut said)).await.expect("an end in time").unwrap_or(0);
    said.truncate(read);
    dripping.abort();
    said
}

#[tokio::test]
async fn bodies_below_the_minimum_rate_get_408_after_the_grace() {
    let backend = Backend::start().await;
    let wire = wire(&backend, |config| {
        config.settings.downstream.min_body_rate_grace = GRACE.parse().unwrap();
    })
    .await;
    let node = wire.node.http;
    let mut tasks = tokio::task::JoinSet::new();
    for (head, then) in [
        ("Content-Length: 1000000", &b"x"[..]),
        ("Transfer-Encoding: chunked", b"1\r\nx\r\n"),
        ("Content-Length: 1000000\r\nContent-Type: application/grpc", b"x"),
        ("Content-Length: 1000000\r\nContent-Type: text/event-stream", b"x"),
        ("Content-Length: 1000000\r\nExpect: 100-continue", b"x"),
    ] {
        for method in ["POST", "PUT"] {
            tasks.spawn(async move {
                let says = format!("{method} /length HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n");
                let said = drip(node, says.as_bytes(), then, Duration::from_millis(50)).await;
                assert!(said.starts_with(b"HTTP/1.1 408 "), "{says}: {}", said.escape_ascii());
            });
        }
    }
    // Within a chunk's size line and within trailers no body byte arrives.
    for (says, then) in [
        (&b"POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a="[..], &b"b"[..]),
        (b"POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"y"),
    ] {
        tasks.spawn(async move {
            let said = drip(node, says, then, Duration::from_millis(50)).await;
            assert!(said.starts_with(b"HTTP/1.1 408 "), "{}: {}", says.escape_ascii(), said.escape_ascii());
        });
    }
    for kind in Kind::HTTP2 {
        let client = wire.h2(kind).await;
        for (content_type, until) in
            [("text/plain", 408), ("application/grpc", 4), ("text/event-stream", 408)]
        {
            let mut client = client.clone().ready().await.unwrap();
            tasks.spawn(async move {
                let (response, mut body) = client.send_request(post(content_type), false).unwrap();
                let dripping = tokio::spawn(async move {
                    while body.send_data(Bytes::from_static(b"x"), false).is_ok() {
                        sleep(Duration::from_millis(50)).await;
                    }
                });
                let response = timeout(DEADLINE, response).await.expect("in time").unwrap();
                let grpc = response.headers().get("grpc-status").and_then(|code| code.to_str().ok());
                let said = grpc.map_or(response.status().as_u16(), |code| code.parse().unwrap());
                assert_eq!(said, until, "{kind:?} {content_type}");
                dripping.abort();
            });
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(neighbour(node).await, 200);
}

#[tokio::test]
async fn a_client_on_a_slow_line_is_not_cut_off() {
    let backend = Backend::start().await;
    let wire = wire(&backend, |config| {
        config.settings.downstream.min_body_rate_grace = GRACE.parse().unwrap();
    })
    .await;
    let mut stream = TcpStream::connect(wire.node.http).await.unwrap();
    let head = "POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..20 {
        sleep(Duration::from_millis(100)).await;
        stream.write_all(&[b'x'; 100]).await.unwrap();
    }
    let mut said = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut said)).await.unwrap().unwrap();
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
}

#[tokio::test]
async fn a_route_may_allow_slower_bodies_than_the_settings() {
    let backend = Backend::start().await;
    let wire = wire(&backend, |config| {
        config.settings.downstream.min_body_rate_grace = GRACE.parse().unwrap();
        config.routes[0].limits.min_body_rate = Some("0".parse().unwrap());
    })
    .await;
    let mut stream = TcpStream::connect(wire.node.http).await.unwrap();
    let head = "POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..10 {
        sleep(Duration::from_millis(200)).await;
        stream.write_all(b"x").await.unwrap();
    }
    let mut said = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut said)).await.unwrap().unwrap();
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
}

#[tokio::test]
async fn a_body_that_has_not_started_uses_no_backend_connection() {
    let backend = Backend::start().await;
    let wire = wire(&backend, |config| {
        config.pools[0].limits.max_connections = 1;
        config.pools[0].limits.max_pending = 0;
        config.settings.downstream.body_timeout = "2s".parse().unwrap();
    })
    .await;
    let node = wire.node.http;
    let mut silent = Vec::new();
    for head in [
        "Content-Length: 9",
        "Transfer-Encoding: chunked",
        "Content-Length: 9\r\nContent-Type: application/grpc",
    ] {
        let mut stream = TcpStream::connect(node).await.unwrap();
        stream
            .write_all(format!("POST /length HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        silent.push(stream);
    }
    let mut client = wire.h2(Kind::H2c).await.ready().await.unwrap();
    let mut streams = Vec::new();
    for content_type in ["text/plain", "application/grpc"] {
        streams.push(client.send_request(post(content_type), false).unwrap());
        client = client.ready().await.unwrap();
    }
    wire.node.ask_until("/metrics", |answer| gauge(&answer.body, "weir_node_connections") == 4).await;
    for _ in 0..10 {
        assert_eq!(status_of(node, "/length").await, 200);
    }
    // The client gets a response when its time is over.
    for mut stream in silent {
        let mut said = [0; 12];
        timeout(DEADLINE, stream.read_exact(&mut said)).await.unwrap().unwrap();
        assert_eq!(&said, b"HTTP/1.1 408");
    }
    for (response, _body) in streams {
        let response = timeout(DEADLINE, response).await.unwrap().unwrap();
        assert!(response.status() == 408 || response.headers().contains_key("grpc-status"), "{response:?}");
    }
    // A request that begins late is served.
    let mut stream = TcpStream::connect(node).await.unwrap();
    stream
        .write_all(b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    sleep(Duration::from_millis(300)).await;
    stream.write_all(b"hello").await.unwrap();
    let mut said = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut said)).await.unwrap().unwrap();
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
}

#[tokio::test]
async fn a_client_that_reads_nothing_of_its_response_is_cut_off_after_the_grace() {
    let backend = Backend::start().await;
    let wire = wire(&backend, |config| {
        config.settings.downstream.send_timeout = "0s".parse().unwrap();
        config.settings.downstream.min_body_rate_grace = GRACE.parse().unwrap();
    })
    .await;
    for kind in Kind::HTTP2 {
        let io = wire.connect(kind).await;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(0);
        let (client, connection) = builder.handshake::<_, Bytes>(io).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let request = http::Request::get("http://a/huge").body(()).unwrap();
        let response = client.send_request(request, true).unwrap().0;
        let mut body = timeout(DEADLINE, response).await.unwrap().unwrap().into_body();
        let end = timeout(DEADLINE, body.data()).await.expect("an end in time");
        assert!(matches!(&end, Some(Err(error)) if error.is_reset()), "{end:?}");
        connection.abort();
    }
}

#[tokio::test]
async fn an_upload_that_stalls_after_its_response_has_started_frees_its_connection() {
    let backend = Backend::start().await;
    let stage = Stage::new(backend.address).await;
    let mut stream = stage.client().await;
    // The backend responds at once with an endless response; the rest of the request never arrives.
    stream.write_all(b"POST /early/trickle HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx").await.unwrap();
    let ended = async {
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    };
    timeout(DEADLINE, ended).await.expect("an end in time");
    stage.at_rest().await;
}
