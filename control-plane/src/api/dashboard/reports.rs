//! Reports as charts, and as tables for users who cannot or do not want to read charts.

use maud::{Markup, html};
use weir_admin_api::{Completeness, Cut, Period, RefusalCounts, Summary, Top};

use super::{
    Trouble, chart,
    format::{bytes, count, millis, percent, time},
    layout::{badge, empty},
    overview::hours_missing,
    page_query::{self, METHODS, PageQuery},
};
use crate::{
    app::App,
    stats::{Query, TopQuery},
};

fn query(params: &PageQuery) -> Query {
    let given = |text: &String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    Query {
        from: given(&params.from),
        to: given(&params.to),
        route: given(&params.route),
        pool: given(&params.pool),
        backend: given(&params.backend),
        method: given(&params.method),
        host: given(&params.host),
        tz: given(&params.tz),
        compare: false,
    }
}

/// The form.
pub(super) fn form(app: &App, params: &PageQuery) -> Markup {
    let current = app.current();
    let routes: Vec<&str> = current.config.routes.iter().map(|route| route.name.as_str()).collect();
    let pools: Vec<&str> = current.config.pools.iter().map(|pool| pool.name.as_str()).collect();
    let methods = [&METHODS[..], &["OTHER"]].concat();
    html! {
        form class="card fields" method="get" action="/ui/reports" aria-label="What to report" {
            (choice("Each", "per", &params.per, &["hour", "day", "minute"], "hour"))
            label { "From" input name="from" value=(params.from) placeholder="-24h, 2026-11-21"; }
            label { "To" input name="to" value=(params.to) placeholder="now"; }
            (choice("Route", "route", &params.route, &routes, "all"))
            (choice("Pool", "pool", &params.pool, &pools, "all"))
            label { "Backend" input name="backend" value=(params.backend) placeholder="id or URL"; }
            (choice("Method", "method", &params.method, &methods, "all"))
            label { "Host" input name="host" value=(params.host) placeholder="shop.example"; }
            label { "Time zone" input name="tz" value=(params.tz) placeholder="UTC"; }
            button class="primary" { "Show" }
        }
    }
}

fn choice(label: &str, name: &str, is: &str, values: &[&str], none: &str) -> Markup {
    let values: Vec<&&str> = values.iter().filter(|value| **value != none).collect();
    html! {
        label {
            (label)
            select name=(name) data-submit {
                option value="" selected[is.is_empty()] { (none) }
                @if !is.is_empty() && !values.iter().any(|value| **value == is) {
                    // A deleted route still has counts.
                    option value=(is) selected { (is) }
                }
                @for value in values { option value=(value) selected[*value == is] { (value) } }
            }
        }
    }
}

pub(super) async fn page(app: &App, params: &PageQuery) -> Result<Markup, Trouble> {
    let stats = app.stats();
    let mut query = query(params);
    let (kind, per, report) = match params.per.as_str() {
        "minute" => ("minutely", "minute", stats.minutely(&query).await?),
        "day" => ("daily", "day", stats.daily(&query).await?),
        _ => ("hourly", "hour", stats.hourly(&query).await?),
    };
    // All parts of the page use the same range, also when the form gives none.
    query.from = Some(report.from.clone());
    let summary = stats.summary(&query).await?;
    if summary.measures.requests == 0 && summary.gaps == 0 {
        return Ok(empty(
            "Nothing was counted in this time",
            &html! {
                p { (time(&report.from)) " to " (time(&report.to)) ": ask for another time or for more, or send a request through a node. It is counted here within two seconds." }
            },
        ));
    }
    let mut tops: Vec<(&str, Top)> = Vec::new();
    if query.host.is_none() {
        for (title, by) in
            [("Routes", "route"), ("Backends", "backend"), ("Statuses", "status"), ("Methods", "method")]
        {
            tops.push((
                title,
                stats
                    .top(&TopQuery { query: query.clone(), by: Some(by.into()), ..TopQuery::default() })
                    .await?,
            ));
        }
        let filtered =
            [&query.route, &query.pool, &query.backend, &query.method].iter().any(|filter| filter.is_some());
        if !filtered {
            let hosts = TopQuery { query: query.clone(), by: Some("host".into()), ..TopQuery::default() };
            tops.push(("Hosts", stats.top(&hosts).await?));
        }
    }
    let link = PageQuery { per: String::new(), ..params.clone() };
    let link = |format: &str| format!("/reports/{kind}?format={format}{}", page_query::encode(&link));
    Ok(html! {
        (figures(&summary, per, &report.periods))
        section class="card" aria-label="Requests" {
            header {
                h2 { "Requests" }
                p { (time(&report.from)) " to " (time(&report.to)) " · " a href=(link("csv")) { "CSV" } " · " a href=(link("json")) { "JSON" } }
            }
            (chart::requests(&report.periods, "Requests by status"))
            @if !report.exact { p class="soft" { "Some periods begin with whole hours or days of UTC: finer counts are no longer kept." } }
        }
        section class="card" aria-label="Latency" {
            header { h2 { "Latency" } p { "from a request's head to the end of its answer, without tunnels and streams" } }
            (chart::latency(&report.periods, "Percentiles of latency"))
        }
        div class="two" {
            @for (title, top) in &tops {
                section class="card" { header { h2 { (title) } p { (top.names) " in all" } } (ranking(top)) }
            }
        }
        section class="card" aria-label="Numbers" {
            details { summary { "All numbers as a table" } div class="scroll" { (table(&report.periods)) } }
        }
    })
}

