//! The node's side of the control stream and of reports, with a scripted control plane.

mod support;

use tokio::{io::AsyncReadExt as _, net::TcpListener};
use tonic::Status;
use weir_proto::v1::{Health, ReportRequest, ResourceKey, Snapshot, TrafficRow, subscribe_response::Message};
use weir_snapshot::{Config, config::Backend};

use support::{FakeControlPlane, Node, Origin, delta, node::program, snapshot};

/// The default configuration with these backends, named b1, b2, ...
fn config(backends: &[&Origin]) -> Config {
    let mut config = Config::default();
    config.pools[0].backends = backends
        .iter()
        .enumerate()
        .map(|(i, origin)| Backend {
            id: format!("b{}", i + 1),
            url: origin.url(),
            weight: 1,
            state: Default::default(),
        })
        .collect();
    config
}

/// The backends that answer four requests in a row.
async fn answering(node: &Node) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..4 {
        let answer = node.get("/").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        names.push(answer.body);
    }
    names.sort();
    names.dedup();
    names
}

/// Waits until exactly these backends answer.
async fn answered_by(node: &Node, names: &[&str]) {
    let all = async {
        while answering(node).await != names {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(support::DEADLINE, all).await.unwrap_or_else(|_| panic!("never only {names:?}"));
}

/// The rows of the batches, each sequence once, as a control plane stores them.
fn stored(batches: &[ReportRequest]) -> Vec<&TrafficRow> {
    let stored: std::collections::BTreeMap<u64, &ReportRequest> =
        batches.iter().map(|batch| (batch.sequence, batch)).collect();
    stored.values().flat_map(|batch| &batch.rows).collect()
}

/// Requests in the batches, each sequence counted once.
fn counted(batches: &[ReportRequest]) -> u64 {
    stored(batches).iter().map(|row| row.requests).sum()
}

#[tokio::test]
async fn a_node_started_first_logs_once_that_it_waits_for_the_control_plane() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    let node = Node::start(&format!("http://{address}")).await;
    for _ in 0..3 {
        // Each connection attempt of the node is accepted and closed.
        let (mut stream, _) =
            tokio::time::timeout(support::DEADLINE, closed.accept()).await.unwrap().unwrap();
        let _ = stream.read(&mut [0; 16]).await;
    }
    assert_eq!(node.ask("/healthz").await.status, 200);
    let unready = node.ask("/readyz").await;
    assert_eq!(unready.status, 503);
    assert!(unready.body.contains("no snapshot"), "{unready:?}");
    assert_eq!(node.log().matches(" WARN ").count(), 1, "{}", node.log());

    drop(closed);
    let origin = Origin::start("one").await;
    let control_plane = FakeControlPlane::start_at(address, config(&[&origin])).await;
    control_plane.acked(1).await;
    node.ready().await;
    assert_eq!(answering(&node).await, ["one"]);
    assert_eq!(node.log().matches(" WARN ").count(), 1, "{}", node.log());
}

#[tokio::test]
async fn a_snapshot_is_acknowledged_with_its_hash_once_it_is_active() {
    let origin = Origin::start("one").await;
    let config = config(&[&origin]);
    let control_plane = FakeControlPlane::start(config.clone()).await;
    let node = Node::start(&control_plane.url()).await;
    let ack = control_plane.acked(1).await;
    assert_eq!(ack.hash, snapshot(1, &config).hash);
    // An acknowledged revision is active: no waiting is needed.
    assert_eq!(answering(&node).await, ["one"]);
    let hello = control_plane.heard(|heard| heard.hellos[0].clone());
    assert_eq!((hello.node_id.as_str(), hello.workers, hello.format), ("node-1", 1, weir_proto::FORMAT));
    assert_eq!((hello.active_revision, hello.active_hash.as_str()), (0, ""));
    assert_eq!(hello.address, node.http.to_string());
    assert!(!hello.boot_id.is_empty() && !hello.version.is_empty());
    control_plane.wait("the load", |heard| heard.loads.iter().find(|load| load.requests >= 4).cloned()).await;
}

#[tokio::test]
async fn a_delta_changes_the_resources_it_contains() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let (before, after) = (config(&[&one]), config(&[&one, &two]));
    let control_plane = FakeControlPlane::start(before.clone()).await;
    let node = Node::start(&control_plane.url()).await;
    control_plane.acked(1).await;
    control_plane.push(Message::Delta(delta(1, &before, 2, &after)));
    assert_eq!(control_plane.acked(2).await.hash, snapshot(2, &after).hash);
    assert_eq!(answering(&node).await, ["one", "two"]);
    control_plane.push(Message::Delta(delta(2, &after, 3, &before)));
    control_plane.acked(3).await;
    assert_eq!(answering(&node).await, ["one"]);
}

