//! `power_of_two`: draws two by chance and takes the less busy one. Nearly as good as looking at all, at a cost that
//! does not grow with the pool; and nodes that know nothing of each other do not all run to the same idle backend.

use fastrand::Rng;

use super::schedule::{draw_two, table};
use crate::pool::backend::Member;

/// Compares requests in flight per weight.
pub(crate) struct PowerOfTwo {
    table: Box<[u32]>,
}

impl PowerOfTwo {
    pub(crate) fn new(active: impl Iterator<Item = (usize, u32)>) -> Self {
        Self { table: table(active) }
    }

    pub(crate) fn pick(
        &self,
        members: &[Member],
        rng: &mut Rng,
        may: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let (first, second) = draw_two(&self.table, rng, may)?;
        let Some(second) = second else { return Some(first) };
        let load = |member: usize| u64::from(members[member].state.in_flight());
        let weight = |member: usize| u64::from(members[member].weight);
        // On a tie the first draw stands: idle pools are used by weight.
        let is_busier = load(first) * weight(second) > load(second) * weight(first);
        Some(if is_busier { second } else { first })
    }
}
