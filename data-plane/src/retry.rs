//! What may be tried again: only what is safe, only while most requests succeed.
//!
//! A request may be sent again if the backend cannot have acted on it (no connection came about), or if acting twice
//! does no harm (RFC 9110, 9.2.2) and its body can be sent again. Of what is allowed, the budget pays for all that a
//! backend may notice: it grows with each request that succeeds, so that when everything fails nothing is added to
//! the load that makes it fail.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use weir_snapshot::Retry as Policy;

use crate::{backend::Padded, upstream::Resend};

/// One retry, in the budget's unit.
const ONE: i64 = 1_000_000;

/// What a pool has at the start: a quiet pool's first failure can be retried.
const AT_START: i64 = 5 * ONE;

/// The most that is saved up.
const MOST: i64 = 50 * ONE;

/// A pool's retry budget, shared by the node's workers.
///
/// Full, it is only read, so that a healthy pool's cache line stays shared by all cores.
#[derive(Debug)]
pub(crate) struct Budget {
    tokens: Padded<AtomicI64>,
    spent: AtomicU64,
    refused: AtomicU64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            tokens: Padded(AtomicI64::new(AT_START)),
            spent: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }
}

impl Budget {
    /// A request succeeded.
    pub(crate) fn deposit(&self, policy: &Policy) {
        if self.tokens.0.load(Relaxed) < MOST {
            self.tokens.0.fetch_add(i64::from(policy.budget), Relaxed);
        }
    }

    /// Pays for a retry, if there is enough.
    pub(crate) fn withdraw(&self, policy: &Policy) -> bool {
        let pay = |tokens: i64| (policy.budget > 0 && tokens >= ONE).then(|| tokens - ONE);
        let paid = self.tokens.0.fetch_update(Relaxed, Relaxed, pay).is_ok();
        let counter = if paid { &self.spent } else { &self.refused };
        counter.fetch_add(1, Relaxed);
        paid
    }

    /// Retries that were paid for since the node began.
    pub(crate) fn spent(&self) -> u64 {
        self.spent.load(Relaxed)
    }

    /// Retries for which there was not enough.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

/// Why an attempt is not the request's last, if it may be another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// No connection: nothing was sent.
    Connect,
    /// No connection in time: nothing was sent, but time has passed.
    ConnectTimeout,
    /// The backend has not looked at the request: it closes the connection, or has no room for a stream.
    Refused,
    /// The connection broke before an answer, or what came is no answer.
    Reset,
    /// No answer in time.
    Timeout,
    /// An answer with this status.
    Status(u16),
}

impl Reason {
    /// Whether the backend cannot have acted on the request.
    pub(crate) fn is_unseen(self) -> bool {
        matches!(self, Self::Connect | Self::ConnectTimeout | Self::Refused)
    }

    /// Whether an answer with such a status speaks against the backend, and not against the request.
    pub(crate) fn is_failure(self) -> bool {
        match self {
            Self::Status(status) => status >= 500 && !matches!(status, 501 | 505),
            _ => true,
        }
    }

    /// Whether the attempt cost the backend nothing, so that the budget need not pay for another.
    pub(crate) fn is_free(self) -> bool {
        self.is_unseen()
    }
}

/// Whether an answer was none that should be passed on: it speaks against the backend, or policy says so.
pub(crate) fn of_status(policy: &Policy, status: u16) -> Option<Reason> {
    let reason = Reason::Status(status);
    (reason.is_failure() || policy.on_status(status)).then_some(reason)
}

/// How often a request that no backend has begun is sent again, by all backends together.
const MAX_UNSEEN: u32 = 6;

/// From the second time on it waits before it is sent again, each time twice as long.
const PAUSE: Duration = Duration::from_millis(50);

/// Attempts of one request that ended with its connection and not with an answer, and are made again at no cost: they
/// say nothing against the backend, so that neither the policy nor the budget limits them.
#[derive(Debug, Default)]
pub(crate) struct Resends {
    unseen: u32,
    lost: u32,
}

impl Resends {
    /// Whether to send the request again; counts it if so. `repeatable`: its method may be repeated.
    pub(crate) fn allow(&mut self, resend: Resend, repeatable: bool) -> bool {
        let (count, most) = match resend {
            Resend::Never => return false,
            Resend::Idempotent(_) if !repeatable => return false,
            Resend::Idempotent(most) => (&mut self.lost, most),
            Resend::Unseen { .. } => (&mut self.unseen, MAX_UNSEEN),
        };
        *count += 1;
        *count <= most
    }

    /// How long to wait before the same backend is asked again.
    pub(crate) fn pause(&self) -> Option<Duration> {
        let times = self.unseen.checked_sub(2)?;
        Some(PAUSE * (1 << times.min(3)))
    }
}

