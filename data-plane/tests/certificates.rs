//! Certificates and sessions of clients on the HTTPS port, tested with the real program.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, outside test functions")]

#[allow(unused_imports, reason = "each test program uses its own part of it")]
mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, ClientConfig, DigitallySignedStruct, HandshakeKind, ProtocolVersion, SignatureScheme,
        SupportedProtocolVersion,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        pki_types::{CertificateDer, ServerName, UnixTime},
        version::{TLS12, TLS13},
    },
};
use weir_proto::v1::{TicketKey, TicketKeys, subscribe_response::Message};
use weir_snapshot::{
    Config,
    config::{Backend, Hsts},
};

use support::{
    FakeControlPlane, Node, Origin,
    authority::{Authority, Pair, keys, provider},
    snapshot,
    tls::Identity,
    within,
};

const HTTPS: &[&str] = &["--https", "127.0.0.1:0"];

/// A node with one backend, with certificates of the test's authority.
struct Stage {
    authority: Authority,
    control: FakeControlPlane,
    node: Node,
    config: Config,
    _origin: Origin,
}

impl Stage {
    async fn new(flags: &[&str]) -> Self {
        let origin = Origin::start("hello").await;
        let mut config = Config::default();
        let url = origin.url();
        config.pools[0].backends.push(Backend { id: "b1".into(), url, weight: 1, state: Default::default() });
        let control = FakeControlPlane::start(config.clone()).await;
        let node = Node::start_with(&control.url(), &[HTTPS, flags].concat()).await;
        node.ready().await;
        Self { authority: Authority::new(), control, node, config, _origin: origin }
    }

    /// Activates the configuration with these certificates.
    async fn activate(&mut self, revision: u64, certificates: &[(&str, &Pair)]) {
        self.send(revision, certificates, &certificates.iter().map(|(_, pair)| *pair).collect::<Vec<_>>());
        self.control.acked(revision).await;
    }

    fn send(&mut self, revision: u64, certificates: &[(&str, &Pair)], with_keys: &[&Pair]) {
        self.config.certificates = certificates.iter().map(|(name, pair)| pair.certificate(name)).collect();
        self.control.push(keys(with_keys));
        self.control.push(Message::Snapshot(snapshot(revision, &self.config)));
    }

    async fn connect(&self, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        connect(self.node.https.unwrap(), &Arc::new(self.authority.client(&["http/1.1"])), name).await
    }

    /// The end of the presented certificate's text, which identifies it.
    async fn shown(&self, name: &str) -> Vec<u8> {
        let mut config = self.authority.client(&[]);
        // A client that accepts any certificate and examines it afterwards.
        config.dangerous().set_certificate_verifier(Arc::new(weir_tls::AnyCertificate::default()));
        let stream = connect(self.node.https.unwrap(), &Arc::new(config), name).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }
}

async fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    within(TlsConnector::from(Arc::clone(config)).connect(name, stream)).await
}

/// Sends one request; returns the response head.
async fn ask(stream: &mut TlsStream<TcpStream>, host: &str) -> std::io::Result<String> {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        let mut piece = [0; 1024];
        match within(stream.read(&mut piece)).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => answer.extend_from_slice(&piece[..read]),
        }
    }
    Ok(String::from_utf8(answer).unwrap())
}

