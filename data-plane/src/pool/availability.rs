//! Whether a backend may get requests, in one word that a pick reads once.
//!
//! A backend in good standing has no bit set, so that the usual question costs one comparison. The health checker, the
//! breaker and slow start each own their bits.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

/// The health checker found it down.
pub(crate) const DOWN: u8 = 1;
/// The breaker is open.
pub(crate) const OPEN: u8 = 2;
/// The breaker is half-open: a few requests may try it.
pub(crate) const TRIAL: u8 = 4;
/// It is new or has recovered, and has not its full share yet.
pub(crate) const SLOW: u8 = 8;

/// A full share, in the unit of [`Availability::share`].
const WHOLE: u32 = 1 << 16;

/// The least share at the beginning of a slow start: one in ten.
const LEAST: u32 = WHOLE / 10;

/// The bits of one backend, and how far its slow start has come.
#[derive(Debug, Default)]
pub(crate) struct Availability {
    bits: AtomicU8,
    share: AtomicU32,
    slow_since_ms: AtomicU64,
    slow_for_ms: AtomicU64,
}

impl Availability {
    /// All bits at once; 0: nothing against it.
    pub(crate) fn bits(&self) -> u8 {
        self.bits.load(Relaxed)
    }

    /// Sets bits; whether they were not all set before.
    pub(crate) fn set(&self, bits: u8) -> bool {
        self.bits.fetch_or(bits, Relaxed) & bits != bits
    }

    /// Clears bits; whether any was set before.
    pub(crate) fn clear(&self, bits: u8) -> bool {
        self.bits.fetch_and(!bits, Relaxed) & bits != 0
    }

    /// From open to half-open.
    pub(crate) fn half_open(&self) {
        let _ = self.bits.fetch_update(Relaxed, Relaxed, |bits| Some(bits & !OPEN | TRIAL));
    }

    /// From any phase of the breaker to open.
    pub(crate) fn open(&self) {
        let _ = self.bits.fetch_update(Relaxed, Relaxed, |bits| Some(bits & !TRIAL | OPEN));
    }

    /// Begins a slow start of so many milliseconds; 0: none.
    pub(crate) fn begin_slow(&self, now_ms: u64, for_ms: u64) {
        if for_ms == 0 {
            return;
        }
        self.slow_since_ms.store(now_ms, Relaxed);
        self.slow_for_ms.store(for_ms, Relaxed);
        self.share.store(LEAST, Relaxed);
        self.set(SLOW);
    }

    /// Brings the share up to date.
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

    /// Whether a slow start admits a request whose lot is drawn evenly from 16 bits.
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
