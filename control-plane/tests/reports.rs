//! Reports: rankings, comparison, gaps; every number equals the generated requests, whatever happened to the batches.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;

use control_plane::stats::{Query, ReportError, TopQuery};
use proptest::prelude::*;
use support::{
    ControlPlane,
    world::{NOON, World, batch, get, ms, of_node, row},
};
use weir_admin_api::Completeness;
use weir_proto::v1;

fn labelled(route: &str, backend: &str, method: &str, row: v1::TrafficRow) -> v1::TrafficRow {
    let (route, backend, method) = (route.into(), backend.into(), method.into());
    v1::TrafficRow { route, backend, method, ..row }
}

fn of_host(host: &str, row: v1::TrafficRow) -> v1::TrafficRow {
    v1::TrafficRow {
        host: host.into(),
        route: String::new(),
        pool: String::new(),
        backend: String::new(),
        ..row
    }
}

/// Ten requests of route a (one a 500), four slow ones of route b, over two hosts.
async fn world() -> World {
    let world = World::new(NOON).await;
    let rows = vec![
        labelled("a", "b1", "GET", row(NOON, 200, &[1_000; 6])),
        labelled("a", "b2", "POST", row(NOON, 201, &[2_000; 3])),
        labelled("a", "b2", "GET", row(NOON, 500, &[3_000])),
        labelled("b", "b3", "GET", row(NOON, 200, &[90_000; 4])),
    ];
    let hosts = vec![
        of_host("one.example", row(NOON, 200, &[1_000; 9])),
        of_host("one.example", row(NOON, 500, &[3_000])),
        of_host("two.example", row(NOON, 200, &[90_000; 4])),
    ];
    world.stats.ingest(v1::ReportRequest { hosts, ..batch(1, NOON, rows) }).await.unwrap();
    world.at("2026-11-21T12:00:30Z");
    world
}

async fn ranking(world: &World, by: &str, sort: &str, query: Query) -> Vec<(String, u64, u64)> {
    let request = TopQuery { query, by: Some(by.into()), sort: Some(sort.into()), limit: None };
    let top = world.stats.top(&request).await.unwrap();
    top.items.into_iter().map(|item| (item.name, item.measures.requests, item.errors)).collect()
}

fn ranked(items: &[(&str, u64, u64)]) -> Vec<(String, u64, u64)> {
    items.iter().map(|(name, requests, errors)| ((*name).to_owned(), *requests, *errors)).collect()
}

#[tokio::test]
async fn the_top_is_by_any_label_and_by_requests_errors_or_slowness() {
    let world = world().await;
    let all = Query::default;
    assert_eq!(ranking(&world, "route", "", all()).await, ranked(&[("a", 10, 1), ("b", 4, 0)]));
    assert_eq!(ranking(&world, "slowest", "", all()).await, ranked(&[("b", 4, 0), ("a", 10, 1)]));
    assert_eq!(
        ranking(&world, "backend", "errors", all()).await,
        ranked(&[("b2", 4, 1), ("b1", 6, 0), ("b3", 4, 0)])
    );
    assert_eq!(
        ranking(&world, "status", "", all()).await,
        ranked(&[("200", 10, 0), ("201", 3, 0), ("500", 1, 1)])
    );
    assert_eq!(ranking(&world, "method", "", all()).await, ranked(&[("GET", 11, 1), ("POST", 3, 0)]));
    assert_eq!(
        ranking(&world, "host", "", all()).await,
        ranked(&[("one.example", 10, 1), ("two.example", 4, 0)])
    );
    // With a filter, also one that no stored sum covers.
    let of_a = || Query { route: Some("a".into()), ..Query::default() };
    assert_eq!(ranking(&world, "method", "", of_a()).await, ranked(&[("GET", 7, 1), ("POST", 3, 0)]));
    let posts = Query { method: Some("post".into()), ..of_a() };
    assert_eq!(ranking(&world, "backend", "", posts).await, ranked(&[("b2", 3, 0)]));
}

