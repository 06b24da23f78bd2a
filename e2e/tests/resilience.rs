//! Failures that clients never notice, with the real programs: ejection and return, sudden death, total failure,
//! rolling restarts with sessions, limits and fallbacks.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use e2e::{Fleet, Load, eventually, get, mock, send};
use serde_json::{Value, json};

use self::support::{Origin, Visitor, set_faults};

/// Sets the fields of the pool `default` and waits until every node uses them.
async fn configure(fleet: &Fleet, fields: Value, route: Value) {
    let mut config = get(fleet.admin(), "/pools/default").await.unwrap().json().unwrap();
    for (name, value) in fields.as_object().unwrap() {
        config[name] = value.clone();
    }
    apply(fleet, json!([config]), route).await;
}

async fn apply(fleet: &Fleet, pools: Value, mut route: Value) {
    route["name"] = "default".into();
    route["pool"] = "default".into();
    let config = json!({ "pools": pools, "routes": [route] });
    let answer = send("PUT", fleet.admin(), "/config?wait=10s", &config.to_string()).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_ne!(answer.json().unwrap()["active"], false, "{answer:?}");
}

/// The backend at a mock's address, from `/status`.
async fn backend(fleet: &Fleet, address: &str) -> Option<Value> {
    let status = fleet.status().await.ok()?;
    let url = format!("http://{address}");
    status["backends"].as_array()?.iter().find(|backend| backend["url"] == url.as_str()).cloned()
}

