//! The SQL of the statistics: the log of batches, which sequences were seen, and the counts they fold into.
//!
//! Every write is one transaction on the single writer connection, so a crash leaves a batch either in the log
//! or in the counts, never in both and never in neither.

use sqlx::{Row as _, Sqlite, SqliteConnection, Transaction};

use super::Store;

type Result<T> = std::result::Result<T, sqlx::Error>;

/// Runs of sequences kept for one boot. Beyond it the oldest gap is closed and written down as lost.
const MAX_RUNS: i64 = 10_000;
/// What one fold reads at most, in bytes of encoded batches.
const FOLD_BYTES: i64 = 16 << 20;
/// What one fold reads at most, in batches.
const FOLD_BATCHES: i64 = 256;

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
    /// The encoded message.
    pub(crate) batch: Vec<u8>,
}

/// What one row of traffic is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Minutes that a row of this grain spans.
    pub(crate) grain: i64,
    /// Minutes since the epoch, a multiple of the grain.
    pub(crate) start: i64,
    pub(crate) route: String,
    pub(crate) pool: String,
    pub(crate) backend: String,
    pub(crate) status: u16,
}

/// The counts of one row of traffic, the histogram encoded.
#[derive(Debug, Clone)]
pub(crate) struct StoredCounts {
    pub(crate) status: u16,
    pub(crate) requests: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) retries: u64,
    pub(crate) latency: Vec<u8>,
    pub(crate) latency_max_us: u64,
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
}

/// A stretch in which counts of a node were lost.
#[derive(Debug, Clone)]
pub(crate) struct Lost {
    pub(crate) from_ms: i64,
    pub(crate) through_ms: i64,
}

/// Which rows of traffic a report reads; `None` is all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) route: Option<String>,
    pub(crate) pool: Option<String>,
    /// Backend ids as a JSON array.
    pub(crate) backends: Option<String>,
}

impl Store {
    /// Logs batches in one transaction and says of each whether it was there before. The order does not matter.
    pub(crate) async fn log_batches(&self, batches: &[NewBatch], now_ms: i64) -> Result<Vec<bool>> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut seen_before = Vec::with_capacity(batches.len());
        for batch in batches {
            let repeated = !see(&mut tx, batch).await?;
            seen_before.push(repeated);
            if repeated {
                continue;
            }
            sqlx::query(
                "INSERT INTO batches_log (node, boot, sequence, batch, received_ms) VALUES (?, ?, ?, ?, ?)",
            )
            .bind(&batch.node)
            .bind(&batch.boot)
            .bind(batch.sequence)
            .bind(&batch.batch)
            .bind(now_ms)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(seen_before)
    }

    /// Begins to fold the log into the counts.
    pub(crate) async fn begin_fold(&self) -> Result<Fold> {
        Ok(Fold { tx: self.writer.begin_with("BEGIN IMMEDIATE").await? })
    }

    /// The newest batch that waits to be folded.
    pub(crate) async fn newest_unfolded(&self) -> Result<Option<i64>> {
        sqlx::query_scalar("SELECT MAX(id) FROM batches_log").fetch_one(&self.reader).await
    }

    /// A view of the statistics that does not change while it is read.
    pub(crate) async fn traffic(&self) -> Result<Traffic> {
        Ok(Traffic { tx: self.reader.begin().await? })
    }
}

/// Marks a sequence as seen; false when it had been.
async fn see(tx: &mut SqliteConnection, batch: &NewBatch) -> Result<bool> {
    let NewBatch { node, boot, sequence, .. } = batch;
    let below = sqlx::query(
        "SELECT node, boot, first, last, from_ms, through_ms FROM batches_seen
         WHERE node = ? AND boot = ? AND first <= ? ORDER BY first DESC LIMIT 1",
    )
    .bind(node)
    .bind(boot)
    .bind(sequence)
    .fetch_optional(&mut *tx)
    .await?
    .map(|row| run(&row))
    .transpose()?;
    if below.as_ref().is_some_and(|run| run.last >= *sequence) {
        return Ok(false);
    }
    let above = sqlx::query(
        "DELETE FROM batches_seen WHERE node = ? AND boot = ? AND first = ?
         RETURNING node, boot, first, last, from_ms, through_ms",
    )
    .bind(node)
    .bind(boot)
    .bind(sequence + 1)
    .fetch_optional(&mut *tx)
    .await?
    .map(|row| run(&row))
    .transpose()?;
    let below = below.filter(|run| run.last + 1 == *sequence);
    let alone = below.is_none() && above.is_none();
    let mut joined = Run {
        node: node.clone(),
        boot: boot.clone(),
        first: *sequence,
        last: *sequence,
        from_ms: batch.from_ms,
        through_ms: batch.through_ms,
    };
    for run in below.iter().chain(&above) {
        joined.first = joined.first.min(run.first);
        joined.last = joined.last.max(run.last);
        joined.from_ms = joined.from_ms.min(run.from_ms);
        joined.through_ms = joined.through_ms.max(run.through_ms);
    }
    put_run(tx, &joined).await?;
    if batch.lost {
        // What was dropped lies between the batch before and this one, so the time of this one is marked.
        put_lost(tx, node, batch.from_ms, batch.through_ms).await?;
    }
    if alone {
        close_oldest_gap(tx, node, boot).await?;
    }
    Ok(true)
}

