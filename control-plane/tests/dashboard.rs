//! The dashboard over HTTP: every page, every form, and who may send one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::{Answer, ControlPlane};

const PAGES: [&str; 8] =
    ["/", "/ui/pools", "/ui/routes", "/ui/nodes", "/ui/reports", "/ui/tail", "/ui/revisions", "/ui/audit"];

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
async fn every_page_is_shown_and_brings_nothing_from_elsewhere_or_inline() {
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
    // What is wrong is said on a page.
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
    assert!(text.contains("Before") && text.contains("random"), "{text}");
    assert_eq!(post(&control_plane, "/ui/revisions/1/rollback", "", &[]).await.status, 303);
    assert_eq!(control_plane.revision().await, 3);
    assert_ne!(control_plane.get("/pools/default").await["strategy"], "random");
}

#[tokio::test]
async fn pages_of_other_sites_may_change_nothing_through_any_door() {
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
async fn what_users_and_clients_write_is_text_and_never_markup() {
    let control_plane = ControlPlane::start().await;
    let text = page(&control_plane, "/ui/reports?backend=%3Cscript%3Ealert(1)%3C%2Fscript%3E").await;
    assert!(!text.contains("<script>alert"), "{text}");
    let wrong = page(&control_plane, "/ui/reports?tz=%3Cb%3EMars").await;
    assert!(wrong.contains("is not an IANA time zone") && !wrong.contains("<b>Mars"), "{wrong}");
}
