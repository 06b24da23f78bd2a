//! SQL for the statistics: the log of batches, their sequence numbers, and the counts they are folded into.
//!
//! Every write is one transaction on the single write connection. So after a crash each batch is either in the log or
//! in the counts, never in both and never in neither.

use std::{borrow::Cow, collections::BTreeMap};

use sqlx::Row as _;

use super::StoreError;

mod fold;
mod keep;
mod log;
mod packed;
mod read;

pub(crate) use self::{
    fold::Fold,
    read::{Filter, GroupBy, Read, Traffic},
};

type Result<T> = std::result::Result<T, StoreError>;

/// A validated batch, ready for the log.
#[derive(Debug, Clone)]
pub(crate) struct NewBatch {
    pub(crate) node: String,
    pub(crate) boot: String,
    pub(crate) sequence: i64,
    /// Start of the time range of the batch, unless earlier batches are stored.
    pub(crate) from_ms: i64,
    /// When the node created the batch.
    pub(crate) through_ms: i64,
    /// Whether the node dropped counts since its previous batch.
    pub(crate) lost: bool,
    /// Whether this is the last batch of a node that shut down gracefully.
    pub(crate) left: bool,
    /// Rows that arrived too late to be counted.
    pub(crate) late: Option<Late>,
    /// Time range of rows whose minutes are uncertain because a clock was wrong.
    pub(crate) moved: Option<(i64, i64)>,
    /// The encoded message.
    pub(crate) batch: Vec<u8>,
}

/// Rows that arrived too late to be counted.
#[derive(Debug, Clone)]
pub(crate) struct Late {
    pub(crate) rows: i64,
    pub(crate) from_ms: i64,
    pub(crate) through_ms: i64,
}

/// Labels of a row of `traffic` within a period.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    /// In the order of [`Dimension::LABELS`].
    pub(crate) labels: [String; Dimension::LABELS.len()],
    pub(crate) status: u16,
}

impl Key {
    /// The key with `other` in place of the names of routes, pools and backends.
    pub(crate) fn with_names(mut self, other: &str) -> Self {
        for (dimension, label) in Dimension::LABELS.into_iter().zip(&mut self.labels) {
            if dimension.resource().is_some() {
                other.clone_into(label);
            }
        }
        self
    }

    pub(crate) fn route(&self) -> &str {
        let [route, ..] = &self.labels;
        route
    }
}

/// Labels of a sum within a period.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SumKey {
    pub(crate) dimension: Dimension,
    pub(crate) name: String,
}

/// The labels for which sums are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Dimension {
    All,
    Route,
    Pool,
    Backend,
    Method,
    Status,
    Host,
}

impl Dimension {
    /// The labels of the rows of `traffic`, in the order of its columns; the status comes after them.
    pub(crate) const LABELS: [Self; 4] = [Self::Route, Self::Pool, Self::Backend, Self::Method];

    /// The dimensions by which reports rank.
    pub(crate) const RANKED: [Self; 6] =
        [Self::Route, Self::Host, Self::Pool, Self::Backend, Self::Method, Self::Status];

    /// The table and the column that have the configured names, for names that are configured.
    pub(crate) fn resource(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Route => Some(("routes", "name")),
            Self::Pool => Some(("pools", "name")),
            Self::Backend => Some(("backends", "id")),
            _ => None,
        }
    }

    /// The stored name. It is a column of `traffic`, except for [`All`](Self::All) and [`Host`](Self::Host).
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Route => "route",
            Self::Pool => "pool",
            Self::Backend => "backend",
            Self::Method => "method",
            Self::Status => "status",
            Self::Host => "host",
        }
    }
}

/// Counts with encoded histograms.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoredCounts<'a> {
    pub(crate) requests: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) retries: u64,
    pub(crate) latency: Cow<'a, [u8]>,
    pub(crate) latency_max_us: u64,
    pub(crate) upstream: Cow<'a, [u8]>,
    pub(crate) upstream_max_us: u64,
    /// A JSON object; empty means none.
    pub(crate) refused: Cow<'a, str>,
    /// A JSON object; empty means none.
    pub(crate) cut: Cow<'a, str>,
    /// Histogram of the durations of tunnels and streams; empty means none.
    pub(crate) streams: Cow<'a, [u8]>,
    pub(crate) stream_max_us: u64,
}

/// Counts, with requests by status.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoredSum<'a> {
    pub(crate) status: BTreeMap<u16, u64>,
    pub(crate) counts: StoredCounts<'a>,
}

/// A contiguous run of sequence numbers.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) node: String,
    pub(crate) boot: String,
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) from_ms: i64,
    pub(crate) through_ms: i64,
    /// Whether its last batch is the last one of a node that shut down gracefully.
    pub(crate) left: bool,
}

/// A time range in which counts of a node were lost.
#[derive(Debug, Clone)]
pub(crate) struct Lost {
    pub(crate) node: String,
    pub(crate) from_ms: i64,
    pub(crate) through_ms: i64,
}

/// The start of the retained finer grains, in minutes since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// A multiple of an hour.
    pub(crate) minutes_from: i64,
    /// A multiple of a day.
    pub(crate) hours_from: i64,
}

fn run(row: &sqlx::sqlite::SqliteRow) -> Result<Run> {
    Ok(Run {
        node: row.try_get("node")?,
        boot: row.try_get("boot")?,
        first: row.try_get("first")?,
        last: row.try_get("last")?,
        from_ms: row.try_get("from_ms")?,
        through_ms: row.try_get("through_ms")?,
        left: row.try_get("left")?,
    })
}

/// Reads [`StoredCounts`] from the columns that start at `at`.
fn stored_counts(row: &sqlx::sqlite::SqliteRow, at: usize) -> Result<StoredCounts<'static>> {
    let count = |column: usize| row.try_get::<i64, _>(at + column).map(i64::cast_unsigned);
    Ok(StoredCounts {
        requests: count(0)?,
        bytes_in: count(1)?,
        bytes_out: count(2)?,
        retries: count(3)?,
        latency: Cow::Owned(row.try_get(at + 4)?),
        latency_max_us: count(5)?,
        upstream: Cow::Owned(row.try_get(at + 6)?),
        upstream_max_us: count(7)?,
        refused: Cow::Owned(row.try_get(at + 8)?),
        cut: Cow::Owned(row.try_get(at + 9)?),
        streams: Cow::Owned(row.try_get(at + 10)?),
        stream_max_us: count(11)?,
    })
}

/// The columns of [`StoredCounts`].
const COUNTS: &str =
    "requests, bytes_in, bytes_out, retries, latency, latency_max_us, upstream, upstream_max_us, refused,
    cut, streams, stream_max_us";