async fn put_run(tx: &mut SqliteConnection, run: &Run) -> Result<()> {
    sqlx::query(
        "INSERT INTO batches_seen (node, boot, first, last, from_ms, through_ms) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET last = excluded.last, from_ms = excluded.from_ms,
             through_ms = excluded.through_ms",
    )
    .bind(&run.node)
    .bind(&run.boot)
    .bind(run.first)
    .bind(run.last)
    .bind(run.from_ms)
    .bind(run.through_ms)
    .execute(tx)
    .await?;
    Ok(())
}

async fn put_lost(tx: &mut SqliteConnection, node: &str, from_ms: i64, through_ms: i64) -> Result<()> {
    sqlx::query("INSERT OR IGNORE INTO batches_lost (node, from_ms, through_ms) VALUES (?, ?, ?)")
        .bind(node)
        .bind(from_ms)
        .bind(through_ms)
        .execute(tx)
        .await?;
    Ok(())
}

/// Keeps the runs of one boot bounded: joins the two oldest when there are too many.
async fn close_oldest_gap(tx: &mut SqliteConnection, node: &str, boot: &str) -> Result<()> {
    let runs: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM batches_seen WHERE node = ? AND boot = ?")
        .bind(node)
        .bind(boot)
        .fetch_one(&mut *tx)
        .await?;
    if runs <= MAX_RUNS {
        return Ok(());
    }
    let oldest = sqlx::query(
        "SELECT node, boot, first, last, from_ms, through_ms FROM batches_seen
         WHERE node = ? AND boot = ? ORDER BY first LIMIT 2",
    )
    .bind(node)
    .bind(boot)
    .fetch_all(&mut *tx)
    .await?
    .iter()
    .map(run)
    .collect::<Result<Vec<_>>>()?;
    let [first, second] = &oldest[..] else { return Ok(()) };
    sqlx::query("DELETE FROM batches_seen WHERE node = ? AND boot = ? AND first = ?")
        .bind(node)
        .bind(boot)
        .bind(second.first)
        .execute(&mut *tx)
        .await?;
    put_run(
        tx,
        &Run {
            last: second.last,
            from_ms: first.from_ms.min(second.from_ms),
            through_ms: first.through_ms.max(second.through_ms),
            ..first.clone()
        },
    )
    .await?;
    put_lost(tx, node, first.through_ms, second.from_ms).await?;
    tracing::warn!(node, boot, from = first.last + 1, to = second.first - 1, "gap in the batches closed");
    Ok(())
}

/// One step of folding, a transaction: what was read from the log is removed when the counts are written.
pub(crate) struct Fold {
    tx: Transaction<'static, Sqlite>,
}

