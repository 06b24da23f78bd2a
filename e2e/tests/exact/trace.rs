//! The requests, generated from a fixed seed.

use std::ops::Range;

use e2e::played::{Labels, REASONS, Request, SIDES};
use fastrand::Rng;

pub const NODES: usize = 3;
/// Batches per node.
pub const BATCHES: usize = 30;
/// Minutes covered by the requests; each batch covers three of them.
pub const MINUTES: u64 = 3 * BATCHES as u64;

const ROUTES: [(&str, [&str; 2]); 3] =
    [("shop", ["b1", "b2"]), ("api", ["b4", "b5"]), ("search", ["b6", "b6"])];
const HOSTS: [&str; 4] = ["a.example", "b.example", "c.example", "d.example"];

/// A configuration with the routes, pools and backends of the requests.
pub fn config() -> serde_json::Value {
    let mut ports = 1..;
    let mut backends = |count: usize| -> Vec<serde_json::Value> {
        ports
            .by_ref()
            .take(count)
            .map(|port| serde_json::json!({ "url": format!("http://127.0.0.1:{port}") }))
            .collect()
    };
    // Backends are numbered in this order: b1 to b3, b4 and b5, b6.
    let pools: Vec<_> = ROUTES
        .iter()
        .zip([3, 2, 1])
        .map(|((name, _), count)| {
            serde_json::json!({ "name": name, "health_check": { "type": "none" }, "backends": backends(count) })
        })
        .collect();
    let route = |(name, _): &(&str, [&str; 2])| serde_json::json!({ "name": name, "pool": name, "match": { "path": format!("/{name}") } });
    serde_json::json!({ "pools": pools, "routes": ROUTES.iter().map(route).collect::<Vec<_>>() })
}

/// All requests, grouped by the batches of each node.
pub struct Trace {
    begin: u64,
    requests: Vec<Vec<Vec<Request>>>,
}

impl Trace {
    pub const REQUESTS: usize = 1_000_000;

    /// The last minute has ended when the test starts, and the times of all batches are in the past.
    pub fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 60;
        let begin = now - MINUTES - 5;
        let mut rng = Rng::with_seed(7);
        let mut requests = vec![vec![Vec::new(); BATCHES]; NODES];
        for _ in 0..Self::REQUESTS {
            let (node, number) = (rng.usize(..NODES), rng.usize(..BATCHES));
            let minute = begin + 3 * number as u64 + rng.u64(..3);
            requests[node][number].push(request(&mut rng, minute));
        }
        Self { begin, requests }
    }

    pub fn batch(&self, node: usize, number: usize) -> &[Request] {
        &self.requests[node][number]
    }

    /// Time at which a node creates a batch: half a minute after its last request.
    pub fn sent_at_ms(&self, number: usize) -> u64 {
        (self.begin + self.minutes(number).end) * 60_000 + 30_000
    }

    /// The minutes of a batch, relative to the first one.
    pub fn minutes(&self, number: usize) -> Range<u64> {
        3 * number as u64..3 * number as u64 + 3
    }

    /// First minute since the epoch.
    pub fn begin(&self) -> u64 {
        self.begin
    }

    /// The whole time as parameters of a report.
    pub fn range(&self) -> String {
        format!("from={}&to={}", time(self.begin), time(self.begin + MINUTES))
    }
}

fn request(rng: &mut Rng, minute: u64) -> Request {
    let (route, backends) = ROUTES[rng.usize(..ROUTES.len())];
    let status = match rng.u32(..100) {
        0..70 => 200,
        70..80 => 204,
        80..92 => 404,
        92..96 => 502,
        _ => 503,
    };
    // Most latencies are small, some are a thousand times as long.
    let latency_us = 200 + rng.u64(..2_000) * (1 + rng.u64(..100).pow(2) / 100);
    let refused = (status == 503 && rng.bool()).then(|| REASONS[3 + rng.usize(..5)]);
    let labels = Labels {
        route,
        pool: route,
        backend: if refused.is_some() { "" } else { backends[rng.usize(..2)] },
        method: if rng.u32(..4) == 0 { "POST" } else { "GET" },
        host: HOSTS[rng.usize(..HOSTS.len())],
    };
    Request {
        minute,
        labels,
        status,
        latency_us,
        // In the same order as the total latency, so that sorting by one sorts the other.
        upstream_us: if refused.is_some() { 0 } else { latency_us * 9 / 10 },
        bytes_in: rng.u64(..1_000),
        bytes_out: rng.u64(..100_000),
        retries: u64::from(rng.u32(..20) == 0),
        refused,
        cut: (refused.is_none() && rng.u32(..50) == 0).then(|| SIDES[rng.usize(..SIDES.len())]),
        streamed: status == 200 && rng.u32(..30) == 0,
    }
}

/// A minute since the epoch in RFC 3339.
pub fn time(minute: u64) -> String {
    jiff::Timestamp::from_second(i64::try_from(minute * 60).unwrap()).unwrap().to_string()
}
