//! Group commit: one task takes all waiting batches, logs them in one transaction, then acknowledges each.
//!
//! A flush to disk takes milliseconds however much it writes, so under load many nodes share one. The queue is bounded:
//! if it is full, the node gets an error and sends its batch again later, which is safe.

use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Clock;
use crate::store::{Store, stats::NewBatch};

/// The most batches that wait for the disk.
const QUEUE: usize = 256;

/// A validated batch, and the channel for its result: whether the batch was already stored, or that storing failed.
pub(crate) struct Waiting {
    pub(crate) batch: NewBatch,
    pub(crate) answer: oneshot::Sender<Result<bool, ()>>,
}

/// The queue in front of [`run`].
pub(crate) fn queue() -> (mpsc::Sender<Waiting>, mpsc::Receiver<Waiting>) {
    mpsc::channel(QUEUE)
}

/// Logs batches as they arrive until stopped. Batches that are queued by then are still logged.
pub(crate) async fn run(
    store: Store,
    clock: Clock,
    mut queue: mpsc::Receiver<Waiting>,
    logged: std::sync::Arc<Notify>,
    stop: CancellationToken,
) {
    let mut waiting = Vec::with_capacity(QUEUE);
    loop {
        tokio::select! {
            count = queue.recv_many(&mut waiting, QUEUE) => if count == 0 { return },
            () = stop.cancelled(), if !queue.is_closed() => {
                queue.close();
                continue;
            }
        }
        let (batches, answers): (Vec<_>, Vec<_>) =
            waiting.drain(..).map(|Waiting { batch, answer }| (batch, answer)).unzip();
        match store.log_batches(&batches, clock()).await {
            Ok(repeated) => {
                for (answer, repeated) in answers.into_iter().zip(repeated) {
                    // A node that has disconnected sends the batch again, and learns then that it is stored.
                    let _ = answer.send(Ok(repeated));
                }
                logged.notify_one();
            }
            Err(error) => {
                tracing::error!(%error, batches = batches.len(), "batches could not be stored");
                for answer in answers {
                    let _ = answer.send(Err(()));
                }
            }
        }
    }
}
