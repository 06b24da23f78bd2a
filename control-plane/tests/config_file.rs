//! The configuration file is applied when it changes, and undoes no change made by other means.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::PathBuf;

use control_plane::Config;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use support::{ControlPlane, config, node::channel};
use weir_proto::v1::{self, admin_client::AdminClient};

const TEXT: &str = "pools:\n- name: default\n  strategy: random\n  backends:\n  - url: http://a:1\n  - url: http://b:1\n\
                    routes:\n- name: default\n  pool: default\n";

fn file(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("weir.yaml")
}

fn with_file(folder: &tempfile::TempDir) -> Config {
    Config { config: Some(file(folder)), ..config(&folder.path().join("weir.db")) }
}

async fn started(text: &str) -> ControlPlane {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(file(&folder), text).unwrap();
    let config = with_file(&folder);
    ControlPlane::start_in(folder, config).await
}

async fn restarted(control_plane: ControlPlane, change: impl FnOnce(&mut Config)) -> ControlPlane {
    let folder = control_plane.stop().await;
    let mut config = with_file(&folder);
    change(&mut config);
    ControlPlane::start_in(folder, config).await
}

/// Typical changes by API: a drain, a weight, a strategy, a pool.
async fn make_live_changes(control_plane: &ControlPlane) {
    control_plane.call("PATCH", "/backends/b1", r#"{"state":"draining"}"#).await.expect(200);
    control_plane.call("PATCH", "/backends/b2", r#"{"weight":7}"#).await.expect(200);
    control_plane.call("POST", "/strategy", r#"{"pool":"default","strategy":"ip_hash"}"#).await.expect(200);
    control_plane.call("PUT", "/pools/live", "{}").await.expect(201);
}

async fn is_there(control_plane: &ControlPlane) {
    let b1 = control_plane.get("/backends/b1").await;
    let b2 = control_plane.get("/backends/b2").await;
    assert_eq!((&b1["state"], &b2["weight"]), (&json!("draining"), &json!(7)));
    assert_eq!(control_plane.get("/pools/default").await["strategy"], "ip_hash");
    control_plane.call("GET", "/pools/live", "").await.expect(200);
}

#[tokio::test]
async fn a_restart_and_a_reload_undo_no_live_changes() {
    let control_plane = started(TEXT).await;
    make_live_changes(&control_plane).await;
    let revision = control_plane.revision().await;
    let control_plane = restarted(control_plane, |_| ()).await;
    assert_eq!(control_plane.revision().await, revision);
    is_there(&control_plane).await;
    let same = control_plane.call("POST", "/config/reload", "").await.expect(200);
    assert_eq!(same, json!({ "revision": revision, "changes": [], "warnings": [] }));
    is_there(&control_plane).await;
    // Comments and the order of keys do not count as a change.
    std::fs::write(control_plane.folder.path().join("weir.yaml"), format!("# new comment\n{TEXT}")).unwrap();
    control_plane.call("POST", "/config/reload", "").await.expect(200);
    assert_eq!(control_plane.revision().await, revision);
}

#[tokio::test]
async fn a_changed_file_wins_for_what_it_changed_and_nothing_else() {
    let control_plane = started(TEXT).await;
    make_live_changes(&control_plane).await;
    let file = control_plane.folder.path().join("weir.yaml");
    let changed = TEXT.replace("http://b:1", "http://b:1\n    weight: 3\n  - url: http://c:1");
    std::fs::write(file, changed).unwrap();
    let reloaded = control_plane.call("POST", "/config/reload", "").await.expect(200);
    assert_eq!(reloaded["replaced"], json!(["pools[default].backends[http://b:1].weight: 7 → 3"]));
    assert_eq!(
        reloaded["changes"],
        json!(["backend b2 http://b:1: weight 7 → 3", "backend b3 http://c:1 added to pool \"default\""])
    );
    assert_eq!(control_plane.get("/backends/b1").await["state"], "draining");
    assert_eq!(control_plane.get("/pools/default").await["strategy"], "ip_hash");
    let control_plane = restarted(control_plane, |_| ()).await;
    assert_eq!(control_plane.get("/backends/b2").await["weight"], 3);
    // The same at a start, when the file changed while the control plane was stopped.
    let folder = control_plane.stop().await;
    std::fs::write(folder.path().join("weir.yaml"), TEXT.replace("random", "round_robin")).unwrap();
    let config = with_file(&folder);
    let control_plane = ControlPlane::start_in(folder, config).await;
    assert_eq!(control_plane.get("/pools/default").await["strategy"], "round_robin");
    assert_eq!(control_plane.get("/backends/b1").await["state"], "draining");
    control_plane.call("GET", "/backends/b3", "").await.expect(404);
}

#[tokio::test]
async fn an_authoritative_file_is_applied_completely_each_time() {
    let control_plane = started(TEXT).await;
    let before = control_plane.get("/pools/default").await;
    make_live_changes(&control_plane).await;
    let control_plane = restarted(control_plane, |config| config.config_authoritative = true).await;
    assert_eq!(control_plane.get("/pools/default").await, before);
    make_live_changes(&control_plane).await;
    control_plane.call("POST", "/config/reload", "").await.expect(200);
    assert_eq!(control_plane.get("/pools/default").await, before);
    let status = control_plane.get("/status").await;
    assert_eq!(
        (&status["config_file"]["authoritative"], &status["config_file"]["drift_count"]),
        (&json!(true), &json!(0))
    );
}

#[tokio::test]
async fn the_status_shows_how_the_configuration_differs_from_the_file() {
    let control_plane = started(TEXT).await;
    assert_eq!(control_plane.get("/status").await["config_file"]["drift"], json!([]));
    make_live_changes(&control_plane).await;
    control_plane.call("DELETE", "/backends/b2", "").await.expect(200);
    let drift = json!([
        "pool \"default\": strategy random → ip_hash",
        "pool \"live\" added",
        "backend b1 http://a:1: state active → draining",
        "backend removed-1 http://b:1 removed from pool \"default\"",
    ]);
    let control_plane = restarted(control_plane, |_| ()).await;
    let status = control_plane.get("/status").await;
    let file = &status["config_file"];
    assert_eq!(
        (&file["drift"], &file["drift_count"], &file["revision"]),
        (&drift, &json!(4), &json!(2)),
        "{file}"
    );
    let mut grpc = AdminClient::new(channel(control_plane.admin()).await);
    let grpc = grpc.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner().config_file.unwrap();
    assert_eq!((json!(grpc.drift), grpc.drift_count), (drift, 4));
    let metrics = control_plane.call("GET", "/metrics", "").await.text;
    assert!(metrics.contains("weir_config_drift 4"), "{metrics}");
    let page = control_plane.call("GET", "/", "").await.text;
    assert!(page.contains("4 differences from the file"), "{page}");
    let without = ControlPlane::start().await.get("/status").await;
    assert_eq!(without.get("config_file"), None);
}

#[tokio::test]
async fn a_live_change_that_contradicts_the_file_is_replaced_and_named() {
    let control_plane = started(TEXT).await;
    // The live change removes the pool's route and uses the pool elsewhere; the file renames the pool.
    control_plane
        .call("PUT", "/routes/live", r#"{"match":{"path":"/live"},"pool":"default"}"#)
        .await
        .expect(201);
    let file = control_plane.folder.path().join("weir.yaml");
    std::fs::write(file, TEXT.replace("default", "web")).unwrap();
    let reloaded = control_plane.call("POST", "/config/reload", "").await.expect(200);
    let replaced = reloaded["replaced"].as_array().unwrap();
    assert_eq!(replaced, &[json!("route \"live\" added")], "{reloaded}");
    control_plane.call("GET", "/routes/live", "").await.expect(404);
    control_plane.call("GET", "/pools/web", "").await.expect(200);
}

fn certificate() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    (cert.pem(), key.serialize_pem())
}

/// Every file that the configuration names is part of its content, although the configuration file itself is
/// unchanged.
#[tokio::test]
async fn a_change_of_a_referenced_file_is_a_change() {
    let text = "pools:\n- name: default\n  tls: { ca: ca.pem }\n  backends: [{ url: \"https://a:1\" }]\n\
                routes:\n- name: default\n  pool: default\n  jwt: { jwks: keys.json, algorithms: [EdDSA], issuer: a, audience: [b] }\n\
                certificates:\n- { name: one, cert: one.crt, key: one.key }\n";
    let jwks = |kid: &str| {
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid,
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }] })
        .to_string()
    };
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| std::fs::write(folder.path().join(name), content).unwrap();
    let (cert, key) = certificate();
    write("weir.yaml", text);
    write("ca.pem", &cert);
    write("one.crt", &cert);
    write("one.key", &key);
    write("keys.json", &jwks("1"));
    let path = folder.path().to_owned();
    let config = with_file(&folder);
    let control_plane = ControlPlane::start_in(folder, config).await;
    let mut revision = control_plane.revision().await;
    let (next, next_key) = certificate();
    let changes: [&[(&str, &str)]; 3] =
        [&[("ca.pem", &next)], &[("one.crt", &next), ("one.key", &next_key)], &[("keys.json", &jwks("2"))]];
    for files in changes {
        for (name, content) in files {
            std::fs::write(path.join(name), content).unwrap();
        }
        control_plane.call("POST", "/config/reload", "").await.expect(200);
        revision += 1;
        assert_eq!(control_plane.revision().await, revision, "{files:?}");
    }
    let secret = next_key.lines().nth(1).unwrap();
    let database = std::fs::read(control_plane.database()).unwrap();
    let log = std::fs::read(path.join("weir.db-wal")).unwrap_or_default();
    let holds = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
    assert!(!holds(&database) && !holds(&log), "the stored file contains no private key");
}

