//! The start page: the current state, and traffic over the last hour and day.

use maud::{Markup, html};
use weir_admin_api::{Backend, BackendState, BreakerState, Summary};

use super::{
    Trouble, attention, chart,
    format::{bytes, count, millis, percent},
    layout::{badge, empty, start_a_node},
    reports::{ranking, refusals},
};
use crate::{
    app::App,
    stats::{Query, TopQuery},
};

pub(super) async fn page(app: &App) -> Result<Markup, Trouble> {
    let status = app.status()?;
    let stats = app.stats();
    let since = |from: &str| Query { from: Some(from.to_owned()), ..Query::default() };
    let minutes = stats.minutely(&Query::default()).await?;
    let hours = stats.hourly(&Query::default()).await?;
    let day = stats.summary(&Query { compare: true, ..since("-24h") }).await?;
    let five = stats.summary(&since("-5m")).await?;
    let slowest =
        TopQuery { query: since("-24h"), sort: Some("slowest".into()), limit: Some("5".into()), by: None };
    let slowest = stats.top(&slowest).await?;
    let hosts =
        TopQuery { query: since("-24h"), by: Some("host".into()), limit: Some("5".into()), sort: None };
    let hosts = stats.top(&hosts).await?;

    let connected = status.nodes.iter().filter(|node| node.connected).count();
    let usable = |one: &Backend| one.state == BackendState::Active;
    let down = status.backends.iter().filter(|one| usable(one) && !one.alive).count();
    let active = status.backends.iter().filter(|one| usable(one)).count();
    let ejected =
        status.backends.iter().filter(|one| usable(one) && one.breaker == BreakerState::Open).count();
    let behind =
        status.nodes.iter().filter(|node| node.connected && node.active_revision < status.revision).count();
    let errors =
        |status: &std::collections::BTreeMap<u16, u64>| status.range(500..).map(|(_, n)| n).sum::<u64>();
    let failing = errors(&five.measures.status);
    let kind = |bad: bool, warn: bool| match (bad, warn) {
        (true, _) => "figure bad",
        (_, true) => "figure warn",
        _ => "figure",
    };
    Ok(html! {
        @if connected == 0 {
            (empty("No node is connected", &html! {
                (start_a_node())
            }))
        } @else if status.backends.is_empty() {
            (empty("There is no backend yet", &html! {
                p { "Requests are answered with 503 until there is one. " a href="/ui/pools" { "Add the first backend" } ", or:" }
                p { code { "weir backends add http://127.0.0.1:8082" } }
            }))
        } @else if day.measures.requests == 0 {
            (empty("No request has come yet", &html! {
                p { "Send one to any node, and it is counted here within two seconds:" }
                p { code { "curl http://" (status.nodes.first().map_or("127.0.0.1:8080", |node| node.address.as_str())) "/" } }
            }))
        }
        (attention::section(&status))
        dl class="figures" {
            div class="figure" {
                dt { "Requests, 5 min" }
                dd { (count(five.measures.requests)) }
                @if day.measures.requests > 0 { dd class="spark" { (chart::sparkline(&hours.periods)) } }
                dd class="note" { (format!("{:.1}", per_second(five.measures.requests, jiff::Timestamp::now().as_second()))) " a second" }
            }
            div class=(kind(failing * 20 > five.measures.requests, failing > 0)) {
                dt { "Errors, 5 min" }
                dd { (percent(failing, five.measures.requests)) }
                dd class="note" { (count(failing)) " answers of 5xx" }
            }
            div class="figure" {
                dt { "Latency p99, 5 min" }
                dd { (latency(&five, five.measures.latency_ms.p99)) }
                dd class="note" { "p50 " (latency(&five, five.measures.latency_ms.p50)) ", backends p99 " (latency(&five, five.measures.upstream_ms.p99)) }
            }
            div class=(kind(false, five.measures.refused.total() > 0)) {
                dt { "Refused, 5 min" }
                dd { (count(five.measures.refused.total())) }
                dd class="note" { (refusals(&five.measures.refused)) }
            }
            div class=(kind(down > 0, active == 0 || ejected > 0)) {
                dt { "Backends up" }
                dd { (active - down) small { " of " (active) } }
                dd class="note" {
                    (status.backends.len() - active) " draining or disabled"
                    @if ejected > 0 { ", " (ejected) " ejected by breakers" }
                }
            }
            div class=(kind(connected == 0, behind > 0)) {
                dt { "Nodes connected" }
                dd { (connected) small { " of " (status.nodes.len()) } }
                dd class="note" { "revision " (status.revision) @if behind > 0 { ", " (behind) " behind" } }
            }
        }
        @if day.measures.requests > 0 || day.gaps > 0 {
            section class="card" aria-label="The last hour" {
                header { h2 { "The last hour" } p { "requests a minute, by status" } }
                (chart::requests(&minutes.periods, "Requests of each minute of the last hour"))
            }
            section class="card" aria-label="The last 24 hours" {
                header {
                    h2 { "The last 24 hours" }
                    p {
                        (count(day.measures.requests)) " requests, " (percent(errors(&day.measures.status), day.measures.requests)) " errors, "
                        (bytes(day.measures.bytes_out)) " sent "
                        @if let Some(before) = &day.before { (change(day.measures.requests, before.measures.requests)) }
                        @if day.gaps > 0 { " " (badge("warn", &hours_missing(day.gaps))) }
                    }
                }
                (chart::requests(&hours.periods, "Requests of each hour of the last day"))
                p { a href="/ui/reports" { "All reports" } }
            }
            section class="card" aria-label="Latency over 24 hours" {
                header { h2 { "Latency" } p { "percentiles of each hour, 24 hours" } }
                (chart::latency(&hours.periods, "Percentiles of each hour of the last day"))
            }
            div class="two" {
                section class="card" { header { h2 { "Slowest routes" } p { "by p99, 24 hours" } } (ranking(&slowest)) }
                section class="card" { header { h2 { "Busiest hosts" } p { "24 hours" } } (ranking(&hosts)) }
            }
        }
    })
}

/// The part of the range that no node reported.
pub(super) fn hours_missing(gaps: u64) -> String {
    if gaps == 1 { "1 hour not reported".to_owned() } else { format!("{gaps} hours not reported") }
}

/// Without requests there is no latency.
fn latency(of: &Summary, ms: f64) -> String {
    if of.measures.requests == 0 { "–".to_owned() } else { millis(ms) }
}

/// The rate over the last five minutes. The range starts at a whole minute, so the number of seconds counted varies.
#[allow(clippy::cast_precision_loss, reason = "one digit is shown")]
fn per_second(requests: u64, now: i64) -> f64 {
    requests as f64 / (241 + (now - 1).rem_euclid(60)) as f64
}

#[allow(clippy::cast_precision_loss, reason = "one digit is shown")]
fn change(now: u64, before: u64) -> Markup {
    html! {
        @if before > 0 {
            "(" (format!("{:+.0}", (now as f64 - before as f64) / before as f64 * 100.0)) " % to the day before)"
        }
    }
}
