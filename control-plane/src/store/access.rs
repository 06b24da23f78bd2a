//! SQL for API tokens and the audit log.

use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Store, StoreError, WriteStore};

/// A stored API token. Only its hash is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// Token id, never reused.
    pub id: i64,
    /// Display name, unique among tokens that are not revoked.
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
    /// SHA-256 of the token.
    pub hash: Vec<u8>,
    /// Creation time, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Actor that created the token.
    pub created_by: String,
    /// Expiry time; `None` means that the token does not expire.
    pub expires_ms: Option<i64>,
    /// Revocation time, if the token is revoked.
    pub revoked_ms: Option<i64>,
    /// Time of the last use, accurate to about a minute.
    pub last_used_ms: Option<i64>,
}

/// An audit entry: a change of the fleet, a login, or a refused call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditEntry {
    /// Entry id; ids increase.
    pub id: i64,
    /// Milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// The actor: a token's name, `anonymous@address`, or a part of the control plane.
    pub actor: String,
    /// Role of the actor; empty when it has no role.
    pub role: String,
    /// Interface that was used: `rest`, `grpc`, `dashboard`, `nodes` or `start`.
    pub source: String,
    /// Method and path, or a gRPC method.
    pub action: String,
    /// `ok`, `failed` or `refused`.
    pub outcome: String,
    /// Explanation for people.
    pub detail: String,
    /// The revision that the change created.
    pub revision: Option<u64>,
    /// Number of occurrences, when identical refusals are combined into one entry.
    pub times: u64,
}

/// Number of audit entries to keep. Changes and refusals have separate limits, so that a scanner cannot push changes
/// out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditLimits {
    /// Maximum number of changes.
    pub changes: i64,
    /// Maximum number of refusals and logins.
    pub refusals: i64,
}

fn token(row: &SqliteRow) -> StoredToken {
    StoredToken {
        id: row.get(0),
        name: row.get(1),
        role: row.get(2),
        hash: row.get(3),
        created_ms: row.get(4),
        created_by: row.get(5),
        expires_ms: row.get(6),
        revoked_ms: row.get(7),
        last_used_ms: row.get(8),
    }
}

impl Store {
    /// Returns all stored tokens, including revoked ones, and whether a token was ever created.
    ///
    /// # Errors
    /// The database failed.
    pub async fn tokens(&self) -> Result<(Vec<StoredToken>, bool), StoreError> {
        let mut tx = self.reader.begin().await?;
        let rows = sqlx::query(
            "SELECT id, name, role, hash, created_ms, created_by, expires_ms, revoked_ms, last_used_ms \
             FROM tokens ORDER BY id",
        )
        .fetch_all(&mut *tx)
        .await?;
        let needed: i64 = sqlx::query("SELECT value FROM meta WHERE key = 'tokens_needed'")
            .fetch_one(&mut *tx)
            .await?
            .get(0);
        Ok((rows.iter().map(token).collect(), needed != 0))
    }

    /// Returns the newest entries with ids below `before`, newest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn audit(&self, before: Option<i64>, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, time_ms, actor, role, source, action, outcome, detail, revision, times FROM audit \
             WHERE id < ? ORDER BY id DESC LIMIT ?",
        )
        .bind(before.unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        let entry = |row: &SqliteRow| AuditEntry {
            id: row.get(0),
            time_ms: row.get(1),
            actor: row.get(2),
            role: row.get(3),
            source: row.get(4),
            action: row.get(5),
            outcome: row.get(6),
            detail: row.get(7),
            revision: row.get::<Option<i64>, _>(8).map(i64::unsigned_abs),
            times: row.get::<i64, _>(9).unsigned_abs(),
        };
        Ok(rows.iter().map(entry).collect())
    }
}

