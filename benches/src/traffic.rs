//! Generated traffic counts in the format of nodes.

use hdrhistogram::{
    Histogram,
    serialization::{Serializer as _, V2Serializer},
};
use weir_proto::{FORMAT, v1};

fn latencies(around_us: u64, requests: u64) -> anyhow::Result<Vec<u8>> {
    let mut histogram = Histogram::<u64>::new(2)?;
    for n in 0..requests {
        // A long tail: most latencies are near the centre, some are ten times as long.
        let spread = 1 + n * n * 9 / (requests * requests).max(1);
        histogram.record(around_us * spread + n * 17)?;
    }
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(&histogram, &mut bytes)?;
    Ok(bytes)
}

/// Requests of one minute, without labels.
///
/// # Errors
/// A latency is beyond the range of the histogram.
pub fn row(minute: i64, around_us: u64, requests: u64) -> anyhow::Result<v1::TrafficRow> {
    Ok(v1::TrafficRow {
        minute: minute.cast_unsigned(),
        requests,
        bytes_in: requests * 100,
        bytes_out: requests * 5_000,
        latency: latencies(around_us, requests)?,
        latency_max_us: around_us * 11,
        upstream_latency: latencies(around_us - around_us / 10, requests)?,
        upstream_max_us: around_us * 10,
        ..v1::TrafficRow::default()
    })
}

/// Rows with this number of different labels: ten backends per route.
///
/// # Errors
/// As [`row`].
pub fn rows(keys: usize, requests: u64) -> anyhow::Result<Vec<v1::TrafficRow>> {
    (0..keys)
        .map(|n| {
            Ok(v1::TrafficRow {
                route: format!("route-{}", n / 10),
                pool: format!("pool-{}", n / 10),
                backend: format!("b{}", 1 + n % 10),
                method: "GET".into(),
                status: 200,
                ..row(0, 1_000 + n as u64, requests)?
            })
        })
        .collect()
}

/// An empty batch of a node.
#[must_use]
pub fn batch(node: usize, sequence: u64, at_ms: i64) -> v1::ReportRequest {
    v1::ReportRequest {
        format: FORMAT,
        node_id: format!("node-{node}"),
        boot_id: format!("boot-{node}"),
        sequence,
        sent_at_ms: at_ms.cast_unsigned(),
        ..v1::ReportRequest::default()
    }
}
