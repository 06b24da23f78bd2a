//! Folds logged batches into counts per minute, hour and day.
//!
//! A step reads batches, adds them to the counts of every grain and removes them from the log, all in one transaction.
//! So it can be interrupted anywhere and run again. Hours and days need no separate pass that could be interrupted, and
//! are as exact as minutes. Within a step, minutes are summed first, then hours from minutes and days from hours, so
//! that a histogram is merged into a coarser one once and not for each batch.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use prost::Message as _;
use weir_proto::v1;

use super::{
    counts::{Counts, Sum},
    labels,
};
use crate::store::{
    Store, StoreError,
    stats::{Dimension, Fold, Key, SumKey},
};

/// Minutes in each stored grain, each a multiple of the previous one.
pub(crate) const GRAINS: [i64; 3] = [1, 60, 1440];
/// The label of the rows beyond the limit.
pub(crate) const OTHER: &str = "_other";
/// The most rows in one period of a grain, without those of [`OTHER`].
const MAX_ROWS: usize = 10_000;
/// The most hosts in one period of a grain, without [`OTHER`].
const MAX_HOSTS: usize = 1_000;

/// Folds every batch that was in the log when the call began.
pub(crate) async fn run(store: &Store) -> Result<(), StoreError> {
    let Some(newest) = store.newest_unfolded().await? else { return Ok(()) };
    while step(store).await?.is_some_and(|last| last < newest) {}
    Ok(())
}

/// Creates the sums in a database of a version that had none, in one transaction.
pub(crate) async fn make_sums(store: &Store) -> Result<(), StoreError> {
    let mut fold = store.begin_fold().await?;
    if fold.has_sums().await? {
        return fold.abandon().await;
    }
    for (grain, start) in fold.periods().await? {
        let mut period = Period::default();
        for (key, stored) in fold.period(grain, start).await? {
            period.rows.entry(key).or_default().add_stored(&stored)?;
        }
        put_sums(&mut fold, grain, start, sums_of(&period.rows)).await?;
    }
    fold.finish_sums().await
}

/// The counts that are added to one period.
#[derive(Default)]
struct Period {
    rows: BTreeMap<Key, Counts>,
    hosts: BTreeMap<String, Sum>,
}

impl Period {
    fn add(&mut self, other: &Self) {
        for (key, counts) in &other.rows {
            match self.rows.get_mut(key) {
                Some(sum) => sum.add(counts),
                None => drop(self.rows.insert(key.clone(), counts.clone())),
            }
        }
        for (host, counts) in &other.hosts {
            let sum = match self.hosts.get_mut(host) {
                Some(sum) => sum,
                None => self.hosts.entry(host.clone()).or_default(),
            };
            sum.counts.add(&counts.counts);
            for (status, requests) in &counts.status {
                *sum.status.entry(*status).or_default() += requests;
            }
        }
    }
}

/// Runs one transaction. Returns the last batch that it folded.
async fn step(store: &Store) -> Result<Option<i64>, StoreError> {
    let mut fold = store.begin_fold().await?;
    let batches = fold.batches().await?;
    let Some(&(last, _)) = batches.last() else {
        fold.abandon().await?;
        return Ok(None);
    };
    let mut periods: BTreeMap<i64, Period> = BTreeMap::new();
    for (id, batch) in &batches {
        match v1::ReportRequest::decode(&batch[..]) {
            Ok(batch) => add_batch(&mut periods, batch, *id),
            Err(error) => tracing::error!(%error, id, "a logged batch cannot be read, its counts are lost"),
        }
    }
    for grain in GRAINS {
        let mut coarser: BTreeMap<i64, Period> = BTreeMap::new();
        for (start, period) in periods {
            coarser.entry(start - start.rem_euclid(grain)).or_default().add(&period);
        }
        for (start, period) in &coarser {
            put_period(&mut fold, grain, *start, period).await?;
        }
        periods = coarser;
    }
    fold.finish(last).await?;
    Ok(Some(last))
}

/// Every value was validated when the batch arrived.
fn add_batch(periods: &mut BTreeMap<i64, Period>, batch: v1::ReportRequest, id: i64) {
    let lost = |error| tracing::error!(%error, id, "a logged row cannot be read, its counts are lost");
    for mut row in batch.rows {
        let period = periods.entry(row.minute.cast_signed()).or_default();
        let mut counts = Counts::default();
        if let Err(error) = counts.add_row(&row) {
            lost(error);
            continue;
        }
        let status = u16::try_from(row.status).unwrap_or(599);
        let key = Key { labels: labels::of_row(&mut row).map(std::mem::take), status };
        period.rows.entry(key).or_default().add(&counts);
    }
    for row in batch.hosts {
        let period = periods.entry(row.minute.cast_signed()).or_default();
        let mut counts = Counts::default();
        if let Err(error) = counts.add_row(&row) {
            lost(error);
            continue;
        }
        let sum = period.hosts.entry(row.host).or_default();
        sum.add_counts(u16::try_from(row.status).unwrap_or(599), &counts);
    }
}

