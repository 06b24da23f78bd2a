//! The protocol of the nodes' port: revisions, health and counts.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::{
    Histogram,
    serialization::{Serializer as _, V2Serializer},
};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use support::{
    ControlPlane, DEADLINE,
    node::{Node, Push, Received, UNREACHABLE, client, hello, node_is, running},
    within,
};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;
use weir_proto::{
    FORMAT,
    v1::{self, Health, subscribe_request::Message},
};

async fn set_weight(control_plane: &ControlPlane, weight: u32) {
    let body = json!({ "weight": weight }).to_string();
    control_plane.call("PATCH", "/backends/b1", &body).await.expect(200);
}

#[tokio::test]
async fn a_new_node_gets_a_snapshot_then_the_health_then_deltas() {
    let control_plane = ControlPlane::start().await;
    let mut node = Node::connect(&control_plane, hello("n1")).await;
    let Received::Push(whole) = node.next().await.unwrap() else { panic!("the configuration comes first") };
    assert_eq!((whole.revision, whole.from), (1, None));
    let Received::Health(health) = node.next().await.unwrap() else { panic!("then the health") };
    assert!(health.complete);
    node.ack(&whole).await;
    let shown = node_is(&control_plane, "n1", |node| node["active_revision"] == 1).await;
    assert_eq!(
        (&shown["connected"], &shown["workers"], &shown["version"]),
        (&json!(true), &json!(2), &json!("1.0"))
    );

    control_plane.add(UNREACHABLE).await;
    let added = node.push().await;
    assert_eq!((added.revision, added.from), (2, Some(1)));
    node.ack(&added).await;
    node.health("b1", Health::Down).await;
    control_plane.call("DELETE", "/backends/b1", "").await.expect(200);
    let removed = node.push().await;
    assert_eq!((removed.revision, removed.from, &removed.hash), (3, Some(2), &whole.hash));
}

#[tokio::test]
async fn an_up_to_date_node_gets_only_later_changes() {
    let control_plane = ControlPlane::start().await;
    let (node, push) = running(&control_plane, "n1").await;
    let resources = node.resources.clone();
    drop(node);
    node_is(&control_plane, "n1", |node| node["connected"] == false).await;
    let back = v1::Hello { active_revision: push.revision, active_hash: push.hash, ..hello("n1") };
    let mut node = Node::connect(&control_plane, back).await;
    node.resources = resources;
    assert!(
        matches!(node.next().await.unwrap(), Received::Health(_)),
        "nothing of the configuration is news"
    );
    control_plane.add(UNREACHABLE).await;
    let push = node.push().await;
    assert_eq!((push.revision, push.from), (2, Some(1)));
}

#[tokio::test]
async fn one_push_is_open_at_a_time_and_newer_ones_are_merged() {
    let control_plane = ControlPlane::start().await;
    let (mut node, _) = running(&control_plane, "slow").await;
    let (mut other, _) = running(&control_plane, "swift").await;
    control_plane.add(UNREACHABLE).await;
    let open = node.push().await;
    assert_eq!(open.revision, 2);
    let push = other.push().await;
    other.ack(&push).await;
    // Each revision has reached the answering node before the next is made: the silent one could have had it as well.
    for revision in 3..=5 {
        set_weight(&control_plane, revision).await;
        let push = other.push().await;
        assert_eq!(push.revision, u64::from(revision));
        other.ack(&push).await;
    }
    node.ack(&open).await;
    let next = node.push().await;
    assert_eq!((next.revision, next.from), (5, Some(2)), "all three come as one, from what is acknowledged");
}

#[tokio::test]
async fn only_the_open_push_is_acknowledged_and_only_with_its_hash() {
    let control_plane = ControlPlane::start().await;
    let (mut node, _) = running(&control_plane, "n1").await;
    control_plane.add(UNREACHABLE).await;
    let open = node.push().await;
    set_weight(&control_plane, 2).await;
    node.ack(&Push { revision: 3, ..open.clone() }).await;
    node.ack(&Push { hash: "0".repeat(32), ..open.clone() }).await;
    node.reject(&Push { revision: 3, ..open.clone() }, "pools[0]").await;
    // Messages are processed in order: once this one is visible, the earlier ones were processed.
    node.send(Message::Load(v1::Load { connections: 5, ..Default::default() })).await;
    let shown = node_is(&control_plane, "n1", |node| node["connections"] == 5).await;
    assert_eq!((&shown["active_revision"], &shown["rejected_revision"]), (&json!(1), &json!(0)));
    node.ack(&open).await;
    let next = node.push().await;
    assert_eq!((next.revision, next.from), (3, Some(2)));
}

