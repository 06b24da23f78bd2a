//! Writes the node's state to `--state-dir`.
//!
//! The first revision of a run is written before it is acknowledged, so that an acknowledged node has a state to start
//! from. Later ones are written within a second. A write that fails is repeated until it succeeds, and always with the
//! newest state.

use std::{
    future::Future,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::{State, keep};

/// Minimum time between two writes.
const EVERY: Duration = Duration::from_secs(1);

/// The longest wait before a failed write is repeated.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How long an acknowledgement or a shutdown waits for a disk that does not respond.
const DEADLINE: Duration = Duration::from_secs(5);

/// Writes the node's state to a folder.
pub(crate) struct Keeper {
    folder: PathBuf,
    /// Notified when the state has changed.
    changed: Notify,
    /// The first line of the last written file. Locked during a write.
    written: Mutex<Option<String>>,
    /// The revision that was written last; 0 before the first.
    revision: AtomicU64,
    failures: AtomicU64,
    has_acknowledged: AtomicBool,
}

impl Keeper {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            changed: Notify::new(),
            written: Mutex::default(),
            revision: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            has_acknowledged: AtomicBool::new(false),
        }
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// Notes that the state has changed.
    pub(super) fn change(&self) {
        self.changed.notify_one();
    }

    /// The revision that was written last; 0 before the first.
    pub(crate) fn revision(&self) -> u64 {
        self.revision.load(Relaxed)
    }

    /// Writes that have failed.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Writes the newest state, unless the file has it already.
    fn write(&self, state: &State) -> io::Result<()> {
        // One write at a time: one that hangs must not replace a newer state when it continues.
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = state.running() else { return Ok(()) };
        let body = keep::encode(&running, state.fleet_key());
        let head = keep::head(&body);
        if written.as_ref() == Some(&head) && keep::is_there(&self.folder) {
            return Ok(());
        }
        keep::write(&self.folder, &body).inspect_err(|_| {
            self.failures.fetch_add(1, Relaxed);
        })?;
        *written = Some(head);
        self.revision.store(running.revision, Relaxed);
        Ok(())
    }
}

/// Writes the first revision of this run. If the disk fails or hangs, the revision is acknowledged all the same, so
/// that the node can serve, and the write is repeated.
pub(super) async fn before_acknowledgement(state: &Arc<State>) {
    let Some(keeper) = &state.keeper else { return };
    if !keeper.has_acknowledged.swap(true, Relaxed)
        && let Err(error) = tokio::time::timeout(DEADLINE, write(state)).await.unwrap_or_else(|_| Err(late()))
    {
        failed(keeper, &error);
    }
}

/// Writes the state a last time, before the node ends.
pub(crate) async fn before_end(state: &Arc<State>) {
    let Some(keeper) = &state.keeper else { return };
    if let Err(error) = tokio::time::timeout(DEADLINE, write(state)).await.unwrap_or_else(|_| Err(late())) {
        failed(keeper, &error);
    }
}

/// Writes the state whenever it has changed, forever.
pub(crate) async fn run(state: Arc<State>) {
    let Some(keeper) = &state.keeper else { return };
    loop {
        keeper.changed.notified().await;
        until_written(EVERY, || write(&state), |error| failed(keeper, error)).await;
        tokio::time::sleep(EVERY).await;
    }
}

/// Repeats a write until it succeeds; `fail` is called with each new kind of error.
async fn until_written<F: Future<Output = io::Result<()>>>(
    mut wait: Duration,
    write: impl Fn() -> F,
    fail: impl Fn(&io::Error),
) {
    let mut last: Option<io::Error> = None;
    while let Err(error) = write().await {
        let is_known =
            |last: &io::Error| (last.kind(), last.raw_os_error()) == (error.kind(), error.raw_os_error());
        if !last.as_ref().is_some_and(is_known) {
            fail(&error);
        }
        last = Some(error);
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    if last.is_some() {
        tracing::info!("the node's state can be written again");
    }
}

async fn write(state: &Arc<State>) -> io::Result<()> {
    let writing = Arc::clone(state);
    let written = tokio::task::spawn_blocking(move || match &writing.keeper {
        Some(keeper) => keeper.write(&writing),
        None => Ok(()),
    });
    written.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("not written within {} s", DEADLINE.as_secs()))
}

fn failed(keeper: &Keeper, error: &io::Error) {
    tracing::error!(folder = %keeper.folder.display(), %error, "the node's state cannot be written to --state-dir, trying again");
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    #[tokio::test]
    async fn a_write_is_repeated_until_it_succeeds_and_each_new_error_is_told_once() {
        // ENOSPC, EIO, EROFS, EDQUOT.
        let errors = [28, 28, 28, 5, 5, 30, 122, 28];
        let (tries, reported) = (Cell::new(0), RefCell::new(Vec::new()));
        let write = || {
            let error = errors.get(tries.get()).copied();
            tries.set(tries.get() + 1);
            async move { error.map_or(Ok(()), |number| Err(io::Error::from_raw_os_error(number))) }
        };
        let fail = |error: &io::Error| reported.borrow_mut().push(error.raw_os_error().unwrap());
        until_written(Duration::from_micros(10), write, fail).await;
        assert_eq!(tries.get(), errors.len() + 1);
        assert_eq!(*reported.borrow(), [28, 5, 30, 122, 28]);
    }
}
