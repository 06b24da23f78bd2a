//! Delivers the node's counts: at least once on the wire, exactly once in the store.
//!
//! One batch is under way at a time. It is kept, with its number, until the control plane has acknowledged it; what
//! is counted meanwhile is merged by its labels, so that a long absence costs memory by labels and minutes, not by
//! seconds. The bound on rows drops the oldest minute, counted and visible.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hdrhistogram::serialization::{Serializer as _, V2Serializer};
use tokio::sync::{mpsc, watch};
use tonic::{Code, transport::Channel};
use weir_proto::v1::{ReportRequest, TrafficRow, nodes_client::NodesClient};

use super::recorder::{Counts, Row};
use crate::control::Identity;

/// The most rows that are kept while the control plane is away.
const MAX_ROWS: usize = 100_000;

/// An empty batch says that the node is there and had no traffic.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How long the last batch may take when the node stops.
const FINISH: Duration = Duration::from_secs(5);

/// The most rows in one batch.
const BATCH_ROWS: usize = 2_000;

/// The control plane takes nothing older; in minutes.
const MAX_AGE: u64 = 24 * 60;

type Labels = (u64, Option<Arc<str>>, Option<Arc<str>>, Option<Arc<str>>, u16);

/// Counts that wait for their batch.
struct Pending {
    rows: BTreeMap<Labels, Counts>,
    dropped: u64,
}

impl Pending {
    fn add(&mut self, row: Row) {
        let labels = (row.minute, row.route, row.pool, row.backend, row.status);
        match self.rows.get_mut(&labels) {
            Some(counts) => counts.merge(&row.counts),
            None => {
                self.rows.insert(labels, row.counts);
                if self.rows.len() > MAX_ROWS {
                    self.rows.pop_first();
                    self.dropped += 1;
                }
            }
        }
    }

    /// The rows of the next batch; those that are too old go, and are counted.
    fn take(&mut self, minute: u64) -> Vec<TrafficRow> {
        while let Some(oldest) = self.rows.first_entry().filter(|row| row.key().0 + MAX_AGE < minute) {
            oldest.remove();
            self.dropped += 1;
        }
        let rows = if self.rows.len() <= BATCH_ROWS {
            std::mem::take(&mut self.rows)
        } else {
            let split = self.rows.keys().nth(BATCH_ROWS).cloned();
            let later = split.map(|split| self.rows.split_off(&split)).unwrap_or_default();
            std::mem::replace(&mut self.rows, later)
        };
        rows.into_iter().filter_map(|(labels, counts)| to_wire(labels, counts)).collect()
    }
}

fn to_wire((minute, route, pool, backend, status): Labels, counts: Counts) -> Option<TrafficRow> {
    let text = |label: Option<Arc<str>>| label.map(|text| text.to_string()).unwrap_or_default();
    let mut latency = Vec::new();
    // Writing to a Vec fails only for a histogram beyond any memory.
    V2Serializer::new().serialize(&counts.latency, &mut latency).ok()?;
    Some(TrafficRow {
        minute,
        route: text(route),
        pool: text(pool),
        backend: text(backend),
        status: u32::from(status),
        requests: counts.requests,
        bytes_in: counts.bytes_in,
        bytes_out: counts.bytes_out,
        retries: counts.retries,
        latency,
        latency_max_us: counts.latency_max,
        ..TrafficRow::default()
    })
}

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
            pending: Pending { rows: BTreeMap::new(), dropped: 0 },
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
            tracing::warn!("the last counts were not delivered in time");
        }
    }
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
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = tokio::time::Instant::now();
        loop {
            let finishing = *self.finishing.borrow();
            if !finishing {
                tokio::select! {
                    rows = self.inbox.recv() => {
                        rows.into_iter().flatten().for_each(|row| self.pending.add(row));
                        continue;
                    }
                    _ = ticks.tick() => {}
                    _ = self.finishing.changed() => continue,
                }
            }
            self.collect();
            while !self.pending.rows.is_empty() || last.elapsed() >= HEARTBEAT || finishing {
                // What is counted from now on comes by the next batch, so this is the last one if all rows go with it.
                let leaves = finishing && self.pending.rows.len() <= BATCH_ROWS;
                self.deliver(leaves).await;
                if leaves {
                    return;
                }
                last = tokio::time::Instant::now();
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
        let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis());
        let sent_at_ms = now.unwrap_or_default();
        let rows = self.pending.take(sent_at_ms / 60_000);
        let dropped = self.pending.dropped;
        let batch = ReportRequest {
            format: weir_proto::FORMAT,
            node_id: self.node_id.clone(),
            boot_id: self.boot_id.clone(),
            sequence: self.sequence,
            rows,
            sent_at_ms,
            dropped_rows: dropped - self.told_dropped,
            hosts: Vec::new(),
            last: leaves,
        };
        self.told_dropped = dropped;
        let mut wait = Duration::from_millis(100);
        loop {
            let mut request = tonic::Request::new(batch.clone());
            request.set_timeout(Duration::from_secs(10));
            match tokio::time::timeout(Duration::from_secs(10), self.client.report(request)).await {
                Ok(Ok(_)) => {
                    self.shared.acknowledged.fetch_add(1, Relaxed);
                    return;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(minute: u64, status: u16) -> Row {
        let mut counts = Counts::new().unwrap();
        counts.requests = 1;
        counts.latency.record(10).unwrap();
        Row { minute, route: None, pool: None, backend: None, status, counts }
    }

    #[test]
    fn waiting_counts_merge_and_the_oldest_minute_goes_first() {
        let mut pending = Pending { rows: BTreeMap::new(), dropped: 0 };
        for _ in 0..5 {
            pending.add(row(7, 200));
        }
        assert_eq!(pending.rows.len(), 1);
        for minute in 100..100 + MAX_ROWS as u64 {
            pending.add(row(minute, 200));
        }
        assert_eq!((pending.rows.len(), pending.dropped), (MAX_ROWS, 1));
        assert!(pending.rows.keys().all(|(minute, ..)| *minute >= 100));
        let batch = pending.take(100);
        assert_eq!(batch.len(), BATCH_ROWS);
        assert_eq!(batch[0].minute, 100);
    }
}
