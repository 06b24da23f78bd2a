//! `least_connections`: the fewest requests in flight per weight.

use fastrand::Rng;

use crate::pool::backend::Member;

/// Compares all active members. Ties are broken at random, in proportion to the weights, so that an idle pool is used
/// evenly. The share of an unavailable backend is spread over all others and does not go to one neighbour.
pub(crate) struct LeastConnections {
    active: Box<[(usize, u32)]>,
}

impl LeastConnections {
    pub(crate) fn new(active: impl Iterator<Item = (usize, u32)>) -> Self {
        Self { active: active.collect() }
    }

    pub(crate) fn pick(
        &self,
        members: &[Member],
        rng: &mut Rng,
        may: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        // The best so far, its load as a fraction, and the weight of all that are as good.
        let mut best: Option<(usize, u64, u64)> = None;
        let mut ties = 0;
        for &(member, weight) in self.active.iter().filter(|(member, _)| may(*member)) {
            let load = u64::from(members[member].state.in_flight());
            let weight = u64::from(weight);
            let order =
                best.map_or(std::cmp::Ordering::Less, |(_, least, of)| (load * of).cmp(&(least * weight)));
            ties = match order {
                std::cmp::Ordering::Less => weight,
                std::cmp::Ordering::Equal => ties + weight,
                std::cmp::Ordering::Greater => continue,
            };
            if order.is_lt() || rng.u64(..ties) < weight {
                best = Some((member, load, weight));
            }
        }
        best.map(|(member, ..)| member)
    }
}
