//! Picks a backend of a pool: one small struct a strategy, none of which waits, locks or allocates.
//!
//! A balancer proposes backends, and the pool decides which may be picked: each pick gets that decision as a function,
//! with the time, a random number generator and the hash key. A balancer contains only active backends.

mod least_connections;
pub(crate) mod maglev;
pub(crate) mod peak_ewma;
mod power_of_two;
mod schedule;
#[cfg(test)]
mod suite_tests;

use fastrand::Rng;
use weir_snapshot::config::{BackendState as Wanted, Strategy};

use self::{
    least_connections::LeastConnections,
    maglev::Maglev,
    peak_ewma::PeakEwma,
    power_of_two::PowerOfTwo,
    schedule::{Random, RoundRobin},
};
use crate::pool::{backend::Member, state::PoolState};

/// The live object that picks.
pub(crate) enum Balancer {
    /// In turn by weight.
    RoundRobin(RoundRobin),
    /// By chance by weight.
    Random(Random),
    /// Fewest requests in flight per weight.
    LeastConnections(LeastConnections),
    /// The less busy of two.
    PowerOfTwo(PowerOfTwo),
    /// The sooner one of two.
    PeakEwma(PeakEwma),
    /// By the hash of a key.
    Maglev(Maglev),
}

/// Inputs of a pick, besides the backends.
pub(crate) struct PickContext {
    /// The hash of what the pool hashes on; 0 where it does not.
    pub(crate) key: u64,
    /// Milliseconds since the node began.
    pub(crate) now_ms: u64,
    /// Chance.
    pub(crate) rng: Rng,
}

/// Which members of a pool a request has been sent to already.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tried(Vec<usize>);

impl Tried {
    /// Notes a member.
    pub(crate) fn add(&mut self, member: usize) {
        self.0.push(member);
    }

    pub(crate) fn contains(&self, member: usize) -> bool {
        self.0.contains(&member)
    }

    /// Whether none was noted.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Balancer {
    /// A balancer over the active ones of `members`, which goes on from what the pool's last one left in `live`.
    pub(crate) fn new(strategy: Strategy, members: &[Member], pool_state: &PoolState) -> Self {
        let is_active = |(_, member): &(usize, &Member)| member.wanted == Wanted::Active;
        let active = || members.iter().enumerate().filter(is_active).map(|(i, m)| (i, m.weight));
        match strategy {
            Strategy::RoundRobin => Self::RoundRobin(RoundRobin::new(active(), pool_state.cursor())),
            Strategy::Random => Self::Random(Random::new(active())),
            Strategy::LeastConnections => Self::LeastConnections(LeastConnections::new(active())),
            Strategy::PowerOfTwo => Self::PowerOfTwo(PowerOfTwo::new(active())),
            Strategy::PeakEwma => Self::PeakEwma(PeakEwma::new(active())),
            Strategy::IpHash | Strategy::ConsistentHash => {
                let url = |(i, weight): (usize, u32)| (members[i].state.url.to_string(), weight, i);
                Self::Maglev(Maglev(pool_state.table(active().map(url).collect())))
            }
        }
    }

    /// Whether picks depend on [`PickContext::key`].
    pub(crate) fn hashes(&self) -> bool {
        matches!(self, Self::Maglev(_))
    }

    /// Whether picks depend on latency.
    pub(crate) fn wants_latency(&self) -> bool {
        matches!(self, Self::PeakEwma(_))
    }

    /// A member that may be picked, if there is one.
    pub(crate) fn pick(
        &self,
        members: &[Member],
        context: &mut PickContext,
        may: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let PickContext { key, now_ms, rng } = context;
        match self {
            Self::RoundRobin(balancer) => balancer.pick(rng, may),
            Self::Random(balancer) => balancer.pick(rng, may),
            Self::LeastConnections(balancer) => balancer.pick(members, rng, may),
            Self::PowerOfTwo(balancer) => balancer.pick(members, rng, may),
            Self::PeakEwma(balancer) => balancer.pick(members, *now_ms, rng, may),
            Self::Maglev(balancer) => balancer.pick(*key, may),
        }
    }
}
