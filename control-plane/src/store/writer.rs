//! The single write connection.
//!
//! SQLite ends a transaction by itself after some errors (a full disk, an I/O error). A connection that was used after
//! such an error could go on inside a transaction that is never committed. Therefore a connection is used again only
//! after a `COMMIT` or `ROLLBACK` that succeeded; after anything else, including a dropped future, it is closed and the
//! next transaction opens a new one.
//!
//! A commit also checks that the file is still the one that was opened: a deleted or replaced file accepts writes that
//! no other program will ever see.

use std::{
    io,
    ops::{Deref, DerefMut},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use sqlx::{ConnectOptions as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// How long a transaction waits for the previous one.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The database file is no longer the one that was opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} was deleted or replaced while the control plane was running and receives no more writes; restart the \
     control plane to use the file that is there now"
)]
pub(super) struct Moved(PathBuf);

/// Device and inode of a file.
type FileId = (u64, u64);

fn file_id(path: &Path) -> io::Result<FileId> {
    std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Path of a file that SQLite or Weir keeps next to the database.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Opens the connection, lends it to one transaction at a time, and replaces it when its state is uncertain.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    path: Arc<Path>,
    /// The file that was opened at start.
    database: Option<FileId>,
    connection: Arc<Mutex<Option<Connection>>>,
    /// The file that was found deleted or replaced. A connection opened after that would mix two files.
    moved: Arc<OnceLock<PathBuf>>,
}

#[derive(Debug)]
struct Connection {
    sqlite: SqliteConnection,
    /// The write-ahead log that this connection has open.
    log: Option<FileId>,
}

impl Writer {
    /// Uses the connection that was opened at start.
    pub(super) fn new(options: SqliteConnectOptions, path: &Path, sqlite: SqliteConnection) -> Self {
        let connection = Connection { sqlite, log: file_id(&beside(path, "-wal")).ok() };
        Self {
            options: options.create_if_missing(false),
            path: path.into(),
            database: file_id(path).ok(),
            connection: Arc::new(Mutex::new(Some(connection))),
            moved: Arc::default(),
        }
    }

    /// Begins a write transaction.
    pub(super) async fn begin(&self) -> Result<Transaction, sqlx::Error> {
        let turn = tokio::time::timeout(MAX_WAIT, Arc::clone(&self.connection).lock_owned());
        let mut place = turn.await.map_err(|_| sqlx::Error::PoolTimedOut)?;
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => self.open().await?,
        };
        if let Err(error) = self.check(connection.log) {
            // The log that this connection has open may contain changes that exist in no named file any more.
            let _ = sqlx::query("PRAGMA wal_checkpoint(FULL)").execute(&mut connection.sqlite).await;
            *place = Some(connection);
            return Err(error);
        }
        // A plain BEGIN would make a transaction that reads first fail instead of waiting for another program's lock.
        sqlx::query("BEGIN IMMEDIATE").execute(&mut connection.sqlite).await?;
        Ok(Transaction { writer: self.clone(), place, connection })
    }

    async fn open(&self) -> Result<Connection, sqlx::Error> {
        // Checked before opening: another file must not become the database.
        self.check(None)?;
        let mut sqlite = self.options.connect().await?;
        // The first read opens the write-ahead log.
        sqlx::query("SELECT count(*) FROM sqlite_schema").execute(&mut sqlite).await?;
        tracing::info!("reopened the database's write connection after an error");
        Ok(Connection { sqlite, log: file_id(&beside(&self.path, "-wal")).ok() })
    }

    /// Checks that the paths of the database and of its log still lead to the open files.
    fn check(&self, log: Option<FileId>) -> Result<(), sqlx::Error> {
        for (path, open) in [(self.path.to_path_buf(), self.database), (beside(&self.path, "-wal"), log)] {
            let Some(open) = open else { continue };
            match file_id(&path) {
                Ok(found) if found == open => {}
                Ok(_) => drop(self.moved.set(path)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => drop(self.moved.set(path)),
                Err(error) => return Err(sqlx::Error::Io(error)),
            }
        }
        match self.moved.get() {
            Some(path) => Err(sqlx::Error::Io(io::Error::other(Moved(path.clone())))),
            None => Ok(()),
        }
    }

    /// Copies the log into the database and empties the log. Closes the connection.
    pub(super) async fn truncate_log(&self) -> Result<(), sqlx::Error> {
        let transaction = self.begin().await?;
        let Transaction { mut place, mut connection, .. } = transaction;
        sqlx::query("ROLLBACK").execute(&mut connection.sqlite).await?;
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_all(&mut connection.sqlite).await?;
        sqlx::Connection::close(connection.sqlite).await?;
        *place = None;
        Ok(())
    }

    /// Closes the connection. SQLite then copies the log into the database.
    pub(super) async fn close(&self) {
        let connection = self.connection.lock().await.take();
        if let Some(Connection { sqlite, .. }) = connection
            && let Err(error) = sqlx::Connection::close(sqlite).await
        {
            tracing::warn!(%error, "the database was not closed cleanly");
        }
    }
}

