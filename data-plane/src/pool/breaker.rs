//! The circuit breaker of one backend: it ejects the backend because of failed requests, and tries it again later.
//!
//! Closed: it counts failures in a row, and the share of failures in a sliding window. Open: the backend gets no
//! requests. After a time that grows with each ejection in a row it is half-open: a few requests at a time are trials.
//! If they succeed it closes, and the first failure opens it again. All workers of a node share the breaker, because
//! each of them alone would need as many failures again. The counters of each request are one cache line of atomics;
//! only state changes take a lock.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use weir_snapshot::Breaker as Settings;

/// Number of slices of the window.
const SLICES: u64 = 10;

/// Number of concurrent trials of a half-open backend, and of successful trials that close it.
pub(crate) const TRIALS: u32 = 3;

/// The open time grows up to this factor.
const LONGEST: u32 = 16;

/// Counters that every request writes; they share the backend's cache line.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Failures since the last success.
    in_a_row: AtomicU32,
    /// For each slice: its number (16 bits), requests and failures in it (24 bits each).
    slices: [AtomicU64; SLICES as usize],
}

impl Tally {
    /// Counts one attempt. Returns whether the backend must be ejected.
    pub(crate) fn count(&self, ok: bool, now_ms: u64, settings: &Settings) -> bool {
        let width = (settings.window.as_millis() as u64 / SLICES).max(1);
        let number = now_ms / width;
        self.add(number, ok);
        if ok {
            // Read first: a healthy backend's cache line stays shared.
            if self.in_a_row.load(Relaxed) != 0 {
                self.in_a_row.store(0, Relaxed);
            }
            return false;
        }
        let in_a_row = self.in_a_row.fetch_add(1, Relaxed).saturating_add(1);
        if in_a_row >= settings.consecutive_failures {
            return true;
        }
        let (requests, failures) = self.sum(number);
        requests >= u64::from(settings.min_requests)
            && failures as f64 >= settings.error_rate * requests as f64
    }

    fn add(&self, number: u64, ok: bool) {
        const FAILURE: u64 = 1;
        const REQUEST: u64 = 1 << 24;
        let tag = number & 0xffff;
        let slice = &self.slices[(number % SLICES) as usize];
        let one = if ok { REQUEST } else { REQUEST + FAILURE };
        let word = slice.load(Relaxed);
        if word >> 48 == tag && word != 0 {
            // If another worker begins the next round in between, the attempt counts there.
            slice.fetch_add(one, Relaxed);
        } else if slice.compare_exchange(word, tag << 48 | one, Relaxed, Relaxed).is_err() {
            slice.fetch_add(one, Relaxed);
        }
    }

    /// Requests and failures in the window that ends with a slice.
    fn sum(&self, number: u64) -> (u64, u64) {
        let (mut requests, mut failures) = (0, 0);
        for back in 0..SLICES.min(number + 1) {
            let number = number - back;
            let word = self.slices[(number % SLICES) as usize].load(Relaxed);
            if word >> 48 == number & 0xffff {
                requests += word >> 24 & 0xff_ffff;
                failures += word & 0xff_ffff;
            }
        }
        (requests, failures)
    }

    fn clear(&self) {
        self.in_a_row.store(0, Relaxed);
        self.slices.iter().for_each(|slice| slice.store(0, Relaxed));
    }
}

/// The phase of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    /// The backend gets its share of requests.
    #[default]
    Closed,
    /// The backend gets no requests.
    Open,
    /// The backend gets a few trials.
    HalfOpen,
}

/// State that changes rarely, behind a lock.
#[derive(Debug, Default)]
struct Course {
    phase: Phase,
    /// Ejections in a row.
    times: u32,
    /// Open: its end. Closed: its start.
    at_ms: u64,
    /// Half-open: successful trials.
    good: u32,
}

/// The state machine of a breaker.
#[derive(Debug, Default)]
pub(crate) struct Circuit {
    course: Mutex<Course>,
    ejections: AtomicU64,
}

