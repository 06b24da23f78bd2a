//! SQL for sealed secrets: private keys of certificates, session-ticket keys and the session key.

use sqlx::Row as _;
use zeroize::Zeroizing;

use super::{Store, StoreError, WriteStore};

/// The key that session cookies are signed with.
pub type FleetKey = Zeroizing<[u8; 32]>;

/// A secret as it is stored.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// Name, unique within the kind.
    pub name: String,
    /// Ciphertext; only the master key can open it.
    pub sealed: Vec<u8>,
    /// When the secret becomes valid, milliseconds since the Unix epoch.
    pub since_ms: i64,
}

impl Store {
    /// Returns whether any secret is stored.
    ///
    /// # Errors
    /// The database failed.
    pub async fn has_secrets(&self) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM secrets)").fetch_one(&self.reader).await?;
        Ok(row.get::<i64, _>(0) != 0)
    }

    /// Returns all secrets of a kind.
    ///
    /// # Errors
    /// The database failed.
    pub async fn secrets(&self, kind: &str) -> Result<Vec<Sealed>, StoreError> {
        let rows = sqlx::query("SELECT name, sealed, since_ms FROM secrets WHERE kind = ? ORDER BY name")
            .bind(kind)
            .fetch_all(&self.reader)
            .await?;
        let sealed = |row: &sqlx::sqlite::SqliteRow| Sealed {
            name: row.get(0),
            sealed: row.get(1),
            since_ms: row.get(2),
        };
        Ok(rows.iter().map(sealed).collect())
    }

    /// Returns the JSON of all certificates and TLS pools in the current configuration and in all stored revisions.
    ///
    /// # Errors
    /// The database failed.
    pub async fn specs_with_keys(&self) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(
            "SELECT spec FROM certificates UNION SELECT spec FROM pools WHERE spec LIKE '%\"tls\"%' \
             UNION SELECT before FROM changes WHERE kind = 'certificate' OR kind = 'pool' AND before LIKE '%\"tls\"%' \
             UNION SELECT after FROM changes WHERE kind = 'certificate' OR kind = 'pool' AND after LIKE '%\"tls\"%'",
        )
        .fetch_all(&self.reader)
        .await?;
        Ok(rows.iter().filter_map(|row| row.get::<Option<String>, _>(0)).collect())
    }
}

impl Store {
    /// Returns the session key that earlier versions stored unencrypted.
    ///
    /// # Errors
    /// The database failed.
    pub async fn clear_session_key(&self) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let key: Option<Vec<u8>> = sqlx::query_scalar("SELECT key FROM fleet_keys WHERE name = 'session'")
            .fetch_optional(&self.reader)
            .await?;
        Ok(key.map(Zeroizing::new))
    }
}

impl WriteStore {
    /// Deletes the unencrypted session key, including its traces in the file and in the write-ahead log.
    ///
    /// # Errors
    /// The database failed.
    pub async fn erase_clear_session_key(&self) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        // Freed content is overwritten with zeros. The setting applies to this connection only, which is not used
        // again.
        sqlx::query("PRAGMA secure_delete = ON").execute(&mut *tx).await?;
        sqlx::query("DELETE FROM fleet_keys").execute(&mut *tx).await?;
        tx.commit().await?;
        self.truncate_log().await
    }

    /// Adds and deletes secrets of a kind in one transaction. A secret that already exists is not changed.
    ///
    /// # Errors
    /// The database failed; nothing was written.
    pub async fn change_secrets(&self, kind: &str, new: &[Sealed], old: &[String]) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for Sealed { name, sealed, since_ms } in new {
            sqlx::query("INSERT INTO secrets (kind, name, sealed, since_ms) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
                .bind(kind)
                .bind(name)
                .bind(sealed)
                .bind(since_ms)
                .execute(&mut *tx)
                .await?;
        }
        for name in old {
            sqlx::query("DELETE FROM secrets WHERE kind = ? AND name = ?")
                .bind(kind)
                .bind(name)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }
}
