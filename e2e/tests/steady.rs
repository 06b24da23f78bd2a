//! Open connections stay open: WebSockets and event streams survive configuration changes of every kind, with the
//! real programs.
//!
//! `WEIR_STEADY_SOCKETS`, `WEIR_STEADY_STREAMS`, `WEIR_STEADY_CHANGES` and `WEIR_STEADY_NODES` set the size. Each
//! connection needs two file descriptors of its node.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{future::Future, time::Duration};

use e2e::{Fleet, get, send};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn size(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} took over {PATIENCE:?}"))
}

/// Sends a request head and reads the response head; bytes after it stay in the buffer.
async fn ask(address: &str, head: &str) -> (TcpStream, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut came = Vec::new();
    while !came.windows(4).any(|four| four == b"\r\n\r\n") {
        assert_ne!(within("a response", stream.read_buf(&mut came)).await.unwrap(), 0, "closed early");
    }
    (stream, came)
}

async fn websocket(address: String) -> TcpStream {
    let head = "GET /ws HTTP/1.1\r\nhost: steady\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let (mut stream, came) = ask(&address, head).await;
    assert!(came.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&came));
    echo(&mut stream, *b"hello").await;
    stream
}

/// Sends one masked text message (RFC 6455 section 5.7) and reads its unmasked echo.
async fn echo(stream: &mut TcpStream, text: [u8; 5]) {
    let mut frame = vec![0x81, 0x85, 0, 0, 0, 0];
    frame.extend_from_slice(&text);
    stream.write_all(&frame).await.unwrap();
    let mut back = [0; 7];
    within("an echo", stream.read_exact(&mut back)).await.expect("the socket was closed");
    assert_eq!((back[..2].to_vec(), &back[2..]), (vec![0x81, 5], &text[..]));
}

async fn event_stream(address: String) -> TcpStream {
    let (stream, came) = ask(&address, "GET /events?n=0&ms=3000 HTTP/1.1\r\nhost: steady\r\n\r\n").await;
    assert!(came.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&came));
    stream
}

/// Discards data that has already arrived, and waits for more.
async fn goes_on(stream: &mut TcpStream) {
    let mut waste = vec![0; 64 << 10];
    loop {
        match stream.try_read(&mut waste) {
            Ok(0) => panic!("the event stream was closed"),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("the event stream broke: {error}"),
        }
    }
    let read = within("an event", stream.read(&mut waste)).await.expect("the event stream broke");
    assert_ne!(read, 0, "the event stream was closed");
}

/// The `i`-th change: weights, strategies, routes, pools, settings, and backends that are added, drained and removed.
async fn change(fleet: &Fleet, i: usize, ids: &[String]) {
    let admin = fleet.admin();
    let answer = match i % 8 {
        0 => {
            send(
                "PATCH",
                admin,
                &format!("/backends/{}", ids[0]),
                &json!({ "weight": 1 + i % 7 }).to_string(),
            )
            .await
        }
        1 => {
            let strategy = ["round_robin", "least_connections", "peak_ewma", "random"][i / 8 % 4];
            send("POST", admin, "/strategy", &json!({ "pool": "default", "strategy": strategy }).to_string())
                .await
        }
        2 => {
            let route = json!({
                "match": { "hosts": [format!("h{i}.example")], "path": "/ws" }, "pool": "default",
                "request_headers": { "set": { "x-revision": i.to_string() } }
            });
            send("PUT", admin, "/routes/passing", &route.to_string()).await
        }
        3 => send("DELETE", admin, "/routes/passing", "").await,
        4 => send("POST", admin, "/backends", r#"{"url": "http://127.0.0.1:9", "weight": 1}"#).await,
        5 => send("DELETE", admin, "/backends", r#"{"url": "http://127.0.0.1:9"}"#).await,
        6 => {
            let state = if (i / 8).is_multiple_of(2) { "draining" } else { "active" };
            send("PATCH", admin, &format!("/backends/{}", ids[1]), &json!({ "state": state }).to_string())
                .await
        }
        _ => {
            let mut pool = get(admin, "/pools/default").await.unwrap().json().unwrap();
            pool["timeouts"] = json!({ "response": format!("{}s", 30 + i % 5) });
            pool["health_check"] = json!({ "type": "tcp", "interval": format!("{}s", 1 + i % 3) });
            send("PUT", admin, "/pools/default", &pool.to_string()).await
        }
    }
    .unwrap();
    assert!(matches!(answer.status, 200..=204), "change {i}: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_and_event_streams_survive_every_change() {
    let (sockets, streams) = (size("WEIR_STEADY_SOCKETS", 150), size("WEIR_STEADY_STREAMS", 150));
    let changes = size("WEIR_STEADY_CHANGES", 96);
    let nodes = size("WEIR_STEADY_NODES", 1);
    let fleet = Fleet::start(nodes, 3).await.unwrap();
    let node = |i: usize| fleet.http(i % nodes).unwrap();
    // Each connection counts as a request in flight.
    let mut pool = get(fleet.admin(), "/pools/default").await.unwrap().json().unwrap();
    pool["limits"] = json!({ "max_connections": 100_000 });
    let roomy = send("PUT", fleet.admin(), "/pools/default", &pool.to_string()).await.unwrap();
    assert_eq!(roomy.status, 200, "{roomy:?}");
    let config = get(fleet.admin(), "/config").await.unwrap().text();
    send("PUT", fleet.admin(), "/config?wait=30s", &config).await.unwrap();
    let backends = get(fleet.admin(), "/backends").await.unwrap().json().unwrap();
    let id = |backend: &serde_json::Value| backend["id"].as_str().unwrap().to_owned();
    let ids: Vec<String> = backends["items"].as_array().unwrap().iter().map(id).collect();

    let (mut opened, mut listening) = (Vec::new(), Vec::new());
    for some in (0..sockets.max(streams)).collect::<Vec<_>>().chunks(100) {
        let (mut open, mut listen) = (JoinSet::new(), JoinSet::new());
        for i in some {
            if *i < sockets {
                open.spawn(websocket(node(*i)));
            }
            if *i < streams {
                listen.spawn(event_stream(node(*i)));
            }
        }
        opened.extend(open.join_all().await);
        listening.extend(listen.join_all().await);
    }

    for i in 0..changes {
        change(&fleet, i, &ids).await;
        // Some connections also send data in between.
        let some = i % opened.len();
        echo(&mut opened[some], *b"still").await;
    }
    // Finally the backend with a third of the connections is removed.
    let gone = send("DELETE", fleet.admin(), &format!("/backends/{}", ids[2]), "").await.unwrap();
    assert!(matches!(gone.status, 200..=204), "{gone:?}");
    let config = get(fleet.admin(), "/config").await.unwrap().text();
    let last = send("PUT", fleet.admin(), "/config?wait=30s", &config).await.unwrap();
    assert_eq!(last.status, 200, "{last:?}");

    let mut all = JoinSet::new();
    for mut socket in opened {
        all.spawn(async move { echo(&mut socket, *b"there").await });
    }
    for mut stream in listening {
        all.spawn(async move { goes_on(&mut stream).await });
    }
    all.join_all().await;
}