/// The totals of the range, with its busiest and quietest periods. `per` is the name of one period.
fn figures(summary: &Summary, per: &str, periods: &[Period]) -> Markup {
    let errors: u64 = summary.measures.status.range(500..).map(|(_, requests)| requests).sum();
    // The first of equal periods, as in a summary. Missing counts could only raise the busiest period, but would lower
    // the quietest one.
    let busiest = periods
        .iter()
        .rev()
        .filter(|period| period.measures.requests > 0)
        .max_by_key(|period| period.measures.requests);
    let quietest = periods
        .iter()
        .filter(|period| period.state == Completeness::Complete)
        .min_by_key(|period| period.measures.requests);
    let period = |period: Option<&Period>| match period {
        Some(period) => {
            html! { dd { (count(period.measures.requests)) } dd class="note" { (time(&period.start)) } }
        }
        None => html! { dd { "–" } dd class="note" { "no complete " (per) } },
    };
    html! {
        dl class="figures ten" {
            div class="figure" {
                dt { "Requests" } dd { (count(summary.measures.requests)) }
                dd class="note" {
                    (state_badge(summary.state))
                    @if summary.gaps > 0 { " " (hours_missing(summary.gaps)) }
                }
            }
            div class=(if errors > 0 { "figure warn" } else { "figure" }) {
                dt { "Errors" } dd { (percent(errors, summary.measures.requests)) } dd class="note" { (count(errors)) " answers of 5xx" }
            }
            div class="figure" {
                dt { "Latency p99" } dd { (millis(summary.measures.latency_ms.p99)) }
                dd class="note" { "p50 " (millis(summary.measures.latency_ms.p50)) ", slowest " (millis(summary.measures.latency_ms.max)) }
            }
            div class="figure" {
                dt { "Sent" } dd { (bytes(summary.measures.bytes_out)) } dd class="note" { (bytes(summary.measures.bytes_in)) " received" }
            }
            div class=(if summary.measures.refused.total() > 0 { "figure warn" } else { "figure" }) {
                dt { "Refused by Weir" } dd { (count(summary.measures.refused.total())) } dd class="note" { (refusals(&summary.measures.refused)) }
            }
            div class=(if summary.measures.cut.backend > 0 { "figure warn" } else { "figure" }) {
                dt { "Cut answers" } dd { (count(summary.measures.cut.total())) } dd class="note" { (cuts(&summary.measures.cut)) }
            }
            div class="figure" {
                dt { "Streams" } dd { (count(summary.measures.streams)) }
                dd class="note" {
                    @if summary.measures.streams == 0 { "tunnels and streams" }
                    @else { "p50 " (millis(summary.measures.stream_ms.p50)) ", longest " (millis(summary.measures.stream_ms.max)) }
                }
            }
            div class="figure" {
                dt { "Retries" } dd { (count(summary.measures.retries)) } dd class="note" { "attempts beyond the first" }
            }
            div class="figure" { dt { "Busiest " (per) } (period(busiest)) }
            div class="figure" { dt { "Quietest " (per) } (period(quietest)) }
        }
    }
}

