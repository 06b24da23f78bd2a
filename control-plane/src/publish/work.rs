//! Loads that nodes report for backends, pools and routes, and their sums over the fleet.
//!
//! Each message updates the sums by the difference between the node's previous and new report, so reading a sum does
//! not depend on the number of nodes.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use weir_proto::v1;
use weir_snapshot::RefusalCounts;

/// State of a node's breaker for a backend, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Breaker {
    /// The backend receives its share of requests.
    #[default]
    Closed,
    /// A few trial requests are sent to the backend.
    HalfOpen,
    /// The backend receives no requests.
    Open,
}

impl Breaker {
    /// Name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// One node's report about a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct OfBackend {
    pub(super) active: u32,
    pub(super) breaker: Breaker,
    pub(super) ejections: u64,
    pub(super) sessions: u32,
}

/// One node's report about a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct OfPool {
    pub(super) panic: bool,
    pub(super) sums: PoolSums,
}

/// Sums over the nodes' reports about a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolSums {
    /// Requests waiting for a connection to a backend.
    pub waiting: u64,
    /// Retries within the budget.
    pub retries: u64,
    /// Retries refused by the budget.
    pub retries_refused: u64,
    /// Requests answered by the fallback.
    pub fallbacks: u64,
    /// Requests refused because no backend had capacity in time.
    pub refused: u64,
    /// Sessions that were re-pinned to another backend.
    pub repinned: u64,
}

impl PoolSums {
    fn each(&mut self, other: Self, join: fn(u64, u64) -> u64) {
        self.waiting = join(self.waiting, other.waiting);
        self.retries = join(self.retries, other.retries);
        self.retries_refused = join(self.retries_refused, other.retries_refused);
        self.fallbacks = join(self.fallbacks, other.fallbacks);
        self.refused = join(self.refused, other.refused);
        self.repinned = join(self.repinned, other.repinned);
    }
}

/// What a node says it does. Names are shared with the sums.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) backends: Vec<(Arc<str>, OfBackend)>,
    pub(super) pools: Vec<(Arc<str>, OfPool)>,
    pub(super) routes: Vec<(Arc<str>, RefusalCounts)>,
}

impl Report {
    pub(super) fn of(load: &v1::Load) -> Self {
        let backend = |load: &v1::BackendLoad| {
            let breaker = match load.breaker() {
                v1::Breaker::Unspecified | v1::Breaker::Closed => Breaker::Closed,
                v1::Breaker::HalfOpen => Breaker::HalfOpen,
                v1::Breaker::Open => Breaker::Open,
            };
            let (active, ejections, sessions) = (load.active_requests, load.ejections, load.sessions);
            (Arc::from(load.backend_id.as_str()), OfBackend { active, breaker, ejections, sessions })
        };
        let pool = |load: &v1::PoolLoad| {
            let sums = PoolSums {
                waiting: load.waiting.into(),
                retries: load.retries,
                retries_refused: load.retries_refused,
                fallbacks: load.fallbacks,
                refused: load.refused,
                repinned: load.repinned,
            };
            (Arc::from(load.pool.as_str()), OfPool { panic: load.panic, sums })
        };
        // What has nothing to say adds nothing to the sums.
        let backends = load.backends.iter().map(backend).filter(|(_, said)| *said != OfBackend::default());
        let pools = load.pools.iter().map(pool).filter(|(_, said)| *said != OfPool::default());
        // A node of a later version may have reasons that are unknown here.
        let route = |load: &v1::RouteLoad| {
            let refused = RefusalCounts::from_names(&load.refused).unwrap_or_default();
            (Arc::from(load.route.as_str()), refused)
        };
        let routes = load.routes.iter().map(route).filter(|(_, said)| *said != RefusalCounts::default());
        Self { backends: backends.collect(), pools: pools.collect(), routes: routes.collect() }
    }

    pub(super) fn active(&self) -> u64 {
        self.backends.iter().map(|(_, said)| u64::from(said.active)).sum()
    }
}

/// Sum over all connected nodes for a backend.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackendSum {
    /// Requests in flight.
    pub active: u64,
    /// Number of times that breakers opened.
    pub ejections: u64,
    /// Recently active sessions, while the backend drains.
    pub sessions: u64,
    /// Nodes whose breaker is open.
    pub open: BTreeSet<Arc<str>>,
    /// Nodes whose breaker is half-open.
    pub half_open: u64,
    nodes: u64,
}

impl BackendSum {
    /// The worst state of any node's breaker.
    pub fn breaker(&self) -> Breaker {
        match (self.open.is_empty(), self.half_open) {
            (false, _) => Breaker::Open,
            (true, 0) => Breaker::Closed,
            (true, _) => Breaker::HalfOpen,
        }
    }
}

/// Sum over all connected nodes for a pool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolSum {
    /// Nodes that use panic mode for the pool.
    pub panic: BTreeSet<Arc<str>>,
    /// Summed counters.
    pub sums: PoolSums,
    nodes: u64,
}

/// Sum over all connected nodes for a route.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteSum {
    /// What its filters have refused.
    pub refused: RefusalCounts,
    nodes: u64,
}

