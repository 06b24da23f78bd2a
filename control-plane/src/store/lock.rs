//! One control plane a database: each holds what it last read in memory, and two would not see each other's changes.
//!
//! The lock file also holds the highest numbers that were given to a revision and a backend. A database that was restored
//! from a copy has lower ones, which is how the restore is noticed.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::Read as _,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use super::{StoreError, files, writer::beside};

/// How long a control plane waits for the one before it to end.
const PATIENCE: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_millis(50);

/// Held until it is dropped; the system gives it back when the process ends, however that is.
#[derive(Debug)]
pub struct Lock {
    _file: Option<File>,
    path: PathBuf,
}

/// The highest numbers that were given to a revision and a backend, kept beside the database.
#[derive(Debug, Clone)]
pub(super) struct Marks(Arc<File>);

impl Marks {
    /// Revision and number of the next backend; `None`: nothing was written yet.
    pub(super) fn read(&self) -> Option<(u64, u64)> {
        let mut text = String::new();
        (&*self.0).read_to_string(&mut text).ok()?;
        let mut numbers = text.split_whitespace().map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }

    /// Remembers numbers that are stored. The text has a fixed length, so that a full disk cannot cut it.
    pub(super) fn write(&self, revision: u64, next_backend: u64) {
        if let Err(error) = self.0.write_all_at(format!("{revision:020} {next_backend:020}\n").as_bytes(), 0)
        {
            tracing::warn!(%error, "the lock file of the database cannot be written");
        }
    }
}

impl Lock {
    pub(super) fn marks(&self) -> Option<Marks> {
        // A descriptor of its own: the lock ends with the one that holds it.
        let file = OpenOptions::new().read(true).write(true).open(&self.path).ok()?;
        Some(Marks(Arc::new(file)))
    }

    /// Waits until nobody else has the database `sqlite:PATH`.
    ///
    /// # Errors
    /// Somebody keeps it.
    pub async fn take(database: &str) -> Result<Self, StoreError> {
        Self::take_within(database, PATIENCE).await
    }

    async fn take_within(database: &str, patience: Duration) -> Result<Self, StoreError> {
        let path = beside(super::options(database)?.get_filename(), ".lock");
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).read(true).write(true).mode(files::MODE).open(&path);
        // Where no file can be, there can be no database either, and it is said of that.
        let Ok(file) = file else { return Ok(Self { _file: None, path }) };
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if waited < patience => {
                    if waited.is_zero() {
                        tracing::warn!(
                            "another control plane uses this database: waiting for it to end, {} s at most",
                            patience.as_secs()
                        );
                    }
                    tokio::time::sleep(PAUSE).await;
                    waited += PAUSE;
                }
                Err(TryLockError::WouldBlock) => {
                    let why = "another control plane uses it";
                    return Err(StoreError::Unusable(database.to_owned(), why.to_owned()));
                }
                // Some file systems know no locks.
                Err(TryLockError::Error(error)) => {
                    tracing::warn!(%error, "cannot lock the database: see to it that no other control plane uses it");
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
    async fn a_second_one_waits_and_gives_up() {
        let folder = tempfile::tempdir().unwrap();
        let database = format!("sqlite:{}", folder.path().join("weir.db").display());
        let first = Lock::take(&database).await.unwrap();
        let error = Lock::take_within(&database, PAUSE).await.unwrap_err();
        assert!(error.to_string().contains("another control plane uses it"), "{error}");
        let (second, ()) = tokio::join!(Lock::take(&database), async { drop(first) });
        second.unwrap();
    }
}
