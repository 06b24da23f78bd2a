//! The use cases of reports: parameters in, periods with exact counts out. REST and gRPC translate them.
//!
//! Percentiles come from merged histograms. The peak of a summary is the hour with the most requests, complete or
//! not, since what is missing could only raise it; the lowest is sought among complete hours only, so that neither
//! an outage nor the open hour is taken for a quiet one. Of equals the earliest is named.

use std::collections::BTreeMap;

use jiff::{Timestamp, ToSpan as _, Unit, Zoned};

use super::{
    batch::MAX_AHEAD_MS,
    counts::Sum,
    coverage::{Coverage, Nodes, State},
    cut::Cut,
    histogram::Latencies,
    period::{self, Per, Span},
    query::{self, Asked, Query, ReportError},
    rejected::Rejected,
};
use crate::store::Store;

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

/// One minute, hour or day.
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
    /// From a request's head to the end of its answer; without tunnels and streams.
    pub latency_ms: Latency,
    /// From a backend's turn, its connection included, to the head of its answer (or the 101); of all requests that a
    /// backend answered.
    pub upstream_ms: Latency,
    /// Attempts beyond each request's first.
    pub retries: u64,
    /// Those that Weir refused itself.
    pub rejected: Rejected,
    /// Those whose answer was cut before its end.
    pub cut: Cut,
    /// Tunnels, event streams and gRPC streams among the requests; they are not in `latency_ms`.
    pub streams: u64,
    /// How long these lasted, from the request's head to their end.
    pub stream_ms: Latency,
    /// False while it is open, when nobody reported it, or when a node that was expected has not reported all of it.
    pub complete: bool,
    /// Why it is complete or not.
    pub state: State,
    /// Who should have reported it, and who has.
    pub nodes: Nodes,
}

/// Minutes, hours or days, without gaps.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct Report {
    /// RFC 3339, the start of the first period.
    pub from: String,
    /// RFC 3339, the end of the last period.
    pub to: String,
    /// In order; those without traffic too.
    pub periods: Vec<Period>,
    /// False when some periods begin where the grain that is still kept does, and not where the time zone says: an hour
    /// (beyond the kept hours, a day) of UTC then counts to the period in which most of it lies.
    pub exact: bool,
}

/// An hour and its requests.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct PeriodCount {
    /// RFC 3339.
    pub start: String,
    /// Requests that ended in it.
    pub requests: u64,
}

/// As much time before a summary.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
#[schema(as = SummaryBefore)]
pub struct Before {
    /// RFC 3339.
    pub from: String,
    /// RFC 3339.
    pub to: String,
    /// Requests that ended in it.
    pub requests: u64,
    /// Requests by the status sent.
    pub status: BTreeMap<u16, u64>,
    /// Body bytes from clients.
    pub bytes_in: u64,
    /// Body bytes to clients.
    pub bytes_out: u64,
    /// From a request's head to the end of its answer; without tunnels and streams.
    pub latency_ms: Latency,
    /// From a backend's turn, its connection included, to the head of its answer (or the 101); of all requests that a
    /// backend answered.
    pub upstream_ms: Latency,
    /// Attempts beyond each request's first.
    pub retries: u64,
    /// Those that Weir refused itself.
    pub rejected: Rejected,
    /// Those whose answer was cut before its end.
    pub cut: Cut,
    /// Tunnels, event streams and gRPC streams among the requests; they are not in `latency_ms`.
    pub streams: u64,
    /// How long these lasted, from the request's head to their end.
    pub stream_ms: Latency,
    /// Every node that was expected has reported all of it.
    pub complete: bool,
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
    /// From a request's head to the end of its answer; without tunnels and streams.
    pub latency_ms: Latency,
    /// From a backend's turn, its connection included, to the head of its answer (or the 101); of all requests that a
    /// backend answered.
    pub upstream_ms: Latency,
    /// Attempts beyond each request's first.
    pub retries: u64,
    /// Those that Weir refused itself.
    pub rejected: Rejected,
    /// Those whose answer was cut before its end.
    pub cut: Cut,
    /// Tunnels, event streams and gRPC streams among the requests; they are not in `latency_ms`.
    pub streams: u64,
    /// How long these lasted, from the request's head to their end.
    pub stream_ms: Latency,
    /// The hour with the most requests; null when there was none.
    pub peak: Option<PeriodCount>,
    /// The complete hour with the fewest requests; null when no hour is complete.
    pub lowest: Option<PeriodCount>,
    /// The range is over, and every node that was expected has reported all of it: `state` is `complete`.
    pub complete: bool,
    /// As a period's: a range that reaches up to now is `open`, or `partial` when something of it is missing.
    pub state: State,
    /// Hours that nobody reported.
    pub gaps: u64,
    /// Who should have reported the range, and who has.
    pub nodes: Nodes,
    /// As much time before, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
}

