//! Delivers the node's counts: at least once on the wire, exactly once in the store.
//!
//! One batch is under way at a time. It is kept, with its number, until the control plane has acknowledged it; what
//! is counted meanwhile is merged by its labels, so that a long absence costs memory by labels and minutes, not by
//! seconds. The bound on rows drops the oldest minute, counted and visible.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tonic::{Code, transport::Channel};
use weir_proto::v1::{ReportRequest, nodes_client::NodesClient};

use super::{
    labels::OTHER,
    pending::{Pending, Taken},
    recorder::Row,
};
use crate::identity::Identity;

/// An empty batch says that the node is there and had no traffic.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How long it waits for the other workers' counts when the first have come.
const GATHER: Duration = Duration::from_millis(100);

/// How long the last batch may take when the node stops.
const FINISH: Duration = Duration::from_secs(5);

/// The bounded way from the workers to the reporter.
pub(crate) fn channel() -> (mpsc::Sender<Vec<Row>>, mpsc::Receiver<Vec<Row>>) {
    mpsc::channel(4096)
}

/// The node's side of the statistics.
pub(crate) struct Reporter {
    shared: Arc<Shared>,
    finish: watch::Sender<bool>,
    task: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    dropped: AtomicU64,
    acknowledged: AtomicU64,
    refused: AtomicU64,
}

impl Reporter {
    /// Starts to deliver over `channel`.
    pub(crate) fn start(channel: Channel, identity: &Identity, inbox: mpsc::Receiver<Vec<Row>>) -> Self {
        let (finish, finishing) = watch::channel(false);
        let shared = Arc::<Shared>::default();
        let delivery = Delivery {
            client: NodesClient::new(channel),
            node_id: identity.node_id.clone(),
            boot_id: identity.boot_id.clone(),
            shared: Arc::clone(&shared),
            pending: Pending::default(),
            told_dropped: 0,
            sequence: 0,
            inbox,
            finishing,
        };
        let task = tokio::spawn(delivery.run());
        Self { shared, finish, task: Mutex::new(Some(task)) }
    }

    /// Rows lost to the bound since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Relaxed)
    }

    /// Batches acknowledged since the start.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Relaxed)
    }

    /// Batches that the control plane would not have.
    pub(crate) fn refused(&self) -> u64 {
        self.shared.refused.load(Relaxed)
    }

    /// Delivers what is left, within a deadline.
    pub(crate) async fn finish(&self) {
        self.finish.send_replace(true);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut task) = task
            && tokio::time::timeout(FINISH, &mut task).await.is_err()
        {
            task.abort();
            tracing::warn!("last counts not delivered in time");
        }
    }
}

/// Replaces the names of a batch by the one that stands for all others. Its counts stay.
fn forget_names(batch: &mut ReportRequest) {
    for row in &mut batch.rows {
        for name in [&mut row.route, &mut row.pool, &mut row.backend] {
            if !name.is_empty() {
                OTHER.clone_into(name);
            }
        }
    }
}

/// This machine's clock, milliseconds since the Unix epoch.
fn clock_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or_default()
}

struct Delivery {
    client: NodesClient<Channel>,
    node_id: String,
    boot_id: String,
    shared: Arc<Shared>,
    pending: Pending,
    told_dropped: u64,
    sequence: u64,
    inbox: mpsc::Receiver<Vec<Row>>,
    finishing: watch::Receiver<bool>,
}

impl Delivery {
    async fn run(mut self) {
        let mut last = Instant::now();
        loop {
            let finishing = *self.finishing.borrow();
            if !finishing && !self.gather(last + HEARTBEAT).await {
                return;
            }
            self.collect();
            while !self.pending.is_empty() || last.elapsed() >= HEARTBEAT || finishing {
                // Later counts go into the next batch, so this is the last one if all rows fit.
                let leaves = finishing && self.pending.fits();
                self.deliver(leaves).await;
                if leaves {
                    return;
                }
                last = Instant::now();
            }
        }
    }

    /// Waits for counts, at most until a time, and a moment more for those of the other workers. False: the node is gone
    /// and will not even say so.
    async fn gather(&mut self, mut until: Instant) -> bool {
        let mut workers = true;
        let mut waiting = true;
        loop {
            tokio::select! {
                rows = self.inbox.recv(), if workers => match rows {
                    Some(rows) => {
                        rows.into_iter().for_each(|row| self.pending.add(row));
                        if std::mem::take(&mut waiting) {
                            until = until.min(Instant::now() + GATHER);
                        }
                    }
                    None => workers = false,
                },
                () = tokio::time::sleep_until(until) => return true,
                finishing = self.finishing.changed() => return finishing.is_ok(),
            }
        }
    }

    fn collect(&mut self) {
        while let Ok(rows) = self.inbox.try_recv() {
            rows.into_iter().for_each(|row| self.pending.add(row));
        }
        self.shared.dropped.store(self.pending.dropped, Relaxed);
    }

    /// Makes a batch and sends it until it is acknowledged or refused for good. The last one says that the node leaves.
    async fn deliver(&mut self, leaves: bool) {
        self.sequence += 1;
        let sent_at_ms = clock_ms();
        self.pending.correct(sent_at_ms / 60_000, std::time::Instant::now());
        let Taken { rows, hosts, corrected } = self.pending.take(sent_at_ms / 60_000);
        let dropped = self.pending.dropped;
        let mut batch = ReportRequest {
            format: weir_proto::FORMAT,
            node_id: self.node_id.clone(),
            boot_id: self.boot_id.clone(),
            sequence: self.sequence,
            rows,
            sent_at_ms,
            dropped_rows: dropped - self.told_dropped,
            hosts,
            last: leaves,
            clock_ms: 0,
            restamped_rows: corrected,
        };
        self.told_dropped = dropped;
        let mut wait = Duration::from_millis(100);
        let mut is_anonymous = false;
        loop {
            let mut request = tonic::Request::new(ReportRequest { clock_ms: clock_ms(), ..batch.clone() });
            request.set_timeout(Duration::from_secs(10));
            match tokio::time::timeout(Duration::from_secs(10), self.client.report(request)).await {
                Ok(Ok(_)) => {
                    self.shared.acknowledged.fetch_add(1, Relaxed);
                    return;
                }
                // It does not know a name that this node has from a configuration that it has lost, or keeps no more.
                Ok(Err(status)) if status.code() == Code::OutOfRange && !is_anonymous => {
                    tracing::warn!(
                        sequence = batch.sequence,
                        reason = status.message(),
                        "batch sent without the names of routes, pools and backends"
                    );
                    is_anonymous = true;
                    forget_names(&mut batch);
                    continue;
                }
                Ok(Err(status)) if matches!(status.code(), Code::InvalidArgument | Code::OutOfRange) => {
                    tracing::error!(
                        sequence = batch.sequence,
                        rows = batch.rows.len(),
                        reason = status.message(),
                        "batch refused"
                    );
                    self.shared.refused.fetch_add(1, Relaxed);
                    // The next batch says that these are missing.
                    self.pending.dropped += batch.rows.len() as u64;
                    return;
                }
                Ok(Err(status)) => tracing::debug!(%status, "batch not delivered"),
                Err(_) => tracing::debug!("batch not acknowledged in time"),
            }
            let pause = tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0));
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    rows = self.inbox.recv() => match rows {
                        Some(rows) => rows.into_iter().for_each(|row| self.pending.add(row)),
                        None => {
                            pause.as_mut().await;
                            break;
                        }
                    },
                }
            }
            self.shared.dropped.store(self.pending.dropped, Relaxed);
            wait = (wait * 2).min(Duration::from_secs(2));
        }
    }
}
