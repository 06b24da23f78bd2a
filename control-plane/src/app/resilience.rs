//! What the nodes' breakers, sessions and retries add up to.

use serde::Serialize;

use super::App;
use crate::publish::{Breaker, Node};

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
    pub(super) fn of(nodes: &[Node], id: &str) -> Self {
        let connected = nodes.iter().filter(|node| node.connected);
        let works: Vec<_> = connected.filter_map(|node| Some((node, *node.work.backends.get(id)?))).collect();
        let is_out = |breaker| breaker == Breaker::Open;
        Self {
            breaker: works.iter().map(|(_, work)| work.breaker).max().unwrap_or_default().name(),
            ejected_by: works
                .iter()
                .filter(|(_, work)| is_out(work.breaker))
                .map(|(node, _)| node.id.clone())
                .collect(),
            ejections: works.iter().map(|(_, work)| work.ejections).sum(),
            sessions: works.iter().map(|(_, work)| u64::from(work.sessions)).sum(),
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
    /// The nodes for which all its backends look dead, so that they use all of them.
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
        let nodes = self.0.registry.nodes();
        let current = self.current();
        let info = |pool: &weir_snapshot::config::Pool| {
            let connected = nodes.iter().filter(|node| node.connected);
            let works: Vec<_> =
                connected.filter_map(|node| Some((node, *node.work.pools.get(&pool.name)?))).collect();
            let sum = |of: fn(&crate::publish::PoolWork) -> u64| works.iter().map(|(_, work)| of(work)).sum();
            PoolInfo {
                name: pool.name.clone(),
                strategy: pool.strategy.to_string(),
                panic: works.iter().filter(|(_, work)| work.panic).map(|(node, _)| node.id.clone()).collect(),
                waiting: sum(|work| work.waiting.into()),
                retries: sum(|work| work.retries),
                retries_refused: sum(|work| work.retries_refused),
                fallbacks: sum(|work| work.fallbacks),
                refused: sum(|work| work.refused),
                repinned: sum(|work| work.repinned),
            }
        };
        current.config.pools.iter().map(info).collect()
    }
}
