//! Stored statistics stay correct: failed steps are repeated, old grains are removed while totals stay, late rows are
//! dropped and counted, and the file does not grow forever.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use control_plane::stats::{Query, Retention};
use sqlx::{Connection as _, SqliteConnection};
use support::world::{NOON, World, batch, ms, of_node, row};
use weir_admin_api::{Completeness, Cut};
use weir_proto::v1;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A separate connection to the database.
async fn sql(world: &World) -> SqliteConnection {
    let url = format!("sqlite:{}", world.folder.path().join("weir.db").display());
    SqliteConnection::connect(&url).await.unwrap()
}

async fn number(world: &World, text: &'static str) -> i64 {
    let mut connection = sql(world).await;
    let found: Option<i64> = sqlx::query_scalar(text).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    found.unwrap_or(0)
}

async fn run(world: &World, text: &'static str) {
    let mut connection = sql(world).await;
    sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Requests per grain, in the rows and in the sums by each label.
const ALL_GRAINS: &str = "SELECT COUNT(DISTINCT n) * 1000000 + MAX(n) FROM (
    SELECT SUM(requests) AS n FROM traffic GROUP BY grain
    UNION ALL SELECT SUM(requests) FROM sums WHERE dimension <> 'host' GROUP BY grain, dimension)";

#[tokio::test]
async fn a_fold_that_fails_anywhere_changes_nothing_and_is_done_again() {
    let world = World::new("2026-11-21T12:30:00Z").await;
    let statuses = [200, 301, 404, 500, 503];
    let mut sequence = 0;
    let mut sent = 0;
    // The number of a write within one fold: rows of minutes, their sums, then hours, then days.
    for failing in [1, 2, 5, 6, 9, 14, 17, 20, 26, 31] {
        let trigger = format!(
            "CREATE TABLE IF NOT EXISTS writes (n INTEGER);
             DELETE FROM writes;
             INSERT INTO writes VALUES (0);
             CREATE TRIGGER failing_row BEFORE INSERT ON traffic BEGIN
                 SELECT RAISE(ABORT, 'the disk is on fire') FROM writes WHERE n = {failing};
                 UPDATE writes SET n = n + 1;
             END;
             CREATE TRIGGER failing_sum BEFORE INSERT ON sums BEGIN
                 SELECT RAISE(ABORT, 'the disk is on fire') FROM writes WHERE n = {failing};
                 UPDATE writes SET n = n + 1;
             END;"
        );
        let mut connection = sql(&world).await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(trigger)).execute(&mut connection).await.unwrap();
        for _ in 0..3 {
            sequence += 1;
            sent += 5;
            let rows = statuses.map(|status| row(NOON, status, &[1000])).to_vec();
            world.stats.ingest(batch(sequence, NOON, rows)).await.unwrap();
        }
        // A report requested meanwhile gets an error, not partial data.
        let result = world.stats.summary(&Query::default()).await;
        assert!(result.is_err(), "write {failing}: {result:?}");
        sqlx::raw_sql("DROP TRIGGER failing_row; DROP TRIGGER failing_sum")
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        assert_eq!(world.requests().await, sent, "write {failing}");
        assert_eq!(
            number(&world, ALL_GRAINS).await,
            1_000_000 + i64::try_from(sent).unwrap(),
            "write {failing}"
        );
    }
}

#[tokio::test]
async fn counts_from_before_outcomes_were_stored_are_kept_and_added_to() {
    let world = World::new(NOON).await;
    world.stats.ingest(batch(1, NOON, vec![row(NOON, 200, &[1000, 2000])])).await.unwrap();
    assert_eq!(world.requests().await, 2);
    run(
        &world,
        "ALTER TABLE traffic DROP COLUMN cut; ALTER TABLE sums DROP COLUMN cut;
         ALTER TABLE traffic DROP COLUMN streams; ALTER TABLE sums DROP COLUMN streams;
         ALTER TABLE traffic DROP COLUMN stream_max_us; ALTER TABLE sums DROP COLUMN stream_max_us;
         DELETE FROM _sqlx_migrations WHERE version = 70",
    )
    .await;
    let world = world.restarted().await;
    let summary = world.stats.summary(&Query::default()).await.unwrap();
    assert_eq!(
        (summary.measures.requests, summary.measures.cut, summary.measures.streams),
        (2, Cut::default(), 0)
    );
    assert!((summary.measures.latency_ms.max - 2.0).abs() < f64::EPSILON);
    // The same row in the same minute: new counts are added to the existing ones.
    let stream = row(NOON, 200, &[90_000_000]);
    let new = v1::TrafficRow {
        requests: 3,
        stream_duration: stream.latency,
        stream_max_us: 90_000_000,
        cut: Some(v1::Cut { client: 0, backend: 1, node: 0 }),
        ..row(NOON, 200, &[3000, 3000])
    };
    world.stats.ingest(batch(2, NOON, vec![new])).await.unwrap();
    let summary = world.stats.summary(&Query::default()).await.unwrap();
    assert_eq!(
        (summary.measures.requests, summary.measures.cut.backend, summary.measures.streams),
        (5, 1, 1)
    );
    assert!((summary.measures.latency_ms.max - 3.0).abs() < f64::EPSILON, "a stream is in no latency");
    assert!((summary.measures.stream_ms.max - 90_000.0).abs() < f64::EPSILON);
    assert_eq!(number(&world, ALL_GRAINS).await, 1_000_005);
}