#[tokio::test]
async fn an_invalid_file_changes_nothing_and_is_applied_once_corrected() {
    let control_plane = started(TEXT).await;
    let file = control_plane.folder.path().join("weir.yaml");
    std::fs::write(&file, "pools: [").unwrap();
    control_plane.call("POST", "/config/reload", "").await.expect(400);
    std::fs::write(&file, TEXT.replace("random", "ip_hash")).unwrap();
    let reloaded: Value = control_plane.call("POST", "/config/reload", "").await.expect(200);
    assert_eq!(reloaded["changes"], json!(["pool \"default\": strategy random → ip_hash"]));
    control_plane.call_with("POST", "/config/reload", "", &[("if-match", "\"1\"")]).await.expect(412);
}

#[tokio::test]
async fn differences_from_the_file_show_no_hash_of_a_password() {
    let hash = |c: &str| format!("$2b$10${}", c.repeat(53));
    let users = |hash: &str| format!("{TEXT}  basic_auth: {{ users: {{ anna: '{hash}' }} }}\n");
    let control_plane = started(&users(&hash("a"))).await;
    let admin = control_plane.token(None, "root", "admin", None).await;
    let viewer = control_plane.token(Some(&admin), "view", "viewer", None).await;
    let route = json!({ "pool": "default", "basic_auth": { "users": { "anna": hash("b") } } }).to_string();
    let put = control_plane.call_as(Some(&admin), "PUT", "/routes/default", &route).await;
    assert_eq!(put.status, 200, "{put:?}");
    for path in ["/status", "/", "/ui/routes", "/ui/revisions", "/config", "/routes", "/revisions"] {
        let shown = control_plane.call_as(Some(&viewer), "GET", path, "").await;
        assert_eq!(shown.status, 200, "{path}: {shown:?}");
        assert!(!shown.text.contains("$2b$"), "{path}: {}", shown.text);
    }
    let status = control_plane.call_as(Some(&viewer), "GET", "/status", "").await.expect(200);
    assert_eq!(status["config_file"]["drift_count"], 1, "{status}");
    assert!(status["config_file"]["drift"][0].as_str().unwrap().contains("hidden:"), "{status}");
    // Replaced values are returned to the caller and logged.
    std::fs::write(control_plane.folder.path().join("weir.yaml"), users(&hash("c"))).unwrap();
    let reloaded = control_plane.call_as(Some(&admin), "POST", "/config/reload", "").await;
    assert_eq!(reloaded.status, 200, "{reloaded:?}");
    assert!(reloaded.text.contains("hidden:") && !reloaded.text.contains("$2b$"), "{reloaded:?}");
}
