//! What the nodes' breakers, sessions and retries add up to.

use serde::Serialize;

use super::App;
use crate::publish::BackendSum;

/// What the connected nodes do about a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackendWork {
    /// `closed`, `half_open` or `open`: the furthest that any node has gone.
    pub breaker: &'static str,
    /// The nodes that send it nothing, because of what happened to their requests.
    pub ejected_by: Vec<String>,
    /// How often nodes have ejected it since they started.
    pub ejections: u64,
    /// While it drains: sessions that came to it lately.
    pub sessions: u64,
}

impl BackendWork {
    pub(super) fn of(sum: &BackendSum) -> Self {
        Self {
            breaker: sum.breaker().name(),
            ejected_by: sum.open.iter().map(ToString::to_string).collect(),
            ejections: sum.ejections,
            sessions: sum.sessions,
        }
    }
}

/// A pool as the connected nodes see it; counts are sums since they started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoolInfo {
    /// Its name.
    pub name: String,
    /// How it picks.
    pub strategy: String,
    /// The nodes whose panic mode is on: they use backends that look dead.
    pub panic: Vec<String>,
    /// Requests that wait for room.
    pub waiting: u64,
    /// Retries that the nodes' budgets paid for.
    pub retries: u64,
    /// Retries for which they had not enough.
    pub retries_refused: u64,
    /// Requests that the fallback answered.
    pub fallbacks: u64,
    /// Requests refused because no backend had room in time.
    pub refused: u64,
    /// Sessions that had to go to another backend.
    pub repinned: u64,
}

impl App {
    /// Every pool as the nodes see it.
    pub(super) fn pool_infos(&self) -> Vec<PoolInfo> {
        let sums = self.parts.registry.sums().pools;
        let current = self.current();
        let info = |pool: &weir_snapshot::config::Pool| {
            let sum = sums.get(pool.name.as_str()).cloned().unwrap_or_default();
            PoolInfo {
                name: pool.name.clone(),
                strategy: pool.strategy.to_string(),
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
