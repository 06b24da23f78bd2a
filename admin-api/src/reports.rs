//! Reports: `/reports/…`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use weir_snapshot::RefusalCounts;

/// How a report is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// JSON.
    #[default]
    Json,
    /// CSV with a header line.
    Csv,
}

names!(Format { Json = "json", Csv = "csv" });

/// Query of `GET /reports/minutely`, `/reports/hourly` and `/reports/daily`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ReportQuery {
    /// Start of the range: RFC 3339, a date, or an age such as `-90s`, `-30m`, `-2h`, `-7d`. When absent the report has
    /// 60 minutes, 24 hours or 30 days.
    pub from: Option<String>,
    /// End of the range, excluded; a date includes that day. Now when absent.
    pub to: Option<String>,
    /// Only requests of this route.
    pub route: Option<String>,
    /// Only requests of this pool.
    pub pool: Option<String>,
    /// Only requests of this backend: its id or its URL.
    pub backend: Option<String>,
    /// Only requests with this method.
    pub method: Option<String>,
    /// Only requests for this host; not together with another filter.
    pub host: Option<String>,
    /// IANA time zone of dates, hours and days, such as `Europe/Berlin`; UTC when absent.
    pub tz: Option<String>,
    /// Format of the answer; JSON when absent.
    pub format: Option<Format>,
}

/// Query of `GET /reports/summary`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SummaryQuery {
    /// Start of the range: RFC 3339, a date, or an age such as `-90s`, `-30m`, `-2h`, `-7d`; 30 days ago when absent.
    pub from: Option<String>,
    /// End of the range, excluded; a date includes that day. Now when absent.
    pub to: Option<String>,
    /// Only requests of this route.
    pub route: Option<String>,
    /// Only requests of this pool.
    pub pool: Option<String>,
    /// Only requests of this backend: its id or its URL.
    pub backend: Option<String>,
    /// Only requests with this method.
    pub method: Option<String>,
    /// Only requests for this host; not together with another filter.
    pub host: Option<String>,
    /// IANA time zone of dates and hours, such as `Europe/Berlin`; UTC when absent.
    pub tz: Option<String>,
    /// Format of the answer; JSON when absent.
    pub format: Option<Format>,
    /// Add the range of equal length before this one as `before`.
    pub compare: bool,
}

/// Query of `GET /reports/top`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TopQuery {
    /// Start of the range: RFC 3339, a date, or an age such as `-90s`, `-30m`, `-2h`, `-7d`; 30 days ago when absent.
    pub from: Option<String>,
    /// End of the range, excluded; a date includes that day. Now when absent.
    pub to: Option<String>,
    /// Only requests of this route.
    pub route: Option<String>,
    /// Only requests of this pool.
    pub pool: Option<String>,
    /// Only requests of this backend: its id or its URL.
    pub backend: Option<String>,
    /// Only requests with this method.
    pub method: Option<String>,
    /// Only requests for this host; only with `by=host`.
    pub host: Option<String>,
    /// IANA time zone of dates, such as `Europe/Berlin`; UTC when absent.
    pub tz: Option<String>,
    /// Format of the answer; JSON when absent.
    pub format: Option<Format>,
    /// The names to rank: `route` (when absent), `host`, `pool`, `backend`, `method`, `status`, or `slowest` for routes by
    /// their 99th percentile.
    pub by: Option<String>,
    /// The order: `requests` (when absent), `errors`, `refused`, `cut`, `slowest` or `bytes`.
    pub sort: Option<String>,
    /// Number of items, 1 to 1000; 10 when absent.
    pub limit: Option<String>,
}

/// Counts and latencies of the requests of a period, a range, or one name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measures {
    /// Requests completed.
    pub requests: u64,
    /// Requests by the status of the answer.
    #[serde(deserialize_with = "by_status")]
    #[schemars(with = "BTreeMap<u16, u64>")]
    pub status: BTreeMap<u16, u64>,
    /// Body bytes received from clients.
    pub bytes_in: u64,
    /// Body bytes sent to clients.
    pub bytes_out: u64,
    /// From the request's head to the end of the answer; without tunnels and streams.
    pub latency_ms: Latency,
    /// From the start of the attempt, including the connection, to the head of the backend's answer.
    pub upstream_ms: Latency,
    /// Attempts after the first one of each request.
    pub retries: u64,
    /// Requests that Weir refused itself, by reason.
    pub refused: RefusalCounts,
    /// Requests whose answer was cut before its end, by side.
    pub cut: Cut,
    /// Tunnels, event streams and gRPC streams among the requests.
    pub streams: u64,
    /// How long these lasted.
    pub stream_ms: Latency,
}

