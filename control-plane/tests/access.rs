//! Authorization on the admin port: every path of openapi.json and every gRPC method is called without a token, with
//! invalid tokens, and with too low a role.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::{Duration, Instant};

use control_plane::access::{Need, Role, table};
use serde_json::Value;
use support::{Answer, ControlPlane, DEADLINE, grpc, within};
use tonic::Code;

/// One token of each kind.
struct Tokens {
    admin: String,
    operator: String,
    viewer: String,
    revoked: String,
    expired: String,
}

async fn tokens(control_plane: &ControlPlane) -> Tokens {
    let admin = control_plane.token(None, "root", "admin", None).await;
    let by = Some(admin.as_str());
    let operator = control_plane.token(by, "day", "operator", Some("30d")).await;
    let viewer = control_plane.token(by, "eyes", "viewer", None).await;
    let revoked = control_plane.token(by, "gone", "admin", None).await;
    control_plane.call_as(by, "DELETE", "/tokens/gone", "").await.expect(200);
    let expired = control_plane.token(by, "late", "admin", Some("1s")).await;
    let begun = Instant::now();
    let mut again = tokio::time::interval(Duration::from_millis(50));
    while control_plane.call_as(Some(&expired), "GET", "/status", "").await.status != 401 {
        assert!(begun.elapsed() < DEADLINE, "it does not expire");
        again.tick().await;
    }
    Tokens { admin, operator, viewer, revoked, expired }
}

fn header(answer: &Answer, name: &str) -> String {
    answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// Method and path of every operation in openapi.json, with the requirement from the table.
async fn paths(control_plane: &ControlPlane) -> Vec<(String, String, Need)> {
    let document = control_plane.get("/openapi.json").await;
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let method = method.to_ascii_uppercase();
            let row = table::REST.iter().find(|(verb, known, _)| *verb == method && known == path);
            let (.., need) = row.unwrap_or_else(|| panic!("{method} {path} is not in access/table.rs"));
            let declared = operation["x-weir-role"].as_str();
            assert_eq!(
                declared,
                match need {
                    Need::Role(role) => Some(role.as_str()),
                    Need::Nothing => None,
                }
            );
            all.push((method, path.replace("{id}", "b1").replace("{n}", "1").replace("{name}", "x"), *need));
        }
    }
    assert!(all.len() > 30);
    all
}

#[tokio::test]
async fn every_path_rejects_a_missing_or_insufficient_token() {
    let control_plane = ControlPlane::start().await;
    let Tokens { viewer, operator, revoked, expired, admin } = tokens(&control_plane).await;
    let before =
        control_plane.call_as(Some(&admin), "GET", "/status", "").await.expect(200)["revision"].clone();
    let wrong = format!("weir_{}", "0".repeat(64));
    for (method, path, need) in paths(&control_plane).await {
        let what = format!("{method} {path}");
        let Need::Role(role) = need else {
            assert!(control_plane.call(&method, &path, "").await.status < 400, "{what}");
            continue;
        };
        for (name, token) in [
            ("nothing", None),
            ("revoked", Some(&revoked)),
            ("expired", Some(&expired)),
            ("wrong", Some(&wrong)),
        ] {
            let answer = control_plane.call_as(token.map(String::as_str), &method, &path, "").await;
            assert_eq!(answer.status, 401, "{what} with {name}: {answer:?}");
            assert!(header(&answer, "www-authenticate").starts_with("Bearer"), "{what} with {name}");
            assert_eq!(answer.content_type, "application/problem+json", "{what} with {name}");
        }
        for (has, token) in [(Role::Viewer, &viewer), (Role::Operator, &operator)] {
            if has < role {
                let answer = control_plane.call_as(Some(token), &method, &path, "").await;
                assert_eq!(answer.status, 403, "{what} with role {has}: {answer:?}");
            }
        }
        if role == Role::Viewer && !path.ends_with("/tail") {
            let answer = control_plane.call_as(Some(&viewer), &method, &path, "").await;
            assert!(![401, 403].contains(&answer.status), "{what}: {answer:?}");
        }
    }
    let after =
        control_plane.call_as(Some(&admin), "GET", "/status", "").await.expect(200)["revision"].clone();
    assert_eq!(before, after, "nothing has changed");
}

