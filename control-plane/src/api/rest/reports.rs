//! `/reports/…`: parameters in, JSON or CSV out.

use axum::Router;
use weir_admin_api::{Format, Report, ReportQuery, Summary, SummaryQuery, Top, TopQuery, operations};

use super::{
    problem::Refusal,
    serve::{Call, Served},
    tail,
};
use crate::stats::{Query, Stats, TopQuery as Ranking};

/// The router of the reports, with its state.
pub fn router(stats: Stats) -> Router {
    served().finish().0.with_state(stats)
}

pub(super) fn served() -> Served<Stats> {
    Served::new()
        .serve(&operations::GET_MINUTELY, minutely)
        .serve(&operations::GET_HOURLY, hourly)
        .serve(&operations::GET_DAILY, daily)
        .serve(&operations::GET_SUMMARY, summary)
        .serve(&operations::GET_TOP, top)
        .serve(&operations::TAIL, tail::tail)
}

fn query(given: ReportQuery) -> (Query, Format) {
    let ReportQuery { from, to, route, pool, backend, method, host, tz, format } = given;
    let compare = false;
    (Query { from, to, route, pool, backend, method, host, tz, compare }, format.unwrap_or_default())
}

async fn minutely(call: Call<(), ReportQuery, (), Stats>) -> Result<(Report, Format), Refusal> {
    let (query, format) = query(call.query);
    Ok((call.app.minutely(&query).await?, format))
}

async fn hourly(call: Call<(), ReportQuery, (), Stats>) -> Result<(Report, Format), Refusal> {
    let (query, format) = query(call.query);
    Ok((call.app.hourly(&query).await?, format))
}

async fn daily(call: Call<(), ReportQuery, (), Stats>) -> Result<(Report, Format), Refusal> {
    let (query, format) = query(call.query);
    Ok((call.app.daily(&query).await?, format))
}

async fn summary(call: Call<(), SummaryQuery, (), Stats>) -> Result<(Summary, Format), Refusal> {
    let SummaryQuery { from, to, route, pool, backend, method, host, tz, format, compare } = call.query;
    let query = Query { from, to, route, pool, backend, method, host, tz, compare };
    Ok((call.app.summary(&query).await?, format.unwrap_or_default()))
}

async fn top(call: Call<(), TopQuery, (), Stats>) -> Result<(Top, Format), Refusal> {
    let TopQuery { from, to, route, pool, backend, method, host, tz, format, by, sort, limit } = call.query;
    let query = Query { from, to, route, pool, backend, method, host, tz, compare: false };
    Ok((call.app.top(&Ranking { query, by, sort, limit }).await?, format.unwrap_or_default()))
}
