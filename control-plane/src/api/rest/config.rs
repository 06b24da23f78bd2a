//! `/config` and `/revisions`.

use axum::{
    Json,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use weir_snapshot::{Problem, diff::describe, file, units::HumanDuration};

use super::{Asking, Items, body, problem::Refusal};
use crate::{
    app::{App, Applied, ApplyOptions, rfc3339},
    store::Revision,
};

/// The whole configuration, YAML unless JSON is asked for.
pub(super) async fn export(State(app): State<App>, headers: HeaderMap) -> Response {
    let current = app.current();
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let etag = (header::ETAG, format!("\"{}\"", current.revision));
    if accept.contains("json") {
        return ([etag], Json(&current.config)).into_response();
    }
    let yaml = (header::CONTENT_TYPE, "application/yaml".to_owned());
    ([etag, yaml], file::to_yaml(&current.config)).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    #[serde(default)]
    dry_run: bool,
    wait: Option<String>,
}

pub(super) async fn apply(
    State(app): State<App>,
    Asking(author): Asking,
    Query(how): Query<How>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Refusal> {
    let wait = how
        .wait
        .map(|wait| wait.parse::<HumanDuration>())
        .transpose()
        .map_err(|error| Refusal::bad_request(Problem::new("wait", error.to_string()).into()))?
        .map(|wait| wait.0.min(std::time::Duration::from_secs(300)));
    let if_revision = headers
        .get(header::IF_MATCH)
        .map(|value| value.to_str().unwrap_or_default().trim_matches('"').parse::<u64>())
        .transpose()
        .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "If-Match is not a revision's number"))?;
    let text = body::text(request).await?;
    let applied = app.apply(&author, &text, ApplyOptions { dry_run: how.dry_run, wait, if_revision }).await?;
    let failed = applied.rollout.as_ref().is_some_and(|rollout| !rollout.complete);
    let status = if failed { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::OK };
    Ok((status, Json(tell(applied))).into_response())
}

fn tell(Applied { revision, changes, warnings, rollout }: Applied) -> Value {
    let mut told = json!({ "revision": revision, "changes": changes, "warnings": warnings });
    if let Some(rollout) = rollout {
        told["active"] = rollout.complete.into();
        told["nodes"] = json!(rollout);
        if !rollout.complete {
            let missing =
                rollout.rejected.iter().chain(&rollout.pending).cloned().collect::<Vec<_>>().join(", ");
            told["detail"] =
                format!("revision {revision} is stored, but not active on all nodes: {missing}").into();
        }
    }
    told
}

pub(super) async fn reload(State(app): State<App>, Asking(author): Asking) -> Result<Json<Value>, Refusal> {
    match app.reload(&author).await? {
        Some(applied) => Ok(Json(tell(applied))),
        None => Err(Refusal::new(StatusCode::CONFLICT, "the control plane was started without --config")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    before: Option<u64>,
    limit: Option<u32>,
}

pub(super) async fn revisions(
    State(app): State<App>,
    Query(page): Query<Page>,
) -> Result<Json<Items<Value>>, Refusal> {
    let limit = page.limit.unwrap_or(100).clamp(1, 1000);
    let revisions = app.revisions(page.before, limit).await.map_err(crate::app::AppError::from)?;
    Ok(Json(Items { items: revisions.iter().map(summary).collect() }))
}

fn summary(revision: &Revision) -> Value {
    json!({
        "revision": revision.revision,
        "time": rfc3339(revision.time_ms),
        "actor": revision.actor,
        "source": revision.source,
        "changes": revision.changes.iter().map(describe).collect::<Vec<_>>(),
    })
}

pub(super) async fn revision(
    State(app): State<App>,
    Path(number): Path<u64>,
) -> Result<Json<Value>, Refusal> {
    let revision = app.revision(number).await?;
    let mut told = summary(&revision);
    let spec =
        |spec: &Option<String>| spec.as_deref().and_then(|spec| serde_json::from_str::<Value>(spec).ok());
    let diff = revision.changes.iter().map(|change| {
        json!({ "kind": change.key.kind, "name": change.key.name, "before": spec(&change.before), "after": spec(&change.after) })
    });
    told["diff"] = diff.collect();
    Ok(Json(told))
}

pub(super) async fn rollback(
    State(app): State<App>,
    Asking(author): Asking,
    Path(number): Path<u64>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(tell(app.rollback(&author, number).await?)))
}
