//! Filters in the admin API: accepted and rejected settings, and the refusals that nodes report.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::{Value, json};
use support::{
    ControlPlane,
    node::{Node, hello},
};
use weir_proto::v1::{self, subscribe_request::Message};

#[tokio::test]
async fn a_route_with_filters_is_stored_and_an_invalid_one_rejected_with_its_path() {
    let control_plane = ControlPlane::start().await;
    let route = json!({
        "pool": "default",
        "ip_filter": { "allow": ["10.0.0.0/8"], "deny": ["10.6.6.0/24"] },
        "allow_methods": ["GET"],
        "rate_limit": { "requests": 20, "per": "1m", "key": { "header": "x-api-key" }, "scope": "fleet" },
    });
    control_plane.call("PUT", "/routes/default", &route.to_string()).await.expect(200);
    let stored = control_plane.get("/routes/default").await;
    for field in ["ip_filter", "allow_methods", "rate_limit"] {
        assert_eq!(stored[field], route[field]);
    }
    for (wrong, expected) in [
        (json!({ "rate_limit": { "requests": 0, "per": "1m" } }), "rate_limit.requests"),
        (json!({ "ip_filter": { "deny": ["10.0.0.1/8"] } }), "the network is 10.0.0.0/8"),
        (json!({ "basic_auth": { "users": { "anna": "secret" } } }), "basic_auth.users.anna"),
        (
            json!({ "jwt": { "issuer": "i", "audience": ["a"], "jwks": "{}", "algorithms": ["none"] } }),
            "jwt.algorithms[0]",
        ),
    ] {
        let mut route = wrong.clone();
        route["pool"] = "default".into();
        let problem = control_plane.call("PUT", "/routes/default", &route.to_string()).await.expect(400);
        assert!(problem.to_string().contains(expected), "{wrong}: {problem}");
        assert!(!problem.to_string().contains("secret"), "{problem}");
    }
    assert_eq!(control_plane.get("/routes/default").await, stored, "the stored route is unchanged");
}

#[tokio::test]
async fn the_refusals_of_all_nodes_are_added_up() {
    let control_plane = ControlPlane::start().await;
    let load = |rate_limit| {
        let refused = [("rate_limit".to_owned(), rate_limit), ("auth".to_owned(), 1)].into();
        let route = v1::RouteLoad { route: "default".into(), refused };
        Message::Load(v1::Load { routes: vec![route], forgotten_clients: 7, ..v1::Load::default() })
    };
    let one = Node::connect(&control_plane, hello("one")).await;
    let two = Node::connect(&control_plane, hello("two")).await;
    one.send(load(5)).await;
    two.send(load(7)).await;
    let refused = |status: &Value| status["routes"][0]["refused"]["rate_limit"].clone();
    let status = control_plane.wait_for("/status", |status| refused(status) == 12).await;
    assert_eq!(status["routes"][0]["name"], "default");
    assert_eq!(
        status["routes"][0]["refused"],
        json!({ "ip_filter": 0, "method": 0, "rate_limit": 12, "auth": 2 })
    );
    assert_eq!(status["nodes"][0]["forgotten_clients"], 7);
    let page = control_plane.call("GET", "/", "").await.text;
    assert!(page.contains("rate limits had to forget 7 clients"), "{page}");
}
