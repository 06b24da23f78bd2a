//! The log of batches, and the sequence numbers received so far, so that each batch counts once.

use sqlx::SqliteConnection;

use super::{NewBatch, Result, Run, run};
use crate::store::Store;

/// Maximum number of sequence runs stored per boot. Beyond it the oldest gap is closed and recorded as lost.
const MAX_RUNS: i64 = 10_000;

impl Store {
    /// Logs batches in one transaction and returns for each whether it was a duplicate. The order does not matter.
    pub(crate) async fn log_batches(&self, batches: &[NewBatch], now_ms: i64) -> Result<Vec<bool>> {
        let mut tx = self.begin().await?;
        let mut seen_before = Vec::with_capacity(batches.len());
        for batch in batches {
            let repeated = !record_sequence(&mut tx, batch).await?;
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
}

/// Records a sequence number; returns false if it was already recorded.
async fn record_sequence(tx: &mut SqliteConnection, batch: &NewBatch) -> Result<bool> {
    let NewBatch { node, boot, sequence, .. } = batch;
    let below = sqlx::query(
        "SELECT node, boot, first, last, from_ms, through_ms, left FROM batches_seen
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
         RETURNING node, boot, first, last, from_ms, through_ms, left",
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
        left: batch.left,
    };
    for run in below.iter().chain(&above) {
        joined.first = joined.first.min(run.first);
        joined.last = joined.last.max(run.last);
        joined.from_ms = joined.from_ms.min(run.from_ms);
        joined.through_ms = joined.through_ms.max(run.through_ms);
        joined.left |= run.left;
    }
    put_run(tx, &joined).await?;
    if batch.lost {
        // The counts were dropped between the previous batch and this one, so this batch's time range is marked as
        // lost.
        put_lost(tx, node, batch.from_ms, batch.through_ms, 0).await?;
    }
    if let Some(late) = &batch.late {
        put_lost(tx, node, late.from_ms, late.through_ms, late.rows).await?;
    }
    if let Some((from_ms, through_ms)) = batch.moved {
        // All counts arrived, but some may be in the wrong minute.
        put_lost(tx, node, from_ms, through_ms, 0).await?;
    }
    if alone {
        close_oldest_gap(tx, node, boot).await?;
    }
    Ok(true)
}

async fn put_run(tx: &mut SqliteConnection, run: &Run) -> Result<()> {
    sqlx::query(
        "INSERT INTO batches_seen (node, boot, first, last, from_ms, through_ms, left)
         VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET last = excluded.last, from_ms = excluded.from_ms,
             through_ms = excluded.through_ms, left = excluded.left",
    )
    .bind(&run.node)
    .bind(&run.boot)
    .bind(run.first)
    .bind(run.last)
    .bind(run.from_ms)
    .bind(run.through_ms)
    .bind(run.left)
    .execute(tx)
    .await?;
    Ok(())
}

async fn put_lost(
    tx: &mut SqliteConnection,
    node: &str,
    from_ms: i64,
    through_ms: i64,
    late_rows: i64,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO batches_lost (node, from_ms, through_ms, late_rows) VALUES (?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET late_rows = late_rows + excluded.late_rows",
    )
    .bind(node)
    .bind(from_ms)
    .bind(through_ms)
    .bind(late_rows)
    .execute(tx)
    .await?;
    Ok(())
}

/// Limits the number of runs of one boot by joining the two oldest.
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
        "SELECT node, boot, first, last, from_ms, through_ms, left FROM batches_seen
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
            left: first.left || second.left,
            ..first.clone()
        },
    )
    .await?;
    put_lost(tx, node, first.through_ms, second.from_ms, 0).await?;
    tracing::warn!(node, boot, from = first.last + 1, to = second.first - 1, "gap in the batches closed");
    Ok(())
}
