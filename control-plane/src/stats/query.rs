//! Parameters of reports. They are read and validated here, and all errors are listed at once; then the range is mapped
//! to the stored grains.

use jiff::{SignedDuration, Timestamp, ToSpan as _, Zoned, tz::TimeZone};
use weir_snapshot::{BackendUrl, Problems};

use super::{
    counts::Sum,
    labels, names,
    period::{self, Per, Span},
};
use crate::store::{
    Store, StoreError,
    stats::{Dimension, Filter, GroupBy, Kept, Read, StoredSum, Traffic},
};

/// The most minutes in one report: two days.
const MAX_MINUTES: usize = 2_880;
/// The most hours in one report: more than two years.
const MAX_HOURS: usize = 20_000;
/// The most days in one report: about ten years.
const MAX_DAYS: usize = 4_000;

/// The parameters of a report; an absent one has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// The start: RFC 3339, a date, or a span back from now such as `-2h`.
    pub from: Option<String>,
    /// The end, exclusive; a date includes its day.
    pub to: Option<String>,
    /// Only this route.
    pub route: Option<String>,
    /// Only this pool.
    pub pool: Option<String>,
    /// Only this backend, by id or by URL.
    pub backend: Option<String>,
    /// Only this method.
    pub method: Option<String>,
    /// Only this host. Hosts are counted separately, so this excludes all other filters.
    pub host: Option<String>,
    /// The IANA name of the time zone of hours, days and dates; UTC when absent.
    pub tz: Option<String>,
    /// Compares a summary with the range of equal length before it.
    pub compare: bool,
}

/// Why a report cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Parameters are invalid; every error is listed under its parameter's name.
    #[error("{0}")]
    Invalid(Problems),
    /// The database failed; the details are logged.
    #[error("the statistics cannot be read: {0}")]
    Store(#[from] StoreError),
}

impl ReportError {
    pub(super) fn invalid(parameter: &str, message: impl Into<String>) -> Self {
        let mut problems = Problems::default();
        problems.add(parameter, message.into());
        Self::Invalid(problems)
    }
}

/// A validated query.
pub(super) struct CheckedQuery {
    pub(super) span: Span,
    /// The range reaches up to now.
    pub(super) current: bool,
    pub(super) filter: Filter,
}

impl CheckedQuery {
    pub(super) async fn read(
        store: &Store,
        query: &Query,
        per: Per,
        now: Timestamp,
    ) -> Result<Self, ReportError> {
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
        // The future has no counts.
        let to = to.unwrap_or_else(|| now.clone()).min(now.clone());
        let current = to == now;
        let from = from.map_or_else(|| default_from(per, &to), Ok);
        // Counts are per minute: the minutes in which a range begins and ends belong to it as a whole.
        let from = from.and_then(|from| Per::Minute.start(&from));
        let filter = read_filter(store, query, &mut problems).await?;
        let from = from.unwrap_or_else(|error| {
            problems.add("from", error.to_string());
            to.clone()
        });
        if problems.0.is_empty() && from >= to {
            let (from, to) = (period::rfc3339(&from), period::rfc3339(&to));
            let now = if current { " (now)" } else { "" };
            problems.add("from", format!("{from} is not before the end of the range, {to}{now}"));
        }
        let checked = Self { span: Span { from, to }, current, filter };
        problems.into_result(checked).map_err(ReportError::Invalid)
    }

    /// Moves the end of a range that reaches up to now, so that it includes the present moment.
    pub(super) fn reach(&mut self, ahead_ms: i64) {
        if self.current {
            let end = self.span.to.checked_add(SignedDuration::from_millis(ahead_ms));
            self.span.to = end.unwrap_or_else(|_| self.span.to.clone());
        }
    }

    pub(super) fn divided(&self, per: Per) -> Result<Vec<Span>, ReportError> {
        let limit = match per {
            Per::Minute => MAX_MINUTES,
            Per::Hour => MAX_HOURS,
            Per::Day => MAX_DAYS,
        };
        match per.periods(&self.span, limit) {
            Ok(Some(periods)) => Ok(periods),
            Ok(None) => Err(ReportError::invalid("from", format!("the range has more than {limit} periods"))),
            Err(error) => Err(ReportError::invalid("from", error.to_string())),
        }
    }
}

async fn read_filter(store: &Store, query: &Query, problems: &mut Problems) -> Result<Filter, StoreError> {
    let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    let mut filter =
        Filter { labels: Vec::new(), host: given(&query.host).map(|host| host.to_ascii_lowercase()) };
    for (dimension, value) in labels::of_query(query) {
        let names = match dimension {
            Dimension::Backend if value.contains("://") => backends(store, value, problems).await?,
            Dimension::Method => {
                let method = value.to_ascii_uppercase();
                names::check_method(problems, &method);
                vec![method]
            }
            _ => {
                names::check(store, problems, dimension, value).await?;
                vec![value.to_owned()]
            }
        };
        filter.labels.push((dimension, names));
    }
    if filter.host.is_some() && !filter.labels.is_empty() {
        problems.add("host", "hosts are counted by themselves: no other filter goes with one");
    }
    Ok(filter)
}