#[tokio::test]
async fn filters_alone_and_combined_count_matching_requests() {
    let world = world().await;
    let count = async |query: Query| world.stats.summary(&query).await.unwrap().measures.requests;
    let given = |value: &str| Some(value.to_owned());
    assert_eq!(count(Query { route: given("a"), ..Query::default() }).await, 10);
    assert_eq!(count(Query { backend: given("b2"), ..Query::default() }).await, 4);
    assert_eq!(count(Query { method: given("get"), ..Query::default() }).await, 11);
    assert_eq!(count(Query { host: given("One.example"), ..Query::default() }).await, 10);
    assert_eq!(count(Query { route: given("a"), backend: given("b2"), ..Query::default() }).await, 4);
    let both = Query { route: given("a"), backend: given("b2"), method: given("GET"), ..Query::default() };
    assert_eq!(count(both).await, 1);
    let wrong = Query { host: given("one.example"), route: given("a"), ..Query::default() };
    assert!(matches!(world.stats.summary(&wrong).await, Err(ReportError::Invalid(_))));
}

#[tokio::test]
async fn a_summary_is_compared_with_the_previous_period() {
    let world = World::new("2026-11-20T10:00:00Z").await;
    for (sequence, time, count) in [(1, "2026-11-19T10:30:00Z", 4), (2, "2026-11-20T10:30:00Z", 6)] {
        world.at(time);
        let rows = vec![row(time, 200, &vec![1_000; count])];
        world.stats.ingest(batch(sequence, time, rows)).await.unwrap();
    }
    world.at("2026-11-22T00:00:00Z");
    let day = |compare| Query {
        from: Some("2026-11-20".into()),
        to: Some("2026-11-20".into()),
        compare,
        ..Query::default()
    };
    let compared = world.stats.summary(&day(true)).await.unwrap();
    let before = compared.before.unwrap();
    assert_eq!((compared.measures.requests, before.measures.requests), (6, 4));
    assert_eq!((before.from.as_str(), before.to.as_str()), ("2026-11-19T00:00:00Z", "2026-11-20T00:00:00Z"));
    assert!(world.stats.summary(&day(false)).await.unwrap().before.is_none());
}

#[tokio::test]
async fn an_outage_of_all_nodes_is_a_gap_and_never_the_lowest_hour() {
    let world = World::new("2026-11-21T05:00:00Z").await;
    // Two nodes report every ten minutes; from 08:00 to 10:00 neither is connected; both return as new processes.
    let mut sequence = 0;
    for minute in (0..8 * 60).step_by(10) {
        let (hour, minute) = (5 + minute / 60, minute % 60);
        if (8..10).contains(&hour) {
            sequence = 0;
            continue;
        }
        sequence += 1;
        let time = format!("2026-11-21T{hour:02}:{minute:02}:30Z");
        world.at(&time);
        for node in ["a", "b"] {
            let requests = if hour == 6 { vec![1_000; 2] } else { vec![1_000; 5] };
            let sent = batch(sequence, &time, vec![row(&time, 200, &requests)]);
            let boot_id = if hour < 8 { "first" } else { "second" }.to_owned();
            world.stats.ingest(of_node(node, v1::ReportRequest { boot_id, ..sent })).await.unwrap();
        }
    }
    let query = Query { from: Some("2026-11-21T05:00:00Z".into()), ..Query::default() };
    let report = world.stats.hourly(&query).await.unwrap();
    let states: Vec<Completeness> = report.periods.iter().map(|period| period.state).collect();
    assert_eq!(states, {
        use Completeness::*;
        // The second boot covers its first minute from its start, which is the start of the hour.
        [Complete, Complete, Partial, Gap, Gap, Complete, Complete, Open]
    });
    let nodes: Vec<(u32, u32)> =
        report.periods.iter().map(|period| (period.nodes.expected, period.nodes.reported)).collect();
    assert_eq!(nodes[1..6], [(2, 2), (2, 0), (2, 0), (2, 0), (2, 2)]);
    let summary = world.stats.summary(&query).await.unwrap();
    assert_eq!(summary.lowest.unwrap().start, "2026-11-21T06:00:00Z");
    assert_eq!((summary.gaps, summary.complete), (2, false));
}

