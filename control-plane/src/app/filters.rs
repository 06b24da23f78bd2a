//! What the routes' filters have refused, summed over the nodes.

use weir_admin_api::{Refused, RouteStatus};

use super::App;
use crate::publish;

impl App {
    /// Every route as the nodes see it.
    pub(super) fn route_infos(&self) -> Vec<RouteStatus> {
        let sums = self.parts.registry.sums().routes;
        let current = self.current();
        let info = |route: &weir_snapshot::config::Route| {
            let publish::Refused { ip_filter, method, rate_limit, auth } =
                sums.get(route.name.as_str()).map(|sum| sum.refused).unwrap_or_default();
            let refused = Refused { ip_filter, method, rate_limit, auth };
            RouteStatus { name: route.name.clone(), refused }
        };
        current.config.routes.iter().map(info).collect()
    }
}
