//! REST: JSON over HTTP. Each handler reads, calls one use case, and writes.

mod access;
mod backends;
mod body;
mod certificates;
mod config;
mod explain;
mod extract;
mod guard;
mod nodes;
mod observe;
mod openapi;
mod pools;
mod problem;
mod report_csv;
pub mod reports;
mod tail;

use axum::{
    Router,
    http::{StatusCode, header},
    middleware::{from_fn_with_state, map_response},
    response::{IntoResponse as _, Response},
    routing::{delete, get, post},
};
use serde::Serialize;

use self::problem::Refusal;
use super::access::Asking;
use crate::app::App;

/// All of REST.
pub fn router(app: App) -> Router {
    let reports = reports::router(app.stats().clone());
    Router::new()
        .route("/status", get(observe::status))
        .route("/nodes", get(observe::nodes))
        .route("/healthz", get(observe::healthz))
        .route("/readyz", get(observe::readyz))
        .route("/metrics", get(observe::metrics))
        .route("/openapi.json", get(openapi::document))
        .route("/schema.json", get(openapi::schema))
        .route("/backends", get(backends::list).post(backends::create).delete(backends::delete_by_url))
        .route("/backends/{id}", get(backends::one).patch(backends::update).delete(backends::delete))
        .route("/backends/{id}/check", post(backends::check))
        .route("/pools", get(pools::list_pools))
        .route("/pools/{name}", get(pools::pool).put(pools::put_pool).delete(pools::delete_pool))
        .route("/routes", get(pools::list_routes))
        .route("/routes/{name}", get(pools::route).put(pools::put_route).delete(pools::delete_route))
        .route("/certificates", get(certificates::list))
        .route(
            "/certificates/{name}",
            get(certificates::one).put(certificates::put).delete(certificates::delete),
        )
        .route("/strategy", post(pools::set_strategy))
        .route("/config", get(config::export).put(config::apply))
        .route("/config/reload", post(config::reload))
        .route("/tokens", get(access::tokens).post(access::create_token))
        .route("/tokens/{name}", delete(access::delete_token))
        .route("/audit", get(access::audit))
        .route("/explain", get(explain::get))
        .route("/node-tokens", get(nodes::tokens).post(nodes::create_token))
        .route("/node-tokens/{id}", delete(nodes::delete_token))
        .route("/nodes/{id}/revoke", post(nodes::revoke))
        .route("/nodes/{id}/allow", post(nodes::allow))
        .route("/nodes/{id}/exclude", post(nodes::exclude))
        .route("/nodes/{id}/include", post(nodes::include))
        .route("/revisions", get(config::revisions))
        .route("/revisions/{n}", get(config::revision))
        .route("/revisions/{n}/rollback", post(config::rollback))
        .method_not_allowed_fallback(async || {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path does not take this method; see /openapi.json",
            )
        })
        .layer(from_fn_with_state(app.clone(), guard::precondition))
        .with_state(app)
        .merge(reports)
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "there is no such path; see /openapi.json"))
        .layer(map_response(as_problem))
}

/// What axum refuses by itself, a path or a query that cannot be read, is told as every other mistake.
async fn as_problem(answer: Response) -> Response {
    let status = answer.status();
    let kind = answer.headers().get(header::CONTENT_TYPE);
    if !status.is_client_error() || !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain")) {
        return answer;
    }
    let text = body::bytes(answer.into_body(), 1 << 16).await.unwrap_or_default();
    Refusal::new(status, String::from_utf8_lossy(&text)).into_response()
}

/// A list as every list is answered.
#[derive(Serialize)]
struct Items<T> {
    items: Vec<T>,
}