/// The ids of the backends with this URL.
async fn backends(store: &Store, url: &str, problems: &mut Problems) -> Result<Vec<String>, StoreError> {
    let canonical = match url.parse::<BackendUrl>() {
        Ok(canonical) => canonical.to_string(),
        Err(message) => {
            problems.add("backend", message);
            return Ok(Vec::new());
        }
    };
    let ids = store.backends_by_url(&canonical).await?;
    if ids.is_empty() {
        problems.add("backend", format!("no backend has or had the URL {url:?}"));
    }
    Ok(ids)
}

/// The default start: with the open period, the range has an hour, 24 hours or 30 days.
fn default_from(per: Per, to: &Zoned) -> Result<Zoned, jiff::Error> {
    match per {
        Per::Minute => per.start(to)?.checked_sub(SignedDuration::from_mins(59)),
        Per::Hour => per.start(to)?.checked_sub(SignedDuration::from_hours(23)),
        Per::Day => per.start(to)?.checked_sub(29.days()),
    }
}

/// A range in minutes, moved to limits that the stored data has: to the nearest hour where minutes are no longer kept,
/// and to the nearest day (UTC) where hours are no longer kept. Ranges that touch still do, so that nothing is counted
/// twice or left out. Stored data counts towards the period that contains most of it.
pub(super) fn laid(span: &Span, kept: Kept) -> (i64, i64) {
    let (from, to) = span.minutes();
    let nearest = |minute: i64, grain: i64| (minute + grain / 2).div_euclid(grain) * grain;
    let align = |minute: i64| match minute {
        minute if minute < kept.hours_from => nearest(minute, 24 * 60),
        minute if minute < kept.minutes_from => nearest(minute, 60),
        minute => minute,
    };
    (align(from), align(to))
}

/// A part of a period, in one grain.
#[derive(Debug, Clone, Copy)]
struct Piece {
    read: Read,
    period: usize,
}

/// The reads that some non-overlapping ranges of minutes need: as few contiguous reads as possible.
struct Plan {
    /// Sorted by grain and start.
    pieces: Vec<Piece>,
}

impl Plan {
    fn new(ranges: impl Iterator<Item = (i64, i64)>) -> Self {
        let mut pieces: Vec<Piece> = ranges
            .enumerate()
            .flat_map(|(period, (from, to))| {
                let read = move |(grain, from, to)| Piece { read: Read { grain, from, to }, period };
                period::grains(from, to).into_iter().map(read)
            })
            .collect();
        pieces.sort_by_key(|piece| (piece.read.grain, piece.read.from));
        Self { pieces }
    }

    fn reads(&self) -> impl Iterator<Item = (Read, &[Piece])> {
        let touches = |a: &Piece, b: &Piece| a.read.grain == b.read.grain && a.read.to == b.read.from;
        self.pieces.chunk_by(touches).filter_map(|pieces| {
            let (first, last) = (pieces.first()?.read, pieces.last()?.read);
            Some((Read { to: last.to, ..first }, pieces))
        })
    }
}

fn period_of(pieces: &[Piece], start: i64) -> Option<usize> {
    let after = pieces.partition_point(|piece| piece.read.from <= start);
    pieces.get(after.checked_sub(1)?).map(|piece| piece.period)
}

/// The total of each range.
pub(super) async fn sums(
    traffic: &mut Traffic,
    ranges: &[(i64, i64)],
    filter: &Filter,
) -> Result<Vec<Sum>, StoreError> {
    let mut sums: Vec<Sum> = ranges.iter().map(|_| Sum::default()).collect();
    for (read, pieces) in Plan::new(ranges.iter().copied()).reads() {
        let add = |_: &str, start, stored: &StoredSum<'_>| match period_of(pieces, start) {
            Some(period) => sums.get_mut(period).map_or(Ok(()), |sum| sum.add_stored(stored)),
            None => Ok(()),
        };
        traffic.counts(read, filter, GroupBy::Start, add).await?;
    }
    Ok(sums)
}

/// The number of requests in each range.
pub(super) async fn requests(
    traffic: &mut Traffic,
    ranges: &[(i64, i64)],
    filter: &Filter,
) -> Result<Vec<u64>, StoreError> {
    let mut found = vec![0u64; ranges.len()];
    for (read, pieces) in Plan::new(ranges.iter().copied()).reads() {
        for (start, requests) in traffic.requests(read, filter).await? {
            if let Some(sum) = period_of(pieces, start).and_then(|period| found.get_mut(period)) {
                *sum = sum.saturating_add(requests.cast_unsigned());
            }
        }
    }
    Ok(found)
}

/// The totals of one range.
pub(super) async fn total(
    traffic: &mut Traffic,
    range: (i64, i64),
    filter: &Filter,
) -> Result<Sum, StoreError> {
    Ok(sums(traffic, &[range], filter).await?.pop().unwrap_or_default())
}

/// The reads that cover one range.
pub(super) fn reads(range: (i64, i64)) -> Vec<Read> {
    Plan::new([range].into_iter()).reads().map(|(read, _)| read).collect()
}
