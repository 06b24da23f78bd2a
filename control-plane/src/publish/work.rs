//! What nodes say of the backends and pools that they use, and how it adds up over the fleet.
//!
//! The sums are kept up to date with each message, by what the node said before and says now: reading them costs
//! nothing per node.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use weir_proto::v1;
use weir_snapshot::RefusalCounts;

/// Where a node's breaker for a backend stands, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Breaker {
    /// It gets its share.
    #[default]
    Closed,
    /// A few requests try it.
    HalfOpen,
    /// It gets nothing.
    Open,
}

impl Breaker {
    /// As the API names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// What one node says of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct OfBackend {
    pub(super) active: u32,
    pub(super) breaker: Breaker,
    pub(super) ejections: u64,
    pub(super) sessions: u32,
}

/// What one node says of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct OfPool {
    pub(super) panic: bool,
    pub(super) sums: PoolSums,
}

/// What nodes count of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolSums {
    /// Requests that wait.
    pub waiting: u64,
    /// Retries that were paid for.
    pub retries: u64,
    /// Retries that were not.
    pub retries_refused: u64,
    /// Requests that the fallback answered.
    pub fallbacks: u64,
    /// Requests refused for want of room.
    pub refused: u64,
    /// Sessions that went elsewhere.
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

/// A backend, as all connected nodes together see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackendSum {
    /// Requests in flight.
    pub active: u64,
    /// How often breakers have opened.
    pub ejections: u64,
    /// Sessions that came lately, while it drains.
    pub sessions: u64,
    /// The nodes whose breaker is open.
    pub open: BTreeSet<Arc<str>>,
    /// Nodes whose breaker is half-open.
    pub half_open: u64,
    nodes: u64,
}

impl BackendSum {
    /// The furthest that any node's breaker has gone.
    pub fn breaker(&self) -> Breaker {
        match (self.open.is_empty(), self.half_open) {
            (false, _) => Breaker::Open,
            (true, 0) => Breaker::Closed,
            (true, _) => Breaker::HalfOpen,
        }
    }
}

/// A pool, as all connected nodes together see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolSum {
    /// The nodes for which all its backends look dead.
    pub panic: BTreeSet<Arc<str>>,
    /// What they count.
    pub sums: PoolSums,
    nodes: u64,
}

/// A route, as all connected nodes together see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteSum {
    /// What its filters have refused.
    pub refused: RefusalCounts,
    nodes: u64,
}

/// Sums over the connected nodes, by backend's id and pool's name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sums {
    /// Backends of which some node has something to tell.
    pub backends: HashMap<Arc<str>, BackendSum>,
    /// Pools of which some node has something to tell.
    pub pools: HashMap<Arc<str>, PoolSum>,
    /// Routes of which some node has something to tell.
    pub routes: HashMap<Arc<str>, RouteSum>,
}

impl Sums {
    /// A node says this from now on.
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

    /// A node does not say this any more.
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

/// The sum of a name; the name of the report becomes the one that is there, so that it is kept once.
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
    fn sums_follow_what_is_said_and_are_empty_when_nobody_says_anything() {
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
        assert!(Arc::ptr_eq(&first.backends[0].0, &second.backends[0].0), "a name is kept once");
        sums.remove(&one, &first);
        let b1 = &sums.backends["b1"];
        assert_eq!((b1.active, b1.breaker(), b1.open.len()), (4, Breaker::HalfOpen, 0));
        sums.remove(&two, &second);
        assert_eq!(sums, Sums::default());
    }
}
