//! Ensures that only one control plane uses a database. Each control plane keeps the current state in memory, so two of
//! them would not see each other's changes.
//!
//! The lock file also contains the highest revision and backend numbers that were assigned. A database that was
//! restored from a copy has lower numbers; this is how a restore is detected.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::Read as _,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use super::{StoreError, files, writer::beside};

/// How long to wait for the previous control plane to exit.
const MAX_WAIT: Duration = Duration::from_secs(10);

const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The lock, held until it is dropped. The operating system releases it when the process exits for any reason.
#[derive(Debug)]
pub struct Lock {
    _file: Option<File>,
    path: PathBuf,
}

/// The highest revision and backend numbers that were assigned, stored in the lock file.
#[derive(Debug, Clone)]
pub(super) struct Marks(Arc<File>);

impl Marks {
    /// Returns the revision and the number of the next backend; `None` when nothing was written yet.
    pub(super) fn read(&self) -> Option<(u64, u64)> {
        let mut text = String::new();
        (&*self.0).read_to_string(&mut text).ok()?;
        let mut numbers = text.split_whitespace().map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }

    /// Writes numbers that are stored in the database. The text has a fixed length, so that a full disk cannot truncate
    /// it.
    pub(super) fn write(&self, revision: u64, next_backend: u64) {
        if let Err(error) = self.0.write_all_at(format!("{revision:020} {next_backend:020}\n").as_bytes(), 0)
        {
            tracing::warn!(%error, "the lock file of the database cannot be written");
        }
    }
}

impl Lock {
    pub(super) fn marks(&self) -> Option<Marks> {
        // This is a separate descriptor: the lock ends with the descriptor that holds it.
        let file = OpenOptions::new().read(true).write(true).open(&self.path).ok()?;
        Some(Marks(Arc::new(file)))
    }

    /// Waits until no other process uses the database `sqlite:PATH`.
    ///
    /// # Errors
    /// Another control plane did not release the database in time.
    pub async fn take(database: &str) -> Result<Self, StoreError> {
        Self::take_within(database, MAX_WAIT).await
    }

    async fn take_within(database: &str, max_wait: Duration) -> Result<Self, StoreError> {
        let path = beside(super::options(database)?.get_filename(), ".lock");
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).read(true).write(true).mode(files::MODE).open(&path);
        // Where no lock file can be created, no database can be created either, and opening the database reports that.
        let Ok(file) = file else { return Ok(Self { _file: None, path }) };
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if waited < max_wait => {
                    if waited.is_zero() {
                        tracing::warn!(
                            "another control plane uses this database; waiting up to {} s for it to exit",
                            max_wait.as_secs()
                        );
                    }
                    tokio::time::sleep(RETRY_INTERVAL).await;
                    waited += RETRY_INTERVAL;
                }
                Err(TryLockError::WouldBlock) => {
                    let why = "another control plane uses it";
                    return Err(StoreError::Unusable(database.to_owned(), why.to_owned()));
                }
                // Some file systems do not support locks.
                Err(TryLockError::Error(error)) => {
                    tracing::warn!(%error, "cannot lock the database; make sure that no other control plane uses it");
                    break;
                }
            }
        }
        Ok(Self { _file: Some(file), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_control_plane_waits_and_gives_up() {
        let folder = tempfile::tempdir().unwrap();
        let database = format!("sqlite:{}", folder.path().join("weir.db").display());
        let first = Lock::take(&database).await.unwrap();
        let error = Lock::take_within(&database, RETRY_INTERVAL).await.unwrap_err();
        assert!(error.to_string().contains("another control plane uses it"), "{error}");
        let (second, ()) = tokio::join!(Lock::take(&database), async { drop(first) });
        second.unwrap();
    }
}
