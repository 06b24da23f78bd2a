//! One control plane a database: each holds what it last read in memory, and two would not see each other's changes.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use super::StoreError;

/// How long a control plane waits for the one before it to end.
const PATIENCE: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_millis(50);

/// Held until it is dropped; the system gives it back when the process ends, however that is.
#[derive(Debug)]
pub struct Lock {
    _file: Option<File>,
}

impl Lock {
    /// Waits until nobody else has the database `sqlite:PATH`.
    ///
    /// # Errors
    /// Somebody keeps it.
    pub async fn take(database: &str) -> Result<Self, StoreError> {
        Self::take_within(database, PATIENCE).await
    }

    async fn take_within(database: &str, patience: Duration) -> Result<Self, StoreError> {
        let path = path(super::options(database)?.get_filename());
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        // Where no file can be, there can be no database either, and it is said of that.
        let Ok(file) = file else { return Ok(Self { _file: None }) };
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
        Ok(Self { _file: Some(file) })
    }
}

fn path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    name.into()
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
