//! What the routes' filters have refused, summed over the nodes.

use serde::Serialize;

use super::App;
use crate::publish::Refused;

/// A route as the connected nodes see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteInfo {
    /// Its name.
    pub name: String,
    /// Requests that its filters refused since the nodes started.
    pub refused: Refused,
}

impl App {
    /// Every route as the nodes see it.
    pub(super) fn route_infos(&self) -> Vec<RouteInfo> {
        let sums = self.parts.registry.sums().routes;
        let current = self.current();
        let info = |route: &weir_snapshot::config::Route| {
            let refused = sums.get(route.name.as_str()).map(|sum| sum.refused).unwrap_or_default();
            RouteInfo { name: route.name.clone(), refused }
        };
        current.config.routes.iter().map(info).collect()
    }
}
