//! REST answers as it is declared: statuses, schemas, tags, locations, pages and filters.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;
#[path = "../../snapshot/tests/validate/mod.rs"]
mod validate;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::{Answer, ControlPlane, node::running};
use weir_admin_api::{
    endpoint::{Method, Operation},
    openapi, operations, parameters,
};

/// Returns the parts of a response that are not declared.
fn undeclared(document: &Value, operation: &Operation, answer: &Answer) -> Vec<String> {
    let method = operation.method.as_str().to_ascii_lowercase();
    let declared = &document["paths"][operation.path][method];
    let Some(response) = declared["responses"].get(answer.status.to_string()) else {
        return vec![format!("status {}", answer.status)];
    };
    let response = match response["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap(),
        None => response,
    };
    let mut wrong = Vec::new();
    for name in ["etag", "location"] {
        let headers = response["headers"].as_object().into_iter().flatten();
        let is_declared = headers.map(|(name, _)| name.to_ascii_lowercase()).any(|one| one == name);
        if answer.headers.contains_key(name) != is_declared {
            wrong.push(format!("header {name}: {:?}, declared {is_declared}", answer.headers.get(name)));
        }
    }
    let kind = answer.content_type.split(';').next().unwrap();
    match response["content"].get(kind) {
        None => wrong.push(format!("content type {kind:?}")),
        Some(media) if kind.ends_with("json") => {
            wrong.extend(validate::errors_in(document, &media["schema"], &answer.json()));
        }
        Some(_) => {}
    }
    wrong
}

