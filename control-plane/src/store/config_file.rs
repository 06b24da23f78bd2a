//! SQL for the configuration file as it was last applied.

use sqlx::Row as _;

use super::{Store, StoreError, WriteStore};

/// The configuration file as it was last applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Path the file was read from.
    pub path: String,
    /// SHA-256 of the content.
    pub hash: Vec<u8>,
    /// The configuration as JSON, with the content of referenced files inlined and private keys removed.
    pub content: String,
    /// Time of application, milliseconds since the Unix epoch.
    pub applied_ms: i64,
    /// The current revision after the file was applied.
    pub revision: u64,
}

impl Store {
    /// Returns the configuration file as it was last applied, if one was ever applied.
    ///
    /// # Errors
    /// The database failed.
    pub async fn config_file(&self) -> Result<Option<StoredFile>, StoreError> {
        let row =
            sqlx::query("SELECT path, hash, content, applied_ms, revision FROM config_file WHERE id = 1")
                .fetch_optional(&self.reader)
                .await?;
        Ok(row.map(|row| StoredFile {
            path: row.get(0),
            hash: row.get(1),
            content: row.get(2),
            applied_ms: row.get(3),
            revision: row.get::<i64, _>(4).unsigned_abs(),
        }))
    }
}

impl WriteStore {
    /// Stores the content of the configuration file that was applied.
    ///
    /// # Errors
    /// The database failed.
    pub async fn keep_config_file(&self, file: &StoredFile) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO config_file (id, path, hash, content, applied_ms, revision) VALUES (1, ?, ?, ?, ?, ?) \
             ON CONFLICT (id) DO UPDATE SET path = excluded.path, hash = excluded.hash, \
             content = excluded.content, applied_ms = excluded.applied_ms, revision = excluded.revision",
        )
        .bind(&file.path)
        .bind(&file.hash)
        .bind(&file.content)
        .bind(file.applied_ms)
        .bind(file.revision.cast_signed())
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }
}