#[tokio::test]
async fn every_grpc_method_rejects_a_missing_or_insufficient_token() {
    let control_plane = ControlPlane::start().await;
    let Tokens { viewer, operator, revoked, expired, .. } = tokens(&control_plane).await;
    let methods = [grpc::methods("weir.v1.Admin"), grpc::methods("weir.v1.Reports")].concat();
    assert!(methods.len() > 20);
    for method in methods {
        let row = table::rpcs().find(|(known, _)| *known == method);
        let (_, rule) = row.unwrap_or_else(|| panic!("{method} is not in access/table.rs"));
        let Need::Role(role) = rule.need else { panic!("{method} needs no token") };
        for token in [None, Some(revoked.as_str()), Some(expired.as_str()), Some("nonsense")] {
            assert_eq!(grpc::call(&control_plane, token, &method).await, Code::Unauthenticated, "{method}");
        }
        for (has, token) in [(Role::Viewer, &viewer), (Role::Operator, &operator)] {
            let code = grpc::call(&control_plane, Some(token), &method).await;
            if has < role {
                assert_eq!(code, Code::PermissionDenied, "{method} with role {has}");
            } else {
                assert!(
                    ![Code::Unauthenticated, Code::PermissionDenied].contains(&code),
                    "{method}: {code:?}"
                );
            }
        }
    }
    let unknown = grpc::call(&control_plane, None, "/weir.v1.Admin/Nothing").await;
    assert_eq!(unknown, Code::Unauthenticated);
    assert_eq!(grpc::call(&control_plane, None, "/grpc.health.v1.Health/Check").await, Code::Ok);
}

/// No REST, dashboard or gRPC call that a viewer or an operator may make shows a password hash, neither of the current
/// configuration nor of any revision.
#[tokio::test]
async fn hashes_of_passwords_are_shown_to_admins_only() {
    let control_plane = ControlPlane::start().await;
    let Tokens { admin, operator, viewer, .. } = tokens(&control_plane).await;
    let hash = |c: &str| format!("$2b$10${}", c.repeat(53));
    let route = |users: Value| serde_json::json!({ "pool": "default", "basic_auth": users }).to_string();
    let put = async |body: String| {
        let answer = control_plane.call_as(Some(&admin), "PUT", "/routes/x", &body).await;
        assert!(answer.status < 300, "{answer:?}");
    };
    // The hash is added with its route, is changed, is removed, returns with its filter, and is added for a user.
    let users = |users: Value| serde_json::json!({ "users": users });
    put(route(users(serde_json::json!({ "anna": hash("a") })))).await;
    put(route(users(serde_json::json!({ "anna": hash("b") })))).await;
    put(route(Value::Null)).await;
    put(route(users(serde_json::json!({ "anna": hash("c") })))).await;
    put(route(users(serde_json::json!({ "anna": hash("c"), "bert": hash("d") })))).await;
    let newest =
        control_plane.call_as(Some(&admin), "GET", "/status", "").await.expect(200)["revision"].clone();
    let revisions: Vec<u64> = (1..=newest.as_u64().unwrap()).collect();

    let seen = async |token: &str| {
        let mut all = Vec::new();
        let pages = table::REST.iter().chain(table::DASHBOARD);
        for (_, path, _) in pages.filter(|(method, path, _)| *method == "GET" && !path.ends_with("/tail")) {
            if *path == "/ui/events" {
                continue;
            }
            let path = path.replace("{id}", "b1").replace("{name}", "x");
            for number in if path.contains("{n}") { &revisions[..] } else { &[1] } {
                let path = path.replace("{n}", &number.to_string());
                let answer = control_plane.call_as(Some(token), "GET", &path, "").await;
                all.push((format!("GET {path}"), answer.text.into_bytes()));
            }
        }
        for (method, rule) in table::rpcs().filter(|(method, _)| !method.ends_with("/Tail")) {
            if rule.changes || !method.starts_with("/weir.") {
                continue;
            }
            for number in if method.ends_with("/GetRevision") { &revisions[..] } else { &[0] } {
                // A message whose first field is this number; empty for a message without fields.
                let number = u8::try_from(*number).unwrap();
                let message = if number == 0 { Vec::new() } else { vec![8, number] };
                let (_, answer) = grpc::answer(&control_plane, Some(token), method, &message).await;
                all.push((format!("{method} {number}"), answer));
            }
        }
        all
    };
    let shows = |answer: &[u8]| {
        // The schema has hashes as examples; this looks for hashes of the configuration.
        answer
            .windows(17)
            .any(|part| part.starts_with(b"$2b$10$") && part[7..].iter().all(|byte| *byte == part[7]))
    };
    for token in [&viewer, &operator] {
        for (call, answer) in seen(token).await {
            assert!(!shows(&answer), "{call} shows a hash: {}", String::from_utf8_lossy(&answer));
        }
    }
    let shown: Vec<String> =
        seen(&admin).await.into_iter().filter(|(_, answer)| shows(answer)).map(|(call, _)| call).collect();
    for call in [
        "GET /config",
        "GET /routes",
        "GET /routes/x",
        "/weir.v1.Admin/GetConfig 0",
        "/weir.v1.Admin/ListRoutes 0",
    ] {
        assert!(shown.iter().any(|one| one == call), "an admin does not see it in {call}: {shown:?}");
    }
    assert!(shown.iter().any(|call| call.starts_with("GET /revisions/")), "{shown:?}");
    // A viewer's export cannot be applied by accident.
    let exported = control_plane.call_as(Some(&viewer), "GET", "/config", "").await.text;
    let refused = control_plane.call_as(Some(&admin), "PUT", "/config", &exported).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(
        refused.text.contains("basic_auth.users.anna") && refused.text.contains("is a masked hash"),
        "{refused:?}"
    );
}

