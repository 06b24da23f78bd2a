//! Folding: logged batches become counts per minute, hour and day.
//!
//! A step reads batches, adds them to the counts and removes them from the log in one transaction, so it can be
//! interrupted anywhere and run again. Every request is added to each grain at once: hours and days need no pass
//! of their own and are as exact as minutes.

use std::collections::{BTreeMap, btree_map::Entry};

use hdrhistogram::Histogram;
use prost::Message as _;
use weir_proto::v1;

use super::histogram;
use crate::store::{
    Store,
    stats::{Fold, Key, StoredCounts},
};

/// Minutes in each grain that is kept.
pub(crate) const GRAINS: [i64; 3] = [1, 60, 1440];
/// The label of what is beyond the cap.
const OTHER: &str = "_other";
/// Rows that one period of a grain may have, besides those of [`OTHER`] (one a status).
const MAX_ROWS: i64 = 10_000;

/// Counts with a live histogram.
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) retries: u64,
    pub(crate) latency: Histogram<u64>,
    pub(crate) latency_max_us: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            requests: 0,
            bytes_in: 0,
            bytes_out: 0,
            retries: 0,
            latency: histogram::empty(),
            latency_max_us: 0,
        }
    }
}

impl Counts {
    /// Adds another set of counts.
    pub(crate) fn add(&mut self, other: &Counts) {
        self.requests = self.requests.saturating_add(other.requests);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.retries = self.retries.saturating_add(other.retries);
        self.latency_max_us = self.latency_max_us.max(other.latency_max_us);
        histogram::merge(&mut self.latency, &other.latency);
    }

    fn encode(&self, status: u16) -> StoredCounts {
        StoredCounts {
            status,
            requests: self.requests,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            retries: self.retries,
            latency: histogram::encode(&self.latency),
            latency_max_us: self.latency_max_us,
        }
    }
}

impl TryFrom<&StoredCounts> for Counts {
    type Error = sqlx::Error;

    fn try_from(stored: &StoredCounts) -> Result<Self, sqlx::Error> {
        Ok(Self {
            requests: stored.requests,
            bytes_in: stored.bytes_in,
            bytes_out: stored.bytes_out,
            retries: stored.retries,
            latency: histogram::decode(&stored.latency)
                .map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            latency_max_us: stored.latency_max_us,
        })
    }
}

/// Folds until the log has nothing that was there when it began.
pub(crate) async fn run(store: &Store) -> Result<(), sqlx::Error> {
    let Some(newest) = store.newest_unfolded().await? else { return Ok(()) };
    while step(store).await?.is_some_and(|last| last < newest) {}
    Ok(())
}

/// One transaction's worth. Answers the last batch that it folded.
async fn step(store: &Store) -> Result<Option<i64>, sqlx::Error> {
    let mut fold = store.begin_fold().await?;
    let batches = fold.batches().await?;
    let Some(&(last, _)) = batches.last() else { return Ok(None) };
    let mut periods: BTreeMap<(i64, i64), BTreeMap<Key, Counts>> = BTreeMap::new();
    for (id, batch) in &batches {
        let rows = match v1::ReportRequest::decode(&batch[..]) {
            Ok(batch) => batch.rows,
            Err(error) => {
                tracing::error!(%error, id, "a logged batch cannot be read, its counts are lost");
                continue;
            }
        };
        for row in rows {
            add_row(&mut periods, row)?;
        }
    }
    for ((grain, start), rows) in periods {
        put_period(&mut fold, grain, start, rows).await?;
    }
    fold.finish(last).await?;
    Ok(Some(last))
}

type Periods = BTreeMap<(i64, i64), BTreeMap<Key, Counts>>;

fn add_row(periods: &mut Periods, row: v1::TrafficRow) -> Result<(), sqlx::Error> {
    // Each value was checked when the batch was taken in.
    let status = u16::try_from(row.status).unwrap_or(599);
    let minute = row.minute.cast_signed();
    let counts = Counts::try_from(&StoredCounts {
        status,
        requests: row.requests,
        bytes_in: row.bytes_in,
        bytes_out: row.bytes_out,
        retries: row.retries,
        latency: row.latency,
        latency_max_us: row.latency_max_us,
    })?;
    for grain in GRAINS {
        let start = minute - minute % grain;
        let key = Key {
            grain,
            start,
            route: row.route.clone(),
            pool: row.pool.clone(),
            backend: row.backend.clone(),
            status,
        };
        periods.entry((grain, start)).or_default().entry(key).or_default().add(&counts);
    }
    Ok(())
}

async fn put_period(
    fold: &mut Fold,
    grain: i64,
    start: i64,
    rows: BTreeMap<Key, Counts>,
) -> Result<(), sqlx::Error> {
    let mut stored = fold.rows(grain, start, OTHER).await?;
    let mut beyond: BTreeMap<Key, Counts> = BTreeMap::new();
    for (key, mut counts) in rows {
        match fold.counts(&key).await? {
            Some(before) => counts.add(&Counts::try_from(&before)?),
            None if key.route == OTHER || stored >= MAX_ROWS => {
                let key = Key { route: OTHER.into(), pool: OTHER.into(), backend: OTHER.into(), ..key };
                match beyond.entry(key) {
                    Entry::Occupied(mut other) => other.get_mut().add(&counts),
                    Entry::Vacant(other) => drop(other.insert(counts)),
                }
                continue;
            }
            None => stored += 1,
        }
        fold.put(&key, &counts.encode(key.status)).await?;
    }
    for (key, mut counts) in beyond {
        if let Some(before) = fold.counts(&key).await? {
            counts.add(&Counts::try_from(&before)?);
        }
        fold.put(&key, &counts.encode(key.status)).await?;
    }
    Ok(())
}