/// The retries of one request.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    /// How often the request was sent again, after the first time.
    counted: u32,
    /// Connections that did not come about in time.
    timed_out: u32,
}

impl Retries {
    /// Whether policy and count allow another attempt after one failed so. It is not yet paid for.
    pub(crate) fn allows(&mut self, policy: &Policy, reason: Reason) -> bool {
        let listed = match reason {
            // Nothing was sent, and it costs no time: each backend is tried once at most.
            Reason::Connect => return policy.on_connect_failure,
            Reason::Refused => return true,
            Reason::ConnectTimeout => {
                self.timed_out += 1;
                return policy.on_connect_failure && self.timed_out < policy.attempts;
            }
            Reason::Reset => policy.on_reset,
            Reason::Timeout => policy.on_timeout,
            Reason::Status(status) => policy.on_status(status),
        };
        // `attempts` bounds how often the request is sent, the first time included, however that ends.
        listed && self.counted + 1 < policy.attempts
    }

    /// Another attempt is made that costs a backend something.
    pub(crate) fn count(&mut self) {
        self.counted += 1;
    }
}

#[cfg(test)]
mod tests {
    use weir_snapshot::{check, config};

    use super::*;

    fn policy(retry: config::Retry) -> Policy {
        let pool = config::Pool { name: "p".into(), retry, ..Default::default() };
        let config = config::Config { pools: vec![pool], routes: vec![], ..config::Config::default() };
        check(&config).unwrap().pools.remove(0).resilience.retry
    }

    #[test]
    fn when_everything_fails_attempts_stay_within_a_fifth_more() {
        let (budget, policy) = (Budget::default(), policy(config::Retry::default()));
        let retries = (0..100).filter(|_| budget.withdraw(&policy)).count();
        assert_eq!(retries, 5, "what was there at the start");
        // However many succeeded before, what is saved is bounded.
        (0..10_000).for_each(|_| budget.deposit(&policy));
        let retries = (0..1_000).filter(|_| budget.withdraw(&policy)).count();
        assert!(retries <= 51, "{retries}");
        assert_eq!(budget.spent() + budget.refused(), 1_100);
    }

    #[test]
    fn half_failing_is_retried_up_to_the_share_of_successes() {
        let (budget, policy) = (Budget::default(), policy(config::Retry::default()));
        let mut retried = 0;
        for request in 0..10_000 {
            match request % 2 {
                0 => budget.deposit(&policy),
                _ => retried += u32::from(budget.withdraw(&policy)),
            }
        }
        assert!((1_000..=1_012).contains(&retried), "{retried}");
    }

    #[test]
    fn what_was_not_begun_is_sent_again_a_few_times_and_not_in_a_tight_loop() {
        let mut resends = Resends::default();
        let unseen = Resend::Unseen { stays: true };
        let pauses: Vec<_> =
            (0..MAX_UNSEEN).map(|_| resends.allow(unseen, false).then(|| resends.pause())).collect();
        let ms = |ms| Some(Some(Duration::from_millis(ms)));
        assert_eq!(pauses, [Some(None), ms(50), ms(100), ms(200), ms(400), ms(400)]);
        assert!(!resends.allow(unseen, true));
        assert!(!resends.allow(Resend::Never, true) && !resends.allow(Resend::Idempotent(1), false));
        assert!(resends.allow(Resend::Idempotent(1), true) && !resends.allow(Resend::Idempotent(1), true));
    }

    #[test]
    fn the_policy_says_what_and_how_often() {
        let default = policy(config::Retry::default());
        let mut retries = Retries::default();
        assert!(retries.allows(&default, Reason::Status(503)) && retries.allows(&default, Reason::Reset));
        assert!(!retries.allows(&default, Reason::Status(500)) && !retries.allows(&default, Reason::Timeout));
        retries.count();
        retries.count();
        for reason in [Reason::Status(503), Reason::Reset] {
            assert!(!retries.allows(&default, reason), "{reason:?}: sent three times in all");
        }
        let none = policy(config::Retry { attempts: 1, ..Default::default() });
        for reason in [Reason::Status(503), Reason::Reset, Reason::ConnectTimeout] {
            assert!(!Retries::default().allows(&none, reason), "{reason:?}: sent once");
        }
        for reason in [Reason::Connect, Reason::Refused] {
            assert!(Retries::default().allows(&none, reason), "{reason:?}: nothing was begun");
        }
        assert!(retries.allows(&default, Reason::Connect), "who is refused asks the next");
        assert!((0..2).all(|_| retries.allows(&default, Reason::ConnectTimeout)));
        assert!(!retries.allows(&default, Reason::ConnectTimeout), "but not with patience for each");
        let unpaid = policy(config::Retry { budget: Default::default(), ..Default::default() });
        assert!(!Budget::default().withdraw(&unpaid));
    }
}
