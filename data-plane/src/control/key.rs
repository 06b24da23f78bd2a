//! The fleet's key, with which every node signs sessions.

use std::sync::Arc;

use super::State;

/// The fleet's key. When it is another than was used so far, what is active is built anew with it.
pub(super) async fn take_key(state: &State, key: &[u8]) {
    let Ok(key) = key.try_into() else {
        tracing::error!(bytes = key.len(), "fleet key of a wrong length ignored");
        return;
    };
    if state.fleet.set_key(key)
        && let Some(active) = state.fleet.active()
    {
        state.workers.activate(state.fleet.build(Arc::clone(&active.snapshot))).await;
    }
}
