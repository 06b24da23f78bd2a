//! The audit log: changes and rejected calls. For admins.

use maud::{Markup, html};

use super::{PageQuery, Trouble, format::time, layout::badge};
use crate::{
    app::{App, AppError},
    store::AuditEntry,
    time::rfc3339,
};

/// Entries on one page.
const PAGE: u32 = 100;

pub(super) async fn page(app: &App, params: &PageQuery) -> Result<Markup, Trouble> {
    let entries = app.access().audit(params.before.parse().ok(), PAGE).await.map_err(AppError::from)?;
    Ok(html! {
        section class="card" aria-label="Audit" {
            header { h2 { "Changes and refusals" } p { "newest first" } }
            @if entries.is_empty() {
                div class="empty" {
                    h2 { "Nothing was changed or refused" }
                    p { "Each change of the fleet stands here with who made it, and each call that was not let through." }
                }
            } @else {
                div class="scroll" {
                    table class="stack" {
                        thead {
                            tr {
                                @for name in ["When", "Who", "What", "Outcome", "Revision", "Why"] { th scope="col" { (name) } }
                            }
                        }
                        tbody { @for entry in &entries { (row(entry)) } }
                    }
                }
                @if let Some(last) = entries.last().filter(|_| entries.len() == PAGE as usize) {
                    p { a href=(format!("/ui/audit?before={}", last.id)) { "Earlier entries" } }
                }
            }
        }
    })
}

fn row(entry: &AuditEntry) -> Markup {
    let kind = match entry.outcome.as_str() {
        "ok" => "ok",
        "failed" => "warn",
        _ => "bad",
    };
    html! {
        tr {
            td class="soft" data-label="When" { (time(&rfc3339(entry.time_ms))) }
            td data-label="Who" { (entry.actor) " " span class="soft" { (entry.role) " " (entry.source) } }
            td class="mono" data-label="What" { (entry.action) }
            td data-label="Outcome" { (badge(kind, &entry.outcome)) @if entry.times > 1 { " " (entry.times) " times" } }
            td data-label="Revision" {
                @if let Some(number) = entry.revision { a href=(format!("/ui/revisions/{number}")) { (number) } } @else { "–" }
            }
            td class="soft" data-label="Why" { (entry.detail) }
        }
    }
}
