//! Who changed what, and the way back.

use axum::extract::{Path, State};
use maud::{Markup, html};
use weir_snapshot::diff::describe;

use super::{Asked, Page, Trouble, format::time, layout};
use crate::{
    app::{App, AppError, rfc3339},
    store::Revision,
};

/// Revisions on one page.
const PAGE: u32 = 50;

pub(super) async fn page(app: &App, asked: &Asked) -> Result<Markup, Trouble> {
    let revisions = app.revisions(asked.before.parse().ok(), PAGE).await.map_err(AppError::from)?;
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
    let revision = app.revision(number).await?;
    let pretty = |spec: &Option<String>| {
        let value = spec.as_deref().and_then(|spec| serde_json::from_str::<serde_json::Value>(spec).ok());
        value.and_then(|value| serde_json::to_string_pretty(&value).ok())
    };
    Ok(layout::document(
        &format!("Revision {number}"),
        Some(Page::Revisions),
        &html! {
            p class="lead" { (time(&rfc3339(revision.time_ms))) " by " (revision.actor) " through " (revision.source) }
            @for change in &revision.changes {
                section class="card" {
                    h2 { (describe(change)) }
                    div class="diff" {
                        @for (title, spec) in [("Before", &change.before), ("After", &change.after)] {
                            div {
                                h3 { (title) }
                                @match pretty(spec) {
                                    Some(text) => pre tabindex="0" { (text) },
                                    None => p class="soft" { @if title == "Before" { "It was not there." } @else { "It is gone." } },
                                }
                            }
                        }
                    }
                }
            }
            @if number != app.current().revision { (rollback(number)) }
        },
    ))
}
