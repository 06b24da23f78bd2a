//! Traffic statistics: exact counts from the nodes' batches, and the reports that users read.
//!
//! A batch is validated ([`batch`]), logged with many others in one transaction ([`intake`]), acknowledged, and folded
//! into counts per minute, hour and day ([`fold`]). A report ([`report`]) first folds the logged batches, so it
//! includes everything that was acknowledged. This module knows neither HTTP nor the connected nodes.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Status;
use weir_admin_api::{Report, Summary, Top};
use weir_proto::v1;

use crate::{
    store::{Store, StoreError},
    time::now_ms,
};

mod batch;
mod counts;
mod coverage;
mod cut;
mod fold;
mod histogram;
mod intake;
mod keep;
mod labels;
mod names;
mod period;
mod query;
mod report;
mod tail;
mod top;

pub use self::{
    keep::Retention,
    query::{Query, ReportError},
    tail::{Tail, TailQuery, Watching},
    top::TopQuery,
};

/// Returns the current time in milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How long batches may stay in the log while no report is requested.
const FOLD_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// The statistics. Cheap to clone.
#[derive(Clone)]
pub struct Stats {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    clock: Clock,
    intake: mpsc::Sender<intake::Waiting>,
    /// Held during a fold, so that folds run one at a time: a second one would only wait for the writer. True once the
    /// sums are known to exist.
    folding: Mutex<bool>,
    retention: Retention,
    tail: Tail,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Stats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stats").field("store", &self.shared.store).finish_non_exhaustive()
    }
}

impl Stats {
    /// Starts accepting and folding batches, with the system clock.
    pub fn start(store: Store, retention: Retention) -> Self {
        Self::start_at(store, Arc::new(now_ms), retention)
    }

    /// Same as [`start`](Self::start), with the given clock.
    pub fn start_at(store: Store, clock: Clock, retention: Retention) -> Self {
        let (sender, queue) = intake::queue();
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let logged = Arc::new(Notify::new());
        let stats = Self {
            shared: Arc::new(Shared {
                store: store.clone(),
                clock: clock.clone(),
                intake: sender,
                folding: Mutex::new(false),
                retention,
                tail: Tail::default(),
                stop: stop.clone(),
                tasks: tasks.clone(),
            }),
        };
        tasks.spawn(intake::run(store.clone(), clock.clone(), queue, logged.clone(), stop.clone()));
        tasks.spawn(keep::run(store, clock, retention, stop));
        tasks.spawn(stats.clone().fold_in_background(logged));
        tasks.close();
        stats
    }

    /// Stops accepting batches, stores those that are queued, and returns when the background tasks have ended.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.wait().await;
    }

    /// Stores one batch. When this returns, the batch is on disk, and it is stored once however often it is sent.
    ///
    /// # Errors
    /// `invalid_argument` for a batch that is malformed or of an unknown version; nothing of it is stored.
    /// `resource_exhausted` or `unavailable` if the batch should be sent again later.
    pub async fn ingest(&self, batch: v1::ReportRequest) -> Result<v1::ReportResponse, Status> {
        let sequence = batch.sequence;
        let node: String = batch.node_id.chars().take(batch::MAX_LABEL).collect();
        let checked = batch::check(batch, (self.shared.clock)()).map_err(|refused| {
            tracing::warn!(node, sequence, reason = %refused, "batch refused");
            Status::invalid_argument(refused.to_string())
        })?;
        if let Some(late) = &checked.late {
            tracing::warn!(node, sequence, rows = late.rows, "rows older than a day are not counted");
        }
        if let Some((from_ms, through_ms)) = checked.moved {
            tracing::warn!(
                node,
                sequence,
                from_ms,
                through_ms,
                "a clock is off: the batch is counted by this machine's, and its period is not complete"
            );
        }
        let (answer, answered) = oneshot::channel();
        let waiting = intake::Waiting { batch: checked, answer };
        self.shared.intake.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Status::resource_exhausted("too many batches wait to be stored")
            }
            mpsc::error::TrySendError::Closed(_) => Status::unavailable("the control plane is stopping"),
        })?;
        match answered.await {
            Ok(Ok(duplicate)) => Ok(v1::ReportResponse { sequence, duplicate }),
            Ok(Err(())) => Err(Status::unavailable("the batch could not be stored")),
            Err(_) => Err(Status::unavailable("the control plane is stopping")),
        }
    }

    /// Requests minute by minute; the last hour unless a range is given.
    ///
    /// # Errors
    /// A parameter is invalid, minutes are not kept for that long, or the database failed.
    pub async fn minutely(&self, query: &Query) -> Result<Report, ReportError> {
        self.fold().await?;
        report::periods(&self.shared.store, query, period::Per::Minute, self.now()).await
    }

    /// Requests hour by hour; the last 24 hours unless a range is given.
    ///
    /// # Errors
    /// A parameter is invalid, or the database failed.
    pub async fn hourly(&self, query: &Query) -> Result<Report, ReportError> {
        self.fold().await?;
        report::periods(&self.shared.store, query, period::Per::Hour, self.now()).await
    }

    /// Requests day by day; the last 30 days unless a range is given.
    ///
    /// # Errors
    /// A parameter is invalid, or the database failed.
    pub async fn daily(&self, query: &Query) -> Result<Report, ReportError> {
        self.fold().await?;
        report::periods(&self.shared.store, query, period::Per::Day, self.now()).await
    }

    /// The totals of a range; the last 30 days unless one is given.
    ///
    /// # Errors
    /// A parameter is invalid, or the database failed.
    pub async fn summary(&self, query: &Query) -> Result<Summary, ReportError> {
        self.fold().await?;
        report::summary(&self.shared.store, query, self.now()).await
    }

    /// The names of a dimension with the most requests, the most errors or the highest latency.
    ///
    /// # Errors
    /// A parameter is invalid, or the database failed.
    pub async fn top(&self, query: &TopQuery) -> Result<Top, ReportError> {
        self.fold().await?;
        top::top(&self.shared.store, query, self.now()).await
    }

    /// Starts to watch requests as they complete.
    ///
    /// # Errors
    /// A parameter is invalid, or there are too many watchers.
    pub async fn watch(&self, query: &TailQuery) -> Result<Watching, ReportError> {
        self.shared.tail.watch(&self.shared.store, query).await
    }

    /// The filters of all watchers, for the nodes, and the channel for the events that nodes send.
    pub fn tail(&self) -> &Tail {
        &self.shared.tail
    }

    /// Deletes all expired data at once; in the background it is deleted step by step.
    ///
    /// # Errors
    /// The database failed.
    pub async fn forget(&self) -> Result<(), StoreError> {
        while keep::step(&self.shared.store, self.shared.retention, (self.shared.clock)()).await? {}
        Ok(())
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond((self.shared.clock)()).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    async fn fold(&self) -> Result<(), StoreError> {
        let mut sums_made = self.shared.folding.lock().await;
        if !*sums_made {
            fold::make_sums(&self.shared.store).await?;
            *sums_made = true;
        }
        fold::run(&self.shared.store).await
    }

    async fn fold_in_background(self, logged: Arc<Notify>) {
        // The log may hold batches of an earlier run.
        logged.notify_one();
        let stopped = self.shared.stop.clone();
        loop {
            tokio::select! {
                () = logged.notified() => {}
                () = stopped.cancelled() => return,
            }
            if let Err(error) = self.fold().await {
                tracing::error!(%error, "batches could not be folded, they stay in the log");
                logged.notify_one();
            }
            tokio::select! {
                () = tokio::time::sleep(FOLD_EVERY) => {}
                () = stopped.cancelled() => return,
            }
        }
    }
}
