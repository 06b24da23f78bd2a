//! The dashboard over HTTP: every page, every form, and which requests may send forms.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::{
    Answer, ControlPlane,
    node::{Node, client, hello},
    world::{batch, row},
};
use weir_proto::v1::{self, subscribe_request::Message};

const PAGES: [&str; 9] = [
    "/",
    "/ui/pools",
    "/ui/routes",
    "/ui/explain",
    "/ui/nodes",
    "/ui/reports",
    "/ui/tail",
    "/ui/revisions",
    "/ui/audit",
];

async fn page(control_plane: &ControlPlane, path: &str) -> String {
    let answer = control_plane.call("GET", path, "").await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    assert!(answer.content_type.starts_with("text/html"), "{path}: {}", answer.content_type);
    answer.text
}

async fn post(control_plane: &ControlPlane, path: &str, form: &str, more: &[(&str, &str)]) -> Answer {
    let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
    headers.extend(more);
    control_plane.call_with("POST", path, form, &headers).await
}

#[tokio::test]
async fn every_page_is_served_without_external_or_inline_resources() {
    let control_plane = ControlPlane::start().await;
    control_plane.add("http://127.0.0.1:1").await;
    for path in PAGES {
        let text = page(&control_plane, path).await;
        assert!(text.contains("<h1>") && text.contains("<html lang=\"en\">"), "{path}");
        assert!(text.contains("aria-current=\"page\""), "{path}");
        for forbidden in ["style=\"", "onclick", "<style", "src=\"http", "href=\"http"] {
            assert!(!text.contains(forbidden), "{path} has {forbidden}");
        }
    }
    for (path, kind) in [("/ui/style.css", "text/css"), ("/ui/script.js", "text/javascript")] {
        let answer = control_plane.call("GET", path, "").await;
        assert!(answer.status == 200 && answer.content_type.starts_with(kind), "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn empty_pages_say_what_to_do() {
    let control_plane = ControlPlane::start().await;
    assert!(page(&control_plane, "/").await.contains("data-plane --control-plane"));
    assert!(page(&control_plane, "/ui/nodes").await.contains("No node was ever connected"));
    assert!(page(&control_plane, "/ui/pools").await.contains("No backend in this pool"));
    assert!(page(&control_plane, "/ui/explain").await.contains("Which request?"));
}

#[tokio::test]
async fn a_backend_is_added_drained_disabled_enabled_and_removed_by_forms() {
    let control_plane = ControlPlane::start().await;
    let added =
        post(&control_plane, "/ui/backends", "url=http%3A%2F%2F127.0.0.1%3A1&pool=default&weight=3", &[])
            .await;
    assert_eq!(added.status, 303, "{added:?}");
    let text = page(&control_plane, "/ui/pools").await;
    assert!(text.contains("http://127.0.0.1:1") && text.contains("value=\"drain\""), "{text}");
    for (action, state) in [("drain", "draining"), ("enable", "active"), ("disable", "disabled")] {
        let done = post(&control_plane, "/ui/backends/b1", &format!("action={action}"), &[]).await;
        assert_eq!(done.status, 303, "{action}: {done:?}");
        assert_eq!(control_plane.get("/backends/b1").await["state"], state);
    }
    assert_eq!(post(&control_plane, "/ui/backends/b1", "action=remove", &[]).await.status, 303);
    assert_eq!(control_plane.call("GET", "/backends/b1", "").await.status, 404);
    // Problems are shown on a page.
    let wrong = post(&control_plane, "/ui/backends", "url=ftp%3A%2F%2Fx&pool=default", &[]).await;
    assert!(wrong.status == 400 && wrong.text.contains("role=\"alert\""), "{wrong:?}");
    assert_eq!(post(&control_plane, "/ui/backends/b1", "action=explode", &[]).await.status, 400);
    let revisions = control_plane.get("/revisions").await;
    assert_eq!(revisions["items"][0]["source"], "dashboard");
}

#[tokio::test]
async fn a_strategy_is_changed_and_a_revision_is_rolled_back_by_forms() {
    let control_plane = ControlPlane::start().await;
    let changed = post(&control_plane, "/ui/pools/default/strategy", "strategy=random", &[]).await;
    assert_eq!(changed.status, 303, "{changed:?}");
    assert_eq!(control_plane.get("/pools/default").await["strategy"], "random");
    let text = page(&control_plane, "/ui/revisions/2").await;
    assert!(text.contains("<del>round_robin</del>") && text.contains("<ins>random</ins>"), "{text}");
    assert_eq!(post(&control_plane, "/ui/revisions/1/rollback", "", &[]).await.status, 303);
    assert_eq!(control_plane.revision().await, 3);
    assert_ne!(control_plane.get("/pools/default").await["strategy"], "random");
}

#[tokio::test]
async fn other_sites_cannot_change_anything() {
    let control_plane = ControlPlane::start().await;
    control_plane.add("http://127.0.0.1:1").await;
    for foreign in [("sec-fetch-site", "cross-site"), ("origin", "http://evil.example"), ("origin", "null")] {
        let done = post(&control_plane, "/ui/backends/b1", "action=drain", &[foreign]).await;
        assert_eq!(done.status, 403, "{foreign:?}");
        let created =
            control_plane.call_with("POST", "/backends", r#"{"url":"http://127.0.0.1:2"}"#, &[foreign]).await;
        assert_eq!(created.status, 403, "{foreign:?}");
    }
    assert_eq!(control_plane.get("/backends/b1").await["state"], "active");
    let own =
        post(&control_plane, "/ui/backends/b1", "action=drain", &[("sec-fetch-site", "same-origin")]).await;
    assert_eq!(own.status, 303);
}

#[tokio::test]
async fn input_of_users_and_clients_is_escaped() {
    let control_plane = ControlPlane::start().await;
    let text = page(&control_plane, "/ui/reports?backend=%3Cscript%3Ealert(1)%3C%2Fscript%3E").await;
    assert!(!text.contains("<script>alert"), "{text}");
    let wrong = page(&control_plane, "/ui/reports?tz=%3Cb%3EMars").await;
    assert!(wrong.contains("is not an IANA time zone") && !wrong.contains("<b>Mars"), "{wrong}");
}

#[tokio::test]
async fn requests_are_explained_as_in_rest_and_problems_are_shown() {
    let control_plane = ControlPlane::start().await;
    let config = r#"{
        "pools": [{ "name": "default", "backends": [{ "url": "http://127.0.0.1:1" }, { "url": "http://127.0.0.1:2", "state": "disabled" }] }],
        "routes": [
            { "name": "api", "match": { "hosts": ["api.example"], "headers": { "x-canary": "1" } }, "pool": "default",
              "ip_filter": { "allow": ["10.0.0.0/8"] }, "rate_limit": { "requests": 5, "per": "1m" } },
            { "name": "default", "pool": "default" }
        ]
    }"#;
    control_plane.call("PUT", "/config", config).await.expect(200);
    let query = "method=POST&url=http%3A%2F%2Fapi.example%2Fv1";
    let canary = format!("{query}&headers=accept%3A+a%0D%0Ax-canary%3A+1%0D%0A");
    let text = page(&control_plane, &format!("/ui/explain?{canary}&client=10.1.2.3")).await;
    for expected in [
        "Route api",
        "allows 10.1.2.3",
        "5 requests per 1m",
        "http://127.0.0.1:2",
        "disabled",
        "less specific",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(text.contains("<option value=\"POST\" selected>") && text.contains("x-canary: 1"), "{text}");
    // The page's live stream has the same parameters.
    assert!(text.contains("page=explain") && text.contains("headers=accept%3A%20a%0D%0Ax-canary"), "{text}");
    let refused = page(&control_plane, &format!("/ui/explain?{canary}&client=11.1.2.3")).await;
    assert!(refused.contains("403, 11.1.2.3 is not allowed"), "{refused}");
    let other = page(&control_plane, &format!("/ui/explain?{query}")).await;
    assert!(other.contains("Route default") && other.contains("matches only requests with"), "{other}");
    // The page and REST name the same routes.
    let explained = control_plane.get(&format!("/explain?{query}")).await;
    assert_eq!(explained["route"], "default");
    assert_eq!(explained["pools"][0]["because"], "the route's pool; 503 while it has no backend to offer");
    assert!(other.contains(explained["passed"][0]["because"].as_str().unwrap()), "{explained}: {other}");
    assert_eq!(explained["changes"], serde_json::json!([]));
    // Headers that the backend does not get.
    let explained = control_plane.get(&format!("/explain?{query}&header=X_Real_IP%3A%201")).await;
    let change = explained["changes"][0].as_str().unwrap();
    assert_eq!(change, "drops x_real_ip: a backend could mistake it for x-real-ip");
    let text = page(&control_plane, &format!("/ui/explain?{query}&headers=X_Real_IP%3A+1")).await;
    assert!(text.contains(change), "{text}");

    let wrong = page(&control_plane, "/ui/explain?method=GET&url=%3Cb%3E&headers=x&client=10.1").await;
    for mistake in ["&lt;b&gt;", "is not a valid path", "is not a header", "is not an IP address"] {
        assert!(wrong.contains(mistake), "{mistake}: {wrong}");
    }
    assert!(wrong.contains("role=\"alert\"") && !wrong.contains("<b>"), "{wrong}");
}

#[tokio::test]
async fn breakers_and_refusals_are_shown() {
    let control_plane = ControlPlane::start().await;
    let id = control_plane.add("http://127.0.0.1:1").await;
    let node = Node::connect(&control_plane, hello("eu-1")).await;
    node.send(Message::Load(v1::Load {
        backends: vec![v1::BackendLoad {
            backend_id: id,
            breaker: v1::Breaker::Open.into(),
            ejections: 2,
            ..Default::default()
        }],
        ..v1::Load::default()
    }))
    .await;
    control_plane.wait_for("/status", |status| status["backends"][0]["breaker"] == "open").await;
    let now = jiff::Timestamp::now().to_string();
    let refused = [("rate_limit".to_owned(), 3), ("breaker".to_owned(), 2)].into();
    let row = v1::TrafficRow { refused, ..row(&now, 503, &[1000; 5]) };
    client(&control_plane).await.report(batch(1, &now, vec![row])).await.unwrap();

    let overview = page(&control_plane, "/").await;
    for expected in
        ["Needs a look", "breaker open on eu-1", "1 ejected by breakers", "rate limit 3, breaker 2"]
    {
        assert!(overview.contains(expected), "{expected}: {overview}");
    }
    let pools = page(&control_plane, "/ui/pools").await;
    for expected in
        ["open</span>", " on eu-1", "opened 2 times", "5 refused by Weir", "rate limit 3, breaker 2"]
    {
        assert!(pools.contains(expected), "{expected}: {pools}");
    }
    let routes = page(&control_plane, "/ui/routes").await;
    assert!(routes.contains("rate limit 3, breaker 2"), "{routes}");
}

#[tokio::test]
async fn a_report_names_the_busiest_of_the_periods_it_shows_and_takes_every_filter() {
    let control_plane = ControlPlane::start().await;
    assert_eq!(control_plane.add("http://127.0.0.1:1").await, "b1");
    // A deleted route that a stored revision still contains.
    let route = r#"{"pool":"default","match":{"path":"/gone"}}"#;
    assert!(control_plane.call("PUT", "/routes/one-that-is-gone", route).await.status < 300);
    control_plane.call("DELETE", "/routes/one-that-is-gone", "").await.expect(200);
    let node = Node::connect(&control_plane, hello("eu-1")).await;
    let now = jiff::Timestamp::now().to_string();
    let other = v1::TrafficRow {
        method: "OTHER".to_owned(),
        route: "one-that-is-gone".to_owned(),
        ..row(&now, 404, &[1000; 2])
    };
    client(&control_plane)
        .await
        .report(batch(1, &now, vec![row(&now, 200, &[1000; 3]), other]))
        .await
        .unwrap();

    for (per, called) in [("minute", "minute"), ("day", "day"), ("", "hour")] {
        let text = page(&control_plane, &format!("/ui/reports?per={per}")).await;
        assert!(text.contains(&format!("<dt>Busiest {called}</dt><dd>5</dd>")), "{per}: {text}");
        assert!(text.contains(&format!("<dt>Quietest {called}</dt>")), "{per}: {text}");
    }
    let text = page(&control_plane, "/ui/reports?method=OTHER&route=one-that-is-gone").await;
    assert!(text.contains("<option value=\"OTHER\" selected>"), "{text}");
    assert!(text.contains("<option value=\"one-that-is-gone\" selected>"), "{text}");
    let text = page(&control_plane, "/ui/reports?method=OTHER").await;
    assert!(text.contains("<dt>Busiest hour</dt><dd>2</dd>"), "{text}");
    drop(node);
}
