//! Nodes.

use weir_admin_api::Node;
use weir_proto::v1;

use super::{
    config::problem,
    failure::Answer,
    names::Named as _,
    page::page,
    values::{millis, time, time_of},
};
use crate::{
    access::nodes::Allowed,
    app::{App, AppError, Author, page::Paged},
};

pub(super) fn message(info: Node) -> v1::Node {
    let error = info.last_error.map(|error| v1::NodeError { time: time_of(&error.time), text: error.text });
    v1::Node {
        id: info.id,
        version: info.version,
        address: info.address,
        connected: info.connected,
        since_time: time_of(&info.since),
        state: v1::NodeState::of(info.state.as_str()),
        active_revision: info.active_revision,
        lag_revisions: info.lag_revisions,
        lag: Some(millis(i64::try_from(info.lag_ms).unwrap_or(i64::MAX))),
        rejected_revision: info.rejected_revision,
        rejection: info.rejection.into_iter().map(problem).collect(),
        connections: info.connections,
        active_requests: info.active_requests,
        requests: info.requests,
        workers: info.workers,
        labels: info.labels.into_iter().collect(),
        dropped_rows: info.dropped_rows,
        forgotten_clients: info.forgotten_clients,
        excluded: info.excluded,
        clock_offset: info.clock_offset_ms.map(millis),
        last_error: error,
    }
}

pub(super) async fn list_nodes(app: &App, request: v1::ListNodesRequest) -> Answer<v1::ListNodesResponse> {
    let page = page("nodes", &[], request.page_size, &request.page_token)?;
    let Paged { items, next } = page.of(app.nodes(), |node| node.id.clone());
    Ok(v1::ListNodesResponse {
        nodes: items.into_iter().map(message).collect(),
        next_page_token: next.unwrap_or_default(),
    })
}

pub(super) async fn get_node(app: &App, request: v1::GetNodeRequest) -> Answer<v1::Node> {
    let found = app.nodes().into_iter().find(|node| node.id == request.id);
    Ok(message(found.ok_or_else(|| AppError::not_found("node", &request.id))?))
}

pub(super) async fn revoke_node(
    app: &App,
    author: &Author,
    request: v1::RevokeNodeRequest,
) -> Answer<v1::RevokeNodeResponse> {
    app.access().nodes().revoke(&request.id, &author.actor).await?;
    Ok(v1::RevokeNodeResponse { known: app.knows_node(&request.id) })
}

pub(super) async fn allow_node(
    app: &App,
    author: &Author,
    request: v1::AllowNodeRequest,
) -> Answer<v1::AllowNodeResponse> {
    let permit_expire_time = match app.allow_node(&request.id, &author.actor).await? {
        Allowed::Rejoin => None,
        Allowed::Beside(until) => Some(time(until)),
    };
    Ok(v1::AllowNodeResponse { permit_expire_time })
}

pub(super) async fn exclude_node(
    app: &App,
    author: &Author,
    request: v1::ExcludeNodeRequest,
) -> Answer<v1::ExcludeNodeResponse> {
    app.exclude_node(&request.id, true, &author.actor).await?;
    Ok(v1::ExcludeNodeResponse {})
}

pub(super) async fn include_node(
    app: &App,
    author: &Author,
    request: v1::IncludeNodeRequest,
) -> Answer<v1::IncludeNodeResponse> {
    app.exclude_node(&request.id, false, &author.actor).await?;
    Ok(v1::IncludeNodeResponse {})
}
