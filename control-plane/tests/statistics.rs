//! Statistics from batch to report: every request counts once, whatever happens to the batches.

#![allow(clippy::unwrap_used)]

mod support;

use control_plane::stats::{Query, ReportError};
use proptest::prelude::*;
use support::world::{NOON, World, batch, get, ms, row};
use tonic::Code;
use weir_admin_api::Report;
use weir_proto::v1;

#[tokio::test]
async fn a_repeated_batch_is_acknowledged_and_counts_once() {
    let world = World::new(NOON).await;
    let sent = batch(1, NOON, vec![row(NOON, 200, &[1000, 2000])]);
    assert!(!world.stats.ingest(sent.clone()).await.unwrap().duplicate);
    let again = world.stats.ingest(sent.clone()).await.unwrap();
    assert!(again.duplicate && again.sequence == 1);
    assert_eq!(world.requests().await, 2);
    // Also after folding, and after a restart of the control plane.
    assert!(world.stats.ingest(sent.clone()).await.unwrap().duplicate);
    let world = world.restarted().await;
    assert!(world.stats.ingest(sent).await.unwrap().duplicate);
    assert_eq!(world.requests().await, 2);
}

#[tokio::test]
async fn reordered_batches_all_count() {
    let world = World::new(NOON).await;
    for sequence in [3, 1, 5, 2, 4, 2] {
        world.stats.ingest(batch(sequence, NOON, vec![row(NOON, 200, &[1000])])).await.unwrap();
    }
    assert_eq!(world.requests().await, 5);
}

#[tokio::test]
async fn a_batch_of_another_boot_or_node_is_another_batch() {
    let world = World::new(NOON).await;
    for (node, boot) in [("a", "x"), ("a", "y"), ("b", "x")] {
        let mut sent = batch(1, NOON, vec![row(NOON, 200, &[1000])]);
        (sent.node_id, sent.boot_id) = (node.into(), boot.into());
        assert!(!world.stats.ingest(sent).await.unwrap().duplicate);
    }
    assert_eq!(world.requests().await, 3);
}

#[tokio::test]
async fn an_invalid_batch_is_rejected_with_the_position_and_nothing_of_it_is_stored() {
    let world = World::new(NOON).await;
    let good = batch(1, NOON, vec![row(NOON, 200, &[1000]), row(NOON, 404, &[1000])]);
    type Damage = fn(&mut v1::ReportRequest);
    let cases: [(&str, Damage); 13] = [
        ("format: version 9", |batch| batch.format = 9),
        ("node_id: empty", |batch| batch.node_id.clear()),
        ("boot_id: empty", |batch| batch.boot_id.clear()),
        ("node_id: 300 bytes", |batch| batch.node_id = "n".repeat(300)),
        ("sequence: 0", |batch| batch.sequence = 0),
        ("sent_at_ms", |batch| batch.sent_at_ms = 1),
        ("rows[1].minute", |batch| batch.rows[1].minute = u64::MAX),
        ("rows[1].minute", |batch| batch.rows[1].minute += 6),
        ("rows[1].status", |batch| batch.rows[1].status = 600),
        ("rows[1].latency", |batch| batch.rows[1].latency.truncate(20)),
        ("rows[1].latency: counts 1", |batch| batch.rows[1].requests = 2),
        ("rows[1].bytes_out", |batch| batch.rows[1].bytes_out = u64::MAX),
        ("rows[1].route", |batch| batch.rows[1].route = "r".repeat(300)),
    ];
    for (place, damage) in cases {
        let mut bad = good.clone();
        damage(&mut bad);
        let refused = world.stats.ingest(bad).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{place}");
        assert!(refused.message().starts_with(place), "{place}: {}", refused.message());
    }
    assert_eq!(world.requests().await, 0);
    assert!(!world.stats.ingest(good).await.unwrap().duplicate);
    assert_eq!(world.requests().await, 2);
}

/// Requests by minute, and whether the minute is complete.
async fn minutes(world: &World) -> Vec<(String, u64, bool)> {
    let report = world.stats.minutely(&Query::default()).await.unwrap();
    let counted = report.periods.iter().filter(|period| period.measures.requests > 0);
    counted.map(|period| (period.start.clone(), period.measures.requests, period.complete)).collect()
}

