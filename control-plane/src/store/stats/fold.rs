//! Folds the log of batches into the counts. One transaction removes batches from the log and writes their counts.

use std::collections::HashMap;

use serde_json::json;
use sqlx::{AssertSqlSafe, QueryBuilder, Row as _, Sqlite, query_builder::Separated};

use super::{COUNTS, Dimension, Key, Result, StoredCounts, StoredSum, SumKey, stored_counts};
use crate::store::{Store, StoreError, Transaction};

/// Maximum bytes of encoded batches per fold.
const FOLD_BYTES: i64 = 16 << 20;
/// Maximum number of batches per fold.
const FOLD_BATCHES: i64 = 256;
/// Rows per write statement: each statement costs a round trip to the database's thread.
const AT_ONCE: usize = 64;

impl Store {
    /// Begins a transaction that folds batches into the counts.
    pub(crate) async fn begin_fold(&self) -> Result<Fold> {
        Ok(Fold { tx: self.begin().await? })
    }

    /// Id of the newest batch in the log.
    pub(crate) async fn newest_unfolded(&self) -> Result<Option<i64>> {
        Ok(sqlx::query_scalar("SELECT MAX(id) FROM batches_log").fetch_one(&self.reader).await?)
    }
}

/// One fold transaction.
pub(crate) struct Fold {
    tx: Transaction,
}