#[tokio::test]
async fn the_sums_of_an_older_database_are_made_at_the_first_report() {
    let world = World::new(NOON).await;
    let rows = vec![row(NOON, 200, &[1000, 2000]), row(NOON, 500, &[3000])];
    world.stats.ingest(batch(1, NOON, rows)).await.unwrap();
    assert_eq!(world.requests().await, 3);
    run(&world, "DELETE FROM sums; UPDATE meta SET value = 0 WHERE key = 'sums_made'").await;
    let world = world.restarted().await;
    let summary = world.stats.summary(&Query::default()).await.unwrap();
    assert_eq!((summary.measures.requests, summary.measures.status.get(&500)), (3, Some(&1)));
    assert!((summary.measures.latency_ms.max - 3.0).abs() < f64::EPSILON);
    assert_eq!(number(&world, ALL_GRAINS).await, 1_000_003);
}

/// Ten days with two hours each, 18:00 and 19:00 UTC, and requests at each quarter.
async fn ten_days(retention: Retention) -> World {
    let world = World::keeping("2026-11-01T00:00:00Z", retention).await;
    let mut sequence = 0;
    for day in 1..=10 {
        for time in ["18:10", "18:40", "19:10", "19:40"] {
            sequence += 1;
            let time = format!("2026-11-{day:02}T{time}:00Z");
            world.at(&time);
            world.stats.ingest(batch(sequence, &time, vec![row(&time, 200, &[1000])])).await.unwrap();
        }
    }
    world.at("2026-11-11T00:00:00Z");
    world
}

fn hours_of(day: &str, tz: &str) -> Query {
    let day = Some(day.to_owned());
    Query { from: day.clone(), to: day, tz: Some(tz.into()), ..Query::default() }
}

#[tokio::test]
async fn old_minutes_and_hours_are_deleted_and_totals_stay() {
    let world = ten_days(Retention { minutes: 3 * DAY, hours: 6 * DAY }).await;
    let all = Query { from: Some("2026-11-01".into()), ..Query::default() };
    let before = world.stats.daily(&all).await.unwrap();
    world.stats.forget().await.unwrap();
    assert_eq!(world.stats.daily(&all).await.unwrap().periods, before.periods);
    assert_eq!(world.stats.summary(&all).await.unwrap().measures.requests, 40);
    let from = |days: i64| (ms("2026-11-11T00:00:00Z") / 60_000) - days * 24 * 60;
    assert!(number(&world, "SELECT MIN(start) FROM traffic WHERE grain = 1").await >= from(3));
    assert!(number(&world, "SELECT MIN(start) FROM sums WHERE grain = 1").await >= from(3));
    assert!(number(&world, "SELECT MIN(start) FROM sums WHERE grain = 60").await >= from(6));
    assert_eq!(number(&world, "SELECT COUNT(*) FROM traffic WHERE grain = 1440").await, 10);
    // Again, and after a restart: nothing more to do.
    world.stats.forget().await.unwrap();
    let world = world.restarted().await;
    assert_eq!(world.stats.daily(&all).await.unwrap().periods, before.periods);
}

#[tokio::test]
async fn hours_of_half_hour_zones_are_exact_while_minutes_are_kept_and_complete_in_sum_after() {
    let world = ten_days(Retention { minutes: 3 * DAY, hours: 400 * DAY }).await;
    world.stats.forget().await.unwrap();
    let hours = async |day: &str| {
        let report = world.stats.hourly(&hours_of(day, "Asia/Kolkata")).await.unwrap();
        let busy = report.periods.iter().filter(|period| period.measures.requests > 0);
        (
            report.exact,
            busy.map(|period| (period.start[11..16].to_owned(), period.measures.requests))
                .collect::<Vec<_>>(),
        )
    };
    let at = |hour: &str, requests| (hour.to_owned(), requests);
    // 18:10, 18:40, 19:10, 19:40 UTC are 23:40, 0:10, 0:40, 1:10 there.
    assert_eq!(hours("2026-11-10").await, (true, vec![at("00:00", 2), at("01:00", 1), at("23:00", 1)]));
    // The minutes are removed: an hour of UTC counts in the local hour in which it starts, and none is lost or
    // counted twice.
    assert_eq!(hours("2026-11-05").await, (false, vec![at("00:00", 2), at("23:00", 2)]));
    let whole = Query {
        from: Some("2026-11-01".into()),
        to: Some("2026-11-11".into()),
        tz: Some("Asia/Kolkata".into()),
        ..Query::default()
    };
    let days = world.stats.daily(&whole).await.unwrap();
    assert_eq!(days.periods.iter().map(|period| period.measures.requests).sum::<u64>(), 40);
    let hours = world.stats.hourly(&whole).await.unwrap();
    assert_eq!(hours.periods.iter().map(|period| period.measures.requests).sum::<u64>(), 40);
}