async fn wait_breaker(fleet: &Fleet, address: &str, breaker: &str) {
    eventually(&format!("a breaker that is {breaker}"), Duration::from_secs(40), async || {
        backend(fleet, address).await.filter(|backend| backend["breaker"] == breaker).map(drop)
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_fails_half_of_its_requests_is_ejected_and_returns_when_healed() {
    let fleet = Fleet::start(1, 3).await.unwrap();
    let sick = fleet.mocks[0].address("listening").unwrap();
    let node = fleet.http(0).unwrap();
    let load = Load::start(&node, "/books", 8, Duration::from_millis(5));
    set_faults(&sick, r#"{"error_rate": 0.5}"#).await.unwrap();
    wait_breaker(&fleet, &sick, "open").await;
    let shown = backend(&fleet, &sick).await.unwrap();
    assert_eq!(shown["alive"], true, "the health checker sees nothing wrong: {shown}");
    assert_eq!(shown["ejected_by"], json!(["node-0"]));
    assert!(fleet.weir(&["status"]).unwrap().contains("open"));
    load.stop().await;

    // While it is ejected, clients see only the other backends' errors, of which there are none.
    let calm = Load::start(&node, "/books", 8, Duration::from_millis(5));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let totals = calm.stop().await;
    let still_open = backend(&fleet, &sick).await.unwrap()["breaker"] == "open";
    assert!(!still_open || totals.count(500) == 0, "{totals:?}");
    assert!(totals.count(200) > 100 && totals.errors.is_empty(), "{totals:?}");

    set_faults(&sick, "{}").await.unwrap();
    let load = Load::start(&node, "/books", 8, Duration::from_millis(5));
    wait_breaker(&fleet, &sick, "closed").await;
    let before = load.stop().await;
    assert_eq!(before.count(500), 0, "{before:?}");
    let back = Load::start(&node, "/books", 4, Duration::from_millis(5));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(back.stop().await.backends.len(), 3, "it has its share again");
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_half_of_ten_backends_under_load_fails_no_request() {
    let mut fleet = Fleet::start(1, 10).await.unwrap();
    let node = fleet.http(0).unwrap();
    // 40 clients that pause for 20 ms each: 2,000 requests per second if the machine keeps up.
    let load = Load::start(&node, "/books", 40, Duration::from_millis(20));
    eventually("traffic", Duration::from_secs(20), async || {
        let requests = fleet.status().await.ok()?["nodes"][0]["requests"].as_u64()?;
        (requests > 2_000).then_some(())
    })
    .await
    .unwrap();
    let killed = Instant::now();
    fleet.mocks.drain(..5).for_each(drop);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let totals = load.stop().await;
    println!("{} requests, {:?} after the kill", totals.sent, killed.elapsed());
    assert!(totals.errors.is_empty(), "{totals:?}");
    assert_eq!(totals.count(200), totals.sent, "{totals:?}");
}

async fn all_failing(origins: Vec<Origin>, retry: Value) {
    let fleet = Fleet::start(1, 0).await.unwrap();
    let backends: Vec<Value> = origins.iter().map(|origin| json!({ "url": origin.url() })).collect();
    let fields = json!({ "health_check": { "type": "none" }, "retry": retry, "backends": backends });
    configure(&fleet, fields, json!({})).await;
    let load = Load::start(&fleet.http(0).unwrap(), "/", 8, Duration::from_millis(2));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let totals = load.stop().await;
    let attempts: u64 = origins.iter().map(Origin::requests).sum();
    println!("{attempts} attempts for {} requests", totals.sent);
    assert!(totals.sent > 200 && totals.count(200) == 0, "{totals:?}");
    assert!(attempts * 10 <= totals.sent * 12, "{attempts} attempts for {} requests", totals.sent);
    assert!(attempts > totals.sent, "the first failures were retried");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_retry_budget_holds_when_all_backends_return_errors() {
    let origins = (0..4).map(|_| Origin::answering(503)).collect();
    all_failing(origins, json!({ "attempts": 5 })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_retry_budget_holds_when_all_backends_close_connections() {
    let origins = (0..4).map(|_| Origin::breaking()).collect();
    all_failing(origins, json!({ "attempts": 5 })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_with_drain_fails_no_request_and_breaks_no_session() {
    const DRAIN: Duration = Duration::from_millis(1_500);
    let mut fleet = Fleet::start(2, 3).await.unwrap();
    let fields = json!({ "sticky": { "cookie": "weir", "ttl": "1h" }, "drain_timeout": "1500ms" });
    configure(&fleet, fields, json!({})).await;

    let stop = Arc::new(AtomicBool::new(false));
    // Backends whose sessions may be moved: their drain timeout has passed.
    let released = Arc::new(Mutex::new(Vec::<String>::new()));
    // The backend of each client's session.
    let pinned = Arc::new(Mutex::new(BTreeMap::<usize, String>::new()));
    let requests = Arc::new(AtomicU64::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..12 {
        // Every node accepts the other nodes' sessions.
        let nodes = [fleet.http(0).unwrap(), fleet.http(1).unwrap()];
        let (stop, released, pinned) = (Arc::clone(&stop), Arc::clone(&released), Arc::clone(&pinned));
        let requests = Arc::clone(&requests);
        clients.spawn(async move {
            let mut visitor = Visitor::default();
            let mut at = String::new();
            let mut broken = Vec::new();
            for turn in client.. {
                if stop.load(Relaxed) {
                    break;
                }
                let may_move = |at: &String| released.lock().unwrap().contains(at);
                let could = may_move(&at);
                let answer = visitor.get(&nodes[turn % 2], "/books").await;
                requests.fetch_add(1, Relaxed);
                match answer {
                    Ok((200, backend)) => {
                        if !at.is_empty() && backend != at && !could && !may_move(&at) {
                            broken.push(format!("client {client} was moved from {at} to {backend}"));
                        }
                        pinned.lock().unwrap().insert(client, backend.clone());
                        at = backend;
                    }
                    other => broken.push(format!("client {client}: {other:?}")),
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            broken
        });
    }
    eventually("sessions", Duration::from_secs(20), async || {
        let pinned = pinned.lock().unwrap();
        let backends: std::collections::BTreeSet<_> = pinned.values().collect();
        (pinned.len() == 12 && backends.len() == 3).then_some(())
    })
    .await
    .unwrap();

    for i in 0..3 {
        let address = fleet.mocks[i].address("listening").unwrap();
        let name = get(&address, "/books").await.unwrap().backend().to_owned();
        let had = pinned.lock().unwrap().values().filter(|at| **at == name).count();
        let begun = Instant::now();
        fleet.weir(&["backends", "drain", &format!("http://{address}")]).unwrap();
        if had > 0 {
            eventually("sessions that are left", Duration::from_secs(5), async || {
                backend(&fleet, &address).await?["sessions"].as_u64().filter(|sessions| *sessions > 0)
            })
            .await
            .unwrap();
        }
        // Until the timeout the draining backend keeps its sessions.
        tokio::time::sleep(DRAIN.saturating_sub(begun.elapsed())).await;
        released.lock().unwrap().push(name.clone());
        eventually("an empty backend", Duration::from_secs(10), async || {
            let left = pinned.lock().unwrap().values().filter(|at| **at == name).count();
            let active = backend(&fleet, &address).await?["active_connections"].as_u64()?;
            (left == 0 && active == 0).then_some(())
        })
        .await
        .unwrap();
        // The new mock listens on the same address.
        drop(fleet.mocks.remove(i));
        fleet.mocks.insert(i, mock(&address).unwrap());
        fleet.wait_alive(&address, true).await.unwrap();
        fleet.weir(&["backends", "enable", &format!("http://{address}")]).unwrap();
        released.lock().unwrap().clear();
    }
    stop.store(true, Relaxed);
    let mut broken = Vec::new();
    while let Some(client) = clients.join_next().await {
        broken.extend(client.unwrap());
    }
    println!("{} requests", requests.load(Relaxed));
    assert!(broken.is_empty(), "{broken:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_dead_backend_moves_and_a_forged_one_is_ignored() {
    let mut fleet = Fleet::start(1, 2).await.unwrap();
    configure(&fleet, json!({ "sticky": {} }), json!({})).await;
    let node = fleet.http(0).unwrap();
    let mut visitor = Visitor::default();
    let (_, first) = visitor.get(&node, "/books").await.unwrap();
    for _ in 0..20 {
        assert_eq!(visitor.get(&node, "/books").await.unwrap(), (200, first.clone()));
    }
    let mut names = Vec::new();
    for mock in &fleet.mocks {
        names.push(get(&mock.address("listening").unwrap(), "/").await.unwrap().backend().to_owned());
    }
    let at = names.iter().position(|name| *name == first).unwrap();
    drop(fleet.mocks.remove(at));
    let (status, second) = visitor.get(&node, "/books").await.unwrap();
    assert!(status == 200 && second != first, "{status} from {second}");
    assert_eq!(visitor.get(&node, "/books").await.unwrap(), (200, second));

    for forged in
        ["weir-default=nonsense", "weir-default=", "weir-default=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]
    {
        let mut forger = Visitor { cookie: Some(forged.into()) };
        assert_eq!(forger.get(&node, "/books").await.unwrap().0, 200);
        assert_ne!(forger.cookie.as_deref(), Some(forged), "it has a session of its own now");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_limits_wait_or_get_503() {
    let fleet = Fleet::start(1, 1).await.unwrap();
    configure(&fleet, json!({ "limits": { "max_connections": 1, "max_pending": 1 } }), json!({})).await;
    let node = fleet.http(0).unwrap();
    let asked: Vec<_> = (0..6)
        .map(|_| {
            let node = node.clone();
            tokio::spawn(async move { get(&node, "/slow?ms=300").await.unwrap() })
        })
        .collect();
    let mut statuses = BTreeMap::<u16, u32>::new();
    for asked in asked {
        let answer = asked.await.unwrap();
        if answer.status == 503 {
            assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
        }
        *statuses.entry(answer.status).or_default() += 1;
    }
    // One at a time: requests that arrived while another was waiting were refused, and none was lost.
    assert!(statuses[&200] >= 2 && statuses[&503] >= 1, "{statuses:?}");
    assert_eq!(statuses.values().sum::<u32>(), 6, "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_without_available_backends_falls_back_to_a_response_or_another_pool() {
    let mut fleet = Fleet::start(1, 2).await.unwrap();
    let node = fleet.http(0).unwrap();
    let urls: Vec<Value> = fleet
        .mocks
        .iter()
        .map(|mock| json!([{ "url": format!("http://{}", mock.address("listening").unwrap()) }]))
        .collect();
    let pools = json!([
        { "name": "default", "backends": urls[0] },
        { "name": "other", "backends": urls[1] },
    ]);
    apply(&fleet, pools.clone(), json!({ "fallback": { "pool": "other" } })).await;
    let own = get(&node, "/books").await.unwrap().backend().to_owned();
    drop(fleet.mocks.remove(0));
    let answer = get(&node, "/books").await.unwrap();
    assert!(answer.status == 200 && answer.backend() != own, "{answer:?}");
    // The remaining backend gets no requests if the route has a fallback.
    apply(&fleet, pools, json!({ "fallback": { "status": 503, "body": "back soon" } })).await;
    let answer = get(&node, "/books").await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (503, &b"back soon"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn small_bodies_are_retried_and_non_idempotent_requests_never() {
    let (bad, good) = (Origin::answering(503), Origin::answering(200));
    let fleet = Fleet::start(1, 0).await.unwrap();
    let backends = json!([{ "url": bad.url() }, { "url": good.url() }]);
    let fields =
        json!({ "health_check": { "type": "none" }, "breaker": { "enabled": false }, "backends": backends });
    configure(&fleet, fields, json!({})).await;
    let node = fleet.http(0).unwrap();
    let body = "x".repeat(20_000);
    for _ in 0..4 {
        assert_eq!(send("PUT", &node, "/", &body).await.unwrap().status, 200);
    }
    assert_eq!(good.requests(), 4);
    assert!(bad.requests() > 0, "some began there");
    assert_eq!(good.body_bytes(), 4 * 20_000, "each came whole");
    let before = good.requests() + bad.requests();
    for _ in 0..4 {
        send("POST", &node, "/", &body).await.unwrap();
    }
    assert_eq!(good.requests() + bad.requests(), before + 4, "each was sent once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_answers_at_once_while_health_checks_find_all_backends_down() {
    let fleet = Fleet::start(1, 0).await.unwrap();
    let node = fleet.http(0).unwrap();
    // It accepts connections and never responds: a request there lasts until its timeout.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let check = json!({ "type": "http", "interval": "200ms", "timeout": "200ms", "fall": 1 });
    let fields = json!({ "health_check": check, "backends": [{ "url": format!("http://{address}") }] });
    configure(&fleet, fields.clone(), json!({ "fallback": { "status": 503, "body": "back soon" } })).await;
    eventually("the backend is down", Duration::from_secs(20), async || {
        backend(&fleet, &address).await.filter(|backend| backend["health"] == "down").map(drop)
    })
    .await
    .unwrap();
    eventually("the fallback", Duration::from_secs(20), async || {
        let answer = tokio::time::timeout(Duration::from_secs(2), get(&node, "/books")).await.ok()?.ok()?;
        (answer.status == 503 && &answer.body[..] == b"back soon").then_some(())
    })
    .await
    .unwrap();
    // Without a fallback, the pool's panic setting decides.
    let mut off = fields;
    off["panic"] = "off".into();
    configure(&fleet, off, json!({})).await;
    let answer = tokio::time::timeout(Duration::from_secs(10), get(&node, "/books")).await.unwrap().unwrap();
    assert_eq!(answer.status, 503, "{answer:?}");
}
