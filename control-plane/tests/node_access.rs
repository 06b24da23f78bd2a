//! Access to the nodes' port: every method without TLS, without a certificate, with another fleet's certificate, and with one
//! that is revoked or expired.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/member.rs"]
mod member;
mod support;

use control_plane::access::ca::Ca;
use member::{By, Member, REPORT, call, code, guarded, join, node_token, refusals, report};
use prost::Message as _;
use serde_json::{Value, json};
use support::{
    ControlPlane, grpc,
    node::{Node, end, hello},
    within,
};
use tonic::Code;
use weir_proto::v1;

#[tokio::test]
async fn no_call_is_admitted_without_tls_or_without_a_certificate() {
    let control_plane = guarded().await;
    let methods = grpc::methods("weir.v1.Nodes");
    for method in &methods {
        for by in [By::Plain, By::Anonymous] {
            let (code, why, bytes) = call(&control_plane, by, method, &report("node-1")).await.unwrap();
            assert_eq!((code, bytes.len()), (Code::Unauthenticated, 0), "{method}: {why}");
        }
    }
    assert_eq!(
        code(&control_plane, By::Anonymous, "/weir.v1.Enrollment/Renew", &v1::RenewRequest::default()).await,
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
async fn a_node_joins_with_its_token_and_is_identified_by_its_certificate() {
    let control_plane = guarded().await;
    let (token, _) = node_token(&control_plane, json!({ "uses": 1 })).await;
    assert!(token.starts_with("weirjoin_"), "{token}");
    let member = join(&control_plane, &token, "node-1").await.unwrap_or_else(|why| panic!("{why:?}"));
    assert_eq!(code(&control_plane, By::Node(&member), REPORT, &report("node-1")).await, Code::Ok);
    assert_eq!(
        code(&control_plane, By::Node(&member), REPORT, &report("node-2")).await,
        Code::PermissionDenied
    );
    // The next certificate is for the same node and is requested with the current one.
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let renew = v1::RenewRequest { public_key: key.public_key_raw().to_vec() };
    let (_, _, bytes) =
        call(&control_plane, By::Node(&member), "/weir.v1.Enrollment/Renew", &renew).await.unwrap();
    let next = v1::JoinResponse::decode(bytes).unwrap();
    let next = Member { certificate: next.certificate, key: key.serialize_der(), authority: next.authority };
    assert_eq!(code(&control_plane, By::Node(&next), REPORT, &report("node-1")).await, Code::Ok);
    // The token was for a single node.
    let (used, why) = join(&control_plane, &token, "node-2").await.err().unwrap();
    assert!(used == Code::Unauthenticated && why.contains("used up"), "{used:?} {why}");
    // All of this holds after a restart.
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
            code == Code::Unauthenticated && why.contains("not a join token of this fleet"),
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
    let again = control_plane.call("DELETE", &format!("/node-tokens/{id}"), "").await.expect(409);
    assert!(again["detail"].as_str().unwrap().contains("is revoked already"), "{again}");
    control_plane.call("DELETE", "/node-tokens/4711", "").await.expect(404);
    let (code, why) = join(&control_plane, &good, "node-1").await.err().unwrap();
    assert!(code == Code::Unauthenticated && why.contains("revoked"), "{code:?} {why}");

    // Signed by another authority; and an invalid key.
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
    let (code, ..) = call(&control_plane, By::Anonymous, "/weir.v1.Enrollment/Join", &no_key).await.unwrap();
    assert_eq!(code, Code::InvalidArgument);
    let refused =
        control_plane.wait_for("/audit?limit=1000", |list| list.to_string().contains("TLS: ")).await;
    let refused = refused.to_string();
    for part in ["not a join token of this fleet", "is expired", "is revoked", "invalid public key", "node-9"]
    {
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
        "the old certificate stays invalid"
    );
    let again = join(&control_plane, &token, "node-1").await.unwrap_or_else(|why| panic!("{why:?}"));
    assert_eq!(code(&control_plane, By::Node(&again), REPORT, &report("node-1")).await, Code::Ok);
}

/// A call that creates something to protect.
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
async fn loopback_accepts_cleartext_only_until_there_is_something_to_protect() {
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
        // The open stream ends before a key is sent on it.
        end(&mut plain).await;
        assert_eq!(plain.private_keys, [], "{path}");
        assert_eq!(
            (plain.resources.len(), push.revision),
            (local.resources.len().min(plain.resources.len()), 1)
        );
        // New calls are rejected with a hint.
        for rpc in grpc::methods("weir.v1.Nodes") {
            let (code, why, bytes) = call(&control_plane, By::Plain, &rpc, &report("node-1")).await.unwrap();
            assert_eq!((code, bytes.len()), (Code::Unauthenticated, 0), "{path} {rpc}: {why}");
            let socket = format!("unix:{}", control_plane.socket().display());
            for part in ["must authenticate", &socket, "https://HOST:PORT", "weir node-tokens create"] {
                assert!(why.contains(part), "{path}: {part} is not in {why:?}");
            }
        }
        // A node of the same user continues over the local socket, with the keys.
        if path.starts_with("/certificates") {
            let push = local.push().await;
            assert_eq!(local.private_keys.len(), 1);
            local.ack(&push).await;
        }
        let mut late = Node::connect(&control_plane, hello("node-3")).await;
        late.push().await;
        // All of this holds after a restart.
        let control_plane = control_plane.killed_and_started().await;
        assert_eq!(
            code(&control_plane, By::Plain, REPORT, &report("node-1")).await,
            Code::Unauthenticated,
            "{path}"
        );
    }
}

#[tokio::test]
async fn insecure_always_accepts_cleartext_nodes_and_nodes_tls_never_does() {
    for (method, path, body) in protections() {
        let insecure = ControlPlane::start_with(|config| config.insecure = true).await;
        insecure.call(method, path, &body.to_string()).await.expect(201);
        assert_eq!(code(&insecure, By::Plain, REPORT, &report("node-1")).await, Code::Ok, "{path}");
    }
    let tls = ControlPlane::start_with(|config| (config.insecure, config.nodes_tls) = (true, true)).await;
    assert_eq!(code(&tls, By::Plain, REPORT, &report("node-1")).await, Code::Unauthenticated);
}

#[tokio::test]
async fn the_local_socket_has_its_path_is_private_and_can_be_disabled() {
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
    // Operations that require TLS stay rejected.
    drop(control_plane.stop().await);
    assert!(!path.exists(), "the socket is removed with the control plane");
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
    let probe = tokio::task::spawn_blocking(move || {
        std::process::Command::new(SETPRIV)
            .args(["--reuid=65534", "--clear-groups", PYTHON, "-c", &script])
            .output()
    });
    let output = within("another user's process", probe).await.unwrap().unwrap();
    let (printed, wrong) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    // The connection may be closed before everything is written.
    let is_cut = wrong.contains("BrokenPipe") || wrong.contains("ConnectionReset");
    assert!(output.status.success() || is_cut, "{wrong}");
    printed.trim().parse::<u32>().is_ok_and(|bytes| bytes > 0)
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
    // The file mode allows every user to connect; the kernel reports the real user.
    for (path, mode) in [(control_plane.folder.path(), 0o755), (socket.as_path(), 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    assert!(!other_user_is_answered(&socket).await);
    Node::connect(&control_plane, hello("node-1")).await.push().await;
}
