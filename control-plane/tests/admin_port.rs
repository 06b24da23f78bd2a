//! The ports with clients that send nothing, send slowly, or do not read: probes and authenticated callers are still
//! served.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{ControlPlane, DEADLINE, begin, grpc, node::channel, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Code;
use weir_proto::v1::{self, reports_client::ReportsClient};

/// More connections than the port allows, and more than one address may have.
const MANY: usize = 1_100;
const SHARE: usize = 300;

/// Opens connections that send only this text.
async fn open(control_plane: &ControlPlane, many: usize, sent: &str) -> Vec<TcpStream> {
    let mut open = Vec::with_capacity(many);
    for _ in 0..many {
        let mut stream = within("a connection", TcpStream::connect(control_plane.admin())).await.unwrap();
        // The port may have closed the connection already to make room.
        let _ = stream.write_all(sent.as_bytes()).await;
        open.push(stream);
    }
    open
}

/// Asserts that the port works whatever unauthenticated clients do.
async fn is_usable(control_plane: &ControlPlane, token: &str) {
    assert_eq!(control_plane.call("GET", "/healthz", "").await.status, 200);
    assert_eq!(control_plane.call("GET", "/readyz", "").await.status, 200);
    assert_eq!(grpc::call(control_plane, None, "/grpc.health.v1.Health/Check").await, Code::Ok);
    control_plane.call_as(Some(token), "GET", "/status", "").await.expect(200);
    assert_eq!(grpc::call(control_plane, Some(token), "/weir.v1.Admin/GetStatus").await, Code::Ok);
    assert_eq!(control_plane.call_as(Some(token), "GET", "/", "").await.status, 200);
    assert_eq!(control_plane.call("GET", "/ui/login", "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unauthenticated_clients_block_neither_probes_nor_authenticated_callers() {
    raise_descriptors();
    let control_plane = ControlPlane::start().await;
    let token = control_plane.token(None, "root", "admin", None).await;
    let login = "POST /ui/login HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n\
                 content-length: 100\r\n\r\nt";
    let bearer = "POST /backends HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer weir_x\r\ncontent-length: 100\r\n\r\n{";
    for (many, sent) in [
        (MANY, login),
        (SHARE, bearer),
        (SHARE, ""),
        (SHARE, "P"),
        (SHARE, "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n"),
        (SHARE, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (SHARE, "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    ] {
        let attack = open(&control_plane, many, sent).await;
        is_usable(&control_plane, &token).await;
        drop(attack);
    }
    let metrics = control_plane.call_as(Some(&token), "GET", "/metrics", "").await.text;
    assert!(metrics.contains(r#"weir_port_connections_evicted_total{port="admin"}"#), "{metrics}");
}

/// This process has the file descriptors of both ends.
fn raise_descriptors() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, most).unwrap();
}

/// Over HTTP/2 one connection carries many calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unauthenticated_streams_block_no_caller() {
    let control_plane = ControlPlane::start().await;
    let token = control_plane.token(None, "root", "admin", None).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        let stream = TcpStream::connect(control_plane.admin()).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http2::handshake::<
            _,
            _,
            BoxBody<Bytes, std::io::Error>,
        >(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
        tokio::spawn(connection);
        for _ in 0..100 {
            let slow = futures_util::stream::once(async { Ok(Frame::data(Bytes::from_static(b"t"))) });
            let slow = futures_util::StreamExt::chain(slow, futures_util::stream::pending());
            let request = http::Request::post(format!("http://{}/ui/login", control_plane.admin()))
                .header("content-type", "application/x-www-form-urlencoded")
                .body(StreamBody::new(slow).boxed())
                .unwrap();
            held.push(tokio::spawn(sender.send_request(request)));
        }
        held.retain(|call| !call.is_finished());
        is_usable(&control_plane, &token).await;
    }
    assert!(!held.is_empty(), "no unauthenticated call is open");
    held.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn every_step_of_a_client_has_a_timeout() {
    let control_plane = ControlPlane::start().await;
    tokio::time::pause();
    let cases = [
        // Nothing, half a method, half a head, half of HTTP/2's preface, only the preface.
        ("", "", 11),
        ("P", "", 11),
        ("GET /healthz HTTP/1.1\r\nhost: localhost\r\n", "", 11),
        ("PRI * HT", "", 11),
        // A missing body, and one that arrives slowly.
        (
            "POST /ui/login HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 9\r\n\r\nt",
            "HTTP/1.1 408",
            11,
        ),
        // These calls are audited, and a paused clock would jump ahead while it waits for the database.
        (
            "PUT /config HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{",
            "HTTP/1.1 408",
            u64::MAX / 2,
        ),
        (
            "POST /backends HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
            "HTTP/1.1 408",
            u64::MAX / 2,
        ),
        // Nothing more after a response.
        ("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n", "HTTP/1.1 200", 66),
    ];
    for (sent, expected, seconds) in cases {
        let begun = tokio::time::Instant::now();
        let mut stream = TcpStream::connect(control_plane.admin()).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        let _ = stream.read_to_end(&mut received).await;
        let received = String::from_utf8_lossy(&received);
        assert!(received.starts_with(expected), "{sent:?}: {received}");
        assert!(begun.elapsed() <= Duration::from_secs(seconds + 1), "{sent:?}: {:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_streams_of_one_token_leave_room_for_others() {
    let control_plane = ControlPlane::start().await;
    let root = control_plane.token(None, "root", "admin", None).await;
    let greedy = control_plane.token(Some(&root), "greedy", "viewer", None).await;
    let other = control_plane.token(Some(&root), "other", "viewer", None).await;
    let mut held = Vec::new();
    let mut last = String::new();
    for i in 0..80 {
        let path = if i % 2 == 0 { "/reports/tail" } else { "/ui/events?page=routes" };
        let (head, stream) = begin(&control_plane, &greedy, path).await;
        last = head;
        held.push(stream);
    }
    assert!(last.starts_with("HTTP/1.1 429") && last.contains("retry-after: 1"), "{last}");
    let mut tail = ReportsClient::with_interceptor(channel(control_plane.admin()).await, bearer(&greedy));
    assert_eq!(tail.tail(v1::TailRequest::default()).await.unwrap_err().code(), Code::ResourceExhausted);
    // Its other calls are served, and so are all calls with other tokens.
    control_plane.call_as(Some(&greedy), "GET", "/status", "").await.expect(200);
    for path in ["/reports/tail", "/ui/events?page=routes"] {
        let (head, stream) = begin(&control_plane, &other, path).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        held.push(stream);
    }
    let metrics = control_plane.call_as(Some(&root), "GET", "/metrics", "").await.text;
    assert!(metrics.contains("weir_admin_calls_refused_total"), "{metrics}");
    // A released stream can be opened again.
    drop(held);
    let begun = Instant::now();
    while !begin(&control_plane, &greedy, "/reports/tail").await.0.starts_with("HTTP/1.1 200") {
        assert!(begun.elapsed() < DEADLINE, "the freed slots are available");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn bearer(
    token: &str,
) -> impl FnMut(tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> + Clone {
    let value: tonic::metadata::MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
    move |mut request: tonic::Request<()>| {
        request.metadata_mut().insert("authorization", value.clone());
        Ok(request)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nodes_port_accepts_nodes_whatever_unauthenticated_clients_hold() {
    raise_descriptors();
    let control_plane = ControlPlane::start().await;
    for sent in ["", "P", "\u{16}\u{3}\u{1}", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut attack = Vec::new();
        for _ in 0..2_100 {
            let mut stream = TcpStream::connect(control_plane.nodes()).await.unwrap();
            let _ = stream.write_all(sent.as_bytes()).await;
            attack.push(stream);
        }
        let mut node = support::node::Node::connect(&control_plane, support::node::hello("node-1")).await;
        let push = node.push().await;
        node.ack(&push).await;
    }
    let metrics = control_plane.call("GET", "/metrics", "").await.text;
    let evicted = metrics.lines().find(|line| line.contains(r#"evicted_total{port="nodes"}"#)).unwrap();
    assert!(!evicted.ends_with(" 0"), "{evicted}");
}

#[tokio::test]
async fn a_connection_to_the_nodes_port_needs_a_first_call() {
    let control_plane = ControlPlane::start().await;
    tokio::time::pause();
    for (sent, seconds) in
        [("", 11), ("P", 11), ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0", 11)]
    {
        let begun = tokio::time::Instant::now();
        let mut stream = TcpStream::connect(control_plane.nodes()).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        let _ = stream.read_to_end(&mut received).await;
        assert!(begun.elapsed() <= Duration::from_secs(seconds + 1), "{sent:?}: {:?}", begun.elapsed());
    }
}

/// This runtime has one thread, so any blocking work would delay the probes.
#[tokio::test]
async fn a_configuration_with_very_many_problems_delays_no_probe() {
    let control_plane = ControlPlane::start().await;
    let text: String = (0..200_000).map(|i| format!("k{i}: 1\n")).collect();
    for path in ["/config", "/config?dry_run=true"] {
        let mut put = std::pin::pin!(control_plane.call("PUT", path, &text));
        let mut probes = 0;
        let refused = loop {
            tokio::select! {
                biased;
                refused = put.as_mut() => break refused,
                probe = control_plane.call("GET", "/healthz", "") => {
                    assert_eq!(probe.status, 200);
                    probes += 1;
                }
            }
        };
        let problems = refused.expect(400)["problems"].as_array().unwrap().len();
        assert_eq!(problems, 1_001);
        assert!(probes > 3, "{path}: {probes} probes were answered meanwhile");
    }
}

/// TLS with its handshake, HTTP/1.1 and HTTP/2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unauthenticated_clients_block_no_caller_over_tls() {
    raise_descriptors();
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    std::fs::write(folder.path().join("a.crt"), certificate.pem()).unwrap();
    std::fs::write(folder.path().join("a.key"), key.serialize_pem()).unwrap();
    let mut config = support::config(&folder.path().join("weir.db"));
    config.admin_tls_cert = Some(folder.path().join("a.crt"));
    config.admin_tls_key = Some(folder.path().join("a.key"));
    let control_plane = ControlPlane::start_in(folder, config).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let hello = "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}";
    for (many, sent) in [(MANY, hello), (SHARE, ""), (SHARE, "GET / HTTP/1.1\r\n")] {
        let attack = open(&control_plane, many, sent).await;
        for protocol in [&b"h2"[..], b"http/1.1"] {
            let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut tls = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            tls.alpn_protocols = vec![protocol.to_vec()];
            let tls = tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls));
            let stream = TcpStream::connect(control_plane.admin()).await.unwrap();
            let stream =
                within("a handshake", tls.connect("localhost".try_into().unwrap(), stream)).await.unwrap();
            let request = http::Request::get("https://localhost/healthz").header("host", "localhost");
            let request = request.body(http_body_util::Empty::<Bytes>::new()).unwrap();
            let answered = if protocol == b"h2" {
                let (mut sender, connection) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                        .await
                        .unwrap();
                tokio::spawn(connection);
                within("an answer", sender.send_request(request)).await.unwrap().status()
            } else {
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
                tokio::spawn(connection);
                within("an answer", sender.send_request(request)).await.unwrap().status()
            };
            assert_eq!(answered, 200, "{sent:?}");
        }
        drop(attack);
    }
}
