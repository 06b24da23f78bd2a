//! A pool's retry budget: it grows with each request that succeeds, so that retries do not add to the load when most
//! requests fail.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use weir_snapshot::Retry as Policy;

use crate::cache_padded::CachePadded;

/// One retry, in the budget's unit.
const ONE: i64 = 1_000_000;

/// Initial budget, so that the first failures in a quiet pool can be retried.
const AT_START: i64 = 5 * ONE;

/// The largest saved budget.
const MOST: i64 = 50 * ONE;

/// A pool's retry budget, shared by the node's workers.
///
/// A full budget is only read, so that a healthy pool's cache line stays shared by all cores.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    tokens: CachePadded<AtomicI64>,
    spent: AtomicU64,
    refused: AtomicU64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            tokens: CachePadded(AtomicI64::new(AT_START)),
            spent: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }
}

impl RetryBudget {
    /// Pays in for a successful request.
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

    /// Retries paid for since the start.
    pub(crate) fn spent(&self) -> u64 {
        self.spent.load(Relaxed)
    }

    /// Retries that the budget could not pay for.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
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
        let (budget, policy) = (RetryBudget::default(), policy(config::Retry::default()));
        let retries = (0..100).filter(|_| budget.withdraw(&policy)).count();
        assert_eq!(retries, 5, "what was there at the start");
        // The saved budget is limited, whatever succeeded before.
        (0..10_000).for_each(|_| budget.deposit(&policy));
        let retries = (0..1_000).filter(|_| budget.withdraw(&policy)).count();
        assert!(retries <= 51, "{retries}");
        assert_eq!(budget.spent() + budget.refused(), 1_100);
    }

    #[test]
    fn half_failing_is_retried_up_to_the_share_of_successes() {
        let (budget, policy) = (RetryBudget::default(), policy(config::Retry::default()));
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
    fn without_a_budget_nothing_is_retried() {
        let unpaid = policy(config::Retry { budget: Default::default(), ..Default::default() });
        assert!(!RetryBudget::default().withdraw(&unpaid));
    }
}
