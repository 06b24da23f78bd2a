//! Who gets what on the nodes' port: every method tried in the clear, without a certificate, with another fleet's, and with one
//! that is good for nothing any more.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;

use bytes::{BufMut as _, Bytes};
use control_plane::access::ca::Ca;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use serde_json::{Value, json};
use support::{
    ControlPlane, grpc,
    node::{Node, end, hello, node_is},
    within,
};
use tokio::net::TcpStream;
use tonic::Code;
use weir_proto::{FORMAT, SERVER_NAME, v1};

/// What a node has once it has joined.
#[derive(Clone)]
struct Member {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authority: Vec<u8>,
}

/// How a call goes out.
#[derive(Clone, Copy)]
enum By<'a> {
    Plain,
    /// Over TLS, believing whoever is there.
    Nobody,
    Node(&'a Member),
}

/// Believes anybody: these tests are about the other side.
#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        unreachable!("TLS 1.3 only")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn tls(member: Option<&Member>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    let mut config = match member {
        None => {
            let anybody = Arc::new(Anybody(provider));
            builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()
        }
        Some(Member { certificate, key, authority }) => {
            // The authority that a node was told is the one that signed the port's certificate.
            let mut roots = RootCertStore::empty();
            roots.add(authority.clone().into()).unwrap();
            let key = PrivateKeyDer::Pkcs8(key.clone().into());
            builder
                .with_root_certificates(roots)
                .with_client_auth_cert(vec![certificate.clone().into()], key)
                .unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Calls a method; how it ended and its answer. `Err`: there was no connection.
async fn call(
    control_plane: &ControlPlane,
    by: By<'_>,
    method: &str,
    message: &impl Message,
) -> Result<(Code, String, Bytes), String> {
    trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
    impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Io for T {}
    let exchange = async {
        let stream = TcpStream::connect(control_plane.nodes()).await.unwrap();
        let member = match by {
            By::Node(member) => Some(member),
            By::Plain | By::Nobody => None,
        };
        let stream: Box<dyn Io> = if matches!(by, By::Plain) {
            Box::new(stream)
        } else {
            let connector = tokio_rustls::TlsConnector::from(Arc::new(tls(member)));
            let name = ServerName::try_from(SERVER_NAME).unwrap();
            Box::new(connector.connect(name, stream).await.map_err(|error| error.to_string())?)
        };
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let mut body = vec![0];
        body.put_u32(u32::try_from(message.encoded_len()).unwrap());
        message.encode(&mut body).unwrap();
        let request = http::Request::post(format!("http://nodes{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let response = sender.send_request(request).await.map_err(|error| format!("{error:?}"))?;
        let (head, body) = response.into_parts();
        let collected = body.collect().await.map_err(|error| format!("{error:?}"))?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let told = |name: &str| head.headers.get(name).or(trailers.get(name)).cloned();
        let code = told("grpc-status").map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes()));
        let decode = |text: &http::HeaderValue| {
            percent_encoding::percent_decode(text.as_bytes()).decode_utf8_lossy().into_owned()
        };
        let message = told("grpc-message").as_ref().map(decode).unwrap_or_default();
        let bytes = collected.to_bytes();
        Ok((code, message, bytes.slice(bytes.len().min(5)..)))
    };
    within("an answer", exchange).await
}

async fn code(control_plane: &ControlPlane, by: By<'_>, method: &str, message: &impl Message) -> Code {
    call(control_plane, by, method, message).await.unwrap().0
}

async fn node_token(control_plane: &ControlPlane, body: Value) -> (String, i64) {
    let made = control_plane.call("POST", "/node-tokens", &body.to_string()).await.expect(201);
    (made["token"].as_str().unwrap().to_owned(), made["id"].as_i64().unwrap())
}

async fn join(control_plane: &ControlPlane, token: &str, node: &str) -> Result<Member, (Code, String)> {
    join_as(control_plane, token, node, "boot").await
}

async fn join_as(
    control_plane: &ControlPlane,
    token: &str,
    node: &str,
    boot: &str,
) -> Result<Member, (Code, String)> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let request = v1::JoinRequest {
        token: token.into(),
        node_id: node.into(),
        public_key: key.public_key_raw().to_vec(),
        boot_id: boot.into(),
    };
    let (code, why, bytes) =
        call(control_plane, By::Nobody, "/weir.v1.Enrollment/Join", &request).await.unwrap();
    if code != Code::Ok {
        return Err((code, why));
    }
    let v1::JoinResponse { certificate, authority, expires_in_ms } = v1::JoinResponse::decode(bytes).unwrap();
    assert!(expires_in_ms > 6 * 24 * 3600 * 1000 && expires_in_ms <= 7 * 24 * 3600 * 1000, "{expires_in_ms}");
    Ok(Member { certificate, key: key.serialize_der(), authority })
}