async fn audit(control_plane: &ControlPlane, admin: &str) -> Vec<Value> {
    let list = control_plane.call_as(Some(admin), "GET", "/audit?limit=1000", "").await.expect(200);
    list["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn changes_and_refusals_are_audited_with_actor_and_outcome() {
    let control_plane = ControlPlane::start().await;
    let Tokens { admin, operator, viewer, revoked, expired } = tokens(&control_plane).await;
    let body = r#"{"url":"http://127.0.0.1:1"}"#;
    control_plane.call_as(Some(&operator), "POST", "/backends", body).await.expect(201);
    assert_eq!(control_plane.call_as(Some(&operator), "POST", "/backends", "{").await.status, 400);
    assert_eq!(control_plane.call_as(Some(&viewer), "POST", "/backends", body).await.status, 403);
    assert_eq!(control_plane.call_as(None, "PUT", "/config", "").await.status, 401);
    assert_eq!(control_plane.call_as(Some(&revoked), "GET", "/status", "").await.status, 401);
    assert_eq!(
        grpc::call(&control_plane, Some(&expired), "/weir.v1.Admin/GetStatus").await,
        Code::Unauthenticated
    );
    assert_eq!(
        grpc::call(&control_plane, Some(&operator), "/weir.v1.Admin/CreateBackend").await,
        Code::InvalidArgument
    );

    let entries = audit(&control_plane, &admin).await;
    let has = |actor: &str, action: &str, outcome: &str| {
        let found = entries
            .iter()
            .find(|one| one["actor"] == actor && one["action"] == action && one["outcome"] == outcome);
        found.unwrap_or_else(|| panic!("{actor} {action} {outcome} is not in {entries:#?}")).clone()
    };
    let added = has("day", "POST /backends", "ok");
    assert!(added["role"] == "operator" && added["source"] == "rest", "{added}");
    let revision = added["revision"].as_u64().unwrap();
    let entry =
        control_plane.call_as(Some(&viewer), "GET", &format!("/revisions/{revision}"), "").await.expect(200);
    assert_eq!(entry["actor"], "day");
    assert!(has("day", "POST /backends", "failed")["detail"].as_str().unwrap().starts_with("400"));
    assert_eq!(has("eyes", "POST /backends", "refused")["role"], "viewer");
    has("anonymous@127.0.0.1", "PUT /config", "refused");
    assert!(
        has("anonymous@127.0.0.1", "GET /status", "refused")["detail"]
            .as_str()
            .unwrap()
            .contains("\"gone\" was revoked")
    );
    let late = has("anonymous@127.0.0.1", "weir.v1.Admin/GetStatus", "refused");
    assert!(
        late["source"] == "grpc" && late["detail"].as_str().unwrap().contains("\"late\" has expired"),
        "{late}"
    );
    has("day", "weir.v1.Admin/CreateBackend", "failed");
    let made = entries.iter().filter(|one| one["action"] == "POST /tokens" && one["outcome"] == "ok");
    let made: Vec<&str> = made.filter_map(|one| one["detail"].as_str()).collect();
    assert!(made.iter().any(|one| one.starts_with("token \"day\" with role operator created")), "{made:?}");
    assert!(
        has("root", "DELETE /tokens/gone", "ok")["detail"].as_str().unwrap().contains("\"gone\" with role")
    );
    assert!(entries.iter().all(|one| one["action"] != "GET /audit"), "reading is not a change");
    let text = format!("{entries:?}");
    assert!(!text.contains(&admin) && !text.contains(&revoked), "the audit log contains no token");
    // Page by page.
    let page = control_plane.call_as(Some(&admin), "GET", "/audit?limit=2", "").await.expect(200);
    let last = page["items"][1]["id"].as_i64().unwrap();
    let next = control_plane
        .call_as(Some(&admin), "GET", &format!("/audit?limit=2&after={last}"), "")
        .await
        .expect(200);
    assert!(next["items"][0]["id"].as_i64().unwrap() < last);
}

#[tokio::test]
async fn loopback_is_open_until_the_first_token_which_is_an_admins() {
    let control_plane = ControlPlane::start().await;
    assert_eq!(control_plane.call("GET", "/tokens", "").await.expect(200)["items"], serde_json::json!([]));
    let first = |role: &str| serde_json::json!({ "name": "one", "role": role }).to_string();
    assert_eq!(control_plane.call("POST", "/tokens", &first("viewer")).await.status, 409);
    let passing = r#"{"name":"one","role":"admin","expires":"1h"}"#;
    assert_eq!(control_plane.call("POST", "/tokens", passing).await.status, 409);
    assert_eq!(
        control_plane.call_as(Some("nonsense"), "GET", "/status", "").await.status,
        401,
        "what is shown has to be good"
    );
    let made = control_plane.call("POST", "/tokens", &first("admin")).await;
    assert_eq!(header(&made, "cache-control"), "no-store");
    let admin = made.expect(201)["token"].as_str().unwrap().to_owned();
    assert!(admin.starts_with("weir_") && admin.len() == 69, "{admin}");
    for path in ["/status", "/metrics", "/tokens"] {
        assert_eq!(control_plane.call("GET", path, "").await.status, 401, "{path}");
    }
    for path in ["/healthz", "/readyz", "/openapi.json", "/ui/login", "/ui/style.css"] {
        assert_eq!(control_plane.call("GET", path, "").await.status, 200, "{path}");
    }
    // No call can lock out all callers, not even with an admin token that expires.
    let passing = passing.replace("one", "two");
    control_plane.call_as(Some(&admin), "POST", "/tokens", &passing).await.expect(201);
    assert_eq!(control_plane.call_as(Some(&admin), "DELETE", "/tokens/one", "").await.status, 409);
    assert_eq!(control_plane.call_as(Some(&admin), "POST", "/tokens", &first("admin")).await.status, 409);
    let list = control_plane.call_as(Some(&admin), "GET", "/tokens", "").await;
    assert!(!list.text.contains(&admin) && list.text.contains("last_used"), "{list:?}");

    // Only its hash is in the database, and it is valid after a restart.
    let control_plane = control_plane.killed_and_started().await;
    let file = std::fs::read(control_plane.database()).unwrap();
    let secret = admin.strip_prefix("weir_").unwrap().as_bytes();
    assert!(!file.windows(secret.len()).any(|window| window == secret), "the token is in the database");
    assert_eq!(control_plane.call("GET", "/status", "").await.status, 401);
    control_plane.call_as(Some(&admin), "GET", "/status", "").await.expect(200);
}

#[tokio::test]
async fn the_first_token_is_written_to_the_token_file_once() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let wanted = file.clone();
    let control_plane = ControlPlane::start_with(|config| config.token_file = Some(wanted)).await;
    let read = || std::fs::read_to_string(&file).unwrap().trim().to_owned();
    let token = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(control_plane.call("GET", "/status", "").await.status, 401);
    control_plane.call_as(Some(&token), "GET", "/tokens", "").await.expect(200);
    // The next start keeps a valid token, and creates a new one if the file was lost.
    let database = control_plane.stop().await;
    let again = async || {
        let config = control_plane::Config {
            token_file: Some(file.clone()),
            ..support::config(&database.path().join("weir.db"))
        };
        control_plane::start(config).await.unwrap().shutdown().await;
    };
    again().await;
    assert_eq!(read(), token);
    std::fs::remove_file(&file).unwrap();
    again().await;
    let made = read();
    assert!(made.starts_with("weir_") && made != token);
    // Neither a token of another role nor other content is overwritten.
    let control_plane =
        ControlPlane::start_with(|config| config.token_file = Some(folder.path().join("own"))).await;
    let own = std::fs::read_to_string(folder.path().join("own")).unwrap();
    let viewer = control_plane.token(Some(own.trim()), "anna", "viewer", None).await;
    let database = control_plane.stop().await;
    for (content, reason) in [
        (viewer.as_str(), "it contains the valid token \"anna\" with role viewer"),
        ("important", "it contains something other than a token"),
    ] {
        std::fs::write(&file, content).unwrap();
        let config = control_plane::Config {
            token_file: Some(file.clone()),
            join_token_file: None,
            ..support::config(&database.path().join("weir.db"))
        };
        let error = format!("{:#}", control_plane::start(config).await.err().unwrap());
        assert!(error.contains("--token-file") && error.contains(reason), "{error}");
        assert_eq!(read(), content);
    }
    // The same rules hold for a join token's file.
    let config = control_plane::Config {
        join_token_file: Some(file.clone()),
        ..support::config(&database.path().join("weir.db"))
    };
    let error = format!("{:#}", control_plane::start(config).await.err().unwrap());
    assert!(error.contains("--join-token-file") && error.contains("something other than a token"), "{error}");
    assert_eq!(read(), "important");
}

