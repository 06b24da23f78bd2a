//! What may be tried again: only what is safe, only while most requests succeed.
//!
//! A request may be sent again if the backend cannot have acted on it (no connection came about), or if acting twice
//! does no harm (RFC 9110, 9.2.2) and its body can be sent again. Of what is allowed, the budget pays for all that a
//! backend may notice: it grows with each request that succeeds, so that when everything fails nothing is added to
//! the load that makes it fail.

use std::time::Duration;

use weir_snapshot::Retry as Policy;

use crate::failure::{Resend, RetryReason};

/// Whether an answer was none that should be passed on: it speaks against the backend, or policy says so.
pub(crate) fn of_status(policy: &Policy, status: u16) -> Option<RetryReason> {
    let reason = RetryReason::Status(status);
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
    pub(crate) fn allows(&mut self, policy: &Policy, reason: RetryReason) -> bool {
        let listed = match reason {
            // Nothing was sent, and it costs no time: each backend is tried once at most.
            RetryReason::Connect => return policy.on_connect_failure,
            RetryReason::Refused => return true,
            RetryReason::ConnectTimeout => {
                self.timed_out += 1;
                return policy.on_connect_failure && self.timed_out < policy.attempts;
            }
            RetryReason::Reset => policy.on_reset,
            RetryReason::Timeout => policy.on_timeout,
            RetryReason::Status(status) => policy.on_status(status),
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
        assert!(
            retries.allows(&default, RetryReason::Status(503))
                && retries.allows(&default, RetryReason::Reset)
        );
        assert!(
            !retries.allows(&default, RetryReason::Status(500))
                && !retries.allows(&default, RetryReason::Timeout)
        );
        retries.count();
        retries.count();
        for reason in [RetryReason::Status(503), RetryReason::Reset] {
            assert!(!retries.allows(&default, reason), "{reason:?}: sent three times in all");
        }
        let none = policy(config::Retry { attempts: 1, ..Default::default() });
        for reason in [RetryReason::Status(503), RetryReason::Reset, RetryReason::ConnectTimeout] {
            assert!(!Retries::default().allows(&none, reason), "{reason:?}: sent once");
        }
        for reason in [RetryReason::Connect, RetryReason::Refused] {
            assert!(Retries::default().allows(&none, reason), "{reason:?}: nothing was begun");
        }
        assert!(retries.allows(&default, RetryReason::Connect), "who is refused asks the next");
        assert!((0..2).all(|_| retries.allows(&default, RetryReason::ConnectTimeout)));
        assert!(!retries.allows(&default, RetryReason::ConnectTimeout), "but not with patience for each");
    }
}
