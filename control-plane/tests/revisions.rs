//! Changes to the configuration: dry runs, guards, rollback.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;

use control_plane::access::table::REST;
use serde_json::{Value, json};
use support::{ControlPlane, config, node::channel};
use tonic::Code;
use weir_proto::v1::{self, admin_client::AdminClient};

const TEXT: &str = "pools:\n- name: default\n  strategy: random\n  backends:\n  - url: http://a:1\n\
                    routes:\n- name: default\n  pool: default\n";

#[tokio::test]
async fn a_dry_run_returns_the_difference_as_text_and_as_data() {
    let control_plane = ControlPlane::start().await;
    let result = control_plane.call("PUT", "/config?dry_run=true", TEXT).await.expect(200);
    assert_eq!(
        result["changes"],
        json!([
            "pool \"default\": strategy round_robin → random",
            "backend new-1 http://a:1 added to pool \"default\"",
        ])
    );
    let diff = &result["diff"];
    assert_eq!(
        (&diff[0]["action"], &diff[0]["kind"], &diff[0]["name"]),
        (&json!("change"), &json!("pool"), &json!("default"))
    );
    let field = json!([{ "path": "strategy", "before": "round_robin", "after": "random" }]);
    assert_eq!(diff[0]["fields"], field);
    assert_eq!((&diff[1]["action"], &diff[1]["before"]), (&json!("add"), &Value::Null));
    assert_eq!(diff[1]["after"]["url"], "http://a:1");
    assert_eq!(control_plane.revision().await, 1);

    control_plane.call("PUT", "/config", TEXT).await.expect(200);
    let same = control_plane.call("PUT", "/config?dry_run=true", TEXT).await.expect(200);
    assert_eq!((&same["changes"], &same["diff"]), (&json!([]), &json!([])));
    control_plane.call("PUT", "/config", TEXT).await.expect(200);
    assert_eq!(control_plane.revision().await, 2, "what changes nothing is no revision");
}

#[tokio::test]
async fn moved_resources_are_summarized_in_one_line() {
    let control_plane = ControlPlane::start().await;
    let pools = |names: &[&str]| {
        let pools: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
        json!({ "pools": pools }).to_string()
    };
    control_plane.call("PUT", "/config", &pools(&["a", "b", "c"])).await.expect(200);
    let result =
        control_plane.call("PUT", "/config?dry_run=true", &pools(&["new", "c", "a", "b"])).await.expect(200);
    assert_eq!(result["changes"], json!(["pool \"new\" added", "the order of the pools changed"]));
}

/// Method, path and body of each change that can be guarded.
const GUARDED: &[(&str, &str, &str)] = &[
    ("PUT", "/config", TEXT),
    ("PUT", "/pools/default", "{\"strategy\":\"random\"}"),
    ("PUT", "/pools/new", "{}"),
    ("DELETE", "/pools/spare", ""),
    ("PUT", "/routes/default", "{\"pool\":\"spare\"}"),
    ("DELETE", "/routes/default", ""),
    ("POST", "/backends", "{\"url\":\"http://b:1\"}"),
    ("PATCH", "/backends/b1", "{\"weight\":3}"),
    ("DELETE", "/backends/b1", ""),
    ("DELETE", "/backends", "{\"url\":\"http://a:1\"}"),
    ("POST", "/strategy", "{\"pool\":\"default\",\"strategy\":\"random\"}"),
    ("POST", "/revisions/1/rollback", ""),
];

#[tokio::test]
async fn every_changing_call_refuses_a_stale_and_an_unreadable_if_match() {
    let control_plane = ControlPlane::start().await;
    control_plane.add("http://a:1").await;
    let changing: Vec<_> = REST.iter().filter(|(method, ..)| *method != "GET").collect();
    assert!(changing.len() >= 19, "{changing:?}");
    for (method, path, _) in changing {
        let path = path.replace("{id}", "b1").replace("{name}", "default").replace("{n}", "1");
        // Refused before the body is read: none of these bodies would be accepted.
        let stale = control_plane.call_with(method, &path, "{}", &[("if-match", "\"1\"")]).await;
        assert_eq!((stale.status, stale.etag.as_str()), (412, "\"2\""), "{method} {path}: {stale:?}");
        let unreadable = control_plane.call_with(method, &path, "{}", &[("if-match", "newest")]).await;
        assert_eq!(unreadable.status, 400, "{method} {path}: {unreadable:?}");
    }
    assert_eq!(control_plane.revision().await, 2);
}

#[tokio::test]
async fn a_dry_run_is_not_audited_and_a_change_is() {
    let control_plane = ControlPlane::start().await;
    control_plane.call("PUT", "/config?dry_run=true", TEXT).await.expect(200);
    control_plane.call("PUT", "/config?dry_run=true", "pools: [").await.expect(400);
    let mut grpc = AdminClient::new(channel(control_plane.admin()).await);
    let dry = v1::ApplyConfigRequest { config_yaml: TEXT.into(), dry_run: true, ..Default::default() };
    grpc.apply_config(dry).await.unwrap();
    let audit = control_plane.get("/audit").await;
    assert_eq!(audit["items"], json!([]));
    control_plane.call("PUT", "/config?dry_run=false", TEXT).await.expect(200);
    let audit = control_plane.get("/audit").await;
    assert_eq!(audit["items"].as_array().unwrap().len(), 1, "{audit}");
}

