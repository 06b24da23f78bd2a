//! The use cases of reports: they take parameters and return periods with exact counts. REST and gRPC translate them.
//!
//! Percentiles come from merged histograms. The peak of a summary is the hour with the most requests, complete or not,
//! because missing counts could only raise it. The lowest hour is chosen among complete hours only, so that neither an
//! outage nor the open hour is taken for a quiet one. Of equal hours, the earliest is reported.

use jiff::{Timestamp, ToSpan as _, Unit, Zoned};
use weir_admin_api::{Completeness, Latency, Measures, Period, PeriodCount, Report, Summary, SummaryBefore};

use super::{
    batch::MAX_AHEAD_MS,
    counts::Sum,
    coverage::Coverage,
    histogram::Latencies,
    period::{self, Per, Span},
    query::{self, CheckedQuery, Query, ReportError},
};
use crate::store::Store;

/// A report by minutes, hours or days.
pub(super) async fn periods(
    store: &Store,
    query: &Query,
    per: Per,
    now: Timestamp,
) -> Result<Report, ReportError> {
    let mut checked = CheckedQuery::read(store, query, per, now).await?;
    checked.reach(1);
    let spans = checked.divided(per)?;
    let mut traffic = store.traffic().await?;
    let kept = traffic.kept().await?;
    let whole = Span {
        from: spans.first().map_or(&checked.span.from, |span| &span.from).clone(),
        to: spans.last().map_or(&checked.span.to, |span| &span.to).clone(),
    };
    if per == Per::Minute && whole.minutes().0 < kept.minutes_from {
        return Err(ReportError::invalid("from", "minutes are not kept for so long"));
    }
    let ranges: Vec<_> = spans.iter().map(|span| query::laid(span, kept)).collect();
    let exact = ranges.iter().zip(&spans).all(|(range, span)| *range == span.minutes());
    let (from_ms, to_ms) = whole.millis();
    let runs = traffic.runs(from_ms, to_ms).await?;
    let coverage = Coverage::new(&runs, &traffic.lost(from_ms, to_ms).await?);
    let sums = query::sums(&mut traffic, &ranges, &checked.filter).await?;
    let mut periods = Vec::with_capacity(spans.len());
    for (span, sum) in spans.iter().zip(sums) {
        let (from_ms, to_ms) = span.millis();
        let state = coverage.state(from_ms, to_ms, now.as_millisecond());
        periods.push(Period {
            start: period::rfc3339(&span.from),
            measures: measures(sum),
            complete: state == Completeness::Complete,
            state,
            nodes: coverage.nodes(from_ms, to_ms),
        });
    }
    Ok(Report { from: period::rfc3339(&whole.from), to: period::rfc3339(&whole.to), periods, exact })
}

/// The totals of a whole range, to the minute.
pub(super) async fn summary(store: &Store, query: &Query, now: Timestamp) -> Result<Summary, ReportError> {
    let mut checked = CheckedQuery::read(store, query, Per::Day, now).await?;
    let (from_ms, to_ms) = checked.span.millis();
    let now_ms = now.as_millisecond();
    let to = period::rfc3339(&checked.span.to);
    let previous = before(&checked.span).map_err(|error| ReportError::invalid("from", error.to_string()))?;
    // A node whose clock is ahead counts into minutes that have not begun here. They belong to the current range, too.
    checked.reach(MAX_AHEAD_MS);
    let hours = checked.divided(Per::Hour)?;
    let mut traffic = store.traffic().await?;
    let kept = traffic.kept().await?;
    // The first and the last hour may be partial.
    let within: Vec<Span> = hours
        .iter()
        .map(|hour| Span {
            from: hour.from.clone().max(checked.span.from.clone()),
            to: hour.to.clone().min(checked.span.to.clone()),
        })
        .collect();
    let from = previous.millis().0;
    let coverage = Coverage::new(&traffic.runs(from, now_ms).await?, &traffic.lost(from, now_ms).await?);
    let ranges: Vec<_> = within.iter().map(|span| query::laid(span, kept)).collect();
    let requests = query::requests(&mut traffic, &ranges, &checked.filter).await?;
    let mut peak: Option<(&Zoned, u64)> = None;
    let mut lowest: Option<(&Zoned, u64)> = None;
    let mut gaps = 0;
    for ((hour, within), requests) in hours.iter().zip(&within).zip(requests) {
        if requests > peak.map_or(0, |peak| peak.1) {
            peak = Some((&hour.from, requests));
        }
        let (hour_from_ms, hour_to_ms) = hour.millis();
        let state = coverage.state(hour_from_ms, hour_to_ms, now_ms);
        gaps += u64::from(state == Completeness::Gap);
        if within == hour
            && state == Completeness::Complete
            && lowest.is_none_or(|lowest| requests < lowest.1)
        {
            lowest = Some((&hour.from, requests));
        }
    }
    let count = |(start, requests): (&Zoned, u64)| PeriodCount { start: period::rfc3339(start), requests };
    let (peak, lowest) = (peak.map(count), lowest.map(count));
    let total = query::total(&mut traffic, query::laid(&checked.span, kept), &checked.filter).await?;
    let before = if query.compare {
        let sum = query::total(&mut traffic, query::laid(&previous, kept), &checked.filter).await?;
        let (from_ms, to_ms) = previous.millis();
        Some(SummaryBefore {
            from: period::rfc3339(&previous.from),
            to: period::rfc3339(&previous.to),
            measures: measures(sum),
            complete: coverage.state_of_range(from_ms, to_ms, false, now_ms) == Completeness::Complete,
        })
    } else {
        None
    };
    let state = coverage.state_of_range(from_ms, to_ms, checked.current, now_ms);
    Ok(Summary {
        from: period::rfc3339(&checked.span.from),
        to,
        measures: measures(total),
        peak,
        lowest,
        complete: state == Completeness::Complete,
        state,
        gaps,
        nodes: coverage.nodes(from_ms, to_ms),
        before,
    })
}

/// The range of equal length before a range: whole days before whole days, also across changes of the UTC offset.
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

/// The measures of a report, from a sum.
pub(super) fn measures(sum: Sum) -> Measures {
    let counts = sum.counts;
    Measures {
        requests: counts.requests,
        status: sum.status,
        bytes_in: counts.bytes_in,
        bytes_out: counts.bytes_out,
        latency_ms: latency(&counts.latency, counts.latency_max_us),
        upstream_ms: latency(&counts.upstream, counts.upstream_max_us),
        retries: counts.retries,
        refused: counts.refused,
        cut: counts.cut,
        streams: counts.streams.len(),
        stream_ms: latency(&counts.streams, counts.stream_max_us),
    }
}

#[allow(clippy::cast_precision_loss)]
fn latency(latencies: &Latencies, max_us: u64) -> Latency {
    let millis = |micros: u64| micros as f64 / 1000.0;
    // A histogram returns the upper edge of a slot, which may exceed the exact maximum.
    let [p50, p90, p99] = latencies.percentiles().map(|micros| millis(micros.min(max_us)));
    Latency { p50, p90, p99, max: millis(max_us) }
}
