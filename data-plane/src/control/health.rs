//! Applies the results of the control plane's health checks.

use weir_proto::v1;

use super::State;
use crate::pool::backend::Health;

/// Applies an update of health.
pub(super) fn take_health(state: &State, update: &v1::HealthUpdate) {
    let health = |message: &v1::BackendHealth| match message.health() {
        v1::Health::Up => Health::Up,
        v1::Health::Down => Health::Down,
        v1::Health::Unknown | v1::Health::Unspecified => Health::Unknown,
    };
    let found = update.backends.iter().map(|message| (message.backend_id.clone(), health(message))).collect();
    for backend in state.fleet.set_health(update.complete, found) {
        tracing::info!(backend = %backend.id, url = %backend.url, health = ?backend.health(), "backend health");
    }
}
