//! Nodes are remembered over restarts, and forgotten when they have been away for long enough.
//!
//! Whoever comes and goes at the same time is written in one transaction: a flush to disk takes milliseconds, and after a
//! restart a thousand nodes come at once. What nodes reported is another matter and stays: a forgotten node's past is
//! complete or not as it was.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::registry::Registry;
use crate::store::Store;

/// From one write to the next.
const PAUSE: Duration = Duration::from_millis(200);

/// How often it is looked whether somebody is to be forgotten, at the least.
const LOOK: Duration = Duration::from_secs(60);

/// Remembers and forgets, until stopped.
pub(crate) async fn keep(registry: Registry, store: Store, forget: Duration, stop: CancellationToken) {
    let mut looks = tokio::time::interval(LOOK.min(forget / 2).max(Duration::from_millis(100)));
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = registry.unsaved() => {
                save(&registry, &store).await;
                tokio::time::sleep(PAUSE).await;
            }
            _ = looks.tick() => {
                let gone = registry.forget(forget);
                if gone.is_empty() {
                    continue;
                }
                tracing::info!(nodes = ?gone, "nodes forgotten: away for longer than --forget-nodes");
                let forgotten = store.change(|db| async move { db.forget_nodes(&gone).await });
                if let Err(error) = forgotten.await {
                    tracing::error!(%error, "forgotten nodes cannot be removed from the database");
                }
            }
            () = stop.cancelled() => return,
        }
    }
}

/// Writes what is not yet written.
pub(crate) async fn save(registry: &Registry, store: &Store) {
    let seen = registry.take_unsaved();
    if seen.is_empty() {
        return;
    }
    let nodes = seen.len();
    if let Err(error) = store.change(|db| async move { db.nodes_met(&seen).await }).await {
        tracing::error!(nodes, %error, "cannot remember the nodes");
    }
}
