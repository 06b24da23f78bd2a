//! Looks up the names of backends: before a snapshot becomes active, and again all the time.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use weir_snapshot::Host;

use crate::{
    backend::{Active, BackendState},
    control::State,
};

/// A lookup that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(2);

/// From one lookup of a name to the next.
const EVERY: Duration = Duration::from_secs(10);

/// Lookups under way at once.
const AT_ONCE: usize = 64;

/// Looks up the names that have no address yet, so that the first request need not wait.
pub(crate) async fn warm(active: &Active) {
    let unknown = active.pools.iter().flat_map(|pool| &pool.members).map(|member| &member.state);
    let unknown: Vec<Arc<BackendState>> =
        unknown.filter(|state| state.address().is_none()).cloned().collect();
    let looked_up = tokio::time::timeout(TIMEOUT, look_up_all(unknown)).await;
    if looked_up.is_err() {
        tracing::warn!("some backends' names were not looked up in time");
    }
}

/// Keeps the addresses of names up to date.
pub(crate) async fn run(state: Arc<State>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        look_up_all(state.fleet.backends()).await;
    }
}

async fn look_up_all(backends: Vec<Arc<BackendState>>) {
    let mut lookups = tokio::task::JoinSet::new();
    for backend in backends {
        if lookups.len() >= AT_ONCE {
            lookups.join_next().await;
        }
        if matches!(backend.url.host, Host::Name(_)) {
            lookups.spawn(async move { look_up(&backend).await });
        }
    }
    while lookups.join_next().await.is_some() {}
}

async fn look_up(backend: &BackendState) {
    let Host::Name(name) = &backend.url.host else {
        return;
    };
    let before = backend.addresses();
    let found =
        tokio::time::timeout(TIMEOUT, tokio::net::lookup_host((name.as_str(), backend.url.port))).await;
    let mut found: Vec<SocketAddr> = match found {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(_)) if backend.nameless.load(Relaxed) => return,
        Ok(Err(error)) if before.is_empty() => {
            backend.nameless.store(true, Relaxed);
            tracing::warn!(backend = %backend.id, name, %error, "name has no address");
            return;
        }
        // The addresses that it had may well be good still.
        Ok(Err(_)) | Err(_) => return,
    };
    // Backends mostly listen on IPv4; both are used where both are named.
    found.sort_by_key(|address| (address.is_ipv6(), *address));
    found.dedup();
    if !found.is_empty() && found != *before {
        tracing::info!(backend = %backend.id, name, addresses = ?found, "name looked up");
        backend.nameless.store(false, Relaxed);
        backend.set_addresses(found);
    }
}