/// A report by minutes, hours or days.
pub(super) async fn periods(
    store: &Store,
    query: &Query,
    per: Per,
    now: Timestamp,
) -> Result<Report, ReportError> {
    let mut asked = Asked::read(store, query, per, now).await?;
    asked.reach(1);
    let spans = asked.divided(per)?;
    let mut traffic = store.traffic().await?;
    let kept = traffic.kept().await?;
    let whole = Span {
        from: spans.first().map_or(&asked.span.from, |span| &span.from).clone(),
        to: spans.last().map_or(&asked.span.to, |span| &span.to).clone(),
    };
    if per == Per::Minute && whole.minutes().0 < kept.minutes_from {
        return Err(ReportError::invalid("from", "minutes are not kept for so long"));
    }
    let ranges: Vec<_> = spans.iter().map(|span| query::laid(span, kept)).collect();
    let exact = ranges.iter().zip(&spans).all(|(range, span)| *range == span.minutes());
    let (from_ms, to_ms) = whole.millis();
    let runs = traffic.runs(from_ms, to_ms).await?;
    let coverage = Coverage::new(&runs, &traffic.lost(from_ms, to_ms).await?);
    let sums = query::sums(&mut traffic, &ranges, &asked.filter).await?;
    let mut periods = Vec::with_capacity(spans.len());
    for (span, sum) in spans.iter().zip(sums) {
        let (from_ms, to_ms) = span.millis();
        let state = coverage.state(from_ms, to_ms, now.as_millisecond());
        periods.push(Period {
            start: period::rfc3339(&span.from),
            requests: sum.counts.requests,
            latency_ms: total_latency(&sum),
            upstream_ms: upstream_latency(&sum),
            streams: sum.counts.streams.len(),
            stream_ms: stream_duration(&sum),
            cut: sum.counts.cut,
            status: sum.status,
            bytes_in: sum.counts.bytes_in,
            bytes_out: sum.counts.bytes_out,
            retries: sum.counts.retries,
            rejected: sum.counts.rejected,
            complete: state == State::Complete,
            state,
            nodes: coverage.nodes(from_ms, to_ms),
        });
    }
    Ok(Report { from: period::rfc3339(&whole.from), to: period::rfc3339(&whole.to), periods, exact })
}

