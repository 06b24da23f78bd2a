//! Health checks against real servers, breaker states reported by nodes, and the fleet's key.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::{Value, json};
use support::{
    ControlPlane,
    node::{Node, Received, hello},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use weir_proto::v1::{self, subscribe_request::Message};

/// Applies a pool with one backend and this health check, and waits for this result of the last probe.
async fn probed(control_plane: &ControlPlane, url: &str, check: Value, expected: &str) -> Value {
    let pool = json!({ "name": "default", "health_check": check, "backends": [{ "url": url }] });
    control_plane.call("PUT", "/pools/default", &pool.to_string()).await.expect(200);
    let backends = control_plane.wait_for("/backends", |backends| {
        backends["items"][0]["last_check"].as_str().is_some_and(|detail| detail.contains(expected))
    });
    backends.await["items"][0].clone()
}

/// A server that responds to requests for the right host.
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
async fn an_http_probe_sends_its_host_and_checks_the_body() {
    let (control_plane, url) = (ControlPlane::start().await, greeter().await);
    let check = |extra: Value| {
        let mut check = json!({ "type": "http", "interval": "100ms", "fall": 1, "expect_body": "is well" });
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
    let check = |service: &str| json!({ "type": "grpc", "interval": "100ms", "fall": 1, "service": service });
    reporter.set_service_status("books", tonic_health::ServingStatus::Serving).await;
    probed(&control_plane, &url, check("books"), "serving").await;
    let found = probed(&control_plane, &url, check("songs"), "unknown service \"songs\"").await;
    assert_eq!(found["alive"], false);
    reporter.set_service_status("books", tonic_health::ServingStatus::NotServing).await;
    let found = probed(&control_plane, &url, check("books"), "not serving").await;
    assert_eq!(found["alive"], false);
    // A server without HTTP/2 is down.
    let pool = json!({ "health_check": check("books"), "backends": [{ "url": greeter().await }] });
    control_plane.call("PUT", "/pools/default", &pool.to_string()).await.expect(200);
    control_plane.wait_for("/backends", |backends| backends["items"][0]["health"] == "down").await;
}

#[tokio::test]
async fn the_breaker_states_of_all_nodes_are_added_up() {
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
    assert_eq!(status.await["pools"][0]["panic"], json!([]), "a disconnected node is not counted");
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
        assert!(!text.contains("key"), "{path} contains the key");
    }
}

#[tokio::test]
async fn changing_to_a_strategy_without_hashing_removes_hash_on() {
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
    assert!(problem.contains("hash_on is not allowed") && problem.contains("breaker.window"), "{problem}");
}

/// A server that speaks only HTTP/2, with TLS where a configuration is given.
async fn http2_only(tls: Option<tokio_rustls::TlsAcceptor>) -> String {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", listener.local_addr().unwrap());
    let serve = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async move {
        assert_eq!(request.version(), http::Version::HTTP_2);
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        Ok::<_, std::convert::Infallible>(http::Response::new(format!("{host}: all is well")))
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                match tls {
                    None => server.serve_connection(TokioIo::new(stream), serve).await,
                    Some(tls) => {
                        let Ok(stream) = tls.accept(stream).await else { return };
                        server.serve_connection(TokioIo::new(stream), serve).await
                    }
                }
                .ok();
            });
        }
    });
    url
}

