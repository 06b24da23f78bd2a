//! Pools and their backends, with the actions on them.

use maud::{Markup, html};
use weir_admin_api::{Backend, BackendState, BreakerState, Health, PoolStatus, TopItem};
use weir_snapshot::config::Strategy;

use super::{
    Trouble,
    format::{count, millis, percent},
    layout::badge,
    reports::refusals,
};
use crate::{
    app::App,
    stats::{Query, TopQuery},
};

pub(super) async fn page(app: &App) -> Result<Markup, Trouble> {
    let current = app.current();
    let works = app.status()?.pools;
    let query = Query { from: Some("-24h".into()), ..Query::default() };
    let by_pool =
        TopQuery { query, by: Some("pool".into()), limit: Some("1000".into()), ..TopQuery::default() };
    let carried = app.stats().top(&by_pool).await?.items;
    Ok(html! {
        @for pool in &current.config.pools {
            @let backends = app.backends(Some(&pool.name))?;
            @let work = works.iter().find(|work| work.name == pool.name);
            section class="card" aria-label=(format!("Pool {}", pool.name)) {
                header {
                    h2 { (pool.name) }
                    form class="inline" method="post" action=(format!("/ui/pools/{}/strategy", pool.name)) {
                        label {
                            "Strategy"
                            select name="strategy" {
                                @for (strategy, name) in Strategy::ALL {
                                    option value=(name) selected[strategy == pool.strategy] { (name.replace('_', " ")) }
                                }
                            }
                        }
                        button { "Change" }
                    }
                }
                @if backends.is_empty() {
                    div class="empty" {
                        h2 { "No backend in this pool" }
                        p { "Its routes answer 503 until there is one. Add its URL below." }
                    }
                } @else {
                    @if let Some(item) = carried.iter().find(|item| item.name == pool.name) { (counted(item)) }
                    @if let Some(work) = work { (happened(work)) }
                    div class="scroll" { (table(&backends)) }
                }
                form class="fields" method="post" action="/ui/backends" {
                    input type="hidden" name="pool" value=(pool.name);
                    label { "Add a backend" input name="url" type="url" required placeholder="http://127.0.0.1:8082"; }
                    label { "Weight" input class="short" name="weight" type="number" min="1" placeholder="1"; }
                    button class="primary" { "Add" }
                }
            }
        }
    })
}

/// The traffic of a pool or backend.
fn counted(item: &TopItem) -> Markup {
    html! {
        p class="note" {
            "In 24 hours: " (count(item.measures.requests)) " requests, " (percent(item.errors, item.measures.requests)) " errors, p99 "
            (millis(item.measures.latency_ms.p99))
            @if item.measures.refused.total() > 0 {
                " · " strong { (count(item.measures.refused.total())) " refused by Weir" } " (" (refusals(&item.measures.refused)) ")"
            }
        }
    }
}

/// Queued and retried requests, fallbacks and moved sessions, as counted by the nodes.
fn happened(work: &PoolStatus) -> Markup {
    let PoolStatus { panic, waiting, retries, retries_refused, fallbacks, refused, repinned, .. } = work;
    let counted: Vec<String> = [
        (*waiting, "waiting for room"),
        (*retries, "retries"),
        (*retries_refused, "retries beyond the budget"),
        (*refused, "refused for want of room"),
        (*fallbacks, "answered by the fallback"),
        (*repinned, "sessions moved"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, what)| format!("{} {what}", count(number)))
    .collect();
    html! {
        @if !panic.is_empty() {
            p class="note" { (badge("bad", "panic mode: backends that look dead are used, except on routes with a fallback")) " by " (panic.join(", ")) }
        }
        @if !counted.is_empty() { p class="note" { "Since the nodes started: " (counted.join(" · ")) } }
    }
}

fn table(backends: &[Backend]) -> Markup {
    html! {
        table class="stack" {
            thead {
                tr {
                    th scope="col" { "Backend" } th scope="col" { "Health" } th scope="col" { "Breaker" } th scope="col" { "State" }
                    th scope="col" class="n" { "Weight" } th scope="col" class="n" { "Requests now" }
                    th scope="col" { "Last check" }
                    th scope="col" { span class="visually-hidden" { "Actions" } }
                }
            }
            tbody { @for backend in backends { (row(backend)) } }
        }
    }
}

fn row(backend: &Backend) -> Markup {
    let Backend { id, url, weight, state, health, active_connections, last_check, sessions, .. } = backend;
    let health_kind = match *health {
        Health::Up => "ok",
        Health::Down => "bad",
        Health::Unknown => "",
    };
    let is_active = *state == BackendState::Active;
    html! {
        tr id=(format!("backend-{id}")) {
            th scope="row" { (url) " " span class="soft mono" { (id) } }
            td data-label="Health" { (badge(health_kind, health.as_str())) }
            td data-label="Breaker" { (breaker(backend)) }
            td data-label="State" {
                (badge(if is_active { "" } else { "warn" }, &state.to_string()))
                @if *state == BackendState::Draining { span class="soft" { " " (count(*sessions)) @if *sessions == 1 { " session" } @else { " sessions" } } }
            }
            td class="n" data-label="Weight" { (weight) }
            td class="n" data-label="Requests now" { (count(*active_connections)) }
            td class="soft" data-label="Last check" { @if last_check.is_empty() { "–" } @else { (last_check) } }
            td {
                form class="actions" method="post" action=(format!("/ui/backends/{id}")) {
                    @if is_active {
                        (button("drain", "Drain", url))
                        (button("disable", "Disable", url))
                    } @else {
                        (button("enable", "Enable", url))
                        (button("remove", "Remove", url))
                    }
                    (button("check", "Check", url))
                }
            }
        }
    }
}

fn breaker(backend: &Backend) -> Markup {
    let Backend { breaker, ejected_by, ejections, .. } = backend;
    let kind = match breaker {
        BreakerState::Open => "bad",
        BreakerState::HalfOpen => "warn",
        BreakerState::Closed => "",
    };
    html! {
        (badge(kind, &breaker.as_str().replace('_', " ")))
        @if !ejected_by.is_empty() { span class="soft" { " on " (ejected_by.join(", ")) } }
        @if *ejections > 0 { span class="soft" { " opened " (count(*ejections)) @if *ejections == 1 { " time" } @else { " times" } } }
    }
}

fn button(action: &str, text: &str, url: &str) -> Markup {
    let class = if action == "remove" { "danger" } else { "" };
    html! { button class=(class) name="action" value=(action) aria-label=(format!("{text} {url}")) { (text) } }
}