#[tokio::test]
async fn counts_of_a_node_with_a_wrong_clock_use_the_control_planes_clock_and_are_marked() {
    const MINUTE: i64 = 60_000;
    let time = |off_ms: i64| jiff::Timestamp::from_millisecond(ms(NOON) + off_ms).unwrap().to_string();
    // How far the node's clock is ahead, and whether the node reports its clock.
    for (off, reports_offset) in [
        (400_000, true),
        (400_000, false),
        (365 * 24 * 60 * MINUTE, true),
        (365 * 24 * 60 * MINUTE, false),
        (-400_000, true),
        (-26 * 60 * MINUTE, true),
        (-ms(NOON) + MINUTE, true),
    ] {
        let world = World::new(NOON).await;
        // The node created two batches, one in the previous minute and one now, which arrive only now.
        for (sequence, at) in [(1, -MINUTE), (2, 0)] {
            let mut sent = batch(sequence, &time(off + at), vec![row(&time(off + at), 200, &[1000, 2000])]);
            sent.hosts =
                vec![v1::TrafficRow { host: "a".into(), ..row(&time(off + at), 200, &[1000, 2000]) }];
            if reports_offset {
                sent.clock_ms = u64::try_from(ms(NOON) + off).unwrap();
            }
            world.stats.ingest(sent).await.unwrap_or_else(|why| panic!("{off} {reports_offset}: {why}"));
        }
        assert_eq!(world.requests().await, 4, "{off} {reports_offset}");
        world.at("2026-11-21T12:05:00Z");
        let minutes = minutes(&world).await;
        assert!(
            minutes.iter().all(|(start, _, complete)| start.as_str() >= "2026-11-21T11:58" && !complete),
            "{off}: {minutes:?}"
        );
    }
    // A smaller clock error is ignored, as is a batch that waited for hours.
    for (clock, sent_at) in [(4 * MINUTE, 4 * MINUTE), (0, -5 * 60 * MINUTE), (-4 * MINUTE, -4 * MINUTE)] {
        let world = World::new(NOON).await;
        let mut sent = batch(1, &time(sent_at), vec![row(&time(sent_at), 200, &[1000])]);
        sent.clock_ms = u64::try_from(ms(NOON) + clock).unwrap();
        world.stats.ingest(sent).await.unwrap();
        world.at("2026-11-21T12:11:00Z");
        let (from, to) = (Some(time(-6 * 60 * MINUTE)), Some(time(10 * MINUTE)));
        let found = world.stats.minutely(&Query { from, to, ..Query::default() }).await.unwrap();
        let counted = found.periods.iter().find(|period| period.measures.requests > 0).unwrap();
        assert_eq!(ms(&counted.start), ms(&time(sent_at)), "{clock} {sent_at}");
    }
}

#[tokio::test]
async fn counts_that_were_restamped_or_overtaken_by_a_clock_that_was_set_are_kept_and_marked() {
    let world = World::new(NOON).await;
    // The node's clock was set while they waited, and the node corrected their minute.
    let sent = batch(1, NOON, vec![row("2026-11-21T11:58:00Z", 200, &[1000])]);
    world.stats.ingest(v1::ReportRequest { restamped_rows: 1, ..sent }).await.unwrap();
    // The clock was set back by ten minutes after the batch was created.
    let ahead = "2026-11-21T12:10:00Z";
    let mut sent = batch(2, ahead, vec![row(ahead, 200, &[1000])]);
    sent.clock_ms = u64::try_from(ms(NOON)).unwrap();
    world.stats.ingest(sent).await.unwrap();
    world.stats.ingest(batch(3, "2026-11-21T12:00:59Z", Vec::new())).await.unwrap();
    world.at("2026-11-21T12:03:00Z");
    let found = minutes(&world).await;
    let counted: Vec<(&str, u64, bool)> =
        found.iter().map(|(start, requests, complete)| (&start[11..16], *requests, *complete)).collect();
    assert_eq!(counted, [("11:58", 1, false), ("12:00", 1, false)]);
}

#[tokio::test]
async fn acknowledged_batches_survive_a_restart_at_any_point() {
    let mut world = World::new(NOON).await;
    for sequence in 1..=30 {
        world.stats.ingest(batch(sequence, NOON, vec![row(NOON, 200, &[1000])])).await.unwrap();
        if sequence % 7 == 0 {
            world = world.restarted().await;
        }
    }
    assert_eq!(world.requests().await, 30);
}

#[tokio::test]
async fn percentiles_of_merged_batches_are_within_one_percent() {
    let world = World::new(NOON).await;
    let latencies: Vec<u64> = (1..=10_000).map(|n| n * 37).collect();
    for (sequence, part) in (1..).zip(latencies.chunks(999)) {
        world.stats.ingest(batch(sequence, NOON, vec![row(NOON, 200, part)])).await.unwrap();
    }
    let latency = world.stats.summary(&Query::default()).await.unwrap().measures.latency_ms;
    for (found, exact) in [(latency.p50, 185.0), (latency.p90, 333.0), (latency.p99, 366.3)] {
        assert!((found - exact).abs() <= exact * 0.01, "{found} is not {exact}");
    }
    assert!((latency.max - 370.0).abs() < f64::EPSILON);
}