fn pem() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// A control plane with one object of each kind.
async fn with_everything() -> ControlPlane {
    let control_plane = ControlPlane::start().await;
    control_plane.add("http://a:1").await;
    control_plane.call("PUT", "/pools/spare", r#"{"backends":[{"url":"http://b:1"}]}"#).await.expect(201);
    control_plane.call("PUT", "/routes/second", r#"{"pool":"spare"}"#).await.expect(201);
    let (cert, key) = pem();
    let certificate = json!({ "cert": cert, "key": key }).to_string();
    control_plane.call("PUT", "/certificates/site", &certificate).await.expect(201);
    control_plane.call("POST", "/node-tokens", "{}").await.expect(201);
    control_plane
}

/// Fills the placeholders of a path with existing objects.
fn filled(path: &str) -> String {
    let name = match path.split('/').nth(1).unwrap() {
        "pools" | "routes" => "default",
        "certificates" => "site",
        _ => "root",
    };
    let id = match path.split('/').nth(1).unwrap() {
        "nodes" => "edge",
        "node-tokens" => "1",
        _ => "b1",
    };
    path.replace("{name}", name).replace("{id}", id).replace("{n}", "1")
}

fn is_read(operation: &Operation) -> bool {
    operation.method == Method::Get && operation.id != "tail"
}

#[tokio::test]
async fn every_read_answers_as_declared() {
    let control_plane = with_everything().await;
    let _node = running(&control_plane, "edge").await;
    let admin = control_plane.token(None, "root", "admin", None).await;
    let document = openapi::document();
    let mut wrong = Vec::new();
    for operation in operations::ALL.iter().filter(|operation| is_read(operation)) {
        let path = match operation.id {
            "explain" => "/explain?url=http://a/".to_owned(),
            _ => filled(operation.path),
        };
        let answer = control_plane.call_as(Some(&admin), "GET", &path, "").await;
        let mut found = undeclared(&document, operation, &answer);
        if answer.status != 200 {
            found.push(format!("{answer:?}"));
        }
        wrong.extend(found.into_iter().map(|what| format!("GET {path}: {what}")));
        if operation.id.starts_with("list") {
            let bad = control_plane.call_as(Some(&admin), "GET", &format!("{path}?x=1"), "").await;
            wrong.extend(undeclared(&document, operation, &bad));
            assert_eq!(bad.status, 400, "{path}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let csv = control_plane.call_as(Some(&admin), "GET", "/reports/top?format=csv", "").await;
    assert_eq!(undeclared(&document, &operations::GET_TOP.operation, &csv), [""; 0]);
}

/// Each change, with a body that it accepts and the status that it then has.
fn changes() -> Vec<(&'static Operation, String, String, u16)> {
    use operations as op;
    let (cert, key) = pem();
    let certificate = json!({ "cert": cert, "key": key }).to_string();
    let text = "pools: [{ name: default }]\nroutes: [{ name: default, pool: default }]";
    let change =
        |operation, path: &str, body: &str, status| (operation, path.to_owned(), body.to_owned(), status);
    vec![
        change(&op::CREATE_BACKEND.operation, "/backends", r#"{"url":"http://c:1"}"#, 201),
        change(&op::UPDATE_BACKEND.operation, "/backends/b1", r#"{"weight":2}"#, 200),
        change(&op::CHECK_BACKEND.operation, "/backends/b1/check", "", 200),
        change(&op::SET_STRATEGY.operation, "/strategy", r#"{"pool":"default","strategy":"random"}"#, 200),
        change(&op::PUT_POOL.operation, "/pools/new", r#"{"backends":[{"url":"http://d:1"}]}"#, 201),
        change(&op::PUT_POOL.operation, "/pools/new", r#"{"strategy":"random"}"#, 200),
        change(&op::DELETE_POOL.operation, "/pools/new", "", 200),
        change(&op::PUT_ROUTE.operation, "/routes/new", r#"{"pool":"default","match":{"path":"/x"}}"#, 201),
        change(&op::DELETE_ROUTE.operation, "/routes/new", "", 200),
        change(&op::PUT_CERTIFICATE.operation, "/certificates/other", &certificate, 201),
        change(&op::DELETE_CERTIFICATE.operation, "/certificates/other", "", 200),
        change(&op::DELETE_BACKEND.operation, "/backends/b1", "", 200),
        change(&op::DELETE_BACKEND_BY_URL.operation, "/backends?url=http://c:1&pool=default", "", 200),
        change(&op::APPLY_CONFIG.operation, "/config?dry_run=true", text, 200),
        change(&op::APPLY_CONFIG.operation, "/config?wait=1ms", text, 504),
        change(&op::ROLLBACK.operation, "/revisions/1/rollback", "", 200),
        change(&op::RELOAD_CONFIG.operation, "/config/reload", "", 409),
        change(&op::EXCLUDE_NODE.operation, "/nodes/edge/exclude", "", 200),
        change(&op::INCLUDE_NODE.operation, "/nodes/edge/include", "", 200),
        change(&op::REVOKE_NODE.operation, "/nodes/edge/revoke", "", 200),
        change(&op::ALLOW_NODE.operation, "/nodes/edge/allow", "", 200),
        change(&op::CREATE_NODE_TOKEN.operation, "/node-tokens", r#"{"uses":2}"#, 201),
        change(&op::DELETE_NODE_TOKEN.operation, "/node-tokens/2", "", 200),
        change(&op::CREATE_TOKEN.operation, "/tokens", r#"{"name":"eyes","role":"viewer"}"#, 201),
        change(&op::DELETE_TOKEN.operation, "/tokens/eyes", "", 200),
    ]
}

#[tokio::test]
async fn every_change_answers_as_declared_and_location_leads_to_what_was_created() {
    let control_plane = with_everything().await;
    let _node = running(&control_plane, "edge").await;
    let admin = control_plane.token(None, "root", "admin", None).await;
    let document = openapi::document();
    let all = changes();
    for operation in operations::ALL.iter().filter(|operation| operation.is_change()) {
        assert!(all.iter().any(|(one, ..)| one.id == operation.id), "{} is not tried", operation.id);
    }
    for (operation, path, body, status) in all {
        let method = operation.method.as_str();
        let answer = control_plane.call_as(Some(&admin), method, &path, &body).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert_eq!(undeclared(&document, operation, &answer), [""; 0], "{method} {path}: {answer:?}");
        if status == 201 {
            let location = answer.headers["location"].to_str().unwrap();
            let created = control_plane.call_as(Some(&admin), "GET", location, "").await.expect(200);
            for (field, value) in created.as_object().unwrap() {
                let changes_by_itself =
                    ["last_check", "last_used", "health", "alive"].contains(&field.as_str());
                assert!(changes_by_itself || answer.json()[field] == *value, "{location}: {field}");
            }
        }
        if operation.has_etag && status < 300 {
            let current = control_plane.call_as(Some(&admin), "GET", "/status", "").await;
            assert_eq!(answer.etag, current.etag, "{method} {path}: the tag is that of the new revision");
        }
    }
}

/// Everything that callers can read and that only changes by calls.
async fn everything(control_plane: &ControlPlane, admin: &str) -> BTreeMap<&'static str, Value> {
    let mut all = BTreeMap::new();
    for path in ["/config", "/revisions", "/tokens", "/node-tokens", "/certificates"] {
        let headers = [("authorization", format!("Bearer {admin}")), ("accept", "application/json".into())];
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut value = control_plane.call_with("GET", path, "", &headers).await.expect(200);
        for token in value["items"].as_array_mut().into_iter().flatten() {
            token["last_used"].take();
        }
        all.insert(path, value);
    }
    let nodes = control_plane.call_as(Some(admin), "GET", "/nodes", "").await.expect(200);
    let kept = |node: &Value| json!([node["id"], node["state"], node["excluded"]]);
    all.insert("/nodes", nodes["items"].as_array().unwrap().iter().map(kept).collect());
    all
}

#[tokio::test]
async fn a_stale_tag_fails_every_change_and_changes_nothing() {
    let control_plane = with_everything().await;
    let _node = running(&control_plane, "edge").await;
    let admin = control_plane.token(None, "root", "admin", None).await;
    let bearer = format!("Bearer {admin}");
    let before = everything(&control_plane, &admin).await;
    let document = openapi::document();
    for (operation, path, body, _) in changes() {
        let headers = [("authorization", bearer.as_str()), ("if-match", "\"1\"")];
        let answer = control_plane.call_with(operation.method.as_str(), &path, &body, &headers).await;
        assert_eq!(answer.status, 412, "{} {path}: {answer:?}", operation.id);
        assert_eq!(undeclared(&document, operation, &answer), [""; 0], "{}", operation.id);
    }
    assert_eq!(everything(&control_plane, &admin).await, before);
}

#[tokio::test]
async fn every_list_has_pages_and_refuses_tokens_that_are_not_its_own() {
    let control_plane = with_everything().await;
    let _nodes = (running(&control_plane, "edge").await, running(&control_plane, "other").await);
    let admin = control_plane.token(None, "root", "admin", None).await;
    control_plane.token(Some(&admin), "eyes", "viewer", None).await;
    control_plane.call_as(Some(&admin), "POST", "/node-tokens", "{}").await.expect(201);
    let (cert, key) = pem();
    let certificate = json!({ "cert": cert, "key": key }).to_string();
    control_plane.call_as(Some(&admin), "PUT", "/certificates/other", &certificate).await.expect(201);
    let get = async |path: &str| control_plane.call_as(Some(&admin), "GET", path, "").await;
    let lists = operations::ALL.iter().filter(|operation| operation.id.starts_with("list"));
    let lists: Vec<&str> = lists.map(|operation| operation.path).collect();
    assert_eq!(lists.len(), 9, "{lists:?}");
    let mut tokens = Vec::new();
    for path in &lists {
        // Rejected calls and `last_used` change meanwhile: only identifying fields are compared.
        let key = |item: &Value| {
            let keys = ["id", "revision", "name"].map(|name| item[name].to_string());
            keys.join(" ")
        };
        let keys = |page: &Value| page["items"].as_array().unwrap().iter().map(key).collect::<Vec<_>>();
        let whole = get(path).await.expect(200);
        let (mut pages, mut query) = (Vec::new(), String::new());
        while pages.len() <= keys(&whole).len() {
            let page = get(&format!("{path}?limit=1{query}")).await.expect(200);
            assert!(keys(&page).len() <= 1, "{path}: {page}");
            pages.extend(keys(&page));
            let Some(token) = page["next_page_token"].as_str() else { break };
            query = format!("&page_token={token}");
            if pages.len() == 1 {
                tokens.push((*path, token.to_owned()));
            }
        }
        assert!(pages.len() > 1, "{path} has no second page");
        assert_eq!(pages, keys(&whole), "{path}");
    }
    for path in &lists {
        for (of, token) in &tokens {
            let answer = get(&format!("{path}?page_token={token}")).await;
            if of == path {
                answer.expect(200);
                continue;
            }
            let problem = answer.expect(400);
            assert_eq!(problem["problems"][0]["path"], "page_token", "{path} with a token of {of}");
        }
        for forged in ["x", "AAAAAAAAAAA", "e30"] {
            let problem = get(&format!("{path}?limit=1&page_token={forged}")).await.expect(400);
            assert_eq!(problem["problems"][0]["path"], "page_token", "{path}: {problem}");
        }
    }
    let first = get("/backends?limit=1&pool=default").await.expect(200);
    assert_eq!(first.get("next_page_token"), None, "{first}");
    let (_, token) = &tokens[0];
    let other_filter = get(&format!("/backends?pool=default&page_token={token}")).await.expect(400);
    assert_eq!(other_filter["problems"][0]["path"], "page_token");
}

#[tokio::test]
async fn older_parameters_of_pages_work_and_are_not_mixed_with_tokens() {
    let control_plane = ControlPlane::start().await;
    for n in 1..4 {
        control_plane.add(&format!("http://a:{n}")).await;
    }
    let numbers = |list: &Value, name: &str| -> Vec<u64> {
        list["items"].as_array().unwrap().iter().map(|item| item[name].as_u64().unwrap()).collect()
    };
    let revisions = control_plane.get("/revisions?before=3&limit=1").await;
    assert_eq!(numbers(&revisions, "revision"), [2]);
    let token = revisions["next_page_token"].as_str().unwrap();
    assert_eq!(numbers(&control_plane.get(&format!("/revisions?page_token={token}")).await, "revision"), [1]);
    let both = control_plane.call("GET", &format!("/revisions?before=3&page_token={token}"), "").await;
    assert_eq!(both.expect(400)["problems"][0]["path"], "page_token");
    let audit = control_plane.get("/audit").await;
    let ids = numbers(&audit, "id");
    let older = control_plane.get(&format!("/audit?after={}", ids[0])).await;
    assert_eq!(numbers(&older, "id"), ids[1..]);
}

#[tokio::test]
async fn lists_are_filtered_by_pool_and_route_and_an_unknown_name_has_a_hint() {
    let control_plane = with_everything().await;
    let fallback = r#"{"pool":"default","fallback":{"pool":"spare"},"match":{"path":"/f"}}"#;
    control_plane.call("PUT", "/routes/third", fallback).await.expect(201);
    for (path, expected) in [
        ("/backends?pool=spare", &["http://b:1"][..]),
        ("/backends?route=second", &["http://b:1"]),
        ("/backends?route=third", &["http://a:1", "http://b:1"]),
        ("/backends?route=third&pool=default", &["http://a:1"]),
        ("/pools?route=default", &["default"]),
        ("/pools?route=third", &["default", "spare"]),
        ("/routes?pool=spare", &["second", "third"]),
        ("/routes?pool=default", &["default", "third"]),
    ] {
        let list = control_plane.get(path).await;
        let field = if path.starts_with("/backends") { "url" } else { "name" };
        let found: Vec<&str> =
            list["items"].as_array().unwrap().iter().map(|item| item[field].as_str().unwrap()).collect();
        assert_eq!(found, expected, "{path}");
    }
    for (path, parameter, hint) in [
        ("/backends?pool=spaer", "pool", "did you mean \"spare\"?"),
        ("/backends?route=secnd", "route", "did you mean \"second\"?"),
        ("/pools?route=secnd", "route", "did you mean \"second\"?"),
        ("/routes?pool=spaer", "pool", "did you mean \"spare\"?"),
        ("/reports/summary?route=secnd", "route", "did you mean \"second\"?"),
        ("/reports/hourly?pool=spaer", "pool", "did you mean \"spare\"?"),
        ("/reports/top?backend=b11", "backend", ""),
        ("/reports/tail?route=secnd", "route", "did you mean \"second\"?"),
    ] {
        let problem = control_plane.call("GET", path, "").await.expect(400);
        let first = &problem["problems"][0];
        assert_eq!(first["path"], parameter, "{path}: {problem}");
        assert!(first["message"].as_str().unwrap().contains(hint), "{path}: {problem}");
    }
}

#[tokio::test]
async fn a_report_of_a_route_that_was_deleted_is_no_mistake() {
    let control_plane = with_everything().await;
    control_plane.call("DELETE", "/routes/second", "").await.expect(200);
    assert_eq!(control_plane.get("/reports/summary?route=second").await["requests"], 0);
}

#[tokio::test]
async fn a_backend_is_deleted_by_url_in_the_query_or_in_the_body() {
    let control_plane = with_everything().await;
    control_plane.call("POST", "/backends", r#"{"url":"http://a:1","pool":"spare"}"#).await.expect(201);
    let twice = control_plane.call("DELETE", "/backends?url=http://a:1", "").await.expect(409);
    assert!(twice["detail"].as_str().unwrap().contains("default, spare"), "{twice}");
    let missing = control_plane.call("DELETE", "/backends?pool=spare", "").await.expect(400);
    assert_eq!(missing["problems"][0]["path"], "url", "{missing}");
    let different = r#"{"url":"http://b:1"}"#;
    let two = control_plane.call("DELETE", "/backends?url=http://a:1", different).await.expect(400);
    assert_eq!(two["problems"][0]["path"], "url", "{two}");
    control_plane.call("DELETE", "/backends?url=http://a:1&pool=spare", "").await.expect(200);
    control_plane.call("DELETE", "/backends", r#"{"url":"HTTP://A:1/"}"#).await.expect(200);
    let left = control_plane.get("/backends").await;
    assert_eq!(left["items"].as_array().unwrap().len(), 1, "{left}");
}

#[test]
fn every_list_takes_the_same_parameters() {
    for operation in operations::ALL.iter().filter(|operation| operation.id.starts_with("list")) {
        let query = (operation.query)(&mut schemars::SchemaGenerator::default());
        for name in ["limit", "page_token"] {
            assert!(query.pointer(&format!("/properties/{name}")).is_some(), "{}: {name}", operation.id);
        }
    }
    assert!(parameters::of::<weir_admin_api::ListQuery>().iter().any(|one| one.name == "limit"));
}