impl Fold {
    /// Returns the oldest batches of the log, up to the limits.
    pub(crate) async fn batches(&mut self) -> Result<Vec<(i64, Vec<u8>)>> {
        Ok(sqlx::query_as(
            "SELECT id, batch FROM batches_log WHERE id <= (
                 SELECT MAX(id) FROM (
                     SELECT id, SUM(length(batch)) OVER (ORDER BY id) - length(batch) AS before
                     FROM batches_log ORDER BY id LIMIT ?)
                 WHERE before < ?)
             ORDER BY id",
        )
        .bind(FOLD_BATCHES)
        .bind(FOLD_BYTES)
        .fetch_all(&mut *self.tx)
        .await?)
    }

    /// Number of rows of a period, without those with the route label `besides`.
    pub(crate) async fn rows(&mut self, grain: i64, start: i64, besides: &str) -> Result<usize> {
        let rows: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM traffic WHERE grain = ? AND start = ? AND route <> ?")
                .bind(grain)
                .bind(start)
                .bind(besides)
                .fetch_one(&mut *self.tx)
                .await?;
        Ok(usize::try_from(rows).unwrap_or(usize::MAX))
    }

    /// Number of names that a dimension has in a period.
    pub(crate) async fn names(&mut self, grain: i64, start: i64, dimension: Dimension) -> Result<usize> {
        let names: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM sums WHERE grain = ? AND dimension = ? AND start = ?")
                .bind(grain)
                .bind(dimension.name())
                .bind(start)
                .fetch_one(&mut *self.tx)
                .await?;
        Ok(usize::try_from(names).unwrap_or(usize::MAX))
    }

    /// Returns the counts so far of these keys in a period, by index in `keys`.
    pub(crate) async fn counts(
        &mut self,
        grain: i64,
        start: i64,
        keys: &[&Key],
    ) -> Result<HashMap<usize, StoredCounts<'static>>> {
        // One statement for all keys: a query per key costs more than the lookup.
        let wanted: Vec<_> = keys.iter().map(|key| json!([key.labels, key.status])).collect();
        let labels: String = (0..)
            .zip(Dimension::LABELS)
            .map(|(at, label)| format!("AND {} = wanted.value ->> '$[0][{at}]' ", label.name()))
            .collect();
        let sql = format!(
            "SELECT wanted.key, {COUNTS} FROM json_each(?) AS wanted CROSS JOIN traffic
             WHERE grain = ? AND start = ? {labels} AND status = wanted.value ->> 1"
        );
        self.found(&sql, &wanted, grain, start, |row| stored_counts(row, 1)).await
    }

    /// Returns the sums so far of these keys in a period, by index in `keys`.
    pub(crate) async fn sums(
        &mut self,
        grain: i64,
        start: i64,
        keys: &[&SumKey],
    ) -> Result<HashMap<usize, StoredSum<'static>>> {
        let wanted: Vec<_> = keys.iter().map(|key| json!([key.dimension.name(), key.name])).collect();
        let sql = format!(
            "SELECT wanted.key, sums.status, {COUNTS} FROM json_each(?) AS wanted CROSS JOIN sums
             WHERE grain = ? AND start = ? AND dimension = wanted.value ->> 0 AND name = wanted.value ->> 1"
        );
        let sum = |row: &sqlx::sqlite::SqliteRow| {
            let status = serde_json::from_str(row.try_get(1)?);
            let status = status.map_err(|error| StoreError::Broken("count by status", error.to_string()))?;
            Ok(StoredSum { status, counts: stored_counts(row, 2)? })
        };
        self.found(&sql, &wanted, grain, start, sum).await
    }

    async fn found<T>(
        &mut self,
        sql: &str,
        wanted: &[serde_json::Value],
        grain: i64,
        start: i64,
        read: impl Fn(&sqlx::sqlite::SqliteRow) -> Result<T>,
    ) -> Result<HashMap<usize, T>> {
        sqlx::query(AssertSqlSafe(sql))
            .bind(serde_json::Value::from(wanted.to_vec()).to_string())
            .bind(grain)
            .bind(start)
            .fetch_all(&mut *self.tx)
            .await?
            .iter()
            .map(|row| {
                let place = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(usize::MAX);
                Ok((place, read(row)?))
            })
            .collect()
    }

    /// Replaces the counts of keys.
    pub(crate) async fn put(
        &mut self,
        grain: i64,
        start: i64,
        rows: &[(Key, StoredCounts<'_>)],
    ) -> Result<()> {
        for rows in rows.chunks(AT_ONCE) {
            let mut insert = QueryBuilder::<Sqlite>::new(format!(
                "INSERT INTO traffic (grain, start, {}, status, {COUNTS}) ",
                labels()
            ));
            insert.push_values(rows, |mut row, (key, counts)| {
                row.push_bind(grain).push_bind(start);
                for label in &key.labels {
                    row.push_bind(label);
                }
                row.push_bind(i64::from(key.status));
                push_counts(row, counts);
            });
            insert.push(REPLACE);
            insert.build().persistent(rows.len() == AT_ONCE).execute(&mut *self.tx).await?;
        }
        Ok(())
    }

    /// Replaces sums.
    pub(crate) async fn put_sums(
        &mut self,
        grain: i64,
        start: i64,
        sums: &[(SumKey, StoredSum<'_>)],
    ) -> Result<()> {
        for sums in sums.chunks(AT_ONCE) {
            let mut insert = QueryBuilder::<Sqlite>::new(format!(
                "INSERT INTO sums (grain, dimension, start, name, status, {COUNTS}) "
            ));
            insert.push_values(sums, |mut row, (key, sum)| {
                row.push_bind(grain).push_bind(key.dimension.name()).push_bind(start);
                // Serializing a map of numbers cannot fail.
                row.push_bind(&key.name).push_bind(serde_json::to_string(&sum.status).unwrap_or_default());
                push_counts(row, &sum.counts);
            });
            insert.push(REPLACE).push(", status = excluded.status");
            insert.build().persistent(sums.len() == AT_ONCE).execute(&mut *self.tx).await?;
        }
        Ok(())
    }

    /// Removes the batches up to `last` from the log and commits.
    pub(crate) async fn finish(mut self, last: i64) -> Result<()> {
        sqlx::query("DELETE FROM batches_log WHERE id <= ?").bind(last).execute(&mut *self.tx).await?;
        Ok(self.tx.commit().await?)
    }

    /// Rolls the transaction back.
    pub(crate) async fn abandon(self) -> Result<()> {
        Ok(self.tx.rollback().await?)
    }

    /// Whether every row of `traffic` is included in the sums.
    pub(crate) async fn has_sums(&mut self) -> Result<bool> {
        Ok(sqlx::query_scalar("SELECT value FROM meta WHERE key = 'sums_made'")
            .fetch_one(&mut *self.tx)
            .await?)
    }

    /// Lists the periods in `traffic`.
    pub(crate) async fn periods(&mut self) -> Result<Vec<(i64, i64)>> {
        Ok(sqlx::query_as("SELECT DISTINCT grain, start FROM traffic").fetch_all(&mut *self.tx).await?)
    }

    /// Returns all rows of a period.
    pub(crate) async fn period(
        &mut self,
        grain: i64,
        start: i64,
    ) -> Result<Vec<(Key, StoredCounts<'static>)>> {
        let sql = format!("SELECT {}, status, {COUNTS} FROM traffic WHERE grain = ? AND start = ?", labels());
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(grain).bind(start).fetch_all(&mut *self.tx).await?;
        let key = |row: &sqlx::sqlite::SqliteRow| -> Result<Key> {
            let mut labels = [const { String::new() }; Dimension::LABELS.len()];
            for (at, label) in labels.iter_mut().enumerate() {
                *label = row.try_get(at)?;
            }
            Ok(Key { labels, status: row.try_get(Dimension::LABELS.len())? })
        };
        rows.iter().map(|row| Ok((key(row)?, stored_counts(row, Dimension::LABELS.len() + 1)?))).collect()
    }

    /// Records that every row of `traffic` is included in the sums, and commits.
    pub(crate) async fn finish_sums(mut self) -> Result<()> {
        sqlx::query("UPDATE meta SET value = 1 WHERE key = 'sums_made'").execute(&mut *self.tx).await?;
        Ok(self.tx.commit().await?)
    }
}

/// The columns of the labels of `traffic`.
fn labels() -> String {
    Dimension::LABELS.map(Dimension::name).join(", ")
}

/// Overwrites the counts of an existing row.
const REPLACE: &str = " ON CONFLICT DO UPDATE SET requests = excluded.requests, bytes_in = excluded.bytes_in,
    bytes_out = excluded.bytes_out, retries = excluded.retries, latency = excluded.latency,
    latency_max_us = excluded.latency_max_us, upstream = excluded.upstream,
    upstream_max_us = excluded.upstream_max_us, refused = excluded.refused, cut = excluded.cut,
    streams = excluded.streams, stream_max_us = excluded.stream_max_us";

/// Pushes values in the order of [`COUNTS`].
fn push_counts(mut row: Separated<'_, Sqlite, &'static str>, counts: &StoredCounts<'_>) {
    row.push_bind(counts.requests.cast_signed())
        .push_bind(counts.bytes_in.cast_signed())
        .push_bind(counts.bytes_out.cast_signed())
        .push_bind(counts.retries.cast_signed())
        .push_bind(counts.latency.as_ref())
        .push_bind(counts.latency_max_us.cast_signed())
        .push_bind(counts.upstream.as_ref())
        .push_bind(counts.upstream_max_us.cast_signed())
        .push_bind(counts.refused.as_ref())
        .push_bind(counts.cut.as_ref())
        .push_bind(counts.streams.as_ref())
        .push_bind(counts.stream_max_us.cast_signed());
}
