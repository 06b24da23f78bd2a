//! `--state-dir`: an acknowledged revision survives `kill -9`, and a failed write is repeated later.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, outside test functions")]

#[allow(unused_imports, reason = "each test program uses its own part of it")]
mod support;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use support::{FakeControlPlane, Node, snapshot};
use weir_proto::v1::subscribe_response::Message;
use weir_snapshot::{Config, config::Backend};

/// Number of kills over all lanes.
const KILLS: usize = 100;

/// Folders used in parallel.
const LANES: usize = 4;

/// The configuration of a revision.
fn config(revision: u64) -> Config {
    let mut config = Config::default();
    config.pools[0].backends = (0..20)
        .map(|i| Backend {
            id: format!("r{revision}-{i}"),
            url: format!("http://127.0.0.1:{}", 1000 + i).parse().unwrap(),
            weight: 1,
            state: Default::default(),
        })
        .collect();
    config
}

fn message(revision: u64) -> Message {
    Message::Snapshot(snapshot(revision, &config(revision)))
}

async fn node(control_plane: &FakeControlPlane, folder: &Path) -> Node {
    Node::start_with(&control_plane.url(), &["--state-dir", folder.to_str().unwrap()]).await
}

/// The revision that the node has when it connects after this start.
async fn runs(control_plane: &FakeControlPlane, start: usize) -> u64 {
    control_plane.wait("a hello", |heard| heard.hellos.get(start).map(|hello| hello.active_revision)).await
}

/// The highest revision that was acknowledged.
fn acknowledged(control_plane: &FakeControlPlane) -> u64 {
    control_plane.heard(|heard| heard.acks.iter().map(|ack| ack.revision).max().unwrap_or_default())
}

async fn lane(lane: usize) {
    let folder = tempfile::tempdir().unwrap();
    let control_plane = FakeControlPlane::start(config(1)).await;
    let begun = Instant::now();
    let first = node(&control_plane, folder.path()).await;
    control_plane.acked(1).await;
    let took = begun.elapsed();
    drop(first);
    let (mut safe, mut sent) = (1, 1);
    for kill in 0..KILLS / LANES {
        let revision = sent + 1;
        control_plane.greet_with(Some(message(revision)));
        let node = node(&control_plane, folder.path()).await;
        let found = runs(&control_plane, kill + 1).await;
        assert!((safe..=sent).contains(&found), "kill {kill}: it runs {found}, not {safe} to {sent}");
        sent = revision;
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let part = ((kill * LANES + lane) as f64 * 0.618_034).fract();
        match kill % 5 {
            // Right after an acknowledgement.
            4 => drop(control_plane.acked(revision).await),
            // A later revision follows, which may or may not be kept.
            3 => {
                control_plane.acked(revision).await;
                sent += 1;
                control_plane.push(message(sent));
                tokio::time::sleep(took.mul_f64(part)).await;
            }
            _ => tokio::time::sleep(took.mul_f64(part)).await,
        }
        let known = acknowledged(&control_plane);
        let log = node.log();
        drop(node);
        // The first revision of a run is safe once it is acknowledged.
        safe = known.min(revision).max(found);
        assert!(!log.contains("kept state ignored"), "kill {kill}: {log}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_first_survives_a_kill_at_any_moment() {
    let mut lanes = tokio::task::JoinSet::new();
    (0..LANES).for_each(|number| drop(lanes.spawn(lane(number))));
    while let Some(ended) = lanes.join_next().await {
        ended.unwrap();
    }
}

/// Prevents the node from writing to files (`EFBIG`), or allows it again.
fn forbid_files(node: &Node, forbid: bool) {
    let pid = Pid::from_raw(i32::try_from(node.pid()).unwrap());
    prlimit(pid, Resource::Fsize, Rlimit { current: forbid.then_some(0), maximum: None }).unwrap();
}

async fn metric(node: &Node, line: &str) {
    node.ask_until("/metrics", |answer| answer.body.lines().any(|found| found == line)).await;
}

#[tokio::test]
async fn a_state_that_could_not_be_written_is_written_when_it_can() {
    let world = tempfile::tempdir().unwrap();
    let folder = world.path().join("state");
    let control_plane = FakeControlPlane::start(config(1)).await;
    control_plane.greet_with(None);
    let first = node(&control_plane, &folder).await;
    runs(&control_plane, 0).await;
    // The first revision: a failing disk affects neither traffic nor the acknowledgement.
    forbid_files(&first, true);
    control_plane.push(message(1));
    control_plane.acked(1).await;
    metric(&first, "weir_node_state_revision 0").await;
    assert!(first.log().contains("cannot be written to --state-dir"), "{}", first.log());
    forbid_files(&first, false);
    metric(&first, "weir_node_state_revision 1").await;
    // The folder is removed.
    std::fs::remove_dir_all(&folder).unwrap();
    control_plane.push(message(2));
    metric(&first, "weir_node_state_revision 2").await;
    // A file replaces the folder for a while. Afterwards the newest revision is written.
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "").unwrap();
    control_plane.push(message(3));
    control_plane.push(message(4));
    control_plane.acked(4).await;
    tokio::time::timeout(support::DEADLINE, async {
        while !first.log().contains("os error 20") && !first.log().contains("os error 17") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{}", first.log()));
    std::fs::remove_file(&folder).unwrap();
    metric(&first, "weir_node_state_revision 4").await;
    drop(first);
    let _again = node(&control_plane, &folder).await;
    assert_eq!(runs(&control_plane, 1).await, 4);
}

#[tokio::test]
async fn the_last_revision_before_a_stop_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let control_plane = FakeControlPlane::start(config(1)).await;
    let mut first = node(&control_plane, folder.path()).await;
    for revision in 1..=5 {
        control_plane.push(message(revision));
        control_plane.acked(revision).await;
    }
    first.terminate();
    assert!(first.ended().await.success());
    control_plane.greet_with(None);
    let _again = node(&control_plane, folder.path()).await;
    assert_eq!(runs(&control_plane, 1).await, 5);
}