/// Sums over the connected nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sums {
    /// Backends with a non-zero report, by id.
    pub backends: HashMap<Arc<str>, BackendSum>,
    /// Pools with a non-zero report, by name.
    pub pools: HashMap<Arc<str>, PoolSum>,
    /// Routes with a non-zero report, by name.
    pub routes: HashMap<Arc<str>, RouteSum>,
}

impl Sums {
    /// Adds a node's new report.
    pub(super) fn add(&mut self, node: &Arc<str>, report: &mut Report) {
        for (id, said) in &mut report.backends {
            let sum = entry(&mut self.backends, id);
            sum.nodes += 1;
            sum.active = sum.active.saturating_add(said.active.into());
            sum.ejections = sum.ejections.saturating_add(said.ejections);
            sum.sessions = sum.sessions.saturating_add(said.sessions.into());
            match said.breaker {
                Breaker::Open => {
                    sum.open.insert(Arc::clone(node));
                }
                Breaker::HalfOpen => sum.half_open += 1,
                Breaker::Closed => {}
            }
        }
        for (name, said) in &mut report.pools {
            let sum = entry(&mut self.pools, name);
            sum.nodes += 1;
            sum.sums.each(said.sums, u64::saturating_add);
            if said.panic {
                sum.panic.insert(Arc::clone(node));
            }
        }
        for (name, said) in &mut report.routes {
            let sum = entry(&mut self.routes, name);
            sum.nodes += 1;
            sum.refused.add(said);
        }
    }

    /// Subtracts a node's previous report.
    pub(super) fn remove(&mut self, node: &Arc<str>, report: &Report) {
        for (id, said) in &report.backends {
            let Some(sum) = self.backends.get_mut(id) else { continue };
            sum.nodes -= 1;
            if sum.nodes == 0 {
                self.backends.remove(id);
                continue;
            }
            sum.active = sum.active.saturating_sub(said.active.into());
            sum.ejections = sum.ejections.saturating_sub(said.ejections);
            sum.sessions = sum.sessions.saturating_sub(said.sessions.into());
            match said.breaker {
                Breaker::Open => {
                    sum.open.remove(node);
                }
                Breaker::HalfOpen => sum.half_open -= 1,
                Breaker::Closed => {}
            }
        }
        for (name, said) in &report.pools {
            let Some(sum) = self.pools.get_mut(name) else { continue };
            sum.nodes -= 1;
            if sum.nodes == 0 {
                self.pools.remove(name);
                continue;
            }
            sum.sums.each(said.sums, u64::saturating_sub);
            if said.panic {
                sum.panic.remove(node);
            }
        }
        for (name, said) in &report.routes {
            let Some(sum) = self.routes.get_mut(name) else { continue };
            sum.nodes -= 1;
            if sum.nodes == 0 {
                self.routes.remove(name);
                continue;
            }
            sum.refused.subtract(said);
        }
    }
}

/// Returns the sum of a name. The report shares the name's allocation with the map.
fn entry<'a, T: Default>(sums: &'a mut HashMap<Arc<str>, T>, name: &mut Arc<str>) -> &'a mut T {
    if let Some((known, _)) = sums.get_key_value(name) {
        *name = Arc::clone(known);
    }
    sums.entry(Arc::clone(name)).or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(active: u32, breaker: v1::Breaker, retries: u64) -> Report {
        Report::of(&v1::Load {
            backends: vec![v1::BackendLoad {
                backend_id: "b1".into(),
                active_requests: active,
                breaker: breaker.into(),
                ejections: 2,
                sessions: 1,
            }],
            pools: vec![
                v1::PoolLoad { pool: "p".into(), panic: true, retries, ..Default::default() },
                v1::PoolLoad { pool: "quiet".into(), ..Default::default() },
            ],
            routes: vec![v1::RouteLoad { route: "r".into(), refused: [("auth".to_owned(), retries)].into() }],
            ..v1::Load::default()
        })
    }

    #[test]
    fn sums_follow_the_reports_and_are_empty_without_reports() {
        let (one, two): (Arc<str>, Arc<str>) = ("one".into(), "two".into());
        let mut sums = Sums::default();
        let (mut first, mut second) = (report(3, v1::Breaker::Open, 5), report(4, v1::Breaker::HalfOpen, 7));
        sums.add(&one, &mut first);
        sums.add(&two, &mut second);
        let b1 = &sums.backends["b1"];
        assert_eq!((b1.active, b1.ejections, b1.sessions, b1.breaker()), (7, 4, 2, Breaker::Open));
        assert_eq!((sums.pools["p"].sums.retries, sums.pools["p"].panic.len()), (12, 2));
        assert_eq!(sums.routes["r"].refused.total(), 12);
        assert!(!sums.pools.contains_key("quiet"));
        assert!(Arc::ptr_eq(&first.backends[0].0, &second.backends[0].0), "a name is stored once");
        sums.remove(&one, &first);
        let b1 = &sums.backends["b1"];
        assert_eq!((b1.active, b1.breaker(), b1.open.len()), (4, Breaker::HalfOpen, 0));
        sums.remove(&two, &second);
        assert_eq!(sums, Sums::default());
    }
}
