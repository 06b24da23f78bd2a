//! The availability of a backend, in one word that a pick reads once.
//!
//! A fully available backend has no bit set, so that the usual check is one comparison. The health checker, the
//! breaker and slow start each own their bits.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

/// The health checker found it down.
pub(crate) const DOWN: u8 = 1;
/// The breaker is open.
pub(crate) const OPEN: u8 = 2;
/// The breaker is half-open: a few requests may try it.
pub(crate) const TRIAL: u8 = 4;
/// Slow start: the backend is new or has recovered, and does not have its full share yet.
pub(crate) const SLOW: u8 = 8;

/// A full share, in the unit of [`Availability::share`].
const WHOLE: u32 = 1 << 16;

/// The share at the beginning of a slow start: one in ten.
const LEAST: u32 = WHOLE / 10;

/// The bits of one backend, and the progress of its slow start.
#[derive(Debug, Default)]
pub(crate) struct Availability {
    bits: AtomicU8,
    share: AtomicU32,
    slow_since_ms: AtomicU64,
    slow_for_ms: AtomicU64,
}

impl Availability {
    /// All bits; 0: fully available.
    pub(crate) fn bits(&self) -> u8 {
        self.bits.load(Relaxed)
    }

    /// Sets bits. Returns whether any of them was clear.
    pub(crate) fn set(&self, bits: u8) -> bool {
        self.bits.fetch_or(bits, Relaxed) & bits != bits
    }

    /// Clears bits. Returns whether any of them was set.
    pub(crate) fn clear(&self, bits: u8) -> bool {
        self.bits.fetch_and(!bits, Relaxed) & bits != 0
    }

    /// The breaker goes from open to half-open.
    pub(crate) fn half_open(&self) {
        let _ = self.bits.fetch_update(Relaxed, Relaxed, |bits| Some(bits & !OPEN | TRIAL));
    }

    /// Opens the breaker.
    pub(crate) fn open(&self) {
        let _ = self.bits.fetch_update(Relaxed, Relaxed, |bits| Some(bits & !TRIAL | OPEN));
    }

    /// Begins a slow start of `for_ms` milliseconds; 0: none.
    pub(crate) fn begin_slow(&self, now_ms: u64, for_ms: u64) {
        if for_ms == 0 {
            return;
        }
        self.slow_since_ms.store(now_ms, Relaxed);
        self.slow_for_ms.store(for_ms, Relaxed);
        self.share.store(LEAST, Relaxed);
        self.set(SLOW);
    }

    /// Updates the share of a slow start.
    pub(crate) fn tick(&self, now_ms: u64) {
        if self.bits() & SLOW == 0 {
            return;
        }
        let since = now_ms.saturating_sub(self.slow_since_ms.load(Relaxed));
        let whole = self.slow_for_ms.load(Relaxed).max(1);
        let share = u64::from(WHOLE).saturating_mul(since) / whole;
        if share >= u64::from(WHOLE) {
            self.clear(SLOW);
        } else {
            self.share.store((share as u32).max(LEAST), Relaxed);
        }
    }

    /// Whether a slow start admits a request with this uniform random number.
    pub(crate) fn admits(&self, lot: u16) -> bool {
        self.bits() & SLOW == 0 || u32::from(lot) < self.share.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_start_grows_and_ends() {
        let availability = Availability::default();
        availability.begin_slow(1_000, 0);
        assert_eq!(availability.bits(), 0, "none was asked for");
        availability.begin_slow(1_000, 30_000);
        let admitted = |now_ms| {
            availability.tick(now_ms);
            (0..=u16::MAX).filter(|lot| availability.admits(*lot)).count() as f64 / f64::from(WHOLE)
        };
        for (now_ms, share) in [(1_000, 0.1), (2_000, 0.1), (16_000, 0.5), (28_000, 0.9), (31_000, 1.0)] {
            assert!((admitted(now_ms) - share).abs() < 0.01, "{now_ms}");
        }
        assert_eq!(availability.bits(), 0);
    }

    #[test]
    fn each_owner_has_its_bits() {
        let availability = Availability::default();
        assert!(availability.set(DOWN) && !availability.set(DOWN));
        availability.open();
        assert_eq!(availability.bits(), DOWN | OPEN);
        availability.half_open();
        assert!(availability.clear(DOWN));
        assert_eq!(availability.bits(), TRIAL);
        assert!(availability.clear(OPEN | TRIAL));
    }
}
