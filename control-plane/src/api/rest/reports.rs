//! `/reports/hourly`, `/reports/daily`, `/reports/summary`: parameters in, JSON or CSV out.

use std::{collections::BTreeMap, fmt::Write as _};

use axum::{
    Json, Router,
    extract::{Query as Parameters, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header};
use weir_snapshot::Problems;

use crate::stats::{Latency, Query, Report, ReportError, Stats, Summary};

/// The routes, with their state.
pub fn router(stats: Stats) -> Router {
    Router::new()
        .route("/reports/hourly", get(hourly))
        .route("/reports/daily", get(daily))
        .route("/reports/summary", get(summary))
        .with_state(stats)
}

type Given = Result<Parameters<Vec<(String, String)>>, QueryRejection>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
}

async fn hourly(State(stats): State<Stats>, given: Given) -> Result<Response, ReportError> {
    let (query, format) = read(given)?;
    Ok(answer_report(&stats.hourly(&query).await?, format))
}

async fn daily(State(stats): State<Stats>, given: Given) -> Result<Response, ReportError> {
    let (query, format) = read(given)?;
    Ok(answer_report(&stats.daily(&query).await?, format))
}

async fn summary(State(stats): State<Stats>, given: Given) -> Result<Response, ReportError> {
    let (query, format) = read(given)?;
    let summary = stats.summary(&query).await?;
    Ok(match format {
        Format::Json => Json(summary).into_response(),
        Format::Csv => csv(summary_csv(&summary)),
    })
}

/// Reads the parameters. One that is unknown or given twice is a mistake: ignoring it would answer another question
/// than the one that was asked.
fn read(given: Given) -> Result<(Query, Format), ReportError> {
    let mut problems = Problems::default();
    let mut query = Query::default();
    let mut format = Format::Json;
    let mut seen = Vec::new();
    let Parameters(given) = given.map_err(|error| {
        let mut problems = Problems::default();
        problems.add("", error.body_text());
        ReportError::Invalid(problems)
    })?;
    for (name, value) in given {
        if seen.contains(&name) {
            problems.add(&name, "given twice");
            continue;
        }
        match name.as_str() {
            "from" => query.from = Some(value),
            "to" => query.to = Some(value),
            "route" => query.route = Some(value),
            "pool" => query.pool = Some(value),
            "backend" => query.backend = Some(value),
            "tz" => query.tz = Some(value),
            "format" if value == "json" => format = Format::Json,
            "format" if value == "csv" => format = Format::Csv,
            "format" => problems.add("format", format!("{value:?} is neither json nor csv")),
            unknown => {
                problems.add(unknown, "unknown parameter (known: from, to, route, pool, backend, tz, format)")
            }
        }
        seen.push(name);
    }
    problems.into_result((query, format)).map_err(ReportError::Invalid)
}

impl IntoResponse for ReportError {
    fn into_response(self) -> Response {
        let (status, title, detail, problems) = match self {
            ReportError::Invalid(problems) => {
                (StatusCode::BAD_REQUEST, "invalid parameters", problems.to_string(), problems.0)
            }
            ReportError::Store(error) => {
                tracing::error!(%error, "report failed");
                (StatusCode::INTERNAL_SERVER_ERROR, "report failed", "see the log".to_owned(), Vec::new())
            }
        };
        let body = serde_json::json!({
            "type": "about:blank",
            "title": title,
            "status": status.as_u16(),
            "detail": detail,
            "problems": problems,
        });
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
    }
}

fn answer_report(report: &Report, format: Format) -> Response {
    match format {
        Format::Json => Json(report).into_response(),
        Format::Csv => csv(report_csv(report)),
    }
}

fn csv(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response()
}

const COLUMNS: &str = "requests,bytes_in,bytes_out,retries,p50_ms,p90_ms,p99_ms,max_ms,complete";

/// One row a period. The statuses that occur are columns at the end. No value needs quoting.
fn report_csv(report: &Report) -> String {
    let mut statuses: Vec<u16> =
        report.periods.iter().flat_map(|period| period.status.keys().copied()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    let mut text = format!("start,{COLUMNS}");
    push_status_names(&mut text, &statuses);
    for period in &report.periods {
        let counts = [period.requests, period.bytes_in, period.bytes_out, period.retries];
        let _ = write!(text, "{},", period.start);
        push_counts(&mut text, counts, period.latency_ms, period.complete);
        push_statuses(&mut text, &statuses, &period.status);
    }
    text
}

fn summary_csv(summary: &Summary) -> String {
    let statuses: Vec<u16> = summary.status.keys().copied().collect();
    let mut text = format!("from,to,{COLUMNS},peak_start,peak_requests,lowest_start,lowest_requests");
    push_status_names(&mut text, &statuses);
    let _ = write!(text, "{},{},", summary.from, summary.to);
    let counts = [summary.requests, summary.bytes_in, summary.bytes_out, summary.retries];
    push_counts(&mut text, counts, summary.latency_ms, summary.complete);
    for hour in [&summary.peak, &summary.lowest] {
        let _ = match hour {
            Some(hour) => write!(text, ",{},{}", hour.start, hour.requests),
            None => write!(text, ",,"),
        };
    }
    push_statuses(&mut text, &statuses, &summary.status);
    text
}

fn push_status_names(text: &mut String, statuses: &[u16]) {
    for status in statuses {
        let _ = write!(text, ",status_{status}");
    }
    text.push('\n');
}

fn push_counts(text: &mut String, counts: [u64; 4], latency: Latency, complete: bool) {
    let [requests, bytes_in, bytes_out, retries] = counts;
    let Latency { p50, p90, p99, max } = latency;
    let _ = write!(text, "{requests},{bytes_in},{bytes_out},{retries},{p50},{p90},{p99},{max},{complete}");
}

fn push_statuses(text: &mut String, statuses: &[u16], counts: &BTreeMap<u16, u64>) {
    for status in statuses {
        let _ = write!(text, ",{}", counts.get(status).copied().unwrap_or(0));
    }
    text.push('\n');
}