#[tokio::test]
async fn a_rejected_revision_is_not_sent_again_and_the_next_one_is() {
    let control_plane = ControlPlane::start().await;
    let (mut node, first) = running(&control_plane, "n1").await;
    let (mut other, _) = running(&control_plane, "n2").await;
    let kept = node.resources.clone();
    control_plane.add(UNREACHABLE).await;
    let refused = node.push().await;
    node.reject(&refused, "pools[0].backends[0]").await;
    let shown = node_is(&control_plane, "n1", |node| node["rejected_revision"] == 2).await;
    assert_eq!(shown["active_revision"], 1);
    assert_eq!(shown["rejection"][0]["path"], "pools[0].backends[0]");
    let push = other.push().await;
    other.ack(&push).await;

    // The next delta starts from the node's active revision.
    let node_resources = kept.clone();
    node.resources = kept;
    set_weight(&control_plane, 2).await;
    let next = node.push().await;
    assert_eq!((next.revision, next.from), (3, Some(1)));
    node.reject(&next, "pools[0].backends[0]").await;
    node_is(&control_plane, "n1", |node| node["rejected_revision"] == 3).await;
    drop(node);
    node_is(&control_plane, "n1", |node| node["connected"] == false).await;

    // The same process does not get it on a new stream either.
    let resources = node_resources;
    let back = v1::Hello { active_revision: 1, active_hash: first.hash, ..hello("n1") };
    let mut node = Node::connect(&control_plane, back).await;
    node.resources = resources;
    assert!(matches!(node.next().await.unwrap(), Received::Health(_)));
    set_weight(&control_plane, 3).await;
    let next = node.push().await;
    assert_eq!((next.revision, next.from), (4, Some(1)), "what it still runs is known");
    node.ack(&next).await;
    let shown = node_is(&control_plane, "n1", |node| node["active_revision"] == 4).await;
    assert_eq!((&shown["rejected_revision"], &shown["rejection"]), (&json!(0), &json!([])));
}

#[tokio::test]
async fn a_delta_that_does_not_apply_is_followed_by_a_snapshot() {
    let control_plane = ControlPlane::start().await;
    let (mut node, _) = running(&control_plane, "n1").await;
    control_plane.add(UNREACHABLE).await;
    let delta = node.push().await;
    assert_eq!(delta.from, Some(1));
    node.reject(&delta, "hash").await;
    assert_eq!(node.push().await, Push { from: None, ..delta });
}

#[tokio::test]
async fn apply_waits_for_the_nodes_and_names_those_that_reject() {
    let control_plane = ControlPlane::start().await;
    let (mut node, _) = running(&control_plane, "n1").await;
    let text = format!(
        "pools:\n- name: default\n  backends:\n  - url: {UNREACHABLE}\nroutes:\n- name: default\n  pool: default\n"
    );
    let (applied, ()) = tokio::join!(control_plane.call("PUT", "/config?wait=20s", &text), async {
        let push = node.push().await;
        node.ack(&push).await;
    });
    let applied = applied.expect(200);
    assert_eq!(
        (&applied["active"], &applied["nodes"]["active"]),
        (&json!(true), &json!(["n1"])),
        "{applied}"
    );

    let text = text.replace(":1\n", ":2\n");
    let (applied, ()) = tokio::join!(control_plane.call("PUT", "/config?wait=20s", &text), async {
        let push = node.push().await;
        node.reject(&push, "pools[0]").await;
    });
    let applied = applied.expect(504);
    assert_eq!((&applied["active"], &applied["revision"]), (&json!(false), &json!(3)));
    assert!(applied["detail"].as_str().unwrap().contains("n1: pools[0]"), "{applied}");
}

#[tokio::test]
async fn meaningless_messages_do_not_end_the_stream() {
    let control_plane = ControlPlane::start().await;
    let mut node = Node::connect(&control_plane, hello("n1")).await;
    let push = node.push().await;
    node.ack(&Push { revision: 99, from: None, hash: "never sent".into() }).await;
    node.reject(&Push { revision: 99, from: None, hash: String::new() }, "hash").await;
    node.send_raw(None).await;
    node.send(Message::Hello(hello("somebody-else"))).await;
    let unknown =
        v1::BackendLoad { backend_id: "b99".into(), active_requests: u32::MAX, ..Default::default() };
    node.send(Message::Load(v1::Load { connections: 5, backends: vec![unknown], ..Default::default() }))
        .await;
    node.ack(&push).await;
    node.ack(&push).await;
    let shown = node_is(&control_plane, "n1", |node| node["active_revision"] == 1).await;
    assert_eq!((&shown["connected"], &shown["connections"]), (&json!(true), &json!(5)));
    assert_eq!(control_plane.get("/nodes").await["items"].as_array().unwrap().len(), 1);
    control_plane.add(UNREACHABLE).await;
    assert_eq!(node.push().await.revision, 2, "the stream continues");
}

