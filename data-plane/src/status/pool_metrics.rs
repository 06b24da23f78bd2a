//! Metrics of pools and breakers, built for each scrape.

use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{
    failure::Owner,
    fleet::Fleet,
    pool::{ActivePool, backend::BackendState, breaker::Phase},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabels {
    pool: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    pool: String,
    owner: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabels {
    backend: String,
    url: String,
}

type PoolCount = (&'static str, &'static str, fn(&ActivePool) -> u64);

const POOL_COUNTS: [PoolCount; 9] = [
    ("pool_retries", "Attempts after each request's first", |pool| pool.state.counts.retries.load(Relaxed)),
    ("pool_retries_paid", "Retries that the retry budget paid for", |pool| pool.state.budget.spent()),
    ("pool_retries_refused", "Retries refused because the retry budget was spent", |pool| {
        pool.state.budget.refused()
    }),
    ("pool_cut_by_backend", "Answers that a backend broke off or stalled", |pool| {
        pool.state.counts.cut_by_backend.load(Relaxed)
    }),
    ("pool_panic_picks", "Picks of a backend in panic mode", |pool| pool.state.counts.panics.load(Relaxed)),
    ("pool_fallbacks", "Requests that the route's fallback answered", |pool| {
        pool.state.counts.fallbacks.load(Relaxed)
    }),
    ("pool_refused", "Requests refused because all backends and the queue were full", |pool| {
        pool.state.counts.refused.load(Relaxed)
    }),
    ("pool_repinned", "Sticky sessions moved to another backend", |pool| {
        pool.state.counts.repinned.load(Relaxed)
    }),
    ("pool_spared", "Ejections skipped because of max_ejected", |pool| {
        pool.state.counts.spared.load(Relaxed)
    }),
];

/// Adds the families of pools and breakers.
pub(crate) fn register(registry: &mut Registry, fleet: &Fleet) {
    let active = fleet.active();
    let pools = || active.iter().flat_map(|active| &active.pools);
    let labels = |pool: &ActivePool| PoolLabels { pool: pool.name.to_string() };
    for (name, help, value) in POOL_COUNTS {
        let family = Family::<PoolLabels, Counter>::default();
        for pool in pools() {
            family.get_or_create(&labels(pool)).inc_by(value(pool));
        }
        registry.register(name, help, family);
    }
    let failed = Family::<FailureLabels, Counter>::default();
    for (pool, owner) in pools().flat_map(|pool| Owner::ALL.map(|owner| (pool, owner))) {
        let labels = FailureLabels { pool: pool.name.to_string(), owner: owner.name() };
        failed.get_or_create(&labels).inc_by(pool.state.counts.failed(owner));
    }
    registry.register("pool_attempts_failed", "Failed attempts, by pool and responsible party", failed);
    let panic = Family::<PoolLabels, Gauge>::default();
    let waiting = Family::<PoolLabels, Gauge>::default();
    for pool in pools() {
        panic.get_or_create(&labels(pool)).set(i64::from(pool.is_panicking()));
        waiting.get_or_create(&labels(pool)).set(i64::from(pool.state.waiting()));
    }
    registry.register("pool_panic", "1 while the pool is in panic mode", panic);
    registry.register("pool_waiting", "Requests queued until a backend has room", waiting);

    let phase = Family::<BackendLabels, Gauge>::default();
    let ejections = Family::<BackendLabels, Counter>::default();
    let sessions = Family::<BackendLabels, Gauge>::default();
    let now_ms = fleet.now_ms();
    for backend in fleet.backends() {
        let labels = backend_labels(&backend);
        let number = match backend.phase() {
            Phase::Closed => 0,
            Phase::HalfOpen => 1,
            Phase::Open => 2,
        };
        phase.get_or_create(&labels).set(number);
        ejections.get_or_create(&labels).inc_by(backend.circuit.ejections());
        sessions.get_or_create(&labels).set(i64::from(backend.sessions_left(now_ms)));
    }
    registry.register(
        "backend_breaker",
        "State of the circuit breaker: 0 closed, 1 half-open, 2 open",
        phase,
    );
    registry.register("backend_ejections", "Ejections by the circuit breaker", ejections);
    registry.register("backend_draining_sessions", "Active sticky sessions of a draining backend", sessions);
}

fn backend_labels(backend: &BackendState) -> BackendLabels {
    BackendLabels { backend: backend.id.to_string(), url: backend.url.to_string() }
}
