//! The only way to change what is stored.
//!
//! A change consists of a transaction and of what follows from it in memory. If the caller could stop in between, for
//! example because a client closed its connection, memory and database would disagree until the next start. Therefore
//! every statement that changes configuration, access or secrets is a method of [`WriteStore`], and the only source of a
//! `WriteStore` is [`Store::change`], which runs the whole change in a task that no caller can cancel.

use std::{future::Future, ops::Deref, time::Duration};

use tokio_util::task::TaskTracker;

use super::Store;

/// Time limit for changes that are still running when the database is to be closed.
const FINISH: Duration = Duration::from_secs(5);

/// A store that can also change data. Obtained from [`Store::change`].
#[derive(Debug, Clone)]
pub struct WriteStore(Store);

impl Deref for WriteStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.0
    }
}

impl Store {
    /// Runs a change, together with its effect in memory, in a task that continues when the caller stops waiting for
    /// it.
    pub async fn change<T, F>(&self, change: impl FnOnce(WriteStore) -> F) -> T
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        self.detached().run(change(WriteStore(self.clone()))).await
    }
}

/// Runs work in tasks that callers cannot cancel, and waits for all of them before the database is closed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Detached(TaskTracker);

impl Detached {
    /// Runs the work to completion, even if this future is dropped after its first poll.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        match self.0.spawn(work).await {
            Ok(value) => value,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down, and the caller with it.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Waits for all running work, up to a deadline, because a call may be waiting for nodes.
    pub(crate) async fn finish(&self) {
        self.0.close();
        if tokio::time::timeout(FINISH, self.0.wait()).await.is_err() {
            tracing::warn!(calls = self.0.len(), "changes did not finish in time and are aborted");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        task::{Context, Waker},
    };

    use super::*;

    #[tokio::test]
    async fn work_goes_on_when_its_caller_is_dropped_after_the_first_poll() {
        let (detached, done) = (Detached::default(), Arc::new(AtomicBool::new(false)));
        let flag = Arc::clone(&done);
        let mut call = Box::pin(detached.run(async move {
            tokio::task::yield_now().await;
            flag.store(true, Ordering::Relaxed);
        }));
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(call);
        detached.finish().await;
        assert!(done.load(Ordering::Relaxed));
    }
}
