//! Tests of the mock over real sockets.

// The lint does not recognize helper functions of tests.
#![allow(clippy::unwrap_used)]

use std::{net::SocketAddr, time::Duration};

use backend_mock::{Config, Faults, Running, start, start_with_faults};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

fn config() -> Config {
    Config { listen: ([127, 0, 0, 1], 0).into(), name: Some("mock-a".into()), ..Config::default() }
}

async fn mock() -> Running {
    start(config()).await.unwrap()
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

async fn raw(address: SocketAddr, request: String) -> Answer {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        bytes
    };
    let bytes = tokio::time::timeout(Duration::from_secs(10), exchange).await.unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    Answer { status: head[9..12].parse().unwrap(), head, body: bytes[end + 4..].to_vec() }
}

async fn ask(mock: &Running, method: &str, target: &str, body: Option<Value>) -> Answer {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nhost: mock\r\nconnection: close\r\n{kind}content-length: {length}"
    );
    raw(mock.address, format!("{head}\r\n\r\n{body}")).await
}

#[tokio::test]
async fn books_are_created_read_changed_and_deleted() {
    let mock = mock().await;
    let list = ask(&mock, "GET", "/books", None).await;
    assert_eq!(list.status, 200);
    assert!(list.head.contains("x-backend: mock-a"));
    let seeded = list.json()["items"].as_array().unwrap().len();
    assert!(seeded >= 3);

    let book = json!({"title": "Weir", "author": "A", "isbn": "978-0000000001", "price": 5.0});
    let created = ask(&mock, "POST", "/books", Some(book.clone())).await;
    assert_eq!(created.status, 201);
    let path = format!("/books/{}", created.json()["id"]);
    assert!(created.head.contains(&format!("location: {path}")));
    assert_eq!(ask(&mock, "GET", "/books", None).await.json()["items"].as_array().unwrap().len(), seeded + 1);

    assert_eq!(ask(&mock, "PATCH", &path, Some(json!({"price": 7.5}))).await.json()["price"], 7.5);
    let replaced = ask(&mock, "PUT", &path, Some(json!({"title": "Weir 2", "author": "B"}))).await;
    assert_eq!((replaced.status, replaced.json()["isbn"].clone()), (200, Value::Null));
    assert_eq!(ask(&mock, "GET", &path, None).await.json()["title"], "Weir 2");
    assert_eq!(ask(&mock, "POST", "/books", Some(book)).await.status, 201, "title and ISBN are free again");

    assert_eq!(ask(&mock, "DELETE", &path, None).await.status, 204);
    assert_eq!(ask(&mock, "DELETE", &path, None).await.status, 404);
    assert_eq!(ask(&mock, "GET", &path, None).await.status, 404);
}

#[tokio::test]
async fn invalid_books_are_rejected_and_change_nothing() {
    let mock = mock().await;
    let before = ask(&mock, "GET", "/books", None).await.json();
    let first = before["items"][0].clone();
    for (body, status) in [
        (json!({"title": first["title"], "author": "x"}), 409),
        (json!({"title": "new", "author": "x", "isbn": first["isbn"]}), 409),
        (json!({"title": " ", "author": "x"}), 422),
        (json!({"title": "new"}), 422),
        (json!({"title": "new", "author": 5}), 422),
        (json!({"title": "new", "author": "x", "price": -1}), 422),
        (json!({"title": "new", "author": "x", "isbn": "not an isbn!"}), 422),
    ] {
        let answer = ask(&mock, "POST", "/books", Some(body.clone())).await;
        assert_eq!(answer.status, status, "{body}");
        assert!(answer.json()["error"].is_string());
    }
    for (target, body) in
        [("/books/1", json!({"title": before["items"][1]["title"]})), ("/books/1", json!({"price": -1}))]
    {
        assert!([409, 422].contains(&ask(&mock, "PATCH", target, Some(body)).await.status));
    }
    assert_eq!(ask(&mock, "PUT", "/books/99", Some(json!({"title": "n", "author": "x"}))).await.status, 404);
    assert_eq!(ask(&mock, "GET", "/books/x", None).await.status, 404);
    assert_eq!(ask(&mock, "DELETE", "/books", None).await.status, 405);
    assert_eq!(ask(&mock, "GET", "/books", None).await.json(), before);
}

