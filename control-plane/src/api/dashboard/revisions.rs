//! The history of changes, and rollback.

use axum::extract::{Path, State};
use maud::{Markup, html};
use serde_json::Value;
use weir_snapshot::diff::{Action, Difference, describe};

use super::{
    Page, PageQuery, Trouble,
    format::time,
    layout::{self, badge},
};
use crate::{
    app::{App, AppError},
    store::Revision,
    time::rfc3339,
};

/// Revisions on one page.
const PAGE: u32 = 50;

pub(super) async fn page(app: &App, params: &PageQuery) -> Result<Markup, Trouble> {
    let revisions = app.revisions(params.before.parse().ok(), PAGE).await.map_err(AppError::from)?;
    let current = app.current().revision;
    Ok(html! {
        section class="card" aria-label="Revisions" {
            header { h2 { "Every change of the configuration" } p { "revision " (current) " is current" } }
            div class="scroll" {
                table class="stack" {
                    thead {
                        tr {
                            th scope="col" { "Revision" } th scope="col" { "When" } th scope="col" { "Who" }
                            th scope="col" { "What" } th scope="col" { span class="visually-hidden" { "Actions" } }
                        }
                    }
                    tbody { @for revision in &revisions { (row(revision, current)) } }
                }
            }
            @if let Some(last) = revisions.last().filter(|last| last.revision > 1) {
                p { a href=(format!("/ui/revisions?before={}", last.revision)) { "Earlier revisions" } }
            }
        }
    })
}

fn row(revision: &Revision, current: u64) -> Markup {
    let number = revision.revision;
    html! {
        tr {
            th scope="row" { a href=(format!("/ui/revisions/{number}")) { (number) } }
            td class="soft" data-label="When" { (time(&rfc3339(revision.time_ms))) }
            td data-label="Who" { (revision.actor) " " span class="soft" { (revision.source) } }
            td data-label="What" {
                ul class="plain" {
                    @for change in revision.changes.iter().take(5) { li { (describe(change)) } }
                    @if revision.changes.len() > 5 { li class="soft" { "and " (revision.changes.len() - 5) " more" } }
                }
            }
            td { @if number != current { (rollback(number)) } }
        }
    }
}

fn rollback(number: u64) -> Markup {
    html! {
        form class="actions" method="post" action=(format!("/ui/revisions/{number}/rollback"))
            data-confirm=(format!("Make the content of revision {number} current again?")) {
            button aria-label=(format!("Roll back to revision {number}")) { "Roll back to this" }
        }
    }
}

pub(super) async fn one(State(app): State<App>, Path(number): Path<u64>) -> Result<Markup, Trouble> {
    let mut revision = app.revision(number).await?;
    // Other people may see the screen, so the dashboard shows password hashes to no role.
    revision.changes.iter_mut().for_each(weir_snapshot::mask::change);
    let current = app.current().revision;
    Ok(layout::document(
        &format!("Revision {number}"),
        Some(Page::Revisions),
        &html! {
            div class="lead" {
                p { (time(&rfc3339(revision.time_ms))) " by " (revision.actor) " through " (revision.source) }
                @if number == current { (badge("ok", "current")) } @else { (rollback(number)) }
            }
            @for change in &revision.changes { (difference(&Difference::of(change))) }
        },
    ))
}

/// One resource: each changed field, or all fields if the resource was added or removed.
fn difference(difference: &Difference) -> Markup {
    let Difference { action, kind, name, text, fields, before, after } = difference;
    let pretty = |value: &Value| serde_json::to_string_pretty(value.get("spec").unwrap_or(value));
    let whole = match action {
        Action::Add => Some(("+", "ins", after)),
        Action::Remove => Some(("-", "del", before)),
        Action::Change | Action::Move => None,
    };
    html! {
        section class="card" aria-label=(text) {
            header { h2 { (kind) " " (name) } p { (happened(*action)) } }
            @if let Some((sign, class, value)) = whole {
                pre class=(class) tabindex="0" aria-label=(text) {
                    @for line in pretty(value).unwrap_or_default().lines() { (sign) " " (line) "\n" }
                }
            } @else {
                div class="scroll" {
                    table class="stack" {
                        thead { tr { th scope="col" { "Field" } th scope="col" { "Before" } th scope="col" { "After" } } }
                        tbody {
                            @for field in fields {
                                @let (before, after) = field.values();
                                tr {
                                    th scope="row" class="mono" { (field.path) }
                                    td data-label="Before" { del { (before) } }
                                    td data-label="After" { ins { (after) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn happened(action: Action) -> &'static str {
    match action {
        Action::Add => "added",
        Action::Remove => "removed",
        Action::Change => "changed",
        Action::Move => "its place in the order",
    }
}
