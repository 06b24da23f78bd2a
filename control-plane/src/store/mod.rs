//! All SQL of the control plane, for SQLite.
//!
//! One connection writes and several read (WAL mode). Migrations are embedded and run at start. A database that cannot
//! be used is rejected at start with an error that says why; nothing is repaired silently.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Row as _, SqliteConnection, SqlitePool,
    migrate::Migrator,
    sqlite::{
        SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
    },
};

mod access;
mod change;
mod config_file;
mod configuration;
mod error;
mod files;
mod lock;
mod node_access;
mod nodes;
mod secrets;
pub mod stats;
mod writer;

pub(crate) use change::Detached;
pub use change::WriteStore;
pub use error::{Cause, StoreError};
use error::{explain, explain_migration};
use writer::{Transaction, Writer};

pub use access::{AuditEntry, AuditLimits, StoredToken};
pub use config_file::StoredFile;
pub use configuration::{Origin, Revision, Stored};
pub use lock::Lock;
use lock::Marks;
pub use node_access::{Issuing, NodeCertificate, NodePermit, StoredCa, StoredNodeAccess, StoredNodeToken};
pub use nodes::SeenNode;
pub use secrets::{FleetKey, Sealed};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// `Weir` in ASCII. SQLite stores it in the file's header; it distinguishes Weir's databases from those of other
/// programs.
const APPLICATION_ID: i64 = 0x5765_6972;

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    /// A single connection, so that writers queue here and not in SQLite's lock.
    writer: Writer,
    /// Read-only connections.
    pub(crate) reader: SqlitePool,
    path: PathBuf,
    /// Changes that are running.
    detached: Detached,
    /// The highest numbers that were assigned, stored outside the database.
    marks: Option<Marks>,
}

impl Store {
    /// Opens the database `sqlite:PATH`, creates it if it is missing, and migrates its schema.
    ///
    /// # Errors
    /// The file is not a SQLite database, is another program's database, is read-only, was written by a newer version,
    /// or cannot be opened.
    pub async fn open(database: &str) -> Result<Self, StoreError> {
        let options = options(database)?;
        if database.contains(":memory:") || database.contains("mode=memory") {
            return Err(StoreError::Name(
                database.to_owned(),
                "a database in memory would lose everything at exit".into(),
            ));
        }
        refuse_read_only(database, options.get_filename())?;
        let path = options.get_filename().to_owned();
        // If the file cannot be created, SQLite reports the reason below.
        let _ = files::make_private(&path);
        let options = options
            .create_if_missing(true)
            .foreign_keys(true)
            // After a crash the first connection replays the write-ahead log while the others wait.
            .busy_timeout(Duration::from_secs(30))
            // Two histograms exceed the maximum row size of a small page, and each would need an overflow page.
            .page_size(16 << 10)
            // A statement's rollback data can exceed what SQLite keeps in memory, and a container with a read-only root
            // has no folder for temporary files.
            .pragma("temp_store", "memory")
            // Allows the space of deleted statistics to be freed in small steps. It must be set before the first table,
            // or by `VACUUM`.
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            // An acknowledged batch or revision must survive a power failure.
            .synchronous(SqliteSynchronous::Full);
        let open = |error: sqlx::Error| StoreError::Open(database.to_owned(), explain(&error));
        let options = options.journal_mode(SqliteJournalMode::Wal);
        let mut connection = options.connect().await.map_err(open)?;
        refuse_foreign(database, &mut connection).await?;
        MIGRATIONS
            .run(&mut connection)
            .await
            .map_err(|error| StoreError::Unusable(database.to_owned(), explain_migration(&error)))?;
        make_shrinkable(&mut connection).await.map_err(open)?;
        let writer = Writer::new(options.clone(), &path, connection);
        let reader = SqlitePoolOptions::new()
            .max_connections(4)
            // A read transaction that was not ended would show the same old state forever.
            .after_release(|connection, _| {
                let is_free = !sqlx::Connection::is_in_transaction(connection);
                Box::pin(async move { Ok(is_free) })
            })
            .connect_with(
                options
                    .create_if_missing(false)
                    .pragma("query_only", "on")
                    // Statistics queries return many rows, a megabyte or more.
                    .row_buffer_size(16),
            )
            .await
            .map_err(open)?;
        Ok(Self { writer, reader, path, detached: Detached::default(), marks: None })
    }

    /// Records the highest assigned numbers in the lock file from now on.
    pub fn marked_in(self, lock: &Lock) -> Self {
        Self { marks: lock.marks(), ..self }
    }

    /// Begins a write transaction.
    async fn begin(&self) -> Result<Transaction, sqlx::Error> {
        self.writer.begin().await
    }

    /// Copies the write-ahead log into the database and empties it, so that no deleted data remains in the log.
    async fn truncate_log(&self) -> Result<(), StoreError> {
        Ok(self.writer.truncate_log().await?)
    }

    /// Runs work that callers cannot cancel.
    pub(crate) fn detached(&self) -> &Detached {
        &self.detached
    }

    /// Path of the database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for running changes and closes every connection. Committed data is in the file.
    pub async fn close(&self) {
        self.detached.finish().await;
        self.reader.close().await;
        self.writer.close().await;
    }
}

fn options(database: &str) -> Result<SqliteConnectOptions, StoreError> {
    let wrong = |error: sqlx::Error| StoreError::Name(database.to_owned(), error.to_string());
    database.parse().map_err(wrong)
}

/// Root can write to a read-only file, but the operator who made it read-only meant it.
fn refuse_read_only(database: &str, path: &Path) -> Result<(), StoreError> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            Err(StoreError::Open(database.to_owned(), "it is a folder".into()))
        }
        Ok(metadata) if metadata.permissions().readonly() => {
            Err(StoreError::Open(database.to_owned(), "the file is read-only".into()))
        }
        _ => Ok(()),
    }
}

async fn refuse_foreign(database: &str, writer: &mut SqliteConnection) -> Result<(), StoreError> {
    let open = |error: sqlx::Error| StoreError::Open(database.to_owned(), explain(&error));
    let id: i64 = sqlx::query("PRAGMA application_id").fetch_one(&mut *writer).await.map_err(open)?.get(0);
    let tables: i64 =
        sqlx::query("SELECT count(*) FROM sqlite_master").fetch_one(&mut *writer).await.map_err(open)?.get(0);
    if tables > 0 && id != APPLICATION_ID {
        let why = "it is a SQLite database of another program";
        return Err(StoreError::Unusable(database.to_owned(), why.into()));
    }
    Ok(())
}

/// A database of an earlier version must be rewritten once before it can free single pages.
async fn make_shrinkable(writer: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let mode: i64 = sqlx::query("PRAGMA auto_vacuum").fetch_one(&mut *writer).await?.try_get(0)?;
    if mode != 2 {
        tracing::info!("rewriting the database once, so that its file can shrink later");
        sqlx::raw_sql("PRAGMA auto_vacuum = INCREMENTAL; VACUUM").execute(writer).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_connection_needs_a_folder_for_temporary_files() {
        let folder = tempfile::tempdir().unwrap();
        let store =
            Store::open(&format!("sqlite:{}", folder.path().join("weir.db").display())).await.unwrap();
        let pragma = "PRAGMA temp_store";
        let mut transaction = store.begin().await.unwrap();
        let writer: i64 = sqlx::query_scalar(pragma).fetch_one(&mut *transaction).await.unwrap();
        let reader: i64 = sqlx::query_scalar(pragma).fetch_one(&store.reader).await.unwrap();
        assert_eq!((writer, reader), (2, 2), "in memory");
    }
}
