//! Routes that are added and removed under load, and their display to users, with the real programs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use e2e::{Fleet, eventually, get, send};
use serde_json::{Value, json};

/// Number of routes, which are added one after the other. Debug programs take minutes for as many as a large fleet
/// has; `WEIR_ROUTES=2000 WEIR_PROGRAMS=target/release` (an absolute path) uses optimized programs.
fn how_many() -> usize {
    std::env::var("WEIR_ROUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

fn config(pools: &Value, routes: Value) -> String {
    json!({ "pools": pools, "routes": routes }).to_string()
}

fn proving(name: &str, matches: Value) -> Value {
    json!({
        "name": name, "pool": "default", "match": matches,
        "response_headers": { "set": { "x-route": "{route}" } },
    })
}

/// The known state while routes are added and removed: routes below `certain` are active on all nodes, routes from
/// `possible` on are active nowhere.
#[derive(Default)]
struct Known {
    certain: AtomicUsize,
    possible: AtomicUsize,
    over: AtomicBool,
}

/// Requests paths of all routes until the end; returns how many responses proved their route.
async fn ask(node: String, known: Arc<Known>, seed: usize) -> usize {
    let mut asked = seed;
    let mut proved = 0;
    while !known.over.load(SeqCst) {
        asked = (asked * 31 + 17) % how_many();
        let certain = known.certain.load(SeqCst);
        let answer = get(&node, &format!("/thing/{asked}/books")).await.unwrap();
        let possible = known.possible.load(SeqCst);
        let route = answer.headers.get("x-route").and_then(|value| value.to_str().ok()).unwrap_or("none");
        let own = format!("r{asked}");
        let fits = (route == own && asked < possible) || (route == "default" && asked >= certain);
        assert!(fits, "/thing/{asked} went to {route}, with {certain} to {possible} routes");
        // The mock has no such book; it only matters that it responded.
        assert!(answer.status < 500, "{answer:?}");
        proved += 1;
    }
    proved
}

async fn wait_active(fleet: &Fleet, revision: u64) {
    eventually(&format!("revision {revision} on all nodes"), Duration::from_secs(60), async || {
        let nodes = get(fleet.admin(), "/nodes").await.ok()?.json().ok()?;
        let behind = |node: &&Value| node["active_revision"].as_u64().unwrap_or_default() < revision;
        nodes["items"].as_array()?.iter().find(behind).is_none().then_some(())
    })
    .await
    .unwrap();
}

async fn revision(fleet: &Fleet) -> u64 {
    fleet.status().await.unwrap()["revision"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_are_added_and_removed_under_load_without_a_misrouted_request() {
    let routes = how_many();
    let fleet = Fleet::start(2, 2).await.unwrap();
    let pools = json!([get(fleet.admin(), "/pools/default").await.unwrap().json().unwrap()]);
    let text = config(&pools, json!([proving("default", json!({}))]));
    assert_eq!(send("PUT", fleet.admin(), "/config?wait=10s", &text).await.unwrap().status, 200);
    let known = Arc::new(Known::default());
    let asking: Vec<_> =
        (0..4).map(|n| tokio::spawn(ask(fleet.http(n % 2).unwrap(), Arc::clone(&known), n * 7))).collect();

    let begun = Instant::now();
    for n in 0..routes {
        known.possible.store(n + 1, SeqCst);
        let route = proving(&format!("r{n}"), json!({ "path": format!("/thing/{n}") }));
        let path = format!("/routes/r{n}");
        let answer = send("PUT", fleet.admin(), &path, &route.to_string()).await.unwrap();
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.json().unwrap()["warnings"], json!([]));
        if n % 20 == 19 {
            wait_active(&fleet, revision(&fleet).await).await;
            known.certain.store(n + 1, SeqCst);
        }
    }
    wait_active(&fleet, revision(&fleet).await).await;
    known.certain.store(routes, SeqCst);
    for node in 0..2 {
        let answer = get(&fleet.http(node).unwrap(), &format!("/thing/{}", routes - 1)).await.unwrap();
        assert_eq!(answer.headers["x-route"], format!("r{}", routes - 1).as_str());
    }

    let came = begun.elapsed();
    for n in (0..routes).rev() {
        known.certain.store(n, SeqCst);
        let answer = send("DELETE", fleet.admin(), &format!("/routes/r{n}"), "").await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        if n % 20 == 0 {
            wait_active(&fleet, revision(&fleet).await).await;
            known.possible.store(n, SeqCst);
        }
    }
    known.over.store(true, SeqCst);
    let mut proved = 0;
    for one in asking {
        proved += one.await.expect("no request failed or was misrouted");
    }
    println!(
        "{routes} routes were added in {came:.1?} and removed in {:.1?}; {proved} requests",
        begun.elapsed() - came
    );
    assert!(proved > routes, "{proved} requests");
    let answer = get(&fleet.http(0).unwrap(), "/thing/0").await.unwrap();
    assert_eq!(answer.headers["x-route"], "default");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_interface_warns_of_hidden_routes() {
    let fleet = Fleet::start(1, 1).await.unwrap();
    let admin = fleet.admin();
    let said = "route \"late\" never matches: route \"default\" comes first and matches the same requests";
    let put = send("PUT", admin, "/routes/late", r#"{"pool":"default"}"#).await.unwrap();
    assert_eq!(put.status, 201, "{put:?}");
    assert!(put.json().unwrap()["warnings"][0].as_str().unwrap().contains(said), "{put:?}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "pools:\n  - { name: default }\nroutes:\n  - { name: default, pool: default }\n  - { name: late, pool: default }\n";
    std::fs::write(file.path(), text).unwrap();
    let name = file.path().to_str().unwrap();
    let check = fleet.weir(&["check", name]).unwrap();
    assert!(check.contains(&format!("{name}:5:")), "{check}");
    assert!(check.contains(&format!(": routes[1].match: warning: {said}")), "{check}");
    assert!(check.contains("good: 1 pool, "), "{check}");
    let applied = send("PUT", admin, "/config?dry_run=true", text).await.unwrap().json().unwrap();
    assert_eq!(applied["warnings"][0]["message"], said, "{applied}");
    assert_eq!(applied["warnings"][0]["line"], 5, "{applied}");
    let page = get(admin, "/ui/routes").await.unwrap();
    assert!(String::from_utf8_lossy(&page.body).contains("never matches"), "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_see_the_matches_and_targets_of_routes() {
    let fleet = Fleet::start(1, 1).await.unwrap();
    let admin = fleet.admin();
    for (name, body) in [
        (
            "api",
            json!({ "match": { "hosts": ["api.test"], "path": "/v1", "methods": ["GET"], "headers": { "x-a": "1" } }, "split": [{ "pool": "default", "weight": 3 }] }),
        ),
        (
            "old",
            json!({ "match": { "path_exact": "/old" }, "redirect": { "host": "new.test", "status": 302 } }),
        ),
    ] {
        let answer = send("PUT", admin, &format!("/routes/{name}"), &body.to_string()).await.unwrap();
        assert_eq!(answer.status, 201, "{answer:?}");
        let mut stored = get(admin, &format!("/routes/{name}")).await.unwrap().json().unwrap();
        assert_eq!(stored.as_object_mut().unwrap().remove("name"), Some(json!(name)));
        assert_eq!(stored, body);
    }
    let table = fleet.weir(&["routes"]).unwrap();
    let words = |name: &str| -> Vec<String> {
        let line = table.lines().find(|line| line.starts_with(name)).expect(&table);
        line.split("  ").map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    assert_eq!(words("api"), ["api", "api.test", "/v1*", "GET", "x-a: 1", "default 3"], "{table}");
    assert_eq!(words("old"), ["old", "*", "= /old", "-", "-", "→ 302 new.test"], "{table}");
    assert_eq!(words("default"), ["default", "*", "/*", "-", "-", "default"], "{table}");
    let page = String::from_utf8(get(admin, "/ui/routes").await.unwrap().body.to_vec()).unwrap();
    for text in ["api.test · /v1* · GET · x-a: 1", "default 3", "→ 302 new.test"] {
        assert!(page.contains(text), "{text}: {page}");
    }
    let used = send("DELETE", admin, "/pools/default", "").await.unwrap();
    assert_eq!(used.status, 409, "{used:?}");
    let wrong = send("PUT", admin, "/routes/api", r#"{"pool":"default","redirect":{"scheme":"https"}}"#)
        .await
        .unwrap();
    assert!(
        (400..500).contains(&wrong.status)
            && String::from_utf8_lossy(&wrong.body).contains("mutually exclusive"),
        "{wrong:?}"
    );
}
