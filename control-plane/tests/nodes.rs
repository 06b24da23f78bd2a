//! Many nodes, and misbehaving nodes: their effect on other nodes, and their status.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{
    ControlPlane,
    node::{Node, Push, Received, UNREACHABLE, client, end, hello, node_is, running},
    within,
    world::{World, batch, of_node, row},
};
use tonic::Code;
use weir_proto::v1::{self, subscribe_request::Message};
use weir_snapshot::units::HumanDuration;

#[tokio::test]
async fn metrics_use_the_names_reported_by_nodes() {
    let control_plane = ControlPlane::start().await;
    let node = Node::connect(&control_plane, hello("eu-1")).await;
    control_plane.wait_for("/nodes", |nodes| nodes["items"][0]["connected"] == true).await;
    let metrics = control_plane.call("GET", "/metrics", "").await.text;
    for line in [
        "# TYPE weir_fleet_node_requests_total counter",
        "weir_fleet_node_requests_total{node=\"eu-1\"} 0",
        "weir_fleet_node_dropped_rows_total{node=\"eu-1\"} 0",
        "weir_fleet_node_connected{node=\"eu-1\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    // A sum over all processes of the fleet must not count a node twice.
    assert!(!metrics.contains("weir_node_"), "{metrics}");
    drop(node);
}

#[tokio::test]
async fn a_node_that_never_answers_is_disconnected_and_others_continue() {
    let short = |config: &mut control_plane::Config| {
        config.ack_timeout = HumanDuration(Duration::from_millis(300));
    };
    let control_plane = ControlPlane::start_with(short).await;
    let (mut silent, _) = running(&control_plane, "silent").await;
    let (mut other, _) = running(&control_plane, "other").await;
    control_plane.add(UNREACHABLE).await;
    assert_eq!(silent.push().await.revision, 2);
    let push = other.push().await;
    other.ack(&push).await;
    let status = end(&mut silent).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let shown = node_is(&control_plane, "silent", |node| node["connected"] == false).await;
    let why = shown["last_error"]["text"].as_str().unwrap();
    assert!(why.contains("revision 2") && why.contains("300ms"), "{shown}");
    assert_eq!((&shown["lag_revisions"], &shown["state"]), (&json!(1), &json!("away")));
    let shown = node_is(&control_plane, "other", |node| node["active_revision"] == 2).await;
    assert_eq!(
        (&shown["state"], &shown["lag_ms"], &shown["last_error"]),
        (&json!("active"), &json!(0), &json!(null))
    );

    // It reconnects with its active revision and gets the same delta once more.
    let back = v1::Hello { active_revision: 1, active_hash: running_hash(&silent), ..hello("silent") };
    let mut silent = reconnect(&control_plane, back, silent).await;
    let push = silent.push().await;
    assert_eq!((push.revision, push.from), (2, Some(1)));
    let shown = node_is(&control_plane, "silent", |node| node["connected"] == true).await;
    assert_eq!((&shown["state"], &shown["lag_revisions"]), (&json!("behind"), &json!(1)));
    silent.ack(&push).await;
    node_is(&control_plane, "silent", |node| node["state"] == "active").await;
}

#[tokio::test]
async fn a_node_that_does_not_read_is_disconnected_and_others_continue() {
    let short = |config: &mut control_plane::Config| {
        config.ack_timeout = HumanDuration(Duration::from_millis(300));
    };
    let control_plane = ControlPlane::start_with(short).await;
    let (_deaf, _) = running(&control_plane, "deaf").await;
    let (mut other, _) = running(&control_plane, "other").await;
    control_plane.add(UNREACHABLE).await;
    let push = other.push().await;
    other.ack(&push).await;
    let shown = node_is(&control_plane, "deaf", |node| node["connected"] == false).await;
    assert!(shown["last_error"]["text"].as_str().unwrap().contains("revision 2"), "{shown}");
    node_is(&control_plane, "other", |node| node["active_revision"] == 2).await;
}

#[tokio::test]
async fn a_stream_without_a_hello_ends() {
    let control_plane = ControlPlane::start().await;
    let (_silent, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut stream = client(&control_plane).await.subscribe(requests).await.unwrap().into_inner();
    let status = within("the end of the stream", stream.message()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DeadlineExceeded, "no hello within 10s"));
    assert_eq!(control_plane.get("/nodes").await["items"], json!([]));
}

/// The hash of a node's state before the unanswered delta, which is undone here.
fn running_hash(node: &Node) -> String {
    let mut resources = node.resources.clone();
    resources.retain(|key, _| key.kind != weir_snapshot::Kind::Backend);
    weir_snapshot::resource::ContentHash::of(&resources).to_string()
}

async fn reconnect(control_plane: &ControlPlane, hello: v1::Hello, old: Node) -> Node {
    let mut node = Node::connect(control_plane, hello).await;
    node.resources = old.resources;
    node.resources.retain(|key, _| key.kind != weir_snapshot::Kind::Backend);
    node
}

#[tokio::test]
async fn a_node_that_floods_is_disconnected_and_others_continue() {
    let control_plane = ControlPlane::start().await;
    let (mut other, _) = running(&control_plane, "other").await;
    let (mut mad, push) = running(&control_plane, "mad").await;
    let flood = async {
        // The stream ends when the control plane stops reading.
        while mad.try_send(Message::Ack(v1::Ack { revision: push.revision, hash: push.hash.clone() })).await {
        }
    };
    within("the end of the flood", flood).await;
    let status = end(&mut mad).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let shown = node_is(&control_plane, "mad", |node| node["connected"] == false).await;
    assert!(shown["last_error"]["text"].as_str().unwrap().contains("too many messages"), "{shown}");
    control_plane.add(UNREACHABLE).await;
    assert_eq!(other.push().await.revision, 2);
}

#[tokio::test]
async fn a_node_cannot_acknowledge_a_revision_it_was_not_sent() {
    let control_plane = ControlPlane::start().await;
    let (node, push) = running(&control_plane, "n1").await;
    node.ack(&Push { revision: 77, ..push }).await;
    let shown = node_is(&control_plane, "n1", |node| node["last_error"] != json!(null)).await;
    assert!(shown["last_error"]["text"].as_str().unwrap().contains("revision 77"), "{shown}");
    assert_eq!((&shown["active_revision"], &shown["connected"]), (&json!(1), &json!(true)));
}

#[tokio::test]
async fn after_a_restart_nodes_that_lag_get_a_delta() {
    let control_plane = ControlPlane::start().await;
    let (node, push) = running(&control_plane, "n1").await;
    let resources = node.resources.clone();
    drop(node);
    node_is(&control_plane, "n1", |node| node["connected"] == false).await;
    for port in 1..=3 {
        control_plane.add(&format!("http://127.0.0.1:{port}")).await;
    }
    let control_plane = control_plane.killed_and_started().await;
    let back = v1::Hello { active_revision: push.revision, active_hash: push.hash.clone(), ..hello("n1") };
    let mut node = Node::connect(&control_plane, back).await;
    node.resources = resources;
    let next = node.push().await;
    assert_eq!((next.revision, next.from, node.pieces), (4, Some(1), 3));

    // The same revision number with another content is rejected.
    let other = v1::Hello { active_revision: push.revision, active_hash: "0".repeat(32), ..hello("n2") };
    assert_eq!(Node::connect(&control_plane, other).await.push().await.from, None);
}

#[tokio::test]
async fn the_reported_revision_of_a_node_must_exist() {
    let control_plane = ControlPlane::start().await;
    control_plane.add(UNREACHABLE).await;
    let (_, push) = running(&control_plane, "n1").await;
    // A future revision, an unknown one, and one with an invalid hash.
    for (id, revision, hash) in [
        ("future", 99, push.hash.clone()),
        ("nowhere", 0, push.hash.clone()),
        ("garbled", 2, "x".repeat(5000)),
    ] {
        let greeting = v1::Hello { active_revision: revision, active_hash: hash, ..hello(id) };
        let mut node = Node::connect(&control_plane, greeting).await;
        let whole = node.push().await;
        assert_eq!((whole.revision, whole.from), (2, None), "{id}");
        node.ack(&whole).await;
        let shown = node_is(&control_plane, id, |node| node["state"] == "active").await;
        assert_eq!((&shown["active_revision"], &shown["last_error"]), (&json!(2), &json!(null)), "{id}");
    }
}

#[tokio::test]
async fn removing_a_backend_is_one_resource_of_a_delta() {
    let control_plane = ControlPlane::start().await;
    let urls: Vec<Value> =
        (1..=50).map(|port| json!({ "url": format!("http://127.0.0.1:{port}") })).collect();
    let pool = |urls: &[Value]| json!({ "health_check": { "type": "none" }, "backends": urls }).to_string();
    control_plane.call("PUT", "/pools/default", &pool(&urls)).await.expect(200);
    let (mut node, _) = running(&control_plane, "n1").await;
    let mut order = urls.clone();
    for (change, pieces) in [("removed", 1), ("put between", 1), ("moved to the end", 1)] {
        match change {
            "removed" => drop(order.remove(7)),
            "put between" => order.insert(20, json!({ "url": "http://127.0.0.1:99" })),
            _ => {
                let first = order.remove(0);
                order.push(first);
            }
        }
        control_plane.call("PUT", "/pools/default", &pool(&order)).await.expect(200);
        let push = node.push().await;
        assert_eq!(node.pieces, pieces, "{change}");
        node.ack(&push).await;
        let exported = control_plane.get("/pools/default").await;
        let listed: Vec<&Value> =
            exported["backends"].as_array().unwrap().iter().map(|one| &one["url"]).collect();
        assert_eq!(listed, order.iter().map(|one| &one["url"]).collect::<Vec<_>>(), "{change}");
    }
    // The state read back from the database is identical.
    let (before, hash) = (control_plane.get("/pools/default").await, node.push_hash());
    let control_plane = control_plane.killed_and_started().await;
    assert_eq!(control_plane.get("/pools/default").await, before);
    let revision = control_plane.revision().await;
    let back = v1::Hello { active_revision: revision, active_hash: hash, ..hello("n1") };
    let mut node = Node::connect(&control_plane, back).await;
    assert!(matches!(node.next().await.unwrap(), Received::Health(_)), "it runs what is current");
}

#[tokio::test]
async fn a_second_stream_of_a_process_replaces_its_first() {
    let control_plane = ControlPlane::start().await;
    let (mut first, push) = running(&control_plane, "n1").await;
    let again = v1::Hello { active_revision: push.revision, active_hash: push.hash, ..hello("n1") };
    let mut second = Node::connect(&control_plane, again).await;
    assert_eq!(end(&mut first).await.code(), Code::Aborted);
    assert!(matches!(second.next().await.unwrap(), Received::Health(_)));
    let shown = node_is(&control_plane, "n1", |node| node["connected"] == true).await;
    assert_eq!((&shown["state"], &shown["last_error"]), (&json!("active"), &json!(null)));
}

/// A second process with the id of a node, cleartext.
async fn other_process(control_plane: &ControlPlane, id: &str, boot: &str) -> (Node, Push) {
    let mut node = Node::connect(control_plane, v1::Hello { boot_id: boot.into(), ..hello(id) }).await;
    let push = node.push().await;
    node.ack(&push).await;
    (node, push)
}

#[tokio::test]
async fn a_node_is_disconnected_only_when_all_its_streams_are_closed() {
    let control_plane = ControlPlane::start().await;
    let (mut observer, _) = running(&control_plane, "observer").await;
    let (mut survivor, _) = running(&control_plane, "n1").await;
    let clash =
        |node: &Value| node["last_error"]["text"].as_str().is_some_and(|text| text.contains("two processes"));
    // The newer process leaves; it does so twice, once without ever having a revision.
    for boot in ["second", "third"] {
        let (newer, _) = other_process(&control_plane, "n1", boot).await;
        node_is(&control_plane, "n1", clash).await;
        observer.size(3).await;
        drop(newer);
        observer.size(2).await;
        let shown = node_is(&control_plane, "n1", |node| node["connected"] == true).await;
        assert_eq!((&shown["state"], &shown["active_revision"]), (&json!("active"), &json!(1)), "{shown}");
    }
    // It still acknowledges, and its load is shown and summed.
    let id = control_plane.add(UNREACHABLE).await;
    let push = survivor.push().await;
    node_is(&control_plane, "n1", |node| node["state"] == "behind").await;
    survivor.ack(&push).await;
    node_is(&control_plane, "n1", |node| node["state"] == "active").await;
    let backends = vec![v1::BackendLoad { backend_id: id.clone(), active_requests: 3, ..Default::default() }];
    survivor.send(Message::Load(v1::Load { connections: 5, backends, ..Default::default() })).await;
    node_is(&control_plane, "n1", |node| node["connections"] == 5).await;
    control_plane.wait_for(&format!("/backends/{id}"), |backend| backend["active_connections"] == 3).await;
    // The older process leaves, and the newer one stays.
    let (newer, _) = other_process(&control_plane, "n1", "fourth").await;
    observer.size(3).await;
    drop(survivor);
    observer.size(2).await;
    node_is(&control_plane, "n1", |node| node["state"] == "active").await;
    // The last process leaves.
    drop(newer);
    observer.size(1).await;
    let shown = node_is(&control_plane, "n1", |node| node["state"] == "away").await;
    assert_eq!(shown["connections"], 0);
}

#[tokio::test]
async fn a_change_waits_for_every_process_of_an_id() {
    let soon = |config: &mut control_plane::Config| {
        config.ack_timeout = HumanDuration(Duration::from_millis(300));
    };
    let control_plane = ControlPlane::start_with(soon).await;
    let (mut older, _) = running(&control_plane, "n1").await;
    let (mut silent, _) = other_process(&control_plane, "n1", "second").await;
    control_plane.add(UNREACHABLE).await;
    let push = older.push().await;
    older.ack(&push).await;
    // The newer process does not answer: its stream is ended with a reason, and the older one keeps its status.
    assert_eq!(end(&mut silent).await.code(), Code::DeadlineExceeded);
    let shown = node_is(&control_plane, "n1", |node| node["state"] == "active").await;
    assert!(shown["last_error"]["text"].as_str().unwrap().contains("neither acknowledged"), "{shown}");
}

#[tokio::test]
async fn labels_are_shown_and_remembered() {
    let control_plane = ControlPlane::start().await;
    let labels = [("zone".to_owned(), "west".to_owned())].into();
    let node = Node::connect(&control_plane, v1::Hello { labels, ..hello("n1") }).await;
    let shown = node_is(&control_plane, "n1", |node| node["connected"] == true).await;
    assert_eq!(shown["labels"], json!({ "zone": "west" }));
    drop(node);
    node_is(&control_plane, "n1", |node| node["connected"] == false).await;
    let folder = control_plane.stop().await;
    let again = control_plane::start(support::config(&folder.path().join("weir.db"))).await.unwrap();
    let control_plane = ControlPlane::from(folder, again);
    let shown = node_is(&control_plane, "n1", |_| true).await;
    assert_eq!((&shown["labels"], &shown["connected"]), (&json!({ "zone": "west" }), &json!(false)));
}

#[tokio::test]
async fn a_node_that_is_disconnected_for_long_is_forgotten() {
    let soon = |config: &mut control_plane::Config| {
        config.forget_nodes = HumanDuration(Duration::from_millis(200));
    };
    let control_plane = ControlPlane::start_with(soon).await;
    let (_stays, _) = running(&control_plane, "stays").await;
    let (leaving, _) = running(&control_plane, "leaving").await;
    drop(leaving);
    let left = |nodes: &Value| nodes["items"].as_array().unwrap().len() == 1;
    let nodes = control_plane.wait_for("/nodes", left).await;
    assert_eq!(nodes["items"][0]["id"], "stays");
    let control_plane = control_plane.killed_and_started().await;
    let nodes = control_plane.get("/nodes").await;
    assert!(nodes["items"].as_array().unwrap().iter().all(|node| node["id"] != "leaving"), "{nodes}");
}

#[tokio::test]
async fn the_counts_and_gaps_of_a_forgotten_node_stay() {
    let world = World::new("2026-11-21T13:00:00Z").await;
    for (node, through) in [("stays", "2026-11-21T12:59:59Z"), ("leaving", "2026-11-21T12:10:00Z")] {
        let first = batch(1, "2026-11-21T12:00:01Z", vec![row("2026-11-21T12:00:00Z", 200, &[100])]);
        let last = batch(2, through, vec![row("2026-11-21T12:05:00Z", 200, &[100])]);
        for batch in [first, last] {
            world.stats.ingest(of_node(node, batch)).await.unwrap();
        }
    }
    world.at("2026-11-21T13:30:00Z");
    let hourly = async || {
        support::world::get(&world.stats, "/reports/hourly?from=2026-11-21T12:00:00Z&to=2026-11-21T13:00:00Z")
            .await
            .2
    };
    let before = hourly().await;
    assert!(before.contains("\"expected\":2") && before.contains("partial"), "{before}");
    let met = control_plane::store::SeenNode { id: "leaving".into(), ..Default::default() };
    world.store.change(|db| async move { db.nodes_met(&[met]).await }).await.unwrap();
    world.store.change(|db| async move { db.forget_nodes(&["leaving".to_owned()]).await }).await.unwrap();
    assert_eq!(hourly().await, before);
}

#[tokio::test]
async fn a_hundred_nodes_that_connect_at_once_all_get_the_revision() {
    let control_plane = ControlPlane::start().await;
    control_plane.add(UNREACHABLE).await;
    let join = |n: usize| {
        let control_plane = &control_plane;
        async move {
            let mut node = Node::connect(control_plane, hello(&format!("n{n}"))).await;
            let push = node.push().await;
            node.ack(&push).await;
            node
        }
    };
    let _nodes = futures_util::future::join_all((0..100).map(join)).await;
    let all_active = |nodes: &Value| {
        let items = nodes["items"].as_array().unwrap();
        items.len() == 100 && items.iter().all(|node| node["state"] == "active")
    };
    control_plane.wait_for("/nodes", all_active).await;
}
