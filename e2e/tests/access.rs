//! A fleet with protected ports: tokens for people, certificates for nodes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{path::Path, time::Duration};

use e2e::{Program, eventually, get};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

struct Guarded {
    folder: tempfile::TempDir,
    control_plane: Program,
    admin: String,
    nodes: String,
    token: String,
}

impl Guarded {
    fn start(more: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let place = |name: &str| folder.path().join(name).display().to_string();
        let database = format!("sqlite:{}", place("weir.db"));
        let (token_file, join) = (place("token"), place("join"));
        let mut all =
            vec!["--database", &database, "--admin", "127.0.0.1:0", "--nodes", "127.0.0.1:0", "--nodes-tls"];
        all.extend(["--token-file", &token_file, "--join-token-file", &join]);
        all.extend(more);
        let control_plane = Program::start("control-plane", &all)?;
        let (admin, nodes) = (control_plane.address("admin")?, control_plane.address("nodes")?);
        let token = std::fs::read_to_string(&token_file)?.trim().to_owned();
        Ok(Self { folder, control_plane, admin, nodes, token })
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn node(&self, id: &str, more: &[&str]) -> anyhow::Result<Program> {
        let address = format!("https://{}", self.nodes);
        let mut all = vec![
            "--control-plane",
            &address,
            "--http",
            "127.0.0.1:0",
            "--status",
            "127.0.0.1:0",
            "--node-id",
            id,
        ];
        all.extend(more);
        Program::start("data-plane", &all)
    }

    /// Runs `weir` with this control plane; returns whether it succeeded, and its output.
    fn weir(&self, token: Option<&str>, arguments: &[&str]) -> (bool, String) {
        let program = std::env::current_exe().unwrap();
        let folder = program.parent().and_then(Path::parent).unwrap();
        let mut command = std::process::Command::new(folder.join("weir"));
        if !arguments.contains(&"--admin") {
            command.args(["--admin", &format!("http://{}", self.admin)]);
        }
        command.args(arguments).env_remove("WEIR_TOKEN");
        if let Some(token) = token {
            command.env("WEIR_TOKEN", token);
        }
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let (fine, said) = self.weir(Some(&self.token), &[&["--output", "json"], arguments].concat());
        assert!(fine, "{arguments:?}: {said}");
        serde_json::from_str(&said).unwrap()
    }

    fn is_connected(&self, id: &str) -> bool {
        let nodes = self.json(&["nodes"]);
        nodes["items"].as_array().unwrap().iter().any(|node| node["id"] == id && node["connected"] == true)
    }

    async fn connected(&self, id: &str, connected: bool) -> anyhow::Result<()> {
        eventually("a node's stream", SOON, async || (self.is_connected(id) == connected).then_some(())).await
    }
}

async fn ready(node: &Program) -> anyhow::Result<()> {
    let status = node.address("status")?;
    eventually("a ready node", SOON, async || {
        get(&status, "/readyz").await.ok().filter(|answer| answer.status == 200).map(drop)
    })
    .await
}

async fn logged(program: &Program, text: &str) -> anyhow::Result<()> {
    eventually(text, SOON, async || program.log().contains(text).then_some(())).await
}

#[tokio::test]
async fn people_need_tokens_and_nodes_certificates() -> anyhow::Result<()> {
    let fleet = Guarded::start(&[])?;
    let join = fleet.file("join");
    // A token that is written to a file does not appear in the log.
    let log = fleet.control_plane.log();
    assert!(
        log.contains("written to --token-file") && !log.contains("weir_") && !log.contains("weirjoin_"),
        "{log}"
    );
    let node = fleet.node("node-1", &["--token-file", &join])?;
    ready(&node).await?;
    fleet.connected("node-1", true).await?;

    // Every call needs a token; a viewer reads but does not change; a revoked token is rejected.
    let (fine, said) = fleet.weir(None, &["status"]);
    assert!(!fine && said.contains("a token is needed (401)"), "{said}");
    let (fine, made) = fleet.weir(Some(&fleet.token), &["token", "create", "eyes", "--role", "viewer"]);
    assert!(fine, "{made}");
    let eyes = made.lines().find(|line| line.starts_with("weir_")).unwrap();
    assert!(fleet.weir(Some(eyes), &["status"]).0);
    let (fine, said) = fleet.weir(Some(eyes), &["strategy", "default", "random"]);
    assert!(!fine && said.contains("needs role operator") && said.contains("(403)"), "{said}");
    assert!(fleet.weir(Some(&fleet.token), &["token", "revoke", "eyes"]).0);
    let (fine, said) = fleet.weir(Some(eyes), &["status"]);
    assert!(!fine && said.contains("was revoked (401)"), "{said}");
    let audit = fleet.json(&["audit"]).to_string();
    for part in ["eyes", "POST /strategy", "was revoked", "join as \\\"node-1\\\"", "POST /tokens"] {
        assert!(audit.contains(part), "{part} is not in {audit}");
    }
    Ok(())
}

#[tokio::test]
async fn a_node_logs_why_it_is_rejected() -> anyhow::Result<()> {
    let (fleet, other) = (Guarded::start(&[])?, Guarded::start(&[])?);
    // With another fleet's token, the node notices the mismatch before it sends anything.
    let foreign = fleet.node("node-1", &["--token-file", &other.file("join")])?;
    logged(&foreign, "this is not the control plane of the join token").await?;
    // A revoked token.
    let made = fleet.json(&["node-token", "create", "--ttl", "1h"]);
    let late = fleet.file("late");
    std::fs::write(&late, made["token"].as_str().unwrap())?;
    assert!(fleet.weir(Some(&fleet.token), &["node-token", "revoke", &made["id"].to_string()]).0);
    let revoked = fleet.node("node-2", &["--token-file", &late])?;
    logged(&revoked, "is revoked; create another one").await?;
    // A cleartext connection.
    let address = format!("http://{}", fleet.nodes);
    let plain = [
        "--control-plane",
        &address,
        "--http",
        "127.0.0.1:0",
        "--status",
        "127.0.0.1:0",
        "--node-id",
        "node-3",
    ];
    let plain = Program::start("data-plane", &plain)?;
    logged(&plain, "accepts nodes over TLS only").await?;
    assert!(fleet.json(&["nodes"])["items"].as_array().unwrap().is_empty());
    // It is enough that the token file appears later.
    std::fs::write(&late, std::fs::read_to_string(fleet.file("join"))?)?;
    fleet.connected("node-2", true).await
}

#[tokio::test]
async fn a_revoked_node_is_disconnected_and_returns_when_it_is_allowed() -> anyhow::Result<()> {
    let fleet = Guarded::start(&[])?;
    let node = fleet.node("node-1", &["--token-file", &fleet.file("join")])?;
    fleet.connected("node-1", true).await?;
    assert!(fleet.weir(Some(&fleet.token), &["node", "revoke", "node-1"]).0);
    fleet.connected("node-1", false).await?;
    logged(&node, "no longer accepts this node").await?;
    assert!(fleet.weir(Some(&fleet.token), &["node", "allow", "node-1"]).0);
    fleet.connected("node-1", true).await?;
    // The node kept serving with its previous configuration.
    ready(&node).await
}

/// A node on free ports with this control plane.
fn plain_node(control_plane: &str, id: &str) -> anyhow::Result<Program> {
    let free = ["--http", "127.0.0.1:0", "--status", "127.0.0.1:0"];
    Program::start("data-plane", &[&["--control-plane", control_plane, "--node-id", id], &free[..]].concat())
}

#[tokio::test]
async fn a_single_machine_needs_no_token_until_one_exists() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let database = folder.path().join("weir.db").display().to_string();
    let control_plane = Program::start(
        "control-plane",
        &["--database", &format!("sqlite:{database}"), "--admin", "127.0.0.1:0", "--nodes", "127.0.0.1:0"],
    )?;
    let (admin, nodes) = (control_plane.address("admin")?, control_plane.address("nodes")?);
    let clear = format!("http://{nodes}");
    let node = plain_node(&clear, "node-1")?;
    ready(&node).await?;
    // After the first token is created, nodes keep serving and log how to connect from now on.
    let made = e2e::send("POST", &admin, "/tokens", r#"{"name":"root","role":"admin"}"#).await?;
    assert_eq!(made.status, 201, "{made:?}");
    let socket = format!("unix:{database}.sock");
    logged(&node, &format!("--control-plane {socket}")).await?;
    ready(&node).await?;
    let late = plain_node(&clear, "node-2")?;
    logged(&late, "there are admin tokens, so nodes must authenticate").await?;
    ready(&plain_node(&socket, "node-3")?).await?;
    // An invalid address.
    let wrong = plain_node("unix:", "node-4")?;
    logged(&wrong, "is not https://HOST:PORT, unix:PATH or http://HOST:PORT").await
}

#[tokio::test]
async fn a_second_process_under_an_id_waits_until_it_is_allowed() -> anyhow::Result<()> {
    let fleet = Guarded::start(&[])?;
    let join = fleet.file("join");
    let _first = fleet.node("node-1", &["--token-file", &join])?;
    fleet.connected("node-1", true).await?;
    let second = fleet.node("node-1", &["--token-file", &join])?;
    logged(&second, "another process is connected as node").await?;
    let (fine, said) = fleet.weir(Some(&fleet.token), &["nodes", "allow", "node-1"]);
    assert!(fine && said.contains("one more process may join under this id"), "{said}");
    ready(&second).await?;
    // A token for one id cannot be used for another.
    let made = fleet.json(&["node-token", "create", "--node", "node-7,node-8"]);
    assert_eq!(made["node_ids"], serde_json::json!(["node-7", "node-8"]));
    std::fs::write(fleet.file("bound"), made["token"].as_str().unwrap())?;
    let other = fleet.node("node-9", &["--token-file", &fleet.file("bound")])?;
    logged(&other, "it is bound to other node ids").await?;
    let _bound = fleet.node("node-8", &["--token-file", &fleet.file("bound")])?;
    fleet.connected("node-8", true).await?;
    for (verb, said) in [("exclude", "left out of reports"), ("include", "counted again")] {
        let (fine, printed) = fleet.weir(Some(&fleet.token), &["nodes", verb, "node-8"]);
        assert!(fine && printed.contains(said), "{printed}");
        let (_, listed) = fleet.weir(Some(&fleet.token), &["nodes", "list"]);
        assert_eq!(listed.contains("its counts are left out of reports"), verb == "exclude", "{listed}");
    }
    Ok(())
}

#[tokio::test]
async fn certificates_are_renewed_in_time_and_survive_a_restart() -> anyhow::Result<()> {
    let fleet = Guarded::start(&["--node-certificates", "20s"])?;
    let state = fleet.file("state");
    let join = fleet.file("join");
    let flags = ["--token-file", join.as_str(), "--state-dir", state.as_str()];
    // A certificate that cannot be written is still used, and is written as soon as possible.
    let obstacle = std::path::Path::new(&state).join("node-certificate");
    std::fs::create_dir_all(&obstacle)?;
    let mut node = fleet.node("node-1", &flags)?;
    fleet.connected("node-1", true).await?;
    logged(&node, "certificate cannot be written to --state-dir").await?;
    std::fs::remove_dir(&obstacle)?;
    logged(&node, "certificate is written to --state-dir").await?;
    let renewed = "node certificate renewed";
    eventually("a second renewal", 2 * SOON, async || {
        (fleet.control_plane.log().matches(renewed).count() >= 2).then_some(())
    })
    .await?;
    assert!(fleet.is_connected("node-1"));
    node.terminate(SOON).await?;
    // Without a token, with the certificate alone.
    let again = fleet.node("node-1", &["--state-dir", &state])?;
    logged(&again, "certificate of an earlier run found").await?;
    fleet.connected("node-1", true).await
}

#[tokio::test]
async fn the_command_line_uses_tls_and_verifies_the_certificate() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let place = |name: &str| folder.path().join(name).display().to_string();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    std::fs::write(place("admin.pem"), made.cert.pem())?;
    std::fs::write(place("admin.key"), made.signing_key.serialize_pem())?;
    std::fs::write(place("other.pem"), other.cert.pem())?;
    let fleet =
        Guarded::start(&["--admin-tls-cert", &place("admin.pem"), "--admin-tls-key", &place("admin.key")])?;
    let admin = format!("https://{}", fleet.admin);
    let asked = |ca: &str| fleet.weir(Some(&fleet.token), &["--admin", &admin, "--ca", &place(ca), "status"]);
    let (fine, said) = asked("admin.pem");
    assert!(fine && said.contains("revision 1"), "{said}");
    let (fine, said) = asked("other.pem");
    assert!(!fine && said.contains("invalid peer certificate"), "{said}");
    let (fine, said) = asked("missing.pem");
    assert!(!fine && said.contains("--ca"), "{said}");
    Ok(())
}