#[tokio::test]
async fn each_host_gets_its_certificate() {
    let mut stage = Stage::new(&[]).await;
    let one = stage.authority.issue(&["a.example", "localhost"]);
    let other = stage.authority.issue(&["b.example", "*.c.example"]);
    let exact = stage.authority.issue(&["x.c.example"]);
    stage.activate(2, &[("one", &one), ("other", &other), ("exact", &exact)]).await;
    for (name, pair) in [
        ("a.example", &one),
        ("b.example", &other),
        ("B.Example", &other),
        ("y.c.example", &other),
        ("x.c.example", &exact),
        ("z.y.c.example", &one),
        ("unknown.example", &one),
        ("127.0.0.1", &one),
    ] {
        assert_eq!(stage.shown(name).await, pair.chain()[0].to_vec(), "{name}");
    }
    // As real clients do: the certificate is verified and the response read.
    for name in ["a.example", "b.example", "y.c.example", "x.c.example"] {
        let mut stream = stage.connect(name).await.unwrap();
        assert!(ask(&mut stream, name).await.unwrap().starts_with("HTTP/1.1 200"), "{name}");
    }
    stage.connect("unknown.example").await.unwrap_err();
    let metrics = stage.node.ask("/metrics").await.body;
    assert!(metrics.contains("weir_node_certificate_expiry_seconds{certificate=\"other\"}"), "{metrics}");
}

/// The certificate for a client that verifies only signatures of these schemes.
async fn shown_to(
    stage: &Stage,
    schemes: &'static [SignatureScheme],
    versions: &[&'static SupportedProtocolVersion],
    name: &str,
) -> std::io::Result<Vec<u8>> {
    #[derive(Debug)]
    struct Only(weir_tls::AnyCertificate, &'static [SignatureScheme]);
    impl ServerCertVerifier for Only {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            self.0.verify_tls12_signature(message, cert, signed)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            self.0.verify_tls13_signature(message, cert, signed)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.1.to_vec()
        }
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Only(weir_tls::AnyCertificate::default(), schemes)))
        .with_no_client_auth();
    let stream = connect(stage.node.https.unwrap(), &Arc::new(config), name).await?;
    Ok(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec())
}

#[tokio::test]
async fn a_client_gets_a_certificate_that_it_can_verify() {
    const RSA: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256];
    const ECDSA: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];
    const BOTH: &[SignatureScheme] = &[
        SignatureScheme::ECDSA_NISTP256_SHA256,
        SignatureScheme::RSA_PSS_SHA256,
        SignatureScheme::RSA_PKCS1_SHA256,
    ];
    let mut stage = Stage::new(&[]).await;
    let exact_ec = stage.authority.issue(&["x.a.example"]);
    let wild_rsa = stage.authority.issue_rsa(&["*.a.example", "b.example"]);
    let wild_ec = stage.authority.issue(&["*.b.example"]);
    let both_ec = stage.authority.issue(&["b.example"]);
    let all = [("ec", &exact_ec), ("rsa", &wild_rsa), ("below", &wild_ec), ("both", &both_ec)];
    stage.activate(2, &all).await;
    for (name, schemes, expected) in [
        ("x.a.example", BOTH, &exact_ec),
        ("x.a.example", ECDSA, &exact_ec),
        // The exact certificate does not hide the wildcard's.
        ("x.a.example", RSA, &wild_rsa),
        ("y.a.example", BOTH, &wild_rsa),
        // Of two certificates with the same name, the first that the client can verify.
        ("b.example", BOTH, &wild_rsa),
        ("b.example", RSA, &wild_rsa),
        ("b.example", ECDSA, &both_ec),
        // No certificate with the name can be verified: any verifiable one.
        ("y.a.example", ECDSA, &exact_ec),
        ("y.b.example", RSA, &wild_rsa),
        ("unknown.example", RSA, &wild_rsa),
        ("unknown.example", BOTH, &exact_ec),
    ] {
        for versions in [&[&TLS12][..], &[&TLS13], &[&TLS12, &TLS13]] {
            let shown = shown_to(&stage, schemes, versions, name).await;
            let expected = expected.chain()[0].to_vec();
            assert_eq!(shown.unwrap(), expected, "{name}, {schemes:?}, {versions:?}");
        }
    }
    // A client without a matching certificate is rejected.
    let none = shown_to(&stage, &[SignatureScheme::ED25519], &[&TLS13], "x.a.example").await;
    assert!(none.is_err(), "{none:?}");
}