/// A whole range as one, to the minute.
pub(super) async fn summary(store: &Store, query: &Query, now: Timestamp) -> Result<Summary, ReportError> {
    let mut asked = Asked::read(store, query, Per::Day, now).await?;
    let (from_ms, to_ms) = asked.span.millis();
    let now_ms = now.as_millisecond();
    let to = period::rfc3339(&asked.span.to);
    let previous = before(&asked.span).map_err(|error| ReportError::invalid("from", error.to_string()))?;
    // A node whose clock is ahead counts into minutes that have not begun here: they are of now, too.
    asked.reach(MAX_AHEAD_MS);
    let hours = asked.divided(Per::Hour)?;
    let mut traffic = store.traffic().await?;
    let kept = traffic.kept().await?;
    // The hours at the ends may be cut.
    let within: Vec<Span> = hours
        .iter()
        .map(|hour| Span {
            from: hour.from.clone().max(asked.span.from.clone()),
            to: hour.to.clone().min(asked.span.to.clone()),
        })
        .collect();
    let from = previous.millis().0;
    let coverage = Coverage::new(&traffic.runs(from, now_ms).await?, &traffic.lost(from, now_ms).await?);
    let ranges: Vec<_> = within.iter().map(|span| query::laid(span, kept)).collect();
    let requests = query::requests(&mut traffic, &ranges, &asked.filter).await?;
    let mut peak: Option<(&Zoned, u64)> = None;
    let mut lowest: Option<(&Zoned, u64)> = None;
    let mut gaps = 0;
    for ((hour, within), requests) in hours.iter().zip(&within).zip(requests) {
        if requests > peak.map_or(0, |peak| peak.1) {
            peak = Some((&hour.from, requests));
        }
        let (hour_from_ms, hour_to_ms) = hour.millis();
        let state = coverage.state(hour_from_ms, hour_to_ms, now_ms);
        gaps += u64::from(state == State::Gap);
        if within == hour && state == State::Complete && lowest.is_none_or(|lowest| requests < lowest.1) {
            lowest = Some((&hour.from, requests));
        }
    }
    let count = |(start, requests): (&Zoned, u64)| PeriodCount { start: period::rfc3339(start), requests };
    let (peak, lowest) = (peak.map(count), lowest.map(count));
    let total = query::total(&mut traffic, query::laid(&asked.span, kept), &asked.filter).await?;
    let before = if query.compare {
        let sum = query::total(&mut traffic, query::laid(&previous, kept), &asked.filter).await?;
        let (from_ms, to_ms) = previous.millis();
        Some(Before {
            from: period::rfc3339(&previous.from),
            to: period::rfc3339(&previous.to),
            requests: sum.counts.requests,
            latency_ms: total_latency(&sum),
            upstream_ms: upstream_latency(&sum),
            streams: sum.counts.streams.len(),
            stream_ms: stream_duration(&sum),
            cut: sum.counts.cut,
            status: sum.status,
            bytes_in: sum.counts.bytes_in,
            bytes_out: sum.counts.bytes_out,
            retries: sum.counts.retries,
            rejected: sum.counts.rejected,
            complete: coverage.state_of_range(from_ms, to_ms, false, now_ms) == State::Complete,
        })
    } else {
        None
    };
    let state = coverage.state_of_range(from_ms, to_ms, asked.current, now_ms);
    Ok(Summary {
        from: period::rfc3339(&asked.span.from),
        to,
        requests: total.counts.requests,
        latency_ms: total_latency(&total),
        upstream_ms: upstream_latency(&total),
        streams: total.counts.streams.len(),
        stream_ms: stream_duration(&total),
        cut: total.counts.cut,
        status: total.status,
        bytes_in: total.counts.bytes_in,
        bytes_out: total.counts.bytes_out,
        retries: total.counts.retries,
        rejected: total.counts.rejected,
        peak,
        lowest,
        complete: state == State::Complete,
        state,
        gaps,
        nodes: coverage.nodes(from_ms, to_ms),
        before,
    })
}

/// As much time before a range: whole days before whole days, whatever clocks did meanwhile.
fn before(span: &Span) -> Result<Span, jiff::Error> {
    let Span { from, to } = span;
    let is_midnight = |time: &Zoned| time.start_of_day().is_ok_and(|midnight| midnight == *time);
    let start = if is_midnight(from) && is_midnight(to) {
        from.checked_sub(from.until((Unit::Day, to))?.get_days().days())?
    } else {
        from.checked_sub(from.duration_until(to))?
    };
    Ok(Span { from: start, to: from.clone() })
}

pub(super) fn total_latency(sum: &Sum) -> Latency {
    latency(&sum.counts.latency, sum.counts.latency_max_us)
}

pub(super) fn upstream_latency(sum: &Sum) -> Latency {
    latency(&sum.counts.upstream, sum.counts.upstream_max_us)
}

pub(super) fn stream_duration(sum: &Sum) -> Latency {
    latency(&sum.counts.streams, sum.counts.stream_max_us)
}

#[allow(clippy::cast_precision_loss)]
fn latency(latencies: &Latencies, max_us: u64) -> Latency {
    let millis = |micros: u64| micros as f64 / 1000.0;
    // A histogram answers the upper edge of a slot; nothing was slower than the exact maximum.
    let [p50, p90, p99] = latencies.percentiles().map(|micros| millis(micros.min(max_us)));
    Latency { p50, p90, p99, max: millis(max_us) }
}
