//! `peak_ewma`: of two drawn by chance, the one whose recent latency and load promise the sooner answer.
//!
//! The latency is a moving average that jumps up to a peak at once and comes down slowly, so that a backend that
//! begins to lag is left alone from its first slow answer. While nothing is heard of a backend its latency decays: one
//! that was slow and gets nothing is tried again.

use fastrand::Rng;

use super::schedule::{draw_two, table};
use crate::pool::backend::Member;

/// Cost of a busy backend that has never answered, in microseconds.
const UNKNOWN: f32 = 1_000_000.0;

/// Differences below 5 % count as equal, so that the random draw decides, and with it the weights.
const NOISE: f32 = 1.05;

/// Compares latency times load per weight.
pub(crate) struct PeakEwma {
    table: Box<[u32]>,
}

impl PeakEwma {
    pub(crate) fn new(active: impl Iterator<Item = (usize, u32)>) -> Self {
        Self { table: table(active) }
    }

    pub(crate) fn pick(
        &self,
        members: &[Member],
        now_ms: u64,
        rng: &mut Rng,
        may: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let (first, second) = draw_two(&self.table, rng, may)?;
        let Some(second) = second else { return Some(first) };
        let cost = |member: usize| {
            let Member { state, weight, .. } = &members[member];
            let load = state.in_flight() as f32;
            let latency = state.latency().now(now_ms);
            let latency = if latency <= 0.0 && load > 0.0 { UNKNOWN } else { latency };
            latency * (load / *weight as f32 + 1.0)
        };
        Some(if cost(first) > cost(second) * NOISE { second } else { first })
    }
}
