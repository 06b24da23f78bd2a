//! The use cases of reports: parameters in, periods with exact counts out. REST and gRPC translate them.
//!
//! Percentiles come from merged histograms. The peak of a summary is the hour with the most requests, complete or
//! not, since what is missing could only raise it; the lowest is sought among complete hours only, so that neither
//! an outage nor the open hour is taken for a quiet one. Of equals the earliest is named.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, ToSpan as _, Zoned, tz::TimeZone};
use weir_snapshot::{BackendUrl, Problems};

use super::{
    batch::MAX_AHEAD_MS,
    coverage::Coverage,
    fold::Counts,
    period::{self, Per, Span},
};
use crate::store::{
    Store,
    stats::{Filter, Traffic},
};

/// Hours that one report may have: more than two years.
const MAX_HOURS: usize = 20_000;
/// Days that one report may have: about ten years.
const MAX_DAYS: usize = 4_000;

/// What a report is asked for; absent is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// The beginning: RFC 3339, a date, or back from now as `-2h`.
    pub from: Option<String>,
    /// The end, excluded; a date includes its day.
    pub to: Option<String>,
    /// Only this route.
    pub route: Option<String>,
    /// Only this pool.
    pub pool: Option<String>,
    /// Only this backend, by id or by URL.
    pub backend: Option<String>,
    /// The IANA name of the time zone of hours, days and dates; UTC when absent.
    pub tz: Option<String>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Parameters are wrong; every mistake is listed under its parameter's name.
    #[error("{0}")]
    Invalid(Problems),
    /// The database failed; details are for the log.
    #[error("the statistics cannot be read: {0}")]
    Store(#[from] sqlx::Error),
}

/// Percentiles in milliseconds; all 0 when there was no request.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, utoipa::ToSchema)]
#[schema(as = ReportLatency)]
pub struct Latency {
    /// Half of the requests were as fast.
    pub p50: f64,
    /// Nine in ten.
    pub p90: f64,
    /// 99 in a hundred.
    pub p99: f64,
    /// The slowest, exact.
    pub max: f64,
}

/// One hour or day.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
#[schema(as = ReportPeriod)]
pub struct Period {
    /// RFC 3339.
    pub start: String,
    /// Requests that ended in it.
    pub requests: u64,
    /// Requests by the status sent.
    pub status: BTreeMap<u16, u64>,
    /// Body bytes from clients.
    pub bytes_in: u64,
    /// Body bytes to clients.
    pub bytes_out: u64,
    /// From a request's head to the end of its answer.
    pub latency_ms: Latency,
    /// Attempts beyond each request's first.
    pub retries: u64,
    /// False while it is open, when nobody reported it, or when a node that was expected has not reported all of it.
    pub complete: bool,
}

/// Hours or days, without gaps.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct Report {
    /// RFC 3339, the start of the first period.
    pub from: String,
    /// RFC 3339, the end of the last period.
    pub to: String,
    /// In order; those without traffic too.
    pub periods: Vec<Period>,
}

/// An hour and its requests.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct PeriodCount {
    /// RFC 3339.
    pub start: String,
    /// Requests that ended in it.
    pub requests: u64,
}

/// A whole range as one.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct Summary {
    /// RFC 3339.
    pub from: String,
    /// RFC 3339.
    pub to: String,
    /// Requests that ended in the range.
    pub requests: u64,
    /// Requests by the status sent.
    pub status: BTreeMap<u16, u64>,
    /// Body bytes from clients.
    pub bytes_in: u64,
    /// Body bytes to clients.
    pub bytes_out: u64,
    /// From a request's head to the end of its answer.
    pub latency_ms: Latency,
    /// Attempts beyond each request's first.
    pub retries: u64,
    /// The hour with the most requests; null when there was none.
    pub peak: Option<PeriodCount>,
    /// The complete hour with the fewest requests; null when no hour is complete.
    pub lowest: Option<PeriodCount>,
    /// Every node that was expected has reported all of the range, or for a range that ends now, up to a minute ago.
    pub complete: bool,
}

