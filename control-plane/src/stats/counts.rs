//! Counts and their sums: exact numbers, and merged histograms.

use std::{borrow::Cow, collections::BTreeMap};

use weir_admin_api::Cut;
use weir_proto::v1;
use weir_snapshot::RefusalCounts;

use super::{
    cut,
    histogram::{self, Latencies, Malformed},
};
use crate::store::{
    StoreError,
    stats::{StoredCounts, StoredSum},
};

/// Counts of a set of requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) retries: u64,
    /// From a request's head to the end of its response; without tunnels and streams.
    pub(crate) latency: Latencies,
    pub(crate) latency_max_us: u64,
    /// From the start of the attempt at a backend, including connecting, to the head of its response.
    pub(crate) upstream: Latencies,
    pub(crate) upstream_max_us: u64,
    /// Requests that Weir rejected itself.
    pub(crate) refused: RefusalCounts,
    /// Requests whose response was interrupted.
    pub(crate) cut: Cut,
    /// Durations of tunnels and streams, which are not in `latency`.
    pub(crate) streams: Latencies,
    pub(crate) stream_max_us: u64,
}

impl Counts {
    /// Adds another set of counts.
    pub(crate) fn add(&mut self, other: &Self) {
        self.add_numbers([other.requests, other.bytes_in, other.bytes_out, other.retries]);
        self.latency.add(&other.latency);
        self.latency_max_us = self.latency_max_us.max(other.latency_max_us);
        self.upstream.add(&other.upstream);
        self.upstream_max_us = self.upstream_max_us.max(other.upstream_max_us);
        self.refused.add(&other.refused);
        cut::add(&mut self.cut, &other.cut);
        self.streams.add(&other.streams);
        self.stream_max_us = self.stream_max_us.max(other.stream_max_us);
    }

    /// Adds stored counts.
    pub(crate) fn add_stored(&mut self, stored: &StoredCounts<'_>) -> Result<(), StoreError> {
        let broken = |error: Malformed| StoreError::Broken("histogram", error.to_string());
        if !stored.refused.is_empty() {
            let counts = serde_json::from_str(&stored.refused);
            let counts = counts.map_err(|error| StoreError::Broken("refusal count", error.to_string()))?;
            self.refused.add(&counts);
        }
        if !stored.cut.is_empty() {
            let counts = serde_json::from_str(&stored.cut);
            let counts = counts.map_err(|error| StoreError::Broken("cut count", error.to_string()))?;
            cut::add(&mut self.cut, &counts);
        }
        self.streams.add_stored(&stored.streams).map_err(broken)?;
        self.stream_max_us = self.stream_max_us.max(stored.stream_max_us);
        self.latency.add_stored(&stored.latency).map_err(broken)?;
        self.upstream.add_stored(&stored.upstream).map_err(broken)?;
        self.add_numbers([stored.requests, stored.bytes_in, stored.bytes_out, stored.retries]);
        self.latency_max_us = self.latency_max_us.max(stored.latency_max_us);
        self.upstream_max_us = self.upstream_max_us.max(stored.upstream_max_us);
        Ok(())
    }

    /// Adds a row that a node sent.
    pub(crate) fn add_row(&mut self, row: &v1::TrafficRow) -> Result<(), Malformed> {
        self.latency.add_encoded(&row.latency)?;
        self.upstream.add_encoded(&row.upstream_latency)?;
        self.add_numbers([row.requests, row.bytes_in, row.bytes_out, row.retries]);
        self.latency_max_us = self.latency_max_us.max(row.latency_max_us);
        self.upstream_max_us = self.upstream_max_us.max(row.upstream_max_us);
        self.refused.add(&RefusalCounts::from_names(&row.refused).unwrap_or_default());
        cut::add(&mut self.cut, &cut::of(row));
        self.streams.add_encoded(&row.stream_duration)?;
        self.stream_max_us = self.stream_max_us.max(row.stream_max_us);
        Ok(())
    }

    fn add_numbers(&mut self, [requests, bytes_in, bytes_out, retries]: [u64; 4]) {
        self.requests = self.requests.saturating_add(requests);
        self.bytes_in = self.bytes_in.saturating_add(bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(bytes_out);
        self.retries = self.retries.saturating_add(retries);
    }

    /// Encodes the counts for the store.
    pub(crate) fn encode(&self) -> StoredCounts<'static> {
        let bytes = |latencies: &Latencies| match latencies.len() {
            0 => Cow::Borrowed(&[][..]),
            _ => Cow::Owned(latencies.encode()),
        };
        StoredCounts {
            requests: self.requests,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            retries: self.retries,
            latency: bytes(&self.latency),
            latency_max_us: self.latency_max_us,
            upstream: bytes(&self.upstream),
            upstream_max_us: self.upstream_max_us,
            refused: match self.refused.total() {
                0 => Cow::Borrowed(""),
                // Serializing a few numbers cannot fail.
                _ => Cow::Owned(serde_json::to_string(&self.refused).unwrap_or_default()),
            },
            cut: match self.cut.total() {
                0 => Cow::Borrowed(""),
                _ => Cow::Owned(serde_json::to_string(&self.cut).unwrap_or_default()),
            },
            streams: bytes(&self.streams),
            stream_max_us: self.stream_max_us,
        }
    }
}

/// Counts with their requests by status.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sum {
    pub(crate) counts: Counts,
    pub(crate) status: BTreeMap<u16, u64>,
}

impl Sum {
    /// Adds the counts of one status.
    pub(crate) fn add_counts(&mut self, status: u16, counts: &Counts) {
        self.add_status(status, counts.requests);
        self.counts.add(counts);
    }

    /// Adds a stored sum.
    pub(crate) fn add_stored(&mut self, stored: &StoredSum<'_>) -> Result<(), StoreError> {
        self.counts.add_stored(&stored.counts)?;
        for (status, requests) in &stored.status {
            self.add_status(*status, *requests);
        }
        Ok(())
    }

    fn add_status(&mut self, status: u16, requests: u64) {
        let sum = self.status.entry(status).or_default();
        *sum = sum.saturating_add(requests);
    }

    /// Encodes the sum for the store.
    pub(crate) fn encode(&self) -> StoredSum<'static> {
        StoredSum { status: self.status.clone(), counts: self.counts.encode() }
    }
}

/// Checks the histograms of a row. Returns the number of values in those of requests and in those of backends.
pub(crate) fn check_histograms(row: &v1::TrafficRow) -> Result<(u64, u64), Malformed> {
    // Nodes always send latencies; the upstream histogram may be empty.
    if row.latency.is_empty() {
        return Err(Malformed::Cookie);
    }
    let requests = histogram::check(&row.latency)?.checked_add(histogram::check(&row.stream_duration)?);
    Ok((requests.ok_or(Malformed::Payload)?, histogram::check(&row.upstream_latency)?))
}