#[tokio::test]
async fn hosts_beyond_the_cap_share_a_name_and_no_request_is_lost() {
    let world = World::new(NOON).await;
    for sequence in 0..3u64 {
        let hosts = (sequence * 600..sequence * 600 + 600)
            .map(|n| of_host(&format!("h{n}"), row(NOON, 200, &[1_000])));
        let rows = vec![row(NOON, 200, &[1_000; 600])];
        let sent = batch(sequence + 1, NOON, rows);
        world.stats.ingest(v1::ReportRequest { hosts: hosts.collect(), ..sent }).await.unwrap();
    }
    world.at("2026-11-21T12:00:30Z");
    let top = world.stats.top(&TopQuery { by: Some("host".into()), ..TopQuery::default() }).await.unwrap();
    assert_eq!((top.requests, top.names), (1_800, 1_001));
    assert_eq!((top.items[0].name.as_str(), top.items[0].measures.requests), ("_other", 800));
    assert_eq!(world.requests().await, 1_800);
}

#[tokio::test]
async fn minutes_are_reported_while_they_are_kept() {
    let world = world().await;
    let report = world.stats.minutely(&Query::default()).await.unwrap();
    assert_eq!(report.periods.len(), 60);
    assert_eq!(report.periods.last().unwrap().measures.requests, 14);
}

#[tokio::test]
async fn a_range_is_extended_to_whole_minutes_and_the_report_shows_it() {
    let world = world().await;
    let at = |from: &str, to: Option<&str>| Query {
        from: Some(from.into()),
        to: to.map(str::to_owned),
        ..Query::default()
    };
    // It is 12:00:30, and the requests are in the current minute.
    for from in ["2026-11-21T12:00:20Z", "-10s", "now"] {
        let summary = world.stats.summary(&at(from, None)).await.unwrap();
        assert_eq!(
            (summary.measures.requests, summary.from.as_str()),
            (14, "2026-11-21T12:00:00Z"),
            "{from}"
        );
        assert!(!summary.complete, "{from}: the minute is open");
        let top = world.stats.top(&TopQuery { query: at(from, None), ..TopQuery::default() }).await.unwrap();
        assert_eq!(top.items.iter().map(|item| item.measures.requests).sum::<u64>(), 14, "{from}");
    }
    world.at("2026-11-21T12:10:00Z");
    let summary =
        world.stats.summary(&at("2026-11-21T11:59:30Z", Some("2026-11-21T12:00:01Z"))).await.unwrap();
    assert_eq!((summary.measures.requests, summary.from.as_str()), (14, "2026-11-21T11:59:00Z"));
    let error = world.stats.summary(&at("2030-01-01", Some("2030-01-02"))).await.unwrap_err().to_string();
    assert!(error.contains("(now)"), "{error}");
}