fn traffic(report: &Report) -> Vec<(&str, u64)> {
    let periods = report.periods.iter().filter(|period| period.measures.requests > 0);
    periods.map(|period| (period.start.as_str(), period.measures.requests)).collect()
}

#[tokio::test]
async fn days_and_hours_begin_according_to_the_time_zone() {
    let world = World::new("2026-11-20T23:10:00Z").await;
    // Before and after midnight in Kolkata (18:30 UTC), in Berlin (23:00 UTC) and in UTC.
    let times =
        ["2026-11-20T18:29:59Z", "2026-11-20T18:30:00Z", "2026-11-20T22:59:59Z", "2026-11-20T23:00:00Z"];
    let rows = times.iter().map(|time| row(time, 200, &[1000])).collect();
    world.stats.ingest(batch(1, "2026-11-20T23:10:00Z", rows)).await.unwrap();
    world.at("2026-11-21T00:00:30Z");
    let late = vec![row("2026-11-21T00:00:00Z", 200, &[1000])];
    world.stats.ingest(batch(2, "2026-11-21T00:00:30Z", late)).await.unwrap();
    let query = |tz: &str| Query { tz: Some(tz.into()), ..Query::default() };
    let berlin = world.stats.daily(&query("Europe/Berlin")).await.unwrap();
    assert_eq!(traffic(&berlin), [("2026-11-20T00:00:00+01:00", 3), ("2026-11-21T00:00:00+01:00", 2)]);
    let kolkata = world.stats.daily(&query("Asia/Kolkata")).await.unwrap();
    assert_eq!(traffic(&kolkata), [("2026-11-20T00:00:00+05:30", 1), ("2026-11-21T00:00:00+05:30", 4)]);
    let utc = world.stats.daily(&Query::default()).await.unwrap();
    assert_eq!(traffic(&utc), [("2026-11-20T00:00:00Z", 4), ("2026-11-21T00:00:00Z", 1)]);
    assert_eq!(utc.periods.len(), 30);
    let hourly = world.stats.hourly(&query("Asia/Kolkata")).await.unwrap();
    assert_eq!(hourly.periods.len(), 24);
    assert_eq!(traffic(&hourly)[1], ("2026-11-21T00:00:00+05:30", 1));
}

#[tokio::test]
async fn an_hour_is_complete_when_it_is_over_and_reported_and_an_outage_is_not_the_lowest() {
    let world = World::new("2026-11-21T06:00:00Z").await;
    let ingest = async |sequence, time: &str, latencies: &[u64]| {
        world.at(time);
        world.stats.ingest(batch(sequence, time, vec![row(time, 200, latencies)])).await.unwrap();
    };
    ingest(1, "2026-11-21T06:00:00Z", &[1, 1, 1]).await;
    ingest(2, "2026-11-21T07:00:00Z", &[1, 1]).await;
    ingest(3, "2026-11-21T08:00:00Z", &[1, 1, 1, 1]).await;
    // The batch of an hour is missing.
    ingest(5, "2026-11-21T09:30:00Z", &[1]).await;
    ingest(6, "2026-11-21T10:30:00Z", &[1]).await;
    let query = Query { from: Some("2026-11-21T05:00:00Z".into()), ..Query::default() };
    let complete = async || -> Vec<bool> {
        let report = world.stats.hourly(&query).await.unwrap();
        report.periods.iter().map(|period| period.complete).collect()
    };
    assert_eq!(complete().await, [false, true, true, false, false, false]);
    let summary = world.stats.summary(&query).await.unwrap();
    let lowest = summary.lowest.unwrap();
    assert_eq!((lowest.start.as_str(), lowest.requests), ("2026-11-21T07:00:00Z", 2));
    assert_eq!(summary.peak.unwrap().requests, 4);
    assert!(!summary.complete);
    // The batch arrives late.
    let late = batch(4, "2026-11-21T09:00:00Z", Vec::new());
    world.stats.ingest(late).await.unwrap();
    assert_eq!(complete().await, [false, true, true, true, true, false]);
}