#[tokio::test]
async fn health_can_be_made_to_fail_and_recover() {
    let mock = mock().await;
    assert_eq!(ask(&mock, "GET", "/health", None).await.json(), json!({"status": "ok"}));
    ask(&mock, "PUT", "/health", Some(json!({"healthy": false}))).await;
    assert_eq!(ask(&mock, "GET", "/health", None).await.status, 503);
    ask(&mock, "POST", "/health/heal", None).await;
    assert_eq!(ask(&mock, "GET", "/health", None).await.status, 200);
    assert_eq!(ask(&mock, "PUT", "/health", Some(json!({"health": 1}))).await.status, 422);
}

#[tokio::test]
async fn echo_shows_the_request_as_received() {
    let mock = mock().await;
    let request = "PUT /echo/a%2Fb?x=%20&y HTTP/1.1\r\nHost: h\r\nX-Two: 1\r\nA: b\r\nX-Two: 2\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc";
    let echo = raw(mock.address, request.into()).await.json();
    assert_eq!(echo["method"], "PUT");
    assert_eq!(echo["target"], "/echo/a%2Fb?x=%20&y");
    assert_eq!((&echo["body"], &echo["length"]), (&json!("abc"), &json!(3)));
    let headers = echo["headers"].as_array().unwrap();
    assert_eq!(headers[0], json!(["host", "h"]));
    assert!(headers.contains(&json!(["x-two", "1"])) && headers.contains(&json!(["x-two", "2"])));
}

#[tokio::test]
async fn responses_have_the_requested_status_size_and_delay() {
    let mock = mock().await;
    for status in [200, 204, 418, 503] {
        assert_eq!(ask(&mock, "GET", &format!("/status/{status}"), None).await.status, status);
    }
    for wrong in ["/status/99", "/status/x", "/bytes/x", "/bytes/10737418241", "/slow?ms=x"] {
        assert_eq!(ask(&mock, "GET", wrong, None).await.status, 422, "{wrong}");
    }
    let bytes = ask(&mock, "GET", "/bytes/1000000", None).await;
    assert!(bytes.head.contains("content-length: 1000000"));
    assert_eq!(bytes.body.len(), 1_000_000);
    let huge = ask(&mock, "HEAD", "/bytes/10737418240", None).await;
    assert!(huge.head.contains("content-length: 10737418240"));
    let started = std::time::Instant::now();
    ask(&mock, "GET", "/slow?ms=50", None).await;
    assert!(started.elapsed() >= Duration::from_millis(50));
    let events = ask(&mock, "GET", "/events?n=3", None).await;
    assert_eq!(String::from_utf8_lossy(&events.body).matches("data: event").count(), 3);
}

#[tokio::test]
async fn a_websocket_echoes() {
    let mock = mock().await;
    let mut stream = TcpStream::connect(mock.address).await.unwrap();
    let upgrade = "GET /ws HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    // A text frame "hi" with a mask of 0, and the returned frame without a mask.
    stream.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).await.unwrap();
    let mut frame = [0; 4];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame, [0x81, 2, b'h', b'i']);
    let address = mock.address;
    tokio::time::timeout(Duration::from_secs(5), mock.shutdown()).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn faults_can_be_changed_at_run_time() {
    let faults = Faults { error_rate: 1.0, ..Faults::default() };
    let mock = start_with_faults(config(), faults).await.unwrap();
    assert_eq!(ask(&mock, "GET", "/books", None).await.status, 500);
    assert_eq!(ask(&mock, "GET", "/health", None).await.status, 200, "health is exempt");
    assert_eq!(ask(&mock, "PUT", "/faults", Some(json!({"error_rate": 2}))).await.status, 422);
    let limits = json!({"concurrency": 1, "service_time": "30ms"});
    assert_eq!(ask(&mock, "PUT", "/faults", Some(limits)).await.status, 200);
    let started = std::time::Instant::now();
    let (one, two) = tokio::join!(ask(&mock, "GET", "/books", None), ask(&mock, "GET", "/books", None));
    assert_eq!((one.status, two.status), (200, 200));
    assert!(started.elapsed() >= Duration::from_millis(60), "one after the other");
}

#[tokio::test]
async fn the_error_names_a_port_in_use() {
    let mock = mock().await;
    let error = start(Config { listen: mock.address, ..Config::default() }).await.unwrap_err();
    assert!(error.to_string().contains(&mock.address.to_string()), "{error}");
}