impl Fold {
    /// The oldest batches of the log, a bounded number.
    pub(crate) async fn batches(&mut self) -> Result<Vec<(i64, Vec<u8>)>> {
        sqlx::query_as(
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
        .await
    }

    /// How many rows a period of a grain has, those with the label `besides` not counted.
    pub(crate) async fn rows(&mut self, grain: i64, start: i64, besides: &str) -> Result<i64> {
        sqlx::query_scalar("SELECT COUNT(*) FROM traffic WHERE grain = ? AND start = ? AND route <> ?")
            .bind(grain)
            .bind(start)
            .bind(besides)
            .fetch_one(&mut *self.tx)
            .await
    }

    /// The counts of a key so far.
    pub(crate) async fn counts(&mut self, key: &Key) -> Result<Option<StoredCounts>> {
        sqlx::query(
            "SELECT status, requests, bytes_in, bytes_out, retries, latency, latency_max_us FROM traffic
             WHERE grain = ? AND start = ? AND route = ? AND pool = ? AND backend = ? AND status = ?",
        )
        .bind(key.grain)
        .bind(key.start)
        .bind(&key.route)
        .bind(&key.pool)
        .bind(&key.backend)
        .bind(i64::from(key.status))
        .fetch_optional(&mut *self.tx)
        .await?
        .map(|row| stored_counts(&row))
        .transpose()
    }

    /// Replaces the counts of a key.
    pub(crate) async fn put(&mut self, key: &Key, counts: &StoredCounts) -> Result<()> {
        sqlx::query(
            "INSERT OR REPLACE INTO traffic (grain, start, route, pool, backend, status,
                 requests, bytes_in, bytes_out, retries, latency, latency_max_us)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(key.grain)
        .bind(key.start)
        .bind(&key.route)
        .bind(&key.pool)
        .bind(&key.backend)
        .bind(i64::from(key.status))
        .bind(counts.requests.cast_signed())
        .bind(counts.bytes_in.cast_signed())
        .bind(counts.bytes_out.cast_signed())
        .bind(counts.retries.cast_signed())
        .bind(&counts.latency)
        .bind(counts.latency_max_us.cast_signed())
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Removes the batches up to `last` from the log and commits.
    pub(crate) async fn finish(mut self, last: i64) -> Result<()> {
        sqlx::query("DELETE FROM batches_log WHERE id <= ?").bind(last).execute(&mut *self.tx).await?;
        self.tx.commit().await
    }
}

/// A view of the statistics that does not change while it is read.
pub(crate) struct Traffic {
    tx: Transaction<'static, Sqlite>,
}

impl Traffic {
    /// All counts of a grain with a start in `from..to` (minutes).
    pub(crate) async fn counts(
        &mut self,
        grain: i64,
        from: i64,
        to: i64,
        filter: &Filter,
    ) -> Result<Vec<StoredCounts>> {
        sqlx::query(
            "SELECT status, requests, bytes_in, bytes_out, retries, latency, latency_max_us FROM traffic
             WHERE grain = ?1 AND start >= ?2 AND start < ?3 AND (?4 IS NULL OR route = ?4)
                 AND (?5 IS NULL OR pool = ?5)
                 AND (?6 IS NULL OR backend IN (SELECT value FROM json_each(?6)))",
        )
        .bind(grain)
        .bind(from)
        .bind(to)
        .bind(&filter.route)
        .bind(&filter.pool)
        .bind(&filter.backends)
        .fetch_all(&mut *self.tx)
        .await?
        .iter()
        .map(stored_counts)
        .collect()
    }

    /// Every run of sequences, by node, boot and sequence.
    pub(crate) async fn runs(&mut self) -> Result<Vec<Run>> {
        sqlx::query(
            "SELECT node, boot, first, last, from_ms, through_ms FROM batches_seen
             ORDER BY node, boot, first",
        )
        .fetch_all(&mut *self.tx)
        .await?
        .iter()
        .map(run)
        .collect()
    }

    /// Every stretch in which counts were lost.
    pub(crate) async fn lost(&mut self) -> Result<Vec<Lost>> {
        sqlx::query("SELECT from_ms, through_ms FROM batches_lost")
            .fetch_all(&mut *self.tx)
            .await?
            .iter()
            .map(|row| Ok(Lost { from_ms: row.try_get("from_ms")?, through_ms: row.try_get("through_ms")? }))
            .collect()
    }
}

impl Store {
    /// The ids that a backend with this URL has, or had in any revision, as a JSON array; `None` when there never
    /// was one.
    pub(crate) async fn backends_by_url(&self, url: &str) -> Result<Option<String>> {
        sqlx::query_scalar(
            "SELECT json_group_array(id) FROM (
                 SELECT id FROM backends WHERE url = ?1
                 UNION
                 SELECT name FROM changes WHERE kind = 'backend'
                     AND (json_extract(after, '$.url') = ?1 OR json_extract(before, '$.url') = ?1))
             HAVING COUNT(*) > 0",
        )
        .bind(url)
        .fetch_optional(&self.reader)
        .await
    }
}

fn run(row: &sqlx::sqlite::SqliteRow) -> Result<Run> {
    Ok(Run {
        node: row.try_get("node")?,
        boot: row.try_get("boot")?,
        first: row.try_get("first")?,
        last: row.try_get("last")?,
        from_ms: row.try_get("from_ms")?,
        through_ms: row.try_get("through_ms")?,
    })
}

fn stored_counts(row: &sqlx::sqlite::SqliteRow) -> Result<StoredCounts> {
    let count = |column: &str| row.try_get::<i64, _>(column).map(i64::cast_unsigned);
    Ok(StoredCounts {
        status: row.try_get::<u16, _>("status")?,
        requests: count("requests")?,
        bytes_in: count("bytes_in")?,
        bytes_out: count("bytes_out")?,
        retries: count("retries")?,
        latency: row.try_get("latency")?,
        latency_max_us: count("latency_max_us")?,
    })
}