/// Sends bytes as the whole body of a gRPC call; returns the status from the header or trailer.
async fn raw_call(control_plane: &ControlPlane, path: &str, body: &[u8]) -> String {
    let stream = TcpStream::connect(control_plane.nodes()).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://{}{path}", control_plane.nodes()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::copy_from_slice(body)))
        .unwrap();
    let response = within("an answer", sender.send_request(request)).await.unwrap();
    let head = response.headers().get("grpc-status").cloned();
    let body = within("the answer's end", response.into_body().collect()).await.unwrap();
    let status = head.or_else(|| body.trailers().and_then(|trailers| trailers.get("grpc-status").cloned()));
    status.unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn garbage_ends_only_its_own_stream() {
    let control_plane = ControlPlane::start().await;
    let (mut node, _) = running(&control_plane, "n1").await;
    for (path, bodies) in [
        (
            "/weir.v1.Nodes/Subscribe",
            [&b"\0\0\0\0\x05\xff\xff\xff\xff\xff"[..], b"\0\xff\xff\xff\xff", b"GET / HTTP", b""],
        ),
        (
            "/weir.v1.Nodes/Report",
            [&b"\0\0\0\0\x05\xff\xff\xff\xff\xff"[..], b"\0\xff\xff\xff\xff", b"GET / HTTP", b""],
        ),
    ] {
        for body in bodies {
            assert_ne!(raw_call(&control_plane, path, body).await, "0", "{path} {body:?}");
        }
    }
    let mut anonymous = Node::connect(&control_plane, hello("")).await;
    assert_eq!(anonymous.next().await.unwrap_err().code(), Code::InvalidArgument);
    control_plane.add(UNREACHABLE).await;
    assert_eq!(node.push().await.revision, 2, "the node beside it has noticed nothing");
}

#[tokio::test]
async fn a_node_with_an_older_format_is_rejected_with_a_reason() {
    let control_plane = ControlPlane::start().await;
    let mut old = Node::connect(&control_plane, v1::Hello { format: 0, ..hello("old") }).await;
    let status = old.next().await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("upgrade the node"), "{status}");
    assert_eq!(control_plane.get("/nodes").await["items"], json!([]));
    let newer = v1::Hello { format: FORMAT + 1, ..hello("newer") };
    assert_eq!(Node::connect(&control_plane, newer).await.push().await.revision, 1);
}

#[tokio::test]
async fn loads_of_all_nodes_are_summed() {
    let control_plane = ControlPlane::start().await;
    control_plane.add(UNREACHABLE).await;
    let (one, _) = running(&control_plane, "n1").await;
    let (two, _) = running(&control_plane, "n2").await;
    for (node, active_requests) in [(&one, 3), (&two, 4)] {
        let backends =
            vec![v1::BackendLoad { backend_id: "b1".into(), active_requests, ..Default::default() }];
        node.send(Message::Load(v1::Load { backends, ..Default::default() })).await;
    }
    control_plane.wait_for("/backends/b1", |backend| backend["active_connections"] == 7).await;
    drop(two);
    control_plane.wait_for("/backends/b1", |backend| backend["active_connections"] == 3).await;
}

fn batch(sequence: u64, statuses: &[u32]) -> v1::ReportRequest {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut histogram = Histogram::<u64>::new(2).unwrap();
    histogram.record(1000).unwrap();
    let mut latency = Vec::new();
    V2Serializer::new().serialize(&histogram, &mut latency).unwrap();
    let rows = statuses.iter().map(|status| v1::TrafficRow {
        minute: now.as_secs() / 60,
        route: "default".into(),
        pool: "default".into(),
        backend: "b1".into(),
        status: *status,
        requests: 1,
        latency: latency.clone(),
        latency_max_us: 1000,
        ..Default::default()
    });
    v1::ReportRequest {
        format: FORMAT,
        node_id: "n1".into(),
        boot_id: "n1-boot".into(),
        sequence,
        rows: rows.collect(),
        sent_at_ms: u64::try_from(now.as_millis()).unwrap(),
        dropped_rows: 0,
        ..Default::default()
    }
}

