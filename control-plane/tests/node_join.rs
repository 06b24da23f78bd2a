//! Joining the fleet: join tokens, second processes under one node id, and the fleet's authority.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/member.rs"]
mod member;
mod support;

use member::{By, REPORT, code, connect_as, guarded, join, join_as, node_token, refusals, report};
use serde_json::json;
use support::{
    ControlPlane,
    node::{end, node_is},
};
use tonic::Code;
use weir_proto::v1;

#[tokio::test]
async fn contradicting_settings_of_a_join_token_are_rejected() {
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
async fn a_second_process_cannot_use_the_id_of_a_connected_node_unless_allowed() {
    let control_plane = guarded().await;
    let (token, _) = node_token(&control_plane, json!({ "ttl": "never" })).await;
    let first = join_as(&control_plane, &token, "node-1", "first").await.unwrap();
    let mut node = connect_as(&control_plane, &first, "node-1", "first").await;
    node.push().await;
    // With the token, and with a copy of the certificate: neither configuration nor counts are exchanged.
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

    // With permission: one more process and no third; both stay, also when they reconnect.
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
    // Once the node has gone, its id is free: a node that lost its certificate can join again.
    drop(node);
    node_is(&control_plane, "node-1", |node| node["connected"] == false).await;
    join_as(&control_plane, &token, "node-1", "sixth").await.unwrap_or_else(|why| panic!("{why:?}"));
}

#[tokio::test]
async fn the_key_of_the_authority_is_sealed_and_a_join_token_written_to_a_file() {
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
    // With another key nothing can be decrypted, and the error names the flag.
    let key = folder.path().join("key");
    std::fs::write(&key, "0".repeat(64)).unwrap();
    let wrong = control_plane::Config { secrets_key_file: Some(key), ..again() };
    let why = format!("{:#}", control_plane::start(wrong).await.err().unwrap());
    assert!(why.contains("--secrets-key-file"), "{why}");
}
