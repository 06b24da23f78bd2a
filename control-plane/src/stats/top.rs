//! Rankings: the names with the most requests, the most errors or the highest latency.

use std::{collections::HashMap, str::FromStr};

use jiff::Timestamp;
use weir_admin_api::{Completeness, Top, TopItem};

use super::{
    batch::MAX_AHEAD_MS,
    counts::Sum,
    coverage::Coverage,
    labels,
    period::{self, Per},
    query::{self, CheckedQuery, Query, ReportError},
    report::measures,
};
use crate::store::{
    Store,
    stats::{Dimension, GroupBy, StoredSum},
};

/// The most items in one response.
const MAX_LIMIT: usize = 1_000;
/// The default number of items.
const LIMIT: usize = 10;

/// The parameters of a ranking.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopQuery {
    /// The range and the filters.
    pub query: Query,
    /// `route`, `host`, `pool`, `backend`, `method` or `status`; `slowest` means routes sorted by `slowest`. Defaults
    /// to routes.
    pub by: Option<String>,
    /// `requests`, `errors`, `refused`, `cut`, `slowest` or `bytes`. Defaults to requests.
    pub sort: Option<String>,
    /// The number of items; defaults to 10.
    pub limit: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Requests,
    Errors,
    Refused,
    Cut,
    Slowest,
    Bytes,
}

impl Sort {
    fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Errors => "errors",
            Self::Refused => "refused",
            Self::Cut => "cut",
            Self::Slowest => "slowest",
            Self::Bytes => "bytes",
        }
    }
}

impl FromStr for Sort {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let all = [Self::Requests, Self::Errors, Self::Refused, Self::Cut, Self::Slowest, Self::Bytes];
        all.into_iter().find(|sort| sort.name() == text).ok_or(())
    }
}

struct Ranking {
    by: Dimension,
    sort: Sort,
    limit: usize,
}

impl Ranking {
    fn read(query: &TopQuery) -> Result<Self, ReportError> {
        let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let mut problems = weir_snapshot::Problems::default();
        let mut sort = Sort::Requests;
        let by = match given(&query.by).as_deref() {
            None => Dimension::Route,
            Some("slowest") => {
                sort = Sort::Slowest;
                Dimension::Route
            }
            Some(name) => {
                let ranked = Dimension::RANKED.into_iter().find(|dimension| dimension.name() == name);
                ranked.unwrap_or_else(|| {
                    let known = Dimension::RANKED.map(Dimension::name).join(", ");
                    problems.add("by", format!("{name:?} is not one of {known}, slowest"));
                    Dimension::Route
                })
            }
        };
        if let Some(text) = given(&query.sort) {
            match text.parse() {
                Ok(parsed) => sort = parsed,
                Err(()) => {
                    problems.add(
                        "sort",
                        format!("{text:?} is not one of requests, errors, refused, cut, slowest, bytes"),
                    );
                }
            }
        }
        let limit = match given(&query.limit).map(|text| text.parse()) {
            None => LIMIT,
            Some(Ok(limit)) if (1..=MAX_LIMIT).contains(&limit) => limit,
            Some(_) => {
                problems.add("limit", format!("is not a number of 1 to {MAX_LIMIT}"));
                LIMIT
            }
        };
        let q = &query.query;
        if by == Dimension::Host && labels::of_query(q).next().is_some() {
            problems.add("by", "hosts are counted by themselves: they cannot be told apart within a filter");
        }
        if given(&q.host).is_some() && by != Dimension::Host {
            problems.add("host", "hosts are counted by themselves: nothing can be ranked within one");
        }
        problems.into_result(Self { by, sort, limit }).map_err(ReportError::Invalid)
    }
}

pub(super) async fn top(store: &Store, query: &TopQuery, now: Timestamp) -> Result<Top, ReportError> {
    let Ranking { by, sort, limit } = Ranking::read(query)?;
    let mut checked = CheckedQuery::read(store, &query.query, Per::Day, now).await?;
    let (from_ms, to_ms) = checked.span.millis();
    let to = period::rfc3339(&checked.span.to);
    checked.reach(MAX_AHEAD_MS);
    // A host filter picks one item of the ranking by host.
    let only = checked.filter.host.take();
    let mut traffic = store.traffic().await?;
    let range = query::laid(&checked.span, traffic.kept().await?);
    let mut sums: HashMap<String, Sum> = HashMap::new();
    for read in query::reads(range) {
        let add = |name: &str, _, stored: &StoredSum<'_>| {
            if only.as_ref().is_some_and(|only| only != name) {
                return Ok(());
            }
            match sums.get_mut(name) {
                Some(sum) => sum.add_stored(stored),
                None => sums.entry(name.to_owned()).or_default().add_stored(stored),
            }
        };
        traffic.counts(read, &checked.filter, GroupBy::Label(by), add).await?;
    }
    let now_ms = now.as_millisecond();
    let coverage =
        Coverage::new(&traffic.runs(from_ms, now_ms).await?, &traffic.lost(from_ms, now_ms).await?);
    let requests: u64 = sums.values().map(|sum| sum.counts.requests).sum();
    let names = sums.len() as u64;
    let urls: HashMap<String, String> = match by {
        Dimension::Backend => store.backend_urls().await?.into_iter().collect(),
        _ => HashMap::new(),
    };
    let mut items: Vec<(u64, TopItem)> = sums
        .into_iter()
        .map(|(name, sum)| {
            let errors = sum.status.range(500..).map(|(_, requests)| requests).sum();
            let rank = match sort {
                Sort::Requests => sum.counts.requests,
                Sort::Errors => errors,
                Sort::Refused => sum.counts.refused.total(),
                Sort::Cut => sum.counts.cut.total(),
                Sort::Slowest => sum.counts.latency.percentiles()[2].min(sum.counts.latency_max_us),
                Sort::Bytes => sum.counts.bytes_in.saturating_add(sum.counts.bytes_out),
            };
            (rank, item(name, sum, errors, requests, &urls))
        })
        .collect();
    items.sort_by(|(a, one), (b, two)| b.cmp(a).then_with(|| one.name.cmp(&two.name)));
    items.truncate(limit);
    let state = coverage.state_of_range(from_ms, to_ms, checked.current, now_ms);
    Ok(Top {
        from: period::rfc3339(&checked.span.from),
        to,
        by: by.name().to_owned(),
        sort: sort.name().to_owned(),
        requests,
        names,
        items: items.into_iter().map(|(_, item)| item).collect(),
        complete: state == Completeness::Complete,
        state,
    })
}

#[allow(clippy::cast_precision_loss)]
fn item(name: String, sum: Sum, errors: u64, all: u64, urls: &HashMap<String, String>) -> TopItem {
    let share = if all == 0 { 0.0 } else { sum.counts.requests as f64 / all as f64 };
    TopItem { url: urls.get(&name).cloned(), name, share, errors, measures: measures(sum) }
}
