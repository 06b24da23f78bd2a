//! Retention: deletes old counts of the finer grains and returns free pages to the file system.

use super::{Kept, Result};
use crate::store::Store;

/// Maximum minutes that one transaction removes from a grain, so that other writers wait only milliseconds.
const STEP: [(i64, &str, i64); 2] = [(1, "minutes_from", 60), (60, "hours_from", 24 * 60)];
/// Free pages that one transaction returns.
const VACUUM_PAGES: i64 = 250;

impl Store {
    /// Removes a bounded part of what is older than the retention, and returns whether there may be more. The first
    /// transaction also stores the new limit for reports, so that no report reads half an hour.
    pub(crate) async fn forget(&self, kept: Kept) -> Result<bool> {
        let mut more = false;
        for (grain, key, step) in STEP {
            let border = if grain == 1 { kept.minutes_from } else { kept.hours_from };
            let mut tx = self.begin().await?;
            let mut oldest: Option<i64> = None;
            for table in ["traffic", "sums"] {
                let sql = match table {
                    "traffic" => "SELECT MIN(start) FROM traffic WHERE grain = ?",
                    _ => "SELECT MIN(start) FROM sums WHERE grain = ? AND dimension IN ('all', 'host')",
                };
                let first: Option<i64> = sqlx::query_scalar(sql).bind(grain).fetch_one(&mut *tx).await?;
                oldest = [oldest, first].into_iter().flatten().min();
            }
            let Some(oldest) = oldest.filter(|oldest| *oldest < border) else {
                tx.rollback().await?;
                continue;
            };
            let to = border.min(oldest + step);
            sqlx::query("UPDATE meta SET value = MAX(value, ?) WHERE key = ?")
                .bind(border)
                .bind(key)
                .execute(&mut *tx)
                .await?;
            sqlx::query("DELETE FROM traffic WHERE grain = ? AND start < ?")
                .bind(grain)
                .bind(to)
                .execute(&mut *tx)
                .await?;
            sqlx::query(
                "DELETE FROM sums WHERE grain = ? AND start < ?
                     AND dimension IN ('all', 'route', 'pool', 'backend', 'method', 'status', 'host')",
            )
            .bind(grain)
            .bind(to)
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            more |= to < border;
        }
        Ok(more)
    }

    /// Returns a bounded number of free pages to the file system when many are free, and whether there may be more.
    /// Some pages stay free, because each minute reuses what the previous one freed.
    pub(crate) async fn shrink(&self) -> Result<bool> {
        let mut tx = self.begin().await?;
        let free: i64 = sqlx::query_scalar("PRAGMA freelist_count").fetch_one(&mut *tx).await?;
        let all: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut *tx).await?;
        let spare = free - (all / 10).max(4 * VACUUM_PAGES);
        if spare <= 0 {
            tx.rollback().await?;
            return Ok(false);
        }
        let some = spare.min(VACUUM_PAGES);
        sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA incremental_vacuum({some})")))
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(spare > some)
    }
}
