//! Circuit breakers, sessions and retries, summed over the nodes.

use weir_admin_api::{BreakerState, PoolStatus};

use super::App;
use crate::publish::Breaker;

/// A circuit breaker's state, as in the API.
pub(super) fn breaker_state(breaker: Breaker) -> BreakerState {
    match breaker {
        Breaker::Closed => BreakerState::Closed,
        Breaker::HalfOpen => BreakerState::HalfOpen,
        Breaker::Open => BreakerState::Open,
    }
}

impl App {
    /// Every pool, as the nodes report it.
    pub(super) fn pool_infos(&self) -> Vec<PoolStatus> {
        let sums = self.parts.registry.sums().pools;
        let current = self.current();
        let info = |pool: &weir_snapshot::config::Pool| {
            let sum = sums.get(pool.name.as_str()).cloned().unwrap_or_default();
            PoolStatus {
                name: pool.name.clone(),
                strategy: pool.strategy,
                panic: sum.panic.iter().map(ToString::to_string).collect(),
                waiting: sum.sums.waiting,
                retries: sum.sums.retries,
                retries_refused: sum.sums.retries_refused,
                fallbacks: sum.sums.fallbacks,
                refused: sum.sums.refused,
                repinned: sum.sums.repinned,
            }
        };
        current.config.pools.iter().map(info).collect()
    }
}
