//! Simulated nodes: they report generated traffic counts over real gRPC.
//!
//! Requests are generated one by one, so that a test knows each of them, and are grouped into batches like those of a
//! node. Only the gRPC contract is used here; how nodes count and how the control plane stores counts is internal to
//! their crates.

use std::collections::{BTreeMap, btree_map::Entry};

use hdrhistogram::{
    Histogram,
    serialization::{Serializer as _, V2Serializer},
};
use weir_proto::{
    FORMAT,
    v1::{ReportRequest, TrafficRow},
};

/// Refusal reasons as named in reports.
pub const REASONS: [&str; 8] =
    ["ip_filter", "method", "auth", "rate_limit", "per_ip_limit", "breaker", "no_room", "no_backend"];

/// Sides that may cut off a response, as named in reports.
pub const SIDES: [&str; 3] = ["client", "backend", "node"];

/// One request as a node would have counted it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Minute in which the request ended, in minutes since the Unix epoch.
    pub minute: u64,
    /// Route, pool, backend id, method and host.
    pub labels: Labels,
    /// Status sent to the client.
    pub status: u16,
    /// Time from the request head to the end of the response, in microseconds.
    pub latency_us: u64,
    /// Time to a backend's response head in microseconds; 0: no backend responded.
    pub upstream_us: u64,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// One of [`REASONS`].
    pub refused: Option<&'static str>,
    /// One of [`SIDES`].
    pub cut: Option<&'static str>,
    /// Whether it is a tunnel or a stream; `latency_us` is then its duration.
    pub streamed: bool,
}

/// Labels under which a request is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels {
    /// Name of the route.
    pub route: &'static str,
    /// Name of the pool.
    pub pool: &'static str,
    /// Id of the backend.
    pub backend: &'static str,
    /// Method in upper case.
    pub method: &'static str,
    /// Host in lower case.
    pub host: &'static str,
}

/// A row under construction.
struct Building {
    row: TrafficRow,
    latency: Histogram<u64>,
    upstream: Histogram<u64>,
    streams: Histogram<u64>,
}

impl Building {
    fn new(row: TrafficRow) -> anyhow::Result<Self> {
        Ok(Self {
            row,
            latency: Histogram::new(2)?,
            upstream: Histogram::new(2)?,
            streams: Histogram::new(2)?,
        })
    }

    fn add(&mut self, request: &Request) -> anyhow::Result<()> {
        let row = &mut self.row;
        row.requests += 1;
        row.bytes_in += request.bytes_in;
        row.bytes_out += request.bytes_out;
        row.retries += request.retries;
        if request.streamed {
            row.stream_max_us = row.stream_max_us.max(request.latency_us);
            self.streams.record(request.latency_us)?;
        } else {
            row.latency_max_us = row.latency_max_us.max(request.latency_us);
            self.latency.record(request.latency_us)?;
        }
        if let Some(side) = request.cut {
            let cut = row.cut.get_or_insert_default();
            *match side {
                "client" => &mut cut.client,
                "backend" => &mut cut.backend,
                _ => &mut cut.node,
            } += 1;
        }
        if request.upstream_us > 0 {
            row.upstream_max_us = row.upstream_max_us.max(request.upstream_us);
            self.upstream.record(request.upstream_us)?;
        }
        if let Some(reason) = request.refused {
            *row.refused.entry(reason.to_owned()).or_default() += 1;
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<TrafficRow> {
        let Self { mut row, latency, upstream, streams } = self;
        V2Serializer::new().serialize(&latency, &mut row.latency)?;
        if !upstream.is_empty() {
            V2Serializer::new().serialize(&upstream, &mut row.upstream_latency)?;
        }
        if !streams.is_empty() {
            V2Serializer::new().serialize(&streams, &mut row.stream_duration)?;
        }
        Ok(row)
    }
}

/// Builds the batch that a node would send for these requests.
///
/// # Errors
/// A latency is beyond the range of the histogram.
pub fn batch<'a>(
    node: &str,
    boot: &str,
    sequence: u64,
    sent_at_ms: u64,
    requests: impl IntoIterator<Item = &'a Request>,
) -> anyhow::Result<ReportRequest> {
    let mut rows = BTreeMap::new();
    let mut hosts = BTreeMap::new();
    for request in requests {
        let Request { minute, labels, status, .. } = request;
        let key = (*minute, Labels { host: "", ..*labels }, *status);
        if let Entry::Vacant(place) = rows.entry(key) {
            let row = TrafficRow {
                minute: *minute,
                route: labels.route.into(),
                pool: labels.pool.into(),
                backend: labels.backend.into(),
                method: labels.method.into(),
                status: u32::from(*status),
                ..TrafficRow::default()
            };
            place.insert(Building::new(row)?);
        }
        let of_host = (*minute, labels.host, *status);
        if let Entry::Vacant(place) = hosts.entry(of_host) {
            let (host, status) = (labels.host.into(), u32::from(*status));
            let row = TrafficRow { minute: *minute, host, status, ..TrafficRow::default() };
            place.insert(Building::new(row)?);
        }
        for building in [rows.get_mut(&key), hosts.get_mut(&of_host)].into_iter().flatten() {
            building.add(request)?;
        }
    }
    Ok(ReportRequest {
        format: FORMAT,
        node_id: node.to_owned(),
        boot_id: boot.to_owned(),
        sequence,
        rows: rows.into_values().map(Building::finish).collect::<anyhow::Result<_>>()?,
        hosts: hosts.into_values().map(Building::finish).collect::<anyhow::Result<_>>()?,
        sent_at_ms,
        ..ReportRequest::default()
    })
}
