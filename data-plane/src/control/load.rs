//! The load report to the control plane.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use weir_proto::v1;

use super::State;
use crate::{
    filter::Chain,
    fleet::Active,
    pool::{ActivePool, backend::BackendState, breaker::Phase},
};

/// The load report, without the time.
pub(super) fn load(state: &State) -> v1::Load {
    let now_ms = state.fleet.now_ms();
    let backend = |backend: &Arc<BackendState>| v1::BackendLoad {
        backend_id: backend.id.to_string(),
        active_requests: backend.in_flight(),
        breaker: breaker(backend.phase()).into(),
        ejections: backend.circuit.ejections(),
        sessions: backend.sessions_left(now_ms),
    };
    let is_quiet =
        |load: &v1::BackendLoad| load.active_requests == 0 && load.ejections == 0 && load.sessions == 0;
    let mut backends: Vec<v1::BackendLoad> =
        state.fleet.backends().iter().map(backend).filter(|load| !is_quiet(load)).collect();
    backends.sort_by(|a, b| a.backend_id.cmp(&b.backend_id));
    let active = state.fleet.active();
    let pools = active.iter().flat_map(|active| &active.pools).map(pool_load).filter(has_news).collect();
    v1::Load {
        connections: state.workers.connections(),
        backends,
        requests: state.workers.requests(),
        dropped_rows: state.reporter.dropped(),
        pools,
        clock_ms: 0,
        routes: active.iter().flat_map(|active| routes(active)).collect(),
        forgotten_clients: state.fleet.filters.rates().map_or(0, |rates| rates.evicted()),
    }
}

/// Whether a pool has anything to report: of hundreds of pools, most have not.
fn has_news(load: &v1::PoolLoad) -> bool {
    let quiet = v1::PoolLoad { pool: load.pool.clone(), ..v1::PoolLoad::default() };
    *load != quiet
}

fn breaker(phase: Phase) -> v1::Breaker {
    match phase {
        Phase::Closed => v1::Breaker::Closed,
        Phase::Open => v1::Breaker::Open,
        Phase::HalfOpen => v1::Breaker::HalfOpen,
    }
}

fn pool_load(pool: &ActivePool) -> v1::PoolLoad {
    let counts = &pool.state.counts;
    v1::PoolLoad {
        pool: pool.name.to_string(),
        panic: pool.is_panicking(),
        waiting: pool.state.waiting(),
        retries: pool.state.budget.spent(),
        retries_refused: pool.state.budget.refused(),
        fallbacks: counts.fallbacks.load(Relaxed),
        refused: counts.refused.load(Relaxed),
        repinned: counts.repinned.load(Relaxed),
    }
}

/// The routes whose filters refused requests.
fn routes(active: &Active) -> Vec<v1::RouteLoad> {
    let load = |chain: &Chain| v1::RouteLoad {
        route: chain.route.to_string(),
        refused: chain.refused.counts().to_names(),
    };
    active.filters.iter().flatten().map(|chain| load(chain)).filter(|load| !load.refused.is_empty()).collect()
}