#[tokio::test]
async fn rest_answers_a_top_as_json_and_csv_and_names_what_is_wrong() {
    let world = world().await;
    let (status, _, body) = get(&world.stats, "/reports/top?by=host&limit=1").await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["names"], &body["items"][0]["name"]), (200, &2.into(), &"one.example".into()));
    let (_, _, text) = get(&world.stats, "/reports/top?by=status&format=csv").await;
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("status,url,share,errors,requests,"), "{text}");
    assert!(lines[1].starts_with("200,,"), "{text}");
    let (status, _, body) = get(&world.stats, "/reports/top?by=moon&sort=x&limit=0").await;
    assert_eq!(status, 400);
    for mistake in ["\"by\"", "\"sort\"", "\"limit\""] {
        assert!(body.contains(mistake), "{mistake}: {body}");
    }
    let (status, _, body) = get(&world.stats, "/reports/summary?compare=true").await;
    assert!(status == 200 && body.contains("\"before\""), "{body}");
    let (status, ..) = get(&world.stats, "/reports/top?by=host&route=a").await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn an_unknown_name_is_an_error_with_a_suggestion() {
    let control_plane = ControlPlane::start().await;
    let config = |route: &str| {
        format!(
            r#"{{ "pools": [{{ "name": "books", "backends": [{{ "url": "http://127.0.0.1:1" }}] }}],
                  "routes": [{{ "name": "{route}", "pool": "books" }}] }}"#
        )
    };
    control_plane.call("PUT", "/config", &config("checkout")).await.expect(200);
    control_plane.call("PUT", "/config", &config("storefront")).await.expect(200);
    let reports = ["minutely", "hourly", "daily", "summary", "top", "tail"];
    for (filter, message) in [
        ("route=storefrnt", "no route is or was named \\\"storefrnt\\\"; did you mean \\\"storefront\\\"?"),
        ("route=moon", "no route is or was named \\\"moon\\\" (known: storefront"),
        ("pool=boks", "no pool is or was named \\\"boks\\\"; did you mean \\\"books\\\"?"),
        ("backend=b99", "no backend is or was named \\\"b99\\\""),
        ("backend=http://127.0.0.1:9", "no backend has or had the URL"),
    ] {
        for report in reports {
            let answer = control_plane.call("GET", &format!("/reports/{report}?{filter}"), "").await;
            assert_eq!(answer.status, 400, "{report}?{filter}: {}", answer.text);
            assert!(answer.text.contains(message), "{report}?{filter}: {}", answer.text);
        }
    }
    for report in &reports[..5] {
        let answer = control_plane.call("GET", &format!("/reports/{report}?method=BREW"), "").await;
        assert!(answer.status == 400 && answer.text.contains("(known: GET, "), "{report}: {}", answer.text);
        // Used now, and used until the last change; in every format.
        for filter in ["route=storefront", "route=checkout", "pool=books", "backend=b1", "route=_other"] {
            for format in ["json", "csv"] {
                let path = format!("/reports/{report}?{filter}&format={format}");
                let answer = control_plane.call("GET", &path, "").await;
                assert_eq!(answer.status, 200, "{path}: {}", answer.text);
            }
        }
    }
}

#[tokio::test]
async fn how_answers_ended_and_how_long_streams_lasted_is_in_every_form() {
    let world = World::new(NOON).await;
    let stream = row(NOON, 200, &[44_000_000]);
    let mixed = v1::TrafficRow {
        requests: 4,
        stream_duration: stream.latency,
        stream_max_us: 44_000_000,
        cut: Some(v1::Cut { client: 1, backend: 2, node: 0 }),
        ..row(NOON, 200, &[1_000, 2_000, 3_000])
    };
    let tunnels = v1::TrafficRow {
        requests: 1,
        stream_duration: row(NOON, 200, &[9_000_000]).latency,
        stream_max_us: 9_000_000,
        ..labelled("chat", "b9", "GET", row(NOON, 101, &[]))
    };
    world.stats.ingest(batch(1, NOON, vec![mixed, tunnels])).await.unwrap();
    world.at("2026-11-21T12:00:30Z");
    let (_, _, body) = get(&world.stats, "/reports/summary").await;
    let summary: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(summary["cut"], serde_json::json!({ "client": 1, "backend": 2, "node": 0 }));
    assert_eq!((&summary["streams"], &summary["stream_ms"]["max"]), (&2.into(), &44_000.0.into()));
    assert_eq!(summary["latency_ms"]["max"], 3.0, "streams are not part of the latency");
    let (_, _, text) = get(&world.stats, "/reports/top?by=route&sort=cut&format=csv").await;
    let (names, rows) = text.split_once('\n').unwrap();
    let cell = |row: usize, name: &str| {
        let column =
            names.split(',').position(|one| one == name).unwrap_or_else(|| panic!("{name}: {names}"));
        rows.lines().nth(row).unwrap().split(',').nth(column).unwrap().to_owned()
    };
    let cells =
        ["route", "cut_by_client", "cut_by_backend", "cut_by_node", "streams", "stream_max_ms", "max_ms"];
    assert_eq!(cells.map(|name| cell(0, name)), ["default", "1", "2", "0", "1", "44000", "3"]);
    assert_eq!(cells.map(|name| cell(1, name)), ["chat", "0", "0", "0", "1", "9000", "0"]);
}