#[tokio::test]
async fn batches_count_once_whatever_their_order_and_malformed_ones_not_at_all() {
    let control_plane = ControlPlane::start().await;
    // Reports accept names of stored revisions.
    assert_eq!(control_plane.add(UNREACHABLE).await, "b1");
    let (mut node, _) = running(&control_plane, "n1").await;
    let mut reports = client(&control_plane).await;
    for (sequence, statuses, duplicate) in [
        (3, &[200, 503][..], false),
        (1, &[200], false),
        (3, &[200, 503], true),
        (2, &[200, 404], false),
        (1, &[200], true),
    ] {
        let answer = reports.report(batch(sequence, statuses)).await.unwrap().into_inner();
        assert_eq!(answer, v1::ReportResponse { sequence, duplicate });
    }
    let mut broken = batch(4, &[200]);
    broken.rows[0].latency = b"not a histogram".to_vec();
    let mut miscounted = batch(4, &[200]);
    miscounted.rows[0].requests = 2;
    for malformed in [
        v1::ReportRequest { format: FORMAT + 1, ..batch(4, &[200]) },
        v1::ReportRequest { node_id: String::new(), ..batch(4, &[200]) },
        v1::ReportRequest { sequence: 0, ..batch(4, &[200]) },
        batch(4, &[200, 999]),
        broken,
        miscounted,
    ] {
        assert_eq!(reports.report(malformed).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let summary = control_plane.get("/reports/summary").await;
    assert_eq!(summary["requests"], 5, "{summary}");
    assert_eq!(summary["status"], json!({ "200": 3, "404": 1, "503": 1 }));
    control_plane.add("http://127.0.0.1:2").await;
    assert_eq!(node.push().await.revision, 3, "the stream is alive");

    let control_plane = control_plane.killed_and_started().await;
    let mut reports = client(&control_plane).await;
    assert!(reports.report(batch(2, &[200, 404])).await.unwrap().into_inner().duplicate);
    assert!(!reports.report(batch(4, &[200])).await.unwrap().into_inner().duplicate);
    assert_eq!(control_plane.get("/reports/summary").await["requests"], 6);
}

/// A pool with this probe interval and one backend at the listener.
async fn probed(control_plane: &ControlPlane, listener: &TcpListener, interval: &str) {
    let url = format!("http://{}", listener.local_addr().unwrap());
    let check = json!({ "type": "tcp", "interval": interval, "rise": 2, "fall": 3, "timeout": "1s" });
    let pool = json!({ "health_check": check, "backends": [{ "url": url }] }).to_string();
    control_plane.call("PUT", "/pools/default", &pool).await.expect(200);
    control_plane.wait_for("/backends/b1", |backend| backend["health"] == "up").await;
}

#[tokio::test]
async fn fall_failures_make_a_backend_down_and_rise_successes_up() {
    let control_plane = ControlPlane::start().await;
    // A separate address: no other program takes the port while it is free.
    let listener = TcpListener::bind("127.0.77.1:0").await.unwrap();
    probed(&control_plane, &listener, "1h").await;
    let (mut node, _) = running(&control_plane, "n1").await;
    let address = listener.local_addr().unwrap();
    drop(listener);
    let check = async || control_plane.call("POST", "/backends/b1/check", "").await.expect(200);
    for alive in [true, true, false] {
        let found = check().await;
        assert_eq!((&found["ok"], &found["detail"]), (&json!(false), &json!("connection refused")));
        assert_eq!(control_plane.get("/backends/b1").await["alive"], alive);
    }
    node.health("b1", Health::Down).await;
    let _listener = TcpListener::bind(address).await.unwrap();
    for alive in [false, true] {
        assert_eq!(check().await["ok"], true);
        assert_eq!(control_plane.get("/backends/b1").await["alive"], alive);
    }
    node.health("b1", Health::Up).await;
}

#[tokio::test]
async fn a_lost_backend_is_down_within_fall_times_interval_and_returns() {
    let control_plane = ControlPlane::start().await;
    let listener = TcpListener::bind("127.0.77.2:0").await.unwrap();
    probed(&control_plane, &listener, "500ms").await;
    let address = listener.local_addr().unwrap();
    drop(listener);
    let begun = Instant::now();
    control_plane.wait_for("/backends/b1", |backend| backend["alive"] == false).await;
    // Three probes, plus time for a machine that is busy with other tests.
    let bound = Duration::from_millis(3 * 500) + Duration::from_secs(2);
    assert!(begun.elapsed() < bound, "{:?}", begun.elapsed());
    assert!(bound < DEADLINE);
    let _listener = TcpListener::bind(address).await.unwrap();
    let backend = control_plane.wait_for("/backends/b1", |backend| backend["alive"] == true).await;
    assert_eq!((&backend["health"], &backend["last_check"]), (&json!("up"), &json!("connected")));
}

#[tokio::test]
async fn nodes_get_the_fleet_size_before_a_revision_and_on_each_change() {
    let control_plane = ControlPlane::start().await;
    let mut first = Node::connect(&control_plane, hello("n1")).await;
    first.push().await;
    assert_eq!(first.sizes, [1], "before the revision that may have a limit to share");
    let mut second = Node::connect(&control_plane, hello("n2")).await;
    second.size(2).await;
    first.size(2).await;
    drop(second);
    first.size(1).await;
}