/// A transaction on the write connection. If it is dropped without [`commit`](Self::commit), nothing is changed and the
/// connection is closed.
#[derive(Debug)]
pub(crate) struct Transaction {
    writer: Writer,
    place: OwnedMutexGuard<Option<Connection>>,
    connection: Connection,
}

impl Transaction {
    /// Commits the transaction. After an error nothing is stored.
    pub(crate) async fn commit(mut self) -> Result<(), sqlx::Error> {
        sqlx::query("COMMIT").execute(&mut self.connection.sqlite).await?;
        let checked = self.writer.check(self.connection.log);
        *self.place = Some(self.connection);
        checked
    }

    /// Rolls the transaction back.
    pub(crate) async fn rollback(mut self) -> Result<(), sqlx::Error> {
        sqlx::query("ROLLBACK").execute(&mut self.connection.sqlite).await?;
        *self.place = Some(self.connection);
        Ok(())
    }
}

impl Deref for Transaction {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection.sqlite
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection.sqlite
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use sqlx::Connection as _;

    use super::*;
    use crate::store::{Cause, StoreError};

    async fn writer(folder: &tempfile::TempDir) -> Writer {
        let path = folder.path().join("weir.db");
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .busy_timeout(Duration::from_millis(50))
            .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql("CREATE TABLE t (n INTEGER)").execute(&mut connection).await.unwrap();
        Writer::new(options, &path, connection)
    }

    async fn insert(writer: &Writer) -> Result<(), sqlx::Error> {
        let mut tx = writer.begin().await?;
        sqlx::query("INSERT INTO t VALUES (1)").execute(&mut *tx).await?;
        tx.commit().await
    }

    /// Reads the row count with a separate connection.
    async fn stored(folder: &tempfile::TempDir) -> i64 {
        let url = format!("sqlite:{}", folder.path().join("weir.db").display());
        let mut other = SqliteConnection::connect(&url).await.unwrap();
        sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(&mut other).await.unwrap()
    }

    #[tokio::test]
    async fn a_lock_that_is_held_for_too_long_fails_each_change_until_it_is_released() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(&folder).await;
        let url = format!("sqlite:{}", folder.path().join("weir.db").display());
        let mut other = SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
        for _ in 0..3 {
            let error = StoreError::from(insert(&writer).await.unwrap_err());
            assert!(matches!(error, StoreError::Unavailable { cause: Cause::Locked, .. }), "{error}");
        }
        sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
        insert(&writer).await.unwrap();
        assert_eq!(stored(&folder).await, 1);
    }

    #[tokio::test]
    async fn a_transaction_that_is_dropped_at_any_wait_stores_nothing_and_blocks_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(&folder).await;
        let mut made = 0;
        // The number of polls depends on how fast the connection's thread answers: try one to eight, repeatedly.
        for polls in (1..=8).cycle().take(40) {
            let mut left = polls;
            let mut change = Box::pin(insert(&writer));
            let done = std::future::poll_fn(|context| match change.as_mut().poll(context) {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending => {
                    left -= 1;
                    if left == 0 { Poll::Ready(None) } else { Poll::Pending }
                }
            })
            .await;
            drop(change);
            if let Some(done) = done {
                done.unwrap();
                made += 1;
                continue;
            }
            // A transaction dropped during its COMMIT may or may not be stored. The store never drops its tasks there.
            insert(&writer).await.unwrap();
            made += 1;
            assert!(stored(&folder).await >= made, "dropped after {polls} polls");
        }
        assert!(made >= 40, "{made} changes are stored");
    }
}
