//! Metrics of filters.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::Gauge,
    },
    registry::Registry,
};
use weir_snapshot::RefusalReason;

use crate::fleet::Fleet;

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
            let counts = chain.refused.counts();
            for reason in RefusalReason::filters() {
                let labels = Labels { route: chain.route.to_string(), filter: reason.name() };
                refused.get_or_create(&labels).inc_by(counts[reason]);
            }
        }
    }
    registry.register("route_refused", "Requests refused, by route and filter", refused);
    if let Some(rates) = fleet.filters.rates() {
        let clients = Gauge::<i64>::default();
        clients.set(i64::try_from(rates.clients()).unwrap_or(i64::MAX));
        registry.register("rate_limit_clients", "Clients in the table of rate limits", clients);
        registry.register(
            "rate_limit_evicted",
            "Clients evicted from the full table of rate limits",
            ConstCounter::new(rates.evicted()),
        );
    }
    if let Some(hashing) = fleet.filters.hashing() {
        registry.register(
            "passwords_checked",
            "Passwords checked by hashing",
            ConstCounter::new(hashing.checked()),
        );
        registry.register(
            "passwords_not_checked",
            "Password checks refused because the queue was full",
            ConstCounter::new(hashing.refused()),
        );
    }
}
