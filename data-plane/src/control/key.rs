//! The fleet's key, with which every node signs sessions.

use std::sync::{Arc, PoisonError};

use super::State;

/// The fleet's key. When it is another than was used so far, what is active is built anew with it.
pub(super) async fn take_key(state: &State, key: &[u8]) {
    let told = key.to_vec();
    let Ok(key) = crate::sticky::Key::try_from(key) else {
        tracing::error!(bytes = key.len(), "fleet key of a wrong length ignored");
        return;
    };
    let before = state.key.lock().unwrap_or_else(PoisonError::into_inner).replace(told);
    if before.as_deref() != Some(&key[..]) {
        state.changed.notify_one();
    }
    if state.fleet.set_key(key)
        && let Some(active) = state.fleet.active()
    {
        state.workers.activate(state.fleet.build(Arc::clone(&active.snapshot))).await;
    }
}