/// A server's TLS that agrees to these protocols.
fn tls(alpn: &[&str]) -> tokio_rustls::TlsAcceptor {
    use tokio_rustls::rustls::{ServerConfig, pki_types::PrivateKeyDer};
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(weir_tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    std::sync::Arc::new(config).into()
}

#[tokio::test]
async fn an_http_probe_speaks_the_pools_protocol() {
    let control_plane = ControlPlane::start().await;
    let (clear, secure) = (http2_only(None).await, http2_only(Some(tls(&["h2", "http/1.1"]))).await);
    let (old, no_alpn) = (greeter().await, http2_only(Some(tls(&[]))).await);
    let body = json!({ "expect_body": "is well" });
    let host = json!({ "expect_body": "books.internal: all is well", "host": "books.internal" });
    for (url, protocol, kind, extra, alive, expected) in [
        (&clear, "http2", "http", &body, true, "status 200, body as expected"),
        (&clear, "http2", "http", &host, true, "status 200, body as expected"),
        (&clear, "http2", "tcp", &json!({}), true, "connected"),
        (&clear, "http1", "http", &body, false, "HTTP/1.1"),
        (&old, "http2", "http", &json!({}), false, "HTTP/2"),
        (&old, "http1", "http", &json!({ "host": "books.internal" }), true, "status 200"),
        (&secure, "http2", "http", &body, true, "status 200, body as expected"),
        (&secure, "http2", "tcp", &json!({}), true, "connected"),
        (&no_alpn, "http2", "http", &body, false, "does not offer HTTP/2 (ALPN)"),
        (&no_alpn, "http2", "tcp", &json!({}), false, "does not offer HTTP/2 (ALPN)"),
    ] {
        let mut check = json!({ "type": kind, "interval": "100ms", "rise": 1, "fall": 1 });
        check.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let pool = json!({
            "name": "default", "protocol": protocol, "health_check": check, "tls": { "verify": false },
            "backends": [{ "url": url }],
        });
        control_plane.call("PUT", "/pools/default", &pool.to_string()).await.expect(200);
        let health = if alive { "up" } else { "down" };
        let backends = control_plane.wait_for("/backends", |backends| {
            let backend = &backends["items"][0];
            let detail = backend["last_check"].as_str().unwrap_or_default();
            backend["health"] == health && detail.contains(expected) && backend["url"] == url.as_str()
        });
        backends.await;
    }
}

#[tokio::test]
async fn a_backend_that_is_added_while_it_starts_is_up_soon_and_was_never_down() {
    let control_plane = ControlPlane::start().await;
    let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    // With one minute between regular probes, only fast probes can notice in time.
    let check = json!({ "interval": "1m", "fast_interval": "100ms", "rise": 2, "fall": 100 });
    let backend = probed(&control_plane, &format!("http://{address}"), check, "connection refused").await;
    assert_eq!((&backend["health"], &backend["alive"]), (&json!("unknown"), &json!(true)), "{backend}");
    let _listener = TcpListener::bind(address).await.unwrap();
    let backends = control_plane.wait_for("/backends", |backends| {
        assert_ne!(backends["items"][0]["health"], "down");
        backends["items"][0]["health"] == "up"
    });
    assert_eq!(backends.await["items"][0]["last_check"], "connected");
}

#[tokio::test]
async fn a_backend_that_restarts_is_detected_by_fast_probes() {
    let control_plane = ControlPlane::start().await;
    let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let check = json!({ "interval": "1m", "fast_interval": "100ms", "rise": 3, "fall": 2 });
    probed(&control_plane, &format!("http://{address}"), check, "connection refused").await;
    control_plane.wait_for("/backends", |backends| backends["items"][0]["health"] == "down").await;
    let _listener = TcpListener::bind(address).await.unwrap();
    control_plane.wait_for("/backends", |backends| backends["items"][0]["health"] == "up").await;
}

#[tokio::test]
async fn link_local_addresses_and_ports_of_the_fleet_are_refused_unless_a_setting_allows_them() {
    let control_plane = ControlPlane::start().await;
    let (admin, nodes) = (control_plane.admin(), control_plane.nodes());
    let refused = [
        ("http://169.254.169.254".to_owned(), "link_local"),
        ("http://169.254.0.1:8080".to_owned(), "link_local"),
        ("http://[fe80::1]".to_owned(), "link_local"),
        ("http://[::ffff:169.254.169.254]".to_owned(), "link_local"),
        ("http://[64:ff9b::a9fe:a9fe]".to_owned(), "link_local"),
        ("http://[fd00:ec2::254]".to_owned(), "link_local"),
        (format!("http://{admin}"), "own_ports"),
        (format!("https://{nodes}"), "own_ports"),
        (format!("http://0.0.0.0:{}", admin.port()), "own_ports"),
        (format!("http://[::ffff:127.0.0.1]:{}", nodes.port()), "own_ports"),
        (format!("http://localhost:{}", admin.port()), "own_ports"),
        (format!("http://a.LocalHost.:{}", nodes.port()), "own_ports"),
    ];
    for (url, setting) in &refused {
        let backend = json!({ "url": url }).to_string();
        let pool = json!({ "backends": [{ "url": url }] });
        let config = json!({ "pools": [{ "name": "default", "backends": [{ "url": url }] }] }).to_string();
        for (method, path, body) in [
            ("POST", "/backends", &backend),
            ("PUT", "/pools/default", &pool.to_string()),
            ("PUT", "/config", &config),
            ("PUT", "/config?dry_run=true", &config),
        ] {
            let problem = control_plane.call(method, path, body).await.expect(400).to_string();
            assert!(
                problem.contains(&format!("settings.allow_backends.{setting}: true")),
                "{url}: {problem}"
            );
            assert!(problem.contains("backends[0].url\""), "{method} {path} {url}: {problem}");
        }
    }
    let backends: Vec<_> = refused.iter().map(|(url, _)| json!({ "url": url })).collect();
    let config = json!({
        "settings": { "allow_backends": { "link_local": true, "own_ports": true } },
        "pools": [{ "name": "default", "health_check": { "type": "none" }, "backends": backends }],
        "routes": [{ "name": "default", "pool": "default" }],
    });
    control_plane.call("PUT", "/config", &config.to_string()).await.expect(200);
}

#[tokio::test]
async fn a_stored_backend_that_is_refused_now_blocks_no_other_change() {
    let control_plane = ControlPlane::start().await;
    let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let id = control_plane.add(&format!("http://{address}")).await;
    let folder = control_plane.stop().await;
    let mut config = support::config(&folder.path().join("weir.db"));
    config.admin = address;
    let control_plane = ControlPlane::start_in(folder, config).await;
    control_plane.add("http://127.0.0.1:1").await;
    control_plane.call("PATCH", &format!("/backends/{id}"), r#"{"weight":2}"#).await.expect(200);
    let another = json!({ "url": format!("http://0.0.0.0:{}", address.port()) }).to_string();
    control_plane.call("POST", "/backends", &another).await.expect(400);
    control_plane
        .wait_for(&format!("/backends/{id}"), |backend| {
            backend["last_check"]
                .as_str()
                .is_some_and(|detail| detail.contains("the admin port of this fleet"))
        })
        .await;
}

#[tokio::test]
async fn nodes_keep_the_known_health_until_a_new_control_plane_knows_it() {
    let control_plane = ControlPlane::start().await;
    let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{refusing}");
    let check = json!({ "interval": "1m", "fast_interval": "1m", "fall": 2 });
    probed(&control_plane, &url, check, "connection refused").await;
    let control_plane = control_plane.killed_and_started().await;
    let mut node = Node::connect(&control_plane, hello("one")).await;
    let first = loop {
        if let Received::Health(health) = node.next().await.unwrap() {
            break health;
        }
    };
    assert!(!first.complete && first.backends.is_empty(), "{first:?}");
    let id = control_plane.get("/backends").await["items"][0]["id"].as_str().unwrap().to_owned();
    control_plane.call("POST", &format!("/backends/{id}/check"), "").await.expect(200);
    // The second failed probe, scheduled or requested, decides; then all health is known.
    control_plane.call("POST", &format!("/backends/{id}/check"), "").await.expect(200);
    let decided = loop {
        if let Received::Health(health) = node.next().await.unwrap() {
            break health;
        }
    };
    assert!(decided.complete, "{decided:?}");
    assert_eq!(decided.backends[0].health(), v1::Health::Down);
}
