//! `/reports/…`: parameters in, JSON or CSV out.

use axum::{
    Json, Router,
    extract::{Query as Parameters, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header};
use weir_snapshot::Problems;

use super::{report_csv, tail};
use crate::stats::{Query, Report, ReportError, Stats, TopQuery};

/// The routes, with their state.
pub fn router(stats: Stats) -> Router {
    Router::new()
        .route("/reports/minutely", get(minutely))
        .route("/reports/hourly", get(hourly))
        .route("/reports/daily", get(daily))
        .route("/reports/summary", get(summary))
        .route("/reports/top", get(top))
        .route("/reports/tail", get(tail::tail))
        .with_state(stats)
}

type Given = Result<Parameters<Vec<(String, String)>>, QueryRejection>;

/// About what a period takes as JSON.
const PERIOD_BYTES: usize = 480;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
}

async fn minutely(State(stats): State<Stats>, given: Given) -> Result<Response, ReportError> {
    let (asked, format) = read(given, &[])?;
    Ok(answer_report(&stats.minutely(&asked.query).await?, format))
}

async fn hourly(State(stats): State<Stats>, given: Given) -> Result<Response, ReportError> {
    let (asked, format) = read(given, &[])?;
    Ok(answer_report(&stats.hourly(&asked.query).await?, format))
}

async fn daily(State(stats): State<Stats>, given: Given) -> Result<Response, ReportError> {
    let (asked, format) = read(given, &[])?;
    Ok(answer_report(&stats.daily(&asked.query).await?, format))
}

async fn summary(State(stats): State<Stats>, given: Given) -> Result<Response, ReportError> {
    let (asked, format) = read(given, &["compare"])?;
    let summary = stats.summary(&asked.query).await?;
    Ok(match format {
        Format::Json => Json(summary).into_response(),
        Format::Csv => csv(report_csv::summary(&summary)),
    })
}

async fn top(State(stats): State<Stats>, given: Given) -> Result<Response, ReportError> {
    let (asked, format) = read(given, &["by", "sort", "limit"])?;
    let top = stats.top(&asked).await?;
    Ok(match format {
        Format::Json => Json(top).into_response(),
        Format::Csv => csv(report_csv::top(&top)),
    })
}

/// Reads the parameters, those that every report has and `more`. One that is unknown or given twice is a mistake:
/// ignoring it would answer another question than the one that was asked.
fn read(given: Given, more: &[&str]) -> Result<(TopQuery, Format), ReportError> {
    let mut problems = Problems::default();
    let mut asked = TopQuery::default();
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
        let Query { from, to, route, pool, backend, method, host, tz, compare } = &mut asked.query;
        match name.as_str() {
            "from" => *from = Some(value),
            "to" => *to = Some(value),
            "route" => *route = Some(value),
            "pool" => *pool = Some(value),
            "backend" => *backend = Some(value),
            "method" => *method = Some(value),
            "host" => *host = Some(value),
            "tz" => *tz = Some(value),
            "format" if value == "json" => format = Format::Json,
            "format" if value == "csv" => format = Format::Csv,
            "format" => problems.add("format", format!("{value:?} is neither json nor csv")),
            "compare" if more.contains(&"compare") => match value.parse() {
                Ok(value) => *compare = value,
                Err(_) => problems.add("compare", format!("{value:?} is neither true nor false")),
            },
            "by" if more.contains(&"by") => asked.by = Some(value),
            "sort" if more.contains(&"sort") => asked.sort = Some(value),
            "limit" if more.contains(&"limit") => asked.limit = Some(value),
            unknown => {
                let known = ["from, to, route, pool, backend, method, host, tz, format"];
                let known: Vec<&str> = known.iter().chain(more).copied().collect();
                problems.add(unknown, format!("unknown parameter (known: {})", known.join(", ")));
            }
        }
        seen.push(name);
    }
    problems.into_result((asked, format)).map_err(ReportError::Invalid)
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
        Format::Json => {
            // A year of hours is megabytes: room for it from the start, and no detour for each of its pieces.
            let mut text = Vec::with_capacity(PERIOD_BYTES * (report.periods.len() + 1));
            match serde_json::to_writer(&mut text, report) {
                Ok(()) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
                Err(_) => Json(report).into_response(),
            }
        }
        Format::Csv => csv(report_csv::report(report)),
    }
}

fn csv(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response()
}