/// A report by hours or days.
pub(super) async fn periods(
    store: &Store,
    query: &Query,
    per: Per,
    now: Timestamp,
) -> Result<Report, ReportError> {
    let mut asked = Asked::read(store, query, per, now).await?;
    asked.reach(1);
    let limit = if per == Per::Hour { MAX_HOURS } else { MAX_DAYS };
    let spans = asked.divided(per, limit)?;
    let mut traffic = store.traffic().await?;
    let coverage = Coverage::new(&traffic.runs().await?, &traffic.lost().await?);
    let mut periods = Vec::with_capacity(spans.len());
    for span in &spans {
        let total = Total::read(&mut traffic, span, &asked.filter).await?;
        let (from_ms, to_ms) = span.millis();
        periods.push(Period {
            start: period::rfc3339(&span.from),
            requests: total.counts.requests,
            latency_ms: total.latency(),
            status: total.status,
            bytes_in: total.counts.bytes_in,
            bytes_out: total.counts.bytes_out,
            retries: total.counts.retries,
            complete: coverage.is_complete(from_ms, to_ms, now.as_millisecond()),
        });
    }
    Ok(Report {
        from: period::rfc3339(spans.first().map_or(&asked.span.from, |span| &span.from)),
        to: period::rfc3339(spans.last().map_or(&asked.span.to, |span| &span.to)),
        periods,
    })
}

/// A whole range as one, to the minute.
pub(super) async fn summary(store: &Store, query: &Query, now: Timestamp) -> Result<Summary, ReportError> {
    let mut asked = Asked::read(store, query, Per::Day, now).await?;
    let (from_ms, to_ms) = asked.span.millis();
    let to = period::rfc3339(&asked.span.to);
    // A node whose clock is ahead counts into minutes that have not begun here: they are of now, too.
    asked.reach(MAX_AHEAD_MS);
    let hours = asked.divided(Per::Hour, MAX_HOURS)?;
    let mut traffic = store.traffic().await?;
    let coverage = Coverage::new(&traffic.runs().await?, &traffic.lost().await?);
    let now_ms = now.as_millisecond();
    let mut total = Total::default();
    let mut peak: Option<PeriodCount> = None;
    let mut lowest: Option<PeriodCount> = None;
    for hour in &hours {
        let within = Span {
            from: hour.from.clone().max(asked.span.from.clone()),
            to: hour.to.clone().min(asked.span.to.clone()),
        };
        let part = Total::read(&mut traffic, &within, &asked.filter).await?;
        total.add(&part);
        let requests = part.counts.requests;
        let count = || Some(PeriodCount { start: period::rfc3339(&hour.from), requests });
        if requests > peak.as_ref().map_or(0, |peak| peak.requests) {
            peak = count();
        }
        let (hour_from_ms, hour_to_ms) = hour.millis();
        if within == *hour
            && lowest.as_ref().is_none_or(|lowest| requests < lowest.requests)
            && coverage.is_complete(hour_from_ms, hour_to_ms, now_ms)
        {
            lowest = count();
        }
    }
    Ok(Summary {
        from: period::rfc3339(&asked.span.from),
        to,
        requests: total.counts.requests,
        latency_ms: total.latency(),
        status: total.status,
        bytes_in: total.counts.bytes_in,
        bytes_out: total.counts.bytes_out,
        retries: total.counts.retries,
        peak,
        lowest,
        complete: if asked.current {
            coverage.is_current(from_ms, now_ms)
        } else {
            coverage.is_complete(from_ms, to_ms, now_ms)
        },
    })
}

/// A query whose parameters were checked.
struct Asked {
    span: Span,
    /// The range goes up to now.
    current: bool,
    filter: Filter,
}

