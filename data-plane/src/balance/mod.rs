//! Picks a backend of a pool: one small struct a strategy, none of which waits or locks.
//!
//! Every balancer skips backends that are down or already tried. When all look dead it picks among them all the
//! same (panic mode): the health checker may be the one that is cut off.

mod least_connections;
mod schedule;

use std::sync::{Arc, atomic::AtomicUsize};

use weir_snapshot::config::{BackendState as Wanted, Strategy};

use self::{
    least_connections::LeastConnections,
    schedule::{Random, RoundRobin},
};
use crate::backend::{Member, Padded};

/// The live object that picks.
pub(crate) enum Balancer {
    /// In turn by weight.
    RoundRobin(RoundRobin),
    /// By chance by weight.
    Random(Random),
    /// Fewest requests in flight per weight.
    LeastConnections(LeastConnections),
}

/// Which members of a pool a request has been sent to already.
#[derive(Debug, Default)]
pub(crate) struct Tried(Vec<usize>);

impl Tried {
    /// Notes a member.
    pub(crate) fn add(&mut self, member: usize) {
        self.0.push(member);
    }

    /// Whether it was noted.
    pub(crate) fn contains(&self, member: usize) -> bool {
        self.0.contains(&member)
    }

    /// How many were noted.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Balancer {
    /// A balancer over the active ones of `members`; `cursor` goes on from the pool's last balancer.
    pub(crate) fn new(strategy: Strategy, members: &[Member], cursor: Arc<Padded<AtomicUsize>>) -> Self {
        let active = || {
            members
                .iter()
                .enumerate()
                .filter(|(_, member)| member.wanted == Wanted::Active)
                .map(|(i, m)| (i, m.weight))
        };
        match strategy {
            Strategy::RoundRobin => Self::RoundRobin(RoundRobin::new(active(), cursor)),
            Strategy::Random => Self::Random(Random::new(active())),
            Strategy::LeastConnections => Self::LeastConnections(LeastConnections::new(active(), cursor)),
        }
    }

    /// The member to send to, or `None` when none is left.
    pub(crate) fn pick(&self, members: &[Member], tried: &Tried) -> Option<usize> {
        let healthy = |member: usize| members[member].state.is_usable() && !tried.contains(member);
        let untried = |member: usize| !tried.contains(member);
        self.pick_where(members, healthy).or_else(|| self.pick_where(members, untried))
    }

    fn pick_where(&self, members: &[Member], may: impl Fn(usize) -> bool) -> Option<usize> {
        match self {
            Self::RoundRobin(balancer) => balancer.pick(may),
            Self::Random(balancer) => balancer.pick(may),
            Self::LeastConnections(balancer) => balancer.pick(members, may),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{BackendState, Health};

    fn members(weights: &[u32]) -> Vec<Member> {
        let member = |(i, weight): (usize, &u32)| {
            let url = format!("http://127.0.0.1:{}", i + 1).parse().unwrap();
            let state = Arc::new(BackendState::new(format!("b{i}").into(), url));
            Member { state, weight: *weight, wanted: Wanted::Active }
        };
        weights.iter().enumerate().map(member).collect()
    }

    fn balancer(strategy: Strategy, members: &[Member]) -> Balancer {
        Balancer::new(strategy, members, Arc::default())
    }

    /// Shares of `picks` picks; each pick is in flight until `holding` more were made.
    fn shares(balancer: &Balancer, members: &[Member], picks: usize, holding: usize) -> Vec<f64> {
        let mut counts = vec![0; members.len()];
        let mut held = std::collections::VecDeque::new();
        for _ in 0..picks {
            let member = balancer.pick(members, &Tried::default()).unwrap();
            counts[member] += 1;
            held.push_back(members[member].state.enter());
            if held.len() > holding {
                held.pop_front();
            }
        }
        counts.into_iter().map(|count| f64::from(count) / picks as f64).collect()
    }

    #[test]
    fn every_strategy_is_fair_at_equal_weight() {
        for (strategy, name) in Strategy::ALL {
            let members = members(&[1; 5]);
            for share in shares(&balancer(strategy, &members), &members, 100_000, 50) {
                assert!((share - 0.2).abs() < 0.01, "{name}: {share}");
            }
        }
    }

    #[test]
    fn every_strategy_honours_weights() {
        for (strategy, name) in Strategy::ALL {
            let members = members(&[1, 2, 5]);
            let shares = shares(&balancer(strategy, &members), &members, 100_000, 80);
            for (share, expected) in shares.iter().zip([0.125, 0.25, 0.625]) {
                assert!((share - expected).abs() < 0.02, "{name}: {shares:?}");
            }
        }
    }

    #[test]
    fn the_dead_are_skipped_and_their_share_is_spread_evenly() {
        for (strategy, name) in Strategy::ALL {
            let members = members(&[1; 4]);
            members[1].state.set_health(Health::Down);
            let shares = shares(&balancer(strategy, &members), &members, 100_000, 50);
            for (member, share) in shares.iter().enumerate() {
                let expected = if member == 1 { 0.0 } else { 1.0 / 3.0 };
                assert!((share - expected).abs() < 0.01, "{name}: {shares:?}");
            }
        }
    }

    #[test]
    fn all_dead_are_used_all_the_same_and_none_is_none() {
        for (strategy, name) in Strategy::ALL {
            let members = members(&[1; 3]);
            members.iter().for_each(|member| member.state.set_health(Health::Down));
            let balancer = balancer(strategy, &members);
            let mut tried = Tried::default();
            for _ in 0..3 {
                let member = balancer.pick(&members, &tried).unwrap_or_else(|| panic!("{name}"));
                assert!(!tried.contains(member), "{name}");
                tried.add(member);
            }
            assert_eq!(balancer.pick(&members, &tried), None, "{name}");
            assert_eq!(
                Balancer::new(strategy, &[], Arc::default()).pick(&[], &Tried::default()),
                None,
                "{name}"
            );
        }
    }

    #[test]
    fn draining_and_disabled_backends_get_nothing() {
        for (strategy, _) in Strategy::ALL {
            let mut members = members(&[1; 3]);
            members[0].wanted = Wanted::Draining;
            members[2].wanted = Wanted::Disabled;
            let balancer = balancer(strategy, &members);
            for _ in 0..100 {
                assert_eq!(balancer.pick(&members, &Tried::default()), Some(1));
            }
        }
    }

    #[test]
    fn round_robin_is_strictly_in_turn_and_interleaves_weights() {
        let members = members(&[1, 1, 1]);
        let equal = balancer(Strategy::RoundRobin, &members);
        let picks: Vec<_> = (0..6).filter_map(|_| equal.pick(&members, &Tried::default())).collect();
        assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
        let members = self::members(&[3, 1]);
        let weighted = balancer(Strategy::RoundRobin, &members);
        let picks: Vec<_> = (0..8).filter_map(|_| weighted.pick(&members, &Tried::default())).collect();
        assert!(!picks.windows(2).any(|pair| pair == [1, 1]), "{picks:?}");
    }
}
