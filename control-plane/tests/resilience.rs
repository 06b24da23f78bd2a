//! Complete health checks against real servers, what nodes say of their breakers, and the fleet's key.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::{Value, json};
use support::{
    ControlPlane,
    node::{Node, hello},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use weir_proto::v1::{self, subscribe_request::Message};

/// Applies a pool with one backend and this health check, and waits until its last probe said so.
async fn probed(control_plane: &ControlPlane, url: &str, check: Value, says: &str) -> Value {
    let pool = json!({ "name": "default", "health_check": check, "backends": [{ "url": url }] });
    control_plane.call("PUT", "/pools/default", &pool.to_string()).await.expect(200);
    let backends = control_plane.wait_for("/backends", |backends| {
        backends["items"][0]["last_check"].as_str().is_some_and(|said| said.contains(says))
    });
    backends.await["items"][0].clone()
}

/// A server that greets whoever asks for the right host.
async fn greeter() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                let read = stream.read(&mut request).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..read]).to_ascii_lowercase();
                let body = if request.contains("host: books.internal\r\n") { "all is well" } else { "who?" };
                let length = body.len();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    url
}

#[tokio::test]
async fn an_http_probe_asks_for_its_host_and_looks_into_the_body() {
    let (control_plane, url) = (ControlPlane::start().await, greeter().await);
    let check = |extra: Value| {
        let mut check = json!({ "type": "http", "interval": "100ms", "expect_body": "is well" });
        check.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        check
    };
    let found = probed(&control_plane, &url, check(json!({})), "\"is well\" is not in its body").await;
    assert_eq!(found["alive"], false);
    let found =
        probed(&control_plane, &url, check(json!({ "host": "books.internal" })), "body as expected").await;
    assert_eq!(found["last_check"], "status 200, body as expected");
}

#[tokio::test]
async fn a_grpc_probe_asks_the_health_service() {
    let (reporter, service) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    let control_plane = ControlPlane::start().await;
    let check = |service: &str| json!({ "type": "grpc", "interval": "100ms", "service": service });
    reporter.set_service_status("books", tonic_health::ServingStatus::Serving).await;
    probed(&control_plane, &url, check("books"), "serving").await;
    let found = probed(&control_plane, &url, check("songs"), "unknown service \"songs\"").await;
    assert_eq!(found["alive"], false);
    reporter.set_service_status("books", tonic_health::ServingStatus::NotServing).await;
    let found = probed(&control_plane, &url, check("books"), "not serving").await;
    assert_eq!(found["alive"], false);
    // What does not speak HTTP/2 is found dead.
    let pool = json!({ "health_check": check("books"), "backends": [{ "url": greeter().await }] });
    control_plane.call("PUT", "/pools/default", &pool.to_string()).await.expect(200);
    control_plane.wait_for("/backends", |backends| backends["items"][0]["health"] == "down").await;
}

#[tokio::test]
async fn what_nodes_say_of_their_breakers_adds_up() {
    let control_plane = ControlPlane::start().await;
    let id = control_plane.add("http://127.0.0.1:1").await;
    let load = |breaker: v1::Breaker, panic| v1::Load {
        backends: vec![v1::BackendLoad {
            backend_id: id.clone(),
            breaker: breaker.into(),
            ejections: 2,
            sessions: 3,
            active_requests: 1,
        }],
        pools: vec![v1::PoolLoad { pool: "default".into(), panic, retries: 5, ..Default::default() }],
        ..v1::Load::default()
    };
    let one = Node::connect(&control_plane, hello("one")).await;
    let two = Node::connect(&control_plane, hello("two")).await;
    one.send(Message::Load(load(v1::Breaker::Open, true))).await;
    two.send(Message::Load(load(v1::Breaker::HalfOpen, false))).await;
    let status = control_plane.wait_for("/status", |status| status["pools"][0]["retries"] == 10).await;
    let backend = &status["backends"][0];
    assert_eq!((&backend["breaker"], &backend["ejected_by"]), (&json!("open"), &json!(["one"])));
    assert_eq!((&backend["ejections"], &backend["sessions"]), (&json!(4), &json!(6)));
    assert_eq!(status["pools"][0]["panic"], json!(["one"]));
    drop(one);
    let status = control_plane.wait_for("/status", |status| status["backends"][0]["breaker"] == "half_open");
    assert_eq!(status.await["pools"][0]["panic"], json!([]), "who is gone says nothing");
}

#[tokio::test]
async fn the_fleets_key_is_the_same_for_all_nodes_and_after_a_restart() {
    let control_plane = ControlPlane::start().await;
    let mut one = Node::connect(&control_plane, hello("one")).await;
    let mut two = Node::connect(&control_plane, hello("two")).await;
    one.push().await;
    two.push().await;
    assert_eq!(one.key, two.key);
    assert_ne!(one.key, [0; 32]);
    let control_plane = control_plane.killed_and_started().await;
    let mut three = Node::connect(&control_plane, hello("three")).await;
    three.push().await;
    assert_eq!(one.key, three.key);
    for path in ["/config", "/status", "/revisions", "/nodes"] {
        let text = format!("{:?}", control_plane.call("GET", path, "").await);
        assert!(!text.contains("key"), "{path} tells of it");
    }
}

#[tokio::test]
async fn a_strategy_that_does_not_hash_takes_hash_on_with_it() {
    let control_plane = ControlPlane::start().await;
    let pool = json!({ "strategy": "consistent_hash", "hash_on": { "header": "x-user" } });
    control_plane.call("PUT", "/pools/default", &pool.to_string()).await.expect(200);
    for strategy in ["power_of_two", "peak_ewma", "ip_hash", "consistent_hash"] {
        let body = json!({ "pool": "default", "strategy": strategy }).to_string();
        control_plane.call("POST", "/strategy", &body).await.expect(200);
        let pool = control_plane.get("/pools/default").await;
        assert_eq!((&pool["strategy"], &pool["hash_on"]), (&json!(strategy), &Value::Null));
    }
    let wrong = json!({ "strategy": "random", "hash_on": "path", "breaker": { "window": "0s" } }).to_string();
    let problem = control_plane.call("PUT", "/pools/default", &wrong).await.expect(400).to_string();
    assert!(problem.contains("hash_on has no meaning") && problem.contains("breaker.window"), "{problem}");
}