#[tokio::test]
async fn every_change_can_be_guarded_by_a_revision() {
    let control_plane = ControlPlane::start().await;
    control_plane.add("http://a:1").await;
    control_plane.call("PUT", "/pools/spare", "{}").await.expect(201);
    let seen = control_plane.call("GET", "/pools/default", "").await.etag;
    assert_eq!(seen, "\"3\"");
    control_plane.call("PATCH", "/backends/b1", "{\"weight\":2}").await.expect(200);
    for (method, path, body) in GUARDED {
        let refused = control_plane.call_with(method, path, body, &[("if-match", &seen)]).await;
        assert_eq!(refused.etag, "\"4\"", "{method} {path}");
        let problem = refused.expect(412);
        assert_eq!(problem["revision"], 4, "{method} {path}");
        assert!(problem["detail"].as_str().unwrap().contains("revision 4 is current, not 3"), "{problem}");
        let unreadable = control_plane.call_with(method, path, body, &[("if-match", "newest")]).await;
        unreadable.expect(400);
    }
    assert_eq!(control_plane.revision().await, 4, "nothing has changed");
    for (guard, weight) in [("\"4\"", 5), ("*", 6), ("\"1\", \"6\"", 7)] {
        let body = json!({ "weight": weight }).to_string();
        let changed = control_plane.call_with("PATCH", "/backends/b1", &body, &[("if-match", guard)]).await;
        changed.expect(200);
    }
    for path in
        ["/config", "/pools", "/pools/default", "/routes", "/routes/default", "/backends", "/backends/b1"]
    {
        assert_eq!(control_plane.call("GET", path, "").await.etag, "\"7\"", "{path}");
    }
    let applied = control_plane.call("PUT", "/pools/default", "{\"strategy\":\"random\"}").await;
    assert_eq!((applied.status, applied.etag.as_str()), (200, "\"8\""));
}

/// Each writer adds its own backend by reading the pool, changing it, and writing it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_writers_never_overwrite_each_other() {
    const WRITERS: usize = 4;
    const EACH: usize = 25;
    let control_plane = Arc::new(ControlPlane::start().await);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let control_plane = Arc::clone(&control_plane);
        writers.spawn(async move {
            let mut refused = 0;
            for i in 0..EACH {
                loop {
                    let read = control_plane.call("GET", "/pools/default", "").await;
                    let mut pool = read.json();
                    let url = json!({ "url": format!("http://w{writer}-{i}:80") });
                    pool["backends"].as_array_mut().unwrap().push(url);
                    let guard = [("if-match", read.etag.as_str())];
                    let wrote =
                        control_plane.call_with("PUT", "/pools/default", &pool.to_string(), &guard).await;
                    match wrote.status {
                        200 => break,
                        412 => refused += 1,
                        _ => panic!("{wrote:?}"),
                    }
                }
            }
            refused
        });
    }
    let refused: usize = writers.join_all().await.into_iter().sum();
    let backends = control_plane.get("/backends").await;
    assert_eq!(backends["items"].as_array().unwrap().len(), WRITERS * EACH, "every addition is stored");
    assert_eq!(control_plane.revision().await, 1 + (WRITERS * EACH) as u64);
    assert!(refused > 0, "they did meet");
}

#[tokio::test]
async fn revisions_are_kept_up_to_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let config = control_plane::Config { keep_revisions: 5, ..config(&folder.path().join("weir.db")) };
    let control_plane = ControlPlane::start_in(folder, config).await;
    control_plane.add("http://a:1").await;
    for weight in 2..=20 {
        let body = json!({ "weight": weight }).to_string();
        control_plane.call("PATCH", "/backends/b1", &body).await.expect(200);
    }
    let kept = control_plane.get("/revisions").await;
    let kept: Vec<u64> =
        kept["items"].as_array().unwrap().iter().map(|one| one["revision"].as_u64().unwrap()).collect();
    assert_eq!(kept, [21, 20, 19, 18, 17]);
    for path in ["/revisions/16", "/revisions/1"] {
        let gone = control_plane.call("GET", path, "").await.expect(404);
        let detail = gone["detail"].as_str().unwrap();
        assert!(
            detail.contains("no longer there: those from 17 to 21 are kept (--keep-revisions 5)"),
            "{detail}"
        );
        control_plane.call("POST", &format!("{path}/rollback"), "").await.expect(404);
    }
    let mut admin = AdminClient::new(channel(control_plane.admin()).await);
    let rollback = v1::RollbackRequest { revision: 16, ..Default::default() };
    let gone = admin.rollback(rollback).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    assert!(gone.message().contains("those from 17 to 21 are kept"), "{gone}");
    let never = control_plane.call("POST", "/revisions/99/rollback", "").await.expect(404);
    assert!(
        never["detail"].as_str().unwrap().contains("there is no revision 99: those from 17 to 21 are kept"),
        "{never}"
    );
    control_plane.call("POST", "/revisions/0/rollback", "").await.expect(404);
    assert_eq!(control_plane.revision().await, 21);

    let back = control_plane.call("POST", "/revisions/17/rollback?wait=1s", "").await.expect(200);
    assert_eq!((&back["revision"], &back["active"]), (&json!(22), &json!(true)));
    assert_eq!(control_plane.get("/backends/b1").await["weight"], 16);
    control_plane.call("POST", "/revisions/18/rollback?wait=soon", "").await.expect(400);
}

