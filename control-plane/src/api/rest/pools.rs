//! `/pools`, `/routes` and `/strategy`.

use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};
use weir_snapshot::config::{Pool, Route};

use super::extract::Path;
use super::{
    Asking, Items, body,
    guard::{Guarded, Tag, Tagged},
    problem::Refusal,
};
use crate::app::{App, AppError};

pub(super) async fn list_pools(State(app): State<App>) -> Tagged<Json<Items<Pool>>> {
    let current = app.current();
    Tagged(Tag::revision(current.revision), Json(Items { items: current.config.pools.clone() }))
}

pub(super) async fn pool(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Tagged<Json<Pool>>, Refusal> {
    let current = app.current();
    let pool = current.config.pools.iter().find(|pool| pool.name == name).cloned();
    let pool = pool.ok_or_else(|| AppError::not_found("pool", &name))?;
    Ok(Tagged(Tag::revision(current.revision), Json(pool)))
}

pub(super) async fn put_pool(
    Guarded(app): Guarded,
    Asking(author): Asking,
    Path(name): Path<String>,
    request: Request,
) -> Result<(StatusCode, Tagged<Json<Pool>>), Refusal> {
    let pool: Pool = body::named("pools[0]", &name, request).await?;
    let created = app.put_pool(&author, pool).await.map_err(|error| Refusal::of_one("pools", error))?;
    Ok((created_or_ok(created), self::pool(State(app), Path(name)).await?))
}

pub(super) async fn delete_pool(
    Guarded(app): Guarded,
    Asking(author): Asking,
    Path(name): Path<String>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(json!({ "revision": app.delete_pool(&author, &name).await? })))
}

pub(super) async fn list_routes(State(app): State<App>) -> Tagged<Json<Items<Route>>> {
    let shown = app.shown();
    Tagged(Tag::revision(shown.revision()), Json(Items { items: shown.routes() }))
}

pub(super) async fn route(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Tagged<Json<Route>>, Refusal> {
    let shown = app.shown();
    let route = shown.route(&name).ok_or_else(|| AppError::not_found("route", &name))?;
    Ok(Tagged(Tag::revision(shown.revision()), Json(route)))
}

pub(super) async fn put_route(
    Guarded(app): Guarded,
    Asking(author): Asking,
    Path(name): Path<String>,
    request: Request,
) -> Result<(StatusCode, Tagged<Json<Value>>), Refusal> {
    let route: Route = body::named("routes[0]", &name, request).await?;
    let put = app.put_route(&author, route).await;
    let (created, warnings) = put.map_err(|error| Refusal::of_one("routes", error))?;
    let Tagged(tag, Json(route)) = self::route(State(app), Path(name)).await?;
    let mut told = json!(route);
    told["warnings"] = warnings.iter().map(ToString::to_string).collect();
    Ok((created_or_ok(created), Tagged(tag, Json(told))))
}

pub(super) async fn delete_route(
    Guarded(app): Guarded,
    Asking(author): Asking,
    Path(name): Path<String>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(json!({ "revision": app.delete_route(&author, &name).await? })))
}

#[derive(Deserialize)]
struct SetStrategy {
    pool: String,
    strategy: String,
}

pub(super) async fn set_strategy(
    Guarded(app): Guarded,
    Asking(author): Asking,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let SetStrategy { pool, strategy } = body::object(request).await?;
    let revision = app.set_strategy(&author, &pool, &strategy).await?;
    Ok(Json(json!({ "revision": revision, "pool": pool, "strategy": strategy })))
}

pub(super) fn created_or_ok(created: bool) -> StatusCode {
    if created { StatusCode::CREATED } else { StatusCode::OK }
}
