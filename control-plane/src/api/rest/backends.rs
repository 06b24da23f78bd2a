//! `/backends`.

use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::extract::{Path, Query};
use super::{
    Asking, Items, body,
    guard::{Guarded, Tag, Tagged},
    problem::Refusal,
};
use crate::app::{App, BackendInfo, Named};

#[derive(Deserialize)]
pub(super) struct Create {
    url: String,
    pool: Option<String>,
    weight: Option<u32>,
}

#[derive(Deserialize)]
pub(super) struct Update {
    weight: Option<u32>,
    state: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct ByUrl {
    url: String,
    pool: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfPool {
    pool: Option<String>,
}

pub(super) async fn list(
    State(app): State<App>,
    Query(of): Query<OfPool>,
) -> Result<Tagged<Json<Items<BackendInfo>>>, Refusal> {
    Ok(Tagged(Tag::of(&app), Json(Items { items: app.backends(of.pool.as_deref())? })))
}

pub(super) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Tagged<Json<BackendInfo>>, Refusal> {
    Ok(Tagged(Tag::of(&app), Json(app.backend(&id)?)))
}

pub(super) async fn create(
    Guarded(app): Guarded,
    Asking(author): Asking,
    request: Request,
) -> Result<(StatusCode, Json<BackendInfo>), Refusal> {
    let Create { url, pool, weight } = body::object(request).await?;
    let created = app.create_backend(&author, &url, pool.as_deref(), weight).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

pub(super) async fn update(
    Guarded(app): Guarded,
    Asking(author): Asking,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<BackendInfo>, Refusal> {
    let Update { weight, state } = body::object(request).await?;
    Ok(Json(app.update_backend(&author, &id, weight, state.as_deref()).await?))
}

pub(super) async fn delete(
    Guarded(app): Guarded,
    Asking(author): Asking,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let revision = app.delete_backend(&author, &Named::Id(id)).await?;
    Ok(Json(json!({ "revision": revision })))
}

pub(super) async fn delete_by_url(
    Guarded(app): Guarded,
    Asking(author): Asking,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let ByUrl { url, pool } = body::object(request).await?;
    let revision = app.delete_backend(&author, &Named::Url { url, pool }).await?;
    Ok(Json(json!({ "revision": revision })))
}

pub(super) async fn check(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    let found = app.check_backend(&id).await?;
    let latency_ms = found.latency.as_secs_f64() * 1000.0;
    Ok(Json(json!({ "ok": found.ok, "detail": found.detail, "latency_ms": latency_ms })))
}