fn report(node: &str) -> v1::ReportRequest {
    v1::ReportRequest {
        format: FORMAT,
        node_id: node.into(),
        boot_id: "boot".into(),
        sequence: 1,
        sent_at_ms: u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap(),
        ..v1::ReportRequest::default()
    }
}

const REPORT: &str = "/weir.v1.Nodes/Report";

async fn guarded() -> ControlPlane {
    ControlPlane::start_with(|config| config.nodes_tls = true).await
}

async fn refusals(control_plane: &ControlPlane) -> Vec<String> {
    let list = control_plane.get("/audit?limit=1000").await;
    let refused = list["items"].as_array().unwrap().iter().filter(|one| one["outcome"] == "refused");
    refused
        .map(|one| {
            format!(
                "{} {} {}",
                one["actor"].as_str().unwrap(),
                one["action"].as_str().unwrap(),
                one["detail"].as_str().unwrap()
            )
        })
        .collect()
}

#[tokio::test]
async fn nobody_gets_anything_in_the_clear_or_without_a_certificate() {
    let control_plane = guarded().await;
    let methods = grpc::methods("weir.v1.Nodes");
    for method in &methods {
        for by in [By::Plain, By::Nobody] {
            let (code, why, bytes) = call(&control_plane, by, method, &report("node-1")).await.unwrap();
            assert_eq!((code, bytes.len()), (Code::Unauthenticated, 0), "{method}: {why}");
        }
    }
    assert_eq!(
        code(&control_plane, By::Nobody, "/weir.v1.Enrollment/Renew", &v1::RenewRequest::default()).await,
        Code::Unauthenticated
    );
    let (code, why, _) =
        call(&control_plane, By::Plain, "/weir.v1.Enrollment/Join", &v1::JoinRequest::default())
            .await
            .unwrap();
    assert!(code == Code::FailedPrecondition && why.contains("over TLS"), "{code:?} {why}");
    let refused = refusals(&control_plane).await;
    for method in &methods {
        let action = method.trim_start_matches('/');
        assert_eq!(refused.iter().filter(|one| one.contains(action)).count(), 2, "{method}: {refused:#?}");
    }
    assert!(control_plane.get("/nodes").await["items"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_node_joins_by_its_token_and_is_who_its_certificate_says() {
    let control_plane = guarded().await;
    let (token, _) = node_token(&control_plane, json!({ "uses": 1 })).await;
    assert!(token.starts_with("weirjoin_"), "{token}");
    let member = join(&control_plane, &token, "node-1").await.unwrap_or_else(|why| panic!("{why:?}"));
    assert_eq!(code(&control_plane, By::Node(&member), REPORT, &report("node-1")).await, Code::Ok);
    assert_eq!(
        code(&control_plane, By::Node(&member), REPORT, &report("node-2")).await,
        Code::PermissionDenied
    );
    // The next certificate is for the same node, by the one that it has.
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let renew = v1::RenewRequest { public_key: key.public_key_raw().to_vec() };
    let (_, _, bytes) =
        call(&control_plane, By::Node(&member), "/weir.v1.Enrollment/Renew", &renew).await.unwrap();
    let next = v1::JoinResponse::decode(bytes).unwrap();
    let next = Member { certificate: next.certificate, key: key.serialize_der(), authority: next.authority };
    assert_eq!(code(&control_plane, By::Node(&next), REPORT, &report("node-1")).await, Code::Ok);
    // The token was for one.
    let (used, why) = join(&control_plane, &token, "node-2").await.err().unwrap();
    assert!(used == Code::Unauthenticated && why.contains("used up"), "{used:?} {why}");
    // All of it holds after a restart.
    let control_plane = control_plane.killed_and_started().await;
    assert_eq!(code(&control_plane, By::Node(&next), REPORT, &report("node-1")).await, Code::Ok);
    let listed = control_plane.get("/node-tokens").await;
    assert!(listed["items"][0]["state"] == "used up" && listed["items"][0]["used"] == 1, "{listed}");
    assert!(!listed.to_string().contains("weirjoin_"));
}

#[tokio::test]
async fn a_wrong_token_or_another_fleets_certificate_gets_nothing_and_is_audited() {
    let control_plane = guarded().await;
    let (good, id) = node_token(&control_plane, json!({ "ttl": "never" })).await;
    let (expired, _) = node_token(&control_plane, json!({ "ttl": "1s" })).await;
    let (secret, fleet) = good.rsplit_once('_').unwrap();
    let other = format!("{secret}_{}", "0".repeat(64));
    let guessed = format!("weirjoin_{}_{fleet}", "a".repeat(64));
    for wrong in ["", "nonsense", "weirjoin_", secret, &other, &guessed] {
        let (code, why) = join(&control_plane, wrong, "node-1").await.err().unwrap();
        assert!(
            code == Code::Unauthenticated && why.contains("no join token of this fleet"),
            "{wrong}: {code:?} {why}"
        );
    }
    let begun = std::time::Instant::now();
    let mut again = tokio::time::interval(std::time::Duration::from_millis(100));
    while join(&control_plane, &expired, "node-1").await.is_ok() {
        assert!(begun.elapsed() < support::DEADLINE, "it does not expire");
        again.tick().await;
    }
    control_plane.call("DELETE", &format!("/node-tokens/{id}"), "").await.expect(200);
    let (code, why) = join(&control_plane, &good, "node-1").await.err().unwrap();
    assert!(code == Code::Unauthenticated && why.contains("revoked"), "{code:?} {why}");

    // Signed by somebody else's authority; and a key that is none.
    let (fresh, _) = node_token(&control_plane, json!({})).await;
    let member = join(&control_plane, &fresh, "node-1").await.unwrap_or_else(|why| panic!("{why:?}"));
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let day = std::time::Duration::from_secs(24 * 3600);
    let foreign = Ca::new().unwrap().issue("node-1", key.public_key_raw(), day).unwrap();
    let foreign =
        Member { certificate: foreign.certificate, key: key.serialize_der(), authority: member.authority };
    call(&control_plane, By::Node(&foreign), REPORT, &report("node-1")).await.unwrap_err();
    let no_key = v1::JoinRequest {
        token: fresh,
        node_id: "node-9".into(),
        public_key: vec![4; 65],
        ..v1::JoinRequest::default()
    };
    let (code, ..) = call(&control_plane, By::Nobody, "/weir.v1.Enrollment/Join", &no_key).await.unwrap();
    assert_eq!(code, Code::InvalidArgument);
    let refused =
        control_plane.wait_for("/audit?limit=1000", |list| list.to_string().contains("TLS: ")).await;
    let refused = refused.to_string();
    for part in ["no join token of this fleet", "is expired", "is revoked", "not a public key", "node-9"] {
        assert!(refused.contains(part), "{part} is not in {refused}");
    }
    assert!(!refused.contains(&secret[9..]), "no secret is in the audit");
}

#[tokio::test]
async fn a_revoked_node_gets_nothing_until_it_is_allowed_and_joins_again() {
    let control_plane = guarded().await;
    let (token, _) = node_token(&control_plane, json!({})).await;
    let member = join(&control_plane, &token, "node-1").await.unwrap_or_else(|why| panic!("{why:?}"));
    let other = join(&control_plane, &token, "node-2").await.unwrap_or_else(|why| panic!("{why:?}"));
    control_plane.call("POST", "/nodes/node-1/revoke", "").await.expect(200);
    let (code_, why, _) = call(&control_plane, By::Node(&member), REPORT, &report("node-1")).await.unwrap();
    assert!(
        code_ == Code::PermissionDenied && why.contains("node-1") && why.contains("revoked"),
        "{code_:?} {why}"
    );
    assert_eq!(code(&control_plane, By::Node(&other), REPORT, &report("node-2")).await, Code::Ok);
    let (code_, _) = join(&control_plane, &token, "node-1").await.err().unwrap();
    assert_eq!(code_, Code::PermissionDenied, "a token is of no use to it");
    assert!(refusals(&control_plane).await.iter().any(|one| one.starts_with("node-1 weir.v1.Nodes/Report")));

    control_plane.call("POST", "/nodes/node-1/allow", "").await.expect(200);
    assert_eq!(control_plane.call("POST", "/nodes/node-1/allow", "").await.status, 404);
    assert_eq!(
        code(&control_plane, By::Node(&member), REPORT, &report("node-1")).await,
        Code::Unauthenticated,
        "the old one stays dead"
    );
    let again = join(&control_plane, &token, "node-1").await.unwrap_or_else(|why| panic!("{why:?}"));
    assert_eq!(code(&control_plane, By::Node(&again), REPORT, &report("node-1")).await, Code::Ok);
}

/// A node's channel over TLS, showing a certificate.
async fn member_channel(control_plane: &ControlPlane, member: &Member) -> tonic::transport::Channel {
    let (address, config) = (control_plane.nodes(), Arc::new(tls(Some(member))));
    let connect = tower::service_fn(move |_: http::Uri| {
        let config = Arc::clone(&config);
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from(SERVER_NAME).unwrap();
            let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint = tonic::transport::Channel::builder(http::Uri::from_static("http://nodes:1"));
    endpoint.connect_with_connector(connect).await.unwrap()
}

async fn connect_as(control_plane: &ControlPlane, member: &Member, id: &str, boot: &str) -> Node {
    let client = v1::nodes_client::NodesClient::new(member_channel(control_plane, member).await);
    Node::connect_by(client, v1::Hello { boot_id: boot.into(), ..hello(id) }).await
}

/// A way by which something to protect comes to be.
type Protect = (&'static str, &'static str, Value);

fn protections() -> [Protect; 3] {
    let pair = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let certificate = json!({ "cert": pair.cert.pem(), "key": pair.signing_key.serialize_pem() });
    [
        ("POST", "/tokens", json!({ "name": "root", "role": "admin" })),
        ("POST", "/node-tokens", json!({})),
        ("PUT", "/certificates/one", certificate),
    ]
}

#[tokio::test]
async fn loopback_is_open_until_there_is_something_to_protect_and_then_nobody_gets_it_in_the_clear() {
    for (method, path, body) in protections() {
        let control_plane = ControlPlane::start().await;
        assert_eq!(code(&control_plane, By::Plain, REPORT, &report("node-1")).await, Code::Ok);
        let mut plain = Node::connect_in_the_clear(&control_plane, hello("node-1")).await;
        let push = plain.push().await;
        plain.ack(&push).await;
        let mut local = Node::connect(&control_plane, hello("node-2")).await;
        let push = local.push().await;
        local.ack(&push).await;
        control_plane.call(method, path, &body.to_string()).await.expect(201);
        // The stream that was open ends, before a key is sent on it.
        end(&mut plain).await;
        assert_eq!(plain.private_keys, [], "{path}");
        assert_eq!(
            (plain.resources.len(), push.revision),
            (local.resources.len().min(plain.resources.len()), 1)
        );
        // New calls are refused, and told what to do instead.
        for rpc in grpc::methods("weir.v1.Nodes") {
            let (code, why, bytes) = call(&control_plane, By::Plain, &rpc, &report("node-1")).await.unwrap();
            assert_eq!((code, bytes.len()), (Code::Unauthenticated, 0), "{path} {rpc}: {why}");
            let socket = format!("unix:{}", control_plane.socket().display());
            for part in ["must authenticate", &socket, "https://HOST:PORT", "weir node-token create"] {
                assert!(why.contains(part), "{path}: {part} is not in {why:?}");
            }
        }
        // The same user's node goes on by the local socket, with the keys.
        if path.starts_with("/certificates") {
            let push = local.push().await;
            assert_eq!(local.private_keys.len(), 1);
            local.ack(&push).await;
        }
        let mut late = Node::connect(&control_plane, hello("node-3")).await;
        late.push().await;
        // All of it holds after a restart.
        let control_plane = control_plane.killed_and_started().await;
        assert_eq!(
            code(&control_plane, By::Plain, REPORT, &report("node-1")).await,
            Code::Unauthenticated,
            "{path}"
        );
    }
}

#[tokio::test]
async fn insecure_takes_nodes_in_the_clear_whatever_there_is_and_nodes_tls_never_does() {
    for (method, path, body) in protections() {
        let insecure = ControlPlane::start_with(|config| config.insecure = true).await;
        insecure.call(method, path, &body.to_string()).await.expect(201);
        assert_eq!(code(&insecure, By::Plain, REPORT, &report("node-1")).await, Code::Ok, "{path}");
    }
    let tls = ControlPlane::start_with(|config| (config.insecure, config.nodes_tls) = (true, true)).await;
    assert_eq!(code(&tls, By::Plain, REPORT, &report("node-1")).await, Code::Unauthenticated);
}

#[tokio::test]
async fn the_local_socket_is_where_it_is_named_for_its_user_alone_and_off_where_it_shall_be() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodes.sock");
    let wanted = path.clone();
    let control_plane = ControlPlane::start_with(|config| {
        (config.nodes_socket, config.nodes_tls) = (Some(wanted), true);
    })
    .await;
    assert_eq!(control_plane.socket(), path);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    Node::connect(&control_plane, hello("node-1")).await.push().await;
    // What only TLS may do stays so.
    drop(control_plane.stop().await);
    assert!(!path.exists(), "it goes with the control plane");
    let database = folder.path().join("weir.db");
    let off = control_plane::Config { nodes_socket: Some("off".into()), ..support::config(&database) };
    let running = control_plane::start(off).await.unwrap();
    assert_eq!(running.nodes_socket, None);
    running.shutdown().await;
    let missing = control_plane::Config {
        nodes_socket: Some(folder.path().join("missing/nodes.sock")),
        ..support::config(&database)
    };
    let why = format!("{:#}", control_plane::start(missing).await.err().unwrap());
    assert!(why.contains("--nodes-socket") && why.contains("missing/nodes.sock"), "{why}");
}

/// Not by PATH: another user may not be able to run what a home folder holds.
const SETPRIV: &str = "/usr/bin/setpriv";
const PYTHON: &str = "/usr/bin/python3";

/// Whether another user's process gets a byte from the local socket when it opens HTTP/2 there.
async fn other_user_is_answered(socket: &std::path::Path) -> bool {
    let script = format!(
        "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect({:?})\n\
         s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))\n\
         print(len(s.recv(100)))",
        socket.display().to_string()
    );
    let asked = tokio::task::spawn_blocking(move || {
        std::process::Command::new(SETPRIV)
            .args(["--reuid=65534", "--clear-groups", PYTHON, "-c", &script])
            .output()
    });
    let output = within("another user's process", asked).await.unwrap().unwrap();
    let (said, wrong) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    // The connection may be cut before all is written.
    let is_cut = wrong.contains("BrokenPipe") || wrong.contains("ConnectionReset");
    assert!(output.status.success() || is_cut, "{wrong}");
    said.trim().parse::<u32>().is_ok_and(|bytes| bytes > 0)
}

#[tokio::test]
async fn another_users_process_gets_nothing_from_the_local_socket_whatever_its_mode() {
    use std::os::unix::fs::PermissionsExt as _;
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can run a process as another user");
        return;
    }
    if [SETPRIV, PYTHON].iter().any(|program| !std::path::Path::new(program).exists()) {
        assert!(std::env::var_os("CI").is_none(), "{SETPRIV} and {PYTHON} are needed");
        println!("skipped: {SETPRIV} and {PYTHON} are needed");
        return;
    }
    let control_plane = ControlPlane::start().await;
    let socket = control_plane.socket();
    // The file lets everybody connect; the kernel still says who it is.
    for (path, mode) in [(control_plane.folder.path(), 0o755), (socket.as_path(), 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    assert!(!other_user_is_answered(&socket).await);
    Node::connect(&control_plane, hello("node-1")).await.push().await;
}

#[tokio::test]
async fn what_a_join_token_asks_for_has_to_make_sense() {
    let control_plane = ControlPlane::start().await;
    for (body, path) in [
        (r#"{"ttl":"soon"}"#, "ttl"),
        (r#"{"ttl":"0s"}"#, "ttl"),
        (r#"{"uses":0}"#, "uses"),
        (r#"{"node_ids":["a",""]}"#, "node_ids[1]"),
        ("{\"node_ids\":[\"a\\u001b\"]}", "node_ids[0]"),
    ] {
        let answer = control_plane.call("POST", "/node-tokens", body).await.expect(400);
        assert_eq!(answer["problems"][0]["path"], path, "{body}: {answer}");
    }
}

#[tokio::test]
async fn a_join_token_may_be_bound_to_node_ids() {
    let control_plane = guarded().await;
    let (token, _) = node_token(&control_plane, json!({ "node_ids": ["node-1", "node-2"] })).await;
    let (code, why) = join(&control_plane, &token, "node-3").await.err().unwrap();
    assert!(code == Code::PermissionDenied && why.contains("not for node \"node-3\""), "{code:?} {why}");
    join(&control_plane, &token, "node-2").await.unwrap_or_else(|why| panic!("{why:?}"));
    let listed = control_plane.get("/node-tokens").await;
    assert_eq!(listed["items"][0]["node_ids"], json!(["node-1", "node-2"]));
    let control_plane = control_plane.killed_and_started().await;
    assert_eq!(join(&control_plane, &token, "node-3").await.err().unwrap().0, Code::PermissionDenied);
    join(&control_plane, &token, "node-1").await.unwrap_or_else(|why| panic!("{why:?}"));
}

#[tokio::test]
async fn a_second_process_does_not_become_a_connected_node_unless_that_is_allowed() {
    let control_plane = guarded().await;
    let (token, _) = node_token(&control_plane, json!({ "ttl": "never" })).await;
    let first = join_as(&control_plane, &token, "node-1", "first").await.unwrap();
    let mut node = connect_as(&control_plane, &first, "node-1", "first").await;
    node.push().await;
    // By the token, and by a copy of the certificate: neither configuration nor counts.
    for boot in ["second", ""] {
        let (code, why) = join_as(&control_plane, &token, "node-1", boot).await.err().unwrap();
        assert!(code == Code::AlreadyExists && why.contains("weir nodes allow node-1"), "{code:?} {why}");
    }
    let mut copy = connect_as(&control_plane, &first, "node-1", "second").await;
    let status = copy.next().await.unwrap_err();
    assert!(status.code() == Code::AlreadyExists && status.message().contains("--state-dir"), "{status}");
    let of = |boot: &str| v1::ReportRequest { boot_id: boot.into(), ..report("node-1") };
    assert_eq!(code(&control_plane, By::Node(&first), REPORT, &of("second")).await, Code::AlreadyExists);
    assert_eq!(code(&control_plane, By::Node(&first), REPORT, &of("first")).await, Code::Ok);
    // The same process may join and connect again, before its earlier stream has ended.
    let again = join_as(&control_plane, &token, "node-1", "first").await.unwrap();
    let mut reconnected = connect_as(&control_plane, &again, "node-1", "first").await;
    reconnected.push().await;
    assert!(
        refusals(&control_plane).await.iter().any(|one| one.contains("another process is connected as node"))
    );

    // Allowed: one more, and no third; both stay, also when they reconnect.
    assert_eq!(control_plane.call("POST", "/nodes/nobody/allow", "").await.status, 404);
    let allowed = control_plane.call("POST", "/nodes/node-1/allow", "").await.expect(200);
    assert!(allowed["permit_expires"].as_str().is_some_and(|until| until.ends_with('Z')), "{allowed}");
    let second =
        join_as(&control_plane, &token, "node-1", "second").await.unwrap_or_else(|why| panic!("{why:?}"));
    assert_eq!(
        join_as(&control_plane, &token, "node-1", "third").await.err().unwrap().0,
        Code::AlreadyExists
    );
    let mut beside = connect_as(&control_plane, &second, "node-1", "second").await;
    beside.push().await;
    drop(reconnected);
    let mut back = connect_as(&control_plane, &first, "node-1", "first").await;
    back.push().await;
    for (member, boot) in [(&first, "first"), (&second, "second")] {
        assert_eq!(code(&control_plane, By::Node(member), REPORT, &of(boot)).await, Code::Ok);
    }
    let audit = control_plane.get("/audit?limit=100").await.to_string();
    assert!(audit.contains("one more process may join as node"), "{audit}");
    // A revoked node is revoked for all of its processes, and the permit is gone with it.
    control_plane.call("POST", "/nodes/node-1/revoke", "").await.expect(200);
    end(&mut beside).await;
    end(&mut back).await;
    control_plane.call("POST", "/nodes/node-1/allow", "").await.expect(200);
    let fresh =
        join_as(&control_plane, &token, "node-1", "fourth").await.unwrap_or_else(|why| panic!("{why:?}"));
    let mut node = connect_as(&control_plane, &fresh, "node-1", "fourth").await;
    node.push().await;
    assert_eq!(
        join_as(&control_plane, &token, "node-1", "fifth").await.err().unwrap().0,
        Code::AlreadyExists
    );
    // Once it has gone, its id is free: a node that lost its certificate joins anew.
    drop(node);
    node_is(&control_plane, "node-1", |node| node["connected"] == false).await;
    join_as(&control_plane, &token, "node-1", "sixth").await.unwrap_or_else(|why| panic!("{why:?}"));
}

/// A report of so many requests, under these names.
fn counts(node: &str, sequence: u64, [route, pool, backend]: [&str; 3], requests: u64) -> v1::ReportRequest {
    let mut histogram = hdrhistogram::Histogram::<u64>::new(2).unwrap();
    histogram.record_n(1000, requests).unwrap();
    let mut latency = Vec::new();
    hdrhistogram::serialization::Serializer::serialize(
        &mut hdrhistogram::serialization::V2Serializer::new(),
        &histogram,
        &mut latency,
    )
    .unwrap();
    let row = v1::TrafficRow {
        minute: u64::try_from(jiff::Timestamp::now().as_second() / 60).unwrap(),
        route: route.into(),
        pool: pool.into(),
        backend: backend.into(),
        status: 200,
        requests,
        latency,
        latency_max_us: 1000,
        ..v1::TrafficRow::default()
    };
    v1::ReportRequest { sequence, rows: vec![row], ..report(node) }
}

#[tokio::test]
async fn a_report_names_what_a_kept_revision_knew() {
    let control_plane = ControlPlane::start_with(|config| config.keep_revisions = 2).await;
    let backend = control_plane.add("http://127.0.0.1:1").await;
    let known = ["default", "default", backend.as_str()];
    let send = async |sequence, names| {
        call(&control_plane, By::Plain, REPORT, &counts("node-1", sequence, names, 5)).await.unwrap()
    };
    assert_eq!(send(1, known).await.0, Code::Ok);
    assert_eq!(send(2, ["", "", ""]).await.0, Code::Ok);
    assert_eq!(send(3, ["_other", "_other", "_other"]).await.0, Code::Ok);
    for names in [
        ["forged", "default", ""],
        ["default", "forged", ""],
        ["default", "default", "b99"],
        ["default", "default", "default"],
    ] {
        let (code, why, _) = send(4, names).await;
        assert!(
            code == Code::OutOfRange && why.contains("no kept revision has a"),
            "{names:?}: {code:?} {why}"
        );
    }
    // A backend that has gone is known as long as a revision that had it is kept.
    control_plane.call("DELETE", &format!("/backends/{backend}"), "").await.expect(200);
    assert_eq!(send(5, known).await.0, Code::Ok);
    for port in 2..5 {
        control_plane.add(&format!("http://127.0.0.1:{port}")).await;
    }
    assert_eq!(send(6, known).await.0, Code::OutOfRange);
    assert_eq!(control_plane.get("/reports/summary").await["requests"], 20);
}

#[tokio::test]
async fn a_report_counts_what_a_node_can_have_carried() {
    let control_plane = guarded().await;
    let (token, _) = node_token(&control_plane, json!({})).await;
    let member = join(&control_plane, &token, "node-1").await.unwrap();
    let mut node = connect_as(&control_plane, &member, "node-1", "boot").await;
    node.push().await;
    node_is(&control_plane, "node-1", |node| node["workers"] == 2).await;
    let names = ["default", "default", ""];
    let send = async |batch| call(&control_plane, By::Node(&member), REPORT, &batch).await.unwrap();
    // More than two workers make in a minute, however it is said.
    for requests in [1 << 52, 1_000_000_000, 50_000_000] {
        let (code, why, _) = send(counts("node-1", 1, names, requests)).await;
        assert!(
            code == Code::InvalidArgument && why.contains("a node with 2 workers"),
            "{requests}: {code:?} {why}"
        );
    }
    // More than since it is known, over many minutes; what is too much now may come again later.
    let mut long = counts("node-1", 1, names, 20_000_000);
    for _ in 0..5 {
        let mut row = long.rows[0].clone();
        row.minute -= long.rows.len() as u64;
        long.rows.push(row);
    }
    let (code_, why, _) = send(long).await;
    assert!(code_ == Code::ResourceExhausted && why.contains("requests beyond"), "{code_:?} {why}");
    let mut bytes = counts("node-1", 1, names, 1);
    bytes.rows[0].bytes_out = 1 << 52;
    assert_eq!(send(bytes).await.0, Code::ResourceExhausted);
    // Nothing of them counts, and the bounds hold over repeated batches, which cost nothing more.
    let fair = counts("node-1", 1, names, 1_000_000);
    for _ in 0..100 {
        assert_eq!(send(fair.clone()).await.0, Code::Ok);
    }
    assert_eq!(control_plane.get("/reports/summary").await["requests"], 1_000_000);
}

#[tokio::test]
async fn a_nodes_counts_may_be_left_out_of_reports() {
    let control_plane = ControlPlane::start().await;
    let mut nodes = Vec::new();
    for id in ["node-1", "node-2"] {
        nodes.push(Node::connect(&control_plane, hello(id)).await);
        node_is(&control_plane, id, |node| node["excluded"] == false).await;
    }
    let names = ["default", "default", ""];
    let send = async |control_plane: &ControlPlane, sequence| {
        for node in ["node-1", "node-2"] {
            assert_eq!(
                code(control_plane, By::Plain, REPORT, &counts(node, sequence, names, 5)).await,
                Code::Ok
            );
        }
        control_plane.get("/reports/summary").await["requests"].clone()
    };
    assert_eq!(send(&control_plane, 1).await, 10);
    assert_eq!(control_plane.call("POST", "/nodes/nobody/exclude", "").await.status, 404);
    control_plane.call("POST", "/nodes/node-2/exclude", "").await.expect(200);
    node_is(&control_plane, "node-2", |node| node["excluded"] == true).await;
    assert_eq!(send(&control_plane, 2).await, 15);
    let control_plane = control_plane.killed_and_started().await;
    assert_eq!(send(&control_plane, 3).await, 20);
    control_plane.call("POST", "/nodes/node-2/include", "").await.expect(200);
    assert_eq!(send(&control_plane, 4).await, 30);
    let audit = control_plane.get("/audit?limit=100").await.to_string();
    assert!(audit.contains("left out of reports") && audit.contains("counted again"), "{audit}");
}

#[tokio::test]
async fn the_authoritys_key_is_sealed_and_a_join_token_is_left_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("join");
    let wanted = file.clone();
    let control_plane = ControlPlane::start_with(|config| config.join_token_file = Some(wanted)).await;
    let read = || std::fs::read_to_string(&file).unwrap().trim().to_owned();
    let token = read();
    join(&control_plane, &token, "node-1").await.unwrap_or_else(|why| panic!("{why:?}"));
    let database = control_plane.stop().await;
    let path = database.path().join("weir.db");
    let again = || control_plane::Config { join_token_file: Some(file.clone()), ..support::config(&path) };
    control_plane::start(again()).await.unwrap().shutdown().await;
    assert_eq!(read(), token, "a good one stays");
    // With another key nothing is opened, and it is said which flag to look at.
    let key = folder.path().join("key");
    std::fs::write(&key, "0".repeat(64)).unwrap();
    let wrong = control_plane::Config { secrets_key_file: Some(key), ..again() };
    let why = format!("{:#}", control_plane::start(wrong).await.err().unwrap());
    assert!(why.contains("--secrets-key-file"), "{why}");
}