#[tokio::test]
async fn a_delta_that_does_not_apply_is_rejected_and_a_snapshot_accepted() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let (before, after) = (config(&[&one]), config(&[&two]));
    let control_plane = FakeControlPlane::start(before.clone()).await;
    let node = Node::start(&control_plane.url()).await;
    control_plane.acked(1).await;

    let mut wrong = delta(1, &before, 2, &after);
    wrong.hash = "0".repeat(32);
    control_plane.push(Message::Delta(wrong));
    assert_eq!(control_plane.rejected(2).await.problems[0].path, "hash");

    control_plane.push(Message::Delta(delta(7, &before, 8, &after)));
    assert_eq!(control_plane.rejected(8).await.problems[0].path, "from_revision");

    let mut gone = delta(1, &before, 9, &after);
    gone.removed.push(ResourceKey { kind: 3, name: "b99".into() });
    control_plane.push(Message::Delta(gone));
    assert!(!control_plane.rejected(9).await.problems.is_empty());
    assert_eq!(answering(&node).await, ["one"]);

    // Nothing of the rejected ones remained: a delta from revision 1 still applies.
    control_plane.push(Message::Delta(delta(1, &before, 10, &after)));
    control_plane.acked(10).await;
    assert_eq!(answering(&node).await, ["two"]);
    control_plane.push(Message::Snapshot(snapshot(11, &before)));
    control_plane.acked(11).await;
    assert_eq!(answering(&node).await, ["one"]);
    assert_eq!(control_plane.heard(|heard| heard.hellos.len()), 1, "the stream survived");
}

/// A way to damage a snapshot, and the expected rejection.
type Spoiling = (fn(&mut Snapshot), &'static str);

#[tokio::test]
async fn invalid_messages_are_rejected_with_their_path_and_the_node_continues() {
    let origin = Origin::start("one").await;
    let good = config(&[&origin]);
    let control_plane = FakeControlPlane::start(good.clone()).await;
    let node = Node::start(&control_plane.url()).await;
    control_plane.acked(1).await;

    let spoilings: [Spoiling; 8] = [
        (|it| it.format = 99, "format"),
        (|it| it.format = 0, "format"),
        (|it| it.hash.clear(), "hash"),
        (|it| it.resources.clear(), "hash"),
        (|it| it.resources[0].key = None, "key"),
        (|it| it.resources[0].key.as_mut().unwrap().kind = 77, "kind"),
        (|it| it.resources[0].spec = vec![0xff, 0xfe], "UTF-8"),
        (|it| it.resources.push(it.resources[0].clone()), "duplicate"),
    ];
    for (revision, (spoil, says)) in (100..).zip(spoilings) {
        let mut spoilt = snapshot(revision, &good);
        spoil(&mut spoilt);
        control_plane.push(Message::Snapshot(spoilt));
        let problems = format!("{:?}", control_plane.rejected(revision).await.problems);
        assert!(problems.contains(says), "{says}: {problems}");
    }

    // The hash matches but the content is invalid: every problem is reported.
    let mut wrong = good.clone();
    wrong.pools[0].backends[0].url = "ftp://x".into();
    wrong.routes[0].pool = "nowhere".into();
    control_plane.push(Message::Snapshot(snapshot(200, &wrong)));
    let problems = control_plane.rejected(200).await.problems;
    let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert!(paths.contains(&"pools[0].backends[0].url") && paths.contains(&"routes[0].pool"), "{paths:?}");

    assert_eq!(answering(&node).await, ["one"]);
    control_plane.push(Message::Snapshot(snapshot(300, &good)));
    control_plane.acked(300).await;
    assert_eq!(control_plane.heard(|heard| heard.hellos.len()), 1, "the stream survived");
    assert!(node.log().contains("ERROR"), "a person has to look: {}", node.log());
    let metrics = node.ask("/metrics").await.body;
    assert!(metrics.contains("weir_node_snapshots_rejected_total 9"), "{metrics}");
}

#[tokio::test]
async fn a_backend_is_removed_and_returned_by_its_health() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let control_plane = FakeControlPlane::start(config(&[&one, &two])).await;
    let node = Node::start(&control_plane.url()).await;
    control_plane.acked(1).await;
    assert_eq!(answering(&node).await, ["one", "two"]);
    control_plane.push_health(false, &[("b1", Health::Down), ("b99", Health::Down)]);
    answered_by(&node, &["two"]).await;
    control_plane.push_health(false, &[("b2", Health::Up)]);
    answered_by(&node, &["two"]).await;
    // Complete: b1 is not listed, so its health is unknown.
    control_plane.push_health(true, &[("b2", Health::Up)]);
    answered_by(&node, &["one", "two"]).await;
}

