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
        let nodes = self.0.registry.nodes();
        let current = self.current();
        let info = |route: &weir_snapshot::config::Route| {
            let connected = nodes.iter().filter(|node| node.connected);
            let refused = connected.filter_map(|node| node.work.routes.get(&route.name));
            RouteInfo { name: route.name.clone(), refused: refused.copied().sum() }
        };
        current.config.routes.iter().map(info).collect()
    }

    /// What a route's filters have refused.
    pub fn refused(&self, route: &str) -> Refused {
        let nodes = self.0.registry.nodes();
        let connected = nodes.iter().filter(|node| node.connected);
        connected.filter_map(|node| node.work.routes.get(route)).copied().sum()
    }
}
