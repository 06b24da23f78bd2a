//! Retries: only if they are safe, and only while most requests succeed.
//!
//! A request may be sent again if the backend cannot have acted on it (no connection was made), or if its method is
//! idempotent (RFC 9110, 9.2.2) and its body can be sent again. Retries that cost a backend something need budget. It
//! grows with each request that succeeds, so that retries do not add load when everything fails.

use std::time::Duration;

use weir_snapshot::Retry as Policy;

use crate::failure::{Resend, RetryReason};

/// Why a response is a failure, by its status or by policy; `None` if it is not.
pub(crate) fn of_status(policy: &Policy, status: u16) -> Option<RetryReason> {
    let reason = RetryReason::Status(status);
    (reason.is_failure() || policy.on_status(status)).then_some(reason)
}

/// Maximum number of resends of a request that no backend has started, at all backends together.
const MAX_UNSEEN: u32 = 6;

/// Pause before the second resend to the same backend; it doubles each time.
const PAUSE: Duration = Duration::from_millis(50);

/// Resends of one request after attempts that ended with their connection and not with a response. They say nothing
/// about the backend, so neither the policy nor the budget limits them.
#[derive(Debug, Default)]
pub(crate) struct Resends {
    unseen: u32,
    lost: u32,
}

impl Resends {
    /// Whether to send the request again. Counts it if so. `repeatable`: its method is idempotent.
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

    /// Pause before the same backend is tried again.
    pub(crate) fn pause(&self) -> Option<Duration> {
        let times = self.unseen.checked_sub(2)?;
        Some(PAUSE * (1 << times.min(3)))
    }
}

/// The retries of one request.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    /// Number of retries.
    counted: u32,
    /// Connections that timed out.
    timed_out: u32,
}

impl Retries {
    /// Whether the policy and the count allow another attempt after this failure. The budget is checked later.
    pub(crate) fn allows(&mut self, policy: &Policy, reason: RetryReason) -> bool {
        let listed = match reason {
            // Nothing was sent, and no time has passed: each backend is tried once at most.
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
        // `attempts` limits how often the request is sent, including the first time, however the attempts end.
        listed && self.counted + 1 < policy.attempts
    }

    /// Counts a retry that costs a backend something.
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
        assert!(retries.allows(&default, RetryReason::Connect), "a refused request tries the next backend");
        assert!((0..2).all(|_| retries.allows(&default, RetryReason::ConnectTimeout)));
        assert!(!retries.allows(&default, RetryReason::ConnectTimeout), "but not with patience for each");
    }
}
