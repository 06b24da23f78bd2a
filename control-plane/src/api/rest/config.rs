//! `/config` and `/revisions`.

use std::time::Duration;

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use weir_snapshot::{
    Problem,
    diff::{Difference, in_words},
    file,
    units::HumanDuration,
};

use super::extract::{Path, Query};
use super::{
    Asking, Items, body,
    guard::{Guarded, Tag},
    problem::Refusal,
};
use crate::{
    access::trail,
    app::{App, Applied, ApplyOptions},
    store::Revision,
    time::rfc3339,
};

/// The longest that an answer waits for the nodes.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The whole configuration, YAML unless JSON is asked for.
pub(super) async fn export(State(app): State<App>, headers: HeaderMap) -> Response {
    let shown = app.shown();
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let tag = Tag::revision(shown.revision());
    if accept.contains("json") {
        return (tag, Json(shown.config())).into_response();
    }
    (tag, [(header::CONTENT_TYPE, "application/yaml")], file::to_yaml(&shown.config())).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    #[serde(default)]
    dry_run: bool,
    wait: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Waiting {
    wait: Option<String>,
}

fn waits(wait: Option<String>) -> Result<Option<Duration>, Refusal> {
    let wait = wait.map(|wait| wait.parse::<HumanDuration>()).transpose();
    let wait = wait.map_err(|error| Refusal::bad_request(Problem::new("wait", error.to_string()).into()))?;
    Ok(wait.map(|wait| wait.0.min(LONGEST_WAIT)))
}

pub(super) async fn apply(
    Guarded(app): Guarded,
    Asking(author): Asking,
    Query(how): Query<How>,
    request: Request,
) -> Result<Response, Refusal> {
    if how.dry_run {
        trail::dry_run();
    }
    let wait = waits(how.wait)?;
    let text = body::text(request).await?;
    let applied = app.apply(&author, &text, ApplyOptions { dry_run: how.dry_run, wait }).await?;
    Ok(tell(&applied, how.dry_run))
}

/// What it came to. A dry run is asked for the difference, so it is told as data too.
fn tell(applied: &Applied, with_diff: bool) -> Response {
    let Applied { revision, changes, warnings, rollout, .. } = applied;
    let mut told = json!({ "revision": revision, "changes": changes, "warnings": warnings });
    if with_diff {
        told["diff"] = json!(applied.differences());
    }
    if !applied.replaced.is_empty() {
        told["replaced"] = json!(applied.replaced);
    }
    let mut status = StatusCode::OK;
    if let Some(rollout) = rollout {
        told["active"] = rollout.complete.into();
        told["nodes"] = json!(rollout);
        if !rollout.complete {
            status = StatusCode::GATEWAY_TIMEOUT;
            let missing =
                rollout.rejected.iter().chain(&rollout.pending).cloned().collect::<Vec<_>>().join(", ");
            told["detail"] =
                format!("revision {revision} is stored, but not active on all nodes: {missing}").into();
        }
    }
    (status, Tag::revision(*revision), Json(told)).into_response()
}

pub(super) async fn reload(Guarded(app): Guarded, Asking(author): Asking) -> Result<Response, Refusal> {
    match app.reload(&author).await? {
        Some(applied) => Ok(tell(&applied, false)),
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
        "changes": in_words(&revision.changes),
    })
}

pub(super) async fn revision(
    State(app): State<App>,
    Path(number): Path<u64>,
) -> Result<Json<Value>, Refusal> {
    let revision = app.revision(number).await?;
    let mut told = summary(&revision);
    told["diff"] = revision.changes.iter().map(|change| json!(Difference::of(change))).collect();
    Ok(Json(told))
}

pub(super) async fn rollback(
    Guarded(app): Guarded,
    Asking(author): Asking,
    Path(number): Path<u64>,
    Query(waiting): Query<Waiting>,
) -> Result<Response, Refusal> {
    let wait = waits(waiting.wait)?;
    Ok(tell(&app.rollback(&author, number, wait).await?, false))
}