#[tokio::test]
async fn without_a_certificate_a_handshake_fails_with_an_alert_and_is_counted() {
    let mut stage = Stage::new(&[]).await;
    let error = stage.connect("a.example").await.unwrap_err();
    assert!(error.to_string().contains("AccessDenied"), "{error}");
    let counted = "weir_node_tls_handshakes_without_certificate_total 1";
    stage.node.ask_until("/metrics", |answer| answer.body.contains(counted)).await;
    let one = stage.authority.issue(&["a.example"]);
    stage.activate(2, &[("one", &one)]).await;
    stage.connect("a.example").await.unwrap();
}

#[tokio::test]
async fn the_certificate_of_the_flags_is_reloaded_on_sighup() {
    let files = Identity::new();
    let flags = files.flags();
    let stage = Stage::new(&flags[2..].iter().map(String::as_str).collect::<Vec<_>>()).await;
    let before = stage.shown("a.example").await;
    let log = async |says: &str| {
        let told = async {
            while !stage.node.log().contains(says) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        within(told).await;
    };
    let next = Identity::new();
    let path = |identity: &Identity, name: &str| identity.certificate().with_file_name(name);
    std::fs::copy(path(&next, "cert.pem"), path(&files, "cert.pem")).unwrap();
    // A certificate without its key is rejected, and the previous one stays.
    stage.node.signal("HUP");
    log("keeping the current one").await;
    assert_eq!(stage.shown("a.example").await, before);
    std::fs::copy(path(&next, "key.pem"), path(&files, "key.pem")).unwrap();
    stage.node.signal("HUP");
    log("certificate of --tls-cert reloaded").await;
    assert_ne!(stage.shown("a.example").await, before);
}

#[tokio::test]
async fn a_certificate_without_its_key_is_rejected_and_the_old_ones_stay() {
    let mut stage = Stage::new(&[]).await;
    let (one, other) = (stage.authority.issue(&["a.example"]), stage.authority.issue(&["b.example"]));
    stage.activate(2, &[("one", &one)]).await;
    stage.send(3, &[("one", &one), ("other", &other)], &[&one]);
    let rejection = stage.control.rejected(3).await;
    assert_eq!(rejection.problems[0].path, "certificates[1].key");
    assert!(rejection.problems[0].message.contains("\"other\""), "{rejection:?}");
    stage.connect("a.example").await.unwrap();
    // Unchanged certificates need no key again.
    stage.send(4, &[("one", &one)], &[]);
    stage.control.acked(4).await;
    stage.connect("a.example").await.unwrap();
}

#[tokio::test]
async fn a_certificate_is_replaced_under_a_storm_of_handshakes() {
    let mut stage = Stage::new(&[]).await;
    let mut pair = stage.authority.issue(&["a.example"]);
    stage.activate(2, &[("one", &pair)]).await;
    let mut old = stage.connect("a.example").await.unwrap();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut config = stage.authority.client(&["http/1.1"]);
        config.resumption = tokio_rustls::rustls::client::Resumption::disabled();
        let config = Arc::new(config);
        let (stop, done, address) = (Arc::clone(&stop), Arc::clone(&done), stage.node.https.unwrap());
        clients.spawn(async move {
            while !stop.load(Relaxed) {
                let mut stream = connect(address, &config, "a.example").await.expect("a handshake");
                ask(&mut stream, "a.example").await.expect("an answer");
                done.fetch_add(1, Relaxed);
            }
        });
    }
    for revision in 3..23 {
        let before = done.load(Relaxed);
        pair = stage.authority.issue(&["a.example"]);
        stage.activate(revision, &[("one", &pair)]).await;
        within(async {
            while done.load(Relaxed) < before + 20 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    stop.store(true, Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    assert_eq!(stage.shown("a.example").await, pair.chain()[0].to_vec());
    // A connection with the first certificate continues.
    ask(&mut old, "a.example").await.unwrap();
}

fn ticket_keys(current: u8, others: &[u8]) -> Message {
    let key = |n: u8| TicketKey { name: vec![n; 16], key: vec![n; 32] };
    Message::Tickets(TicketKeys {
        current: Some(key(current)),
        others: others.iter().map(|n| key(*n)).collect(),
        lifetime_seconds: 3600,
    })
}

/// Connects and reads a response (and with it the ticket); returns the kind of handshake.
async fn visit(address: SocketAddr, config: &Arc<ClientConfig>) -> (HandshakeKind, ProtocolVersion) {
    let mut stream = connect(address, config, "a.example").await.unwrap();
    ask(&mut stream, "a.example").await.unwrap();
    let (kind, version) = (stream.get_ref().1.handshake_kind(), stream.get_ref().1.protocol_version());
    let _ = stream.shutdown().await;
    (kind.unwrap(), version.unwrap())
}

#[tokio::test]
async fn a_session_is_resumed_on_the_same_and_on_another_node() {
    let mut one = Stage::new(&[]).await;
    let mut other = Stage::new(&[]).await;
    let pair = one.authority.issue(&["a.example"]);
    for stage in [&mut one, &mut other] {
        stage.control.push(ticket_keys(1, &[2]));
        stage.activate(2, &[("one", &pair)]).await;
    }
    let (here, there) = (one.node.https.unwrap(), other.node.https.unwrap());
    for version in [&TLS12, &TLS13] {
        let versions: [&'static SupportedProtocolVersion; 1] = [version];
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&versions)
            .unwrap()
            .with_root_certificates(one.authority.roots())
            .with_no_client_auth();
        let config = Arc::new(config);
        assert_eq!(visit(here, &config).await, (HandshakeKind::Full, version.version));
        for _ in 0..8 {
            assert_eq!(visit(here, &config).await.0, HandshakeKind::Resumed, "{version:?}");
        }
        assert_eq!(visit(there, &config).await.0, HandshakeKind::Resumed, "{version:?}, the other node");
        // The other node already uses the next key; this node knows it.
        other.control.push(ticket_keys(2, &[1, 3]));
        other
            .activate(if version.version == ProtocolVersion::TLSv1_2 { 3 } else { 5 }, &[("one", &pair)])
            .await;
        assert_eq!(visit(there, &config).await.0, HandshakeKind::Resumed, "the key before opens still");
        assert_eq!(visit(here, &config).await.0, HandshakeKind::Resumed, "the key to come opens already");
        // A removed key decrypts nothing, and the client still connects with a full handshake.
        other.control.push(ticket_keys(9, &[]));
        other
            .activate(if version.version == ProtocolVersion::TLSv1_2 { 4 } else { 6 }, &[("one", &pair)])
            .await;
        assert_eq!(visit(there, &config).await.0, HandshakeKind::Full);
        other.control.push(ticket_keys(1, &[2]));
    }
    let metrics = one.node.ask("/metrics").await.body;
    let resumed =
        metrics.lines().find_map(|line| line.strip_prefix("weir_node_tls_handshakes_resumed_total "));
    assert!(resumed.unwrap().parse::<u64>().unwrap() >= 18, "{metrics}");
}

#[tokio::test]
async fn strict_transport_security_is_sent_only_over_https() {
    let mut stage = Stage::new(&[]).await;
    let pair = stage.authority.issue(&["a.example"]);
    stage.config.routes[0].hsts = Some(Hsts { include_subdomains: true, ..Hsts::default() });
    stage.activate(2, &[("one", &pair)]).await;
    let mut stream = stage.connect("a.example").await.unwrap();
    let answer = ask(&mut stream, "a.example").await.unwrap().to_ascii_lowercase();
    let told = "strict-transport-security: max-age=31536000; includesubdomains\r\n";
    assert_eq!(answer.matches(told).count(), 1, "{answer}");
    let mut clear = TcpStream::connect(stage.node.http).await.unwrap();
    clear.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within(clear.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.to_ascii_lowercase().contains("strict-transport"));
}
