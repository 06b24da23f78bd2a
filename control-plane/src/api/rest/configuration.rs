//! `/config`, `/pools`, `/routes`, `/strategy` and `/revisions`.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use weir_snapshot::{config::{Pool, Route}, file};

use super::{ApiError, status};
use crate::{
    api::{AppState, rfc3339},
    app::{App, AppError, Applied, Caller, describe},
    store::Revision,
};

/// What a change came to.
pub(super) fn applied(applied: &Applied) -> Value {
    json!({ "revision": applied.revision, "changes": describe(&applied.changes) })
}

type Answer = Result<Json<Value>, ApiError>;

pub(super) async fn pools(State(state): State<AppState>) -> Json<Value> {
    Json(json!({ "items": state.app.current().config.pools }))
}

pub(super) async fn pool(State(state): State<AppState>, Path(name): Path<String>) -> Answer {
    Ok(Json(json!(state.app.pool(&name)?)))
}

pub(super) async fn put_pool(State(state): State<AppState>, Path(name): Path<String>, caller: Caller, body: Bytes) -> Answer {
    let pool: Pool = super::json(&body, Some(("name", &name)))?;
    Ok(Json(applied(&state.app.put_pool(&caller, pool).await?)))
}

pub(super) async fn delete_pool(State(state): State<AppState>, Path(name): Path<String>, caller: Caller) -> Answer {
    Ok(Json(applied(&state.app.delete_pool(&caller, &name).await?)))
}

pub(super) async fn routes(State(state): State<AppState>) -> Json<Value> {
    Json(json!({ "items": state.app.current().config.routes }))
}

pub(super) async fn route(State(state): State<AppState>, Path(name): Path<String>) -> Answer {
    Ok(Json(json!(state.app.route(&name)?)))
}

pub(super) async fn put_route(State(state): State<AppState>, Path(name): Path<String>, caller: Caller, body: Bytes) -> Answer {
    let route: Route = super::json(&body, Some(("name", &name)))?;
    Ok(Json(applied(&state.app.put_route(&caller, route).await?)))
}

pub(super) async fn delete_route(State(state): State<AppState>, Path(name): Path<String>, caller: Caller) -> Answer {
    Ok(Json(applied(&state.app.delete_route(&caller, &name).await?)))
}

#[derive(Deserialize)]
struct SetStrategy {
    #[serde(default)]
    pool: Option<String>,
    strategy: String,
}

pub(super) async fn strategy(State(state): State<AppState>, caller: Caller, body: Bytes) -> Answer {
    let SetStrategy { pool, strategy } = super::json(&body, None)?;
    let pool = pool.as_deref().unwrap_or("default");
    Ok(Json(applied(&state.app.set_strategy(&caller, pool, &strategy).await?)))
}

pub(super) async fn export(State(state): State<AppState>, headers: HeaderMap) -> Response {
    let current = state.app.current();
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("json") && !accept.contains("yaml") {
        return Json(&current.config).into_response();
    }
    ([(header::CONTENT_TYPE, "application/yaml")], App::yaml(&current)).into_response()
}

pub(super) async fn apply(State(state): State<AppState>, RawQuery(query): RawQuery, caller: Caller, body: Bytes) -> Answer {
    let (mut dry_run, mut wait) = (false, None);
    for pair in query.as_deref().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
        match (name, value) {
            ("dry_run", "true") => dry_run = true,
            ("dry_run", "false") => dry_run = false,
            ("dry_run", value) => return Err(AppError::invalid("dry_run", format!("{value:?} is neither true nor false")).into()),
            ("wait", value) => wait = Some(super::duration(value, "wait")?),
            (name, _) => return Err(AppError::invalid(name, "unknown parameter (known: dry_run, wait)").into()),
        }
    }
    let text = std::str::from_utf8(&body).map_err(|_| AppError::invalid("", "the configuration is not UTF-8"))?;
    let (config, _) = file::parse(text).map_err(AppError::from)?;
    if dry_run {
        return Ok(Json(applied(&state.app.dry_run(config, None)?)));
    }
    let done = state.app.apply(&caller, config, None).await?;
    let mut answer = applied(&done);
    if let Some(wait) = wait {
        answer["active"] = state.app.wait_active(done.revision, wait).await.into();
        answer["nodes"] = state.app.nodes().iter().filter(|node| node.connected).map(status::node).collect();
    }
    Ok(Json(answer))
}

pub(super) async fn reload(State(state): State<AppState>, caller: Caller) -> Answer {
    Ok(Json(applied(&state.app.reload(&caller).await?)))
}

fn summary(revision: &Revision) -> Value {
    json!({
        "revision": revision.revision,
        "time": rfc3339(revision.time_ms),
        "actor": revision.actor,
        "source": revision.source,
        "changes": describe(&revision.changes),
    })
}

pub(super) async fn revisions(State(state): State<AppState>) -> Answer {
    let revisions = state.app.revisions(None, 100).await?;
    Ok(Json(json!({ "items": revisions.iter().map(summary).collect::<Vec<_>>() })))
}

fn number(text: &str) -> Result<u64, ApiError> {
    let parsed = text.parse().ok().filter(|number| i64::try_from(*number).is_ok());
    parsed.ok_or_else(|| AppError::NotFound(format!("there is no revision {text:?}")).into())
}

pub(super) async fn revision(State(state): State<AppState>, Path(revision): Path<String>) -> Answer {
    let revision = state.app.revision(number(&revision)?).await?;
    let mut answer = summary(&revision);
    answer["resources"] = json!(revision.changes);
    Ok(Json(answer))
}

pub(super) async fn rollback(State(state): State<AppState>, Path(revision): Path<String>, caller: Caller) -> Answer {
    Ok(Json(applied(&state.app.rollback(&caller, number(&revision)?).await?)))
}
