//! What filters show on the status port and tell the control plane.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::Gauge,
    },
    registry::Registry,
};
use weir_proto::v1;

use super::{Chain, Refusal};
use crate::backend::{Active, Fleet};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    route: String,
    filter: &'static str,
}

fn chains(active: &Active) -> impl Iterator<Item = &Chain> {
    active.filters.iter().flatten().map(|chain| &**chain)
}

/// Adds the families of filters.
pub(crate) fn register(registry: &mut Registry, fleet: &Fleet) {
    let refused = Family::<Labels, Counter>::default();
    if let Some(active) = fleet.active() {
        for chain in chains(&active) {
            for (refusal, filter) in Refusal::ALL {
                let labels = Labels { route: chain.route.to_string(), filter };
                refused.get_or_create(&labels).inc_by(chain.refused.of(refusal));
            }
        }
    }
    registry.register("route_refused", "Requests that a filter of the route refused", refused);
    if let Some(rates) = fleet.filters.rates() {
        let clients = Gauge::<i64>::default();
        clients.set(i64::try_from(rates.clients()).unwrap_or(i64::MAX));
        registry.register("rate_limit_clients", "Clients of rate limits that owe something now", clients);
        registry.register(
            "rate_limit_evicted",
            "Clients of rate limits that had to be forgotten while they owed something",
            ConstCounter::new(rates.evicted()),
        );
    }
    if let Some(hashing) = fleet.filters.hashing() {
        registry.register("passwords_checked", "Passwords hashed", ConstCounter::new(hashing.checked()));
        registry.register(
            "passwords_not_checked",
            "Passwords that were not hashed because too many waited",
            ConstCounter::new(hashing.refused()),
        );
    }
}

/// What the control plane is told: of each route that refused something.
pub(crate) fn load(active: &Active) -> Vec<v1::RouteLoad> {
    let load = |chain: &Chain| v1::RouteLoad {
        route: chain.route.to_string(),
        ip_filter: chain.refused.of(Refusal::IpFilter),
        method: chain.refused.of(Refusal::Method),
        rate_limit: chain.refused.of(Refusal::RateLimit),
        auth: chain.refused.of(Refusal::Auth),
    };
    let refused_some = |load: &v1::RouteLoad| load.ip_filter + load.method + load.rate_limit + load.auth > 0;
    chains(active).map(load).filter(refused_some).collect()
}
