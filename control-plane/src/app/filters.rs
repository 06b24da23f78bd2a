//! Rejections by the routes' filters, summed over the nodes.

use weir_admin_api::{FilterRefusals, RouteStatus};

use super::App;

impl App {
    /// Every route, as the nodes report it.
    pub(super) fn route_infos(&self) -> Vec<RouteStatus> {
        let sums = self.parts.registry.sums().routes;
        let current = self.current();
        let info = |route: &weir_snapshot::config::Route| {
            let refused = sums.get(route.name.as_str()).map(|sum| sum.refused).unwrap_or_default();
            RouteStatus { name: route.name.clone(), refused: FilterRefusals(refused) }
        };
        current.config.routes.iter().map(info).collect()
    }
}
