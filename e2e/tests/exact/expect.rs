//! The expected reports of the requests that arrived.

use std::collections::{BTreeMap, BTreeSet};

use e2e::played::{Labels, REASONS, Request, SIDES};
use serde_json::{Value, json};

use crate::trace::{MINUTES, Trace};

/// The requests that arrived, the fastest first, so that every selection is sorted.
pub struct Expect<'a> {
    requests: Vec<&'a Request>,
    trace: &'a Trace,
}

/// Whether a request passes the filters in a report's parameters.
pub fn filter(parameters: &str) -> impl Fn(&Request) -> bool {
    let given = |wanted: &str| {
        let pair = parameters.split('&').filter_map(|pair| pair.split_once('='));
        pair.filter(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned()).next()
    };
    let wanted = ["route", "pool", "backend", "method", "host"].map(given);
    let all = wanted.iter().all(Option::is_none);
    move |request| {
        let Labels { route, pool, backend, method, host } = request.labels;
        let is = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
        all || is(&wanted[0], route)
            && is(&wanted[1], pool)
            && is(&wanted[2], backend)
            && is(&wanted[3], method)
            && is(&wanted[4], host)
    }
}

/// Counts of a set of requests.
#[derive(Default)]
struct Tally {
    requests: u64,
    /// Indexed by status minus 200. An array, because it is updated a million times per report in a debug build.
    status: Vec<u64>,
    bytes_in: u64,
    bytes_out: u64,
    retries: u64,
    refused: BTreeMap<&'static str, u64>,
    cut: BTreeMap<&'static str, u64>,
    latency: Vec<u64>,
    upstream: Vec<u64>,
    streams: Vec<u64>,
}

impl Tally {
    fn add(&mut self, request: &Request) {
        self.requests += 1;
        if self.status.is_empty() {
            self.status.resize(400, 0);
        }
        self.status[usize::from(request.status) - 200] += 1;
        self.bytes_in += request.bytes_in;
        self.bytes_out += request.bytes_out;
        self.retries += request.retries;
        if let Some(reason) = request.refused {
            *self.refused.entry(reason).or_default() += 1;
        }
        if let Some(side) = request.cut {
            *self.cut.entry(side).or_default() += 1;
        }
        let durations = if request.streamed { &mut self.streams } else { &mut self.latency };
        durations.push(request.latency_us);
        if request.upstream_us > 0 {
            self.upstream.push(request.upstream_us);
        }
    }

    fn same(&self, what: &str, is: &Value) {
        for (name, expected) in [
            ("requests", self.requests),
            ("bytes_in", self.bytes_in),
            ("bytes_out", self.bytes_out),
            ("retries", self.retries),
        ] {
            assert_eq!(is[name], expected, "{what}: {name}");
        }
        let status: BTreeMap<usize, u64> =
            (200..).zip(&self.status).filter(|(_, n)| **n > 0).map(|(status, n)| (status, *n)).collect();
        assert_eq!(is["status"], json!(status), "{what}: status");
        for reason in REASONS {
            let expected = self.refused.get(reason).copied().unwrap_or(0);
            assert_eq!(is["refused"][reason], expected, "{what}: refused {reason}");
        }
        for side in SIDES {
            let expected = self.cut.get(side).copied().unwrap_or(0);
            assert_eq!(is["cut"][side], expected, "{what}: cut by {side}");
        }
        assert_eq!(is["streams"], self.streams.len(), "{what}: streams");
        let durations =
            [("latency_ms", &self.latency), ("upstream_ms", &self.upstream), ("stream_ms", &self.streams)];
        for (name, sorted) in durations {
            for (percentile, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)] {
                let exact = exact(sorted, share);
                let found = is[name][percentile].as_f64().unwrap();
                let within = if percentile == "max" { 1e-9 } else { exact * 0.01 + 0.001 };
                assert!(
                    (found - exact).abs() <= within,
                    "{what}: {name} {percentile} is {found}, not {exact}"
                );
            }
        }
    }
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn exact(sorted: &[u64], share: f64) -> f64 {
    let rank = ((share * sorted.len() as f64).ceil() as usize).max(1);
    sorted.get(rank - 1).map_or(0.0, |micros| *micros as f64 / 1000.0)
}

impl<'a> Expect<'a> {
    pub fn new(trace: &'a Trace, arrived: &BTreeSet<(usize, usize)>) -> Self {
        let mut requests: Vec<&Request> =
            arrived.iter().flat_map(|(node, number)| trace.batch(*node, *number)).collect();
        requests.sort_unstable_by_key(|request| request.latency_us);
        Self { requests, trace }
    }

    pub fn count(&self) -> usize {
        self.requests.len()
    }

    pub fn range(&self) -> String {
        self.trace.range()
    }

    /// A time zone in which a day starts within the trace, or nearly.
    pub fn zone_with_midnight(&self) -> String {
        let hour = (self.trace.begin() + MINUTES) / 60 % 24;
        // The signs of these names are inverted.
        if hour <= 12 { format!("Etc/GMT%2B{hour}") } else { format!("Etc/GMT-{}", 24 - hour) }
    }

    /// Compares a report of the whole time.
    pub fn same(&self, what: &str, is: &Value, of: impl Fn(&Request) -> bool) {
        let mut tally = Tally::default();
        self.requests.iter().filter(|request| of(request)).for_each(|request| tally.add(request));
        tally.same(what, is);
    }

    /// Compares a report by periods of this many minutes, which contain their start times.
    pub fn same_periods(&self, what: &str, is: &Value, minutes: u64, of: impl Fn(&Request) -> bool) {
        let periods = is["periods"].as_array().unwrap();
        let starts: Vec<u64> =
            periods.iter().map(|period| minute(period["start"].as_str().unwrap())).collect();
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == minutes), "{what}: {starts:?}");
        let mut tallies: Vec<Tally> = starts.iter().map(|_| Tally::default()).collect();
        for request in self.requests.iter().filter(|request| of(request)) {
            let after = starts.partition_point(|start| *start <= request.minute);
            tallies[after - 1].add(request);
        }
        for (tally, period) in tallies.iter().zip(periods) {
            tally.same(&format!("{what}: {}", period["start"]), period);
        }
        assert!(tallies.iter().filter(|tally| tally.requests > 0).count() > usize::from(minutes < 1440));
    }

    /// Compares a ranking: every name of a label with its counts, the greatest first.
    pub fn same_top(&self, what: &str, is: &Value, by: &str, of: impl Fn(&Request) -> bool) {
        let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
        for request in self.requests.iter().filter(|request| of(request)) {
            let name = match by {
                "route" => request.labels.route,
                "pool" => request.labels.pool,
                "backend" => request.labels.backend,
                "method" => request.labels.method,
                "host" => request.labels.host,
                _ => match request.status {
                    200 => "200",
                    204 => "204",
                    404 => "404",
                    502 => "502",
                    _ => "503",
                },
            };
            tallies.entry(name).or_default().add(request);
        }
        let items = is["items"].as_array().unwrap();
        assert_eq!((&is["names"], items.len()), (&json!(tallies.len()), tallies.len()), "{what}");
        assert!(
            items.windows(2).all(|pair| pair[0]["requests"].as_u64() >= pair[1]["requests"].as_u64()),
            "{what}"
        );
        for item in items {
            let name = item["name"].as_str().unwrap();
            tallies[name].same(&format!("{what}: {name}"), item);
        }
    }
}

/// Minutes since the epoch from RFC 3339.
pub fn minute(text: &str) -> u64 {
    u64::try_from(text.parse::<jiff::Timestamp>().unwrap().as_second() / 60).unwrap()
}
