//! Stores which nodes are known across restarts, and forgets nodes that have been away for long enough.
//!
//! Changes are collected and written in one transaction: a flush to disk takes milliseconds, and after a restart a
//! thousand nodes connect at once. Statistics that forgotten nodes reported are kept; they remain as complete or
//! incomplete as they were.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::registry::Registry;
use crate::store::Store;

/// Minimum interval between writes.
const WRITE_INTERVAL: Duration = Duration::from_millis(200);

/// Maximum interval between checks for nodes to forget.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Stores and forgets nodes, until stopped.
pub(crate) async fn keep(registry: Registry, store: Store, forget: Duration, stop: CancellationToken) {
    let mut looks = tokio::time::interval(CHECK_INTERVAL.min(forget / 2).max(Duration::from_millis(100)));
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = registry.unsaved() => {
                save(&registry, &store).await;
                tokio::time::sleep(WRITE_INTERVAL).await;
            }
            _ = looks.tick() => {
                let gone = registry.forget(forget);
                if gone.is_empty() {
                    continue;
                }
                tracing::info!(nodes = ?gone, "forgot nodes that were away for longer than --forget-nodes");
                let forgotten = store.change(|db| async move { db.forget_nodes(&gone).await });
                if let Err(error) = forgotten.await {
                    tracing::error!(%error, "cannot delete forgotten nodes from the database");
                }
            }
            () = stop.cancelled() => return,
        }
    }
}

/// Stores unsaved changes.
pub(crate) async fn save(registry: &Registry, store: &Store) {
    let seen = registry.take_unsaved();
    if seen.is_empty() {
        return;
    }
    let nodes = seen.len();
    if let Err(error) = store.change(|db| async move { db.nodes_met(&seen).await }).await {
        tracing::error!(nodes, %error, "cannot store the nodes");
    }
}