async fn put_period(fold: &mut Fold, grain: i64, start: i64, period: &Period) -> Result<(), StoreError> {
    let rows = put_rows(fold, grain, start, &period.rows).await?;
    let mut sums = sums_of(&rows);
    let key = |host: &str| SumKey { dimension: Dimension::Host, name: host.to_owned() };
    let hosts: Vec<SumKey> = period.hosts.keys().map(|host| key(host)).collect();
    let known = fold.sums(grain, start, &hosts.iter().collect::<Vec<_>>()).await?;
    let mut count = fold.names(grain, start, Dimension::Host).await?;
    for (i, (host, sum)) in period.hosts.iter().enumerate() {
        let is_new = host != OTHER && !known.contains_key(&i);
        let beyond = is_new && count >= MAX_HOSTS;
        count += usize::from(is_new && !beyond);
        let into = sums.entry(key(if beyond { OTHER } else { host })).or_default();
        for (status, requests) in &sum.status {
            *into.status.entry(*status).or_default() += requests;
        }
        into.counts.add(&sum.counts);
    }
    put_sums(fold, grain, start, sums).await
}

/// Adds rows to a period. Returns them under the labels under which they were stored.
async fn put_rows(
    fold: &mut Fold,
    grain: i64,
    start: i64,
    rows: &BTreeMap<Key, Counts>,
) -> Result<BTreeMap<Key, Counts>, StoreError> {
    let keys: Vec<&Key> = rows.keys().collect();
    let known = fold.counts(grain, start, &keys).await?;
    let is_new: BTreeSet<usize> = (0..keys.len()).filter(|i| !known.contains_key(i)).collect();
    let room = match is_new.len() {
        0 => 0,
        _ => MAX_ROWS.saturating_sub(fold.rows(grain, start, OTHER).await?),
    };
    let (mut others, named): (BTreeSet<usize>, BTreeSet<usize>) =
        is_new.into_iter().partition(|i| keys.get(*i).is_some_and(|key| key.route() == OTHER));
    others.extend(named.into_iter().skip(room));
    let beyond = others;
    let mut added: BTreeMap<Key, Counts> = BTreeMap::new();
    let mut stored = HashMap::new();
    for (i, (key, counts)) in rows.iter().enumerate() {
        let key = if beyond.contains(&i) { key.clone().with_names(OTHER) } else { key.clone() };
        if let Some(known) = known.get(&i) {
            stored.insert(key.clone(), known);
        }
        added.entry(key).or_default().add(counts);
    }
    let others: Vec<&Key> =
        added.keys().filter(|key| key.route() == OTHER && !rows.contains_key(key)).collect();
    let known_others =
        if others.is_empty() { HashMap::new() } else { fold.counts(grain, start, &others).await? };
    stored.extend(known_others.iter().filter_map(|(i, known)| Some(((*others.get(*i)?).clone(), known))));
    let mut puts = Vec::with_capacity(added.len());
    for (key, counts) in &added {
        let mut sum = counts.clone();
        if let Some(known) = stored.get(key) {
            sum.add_stored(known)?;
        }
        puts.push((key.clone(), sum.encode()));
    }
    fold.put(grain, start, &puts).await?;
    Ok(added)
}

/// The sums of a set of rows, by label.
fn sums_of(rows: &BTreeMap<Key, Counts>) -> BTreeMap<SumKey, Sum> {
    let mut sums: BTreeMap<SumKey, Sum> = BTreeMap::new();
    for (key, counts) in rows {
        let status = key.status.to_string();
        let labels = Dimension::LABELS.into_iter().zip(key.labels.iter().map(String::as_str));
        let whole = [(Dimension::All, ""), (Dimension::Status, status.as_str())];
        for (dimension, name) in labels.chain(whole) {
            let key_of = SumKey { dimension, name: name.to_owned() };
            sums.entry(key_of).or_default().add_counts(key.status, counts);
        }
    }
    sums
}

async fn put_sums(
    fold: &mut Fold,
    grain: i64,
    start: i64,
    sums: BTreeMap<SumKey, Sum>,
) -> Result<(), StoreError> {
    let known = fold.sums(grain, start, &sums.keys().collect::<Vec<_>>()).await?;
    let mut puts = Vec::with_capacity(sums.len());
    for (i, (key, mut sum)) in sums.into_iter().enumerate() {
        if let Some(known) = known.get(&i) {
            sum.add_stored(known)?;
        }
        puts.push((key, sum.encode()));
    }
    fold.put_sums(grain, start, &puts).await
}
