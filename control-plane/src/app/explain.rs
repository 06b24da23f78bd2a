//! Explains where a request would go: how a node would handle it, and which backends could receive it.

use weir_admin_api::{Explained, ExplainedBackend, ExplainedPool};
use weir_snapshot::{
    Fallback, Pool, Target,
    config::{BackendState, Strategy},
    explain::{Explanation, SampleRequest, explain},
};

use super::App;
use crate::{health::State, publish::Sums};

/// The state that the nodes report.
struct Fleet<'a> {
    sums: &'a Sums,
    /// Nodes that are connected.
    connected: usize,
}

impl App {
    /// Explains a request from the current configuration and the nodes' reports.
    pub fn explain(&self, sample: &SampleRequest) -> Explained {
        let current = self.current();
        let snapshot = &current.snapshot;
        let explanation = explain(snapshot, sample);
        let mut pools = Vec::new();
        let fleet = Fleet {
            sums: &self.parts.registry.sums(),
            connected: self.parts.registry.nodes().iter().filter(|node| node.connected).count(),
        };
        if let Some(route) = explanation.place.map(|place| &snapshot.routes[place]) {
            let mut explain = |pool: usize, because: String| {
                let falls_back =
                    route.fallback.as_ref().is_some_and(|fallback| *fallback != Fallback::Pool(pool));
                pools.push(self.explain_pool(&snapshot.pools[pool], because, falls_back, &fleet));
            };
            let otherwise = match &route.fallback {
                None => "; 503 while it has no backend to offer".to_owned(),
                Some(Fallback::Response { status, .. }) => {
                    format!("; {status} from the route's fallback while it has no backend to offer")
                }
                Some(Fallback::Pool(_)) => String::new(),
            };
            match &route.target {
                Target::Pool(pool) => explain(*pool, format!("the route's pool{otherwise}")),
                Target::Split(split) => {
                    for share in &split.shares {
                        let part = f64::from(share.weight) * 100.0 / f64::from(split.total);
                        explain(share.pool, format!("{part:.1} % of the route's requests{otherwise}"));
                    }
                }
                Target::Redirect(_) => {}
            }
            if let Some(Fallback::Pool(pool)) = route.fallback {
                explain(pool, "the fallback, when there is no backend to offer".to_owned());
            }
        }
        let Explanation { route, rewritten, changes, answer, filters, passed, more, .. } = explanation;
        Explained {
            revision: current.revision,
            route,
            rewritten,
            changes,
            answer,
            filters,
            passed,
            more,
            pools,
        }
    }

    /// Explains a pool from the reports of the connected nodes.
    fn explain_pool(
        &self,
        pool: &Pool,
        because: String,
        falls_back: bool,
        fleet: &Fleet<'_>,
    ) -> ExplainedPool {
        let seen = fleet.sums.pools.get(&pool.name);
        // A request with a fallback uses the fallback rather than a backend that is down.
        let seen = seen.filter(|_| !falls_back);
        let panic: Vec<String> =
            seen.iter().flat_map(|seen| &seen.panic).map(|node| node.to_string()).collect();
        let backend = |backend: &weir_snapshot::Backend| {
            let (health, last_check) = self.parts.health.of(&backend.id.0);
            let mut because = Vec::new();
            let seen = fleet.sums.backends.get(&backend.id.0);
            let ejected: Vec<&str> = seen.iter().flat_map(|seen| &seen.open).map(|node| &**node).collect();
            match backend.state {
                BackendState::Active => {}
                BackendState::Draining => because.push("draining: only sessions that it has stay".to_owned()),
                BackendState::Disabled => because.push("disabled".to_owned()),
            }
            if health == State::Down {
                because.push(format!("down: {last_check}"));
            }
            if !ejected.is_empty() {
                because.push(format!("its breaker is open on {}", ejected.join(", ")));
            }
            let is_active = backend.state == BackendState::Active;
            let is_out_everywhere = fleet.connected > 0 && ejected.len() >= fleet.connected;
            let mut may = is_active && health != State::Down && !is_out_everywhere;
            if is_active && !may && !panic.is_empty() {
                may = true;
                because.push(format!("still used by {}: panic mode is on there", panic.join(", ")));
            }
            ExplainedBackend {
                id: backend.id.to_string(),
                url: backend.url.to_string(),
                weight: backend.weight.get(),
                may,
                because,
            }
        };
        let mut backends: Vec<ExplainedBackend> = pool.backends.iter().map(backend).collect();
        shares(pool.strategy, &mut backends);
        ExplainedPool { pool: pool.name.to_string(), because, strategy: pool.strategy, panic, backends }
    }
}

/// The share of requests per eligible backend, if the weights alone determine it.
fn shares(strategy: Strategy, backends: &mut [ExplainedBackend]) {
    if !matches!(strategy, Strategy::RoundRobin | Strategy::Random) {
        return;
    }
    let all: u32 = backends.iter().filter(|backend| backend.may).map(|backend| backend.weight).sum();
    for backend in backends.iter_mut().filter(|backend| backend.may) {
        let share = f64::from(backend.weight) * 100.0 / f64::from(all.max(1));
        backend.because.push(format!("{share:.1} % of the requests"));
    }
}
