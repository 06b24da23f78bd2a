//! `least_connections`: the fewest requests in flight per weight.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::backend::{Member, Padded};

/// Looks at all active members. Ties go in turn, so that an idle pool is used evenly.
pub(crate) struct LeastConnections {
    active: Box<[(usize, u32)]>,
    cursor: Arc<Padded<AtomicUsize>>,
}

impl LeastConnections {
    pub(crate) fn new(active: impl Iterator<Item = (usize, u32)>, cursor: Arc<Padded<AtomicUsize>>) -> Self {
        Self { active: active.collect(), cursor }
    }

    pub(crate) fn pick(&self, members: &[Member], may: impl Fn(usize) -> bool) -> Option<usize> {
        if self.active.is_empty() {
            return None;
        }
        let start = self.cursor.0.fetch_add(1, Relaxed) % self.active.len();
        let mut best: Option<(usize, u64, u64)> = None;
        for &(member, weight) in self.active[start..].iter().chain(&self.active[..start]) {
            if !may(member) {
                continue;
            }
            // The load that the request would make, as a fraction: (in flight + 1) / weight.
            let load = u64::from(members[member].state.in_flight()) + 1;
            let weight = u64::from(weight);
            if best.is_none_or(|(_, least, of)| load * of < least * weight) {
                best = Some((member, load, weight));
            }
        }
        best.map(|(member, ..)| member)
    }
}
