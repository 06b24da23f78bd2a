//! Two hours without any node: every format of the report shows a gap, and none counts it as the quietest time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use e2e::{
    Fleet,
    played::{self, Labels, Request},
    send,
};
use serde_json::Value;
use tonic::transport::Endpoint;
use weir_proto::v1::nodes_client::NodesClient;

/// Hours of the scenario, all of them complete.
const HOURS: u64 = 6;
/// Hours without nodes: all nodes were killed at the start and returned at the end.
const OUTAGE: std::ops::Range<u64> = 2..4;
/// Requests of both nodes per ten minutes of each hour. The quietest reported hour is the last but one.
const REQUESTS: [usize; HOURS as usize] = [40, 30, 0, 0, 10, 20];
const LOWEST: u64 = 4;

fn request(minute: u64) -> Request {
    let labels = Labels { route: "shop", pool: "shop", backend: "b1", method: "GET", host: "shop.example" };
    Request {
        minute,
        labels,
        status: 200,
        latency_us: 2_000,
        upstream_us: 1_500,
        bytes_in: 10,
        bytes_out: 100,
        retries: 0,
        refused: None,
        cut: None,
        streamed: false,
    }
}

/// The first minute of the scenario since the epoch, some whole hours ago.
fn begin() -> u64 {
    let hour = u64::try_from(jiff::Timestamp::now().as_second()).unwrap() / 3600;
    (hour - HOURS) * 60
}

fn time(minute: u64) -> String {
    jiff::Timestamp::from_second(i64::try_from(minute * 60).unwrap()).unwrap().to_string()
}

/// Two nodes report every ten minutes except during the outage; after it they are new processes.
async fn play(fleet: &Fleet, begin: u64) {
    let line = Endpoint::from_shared(format!("http://{}", fleet.nodes_address())).unwrap();
    let mut control_plane = NodesClient::new(line.connect().await.unwrap());
    for node in ["a", "b"] {
        let mut sequences = [0, 0];
        // One batch more than the scenario, because an hour is complete when a later batch has arrived.
        for ten in 0..=HOURS * 6 {
            let (minute, hour) = (begin + ten * 10, ten / 6);
            if OUTAGE.contains(&hour) {
                continue;
            }
            let boot = usize::from(hour >= OUTAGE.end);
            sequences[boot] += 1;
            let requests = REQUESTS.get(usize::try_from(hour).unwrap()).copied().unwrap_or(0);
            let requests = vec![request(minute); requests / 2];
            let boot_id = ["first", "second"][boot];
            // The last report of the killed nodes is at the end of an hour, and the first of the new ones at the
            // start.
            let sent_at_ms = (minute * 60 + 30) * 1_000;
            let batch = played::batch(node, boot_id, sequences[boot], sent_at_ms, &requests).unwrap();
            control_plane.report(batch).await.unwrap();
        }
    }
}

fn json(fleet: &Fleet, arguments: &[&str]) -> Value {
    let printed = fleet.weir(&[&["--output", "json", "report"], arguments].concat()).unwrap();
    serde_json::from_str(&printed).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_all_nodes_is_a_gap_in_every_format_and_never_the_lowest_period() {
    let fleet = Fleet::start(0, 0).await.unwrap();
    // Reports accept names of stored revisions.
    let config = serde_json::json!({
        "pools": [{
            "name": "shop",
            "health_check": { "type": "none" },
            "backends": [{ "url": "http://127.0.0.1:1" }],
        }],
        "routes": [{ "name": "shop", "pool": "shop" }],
    });
    let answer = send("PUT", fleet.admin(), "/config", &config.to_string()).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let begin = begin();
    play(&fleet, begin).await;
    let (from, to) = (time(begin), time(begin + HOURS * 60));
    let range = ["--from", &from, "--to", &to];
    let with = |kind: &'static str, more: &[&'static str]| -> Vec<String> {
        [&[kind], &range[..], more].concat().into_iter().map(str::to_owned).collect()
    };
    let hour = |hour: u64| time(begin + hour * 60);
    let weir = |arguments: Vec<String>| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        fleet.weir(&[&["report"], &arguments[..]].concat()).unwrap()
    };
    let weir_json =
        |arguments: Vec<String>| json(&fleet, &arguments.iter().map(String::as_str).collect::<Vec<_>>());

    // A relative time starts with a hyphen and is not an option.
    let recent = fleet.weir(&["report", "summary", "--from", "-2h"]).unwrap();
    assert!(recent.contains("requests"), "{recent}");

    let report = weir_json(with("hourly", &[]));
    let periods = report["periods"].as_array().unwrap();
    let states: Vec<&str> = periods.iter().map(|period| period["state"].as_str().unwrap()).collect();
    // The hour that ended with the kill lacks the counts that the nodes had not sent.
    assert_eq!(states, ["complete", "partial", "gap", "gap", "complete", "complete"]);
    for (period, requests) in periods.iter().zip(REQUESTS) {
        assert_eq!(period["requests"], requests * 6, "{period}");
    }
    assert_eq!(periods[2]["nodes"], serde_json::json!({ "expected": 2, "reported": 0 }));

    let csv = weir(with("hourly", &["--format", "csv"]));
    let table = weir(with("hourly", &["-o", "wide"]));
    println!("{csv}\n{table}");
    for gap in OUTAGE {
        let row = csv.lines().find(|line| line.starts_with(&hour(gap))).unwrap();
        assert!(row.contains(",false,gap,2,0,"), "{row}");
        let row = table.lines().find(|line| line.contains(&hour(gap))).unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert!(cells[1] == "-" && cells.contains(&"gap") && cells.contains(&"0/2"), "{row}");
    }

    let summary = weir_json(with("summary", &[]));
    let lowest = serde_json::json!({ "start": hour(LOWEST), "requests": 60 });
    assert_eq!((&summary["lowest"], &summary["gaps"]), (&lowest, &Value::from(2)), "{summary}");
    assert_eq!((&summary["complete"], &summary["requests"]), (&Value::from(false), &Value::from(600)));
    let csv = weir(with("summary", &["--format", "csv"]));
    let table = weir(with("summary", &[]));
    println!("{csv}\n{table}");
    assert!(csv.contains(&format!(",false,{},240,{},60,2,", hour(0), hour(LOWEST))), "{csv}");
    let says = |name: &str| table.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned();
    assert!(says("lowest").contains(&format!("60 requests, {}", hour(LOWEST))), "{table}");
    assert!(says("gaps").contains("2 hours") && says("complete").contains("no"), "{table}");
}
