//! The recent latency of a backend: a moving average that jumps up to a peak at once and decays slowly, so that a backend
//! that begins to lag is avoided from its first slow response.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Time constant of the average, in milliseconds.
const DECAY: f32 = 10_000.0;

/// A failure counts as a response that took at least this long, so that a backend that fails quickly does not look
/// fast.
pub(crate) const FAILED: Duration = Duration::from_secs(1);

/// The latency of one backend, shared by all workers: microseconds as `f32` and the time of the last update, in
/// wrapping milliseconds, in one atomic word.
#[derive(Debug, Default)]
pub(crate) struct Latency(AtomicU64);

impl Latency {
    /// Adds the latency of a response.
    pub(crate) fn observe(&self, now_ms: u64, latency_us: u64) {
        let latency = latency_us as f32;
        let next = |word: u64| {
            let (average, age) = read(word, now_ms);
            let average = if average <= 0.0 || latency > average {
                latency
            } else {
                let keep = (-age / DECAY).exp();
                average * keep + latency * (1.0 - keep)
            };
            // Never 0, which means that there is no latency yet.
            Some(u64::from(average.max(1.0).to_bits()) << 32 | now_ms & 0xffff_ffff)
        };
        // The closure never returns `None`.
        let _ = self.0.fetch_update(Relaxed, Relaxed, next);
    }

    /// Forgets the latency.
    pub(crate) fn clear(&self) {
        self.0.store(0, Relaxed);
    }

    /// Expected latency of the next response without load, in microseconds; 0: unknown.
    pub(super) fn now(&self, now_ms: u64) -> f32 {
        let (average, age) = read(self.0.load(Relaxed), now_ms);
        average * (-age / DECAY).exp()
    }
}

fn read(word: u64, now_ms: u64) -> (f32, f32) {
    let age = (now_ms as u32).wrapping_sub(word as u32);
    // Another worker may have read its clock slightly later.
    let age = if age > u32::MAX / 2 { 0 } else { age };
    (f32::from_bits((word >> 32) as u32), age as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let latency = Latency::default();
        latency.observe(1_000, 10_000);
        latency.observe(1_100, 500_000);
        assert!((latency.now(1_100) - 500_000.0).abs() < 1.0);
        for ms in 0..5_000 {
            latency.observe(1_100 + ms, 10_000);
        }
        let later = latency.now(6_100);
        assert!((200_000.0..400_000.0).contains(&later), "{later}");
        assert!(latency.now(6_100 + 60_000) < later / 100.0, "a starved backend looks good again");
        latency.clear();
        assert!(latency.now(0) <= 0.0);
    }

    #[test]
    fn a_clock_that_wraps_or_lags_is_no_age() {
        let latency = Latency::default();
        latency.observe(u64::from(u32::MAX), 1_000);
        assert!((latency.now(u64::from(u32::MAX) - 5) - 1_000.0).abs() < 1.0);
        assert!((latency.now(u64::from(u32::MAX) + 10) - 1_000.0).abs() < 10.0);
    }
}
