//! The state of the fleet.

use weir_admin_api::{ConfigFile, PoolStatus, RouteStatus, Status};
use weir_proto::v1;

use super::{backends, certificates, failure::Answer, nodes, values::time_of};
use crate::app::App;

pub(super) async fn get_status(app: &App, _: v1::GetStatusRequest) -> Answer<v1::GetStatusResponse> {
    let Status { revision, backends, nodes, pools, routes, certificates, config_file } = app.status()?;
    let certificate = |info| certificates::message(info, String::new(), revision);
    Ok(v1::GetStatusResponse {
        revision,
        backends: backends.into_iter().map(|info| backends::message(info, revision)).collect(),
        nodes: nodes.into_iter().map(nodes::message).collect(),
        pools: pools.into_iter().map(pool).collect(),
        routes: routes.into_iter().map(route).collect(),
        certificates: certificates.into_iter().map(certificate).collect(),
        config_file: config_file.map(file),
    })
}

fn pool(info: PoolStatus) -> v1::PoolStatus {
    v1::PoolStatus {
        name: info.name,
        strategy: info.strategy.to_string(),
        panic: info.panic,
        waiting: info.waiting,
        retries: info.retries,
        retries_refused: info.retries_refused,
        fallbacks: info.fallbacks,
        refused: info.refused,
        repinned: info.repinned,
    }
}

fn route(info: RouteStatus) -> v1::RouteStatus {
    v1::RouteStatus { name: info.name, refused: info.refused.0.to_names() }
}

fn file(info: ConfigFile) -> v1::ConfigFile {
    let ConfigFile { path, authoritative, applied, revision, drift, drift_count } = info;
    v1::ConfigFile { path, authoritative, apply_time: time_of(&applied), revision, drift, drift_count }
}