/// JSON keys are strings, which serde does not turn into numbers inside a flattened struct.
fn by_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u16, u64>, D::Error> {
    let text = BTreeMap::<String, u64>::deserialize(deserializer)?;
    let number = |(status, count): (String, u64)| match status.parse() {
        Ok(status) => Ok((status, count)),
        Err(_) => Err(serde::de::Error::custom(format!("{status:?} is not an HTTP status"))),
    };
    text.into_iter().map(number).collect()
}

/// Percentiles in milliseconds; 0 when there was no request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Maximum, exact.
    pub max: f64,
}

/// Requests whose answer was cut before its end, by side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Cut {
    /// The client closed the connection or stopped reading; also before the answer began (status 499).
    pub client: u64,
    /// The backend closed the connection or stalled within its answer.
    pub backend: u64,
    /// The node ended it: a timeout passed, or the node stopped.
    pub node: u64,
}

impl Cut {
    /// Each count with its name, in a fixed order.
    pub fn each(&self) -> [(&'static str, u64); 3] {
        let Self { client, backend, node } = *self;
        [("client", client), ("backend", backend), ("node", node)]
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.each().iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

/// Whether a period's counts are complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Completeness {
    /// It is over, and every expected node reported all of it.
    Complete,
    /// It is not over, or nodes may still report some of it.
    Open,
    /// Some of it is missing.
    Partial,
    /// No node reported any of it, although nodes were expected.
    Gap,
    /// There was no node.
    None,
}

names!(Completeness { Complete = "complete", Open = "open", Partial = "partial", Gap = "gap", None = "none" });

/// Number of nodes that report a period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportingNodes {
    /// Nodes that served traffic in it, or should have.
    pub expected: u32,
    /// Nodes that reported all of it.
    pub reported: u32,
}

/// A minute, hour or day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Period {
    /// Its start, RFC 3339.
    pub start: String,
    /// Counts and latencies.
    #[serde(flatten)]
    pub measures: Measures,
    /// Whether `state` is `complete`.
    pub complete: bool,
    /// Whether the counts are complete.
    pub state: Completeness,
    /// The nodes that reported it.
    pub nodes: ReportingNodes,
}

/// Minutes, hours or days, without gaps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Start of the first period, RFC 3339.
    pub from: String,
    /// End of the last period, RFC 3339.
    pub to: String,
    /// The periods in order, including those without traffic.
    pub periods: Vec<Period>,
    /// False when finer counts are no longer kept: some periods then begin with whole hours or days of UTC.
    pub exact: bool,
}

/// An hour and its requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeriodCount {
    /// Its start, RFC 3339.
    pub start: String,
    /// Requests completed.
    pub requests: u64,
}

/// A range as one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Its start, RFC 3339.
    pub from: String,
    /// Its end, RFC 3339.
    pub to: String,
    /// Counts and latencies.
    #[serde(flatten)]
    pub measures: Measures,
    /// The hour with the most requests; null when there were no requests.
    pub peak: Option<PeriodCount>,
    /// The complete hour with the fewest requests; null when no hour is complete.
    pub lowest: Option<PeriodCount>,
    /// Whether `state` is `complete`.
    pub complete: bool,
    /// Whether the counts are complete; a range that reaches up to now is `open` or `partial`.
    pub state: Completeness,
    /// Hours that no node reported.
    pub gaps: u64,
    /// The nodes that reported it.
    pub nodes: ReportingNodes,
    /// With `compare=true`: the range of equal length before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<SummaryBefore>,
}

/// The range of equal length before a summary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SummaryBefore {
    /// Its start, RFC 3339.
    pub from: String,
    /// Its end, RFC 3339.
    pub to: String,
    /// Counts and latencies.
    #[serde(flatten)]
    pub measures: Measures,
    /// Whether every expected node reported all of it.
    pub complete: bool,
}

/// A ranking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Top {
    /// Start of the range, RFC 3339.
    pub from: String,
    /// End of the range, RFC 3339.
    pub to: String,
    /// The kind of names.
    pub by: String,
    /// The order.
    pub sort: String,
    /// Requests of the whole range, including those of items that are not listed.
    pub requests: u64,
    /// Number of names there are to rank.
    pub names: u64,
    /// The first of them.
    pub items: Vec<TopItem>,
    /// Whether `state` is `complete`.
    pub complete: bool,
    /// Whether the counts are complete.
    pub state: Completeness,
}

/// One name of a ranking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TopItem {
    /// The route, host, pool, backend, method or status; empty for requests that had none.
    pub name: String,
    /// A backend's URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its share of all requests, 0 to 1.
    pub share: f64,
    /// Requests answered with 500 or above.
    pub errors: u64,
    /// Counts and latencies.
    #[serde(flatten)]
    pub measures: Measures,
}
