//! TLS backends, with the real program: rustls plays the backend.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, outside test functions")]

#[allow(unused_imports, reason = "each test program uses its own part of it")]
mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{HandshakeKind, ServerConfig},
    server::TlsStream,
};
use weir_proto::v1::subscribe_response::Message;
use weir_snapshot::{
    Config,
    config::{Protocol, Tls},
};

use support::{
    FakeControlPlane, Node,
    authority::{Authority, Pair, keys},
    snapshot,
};

/// Observations of a backend.
#[derive(Default)]
struct Seen {
    handshakes: AtomicU64,
    resumed: AtomicU64,
    requests: AtomicU64,
}

struct Origin {
    address: SocketAddr,
    seen: Arc<Seen>,
}

impl Origin {
    /// Answers over TLS; with `close`, each connection ends after its first response.
    async fn start(config: Arc<ServerConfig>, close: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Seen>::default();
        let count = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, count) = (TlsAcceptor::from(Arc::clone(&config)), Arc::clone(&count));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    count.handshakes.fetch_add(1, Relaxed);
                    let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
                    count.resumed.fetch_add(u64::from(resumed), Relaxed);
                    match stream.get_ref().1.alpn_protocol() {
                        Some(b"h2") => answer_h2(stream, &count).await,
                        _ => answer(stream, &count, close).await,
                    }
                });
            }
        });
        Self { address, seen }
    }
}

async fn answer(stream: TlsStream<TcpStream>, seen: &Seen, close: bool) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
        if line == "\r\n" {
            seen.requests.fetch_add(1, Relaxed);
            let end = if close { "Connection: close\r\n" } else { "" };
            let answer = format!("HTTP/1.1 200 OK\r\n{end}Content-Length: 6\r\n\r\nsecret");
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            if close {
                let _ = stream.shutdown().await;
                return;
            }
        }
        line.clear();
    }
}

async fn answer_h2(stream: TlsStream<TcpStream>, seen: &Seen) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        seen.requests.fetch_add(1, Relaxed);
        assert_eq!(request.uri().scheme_str(), Some("https"));
        let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
        stream.send_data(Bytes::from_static(b"secret"), true).unwrap();
    }
}

fn config(urls: &[String], tls: Tls, protocol: Protocol) -> Config {
    let mut config = support::wire::config(urls);
    config.pools[0].tls = Some(tls);
    config.pools[0].protocol = protocol;
    config
}

struct Stage {
    control: FakeControlPlane,
    node: Node,
}

impl Stage {
    async fn new(config: Config) -> Self {
        let control = FakeControlPlane::start(config).await;
        let node = Node::start(&control.url()).await;
        node.ready().await;
        Self { control, node }
    }

    async fn expect(&self, status: u16) {
        let answer = self.node.get("/").await;
        assert_eq!(answer.status, status, "{answer:?}; log:\n{}", self.node.log());
        if status == 200 {
            // An HTTP/2 response is sent to the client in chunks.
            assert!(answer.body.contains("secret"), "{answer:?}");
        }
    }

