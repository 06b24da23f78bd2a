//! Certificates in REST, the file, the database and a node's stream; private keys are returned only where they are
//! needed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use support::{
    ControlPlane, config,
    node::{Node, channel, hello},
};
use tonic::Code;
use weir_proto::v1::{self, admin_client::AdminClient};

struct Pair {
    cert: String,
    key: String,
}

fn pair(names: &[&str], until: i32) -> Pair {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until, 1, 1));
    let key = KeyPair::generate().unwrap();
    Pair { cert: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

async fn put(control_plane: &ControlPlane, name: &str, pair: &Pair) -> support::Answer {
    let body = json!({ "cert": pair.cert, "key": pair.key }).to_string();
    control_plane.call("PUT", &format!("/certificates/{name}"), &body).await
}

/// A part of a key that must not leak.
fn secret(pair: &Pair) -> &str {
    pair.key.lines().nth(1).unwrap()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn received_keys(node: &Node) -> Vec<String> {
    node.private_keys.iter().map(|key| String::from_utf8(key.key.clone()).unwrap()).collect()
}

#[tokio::test]
async fn a_stale_revision_changes_no_certificate() {
    let control_plane = ControlPlane::start().await;
    let (one, two) = (pair(&["a.example"], 2040), pair(&["a.example"], 2041));
    put(&control_plane, "one", &one).await.expect(201);
    let seen = control_plane.call("GET", "/certificates/one", "").await;
    assert_eq!(seen.etag, "\"2\"");
    assert_eq!(control_plane.call("GET", "/certificates", "").await.etag, "\"2\"");
    control_plane.add("http://a:1").await;
    let body = json!({ "cert": two.cert, "key": two.key }).to_string();
    let stale = [("if-match", seen.etag.as_str())];
    control_plane.call_with("PUT", "/certificates/one", &body, &stale).await.expect(412);
    control_plane.call_with("DELETE", "/certificates/one", "", &stale).await.expect(412);
    let mut grpc = AdminClient::new(channel(control_plane.admin()).await);
    let put = v1::PutCertificateRequest {
        name: "one".into(),
        cert_pem: two.cert.clone(),
        key_pem: two.key.clone(),
        if_revision: 2,
    };
    assert_eq!(grpc.put_certificate(put.clone()).await.unwrap_err().code(), Code::Aborted);
    let delete = v1::DeleteCertificateRequest { name: "one".into(), if_revision: 2 };
    assert_eq!(grpc.delete_certificate(delete).await.unwrap_err().code(), Code::Aborted);
    assert_eq!(control_plane.get("/certificates/one").await, seen.json());
    let changed = control_plane.call_with("PUT", "/certificates/one", &body, &[("if-match", "\"3\"")]).await;
    assert_eq!((changed.status, changed.etag.as_str()), (200, "\"4\""));
    grpc.put_certificate(v1::PutCertificateRequest { if_revision: 4, ..put }).await.unwrap();
}

#[tokio::test]
async fn a_private_key_reaches_only_the_nodes() {
    let control_plane = ControlPlane::start().await;
    let mut node = Node::connect(&control_plane, hello("node-1")).await;
    let first = node.push().await;
    node.ack(&first).await;
    let one = pair(&["a.example", "*.b.example", "127.0.0.1"], 2040);
    let made = put(&control_plane, "one", &one).await.expect(201);
    assert_eq!(made["hosts"], json!(["a.example", "*.b.example", "127.0.0.1"]));
    assert_eq!((&made["state"], &made["not_after"]), (&json!("good"), &json!("2040-01-01T00:00:00Z")));
    // The key arrives before the revision.
    let push = node.push().await;
    assert_eq!(received_keys(&node), std::slice::from_ref(&one.key));
    node.ack(&push).await;
    for path in ["/certificates", "/certificates/one", "/config", "/status", "/revisions/2", "/metrics"] {
        let answer = control_plane.call("GET", path, "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(!answer.text.contains(secret(&one)) && !answer.text.contains("PRIVATE KEY"), "{path}");
    }
    assert!(node.resources.values().all(|spec| !spec.contains("PRIVATE KEY")));
    assert!(
        control_plane
            .call("GET", "/metrics", "")
            .await
            .text
            .contains("weir_certificate_expiry_seconds{certificate=\"one\"}")
    );
    assert_eq!(control_plane.get("/status").await["certificates"][0]["name"], "one");
    // The exported configuration applies again and keeps the key.
    let export = control_plane.call("GET", "/config", "").await.text;
    let applied = control_plane.call("PUT", "/config", &export).await.expect(200);
    assert_eq!(applied["changes"], json!([]));
    let folder = control_plane.stop().await;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        assert!(!holds(&bytes, secret(&one)) && !holds(&bytes, "PRIVATE KEY"), "{}", path.display());
    }
}

#[tokio::test]
async fn invalid_certificates_are_rejected_and_change_nothing() {
    let control_plane = ControlPlane::start().await;
    let (one, other) = (pair(&["a.example"], 2040), pair(&["b.example"], 2040));
    put(&control_plane, "one", &one).await.expect(201);
    let locked = other.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let cases: [(Value, &str, &str); 7] = [
        (json!({ "cert": one.cert, "key": other.key }), "key", "another certificate"),
        (json!({ "cert": other.cert }), "key", "no matching private key is stored"),
        (json!({ "cert": other.cert, "key": locked }), "key", "passphrase"),
        (json!({ "cert": other.cert, "key": "x" }), "key", "in PEM format"),
        (json!({ "cert": "one.crt", "key": one.key }), "cert", "is not PEM"),
        (json!({ "cert": format!("{}{}", one.cert, one.key) }), "cert", "private key"),
        (json!({ "cert": one.cert.replace("MII", "AAA") }), "cert", "certificate"),
    ];
    for (body, path, expected) in cases {
        let refused = control_plane.call("PUT", "/certificates/one", &body.to_string()).await.expect(400);
        assert_eq!(refused["problems"][0]["path"], path, "{refused}");
        let message = refused["problems"][0]["message"].as_str().unwrap();
        assert!(message.contains(expected) && !message.contains(secret(&other)), "{expected}: {message}");
    }
    // A dry run reports the same.
    let config = json!({ "certificates": [{ "name": "new", "cert": other.cert }] }).to_string();
    control_plane.call("PUT", "/config?dry_run=true", &config).await.expect(400);
    assert_eq!(control_plane.revision().await, 2);
    assert_eq!(control_plane.get("/certificates/one").await["hosts"], json!(["a.example"]));
    control_plane.call("DELETE", "/certificates/nobody", "").await.expect(404);
}

#[tokio::test]
async fn an_expired_certificate_is_accepted_and_shown_as_expired() {
    let control_plane = ControlPlane::start().await;
    let made = put(&control_plane, "old", &pair(&["a.example"], 2021)).await.expect(201);
    assert_eq!(made["state"], "expired");
    assert!(made["days_left"].as_i64().unwrap() < -1000, "{made}");
    let page = control_plane.call("GET", "/ui/routes", "").await.text;
    assert!(page.contains("expired") && page.contains("a.example"), "{page}");
}

#[tokio::test]
async fn a_rollback_restores_the_previous_key_also_after_a_restart() {
    let control_plane = ControlPlane::start().await;
    let (one, other) = (pair(&["a.example"], 2040), pair(&["a.example"], 2041));
    put(&control_plane, "one", &one).await.expect(201);
    put(&control_plane, "one", &other).await.expect(200);
    control_plane.call("DELETE", "/certificates/one", "").await.expect(200);
    let control_plane = control_plane.killed_and_started().await;
    let mut node = Node::connect(&control_plane, hello("node-1")).await;
    let push = node.push().await;
    assert!(received_keys(&node).is_empty());
    node.ack(&push).await;
    for (revision, pair) in [(2, &one), (3, &other)] {
        control_plane.call("POST", &format!("/revisions/{revision}/rollback"), "").await.expect(200);
        let push = node.push().await;
        assert_eq!(received_keys(&node), std::slice::from_ref(&pair.key), "revision {revision}");
        node.ack(&push).await;
    }
}

#[tokio::test]
async fn all_nodes_get_the_same_ticket_keys_also_after_a_restart() {
    let control_plane = ControlPlane::start().await;
    let mut tickets = Vec::new();
    for id in ["node-1", "node-2"] {
        let mut node = Node::connect(&control_plane, hello(id)).await;
        node.push().await;
        tickets.push(node.tickets);
    }
    let control_plane = control_plane.killed_and_started().await;
    let mut node = Node::connect(&control_plane, hello("node-3")).await;
    node.push().await;
    tickets.push(node.tickets);
    let first = tickets[0].clone();
    assert_eq!(first.current.as_ref().map(|key| (key.name.len(), key.key.len())), Some((16, 32)));
    assert_eq!(first.others.len(), 1, "the next key");
    assert!(tickets.iter().all(|tickets| *tickets == first));
}

#[tokio::test]
async fn a_wrong_or_lost_master_key_prevents_the_start() {
    let control_plane = ControlPlane::start().await;
    put(&control_plane, "one", &pair(&["a.example"], 2040)).await.expect(201);
    let folder = control_plane.stop().await;
    let (database, key) = (folder.path().join("weir.db"), folder.path().join("weir.db.key"));
    let kept = folder.path().join("kept.key");
    std::fs::rename(&key, &kept).unwrap();
    let start = async |file: Option<&std::path::Path>| {
        let config = control_plane::Config { secrets_key_file: file.map(Into::into), ..config(&database) };
        control_plane::start(config).await
    };
    let why = |result: anyhow::Result<control_plane::Running>| format!("{:#}", result.err().unwrap());
    let error = why(start(None).await);
    assert!(error.contains("is missing") && error.contains("--secrets-key-file"), "{error}");
    std::fs::write(&key, "0".repeat(64)).unwrap();
    let error = why(start(None).await);
    assert!(error.contains("cannot be decrypted") && error.contains("WEIR_SECRETS_KEY"), "{error}");
    std::fs::write(&key, "nonsense").unwrap();
    let error = why(start(None).await);
    assert!(error.contains("openssl rand"), "{error}");
    start(Some(&kept)).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn a_configuration_file_can_refer_to_certificate_files() {
    let folder = tempfile::tempdir().unwrap();
    let one = pair(&["a.example"], 2040);
    std::fs::create_dir(folder.path().join("tls")).unwrap();
    std::fs::write(folder.path().join("tls/one.crt"), &one.cert).unwrap();
    std::fs::write(folder.path().join("tls/one.key"), &one.key).unwrap();
    let file = folder.path().join("weir.yaml");
    let text = "certificates:\n  - { name: one, cert: tls/one.crt, key: tls/one.key }\n";
    std::fs::write(&file, text).unwrap();
    let with = |database: &str| control_plane::Config {
        config: Some(file.clone()),
        ..config(&folder.path().join(database))
    };
    let running = control_plane::start(with("weir.db")).await.unwrap();
    running.shutdown().await;
    std::fs::remove_file(folder.path().join("tls/one.key")).unwrap();
    let refused = control_plane::start(with("other.db")).await.err().unwrap();
    let error = format!("{refused:#}");
    assert!(error.contains("line 2, column "), "{error}");
    assert!(error.contains(": certificates[0].key: cannot read tls/one.key"), "{error}");
}
