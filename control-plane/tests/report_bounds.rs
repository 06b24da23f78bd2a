//! Limits of a node's report: the allowed names, and the plausible number of requests.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/member.rs"]
mod member;
mod support;

use member::{By, REPORT, call, code, connect_as, guarded, join, node_token, report};
use serde_json::json;
use support::{
    ControlPlane,
    node::{Node, hello, node_is},
};
use tonic::Code;
use weir_proto::v1;

/// A report of this many requests with these names.
fn counts(node: &str, sequence: u64, [route, pool, backend]: [&str; 3], requests: u64) -> v1::ReportRequest {
    let mut histogram = hdrhistogram::Histogram::<u64>::new(2).unwrap();
    histogram.record_n(1000, requests).unwrap();
    let mut latency = Vec::new();
    hdrhistogram::serialization::Serializer::serialize(
        &mut hdrhistogram::serialization::V2Serializer::new(),
        &histogram,
        &mut latency,
    )
    .unwrap();
    let row = v1::TrafficRow {
        minute: u64::try_from(jiff::Timestamp::now().as_second() / 60).unwrap(),
        route: route.into(),
        pool: pool.into(),
        backend: backend.into(),
        status: 200,
        requests,
        latency,
        latency_max_us: 1000,
        ..v1::TrafficRow::default()
    };
    v1::ReportRequest { sequence, rows: vec![row], ..report(node) }
}

#[tokio::test]
async fn a_report_may_contain_names_of_stored_revisions() {
    let control_plane = ControlPlane::start_with(|config| config.keep_revisions = 2).await;
    let backend = control_plane.add("http://127.0.0.1:1").await;
    let known = ["default", "default", backend.as_str()];
    let send = async |sequence, names| {
        call(&control_plane, By::Plain, REPORT, &counts("node-1", sequence, names, 5)).await.unwrap()
    };
    assert_eq!(send(1, known).await.0, Code::Ok);
    assert_eq!(send(2, ["", "", ""]).await.0, Code::Ok);
    assert_eq!(send(3, ["_other", "_other", "_other"]).await.0, Code::Ok);
    for names in [
        ["forged", "default", ""],
        ["default", "forged", ""],
        ["default", "default", "b99"],
        ["default", "default", "default"],
    ] {
        let (code, why, _) = send(4, names).await;
        assert!(
            code == Code::OutOfRange && why.contains("no stored revision has a"),
            "{names:?}: {code:?} {why}"
        );
    }
    // A deleted backend is known as long as a stored revision contains it.
    control_plane.call("DELETE", &format!("/backends/{backend}"), "").await.expect(200);
    assert_eq!(send(5, known).await.0, Code::Ok);
    for port in 2..5 {
        control_plane.add(&format!("http://127.0.0.1:{port}")).await;
    }
    assert_eq!(send(6, known).await.0, Code::OutOfRange);
    assert_eq!(control_plane.get("/reports/summary").await["requests"], 20);
}

#[tokio::test]
async fn a_report_may_count_what_a_node_can_have_carried() {
    let control_plane = guarded().await;
    let (token, _) = node_token(&control_plane, json!({})).await;
    let member = join(&control_plane, &token, "node-1").await.unwrap();
    let mut node = connect_as(&control_plane, &member, "node-1", "boot").await;
    node.push().await;
    node_is(&control_plane, "node-1", |node| node["workers"] == 2).await;
    let names = ["default", "default", ""];
    let send = async |batch| call(&control_plane, By::Node(&member), REPORT, &batch).await.unwrap();
    // More than two workers can serve in a minute, in any form.
    for requests in [1 << 52, 1_000_000_000, 50_000_000] {
        let (code, why, _) = send(counts("node-1", 1, names, requests)).await;
        assert!(
            code == Code::InvalidArgument && why.contains("a node with 2 workers"),
            "{requests}: {code:?} {why}"
        );
    }
    // More than possible since the node is known, over many minutes; the excess may be sent again later.
    let mut long = counts("node-1", 1, names, 20_000_000);
    for _ in 0..5 {
        let mut row = long.rows[0].clone();
        row.minute -= long.rows.len() as u64;
        long.rows.push(row);
    }
    let (code_, why, _) = send(long).await;
    assert!(code_ == Code::ResourceExhausted && why.contains("more requests than"), "{code_:?} {why}");
    let mut bytes = counts("node-1", 1, names, 1);
    bytes.rows[0].bytes_out = 1 << 52;
    assert_eq!(send(bytes).await.0, Code::ResourceExhausted);
    // Nothing of them counts, and the limits hold for repeated batches, which do not count again.
    let fair = counts("node-1", 1, names, 1_000_000);
    for _ in 0..100 {
        assert_eq!(send(fair.clone()).await.0, Code::Ok);
    }
    assert_eq!(control_plane.get("/reports/summary").await["requests"], 1_000_000);
}

#[tokio::test]
async fn a_nodes_counts_may_be_left_out_of_reports() {
    let control_plane = ControlPlane::start().await;
    let mut nodes = Vec::new();
    for id in ["node-1", "node-2"] {
        nodes.push(Node::connect(&control_plane, hello(id)).await);
        node_is(&control_plane, id, |node| node["excluded"] == false).await;
    }
    let names = ["default", "default", ""];
    let send = async |control_plane: &ControlPlane, sequence| {
        for node in ["node-1", "node-2"] {
            assert_eq!(
                code(control_plane, By::Plain, REPORT, &counts(node, sequence, names, 5)).await,
                Code::Ok
            );
        }
        control_plane.get("/reports/summary").await["requests"].clone()
    };
    assert_eq!(send(&control_plane, 1).await, 10);
    assert_eq!(control_plane.call("POST", "/nodes/nobody/exclude", "").await.status, 404);
    control_plane.call("POST", "/nodes/node-2/exclude", "").await.expect(200);
    node_is(&control_plane, "node-2", |node| node["excluded"] == true).await;
    assert_eq!(send(&control_plane, 2).await, 15);
    let control_plane = control_plane.killed_and_started().await;
    assert_eq!(send(&control_plane, 3).await, 20);
    control_plane.call("POST", "/nodes/node-2/include", "").await.expect(200);
    assert_eq!(send(&control_plane, 4).await, 30);
    let audit = control_plane.get("/audit?limit=100").await.to_string();
    assert!(audit.contains("left out of reports") && audit.contains("counted again"), "{audit}");
}