#[tokio::test]
async fn grpc_guards_and_waits_like_rest() {
    let control_plane = ControlPlane::start().await;
    control_plane.add("http://a:1").await;
    let mut admin = AdminClient::new(channel(control_plane.admin()).await);
    let backend = v1::Backend { id: "b1".into(), weight: Some(2), ..Default::default() };
    let stale = v1::UpdateBackendRequest { backend: Some(backend), if_revision: 1, ..Default::default() };
    let refused = admin.update_backend(stale.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted);
    assert!(refused.message().contains("revision 2 is current"), "{refused}");
    admin.update_backend(v1::UpdateBackendRequest { if_revision: 2, ..stale }).await.unwrap();
    let wait = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let rollback = |if_revision| v1::RollbackRequest { revision: 2, if_revision, wait };
    assert_eq!(admin.rollback(rollback(2)).await.unwrap_err().code(), Code::Aborted);
    assert_eq!(admin.rollback(rollback(3)).await.unwrap().into_inner().revision, 4);

    let revision = admin.get_revision(v1::GetRevisionRequest { revision: 3 }).await.unwrap().into_inner();
    let change = &revision.differences[0];
    assert_eq!(
        (change.action(), change.kind(), change.name.as_str()),
        (v1::DifferenceAction::Change, v1::ResourceKind::Backend, "b1")
    );
    let field = &change.fields[0];
    let two = prost_types::value::Kind::NumberValue(2.0);
    assert_eq!((field.path.as_str(), &field.after.as_ref().unwrap().kind), ("weight", &Some(two)));
    let missing = admin.get_revision(v1::GetRevisionRequest { revision: 99 }).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    let no_file = admin.reload_config(v1::ReloadConfigRequest::default()).await.unwrap_err();
    assert_eq!(no_file.code(), Code::FailedPrecondition);
    let apply = v1::ApplyConfigRequest { config_yaml: TEXT.into(), dry_run: true, ..Default::default() };
    let result = admin.apply_config(apply).await.unwrap().into_inner();
    assert_eq!((result.changes.len(), result.differences[0].fields[0].path.as_str()), (1, "strategy"));
}

#[tokio::test]
async fn the_file_is_read_at_start_and_on_reload() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    std::fs::write(&file, TEXT).unwrap();
    let config =
        control_plane::Config { config: Some(file.clone()), ..config(&folder.path().join("weir.db")) };
    let control_plane = ControlPlane::start_in(folder, config.clone()).await;
    assert_eq!(control_plane.revision().await, 2);
    let folder = control_plane.stop().await;
    let control_plane = ControlPlane::start_in(folder, config).await;
    assert_eq!(control_plane.revision().await, 2, "what does not differ is not applied");
    let same = control_plane.call("POST", "/config/reload", "").await.expect(200);
    assert_eq!(same, json!({ "revision": 2, "changes": [], "warnings": [] }));

    std::fs::write(&file, TEXT.replace("random", "round_robin")).unwrap();
    control_plane.call_with("POST", "/config/reload", "", &[("if-match", "\"1\"")]).await.expect(412);
    let changed = control_plane.call("POST", "/config/reload", "").await.expect(200);
    assert_eq!(changed["changes"], json!(["pool \"default\": strategy random → round_robin"]));
    std::fs::write(&file, "pools: [").unwrap();
    control_plane.call("POST", "/config/reload", "").await.expect(400);
    assert_eq!(control_plane.revision().await, 3, "a broken file changes nothing");
}

#[tokio::test]
async fn the_schema_is_served() {
    let control_plane = ControlPlane::start().await;
    let schema = control_plane.call("GET", "/schema.json", "").await;
    assert_eq!(schema.content_type, "application/schema+json");
    assert_eq!(schema.json(), weir_snapshot::schema::schema());
    let openapi = control_plane.get("/openapi.json").await;
    let pool = &openapi["components"]["schemas"]["Pool"]["properties"];
    assert_eq!(pool["backends"]["items"]["$ref"], "#/components/schemas/ConfigBackend");
    assert!(
        pool["breaker"].is_object()
            && openapi["components"]["schemas"]["Backend"]["properties"]["id"].is_object()
    );
}
