//! Traffic statistics: exact counts from the nodes' batches, and the reports that users read.
//!
//! A batch is checked ([`batch`]), logged with many others in one transaction ([`intake`]), acknowledged, and
//! folded into counts per minute, hour and day ([`fold`]); a report ([`report`]) folds what is logged before it
//! answers, so what was acknowledged is counted. It knows neither HTTP nor who is connected.

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

/// Milliseconds since the epoch, now.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How long batches may gather in the log when nobody asks for a report.
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
    /// One fold at a time: a second would only wait for the writer. Whether the sums are known to be made.
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
    /// Starts to take in batches and to fold them, by the machine's clock.
    pub fn start(store: Store, retention: Retention) -> Self {
        Self::start_at(store, Arc::new(now_ms), retention)
    }

    /// As [`start`](Self::start), by the clock that is given.
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

    /// Takes nothing more in, stores what waits, and returns when the background tasks have ended.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.wait().await;
    }

    /// Takes in one batch: when this answers, the batch is on disk, once, however often it is sent.
    ///
    /// # Errors
    /// `invalid_argument` for a batch that is malformed or of an unknown version, and nothing of it is kept;
    /// `resource_exhausted` or `unavailable` when it should be sent again later.
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
    /// Parameters are wrong, minutes are not kept for so long, or the database failed.
    pub async fn minutely(&self, query: &Query) -> Result<Report, ReportError> {
        self.fold().await?;
        report::periods(&self.shared.store, query, period::Per::Minute, self.now()).await
    }

    /// Requests hour by hour; the last 24 hours unless a range is given.
    ///
    /// # Errors
    /// Parameters are wrong, or the database failed.
    pub async fn hourly(&self, query: &Query) -> Result<Report, ReportError> {
        self.fold().await?;
        report::periods(&self.shared.store, query, period::Per::Hour, self.now()).await
    }

    /// Requests day by day; the last 30 days unless a range is given.
    ///
    /// # Errors
    /// Parameters are wrong, or the database failed.
    pub async fn daily(&self, query: &Query) -> Result<Report, ReportError> {
        self.fold().await?;
        report::periods(&self.shared.store, query, period::Per::Day, self.now()).await
    }

    /// A range as one; the last 30 days unless one is given.
    ///
    /// # Errors
    /// Parameters are wrong, or the database failed.
    pub async fn summary(&self, query: &Query) -> Result<Summary, ReportError> {
        self.fold().await?;
        report::summary(&self.shared.store, query, self.now()).await
    }

    /// The names of a dimension with the most requests, slowest or most errors.
    ///
    /// # Errors
    /// Parameters are wrong, or the database failed.
    pub async fn top(&self, query: &TopQuery) -> Result<Top, ReportError> {
        self.fold().await?;
        top::top(&self.shared.store, query, self.now()).await
    }

    /// Begins to watch requests as they end.
    ///
    /// # Errors
    /// Parameters are wrong, or too many others watch.
    pub async fn watch(&self, query: &TailQuery) -> Result<Watching, ReportError> {
        self.shared.tail.watch(&self.shared.store, query).await
    }

    /// What nodes have to be told of who watches, and the way for what they see.
    pub fn tail(&self) -> &Tail {
        &self.shared.tail
    }

    /// Removes everything that is older than is kept, now; otherwise that is done bit by bit.
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
        // Batches of an earlier run may wait in the log.
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