#[tokio::test]
async fn filters_and_statuses_divide_the_same_total() {
    let world = World::new(NOON).await;
    let mut other = row(NOON, 502, &[5000]);
    other.backend = "b2".into();
    let rows = vec![row(NOON, 200, &[1000, 1000]), row(NOON, 404, &[1000]), other];
    world.stats.ingest(batch(1, NOON, rows)).await.unwrap();
    world.at("2026-11-21T12:00:30Z");
    let of = async |query: Query| world.stats.summary(&query).await.unwrap();
    let all = of(Query::default()).await;
    assert_eq!(all.measures.status.into_iter().collect::<Vec<_>>(), [(200, 2), (404, 1), (502, 1)]);
    assert_eq!((all.measures.requests, all.measures.bytes_in, all.measures.bytes_out), (4, 3, 30));
    assert_eq!(of(Query { backend: Some("b1".into()), ..Query::default() }).await.measures.requests, 3);
    assert_eq!(of(Query { route: Some("default".into()), ..Query::default() }).await.measures.requests, 4);
}

#[tokio::test]
async fn every_wrong_parameter_is_named() {
    let world = World::new(NOON).await;
    let query = Query {
        from: Some("yesterday".into()),
        tz: Some("Europe/Nowhere".into()),
        backend: Some("http://127.0.0.1:1".into()),
        ..Query::default()
    };
    let Err(ReportError::Invalid(problems)) = world.stats.hourly(&query).await else { panic!("accepted") };
    let mut names: Vec<_> = problems.0.iter().map(|problem| problem.path.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["backend", "from", "tz"]);
    let reversed = Query { from: Some("-1h".into()), to: Some("-2h".into()), ..Query::default() };
    assert!(matches!(world.stats.daily(&reversed).await, Err(ReportError::Invalid(_))));
}

#[tokio::test]
async fn labels_beyond_the_cap_are_counted_as_other() {
    let world = World::new(NOON).await;
    let sent = |sequence, from: u32| {
        let rows = (from..from + 6_000)
            .map(|n| v1::TrafficRow { route: format!("r{n}"), ..row(NOON, 200, &[1000]) });
        batch(sequence, NOON, rows.collect())
    };
    world.stats.ingest(sent(1, 0)).await.unwrap();
    world.stats.ingest(sent(2, 6_000)).await.unwrap();
    world.at("2026-11-21T12:00:30Z");
    assert_eq!(world.requests().await, 12_000);
    let other = Query { route: Some("_other".into()), ..Query::default() };
    assert_eq!(world.stats.summary(&other).await.unwrap().measures.requests, 2_000);
}

#[tokio::test]
async fn rest_answers_json_csv_and_problems() {
    let world = World::new(NOON).await;
    world.stats.ingest(batch(1, NOON, vec![row(NOON, 200, &[1000, 2000])])).await.unwrap();
    world.at("2026-11-21T12:00:30Z");
    let (status, _, body) = get(&world.stats, "/reports/hourly").await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    let last = &body["periods"][23];
    assert_eq!((&last["start"], &last["status"]["200"]), (&NOON.into(), &2.into()));
    assert_eq!(last["complete"], false);
    let (_, kind, body) = get(&world.stats, "/reports/summary?format=csv").await;
    assert!(kind.starts_with("text/csv"));
    let [head, values] = &body.lines().collect::<Vec<_>>()[..] else { panic!("{body}") };
    assert!(head.starts_with("from,to,requests,") && head.ends_with(",status_200"), "{head}");
    assert_eq!(head.split(',').count(), values.split(',').count());
    let (status, kind, body) = get(&world.stats, "/reports/daily?tz=Mars&frm=x&format=xml").await;
    assert_eq!((status, kind.as_str()), (400, "application/problem+json"));
    assert!(body.contains("frm") && body.contains("xml"), "{body}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn any_order_and_repetition_of_batches_gives_the_same_totals(
        order in proptest::collection::vec(1u64..=12, 0..40).prop_map(|mut order| {
            order.extend(1..=12);
            order
        }).prop_shuffle(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let total = runtime.block_on(async {
            let world = World::new("2026-11-21T12:10:00Z").await;
            let sent = order.iter().map(|sequence| {
                let latencies = vec![*sequence * 100; usize::try_from(*sequence).unwrap()];
                let time = format!("2026-11-21T12:0{}:00Z", sequence % 10);
                world.stats.ingest(batch(*sequence, NOON, vec![row(&time, 200, &latencies)]))
            });
            // All at the same time: they share transactions.
            for answer in futures_util::future::join_all(sent).await {
                answer.unwrap();
            }
            let summary = world.stats.summary(&Query::default()).await.unwrap();
            world.stats.stop().await;
            summary
        });
        prop_assert_eq!(total.measures.requests, 78);
        prop_assert_eq!(total.measures.status.get(&200).copied(), Some(78));
        prop_assert_eq!((total.measures.bytes_in, total.measures.bytes_out), (12, 120));
        prop_assert!((total.measures.latency_ms.max - 1.2).abs() < f64::EPSILON);
    }
}
