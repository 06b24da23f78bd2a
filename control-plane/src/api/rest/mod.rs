//! REST: JSON over HTTP. Each operation is declared in [`weir_admin_api::operations`]; a handler here translates one
//! call into one use case.

mod answer;
mod backends;
mod body;
mod certificates;
mod config;
mod explain;
mod extract;
mod guard;
mod nodes;
mod observe;
mod page;
mod pools;
mod problem;
mod report_csv;
pub mod reports;
mod serve;
mod tail;
mod tokens;

use axum::{
    Router,
    http::{StatusCode, header},
    middleware::{from_fn_with_state, map_response},
    response::{IntoResponse as _, Response},
};
use weir_admin_api::operations as op;

use self::{problem::Refusal, serve::Served};
use crate::app::App;

fn served() -> Served<App> {
    Served::new()
        .serve(&op::GET_STATUS, observe::status)
        .serve(&op::GET_LIVENESS, observe::healthz)
        .serve(&op::GET_READINESS, observe::readyz)
        .serve(&op::GET_METRICS, observe::metrics)
        .serve(&op::GET_OPENAPI, observe::openapi)
        .serve(&op::GET_SCHEMA, observe::schema)
        .serve(&op::LIST_BACKENDS, backends::list)
        .serve(&op::CREATE_BACKEND, backends::create)
        .serve(&op::DELETE_BACKEND_BY_URL, backends::delete_by_url)
        .serve(&op::GET_BACKEND, backends::get)
        .serve(&op::UPDATE_BACKEND, backends::update)
        .serve(&op::DELETE_BACKEND, backends::delete)
        .serve(&op::CHECK_BACKEND, backends::check)
        .serve(&op::LIST_POOLS, pools::list_pools)
        .serve(&op::GET_POOL, pools::get_pool)
        .serve(&op::PUT_POOL, pools::put_pool)
        .serve(&op::DELETE_POOL, pools::delete_pool)
        .serve(&op::SET_STRATEGY, pools::set_strategy)
        .serve(&op::LIST_ROUTES, pools::list_routes)
        .serve(&op::GET_ROUTE, pools::get_route)
        .serve(&op::PUT_ROUTE, pools::put_route)
        .serve(&op::DELETE_ROUTE, pools::delete_route)
        .serve(&op::LIST_CERTIFICATES, certificates::list)
        .serve(&op::GET_CERTIFICATE, certificates::get)
        .serve(&op::PUT_CERTIFICATE, certificates::put)
        .serve(&op::DELETE_CERTIFICATE, certificates::delete)
        .serve(&op::GET_CONFIG, config::export)
        .serve(&op::APPLY_CONFIG, config::apply)
        .serve(&op::RELOAD_CONFIG, config::reload)
        .serve(&op::EXPLAIN, explain::get)
        .serve(&op::LIST_REVISIONS, config::revisions)
        .serve(&op::GET_REVISION, config::revision)
        .serve(&op::ROLLBACK, config::rollback)
        .serve(&op::LIST_NODES, nodes::list)
        .serve(&op::GET_NODE, nodes::get)
        .serve(&op::REVOKE_NODE, nodes::revoke)
        .serve(&op::ALLOW_NODE, nodes::allow)
        .serve(&op::EXCLUDE_NODE, nodes::exclude)
        .serve(&op::INCLUDE_NODE, nodes::include)
        .serve(&op::LIST_NODE_TOKENS, tokens::list_of_nodes)
        .serve(&op::CREATE_NODE_TOKEN, tokens::create_for_nodes)
        .serve(&op::GET_NODE_TOKEN, tokens::get_of_nodes)
        .serve(&op::DELETE_NODE_TOKEN, tokens::delete_of_nodes)
        .serve(&op::LIST_TOKENS, tokens::list)
        .serve(&op::CREATE_TOKEN, tokens::create)
        .serve(&op::GET_TOKEN, tokens::get)
        .serve(&op::DELETE_TOKEN, tokens::delete)
        .serve(&op::LIST_AUDIT_ENTRIES, tokens::audit)
}

/// The router of the whole REST API.
pub fn router(app: App) -> Router {
    let reports = reports::router(app.stats().clone());
    let (router, _) = served().finish();
    router
        .layer(from_fn_with_state(app.clone(), guard::precondition))
        .with_state(app)
        .merge(reports)
        .method_not_allowed_fallback(async || {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path does not have this method; see /openapi.json",
            )
        })
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "there is no such path; see /openapi.json"))
        .layer(map_response(as_problem))
}

/// Rewrites the errors that axum itself returns to the format of all other errors.
async fn as_problem(answer: Response) -> Response {
    let status = answer.status();
    let kind = answer.headers().get(header::CONTENT_TYPE);
    if !status.is_client_error() || !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain")) {
        return answer;
    }
    let text = body::bytes(answer.into_body(), 1 << 16).await.unwrap_or_default();
    Refusal::new(status, String::from_utf8_lossy(&text)).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use weir_admin_api::operations;

    #[test]
    fn exactly_the_declared_operations_are_served() {
        let served: BTreeSet<_> = [super::served().finish().1, super::reports::served().finish().1]
            .concat()
            .iter()
            .map(|operation| operation.id)
            .collect();
        let declared: BTreeSet<_> = operations::ALL.iter().map(|operation| operation.id).collect();
        assert_eq!(served, declared);
    }
}