impl WriteStore {
    /// Stores a new token and returns its id; the id in `token` is ignored. From now on the admin API requires a token.
    ///
    /// # Errors
    /// The database failed.
    pub async fn add_token(&self, token: &StoredToken) -> Result<i64, StoreError> {
        let mut tx = self.begin().await?;
        // The name of an expired token can be used again.
        sqlx::query(
            "UPDATE tokens SET revoked_ms = expires_ms WHERE name = ? AND revoked_ms IS NULL AND expires_ms <= ?",
        )
        .bind(&token.name)
        .bind(token.created_ms)
        .execute(&mut *tx)
        .await?;
        let id = sqlx::query(
            "INSERT INTO tokens (name, role, hash, created_ms, created_by, expires_ms) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(&token.name)
        .bind(&token.role)
        .bind(&token.hash)
        .bind(token.created_ms)
        .bind(&token.created_by)
        .bind(token.expires_ms)
        .execute(&mut *tx)
        .await?
        .last_insert_rowid();
        sqlx::query("UPDATE meta SET value = 1 WHERE key = 'tokens_needed'").execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// The database failed.
    pub async fn revoke_token(&self, id: i64, now_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE tokens SET revoked_ms = ? WHERE id = ? AND revoked_ms IS NULL")
            .bind(now_ms)
            .bind(id)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Stores when tokens were last used, and deletes tokens that were revoked or expired before `ended_before_ms`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn keep_tokens(&self, used: &[(i64, i64)], ended_before_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for (id, used_ms) in used {
            sqlx::query("UPDATE tokens SET last_used_ms = ? WHERE id = ?")
                .bind(used_ms)
                .bind(id)
                .execute(&mut *tx)
                .await?;
        }
        sqlx::query("DELETE FROM tokens WHERE coalesce(revoked_ms, expires_ms) < ?")
            .bind(ended_before_ms)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Appends an audit entry; the id in `entry` is ignored.
    ///
    /// # Errors
    /// The database failed.
    pub async fn add_audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO audit (time_ms, actor, role, source, action, outcome, detail, revision, times) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(entry.time_ms)
        .bind(&entry.actor)
        .bind(&entry.role)
        .bind(&entry.source)
        .bind(&entry.action)
        .bind(&entry.outcome)
        .bind(&entry.detail)
        .bind(entry.revision.map(u64::cast_signed))
        .bind(entry.times.cast_signed())
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Deletes entries from before a time, and the oldest entries beyond the limits. Logins count as refusals here: a
    /// viewer can log in any number of times, and must not push changes out.
    ///
    /// # Errors
    /// The database failed.
    pub async fn trim_audit(&self, before_ms: i64, limits: AuditLimits) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM audit WHERE time_ms < ?").bind(before_ms).execute(&mut *tx).await?;
        for (is_refused, most) in [(false, limits.changes), (true, limits.refusals)] {
            sqlx::query(
                "DELETE FROM audit WHERE (outcome = 'refused' OR action = 'POST /ui/login') = ?1 AND id <= (SELECT id \
                 FROM audit WHERE (outcome = 'refused' OR action = 'POST /ui/login') = ?1 \
                 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            )
            .bind(is_refused)
            .bind(most)
            .execute(&mut *tx)
            .await?;
        }
        Ok(tx.commit().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn logins_push_no_change_out_of_the_audit() {
        let folder = tempfile::tempdir().unwrap();
        let store =
            Store::open(&format!("sqlite:{}", folder.path().join("weir.db").display())).await.unwrap();
        let add = async |action: &str, outcome: &str| {
            let entry = AuditEntry {
                time_ms: 1000,
                action: action.into(),
                outcome: outcome.into(),
                ..AuditEntry::default()
            };
            store.change(|db| async move { db.add_audit(&entry).await }).await.unwrap();
        };
        add("PUT /config", "ok").await;
        for _ in 0..5 {
            add("POST /ui/login", "ok").await;
            add("GET /audit", "refused").await;
        }
        store
            .change(|db| async move { db.trim_audit(0, AuditLimits { changes: 2, refusals: 3 }).await })
            .await
            .unwrap();
        let left = store.audit(None, 100).await.unwrap();
        let actions: Vec<&str> = left.iter().map(|entry| &*entry.action).collect();
        assert_eq!(actions, ["GET /audit", "POST /ui/login", "GET /audit", "PUT /config"]);
    }
}
