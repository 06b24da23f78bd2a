//! The fleet's keys: for session cookies and for certificates.

use std::sync::{Arc, PoisonError};

use weir_proto::v1;

use super::State;

/// Takes the fleet's session key. A new key rebuilds the active configuration.
pub(super) async fn take_key(state: &State, key: &[u8]) {
    let message = key.to_vec();
    let Ok(key) = crate::pool::sticky::Key::try_from(key) else {
        tracing::error!(bytes = key.len(), "session key with an invalid length ignored");
        return;
    };
    let before = state.key.lock().unwrap_or_else(PoisonError::into_inner).replace(message);
    if before.as_deref() != Some(&key[..]) {
        state.change();
    }
    if state.fleet.set_key(key) {
        rebuild(state).await;
    }
}

/// Takes the private keys of certificates. Certificates that were left out at a start from disk, because their keys
/// were missing, are used from now on.
pub(super) async fn take_certificate_keys(state: &State, message: v1::CertificateKeys) {
    state.fleet.tls.take_keys(message);
    if state.fleet.tls.take_incomplete() {
        rebuild(state).await;
    }
}

/// Rebuilds the active configuration with the current keys.
async fn rebuild(state: &State) {
    if let Some(active) = state.fleet.active() {
        match state.fleet.build(Arc::clone(&active.snapshot)) {
            Ok(active) => state.workers.activate(active).await,
            Err(problems) => tracing::error!(%problems, "new keys are not used yet"),
        }
    }
}
