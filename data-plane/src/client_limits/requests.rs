//! How many requests each client address has in flight on this node.
//!
//! Every request is counted, so nothing may be shared that workers write: each worker has a table of its own, to which
//! it alone writes, and reads those of the others only for a client that has many requests at it. A table has a fixed
//! number of counters, chosen by a secret hash; two rows, of which the lower count holds, keep clients that meet in one
//! counter apart.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use super::client_of;
use crate::hash::mix;

/// Counters of one row.
const COUNTERS: usize = 4096;

/// Minimum time between two log messages, in seconds.
const LOG_INTERVAL: u64 = 10;

type Row = Box<[AtomicU32]>;

/// One worker's counts.
struct Table {
    rows: [Row; 2],
}

impl Table {
    fn new() -> Self {
        let row = || (0..COUNTERS).map(|_| AtomicU32::new(0)).collect();
        Self { rows: [row(), row()] }
    }

    fn counters(&self, at: ClientRequest) -> [&AtomicU32; 2] {
        [&self.rows[0][usize::from(at.0[0])], &self.rows[1][usize::from(at.0[1])]]
    }
}

/// The counts of all workers.
pub(crate) struct NodeRequests {
    tables: Vec<Table>,
    seed: u64,
    refused: AtomicU64,
    started: Instant,
    /// Time of the last log message, in seconds since the start; 0: never.
    logged_at: AtomicU64,
}

impl NodeRequests {
    /// For so many workers.
    pub(crate) fn new(workers: usize) -> Arc<Self> {
        // Version 4 ids come from the system's source of chance.
        let (seed, _) = uuid::Uuid::new_v4().as_u64_pair();
        Arc::new(Self {
            tables: (0..workers).map(|_| Table::new()).collect(),
            seed,
            refused: AtomicU64::new(0),
            started: Instant::now(),
            logged_at: AtomicU64::new(0),
        })
    }

    /// Requests refused since the node began.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    fn slots(&self, client: IpAddr) -> ClientRequest {
        let bits = match client {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            // The /64 network is the upper half.
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64 ^ 1 << 63,
        };
        let hash = mix(bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.seed);
        let counter = |bits: u64| (bits % COUNTERS as u64) as u16;
        ClientRequest([counter(hash), counter(hash >> 32)])
    }

    #[cold]
    fn refuse(&self, client: IpAddr, limit: u32) {
        self.refused.fetch_add(1, Relaxed);
        let now = self.started.elapsed().as_secs() + LOG_INTERVAL;
        let last = self.logged_at.load(Relaxed);
        if now >= last + LOG_INTERVAL && self.logged_at.compare_exchange(last, now, Relaxed, Relaxed).is_ok()
        {
            tracing::warn!(%client, limit, "client address reached max_requests_per_ip: further requests get a 429");
        }
    }
}

/// A request that is counted, as its place in the worker's table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientRequest([u16; 2]);

/// One worker's part of the counts.
pub(crate) struct ClientRequests {
    node: Arc<NodeRequests>,
    own: usize,
}

impl ClientRequests {
    pub(crate) fn new(node: &Arc<NodeRequests>, worker: usize) -> Self {
        Self { node: Arc::clone(node), own: worker }
    }

    /// Counts a request of a client, or returns `None` if the client has `limit` of them. With several workers a client
    /// may have up to a quarter more. The result must be given to [`leave`](Self::leave).
    pub(crate) fn enter(&self, client: IpAddr, limit: u32) -> Option<ClientRequest> {
        let Self { node, own } = self;
        let request = node.slots(client_of(client));
        let counters = node.tables[*own].counters(request);
        let here = counters[0].load(Relaxed).min(counters[1].load(Relaxed));
        // Only this worker counts many: then the others are asked.
        let unasked = limit / (4 * u32::try_from(node.tables.len()).unwrap_or(u32::MAX)).max(1);
        if here >= limit || here >= unasked && self.total(request) >= limit {
            node.refuse(client, limit);
            return None;
        }
        // Written by this worker alone.
        counters.iter().for_each(|counter| counter.store(counter.load(Relaxed) + 1, Relaxed));
        Some(request)
    }

    /// The request has ended.
    pub(crate) fn leave(&self, request: ClientRequest) {
        for counter in self.node.tables[self.own].counters(request) {
            counter.store(counter.load(Relaxed).saturating_sub(1), Relaxed);
        }
    }

    fn total(&self, request: ClientRequest) -> u32 {
        let mut rows = [0_u32; 2];
        for table in &self.node.tables {
            for (sum, counter) in rows.iter_mut().zip(table.counters(request)) {
                *sum = sum.saturating_add(counter.load(Relaxed));
            }
        }
        rows[0].min(rows[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_worker_counts_exactly_and_forgets_who_has_left() {
        let node = NodeRequests::new(1);
        let requests = ClientRequests::new(&node, 0);
        for limit in [1, 2, 512] {
            let held: Vec<_> =
                (0..limit).map(|_| requests.enter(address("192.0.2.1"), limit).expect("room")).collect();
            assert!(requests.enter(address("192.0.2.1"), limit).is_none());
            assert!(requests.enter(address("192.0.2.2"), limit).map(|other| requests.leave(other)).is_some());
            held.into_iter().for_each(|one| requests.leave(one));
        }
        assert_eq!(node.refused(), 3);
        let rows = node.tables[0].rows.iter().flatten();
        assert!(rows.into_iter().all(|counter| counter.load(Relaxed) == 0));
    }

    #[test]
    fn several_workers_together_allow_at_most_a_quarter_more() {
        let node = NodeRequests::new(4);
        let workers: Vec<_> = (0..4).map(|i| ClientRequests::new(&node, i)).collect();
        let entered = (0..4000).filter(|i| workers[i % 4].enter(address("192.0.2.1"), 512).is_some()).count();
        assert!((512..=640).contains(&entered), "{entered}");
        // All at one of them as well.
        let node = NodeRequests::new(4);
        let one = ClientRequests::new(&node, 2);
        let entered = (0..4000).filter(|_| one.enter(address("192.0.2.1"), 512).is_some()).count();
        assert_eq!(entered, 512);
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_the_next_one_another() {
        let node = NodeRequests::new(1);
        let requests = ClientRequests::new(&node, 0);
        assert!(requests.enter(address("2001:db8::1"), 2).is_some());
        assert!(requests.enter(address("2001:db8::ffff:1"), 2).is_some());
        assert!(requests.enter(address("2001:db8::2"), 2).is_none());
        assert!(requests.enter(address("2001:db8:0:1::2"), 2).is_some());
    }

    #[test]
    fn a_client_at_its_limit_is_in_the_way_of_hardly_anybody() {
        let node = NodeRequests::new(1);
        let requests = ClientRequests::new(&node, 0);
        while requests.enter(address("192.0.2.1"), 512).is_some() {}
        let others = (0..10_000_u32).map(|i| IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + i)));
        let refused = others
            .filter(|other| requests.enter(*other, 512).map(|one| requests.leave(one)).is_none())
            .count();
        assert!(refused <= 2, "{refused}");
    }
}
