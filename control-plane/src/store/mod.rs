//! All the SQL of the control plane, over SQLite.
//!
//! One connection writes, several read beside it (WAL). Migrations are embedded and run at start. A database that
//! cannot be used is refused at start with a message that says why: nothing is ever repaired silently.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    Row as _, SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{
        SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
    },
};

mod access;
mod config_file;
mod configuration;
mod keys;
mod lock;
mod node_access;
mod nodes;
mod secrets;
pub mod stats;

pub use access::{AuditEntry, StoredToken};
pub use config_file::StoredFile;
pub use configuration::{Revision, Stored};
pub use keys::FleetKey;
pub use lock::Lock;
pub use node_access::{Issuing, NodeCertificate, NodePermit, StoredCa, StoredNodeAccess, StoredNodeToken};
pub use nodes::SeenNode;
pub use secrets::Sealed;

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// `Weir` in ASCII: SQLite keeps it in the file's header, and it tells our database from another program's.
const APPLICATION_ID: i64 = 0x5765_6972;

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    /// One connection, so that writers queue here and not in SQLite's lock.
    pub(crate) writer: SqlitePool,
    /// Connections that only read.
    pub(crate) reader: SqlitePool,
    /// The file.
    path: PathBuf,
}

/// The database cannot be used, or said no.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The name is not that of a SQLite database.
    #[error("{0:?} is not a database's name (write sqlite:PATH): {1}")]
    Name(String, String),
    /// The file cannot be opened.
    #[error("cannot open database {0:?}: {1}")]
    Open(String, String),
    /// Its tables are not what this program expects.
    #[error("database {0:?} cannot be used: {1}")]
    Unusable(String, String),
    /// A stored value cannot be read back.
    #[error("the database holds a broken {0}: {1}")]
    Broken(&'static str, String),
    /// A statement failed.
    #[error("the database failed: {0}")]
    Sql(#[from] sqlx::Error),
}

impl Store {
    /// Opens the database `sqlite:PATH`, creates it when it is missing, and brings its tables up to date.
    ///
    /// # Errors
    /// It is not a database, not Weir's, read-only, newer than this program, or the file cannot be opened.
    pub async fn open(database: &str) -> Result<Self, StoreError> {
        let options = options(database)?;
        if database.contains(":memory:") || database.contains("mode=memory") {
            return Err(StoreError::Name(
                database.to_owned(),
                "a database in memory would forget everything".into(),
            ));
        }
        refuse_read_only(database, options.get_filename())?;
        let path = options.get_filename().to_owned();
        let options = options
            .create_if_missing(true)
            .foreign_keys(true)
            // After a crash the first connection reads the whole log again, and the others wait for it.
            .busy_timeout(Duration::from_secs(30))
            // Two histograms are more than a row of a small page may have: each would get a page of its own beside it.
            .page_size(16 << 10)
            // What a statement would need to be taken back grows beyond what SQLite keeps in memory, and a container
            // with a read-only root has no folder for temporary files.
            .pragma("temp_store", "memory")
            // What old statistics held can be given back bit by bit; set before the first table, or by a `VACUUM`.
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            // An acknowledged batch or revision must survive a power failure.
            .synchronous(SqliteSynchronous::Full);
        let open = |error: sqlx::Error| StoreError::Open(database.to_owned(), explain(&error));
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options.clone().journal_mode(SqliteJournalMode::Wal))
            .await
            .map_err(open)?;
        refuse_foreign(database, &writer).await?;
        MIGRATIONS
            .run(&writer)
            .await
            .map_err(|error| StoreError::Unusable(database.to_owned(), explain_migration(&error)))?;
        make_shrinkable(&writer).await.map_err(open)?;
        let reader = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(
                options
                    .create_if_missing(false)
                    .pragma("query_only", "on")
                    // Of statistics a row is many, a megabyte or more.
                    .row_buffer_size(16),
            )
            .await
            .map_err(open)?;
        Ok(Self { writer, reader, path })
    }

    /// The database's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes every connection; what was committed is in the file.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

fn options(database: &str) -> Result<SqliteConnectOptions, StoreError> {
    let wrong = |error: sqlx::Error| StoreError::Name(database.to_owned(), error.to_string());
    database.parse().map_err(wrong)
}

/// Root may write to a file that nobody may write to; the operator who took the right away means it, though.
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

async fn refuse_foreign(database: &str, writer: &SqlitePool) -> Result<(), StoreError> {
    let open = |error: sqlx::Error| StoreError::Open(database.to_owned(), explain(&error));
    let id: i64 = sqlx::query("PRAGMA application_id").fetch_one(writer).await.map_err(open)?.get(0);
    let tables: i64 =
        sqlx::query("SELECT count(*) FROM sqlite_master").fetch_one(writer).await.map_err(open)?.get(0);
    if tables > 0 && id != APPLICATION_ID {
        let why = "it is a SQLite database, but not one of Weir's";
        return Err(StoreError::Unusable(database.to_owned(), why.into()));
    }
    Ok(())
}

/// A database of an earlier version cannot give back pages one by one until it was rewritten, once.
async fn make_shrinkable(writer: &SqlitePool) -> Result<(), sqlx::Error> {
    let mode: i64 = sqlx::query("PRAGMA auto_vacuum").fetch_one(writer).await?.try_get(0)?;
    if mode != 2 {
        tracing::info!("the database is rewritten once, so that its file can shrink later");
        sqlx::raw_sql("PRAGMA auto_vacuum = INCREMENTAL; VACUUM").execute(writer).await?;
    }
    Ok(())
}

fn explain(error: &sqlx::Error) -> String {
    match error.as_database_error().and_then(|error| error.code()).as_deref() {
        Some("26") => "the file is not a SQLite database".into(),
        Some("8" | "264" | "520" | "776" | "1032" | "1288") => "the file or its folder is read-only".into(),
        Some("14") => {
            "the file cannot be opened; does its folder exist, and may this user write there?".into()
        }
        _ => error.to_string(),
    }
}

fn explain_migration(error: &MigrateError) -> String {
    match error {
        MigrateError::VersionMissing(version) => format!(
            "it was written by a newer version of Weir (its migration {version} is unknown to version {})",
            env!("CARGO_PKG_VERSION")
        ),
        MigrateError::VersionMismatch(version) => {
            format!("its migration {version} is not the one that this program has")
        }
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => explain(error),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_connection_needs_a_folder_for_temporary_files() {
        let folder = tempfile::tempdir().unwrap();
        let store =
            Store::open(&format!("sqlite:{}", folder.path().join("weir.db").display())).await.unwrap();
        for pool in [&store.writer, &store.reader] {
            let place: i64 = sqlx::query_scalar("PRAGMA temp_store").fetch_one(pool).await.unwrap();
            assert_eq!(place, 2, "in memory");
        }
    }
}
