//! A million known requests of three nodes over an unreliable connection that loses, repeats and delays batches,
//! while a node and the control plane are killed. Every count in every report must equal the generated requests,
//! percentiles must be within 1 %, and losses of the killed node must be marked as incomplete.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests")]

mod expect;
mod forms;
mod line;
mod trace;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use e2e::{Fleet, eventually, get, played, send};
use expect::Expect;
use line::Line;
use serde_json::Value;
use tokio::{sync::Semaphore, task::JoinSet};
use tonic::transport::Endpoint;
use trace::{BATCHES, MINUTES, NODES, Trace};
use weir_proto::v1::nodes_client::NodesClient;

/// Batches of one node in flight: more than one, so that they overtake each other.
const UNDER_WAY: usize = 6;
/// The node that is killed, and after which of its batches.
const KILLED: (usize, usize) = (2, 12);

/// Progress of all nodes' batches.
struct Play {
    trace: Trace,
    line: String,
    /// Delivered batches that must arrive.
    done: AtomicU64,
    /// Whether the killed node is dead: its batches in flight are not repeated.
    dead: AtomicBool,
}

impl Play {
    /// Delivers one batch: repeats it until it is acknowledged or its node is dead.
    async fn deliver(self: Arc<Self>, node: usize, boot: &'static str, sequence: u64, number: usize) {
        let sent = self.trace.batch(node, number);
        let last = number == BATCHES - 1;
        let batch = played::batch(&format!("n{node}"), boot, sequence, self.trace.sent_at_ms(number), sent);
        let batch = weir_proto::v1::ReportRequest { last, ..batch.unwrap() };
        let mut client = NodesClient::new(Endpoint::from_shared(self.line.clone()).unwrap().connect_lazy());
        while client.report(batch.clone()).await.is_err() {
            if self.dead.load(Relaxed) && (node, boot) == (KILLED.0, "first") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.done.fetch_add(1, Relaxed);
    }

    /// Delivers a node's batches in order, several of them in flight.
    async fn live(self: Arc<Self>, node: usize, boot: &'static str, numbers: std::ops::Range<usize>) {
        let room = Arc::new(Semaphore::new(UNDER_WAY));
        let mut under_way = JoinSet::new();
        for (sequence, number) in (1..).zip(numbers) {
            let place = Arc::clone(&room).acquire_owned().await.unwrap();
            let play = Arc::clone(&self);
            under_way.spawn(async move {
                play.deliver(node, boot, sequence, number).await;
                drop(place);
            });
        }
        while let Some(ended) = under_way.join_next().await {
            ended.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_requests_are_counted_exactly_over_an_unreliable_connection() {
    let mut fleet = Fleet::start(0, 0).await.unwrap();
    // Reports accept names of stored revisions.
    let answer = send("PUT", fleet.admin(), "/config", &trace::config().to_string()).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let line = Line::start(fleet.nodes_address()).await;
    let play = Arc::new(Play {
        trace: Trace::new(),
        line: line.url(),
        done: AtomicU64::new(0),
        dead: AtomicBool::new(false),
    });
    let mut lives = JoinSet::new();
    for node in (0..NODES).filter(|node| *node != KILLED.0) {
        lives.spawn(Arc::clone(&play).live(node, "first", 0..BATCHES));
    }
    // One node is killed with batches in flight: those that were never sent are lost with it.
    line.cut("n2", KILLED.1 as u64 - 1);
    let killed = tokio::spawn(Arc::clone(&play).live(KILLED.0, "first", 0..KILLED.1));
    eventually("the killed node's first batches", Duration::from_secs(60), async || {
        let arrived = line.arrived();
        let has = |sequence| arrived.contains(&("n2".to_owned(), "first".to_owned(), sequence));
        (1..=5).all(has).then_some(())
    })
    .await
    .unwrap();
    play.dead.store(true, Relaxed);
    killed.await.unwrap();
    lives.spawn(Arc::clone(&play).live(KILLED.0, "second", KILLED.1..BATCHES));
    // The control plane is killed twice while batches arrive.
    for part in [1, 2] {
        let enough = (NODES * BATCHES * part / 3) as u64;
        eventually("some more batches", Duration::from_secs(60), async || {
            (play.done.load(Relaxed) >= enough).then_some(())
        })
        .await
        .unwrap();
        fleet.control_plane.take().unwrap().kill();
        fleet.start_control_plane().unwrap();
    }
    while let Some(ended) = lives.join_next().await {
        ended.unwrap();
    }
    let said = line.said();
    println!("the line: {said:?}");
    assert!([said.lost, said.unanswered, said.repeated, said.late].iter().all(|n| *n > 5), "{said:?}");

    // Reports cover the batches that arrived; the others died with the node.
    let arrived: BTreeSet<(usize, usize)> = line
        .arrived()
        .into_iter()
        .map(|(node, boot, sequence)| {
            let first = if boot == "second" { KILLED.1 } else { 0 };
            (node[1..].parse().unwrap(), first + usize::try_from(sequence).unwrap() - 1)
        })
        .collect();
    let gone: Vec<(usize, usize)> = (0..NODES)
        .flat_map(|node| (0..BATCHES).map(move |number| (node, number)))
        .filter(|batch| !arrived.contains(batch))
        .collect();
    assert!(!gone.is_empty() && gone.iter().all(|(node, _)| *node == KILLED.0), "{gone:?}");
    let expect = Expect::new(&play.trace, &arrived);
    let total = expect.count();
    let died = Trace::REQUESTS - total;
    println!("{total} requests arrived, {died} died with their node, in {} batches", gone.len());
    assert!(total > Trace::REQUESTS * 9 / 10);

    every_report_equals_the_generated_requests(&fleet, &expect).await;
    forms::every_format_has_the_same_counts(&fleet, &play.trace).await;
    forms::derived_values_are_correct(&fleet, &play.trace).await;
    lost_batches_are_marked(&fleet, &play.trace, &gone).await;
}

async fn report(fleet: &Fleet, path: &str) -> Value {
    let answer = get(fleet.admin(), path).await.unwrap();
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json().unwrap()
}

async fn every_report_equals_the_generated_requests(fleet: &Fleet, expect: &Expect<'_>) {
    let range = expect.range();
    let filters = [
        "",
        "&route=shop",
        "&route=search",
        "&pool=shop",
        "&backend=b1",
        "&backend=b6",
        "&method=POST",
        "&host=a.example",
        "&host=d.example",
        "&route=shop&backend=b2",
        "&route=api&method=GET",
        "&pool=api&backend=b5&method=POST",
    ];
    for filter in filters {
        let path = format!("/reports/summary?{range}{filter}");
        expect.same(&path, &report(fleet, &path).await, expect::filter(filter));
    }
    for (kind, more, minutes) in [
        ("minutely", "", 1),
        ("hourly", "", 60),
        ("hourly", "&route=search", 60),
        ("hourly", "&host=b.example", 60),
        ("hourly", "&route=api&method=GET", 60),
        ("hourly", "&tz=Asia/Kolkata", 60),
        ("daily", "", 24 * 60),
        ("daily", &format!("&tz={}", expect.zone_with_midnight()), 24 * 60),
    ] {
        let path = format!("/reports/{kind}?{range}{more}");
        expect.same_periods(&path, &report(fleet, &path).await, minutes, expect::filter(more));
    }
    for by in ["route", "pool", "backend", "method", "status", "host"] {
        let path = format!("/reports/top?{range}&by={by}&limit=1000");
        expect.same_top(&path, &report(fleet, &path).await, by, |_| true);
    }
    let path = format!("/reports/top?{range}&by=backend&route=api&limit=1000");
    expect.same_top(&path, &report(fleet, &path).await, "backend", |request| request.labels.route == "api");
}

/// The lost time is marked: it is within the minutes of the lost batches and their neighbours, and no other time is
/// incomplete.
async fn lost_batches_are_marked(fleet: &Fleet, trace: &Trace, gone: &[(usize, usize)]) {
    let range = trace.range();
    let minutes = report(fleet, &format!("/reports/minutely?{range}")).await;
    let states: Vec<&str> =
        minutes["periods"].as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!(states.len() as u64, MINUTES);
    for (minute, state) in (0..).zip(&states) {
        let distance = |number: usize| {
            let of = trace.minutes(number);
            if minute < of.start { of.start - minute } else { (minute + 1).saturating_sub(of.end) }
        };
        let nearest = gone.iter().map(|(_, number)| distance(*number)).min().unwrap();
        match nearest {
            0 => assert_eq!(*state, "partial", "minute {minute} of {states:?}"),
            1..=4 => {}
            _ => assert_eq!(*state, "complete", "minute {minute} of {states:?}"),
        }
    }
    let summary = report(fleet, &format!("/reports/summary?{range}")).await;
    assert_eq!(summary["complete"], false, "{summary}");
    assert_eq!((&summary["nodes"]["expected"], &summary["nodes"]["reported"]), (&3.into(), &2.into()));
}