#[tokio::test]
async fn a_batch_whose_cuts_or_samples_do_not_fit_its_requests_is_refused() {
    let world = World::new(NOON).await;
    let duration = row(NOON, 200, &[5_000]).latency;
    for (wrong, place) in [
        (
            v1::TrafficRow { cut: Some(v1::Cut { client: 1, backend: 1, node: 0 }), ..row(NOON, 200, &[1]) },
            "rows[0].cut",
        ),
        (v1::TrafficRow { stream_duration: duration, ..row(NOON, 200, &[1]) }, "rows[0].latency"),
        (v1::TrafficRow { stream_duration: vec![1, 2, 3], ..row(NOON, 200, &[1]) }, "rows[0].latency"),
        (v1::TrafficRow { stream_max_us: u64::MAX, ..row(NOON, 200, &[1]) }, "rows[0].stream_max_us"),
    ] {
        let refused = world.stats.ingest(batch(1, NOON, vec![wrong])).await.unwrap_err();
        assert!(refused.message().contains(place), "{place}: {}", refused.message());
    }
    assert_eq!(world.requests().await, 0);
}

#[tokio::test]
async fn a_host_with_hidden_characters_is_counted_without_its_name() {
    let world = World::new(NOON).await;
    let hosts = ["a.example", "a\u{202e}b", "\x1b[2J", "a\u{200b}"];
    let hosts: Vec<_> = hosts.into_iter().map(|host| of_host(host, row(NOON, 200, &[1_000]))).collect();
    let sent = batch(1, NOON, vec![row(NOON, 200, &[1_000; 4])]);
    world.stats.ingest(v1::ReportRequest { hosts, ..sent }).await.unwrap();
    world.at("2026-11-21T12:00:30Z");
    let ranked_hosts = ranking(&world, "host", "requests", Query::default()).await;
    assert_eq!(ranked_hosts, ranked(&[("_other", 3, 0), ("a.example", 1, 0)]));
}

#[tokio::test]
async fn a_host_that_looks_like_a_formula_is_none_in_csv() {
    let world = World::new(NOON).await;
    let hosts = vec![of_host("=cmd(\"x\",1)", row(NOON, 200, &[1_000]))];
    let sent = batch(1, NOON, vec![row(NOON, 200, &[1_000])]);
    world.stats.ingest(v1::ReportRequest { hosts, ..sent }).await.unwrap();
    world.at("2026-11-21T12:00:30Z");
    let (_, _, text) = get(&world.stats, "/reports/top?by=host&format=csv").await;
    assert!(text.lines().nth(1).unwrap().starts_with("\"'=cmd(\"\"x\"\",1)\","), "{text}");
}

/// The labels of a generated request, and its latency.
type Request = (usize, usize, usize, usize, u64);

/// Exact percentiles, as the reports define them.
fn percentile(sorted: &[u64], share: f64) -> f64 {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let rank = ((share * sorted.len() as f64).ceil() as usize).max(1);
    #[allow(clippy::cast_precision_loss)]
    let value = sorted[rank - 1] as f64;
    value / 1000.0
}