/// Requests that Weir rejected itself, by reason.
pub(super) fn refusals(refused: &RefusalCounts) -> String {
    let counted = refused.each().filter(|(_, number)| *number > 0);
    let said: Vec<String> =
        counted.map(|(reason, number)| format!("{} {}", reason.label(), count(number))).collect();
    if said.is_empty() { "none".to_owned() } else { said.join(", ") }
}

/// Interrupted responses, by the side that closed them.
fn cuts(cut: &Cut) -> String {
    let counted = cut.each().into_iter().filter(|(_, number)| *number > 0);
    let said: Vec<String> = counted.map(|(side, number)| format!("by {side} {}", count(number))).collect();
    if said.is_empty() { "none".to_owned() } else { said.join(", ") }
}

/// A ranking as a short table.
pub(super) fn ranking(top: &Top) -> Markup {
    html! {
        @if top.items.is_empty() {
            p class="soft" { "Nothing was counted in this time. Send a request through a node, and it is here within two seconds." }
        } @else {
            div class="scroll" {
                table class="ranking" {
                    thead {
                        tr {
                            th scope="col" { (heading(&top.by)) } th scope="col" class="n" { "Requests" }
                            th scope="col" class="n" { "Errors" } th scope="col" class="n p50" { "p50" } th scope="col" class="n" { "p99" }
                        }
                    }
                    tbody {
                        @for item in &top.items {
                            tr {
                                th scope="row" class="mono" {
                                    @if let Some(url) = &item.url { (url) } @else if item.name.is_empty() { "none" } @else { (item.name) }
                                }
                                td class="n" { (count(item.measures.requests)) }
                                td class="n" { (percent(item.errors, item.measures.requests)) }
                                td class="n p50" { (millis(item.measures.latency_ms.p50)) }
                                td class="n" { (millis(item.measures.latency_ms.p99)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The ranking's name as a heading.
fn heading(by: &str) -> String {
    let mut letters = by.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn state_badge(state: Completeness) -> Markup {
    match state {
        Completeness::Complete => badge("ok", "complete"),
        Completeness::Open => badge("", "open"),
        Completeness::Partial => badge("warn", "partial"),
        Completeness::Gap => badge("bad", "not reported"),
        Completeness::None => badge("", "no nodes"),
    }
}

fn table(periods: &[Period]) -> Markup {
    let state = |period: &Period| state_badge(period.state);
    html! {
        table {
            thead {
                tr {
                    @for name in ["Start", "Requests", "Statuses", "Received", "Sent", "p50", "p90", "p99", "Slowest", "Retries", "Refused", "Cut", "Streams", "Nodes", "State"] {
                        th scope="col" class=[(!matches!(name, "Start" | "Statuses" | "Refused" | "Cut" | "State")).then_some("n")] { (name) }
                    }
                }
            }
            tbody {
                @for period in periods.iter().rev().take(1000) {
                    tr {
                        th scope="row" { (time(&period.start)) }
                        td class="n" { @if period.state == Completeness::Gap { "–" } @else { (period.measures.requests) } }
                        td { @for (status, requests) in &period.measures.status { (status) ": " (requests) " " } }
                        td class="n" { (bytes(period.measures.bytes_in)) }
                        td class="n" { (bytes(period.measures.bytes_out)) }
                        td class="n" { (millis(period.measures.latency_ms.p50)) }
                        td class="n" { (millis(period.measures.latency_ms.p90)) }
                        td class="n" { (millis(period.measures.latency_ms.p99)) }
                        td class="n" { (millis(period.measures.latency_ms.max)) }
                        td class="n" { (period.measures.retries) }
                        td { (refusals(&period.measures.refused)) }
                        td { (cuts(&period.measures.cut)) }
                        td class="n" { (period.measures.streams) }
                        td class="n" { (period.nodes.reported) "/" (period.nodes.expected) }
                        td { (state(period)) }
                    }
                }
            }
        }
    }
}