    /// Waits until the node's log contains this text; it arrives through a pipe.
    async fn says(&self, what: &str) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !self.node.log().contains(what) {
            assert!(tokio::time::Instant::now() < deadline, "{what}: {}", self.node.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn trusting(authority: &Authority) -> Tls {
    Tls { ca: Some(authority.pem()), ..Tls::default() }
}

#[tokio::test]
async fn requests_share_connections_and_connections_share_a_session() {
    let authority = Authority::new();
    let pair = authority.issue(&["127.0.0.1"]);
    for close in [false, true] {
        let origin = Origin::start(authority.server(&pair, &["http/1.1"], false), close).await;
        let url = format!("https://{}", origin.address);
        let stage = Stage::new(config(&[url], trusting(&authority), Protocol::Http1)).await;
        for _ in 0..10 {
            stage.expect(200).await;
        }
        let (handshakes, resumed) = (origin.seen.handshakes.load(Relaxed), origin.seen.resumed.load(Relaxed));
        assert_eq!(origin.seen.requests.load(Relaxed), 10);
        match close {
            false => assert_eq!(handshakes, 1, "its connection is used again"),
            true => assert_eq!((handshakes, resumed), (10, 9)),
        }
    }
}

#[tokio::test]
async fn http2_is_agreed_on_or_refused() {
    let authority = Authority::new();
    let pair = authority.issue(&["127.0.0.1"]);
    let origin = Origin::start(authority.server(&pair, &["h2", "http/1.1"], false), false).await;
    let url = format!("https://{}", origin.address);
    let stage = Stage::new(config(&[url], trusting(&authority), Protocol::Http2)).await;
    for _ in 0..5 {
        stage.expect(200).await;
    }
    assert_eq!(origin.seen.handshakes.load(Relaxed), 1);
    // A backend without ALPN must not be used with HTTP/2.
    let old = Origin::start(authority.server(&pair, &[], false), false).await;
    let url = format!("https://{}", old.address);
    let stage = Stage::new(config(&[url], trusting(&authority), Protocol::Http2)).await;
    stage.expect(502).await;
    stage.says("does not offer HTTP/2").await;
}

#[tokio::test]
async fn a_backend_that_cannot_be_trusted_is_a_bad_gateway_and_the_log_says_why() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let good = authority.issue(&["127.0.0.1", "books.internal"]);
    let named = |name: &str| Tls { server_name: Some(name.into()), ..trusting(&authority) };
    let cases: [(&Pair, Tls, u16, &str); 7] = [
        (&good, trusting(&authority), 200, ""),
        (&good, named("books.internal"), 200, ""),
        (&good, named("other.internal"), 502, "not valid for name"),
        (&good, trusting(&stranger), 502, "invalid peer certificate"),
        (&good, Tls::default(), 502, "UnknownIssuer"),
        (&authority.issue_until(&["127.0.0.1"], 2021), trusting(&authority), 502, "expired"),
        (&good, Tls { verify: false, ..trusting(&stranger) }, 200, ""),
    ];
    for (pair, tls, status, says) in cases {
        let origin = Origin::start(authority.server(pair, &["http/1.1"], false), false).await;
        let url = format!("https://{}", origin.address);
        let stage = Stage::new(config(&[url], tls, Protocol::Http1)).await;
        stage.expect(status).await;
        stage.says(says).await;
        assert_eq!(origin.seen.requests.load(Relaxed), u64::from(status == 200), "{says}");
    }
    // A backend that does not speak TLS.
    let clear = support::Origin::start("clear").await;
    let url = format!("https://{}", clear.address);
    let stage = Stage::new(config(&[url], trusting(&authority), Protocol::Http1)).await;
    stage.expect(502).await;
}

#[tokio::test]
async fn the_next_backend_is_asked_when_one_cannot_be_trusted() {
    let authority = Authority::new();
    let (good, bad) = (authority.issue(&["127.0.0.1"]), authority.issue(&["elsewhere.example"]));
    let good = Origin::start(authority.server(&good, &["http/1.1"], false), false).await;
    let bad = Origin::start(authority.server(&bad, &["http/1.1"], false), false).await;
    let urls = [&bad, &good].map(|origin| format!("https://{}", origin.address));
    let stage = Stage::new(config(&urls, trusting(&authority), Protocol::Http1)).await;
    for _ in 0..20 {
        stage.expect(200).await;
    }
    assert_eq!(good.seen.requests.load(Relaxed), 20);
}

#[tokio::test]
async fn a_backend_that_asks_is_shown_a_certificate() {
    let authority = Authority::new();
    let (server, client) = (authority.issue(&["127.0.0.1"]), authority.issue(&["node.internal"]));
    let origin = Origin::start(authority.server(&server, &["http/1.1"], true), false).await;
    let url = format!("https://{}", origin.address);
    let without = config(std::slice::from_ref(&url), trusting(&authority), Protocol::Http1);
    let with = Tls { cert: Some(client.cert.clone()), ..trusting(&authority) };
    let with = config(&[url], with, Protocol::Http1);
    let stage = Stage::new(without).await;
    stage.expect(502).await;
    // Without the key the revision is rejected with its path, and the previous one stays.
    stage.control.push(Message::Snapshot(snapshot(2, &with)));
    assert_eq!(stage.control.rejected(2).await.problems[0].path, "pools[0].tls.key");
    stage.control.push(keys(&[&client]));
    stage.control.push(Message::Snapshot(snapshot(3, &with)));
    stage.control.acked(3).await;
    stage.expect(200).await;
}

#[tokio::test]
async fn connections_of_other_settings_are_not_used_again() {
    let authority = Authority::new();
    let pair = authority.issue(&["127.0.0.1"]);
    let origin = Origin::start(authority.server(&pair, &["http/1.1"], false), false).await;
    let urls = [format!("https://{}", origin.address)];
    let lax = Tls { verify: false, ..Tls::default() };
    let stage = Stage::new(config(&urls, lax, Protocol::Http1)).await;
    stage.expect(200).await;
    // From now on its certificate must be valid, and it is not valid for this name.
    let strict = Tls { server_name: Some("elsewhere.example".into()), ..trusting(&authority) };
    stage.control.push(Message::Snapshot(snapshot(2, &config(&urls, strict, Protocol::Http1))));
    stage.control.acked(2).await;
    stage.expect(502).await;
    assert_eq!(origin.seen.requests.load(Relaxed), 1);
}

#[tokio::test]
async fn a_port_of_the_fleet_is_no_backend_unless_a_setting_allows_it() {
    let stage = Stage::new(support::wire::config(&[])).await;
    let ports = [
        stage.node.http.port(),
        stage.node.status.port(),
        stage.control.url().parse::<http::Uri>().unwrap().port_u16().unwrap(),
    ];
    let mut revision = 1;
    for port in ports {
        for host in ["127.0.0.1", "localhost", "0.0.0.0"] {
            let mut config = support::wire::config(&[format!("http://{host}:{port}")]);
            config.pools[0].retry.attempts = 1;
            revision += 1;
            stage.control.push(Message::Snapshot(snapshot(revision, &config)));
            stage.control.acked(revision).await;
            let answer = stage.node.get("/").await;
            assert!((502..=503).contains(&answer.status), "{host}:{port}: {answer:?}");
            stage.says(&format!(":{port} is ")).await;
            stage.says("settings.allow_backends.own_ports: true").await;
        }
    }
    // With the setting the node reaches itself: its status port answers.
    let mut config = support::wire::config(&[format!("http://127.0.0.1:{}", stage.node.status.port())]);
    config.settings.allow_backends.own_ports = true;
    stage.control.push(Message::Snapshot(snapshot(revision + 1, &config)));
    stage.control.acked(revision + 1).await;
    assert_eq!(stage.node.get("/healthz").await.status, 200);
}