impl Asked {
    async fn read(store: &Store, query: &Query, per: Per, now: Timestamp) -> Result<Self, ReportError> {
        let mut problems = Problems::default();
        let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let zone = match given(&query.tz) {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(&name).unwrap_or_else(|_| {
                problems.add("tz", format!("{name:?} is not an IANA time zone (write Europe/Berlin)"));
                TimeZone::UTC
            }),
        };
        let now = now.to_zoned(zone.clone());
        let mut time = |name: &str, value: &Option<String>, end: bool| {
            let time = given(value).map(|text| period::parse(&text, end, &zone, &now))?;
            time.map_err(|message| problems.add(name, message)).ok()
        };
        let to = time("to", &query.to, true);
        let from = time("from", &query.from, false);
        // What is yet to come has no counts.
        let to = to.unwrap_or_else(|| now.clone()).min(now.clone());
        let current = to == now;
        let from = from.map_or_else(|| default_from(per, &to), Ok);
        let backends = match given(&query.backend) {
            None => None,
            Some(url) if url.contains("://") => match url.parse::<BackendUrl>().map(|url| url.to_string()) {
                Err(message) => {
                    problems.add("backend", message);
                    None
                }
                Ok(canonical) => {
                    let ids = store.backends_by_url(&canonical).await?;
                    if ids.is_none() {
                        problems.add("backend", format!("no backend has or had the URL {url:?}"));
                    }
                    ids
                }
            },
            Some(id) => Some(serde_json::Value::from(vec![id]).to_string()),
        };
        let from = from.unwrap_or_else(|error| {
            problems.add("from", error.to_string());
            to.clone()
        });
        if problems.0.is_empty() && from >= to {
            let (from, to) = (period::rfc3339(&from), period::rfc3339(&to));
            problems.add("from", format!("{from} is not before the end of the range, {to}"));
        }
        let asked = Self {
            span: Span { from, to },
            current,
            filter: Filter { route: given(&query.route), pool: given(&query.pool), backends },
        };
        problems.into_result(asked).map_err(ReportError::Invalid)
    }

    /// Moves the end of a range that goes up to now: the moment itself belongs to it.
    fn reach(&mut self, ahead_ms: i64) {
        if self.current {
            let end = self.span.to.checked_add(SignedDuration::from_millis(ahead_ms));
            self.span.to = end.unwrap_or_else(|_| self.span.to.clone());
        }
    }

    fn divided(&self, per: Per, limit: usize) -> Result<Vec<Span>, ReportError> {
        let invalid = |message: String| {
            let mut problems = Problems::default();
            problems.add("from", message);
            ReportError::Invalid(problems)
        };
        match per.periods(&self.span, limit) {
            Ok(Some(periods)) => Ok(periods),
            Ok(None) => Err(invalid(format!("the range has more than {limit} periods"))),
            Err(error) => Err(invalid(error.to_string())),
        }
    }
}

/// The open period and those before it: 24 hours or 30 days together.
fn default_from(per: Per, to: &Zoned) -> Result<Zoned, jiff::Error> {
    match per {
        Per::Hour => per.start(to)?.checked_sub(SignedDuration::from_hours(23)),
        Per::Day => per.start(to)?.checked_sub(29.days()),
    }
}

/// Counts over all keys.
#[derive(Default)]
struct Total {
    counts: Counts,
    status: BTreeMap<u16, u64>,
}

impl Total {
    async fn read(traffic: &mut Traffic, span: &Span, filter: &Filter) -> Result<Self, sqlx::Error> {
        let (from, to) = span.minutes();
        let mut total = Self::default();
        for (grain, from, to) in period::grains(from, to) {
            for stored in traffic.counts(grain, from, to, filter).await? {
                let requests = total.status.entry(stored.status).or_default();
                *requests = requests.saturating_add(stored.requests);
                total.counts.add(&Counts::try_from(&stored)?);
            }
        }
        Ok(total)
    }

    fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        for (status, requests) in &other.status {
            *self.status.entry(*status).or_default() += requests;
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn latency(&self) -> Latency {
        let millis = |micros: u64| micros as f64 / 1000.0;
        // A histogram answers the upper edge of a bucket; nothing was slower than the exact maximum.
        let at = |quantile| {
            millis(self.counts.latency.value_at_quantile(quantile).min(self.counts.latency_max_us))
        };
        Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: millis(self.counts.latency_max_us) }
    }
}
