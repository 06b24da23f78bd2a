//! Resolves the names of backends: before a snapshot becomes active, and repeatedly afterwards.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::net::TcpStream;
use weir_snapshot::{Host, backend_address};

use crate::{
    control::State,
    fleet::Active,
    pool::{addresses::AddressPolicy, backend::BackendState},
};

/// Timeout of a lookup.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Interval between two lookups of a name.
const EVERY: Duration = Duration::from_secs(10);

/// Concurrent lookups.
const AT_ONCE: usize = 64;

/// Resolves names without an address, so that the first request need not wait.
pub(crate) async fn warm(active: &Active) {
    let unknown = active.pools.iter().flat_map(|pool| &pool.members).map(|member| &member.state);
    let unknown: Vec<Arc<BackendState>> = unknown.filter(|state| !state.has_addresses()).cloned().collect();
    let looked_up = tokio::time::timeout(TIMEOUT, look_up_all(unknown, &active.permit)).await;
    if looked_up.is_err() {
        tracing::warn!("some backend names were not resolved in time");
    }
}

/// Keeps the addresses of names up to date.
pub(crate) async fn run(state: Arc<State>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(active) = state.fleet.active() {
            look_up_all(state.fleet.backends(), &active.permit).await;
        }
    }
}

async fn look_up_all(backends: Vec<Arc<BackendState>>, permit: &AddressPolicy) {
    let mut lookups = tokio::task::JoinSet::new();
    for backend in backends {
        if lookups.len() >= AT_ONCE {
            lookups.join_next().await;
        }
        if matches!(backend.url.host, Host::Name(_)) {
            let permit = permit.clone();
            lookups.spawn(async move {
                look_up(&backend, &permit).await;
                return_to_preferred(&backend).await;
            });
        }
    }
    while lookups.join_next().await.is_some() {}
}

async fn look_up(backend: &BackendState, permit: &AddressPolicy) {
    let Host::Name(name) = &backend.url.host else {
        return;
    };
    let found =
        tokio::time::timeout(TIMEOUT, tokio::net::lookup_host((name.as_str(), backend.url.port))).await;
    let found = match found {
        Ok(Ok(found)) => backend_address::sorted(found),
        Ok(Err(_)) if backend.nameless.load(Relaxed) => return,
        Ok(Err(error)) if !backend.has_addresses() => {
            backend.nameless.store(true, Relaxed);
            tracing::warn!(backend = %backend.id, name, %error, "backend name has no address");
            return;
        }
        // The previous addresses may still work.
        Ok(Err(_)) | Err(_) => return,
    };
    if found.is_empty() {
        return;
    }
    backend.nameless.store(false, Relaxed);
    if backend.set_addresses(found, permit) {
        tracing::info!(backend = %backend.id, name, addresses = ?backend.addresses().all(), "backend name resolved");
    }
}

/// Returns to a preferred address as soon as it accepts connections again. This is tried here, so that no request waits
/// for it.
async fn return_to_preferred(backend: &BackendState) {
    let addresses = backend.addresses();
    for address in addresses.preferred() {
        if let Ok(Ok(_)) = tokio::time::timeout(TIMEOUT, TcpStream::connect(address)).await {
            tracing::info!(backend = %backend.id, %address, "preferred backend address accepts connections again");
            addresses.prefer(*address);
            return;
        }
    }
}
