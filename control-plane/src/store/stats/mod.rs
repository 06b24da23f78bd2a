//! The SQL of the statistics: the log of batches, which sequences were seen, and the counts they fold into.
//!
//! Every write is one transaction on the single writer connection, so a crash leaves a batch either in the log
//! or in the counts, never in both and never in neither.

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

/// A checked batch, ready for the log.
#[derive(Debug, Clone)]
pub(crate) struct NewBatch {
    pub(crate) node: String,
    pub(crate) boot: String,
    pub(crate) sequence: i64,
    /// The time that the batch accounts for begins here, unless batches before it are stored.
    pub(crate) from_ms: i64,
    /// When the node made it.
    pub(crate) through_ms: i64,
    /// The node dropped counts since its last batch.
    pub(crate) lost: bool,
    /// It is the last of a node that leaves on purpose.
    pub(crate) left: bool,
    /// What of it came too late to be counted.
    pub(crate) late: Option<Late>,
    /// From when to when its rows were counted, where their minutes are uncertain because a clock was off.
    pub(crate) moved: Option<(i64, i64)>,
    /// The encoded message.
    pub(crate) batch: Vec<u8>,
}

/// Rows that came too late to be counted.
#[derive(Debug, Clone)]
pub(crate) struct Late {
    pub(crate) rows: i64,
    pub(crate) from_ms: i64,
    pub(crate) through_ms: i64,
}

/// What one row of traffic is about, within a period.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) route: String,
    pub(crate) pool: String,
    pub(crate) backend: String,
    pub(crate) method: String,
    pub(crate) status: u16,
}

/// What one sum is about, within a period.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SumKey {
    pub(crate) dimension: Dimension,
    pub(crate) name: String,
}

/// The labels by which there are sums.
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
    /// As it is stored; a column of `traffic`, but for [`All`](Self::All) and [`Host`](Self::Host).
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

/// Counts, the histograms encoded.
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
    /// A JSON object; empty: none.
    pub(crate) rejected: Cow<'a, str>,
    /// A JSON object; empty: none.
    pub(crate) cut: Cow<'a, str>,
    /// Durations of tunnels and streams; empty: none.
    pub(crate) streams: Cow<'a, [u8]>,
    pub(crate) stream_max_us: u64,
}

/// Counts with their requests by status.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoredSum<'a> {
    pub(crate) status: BTreeMap<u16, u64>,
    pub(crate) counts: StoredCounts<'a>,
}

/// A run of sequences without a gap.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) node: String,
    pub(crate) boot: String,
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) from_ms: i64,
    pub(crate) through_ms: i64,
    /// Its last batch is the last of a node that left on purpose.
    pub(crate) left: bool,
}

/// A stretch in which counts of a node were lost.
#[derive(Debug, Clone)]
pub(crate) struct Lost {
    pub(crate) node: String,
    pub(crate) from_ms: i64,
    pub(crate) through_ms: i64,
}

/// How far back the finer grains reach, in minutes since the epoch.
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

/// The columns of [`StoredCounts`] from `at` on, in its order.
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
        rejected: Cow::Owned(row.try_get(at + 8)?),
        cut: Cow::Owned(row.try_get(at + 9)?),
        streams: Cow::Owned(row.try_get(at + 10)?),
        stream_max_us: count(11)?,
    })
}

/// [`StoredCounts`] as columns.
const COUNTS: &str =
    "requests, bytes_in, bytes_out, retries, latency, latency_max_us, upstream, upstream_max_us, rejected,
    cut, streams, stream_max_us";
