//! Explains where a request would go: a form, and how a node would handle the request that is entered. No request is
//! sent.

use maud::{Markup, html};
use weir_admin_api::{Explained, ExplainedBackend, ExplainedPool};
use weir_snapshot::explain::{Filter, SampleRequest as Request, SkippedRoute, Verdict};

use super::{
    Trouble,
    layout::{badge, empty},
    page_query::{METHODS, PageQuery},
};
use crate::app::{App, AppError};

/// The method in the form, or the default.
fn method(params: &PageQuery) -> &str {
    Some(params.method.trim()).filter(|method| !method.is_empty()).unwrap_or(METHODS[0])
}

/// The form.
pub(super) fn form(params: &PageQuery) -> Markup {
    let method = method(params);
    html! {
        form class="card fields" method="get" action="/ui/explain" aria-label="Which request" {
            label {
                "Method"
                select name="method" {
                    @for known in METHODS { option value=(known) selected[known == method] { (known) } }
                    @if !METHODS.contains(&method) { option value=(method) selected { (method) } }
                }
            }
            label class="long" { "URL" input name="url" value=(params.url) required placeholder="http://shop.example/books?page=2"; }
            label { "Client's address" input name="client" value=(params.client) placeholder="10.1.2.3"; }
            label class="long" {
                "Headers, one a line"
                textarea name="headers" rows="1" spellcheck="false" placeholder="x-canary: 1" { (params.headers) }
            }
            button class="primary" { "Explain" }
        }
    }
}

pub(super) fn page(app: &App, params: &PageQuery) -> Result<Markup, Trouble> {
    if params.url.trim().is_empty() {
        return Ok(empty(
            "Which request?",
            &html! {
                p { "Write a URL to see which route takes it, what its filters say, which backends could get it, and why not the others. Nothing is sent." }
                p { code { "weir explain GET http://shop.example/books" } }
            },
        ));
    }
    let headers: Vec<String> =
        params.headers.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let client = Some(params.client.trim()).filter(|client| !client.is_empty());
    let request = Request::read(method(params), params.url.trim(), &headers, client);
    let explained = app.explain(&request.map_err(AppError::from)?);
    Ok(html! {
        (route(&explained))
        @for pool in &explained.pools { (backends(pool)) }
        @if !explained.passed.is_empty() { (others(&explained)) }
    })
}

/// The route and its filters, or the response if no route matches.
fn route(explained: &Explained) -> Markup {
    html! {
        section class="card" aria-label="Route" {
            header {
                h2 { @match &explained.route { Some(route) => { "Route " (route) }, None => "No route takes it" } }
                p { "by revision " (explained.revision) }
            }
            @if let Some(answer) = &explained.answer { p class="note" { (badge("warn", "the node answers")) " " (answer) } }
            @if let Some(rewritten) = &explained.rewritten { p class="note" { "The backend is params for " code { (rewritten) } } }
            @for change in &explained.changes { p class="note" { "For the backend, the node " (change) } }
            @if explained.route.is_some() && explained.filters.is_empty() { p class="note" { "It has no filters." } }
            @if !explained.filters.is_empty() {
                div class="scroll" {
                    table class="stack" {
                        thead { tr { th scope="col" { "Filter" } th scope="col" { "Says" } th scope="col" { "Because" } } }
                        tbody {
                            @for Filter { filter, says, detail } in &explained.filters {
                                tr {
                                    th scope="row" class="mono" { (filter) }
                                    td data-label="Verdict" { (said(*says)) }
                                    td data-label="Because" { (detail) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn said(says: Verdict) -> Markup {
    match says {
        Verdict::Passes => badge("ok", "passes"),
        Verdict::Refuses => badge("bad", "refuses"),
        Verdict::Depends => badge("", "depends"),
    }
}

fn backends(explained: &ExplainedPool) -> Markup {
    let ExplainedPool { pool, because, strategy, panic, backends } = explained;
    html! {
        section class="card" aria-label=(format!("Pool {pool}")) {
            header { h2 { "Pool " (pool) } p { (strategy.to_string().replace('_', " ")) " · " (because) } }
            @if !panic.is_empty() {
                p class="note" { (badge("bad", "panic mode: backends that look dead are used")) " by " (panic.join(", ")) }
            }
            @if backends.is_empty() {
                p class="note" { (badge("warn", "no backend")) " The node answers 503. " a href="/ui/pools" { "Add one" } }
            } @else {
                div class="scroll" {
                    table class="stack" {
                        thead {
                            tr {
                                th scope="col" { "Backend" } th scope="col" class="n" { "Weight" }
                                th scope="col" { "Could be picked" } th scope="col" { "Because" }
                            }
                        }
                        tbody { @for backend in backends { (row(backend)) } }
                    }
                }
            }
        }
    }
}

fn row(backend: &ExplainedBackend) -> Markup {
    let ExplainedBackend { id, url, weight, may, because } = backend;
    html! {
        tr {
            th scope="row" { (url) " " span class="soft mono" { (id) } }
            td class="n" data-label="Weight" { (weight) }
            td data-label="Could be picked" { @if *may { (badge("ok", "yes")) } @else { (badge("bad", "no")) } }
            td class="soft" data-label="Because" { @if because.is_empty() { "–" } @else { (because.join("; ")) } }
        }
    }
}

fn others(explained: &Explained) -> Markup {
    html! {
        section class="card" aria-label="Other routes" {
            header { h2 { "Why no other route" } p { (explained.passed.len() + explained.more) @if explained.passed.len() + explained.more == 1 { " other" } @else { " others" } } }
            div class="scroll" {
                table class="stack" {
                    thead { tr { th scope="col" { "Route" } th scope="col" { "Because it" } } }
                    tbody {
                        @for SkippedRoute { route, because } in &explained.passed {
                            tr { th scope="row" { (route) } td data-label="Because it" { (because) } }
                        }
                    }
                }
            }
            @if explained.more > 0 { p class="note" { "and " (explained.more) " more" } }
        }
    }
}
