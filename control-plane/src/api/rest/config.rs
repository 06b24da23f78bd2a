//! `/config` and `/revisions`.

use std::time::Duration;

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use weir_admin_api::{Applied, ApplyQuery, List, Number, Revision, RevisionDetail, RevisionQuery, WaitQuery};
use weir_snapshot::{
    Problem,
    diff::{Difference, describe_all},
    file,
    units::HumanDuration,
};

use super::{page, problem::Refusal, serve::Call};
use crate::{
    access::trail,
    app::{self, ApplyOptions, page::Page},
    store,
    time::rfc3339,
};

/// The longest time that a call waits for the nodes.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

pub(super) async fn export(call: Call<(), (), ()>) -> Result<Response, Refusal> {
    let shown = call.app.shown();
    let accept =
        call.head.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("json") {
        return Ok(Json(shown.config()).into_response());
    }
    Ok(([(header::CONTENT_TYPE, "application/yaml")], file::to_yaml(&shown.config())).into_response())
}

fn waits(wait: Option<String>) -> Result<Option<Duration>, Refusal> {
    let wait = wait.map(|wait| wait.parse::<HumanDuration>()).transpose();
    let wait = wait.map_err(|error| Refusal::bad_request(Problem::new("wait", error.to_string()).into()))?;
    Ok(wait.map(|wait| wait.0.min(LONGEST_WAIT)))
}

pub(super) async fn apply(call: Call<(), ApplyQuery, String>) -> Result<Applied, Refusal> {
    let ApplyQuery { dry_run, wait } = call.query;
    if dry_run {
        trail::dry_run();
    }
    let options = ApplyOptions { dry_run, wait: waits(wait)? };
    Ok(applied(call.app.apply(&call.author, &call.body, options).await?, dry_run))
}

/// The response to a dry run includes the differences as data.
fn applied(applied: app::Applied, with_diff: bool) -> Applied {
    let diff = with_diff.then(|| applied.differences());
    let app::Applied { revision, changes, warnings, rollout, replaced, .. } = applied;
    let missing = rollout.as_ref().filter(|rollout| !rollout.complete).map(|rollout| {
        let missing: Vec<&str> =
            rollout.rejected.iter().chain(&rollout.pending).map(String::as_str).collect();
        format!("revision {revision} is stored, but not active on all nodes: {}", missing.join(", "))
    });
    Applied {
        revision,
        changes,
        warnings,
        diff,
        replaced,
        active: rollout.as_ref().map(|rollout| rollout.complete),
        nodes: rollout,
        detail: missing,
    }
}

pub(super) async fn reload(call: Call<(), (), ()>) -> Result<Applied, Refusal> {
    match call.app.reload(&call.author).await? {
        Some(done) => Ok(applied(done, false)),
        None => Err(Refusal::new(StatusCode::CONFLICT, "the control plane was started without --config")),
    }
}

pub(super) async fn rollback(call: Call<Number, WaitQuery, ()>) -> Result<Applied, Refusal> {
    let wait = waits(call.query.wait)?;
    Ok(applied(call.app.rollback(&call.author, call.path.n, wait).await?, false))
}

pub(super) async fn revisions(call: Call<(), RevisionQuery, ()>) -> Result<List<Revision>, Refusal> {
    let RevisionQuery { before, limit, page_token } = call.query;
    page::one_of(("before", before.is_some()), page_token.as_deref())?;
    let page = Page::read("revisions", &[], limit, page_token.as_deref())?;
    let before = page.after()?.or(before);
    let read = call.app.revisions(before, page.read_size()).await.map_err(app::AppError::from)?;
    let read = page.of_read(read, |revision| revision.revision.to_string());
    Ok(page::list_of(read.map(|revision| summary(&revision))))
}

fn summary(revision: &store::Revision) -> Revision {
    Revision {
        revision: revision.revision,
        time: rfc3339(revision.time_ms),
        actor: revision.actor.clone(),
        source: revision.source.clone(),
        changes: describe_all(&revision.changes),
    }
}

pub(super) async fn revision(call: Call<Number, (), ()>) -> Result<RevisionDetail, Refusal> {
    let revision = call.app.revision(call.path.n).await?;
    let diff = revision.changes.iter().map(Difference::of).collect();
    Ok(RevisionDetail { revision: summary(&revision), diff })
}