#[tokio::test]
async fn a_reconnecting_node_reports_its_revision_and_has_kept_serving() {
    let origin = Origin::start("one").await;
    let config = config(&[&origin]);
    let control_plane = FakeControlPlane::start(config.clone()).await;
    let node = Node::start(&control_plane.url()).await;
    let ack = control_plane.acked(1).await;
    control_plane.greet_with(None);
    control_plane.hang_up();
    let hello = control_plane.wait("a second hello", |heard| heard.hellos.get(1).cloned()).await;
    assert_eq!((hello.active_revision, hello.active_hash), (1, ack.hash));
    assert_eq!(hello.boot_id, control_plane.heard(|heard| heard.hellos[0].boot_id.clone()));
    assert_eq!(answering(&node).await, ["one"]);
    assert_eq!(node.ask("/readyz").await.status, 200);
    // The control plane disappears, as after kill -9.
    drop(control_plane);
    assert_eq!(answering(&node).await, ["one"]);
    assert_eq!(node.ask("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_batch_is_repeated_until_it_is_acknowledged_and_counts_stay_exact() {
    let origin = Origin::start("one").await;
    let control_plane = FakeControlPlane::start(config(&[&origin])).await;
    control_plane.fail_reports((0..3).map(|_| Status::unavailable("not now")));
    let node = Node::start(&control_plane.url()).await;
    control_plane.acked(1).await;
    for _ in 0..5 {
        answering(&node).await;
    }
    let batches = control_plane
        .wait("all counts", |heard| {
            let last = heard.batches.last()?;
            (last.sequence > 1 && counted(&heard.batches) >= 20).then(|| heard.batches.clone())
        })
        .await;
    assert_eq!(counted(&batches), 20);
    assert_eq!(batches[..4].iter().map(|batch| batch.sequence).collect::<Vec<_>>(), [1, 1, 1, 1]);
    assert!(batches[..4].iter().all(|batch| batch.rows == batches[0].rows), "repeated unchanged");
    assert!(batches[..4].iter().all(|batch| batch.sent_at_ms == batches[0].sent_at_ms));
    assert!(
        batches[..4].windows(2).all(|pair| pair[0].clock_ms < pair[1].clock_ms),
        "each attempt sends the clock, so that a wrong clock differs from a delayed batch"
    );
    let row = batches.iter().flat_map(|batch| &batch.rows).next().unwrap();
    assert_eq!((row.route.as_str(), row.pool.as_str(), row.backend.as_str()), ("default", "default", "b1"));
    assert_eq!((row.status, row.retries), (200, 0));
    assert!(row.latency_max_us > 0 && !row.latency.is_empty());
    assert_eq!(stored(&batches).iter().map(|row| row.bytes_out).sum::<u64>(), 60);
}

#[tokio::test]
async fn a_rejected_batch_is_not_repeated_and_is_counted() {
    let origin = Origin::start("one").await;
    let control_plane = FakeControlPlane::start(config(&[&origin])).await;
    control_plane.fail_reports([Status::invalid_argument("rows[0]: no")]);
    let node = Node::start(&control_plane.url()).await;
    control_plane.acked(1).await;
    answering(&node).await;
    control_plane.wait("a refused batch", |heard| (!heard.batches.is_empty()).then_some(())).await;
    answering(&node).await;
    let second = control_plane.wait("another batch", |heard| heard.batches.get(1).cloned()).await;
    assert_eq!(second.sequence, 2);
    assert!(node.log().contains("rows[0]: no"), "{}", node.log());
    let metrics = node.ask("/metrics").await.body;
    assert!(metrics.contains("weir_node_batches_refused_total 1"), "{metrics}");
}

#[tokio::test]
async fn unknown_names_lose_no_counts() {
    let origin = Origin::start("one").await;
    let control_plane = FakeControlPlane::start(config(&[&origin])).await;
    let unknown = || Status::out_of_range("rows: no stored revision has a route \"default\"");
    control_plane.fail_reports([unknown()]);
    let node = Node::start(&control_plane.url()).await;
    control_plane.acked(1).await;
    answering(&node).await;
    let batches =
        control_plane.wait("it comes again", |heard| heard.batches.get(..2).map(<[_]>::to_vec)).await;
    assert_eq!((batches[0].sequence, batches[1].sequence), (1, 1));
    let requests = |batch: &ReportRequest| batch.rows.iter().map(|row| row.requests).sum::<u64>();
    assert!(requests(&batches[0]) > 0 && requests(&batches[0]) == requests(&batches[1]));
    assert!(
        batches[1].rows.iter().all(|row| [&row.route, &row.pool, &row.backend] == ["_other"; 3]),
        "{batches:?}"
    );
    let metrics = node.ask("/metrics").await.body;
    assert!(metrics.contains("weir_node_batches_refused_total 0"), "{metrics}");
}

#[tokio::test]
async fn a_node_without_traffic_sends_an_empty_batch_now_and_then() {
    let origin = Origin::start("one").await;
    let control_plane = FakeControlPlane::start(config(&[&origin])).await;
    let _node = Node::start(&control_plane.url()).await;
    let batch = control_plane.wait("a heart-beat", |heard| heard.batches.first().cloned()).await;
    assert_eq!((batch.sequence, batch.rows.len(), batch.node_id.as_str()), (1, 0, "node-1"));
}

#[tokio::test]
async fn a_stopping_node_delivers_its_last_counts_and_exits_with_success() {
    let origin = Origin::start("one").await;
    let control_plane = FakeControlPlane::start(config(&[&origin])).await;
    let mut node = Node::start(&control_plane.url()).await;
    control_plane.acked(1).await;
    answering(&node).await;
    node.terminate();
    assert!(node.ended().await.success(), "{}", node.log());
    assert_eq!(control_plane.heard(|heard| counted(&heard.batches)), 4);
}

#[tokio::test]
async fn the_status_port_shows_what_the_node_does() {
    let origin = Origin::start("one").await;
    let control_plane = FakeControlPlane::start(config(&[&origin])).await;
    let node = Node::start(&control_plane.url()).await;
    control_plane.acked(1).await;
    answering(&node).await;
    let metrics = node.ask("/metrics").await.body;
    for line in [
        "weir_node_requests_total 4".to_owned(),
        "weir_node_revision 1".to_owned(),
        "weir_node_control_plane_connected 1".to_owned(),
        "weir_node_dropped_rows_total 0".to_owned(),
        format!("weir_node_backend_usable{{backend=\"b1\",url=\"{}\"}} 1", origin.url()),
    ] {
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    assert_eq!(node.ask("/elsewhere").await.status, 404);
}

#[test]
fn the_error_names_an_invalid_flag() {
    for (flag, value) in
        [("--http", "8080"), ("--workers", "0"), ("--drain-timeout", "soon"), ("--log-format", "x")]
    {
        let output = program().args([flag, value]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(flag), "{said}");
    }
}

#[tokio::test]
async fn metrics_are_not_served_under_an_unknown_host_name() {
    let origin = Origin::start("one").await;
    let control_plane = FakeControlPlane::start(config(&[&origin])).await;
    let node = Node::start(&control_plane.url()).await;
    control_plane.acked(1).await;
    let status = |path: &'static str, host: &'static str| {
        let node = &node;
        async move { node.ask_as(path, host).await.status }
    };
    for host in
        ["evil.example", "evil.example:8091", "127.0.0.1.evil.example", "localhost.evil", "a@localhost"]
    {
        assert_eq!(status("/metrics", host).await, 421, "{host}");
        // Probes are answered under any name, because they reveal nothing.
        assert_eq!(status("/healthz", host).await, 200, "{host}");
        assert_eq!(status("/readyz", host).await, 200, "{host}");
    }
    for host in ["127.0.0.1", "localhost:8091", "[::1]:8091", "10.1.2.3:8091"] {
        assert_eq!(status("/metrics", host).await, 200, "{host}");
    }
    let named = Node::start_with(&control_plane.url(), &["--status-host", "edge-1.example"]).await;
    assert_eq!(named.ask_as("/metrics", "edge-1.example:8091").await.status, 200);
    assert_eq!(named.ask_as("/metrics", "evil.example").await.status, 421);
}
