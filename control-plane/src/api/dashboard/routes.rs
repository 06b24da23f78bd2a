//! Routes, with their traffic.

use std::collections::HashMap;

use maud::{Markup, html};
use weir_admin_api::{RefusalCounts, TopItem};
use weir_snapshot::{Problem, config::Route};

use super::{
    Trouble,
    format::{count, millis, percent},
    layout::empty,
    reports::refusals,
};
use crate::{
    app::App,
    stats::{Query, TopQuery},
};

pub(super) async fn page(app: &App) -> Result<Markup, Trouble> {
    let current = app.current();
    let query = Query { from: Some("-24h".into()), ..Query::default() };
    let top = TopQuery { query, limit: Some("1000".into()), ..TopQuery::default() };
    let items = app.stats().top(&top).await?.items;
    let counted: HashMap<&str, &TopItem> = items.iter().map(|item| (item.name.as_str(), item)).collect();
    if current.config.routes.is_empty() {
        return Ok(empty(
            "There is no route",
            &html! {
                p { "Without one every request is answered with 404. Write one into the configuration and apply it:" }
                p { code { "weir apply -f weir.yaml" } }
            },
        ));
    }
    Ok(html! {
        section class="card" aria-label="Routes" {
            header { h2 { (current.config.routes.len()) @if current.config.routes.len() == 1 { " route" } @else { " routes" } } p { "counts of the last 24 hours · " a href="/ui/explain" { "Which one takes a request?" } } }
            div class="scroll" {
                table class="stack" {
                    thead {
                        tr {
                            th scope="col" { "Route" } th scope="col" { "Goes to" } th scope="col" { "Matches" }
                            th scope="col" class="n" { "Requests" } th scope="col" class="n" { "Errors" }
                            th scope="col" class="n" { "Refused" }
                            th scope="col" class="n" { "p50" } th scope="col" class="n" { "p99" }
                        }
                    }
                    tbody {
                        @for route in &current.config.routes {
                            @let item = counted.get(route.name.as_str());
                            tr {
                                th scope="row" { a href=(format!("/ui/reports?route={}", route.name)) { (route.name) } }
                                td data-label="Goes to" { (target(route)) }
                                td class="mono" data-label="Matches" {
                                    (route.matches)
                                    @for warning in warnings(&current.snapshot.warnings, &route.name) {
                                        p { span class="badge warn" { "warning" } " " (warning) }
                                    }
                                }
                                td class="n" data-label="Requests" { (count(item.map_or(0, |item| item.measures.requests))) }
                                td class="n" data-label="Errors" { (item.map_or("–".to_owned(), |item| percent(item.errors, item.measures.requests))) }
                                td class="n" data-label="Refused" { @if let Some(item) = item { (refused(&item.measures.refused)) } @else { "–" } }
                                td class="n" data-label="p50" { (item.map_or("–".to_owned(), |item| millis(item.measures.latency_ms.p50))) }
                                td class="n" data-label="p99" { (item.map_or("–".to_owned(), |item| millis(item.measures.latency_ms.p99))) }
                            }
                        }
                    }
                }
            }
        }
    })
}

/// Requests that Weir rejected itself, by reason.
fn refused(refused: &RefusalCounts) -> Markup {
    html! {
        span {
            (count(refused.total()))
            @if refused.total() > 0 { span class="note" { (refusals(refused)) } }
        }
    }
}

/// Warnings that name the route.
fn warnings<'a>(all: &'a [Problem], route: &str) -> impl Iterator<Item = &'a str> {
    let begins = format!("route {route:?} ");
    all.iter().map(|warning| warning.message.as_str()).filter(move |message| message.starts_with(&begins))
}

/// The pools that a route sends requests to.
fn target(route: &Route) -> Markup {
    html! {
        (route.target())
        @if let Some(fallback) = &route.fallback {
            @match (&fallback.pool, fallback.status) {
                (Some(pool), _) => p class="note" { "else " (pool) },
                (None, Some(status)) => p class="note" { "else " (status) },
                (None, None) => {}
            }
        }
    }
}