impl Circuit {
    fn lock(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ejections since the start.
    pub(crate) fn ejections(&self) -> u64 {
        self.ejections.load(Relaxed)
    }

    /// Opens the breaker. Returns for how long, or `None` if it was open. `chance` is from 0 to 1.
    pub(crate) fn open(&self, now_ms: u64, settings: &Settings, chance: f64) -> Option<u64> {
        let mut course = self.lock();
        if course.phase == Phase::Open {
            return None;
        }
        let base = settings.open_for.as_millis() as u64;
        // A backend that has worked for long enough starts again with the shortest ejection.
        if course.phase == Phase::Closed && now_ms.saturating_sub(course.at_ms) > base.saturating_mul(2) {
            course.times = 0;
        }
        let factor = (1_u64 << course.times.min(10)).min(u64::from(LONGEST));
        // Jitter only lengthens the time, by up to a quarter, so that backends that failed together do not return
        // together.
        let open_for = (base.saturating_mul(factor) as f64 * (1.0 + chance / 4.0)) as u64;
        course.times += 1;
        course.phase = Phase::Open;
        course.at_ms = now_ms.saturating_add(open_for);
        self.ejections.fetch_add(1, Relaxed);
        Some(open_for)
    }

    /// Goes to half-open if its time has come, or at once if a health check has just succeeded.
    pub(crate) fn half_open(&self, now_ms: u64, at_once: bool) -> bool {
        let mut course = self.lock();
        let is_due = course.phase == Phase::Open && (at_once || course.at_ms <= now_ms);
        if is_due {
            course.phase = Phase::HalfOpen;
            course.good = 0;
        }
        is_due
    }

    /// Counts a successful trial. Returns whether it closes the breaker.
    pub(crate) fn trial_succeeded(&self, now_ms: u64, tally: &Tally) -> bool {
        let mut course = self.lock();
        if course.phase != Phase::HalfOpen {
            return false;
        }
        course.good += 1;
        let closes = course.good >= TRIALS;
        if closes {
            (course.phase, course.at_ms) = (Phase::Closed, now_ms);
            tally.clear();
        }
        closes
    }

    /// Closes the breaker and forgets its counts, because the pool has no breaker any more.
    pub(crate) fn reset(&self, tally: &Tally) {
        *self.lock() = Course::default();
        tally.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings() -> Settings {
        Settings {
            consecutive_failures: 5,
            error_rate: 0.5,
            window: Duration::from_secs(10),
            min_requests: 20,
            open_for: Duration::from_secs(10),
            max_ejected: 0.5,
        }
    }

    #[test]
    fn failures_in_a_row_eject_and_a_success_between_them_does_not() {
        let tally = Tally::default();
        for _ in 0..4 {
            assert!(!tally.count(false, 1, &settings()));
        }
        assert!(!tally.count(true, 1, &settings()));
        for _ in 0..4 {
            assert!(!tally.count(false, 1, &settings()));
        }
        assert!(tally.count(false, 1, &settings()));
    }

    #[test]
    fn the_share_in_the_window_ejects_only_with_enough_requests() {
        let tally = Tally::default();
        // Every second request fails, so that there are never two failures in a row.
        let ejected: Vec<bool> = (0..30).map(|i| tally.count(i % 2 == 0, i * 10, &settings())).collect();
        assert!(ejected[..19].iter().all(|ejected| !ejected));
        assert!(ejected[19], "10 of 20");
        // The same failures are forgotten a window later.
        assert!(!tally.count(false, 20_000, &settings()));
        assert_eq!(tally.sum(20), (1, 1));
    }

    #[test]
    fn the_window_slides_slice_by_slice() {
        let tally = Tally::default();
        for second in 0..10 {
            (0..=second).for_each(|_| tally.add(second, true));
        }
        assert_eq!(tally.sum(9), (55, 0));
        assert_eq!(tally.sum(12), (55 - 1 - 2 - 3, 0));
        tally.add(10, false);
        assert_eq!(tally.sum(10), (55, 1), "the first slice's place is taken over");
    }

    #[test]
    fn it_opens_is_tried_and_closes_and_its_open_time_grows() {
        let (circuit, tally, settings) = (Circuit::default(), Tally::default(), settings());
        assert_eq!(circuit.open(100_000, &settings, 0.0), Some(10_000));
        assert_eq!(circuit.open(100_000, &settings, 0.0), None);
        assert!(!circuit.half_open(109_999, false));
        assert!(circuit.half_open(110_000, false));
        assert_eq!(circuit.open(110_001, &settings, 0.0), Some(20_000), "the trial failed");
        assert!(circuit.half_open(110_002, true), "the health checker saw it well");
        assert!(!circuit.trial_succeeded(110_003, &tally));
        assert!(!circuit.trial_succeeded(110_003, &tally));
        assert!(circuit.trial_succeeded(110_003, &tally));
        assert_eq!(circuit.open(110_004, &settings, 1.0), Some(50_000), "again so soon: longer, and jitter");
        assert!(circuit.half_open(u64::MAX, false));
        let closed = (0..TRIALS).filter(|_| circuit.trial_succeeded(200_000, &tally)).count();
        assert_eq!(closed, 1);
        assert_eq!(circuit.open(300_000, &settings, 0.0), Some(10_000), "well for long: anew");
        assert_eq!(circuit.ejections(), 4);
    }

    #[test]
    fn the_open_time_is_bounded() {
        let (circuit, settings) = (Circuit::default(), settings());
        for _ in 0..40 {
            let open_for = circuit.open(0, &settings, 1.0).unwrap();
            assert!(open_for <= 10_000 * u64::from(LONGEST) * 5 / 4);
            circuit.half_open(0, true);
        }
    }
}