const STATUSES: [u16; 5] = [200, 204, 302, 404, 503];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn reports_equal_the_generator_under_loss_repetition_and_reordering(
        requests in proptest::collection::vec((0usize..3, 0usize..4, 0usize..5, 0usize..180, 1u64..5_000_000), 1..400),
        // Batches of two nodes; each is sent at least once at the end, some also before in any order.
        shuffle in proptest::collection::vec((0usize..2, 0usize..6), 0..30).prop_shuffle(),
        restart_after in 0usize..12,
    ) {
        let begin = ms("2026-11-21T09:00:00Z") / 60_000;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        // Request n goes to node n % 2, batch n / 2 % 6.
        let mut batches: BTreeMap<(usize, usize), Vec<&Request>> = BTreeMap::new();
        for (n, request) in requests.iter().enumerate() {
            batches.entry((n % 2, n / 2 % 6)).or_default().push(request);
        }
        let wire = |node: usize, number: usize| {
            let mut rows: BTreeMap<(usize, usize, usize, usize), Vec<u64>> = BTreeMap::new();
            for (route, backend, status, minute, latency) in batches.get(&(node, number)).into_iter().flatten() {
                rows.entry((*route, *backend, *status, *minute)).or_default().push(*latency);
            }
            let rows = rows.into_iter().map(|((route, backend, status, minute), latencies)| {
                let base = row(NOON, u32::from(STATUSES[status]), &latencies);
                let minute = u64::try_from(begin).unwrap() + minute as u64;
                let base = v1::TrafficRow { minute, ..base };
                labelled(&format!("r{route}"), &format!("b{backend}"), "GET", base)
            });
            of_node(&format!("n{node}"), batch(number as u64 + 1, NOON, rows.collect()))
        };
        runtime.block_on(async {
            let mut world = World::new(NOON).await;
            let all = (0..2).flat_map(|node| (0..6).map(move |number| (node, number)));
            for (i, (node, number)) in shuffle.iter().copied().chain(all).enumerate() {
                world.stats.ingest(wire(node, number)).await.unwrap();
                if i == restart_after {
                    world = world.restarted().await;
                }
            }
            world.at("2026-11-21T12:00:30Z");
            let query = || Query { from: Some("2026-11-21T09:00:00Z".into()), ..Query::default() };
            let summary = world.stats.summary(&query()).await.unwrap();
            prop_assert_eq!(summary.measures.requests, requests.len() as u64);
            let mut latencies: Vec<u64> = requests.iter().map(|request| request.4).collect();
            latencies.sort_unstable();
            for (found, share) in [
                (summary.measures.latency_ms.p50, 0.5), (summary.measures.latency_ms.p90, 0.9), (summary.measures.latency_ms.p99, 0.99),
            ] {
                let exact = percentile(&latencies, share);
                prop_assert!((found - exact).abs() <= exact * 0.01 + 0.001, "p{} is {}, not {}", share, found, exact);
            }
            // Each period, by status; each route, backend and both at once.
            let hours = world.stats.hourly(&query()).await.unwrap();
            for (hour, period) in hours.periods.iter().enumerate() {
                let mut expected: BTreeMap<u16, u64> = BTreeMap::new();
                for request in requests.iter().filter(|request| request.3 / 60 == hour) {
                    *expected.entry(STATUSES[request.2]).or_default() += 1;
                }
                prop_assert_eq!(&period.measures.status, &expected, "hour {}", hour);
            }
            let minutes = world.stats.minutely(&query()).await.unwrap();
            prop_assert_eq!(minutes.periods.iter().map(|period| period.measures.requests).sum::<u64>(), requests.len() as u64);
            for route in 0..3 {
                let of_route = Query { route: Some(format!("r{route}")), ..query() };
                let expected = requests.iter().filter(|request| request.0 == route).count() as u64;
                if expected == 0 {
                    // No such name exists.
                    prop_assert!(world.stats.summary(&of_route).await.is_err());
                    continue;
                }
                prop_assert_eq!(world.stats.summary(&of_route).await.unwrap().measures.requests, expected);
                if requests.iter().all(|request| request.1 != 1) {
                    continue;
                }
                let both = Query { backend: Some("b1".into()), ..of_route };
                let expected = requests.iter().filter(|request| (request.0, request.1) == (route, 1)).count() as u64;
                prop_assert_eq!(world.stats.summary(&both).await.unwrap().measures.requests, expected);
            }
            let top = world.stats.top(&TopQuery { query: query(), by: Some("status".into()), ..TopQuery::default() }).await.unwrap();
            for item in top.items {
                let expected = requests.iter().filter(|request| STATUSES[request.2].to_string() == item.name).count();
                prop_assert_eq!(item.measures.requests, expected as u64);
            }
            world.stats.stop().await;
            Ok(())
        })?;
    }
}
