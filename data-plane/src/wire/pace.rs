//! The minimum speed at which a client must send or read a body.
//!
//! Two limits apply to the time in which Weir waits for the client. One is for a single wait: the longest pause. The
//! other is for all waits together and grows with the bytes that were moved. It ends a body that moves one byte now and
//! then, which the first limit would keep alive. Time in which the backend is slow does not count.

use std::time::Duration;

use weir_snapshot::{RouteOverrides, config::Downstream};

use crate::wire::timer::Timer;

/// The limits of one direction of a request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PaceLimits {
    /// The longest single wait; zero: no limit.
    stall: Duration,
    /// Bytes per second, on average; 0: no limit.
    rate: u64,
    /// Time in addition to what the average rate allows.
    grace: Duration,
}

impl PaceLimits {
    /// Only a limit for a single wait.
    pub(crate) fn stall(stall: Duration) -> Self {
        Self { stall, rate: 0, grace: Duration::ZERO }
    }

    /// Limits of a client that sends a body.
    pub(crate) fn of_request(settings: &Downstream, route: &RouteOverrides) -> Self {
        Self::new(route.request_body.unwrap_or(settings.body_timeout.0), settings, route)
    }

    /// Limits of a client that reads a response.
    pub(crate) fn of_response(settings: &Downstream, route: &RouteOverrides) -> Self {
        Self::new(route.send.unwrap_or(settings.send_timeout.0), settings, route)
    }

    fn new(stall: Duration, settings: &Downstream, route: &RouteOverrides) -> Self {
        let rate = route.min_body_rate.unwrap_or(settings.min_body_rate.0);
        Self { stall, rate, grace: settings.min_body_rate_grace.0 }
    }
}

/// The progress of one direction of a request.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    limits: PaceLimits,
    /// Bytes that have moved.
    bytes: u64,
    /// Sum of all waits that have ended, in milliseconds.
    waited: u64,
    /// Start of the current wait, in the worker's milliseconds.
    since: Option<u64>,
}

impl Pace {
    pub(crate) fn new(limits: PaceLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Replaces the limits.
    pub(crate) fn set(&mut self, limits: PaceLimits) {
        self.limits = limits;
    }

    /// Ends a wait: bytes were moved, or the client has shown that it is connected.
    pub(crate) fn moved(&mut self, bytes: usize, timer: &Timer) {
        self.bytes += bytes as u64;
        if let Some(since) = self.since.take() {
            self.waited += timer.now().saturating_sub(since);
        }
    }

    /// Waits for the client. At the start of a wait `timer` is armed.
    pub(crate) fn wait(&mut self, timer: &Timer) {
        if self.since.is_none() {
            self.since = Some(timer.now());
            timer.arm(self.left());
        }
    }

    /// Longest duration of the next wait; zero: no limit.
    fn left(&self) -> Duration {
        let PaceLimits { stall, rate, grace } = self.limits;
        if rate == 0 {
            return stall;
        }
        let earned = Duration::from_millis(self.bytes.saturating_mul(1000) / rate);
        let left = (grace + earned).saturating_sub(Duration::from_millis(self.waited));
        // Zero would mean no deadline.
        let left = left.max(Duration::from_millis(1));
        if stall.is_zero() { left } else { left.min(stall) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::timer::Timers;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn pace(stall: u64, rate: u64, grace: u64) -> Pace {
        Pace::new(PaceLimits { stall: seconds(stall), rate, grace: seconds(grace) })
    }

    #[test]
    fn a_byte_now_and_then_does_not_outlive_the_grace() {
        let (timers, mut pace) = (Timers::new(), pace(30, 240, 20));
        let timer = timers.timer();
        assert_eq!(pace.left(), seconds(20));
        pace.waited = 12_000;
        pace.moved(1, &timer);
        assert!(pace.left() < Duration::from_millis(8_005), "{:?}", pace.left());
        pace.waited = 24_000;
        assert_eq!(pace.left(), Duration::from_millis(1));
    }

    #[test]
    fn what_has_moved_earns_a_pause_up_to_the_longest() {
        let (timers, mut pace) = (Timers::new(), pace(300, 240, 20));
        let timer = timers.timer();
        pace.moved(240 * 60, &timer);
        assert_eq!(pace.left(), seconds(80));
        pace.moved(10 << 20, &timer);
        assert_eq!(pace.left(), seconds(300));
    }

    #[test]
    fn without_a_rate_only_the_single_wait_is_bounded() {
        let mut some = pace(30, 0, 20);
        some.waited = 1_000_000;
        assert_eq!(some.left(), seconds(30));
        assert_eq!(pace(0, 0, 20).left(), Duration::ZERO);
        assert_eq!(pace(0, 240, 20).left(), seconds(20));
    }

    #[test]
    fn time_in_which_nobody_waits_for_the_client_is_not_counted() {
        let (timers, mut pace) = (Timers::new(), pace(30, 240, 20));
        let timer = timers.timer();
        pace.moved(0, &timer);
        assert_eq!((pace.waited, pace.since), (0, None));
        pace.wait(&timer);
        assert!(pace.since.is_some());
        pace.moved(0, &timer);
        assert_eq!(pace.since, None);
    }
}