#[tokio::test]
async fn malformed_tokens_are_rejected() {
    let control_plane = ControlPlane::start().await;
    let admin = control_plane.token(None, "root", "admin", None).await;
    let long = format!("Bearer {}", "a".repeat(20_000));
    for wrong in [
        "Bearer",
        "Bearer ",
        "Basic cm9vdDp4",
        "bearer weir_",
        &admin,
        &format!("Bearer {admin}0"),
        &long,
        "Bearer \u{e9}",
    ] {
        let answer = control_plane.call_with("GET", "/status", "", &[("authorization", wrong)]).await;
        assert_eq!(answer.status, 401, "{wrong:.40}: {answer:?}");
        assert!(header(&answer, "www-authenticate").contains("invalid_token"), "{wrong:.40}");
    }
    let twice = [("authorization", format!("Bearer {admin}")), ("authorization", "Bearer x".to_owned())];
    let twice: Vec<(&str, &str)> = twice.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(control_plane.call_with("GET", "/status", "", &twice).await.status, 401);
    let fine = format!("bearer  {admin} ");
    assert_eq!(control_plane.call_with("GET", "/status", "", &[("authorization", &fine)]).await.status, 200);
    let huge = "a".repeat(200_000);
    let answer = control_plane.call_with("GET", "/status", "", &[("x-huge", &huge)]).await;
    assert_eq!(answer.status, 431, "{answer:?}");
    for (body, path) in [
        (r#"{"name":"a b","role":"viewer"}"#, "name"),
        (r#"{"name":"","role":"viewer"}"#, "name"),
        (r#"{"name":"a","role":"root"}"#, "role"),
        (r#"{"name":"a","role":"viewer","expires":"soon"}"#, "expires"),
        (r#"{"name":"a","role":"viewer","expires":"0s"}"#, "expires"),
        (r#"{"name":"a","role":"viewer","for":"x"}"#, "for"),
    ] {
        let answer = control_plane.call_as(Some(&admin), "POST", "/tokens", body).await.expect(400);
        assert_eq!(answer["problems"][0]["path"], path, "{body}: {answer}");
    }
    assert_eq!(control_plane.call_as(Some(&admin), "DELETE", "/tokens/nobody", "").await.status, 404);
    let made =
        control_plane.call_as(Some(&admin), "POST", "/tokens", r#"{"name":"ci","role":"viewer"}"#).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(control_plane.call_as(Some(&admin), "DELETE", "/tokens/ci", "").await.status, 200);
    let again = control_plane.call_as(Some(&admin), "DELETE", "/tokens/ci", "").await.expect(409);
    assert!(again["detail"].as_str().unwrap().contains("is revoked already"), "{again}");
    assert_eq!(control_plane.call_as(Some(&admin), "GET", "/audit?limit=x", "").await.status, 400);
}

#[tokio::test]
async fn a_foreign_host_name_is_rejected_while_the_port_is_open() {
    let control_plane = ControlPlane::start_with(|config| config.admin_host = vec!["weir.test".into()]).await;
    for name in ["evil.example", "evil.example:8081", "127.0.0.1.evil.example"] {
        let answer = control_plane.call_with("GET", "/status", "", &[("host", name)]).await;
        assert_eq!(answer.status, 421, "{name}: {answer:?}");
        assert_eq!(control_plane.call_with("GET", "/", "", &[("host", name)]).await.status, 421, "{name}");
        assert_eq!(
            control_plane.call_with("GET", "/healthz", "", &[("host", name)]).await.status,
            200,
            "{name}"
        );
    }
    for name in ["localhost:1", "weir.test", "127.0.0.1"] {
        assert_eq!(
            control_plane.call_with("GET", "/status", "", &[("host", name)]).await.status,
            200,
            "{name}"
        );
    }
    let entries = control_plane.get("/audit").await;
    assert!(entries["items"][0]["detail"].as_str().unwrap().contains("evil.example"), "{entries}");
}

#[tokio::test]
async fn no_other_site_may_read_an_answer() {
    let control_plane = ControlPlane::start().await;
    let foreign = [("origin", "https://evil.example"), ("access-control-request-method", "PUT")];
    for (method, path) in
        [("OPTIONS", "/config"), ("GET", "/status"), ("OPTIONS", "/weir.v1.Admin/GetStatus"), ("GET", "/")]
    {
        let answer = control_plane.call_with(method, path, "", &foreign).await;
        let cors: Vec<_> =
            answer.headers.keys().filter(|name| name.as_str().starts_with("access-control")).collect();
        assert!(cors.is_empty(), "{method} {path}: {cors:?}");
    }
}

async fn log_in(control_plane: &ControlPlane, token: &str, next: &str) -> Answer {
    let form = format!("token={token}&next={}", next.replace('/', "%2F"));
    let kind = ("content-type", "application/x-www-form-urlencoded");
    control_plane.call_with("POST", "/ui/login", &form, &[kind]).await
}

#[tokio::test]
async fn a_browser_logs_in_does_what_its_role_allows_and_logs_out() {
    let control_plane = ControlPlane::start().await;
    let Tokens { admin, operator, viewer, revoked, .. } = tokens(&control_plane).await;
    let page = control_plane.call("GET", "/ui/pools", "").await;
    assert!(
        page.status == 401
            && page.text.contains("name=\"token\"")
            && page.text.contains("value=\"/ui/pools\""),
        "{page:?}"
    );
    assert!(header(&page, "content-security-policy").contains("default-src 'none'"));
    let wrong = log_in(&control_plane, &revoked, "/ui/pools").await;
    assert!(
        wrong.status == 401 && header(&wrong, "set-cookie").is_empty() && wrong.text.contains("was revoked"),
        "{wrong:?}"
    );

    let mut sessions = Vec::new();
    for token in [&operator, &viewer] {
        let entered = log_in(&control_plane, token, "/ui/pools").await;
        assert_eq!((entered.status, header(&entered, "location")), (303, "/ui/pools".to_owned()));
        let cookie = header(&entered, "set-cookie");
        for part in ["weir_session=", "HttpOnly", "SameSite=Strict", "Path=/"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        sessions.push(cookie.split(';').next().unwrap().to_owned());
    }
    let [operators, viewers] = sessions.try_into().unwrap();
    let get = async |path: &str, cookie: &str| {
        control_plane.call_with("GET", path, "", &[("cookie", cookie)]).await
    };
    let post = async |path: &str, form: &str, cookie: &str| {
        let kind = ("content-type", "application/x-www-form-urlencoded");
        control_plane.call_with("POST", path, form, &[kind, ("cookie", cookie)]).await
    };
    let page = get("/ui/pools", &viewers).await;
    assert!(
        page.status == 200
            && page.text.contains("data-role=\"viewer\"")
            && page.text.contains("eyes · viewer"),
        "{page:?}"
    );
    assert!(!page.text.contains("/ui/audit"));
    for path in ["/ui/audit", "/ui/events?page=audit"] {
        assert_eq!(get(path, &viewers).await.status, 403, "{path}");
    }
    let add = "url=http%3A%2F%2F127.0.0.1%3A1&pool=default";
    assert_eq!(post("/ui/backends", add, &viewers).await.status, 403);
    assert_eq!(post("/ui/backends", add, &operators).await.status, 303);
    assert_eq!(post("/ui/revisions/1/rollback", "", &operators).await.status, 403);
    let revisions = control_plane.call_as(Some(&viewer), "GET", "/revisions", "").await.expect(200);
    assert!(
        revisions["items"][0]["actor"] == "day" && revisions["items"][0]["source"] == "dashboard",
        "{revisions}"
    );
    // The session is for the dashboard only: through REST it can read but not change anything.
    assert_eq!(get("/status", &operators).await.status, 200);
    assert_eq!(post("/backends", r#"{"url":"http://127.0.0.1:2"}"#, &operators).await.status, 401);

    let out = post("/ui/logout", "", &operators).await;
    assert!(out.status == 303 && header(&out, "set-cookie").contains("Max-Age=0"), "{out:?}");
    assert_eq!(get("/ui/pools", &operators).await.status, 401);
    control_plane.call_as(Some(&admin), "DELETE", "/tokens/eyes", "").await.expect(200);
    assert_eq!(get("/ui/pools", &viewers).await.status, 401, "the session ends with its token");
    let entries = audit(&control_plane, &admin).await;
    assert!(
        entries
            .iter()
            .any(|one| one["action"] == "POST /ui/login" && one["actor"] == "day" && one["outcome"] == "ok")
    );
    assert!(entries.iter().any(|one| one["action"] == "POST /ui/login" && one["outcome"] == "refused"));
}

#[tokio::test]
async fn a_stream_ends_with_the_token_that_opened_it() {
    use http_body_util::BodyExt as _;
    let control_plane = ControlPlane::start().await;
    let Tokens { admin, viewer, .. } = tokens(&control_plane).await;
    let stream = tokio::net::TcpStream::connect(control_plane.admin()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("/ui/events?page=overview")
        .header("host", control_plane.admin().to_string())
        .header("authorization", format!("Bearer {viewer}"))
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .unwrap();
    let answer = within("the stream", sender.send_request(request)).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    within("an event", body.frame()).await.unwrap().unwrap();
    control_plane.call_as(Some(&admin), "DELETE", "/tokens/eyes", "").await.expect(200);
    within("the end of the stream", async { while let Some(Ok(_)) = body.frame().await {} }).await;
}

#[test]
fn the_documented_table_matches_the_code() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/access.md")).unwrap();
    for (role, name) in [(Role::Operator, "| operator |"), (Role::Admin, "| admin |")] {
        let row = text.lines().find(|line| line.starts_with(name)).unwrap();
        let mut documented: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        let mut known: Vec<String> = Vec::new();
        let rest = table::REST.iter().filter(|(.., need)| *need == Need::Role(role));
        known.extend(rest.map(|(method, path, _)| format!("{method} {path}")));
        let grpc = table::rpcs().filter(|(_, rule)| rule.need == Need::Role(role));
        known.extend(grpc.map(|(path, _)| path.rsplit('/').next().unwrap().to_owned()));
        documented.sort_unstable();
        known.sort_unstable();
        assert_eq!(documented, known, "docs/reference/access.md, role {role}");
    }
}
