//! Metrics of filters.

use crate::{filter::Refusal, fleet::Fleet};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::Gauge,
    },
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    route: String,
    filter: &'static str,
}

/// Adds the families of filters.
pub(crate) fn register(registry: &mut Registry, fleet: &Fleet) {
    let refused = Family::<Labels, Counter>::default();
    if let Some(active) = fleet.active() {
        for chain in active.filters.iter().flatten() {
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
