//! Operations of operators and their error messages: REST and gRPC on the admin port, and the start of the control
//! plane.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use support::{ControlPlane, config, node::channel, within};
use tonic::Code;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use weir_proto::v1::{self, admin_client::AdminClient};

/// Method, path, body, the status of the response, and a part of its detail.
type Bad = (&'static str, &'static str, &'static str, u16, &'static str);

const BAD: &[Bad] = &[
    ("POST", "/backends", r#"{"url":"#, 400, "not JSON"),
    ("POST", "/backends", "", 400, "the body is empty"),
    ("POST", "/backends", "[]", 400, "not a JSON object"),
    ("POST", "/backends", r#"["http://b:1","default",5]"#, 400, "not a JSON object"),
    ("POST", "/backends", r#"{"url":"http://b:1","url":"http://c:1"}"#, 400, "duplicate key \"url\""),
    ("POST", "/backends", r#"{"url":"http://b:1","weight":"3"}"#, 400, "expected a whole number"),
    ("PATCH", "/backends/b1", r#"[7,"active"]"#, 400, "not a JSON object"),
    (
        "PUT",
        "/pools/default",
        r#"{"backends":[{"url":"http://b:1","weight":1,"weight":5}]}"#,
        400,
        "duplicate key",
    ),
    ("POST", "/strategy", r#"["default","random"]"#, 400, "not a JSON object"),
    (
        "PUT",
        "/routes/default",
        r#"{"pool":"default","rate_limit":[5,"1m"]}"#,
        400,
        "rate_limit: invalid type: sequence",
    ),
    ("POST", "/backends", "[]", 400, ""),
    ("POST", "/backends", "{}", 400, "url"),
    ("POST", "/backends", r#"{"url":5}"#, 400, "url"),
    ("POST", "/backends", r#"{"url":"http://b:1","wieght":2}"#, 400, "wieght"),
    ("POST", "/backends", r#"{"url":"b:1"}"#, 400, "no scheme"),
    ("POST", "/backends", r#"{"url":"http://"}"#, 400, "no host"),
    ("POST", "/backends", r#"{"url":"http://b:0"}"#, 400, "invalid port"),
    ("POST", "/backends", r#"{"url":"http://b:65536"}"#, 400, "invalid port"),
    ("POST", "/backends", r#"{"url":"http://b:x"}"#, 400, "invalid port"),
    ("POST", "/backends", r#"{"url":"http://b:1/path"}"#, 400, "path"),
    ("POST", "/backends", r#"{"url":"http://b:1?query"}"#, 400, "query"),
    ("POST", "/backends", r#"{"url":"http://user:word@b:1"}"#, 400, "user information"),
    ("POST", "/backends", r#"{"url":"ftp://b:1"}"#, 400, "unsupported scheme"),
    ("POST", "/backends", r#"{"url":"http://b:1","weight":0}"#, 400, "weight"),
    ("POST", "/backends", r#"{"url":"http://b:1","weight":-1}"#, 400, "weight"),
    ("POST", "/backends", r#"{"url":"http://b:1","weight":1001}"#, 400, "weight"),
    ("POST", "/backends", r#"{"url":"http://b:1","weight":99999999999999999999}"#, 400, "weight"),
    ("POST", "/backends", r#"{"url":"http://b:1","weight":1.5}"#, 400, "weight"),
    ("POST", "/backends", r#"{"url":"http://there:1"}"#, 409, "already in pool"),
    ("POST", "/backends", r#"{"url":"HTTP://THERE:1/"}"#, 409, "already in pool"),
    ("POST", "/backends", r#"{"url":"http://b:1","pool":"nowhere"}"#, 400, "unknown pool"),
    ("PATCH", "/backends/b1", r#"{"weight":0}"#, 400, "weight"),
    ("PATCH", "/backends/b1", r#"{"state":"asleep"}"#, 400, "unknown state"),
    ("PATCH", "/backends/b1", r#"{"url":"http://b:1"}"#, 400, "url"),
    ("PATCH", "/backends/b99", r#"{"weight":2}"#, 404, "b99"),
    ("GET", "/backends/b99", "", 404, "b99"),
    ("DELETE", "/backends/b99", "", 404, "b99"),
    ("POST", "/backends/b99/check", "", 404, "b99"),
    ("DELETE", "/backends", r#"{"url":"http://other:1"}"#, 404, "other"),
    ("DELETE", "/backends", r#"{"url":"other"}"#, 400, "no scheme"),
    ("DELETE", "/backends", r#"{"url":"http://there:1","pool":"nowhere"}"#, 400, "unknown pool"),
    ("GET", "/backends?pool=nowhere", "", 400, "nowhere"),
    ("PUT", "/pools/new", r#"{"strategy":"psychic"}"#, 400, "strategy"),
    ("PUT", "/pools/new", r#"{"name":"other"}"#, 400, "name"),
    ("PUT", "/pools/-", "{}", 400, "not a valid name"),
    ("DELETE", "/pools/nowhere", "", 404, "nowhere"),
    ("DELETE", "/pools/default", "", 409, "route"),
    ("PUT", "/routes/default", r#"{"pool":"nowhere"}"#, 400, "unknown pool"),
    // The hint lists the keys of a route, not those of a configuration.
    ("PUT", "/routes/default", r#"{"zzz":[]}"#, 400, "unknown key (known: allow_methods, "),
    ("PUT", "/routes/default", r#"{"match":{"pathh":"/"}}"#, 400, "did you mean path?"),
    ("PUT", "/pools/new", r#"{"strateggy":"random"}"#, 400, "did you mean strategy?"),
    ("DELETE", "/routes/nowhere", "", 404, "nowhere"),
    ("POST", "/strategy", r#"{"pool":"nowhere","strategy":"random"}"#, 404, "nowhere"),
    ("POST", "/strategy", r#"{"pool":"default","strategy":"psychic"}"#, 400, "unknown strategy"),
    ("PUT", "/config", "", 400, "the configuration is empty"),
    ("PUT", "/config", "null", 400, "the configuration is empty"),
    ("PUT", "/config", "pools: [", 400, ""),
    ("PUT", "/config", "pools:\n- name: a\n  colour: red\n", 400, "colour"),
    ("PUT", "/config?wait=soon", "pools: []", 400, "wait"),
    ("PUT", "/config?dry_run=perhaps", "pools: []", 400, "dry_run"),
    ("PUT", "/config?dryrun=true", "pools: []", 400, "dryrun"),
    ("POST", "/config/reload", "", 409, "--config"),
    ("GET", "/revisions/99", "", 404, "99"),
    ("GET", "/revisions/first", "", 400, "\"first\" is not a number"),
    ("GET", "/revisions?limit=many", "", 400, "limit: is not a whole number"),
    ("GET", "/revisions?x=1", "", 400, "x: unknown parameter (known: before, limit, page_token)"),
    ("POST", "/revisions/99/rollback", "", 404, "99"),
    ("GET", "/reports/tail?path=books", "", 400, "write /books"),
    ("GET", "/reports/tail?method=G@T", "", 400, "is not a method"),
    ("GET", "/nowhere", "", 404, "no such path"),
    ("PUT", "/backends", "{}", 405, "method"),
    ("POST", "/status", "", 405, "method"),
    ("DELETE", "/config", "", 405, "method"),
];

#[tokio::test]
async fn invalid_input_is_rejected_as_a_problem_and_changes_nothing() {
    let control_plane = ControlPlane::start().await;
    assert_eq!(control_plane.add("http://there:1").await, "b1");
    let (revision, before) = (control_plane.revision().await, control_plane.get("/revisions").await);
    let mut wrong = Vec::new();
    for (method, path, body, status, expected) in BAD {
        let answer = control_plane.call(method, path, body).await;
        let is_problem = answer.content_type == "application/problem+json" && {
            let problem = answer.json();
            problem["status"] == *status && problem["detail"].as_str().unwrap().contains(expected)
        };
        if answer.status != *status || !is_problem {
            wrong.push(format!("{method} {path} {body}: {answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(control_plane.revision().await, revision);
    assert_eq!(control_plane.get("/revisions").await, before);
}

#[tokio::test]
async fn problems_of_one_object_have_paths_relative_to_it() {
    let control_plane = ControlPlane::start().await;
    for (path, body, place) in [
        ("/routes/new", r#"{"pool":"nowhere"}"#, "pool"),
        (
            "/routes/new",
            r#"{"split":[{"pool":"default","weight":1},{"pool":"nowhere","weight":1}]}"#,
            "split[1].pool",
        ),
        ("/pools/new", r#"{"backends":[{"url":"http://b:1"},{"url":"http://b:1"}]}"#, "backends[1].url"),
    ] {
        let refused = control_plane.call("PUT", path, body).await.expect(400);
        assert_eq!(refused["problems"][0]["path"], place, "{refused}");
    }
}

#[tokio::test]
async fn backends_are_added_changed_and_removed() {
    let control_plane = ControlPlane::start().await;
    let body = r#"{"url":"HTTP://Books:80/","weight":3}"#;
    let created = control_plane.call("POST", "/backends", body).await.expect(201);
    assert_eq!((&created["id"], &created["url"]), (&json!("b1"), &json!("http://books:80")));
    assert_eq!((&created["pool"], &created["weight"]), (&json!("default"), &json!(3)));
    assert_eq!(control_plane.get("/backends/b1").await["state"], "active");

    let changed = control_plane.call("PATCH", "/backends/b1", r#"{"weight":7,"state":"draining"}"#).await;
    let changed = changed.expect(200);
    assert_eq!((&changed["weight"], &changed["state"]), (&json!(7), &json!("draining")));
    let revision = control_plane.revision().await;
    control_plane.call("PATCH", "/backends/b1", r#"{"weight":7}"#).await.expect(200);
    assert_eq!(control_plane.revision().await, revision, "an unchanged state is not a new revision");

    control_plane.call("DELETE", "/backends/b1", "").await.expect(200);
    assert_eq!(control_plane.get("/backends").await["items"], json!([]));
    control_plane.call("GET", "/backends/b1", "").await.expect(404);
}

#[tokio::test]
async fn a_url_in_several_pools_is_removed_only_from_the_given_pool() {
    let control_plane = ControlPlane::start().await;
    control_plane.call("PUT", "/pools/spare", r#"{"strategy":"random"}"#).await.expect(201);
    control_plane.add("http://a:1").await;
    let body = r#"{"url":"http://a:1","pool":"spare"}"#;
    assert_eq!(control_plane.call("POST", "/backends", body).await.expect(201)["id"], "b2");

    let ambiguous = control_plane.call("DELETE", "/backends", r#"{"url":"http://a:1"}"#).await.expect(409);
    let detail = ambiguous["detail"].as_str().unwrap();
    assert!(detail.contains("default") && detail.contains("spare"), "{detail}");
    assert_eq!(control_plane.get("/backends").await["items"].as_array().unwrap().len(), 2);

    control_plane.call("DELETE", "/backends", body).await.expect(200);
    assert_eq!(control_plane.get("/backends?pool=spare").await["items"], json!([]));
    control_plane.call("DELETE", "/backends", r#"{"url":"http://a:1"}"#).await.expect(200);
    assert_eq!(control_plane.get("/backends").await["items"], json!([]));
}

#[tokio::test]
async fn pools_routes_and_strategies_change() {
    let control_plane = ControlPlane::start().await;
    let pool = r#"{"strategy":"least_connections","backends":[{"url":"http://a:1"},{"url":"http://b:1"}]}"#;
    control_plane.call("PUT", "/pools/books", pool).await.expect(201);
    control_plane.call("PUT", "/pools/books", r#"{"backends":[{"url":"http://b:1"}]}"#).await.expect(200);
    let backends = control_plane.get("/backends?pool=books").await;
    assert_eq!(backends["items"][0]["id"], "b2", "a backend that stays keeps its id");

    let strategy = r#"{"pool":"books","strategy":"random"}"#;
    control_plane.call("POST", "/strategy", strategy).await.expect(200);
    assert_eq!(control_plane.get("/pools/books").await["strategy"], "random");

    control_plane.call("PUT", "/routes/default", r#"{"pool":"books"}"#).await.expect(200);
    assert_eq!(control_plane.get("/routes").await["items"], json!([{"name": "default", "pool": "books"}]));
    control_plane.call("DELETE", "/pools/default", "").await.expect(200);
    control_plane.call("DELETE", "/pools/books", "").await.expect(409);
    control_plane.call("DELETE", "/routes/default", "").await.expect(200);
    control_plane.call("DELETE", "/pools/books", "").await.expect(200);
    assert_eq!(control_plane.get("/pools").await["items"], json!([]));
}

#[tokio::test]
async fn applying_an_exported_configuration_changes_nothing() {
    let control_plane = ControlPlane::start().await;
    control_plane.call("PUT", "/pools/books", r#"{"health_check":{"interval":"1h"}}"#).await.expect(201);
    control_plane.add("http://a:1").await;
    let revision = control_plane.revision().await;
    for accept in ["application/yaml", "application/json"] {
        let exported = control_plane.call_with("GET", "/config", "", &[("accept", accept)]).await;
        assert_eq!((exported.status, exported.content_type.as_str()), (200, accept));
        assert_eq!(exported.etag, format!("\"{revision}\""));
        let applied = control_plane.call("PUT", "/config", &exported.text).await.expect(200);
        assert_eq!(applied, json!({ "revision": revision, "changes": [], "warnings": [] }));
    }
}

#[tokio::test]
async fn a_configuration_is_checked_applied_and_guarded_by_its_revision() {
    let control_plane = ControlPlane::start().await;
    let text = "pools:\n- name: default\n  backends:\n  - url: http://a:1\n\
                routes:\n- name: default\n  pool: default\n";
    let tried = control_plane.call("PUT", "/config?dry_run=true", text).await.expect(200);
    assert_eq!((&tried["revision"], tried["changes"].as_array().unwrap().len()), (&json!(1), 1), "{tried}");
    assert_eq!(control_plane.revision().await, 1, "a dry run changes nothing");

    let stale = control_plane.call_with("PUT", "/config", text, &[("if-match", "\"7\"")]).await;
    stale.expect(412);
    control_plane.call_with("PUT", "/config", text, &[("if-match", "newest")]).await.expect(400);
    assert_eq!(control_plane.revision().await, 1);
    let applied = control_plane.call_with("PUT", "/config?wait=1s", text, &[("if-match", "\"1\"")]).await;
    let applied = applied.expect(200);
    assert_eq!(
        (&applied["revision"], &applied["active"]),
        (&json!(2), &json!(true)),
        "no node has to be waited for"
    );
    assert_eq!(control_plane.get("/backends").await["items"][0]["id"], "b1");
}

#[tokio::test]
async fn revisions_record_their_author_and_can_be_rolled_back() {
    let control_plane = ControlPlane::start().await;
    control_plane.add("http://a:1").await;
    control_plane.call("DELETE", "/backends/b1", "").await.expect(200);

    let revisions = control_plane.get("/revisions").await;
    let newest = &revisions["items"][0];
    assert_eq!((&newest["revision"], &newest["source"]), (&json!(3), &json!("rest")));
    assert_eq!(newest["actor"], "anonymous@127.0.0.1");
    assert_eq!(newest["changes"], json!([r#"backend b1 http://a:1 removed from pool "default""#]));
    assert!(newest["time"].as_str().unwrap().ends_with('Z'), "{newest}");
    assert_eq!(revisions["items"][2]["source"], "start");
    let page = control_plane.get("/revisions?before=3&limit=1").await;
    assert_eq!((page["items"].as_array().unwrap().len(), &page["items"][0]["revision"]), (1, &json!(2)));
    let one = control_plane.get("/revisions/2").await;
    assert_eq!(
        (&one["diff"][0]["before"], &one["diff"][0]["after"]["url"]),
        (&Value::Null, &json!("http://a:1"))
    );

    let back = control_plane.call("POST", "/revisions/2/rollback", "").await.expect(200);
    assert_eq!(back["revision"], 4, "a rollback is a revision too");
    assert_eq!(control_plane.get("/backends/b1").await["url"], "http://a:1");
    let again = control_plane.call("POST", "/revisions/2/rollback", "").await.expect(200);
    assert_eq!(again, json!({ "revision": 4, "changes": [], "warnings": [] }));
}

#[tokio::test]
async fn an_id_is_never_reused() {
    let control_plane = ControlPlane::start().await;
    assert_eq!(control_plane.add("http://a:1").await, "b1");
    control_plane.call("DELETE", "/backends/b1", "").await.expect(200);
    let control_plane = control_plane.killed_and_started().await;
    assert_eq!(control_plane.add("http://a:1").await, "b2");
}

#[tokio::test]
async fn acknowledged_changes_survive_a_kill() {
    let control_plane = ControlPlane::start().await;
    control_plane.add("http://a:1").await;
    let (revision, exported) =
        (control_plane.revision().await, control_plane.call("GET", "/config", "").await);
    let control_plane = control_plane.killed_and_started().await;
    assert_eq!(control_plane.revision().await, revision);
    assert_eq!(control_plane.call("GET", "/config", "").await.text, exported.text);
}

/// The error of a failed start, in one line.
async fn refused(config: control_plane::Config) -> String {
    match within("the start's end", control_plane::start(config)).await {
        Ok(_) => panic!("it starts"),
        Err(error) => format!("{error:#}"),
    }
}

#[tokio::test]
async fn an_unusable_database_is_rejected_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.db");
    let is_rejected_with = async |words: &str| {
        let error = refused(config(&path)).await;
        assert!(error.contains(words) && error.contains("weir.db"), "{error}");
    };
    std::fs::write(&path, "This is a letter and not a database.\n".repeat(100)).unwrap();
    is_rejected_with("not a SQLite database").await;
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("This is a letter"), "the file is unchanged");
    std::fs::remove_file(&path).unwrap();

    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut other = options.connect().await.unwrap();
    sqlx::query("CREATE TABLE recipes (name TEXT)").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    is_rejected_with("database of another program").await;
    std::fs::remove_file(&path).unwrap();

    std::fs::create_dir(&path).unwrap();
    is_rejected_with("folder").await;
    std::fs::remove_dir(&path).unwrap();

    let missing = refused(config(&folder.path().join("missing/weir.db"))).await;
    assert!(missing.contains("missing/weir.db") && missing.contains("folder"), "{missing}");
}

#[tokio::test]
async fn a_read_only_or_newer_database_is_rejected_with_its_path() {
    let folder = ControlPlane::start().await.stop().await;
    let path = folder.path().join("weir.db");
    let writable = std::fs::metadata(&path).unwrap().permissions();
    let mut read_only = writable.clone();
    read_only.set_readonly(true);
    std::fs::set_permissions(&path, read_only).unwrap();
    let error = refused(config(&path)).await;
    assert!(error.contains("read-only") && error.contains("weir.db"), "{error}");
    std::fs::set_permissions(&path, writable).unwrap();

    let mut newer = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    let migration = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                     VALUES (9999, 'from the future', 1, x'00', 0)";
    sqlx::query(migration).execute(&mut newer).await.unwrap();
    newer.close().await.unwrap();
    let error = refused(config(&path)).await;
    assert!(error.contains("newer version") && error.contains("9999"), "{error}");
    assert!(error.contains("weir.db"), "{error}");
}

#[tokio::test]
async fn the_error_names_a_port_in_use_and_the_database_is_unchanged() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.db");
    for (flag, config) in [
        ("--admin", control_plane::Config { admin: address, ..config(&path) }),
        ("--nodes", control_plane::Config { nodes: address, ..config(&path) }),
    ] {
        let error = refused(config).await;
        assert!(error.contains(flag) && error.contains(&address.to_string()), "{error}");
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn an_invalid_file_is_rejected_with_all_its_problems() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    std::fs::write(&file, "pools:\n- name: a\n  backends:\n  - url: a:1\n  - url: http://b:0\n").unwrap();
    let start = |file: &std::path::Path| control_plane::Config {
        config: Some(file.to_owned()),
        ..config(&folder.path().join("weir.db"))
    };
    let error = refused(start(&file)).await;
    for words in ["weir.yaml", "no scheme", "invalid port", "pools[0].backends[1]"] {
        assert!(error.contains(words), "{words}: {error}");
    }
    let error = refused(start(&folder.path().join("absent.yaml"))).await;
    assert!(error.contains("absent.yaml"), "{error}");
}

#[tokio::test]
async fn grpc_offers_the_same_operations_as_rest() {
    let control_plane = ControlPlane::start().await;
    let mut admin = AdminClient::new(channel(control_plane.admin()).await);
    let create = |url: &str, weight| {
        let backend = v1::Backend { url: url.into(), weight, ..Default::default() };
        v1::CreateBackendRequest { backend: Some(backend), ..Default::default() }
    };
    let created = admin.create_backend(create("http://a:1", Some(2))).await.unwrap().into_inner();
    assert_eq!(
        (created.id.as_str(), created.weight, created.state(), created.revision),
        ("b1", Some(2), v1::BackendState::Active, 2)
    );
    assert_eq!(control_plane.get("/backends/b1").await["weight"], 2);

    let code = |status: tonic::Status| status.code();
    let refusal = admin.create_backend(create("http://a:1", None)).await.unwrap_err();
    assert_eq!(code(refusal), Code::FailedPrecondition);
    for wrong in [create("a:1", None), create("http://b:1", Some(0)), create("", None)] {
        assert_eq!(code(admin.create_backend(wrong).await.unwrap_err()), Code::InvalidArgument);
    }
    let unknown = v1::GetBackendRequest { id: "b99".into() };
    assert_eq!(code(admin.get_backend(unknown).await.unwrap_err()), Code::NotFound);

    let disabled = v1::BackendState::Disabled;
    let backend = v1::Backend { id: "b1".into(), state: disabled.into(), ..Default::default() };
    let update = v1::UpdateBackendRequest { backend: Some(backend), ..Default::default() };
    assert_eq!(admin.update_backend(update).await.unwrap().into_inner().state(), disabled);
    let strategy =
        v1::SetStrategyRequest { pool: "default".into(), strategy: "random".into(), ..Default::default() };
    assert_eq!(admin.set_strategy(strategy).await.unwrap().into_inner().revision, 4);
    let config_yaml = admin.get_config(v1::GetConfigRequest {}).await.unwrap().into_inner().config_yaml;
    let apply = |if_revision| v1::ApplyConfigRequest {
        config_yaml: config_yaml.clone(),
        if_revision,
        ..Default::default()
    };
    assert_eq!(code(admin.apply_config(apply(3)).await.unwrap_err()), Code::Aborted);
    assert!(admin.apply_config(apply(4)).await.unwrap().into_inner().changes.is_empty());

    let by_url = v1::delete_backend_request::Backend::Url("http://a:1".into());
    let delete = v1::DeleteBackendRequest { backend: Some(by_url), ..Default::default() };
    assert_eq!(admin.delete_backend(delete).await.unwrap().into_inner().revision, 5);
    let revisions = admin.list_revisions(v1::ListRevisionsRequest::default()).await.unwrap().into_inner();
    let newest = &revisions.revisions[0];
    assert_eq!((newest.source.as_str(), newest.actor.as_str()), ("grpc", "anonymous@127.0.0.1"));
    admin.rollback(v1::RollbackRequest { revision: 4, ..Default::default() }).await.unwrap();
    let status = admin.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.revision, status.backends[0].id.as_str()), (6, "b1"));
}

#[tokio::test]
async fn reflection_lists_the_services_of_each_port() {
    let control_plane = ControlPlane::start().await;
    for (address, wanted) in [
        (control_plane.admin(), &["weir.v1.Admin", "weir.v1.Reports", "grpc.health.v1.Health"]),
        (
            control_plane.nodes(),
            &["weir.v1.Nodes", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"],
        ),
    ] {
        let mut reflection = ServerReflectionClient::new(channel(address).await);
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let request = tokio_stream::iter([request]);
        let mut answers = reflection.server_reflection_info(request).await.unwrap().into_inner();
        let answer = within("the list", answers.message()).await.unwrap().unwrap();
        let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
            panic!("{answer:?}")
        };
        let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
        assert!(wanted.iter().all(|name| names.iter().any(|one| one == name)), "{names:?}");
    }
}