#[tokio::test]
async fn rows_older_than_a_day_are_left_out_and_the_rest_of_the_batch_counts() {
    let world = World::new(NOON).await;
    let rows = vec![
        row("2026-11-20T10:00:00Z", 200, &[1000; 5]),
        row("2026-11-20T12:30:00Z", 200, &[1000, 1000]),
        row(NOON, 200, &[1000]),
    ];
    let sent = batch(1, NOON, rows);
    assert!(!world.stats.ingest(sent.clone()).await.unwrap().duplicate);
    assert!(world.stats.ingest(sent).await.unwrap().duplicate);
    assert_eq!(world.requests().await, 3);
    assert_eq!(number(&world, "SELECT SUM(late_rows) FROM batches_lost").await, 1);
    // Their hour is marked incomplete.
    let query = Query { from: Some("2026-11-20T10:00:00Z".into()), ..Query::default() };
    let report = world.stats.hourly(&query).await.unwrap();
    assert_eq!(report.periods[0].nodes.expected, 1);
    assert_eq!(report.periods[0].nodes.reported, 0);
    // A batch that waited for days has nothing left to count, and is accepted nevertheless.
    let old = batch(2, "2026-11-18T00:00:00Z", vec![row("2026-11-18T00:00:00Z", 200, &[1000])]);
    world.stats.ingest(old).await.unwrap();
    assert_eq!(world.requests().await, 3);
}

#[tokio::test]
async fn a_node_that_shuts_down_gracefully_leaves_later_hours_complete() {
    let world = World::new("2026-11-21T06:00:00Z").await;
    for (sequence, time) in (1..).zip(["06:00:00", "06:30:00", "07:30:00", "08:30:00", "09:30:00"]) {
        let time = format!("2026-11-21T{time}Z");
        world.at(&time);
        world.stats.ingest(batch(sequence, &time, vec![row(&time, 200, &[1000])])).await.unwrap();
        if sequence <= 2 {
            let last = sequence == 2;
            world
                .stats
                .ingest(of_node("b", v1::ReportRequest { last, ..batch(sequence, &time, vec![]) }))
                .await
                .unwrap();
        }
    }
    let query = Query { from: Some("2026-11-21T06:00:00Z".into()), ..Query::default() };
    let report = world.stats.hourly(&query).await.unwrap();
    let states: Vec<Completeness> = report.periods.iter().map(|period| period.state).collect();
    assert_eq!(
        states,
        [Completeness::Complete, Completeness::Complete, Completeness::Complete, Completeness::Open]
    );
    let nodes: Vec<u32> = report.periods.iter().map(|period| period.nodes.expected).collect();
    assert_eq!(nodes, [2, 1, 1, 1]);
}

#[tokio::test]
async fn the_file_shrinks_when_old_minutes_are_deleted() {
    let world = World::keeping("2026-11-01T00:00:00Z", Retention { minutes: 2 * DAY, hours: 2 * DAY }).await;
    for sequence in 1..=40u64 {
        let time = format!("2026-11-01T{:02}:{:02}:00Z", sequence / 60, sequence % 60);
        world.at(&time);
        let rows = (0..400).map(|n| v1::TrafficRow { route: format!("r{n}"), ..row(&time, 200, &[1000]) });
        world.stats.ingest(batch(sequence, &time, rows.collect())).await.unwrap();
    }
    assert_eq!(world.requests().await, 16_000);
    let pages = "SELECT page_count FROM pragma_page_count";
    let full = number(&world, pages).await;
    world.at("2026-11-09T00:00:00Z");
    world.stats.forget().await.unwrap();
    let rest = number(&world, pages).await;
    // Some free pages are kept for new minutes.
    assert!(rest < full / 2 || full < 9_000, "{full} pages became {rest}");
    assert_eq!(number(&world, "SELECT COUNT(*) FROM traffic WHERE grain < 1440").await, 0);
    let all = Query { from: Some("2026-11-01".into()), ..Query::default() };
    assert_eq!(world.stats.summary(&all).await.unwrap().measures.requests, 16_000);
}
