//! Retention: deletes minutes and hours after their time; days are kept.
//!
//! Deletion runs in small steps, so that batches can be stored in between. It depends only on the clock and on the
//! stored data, so it can be interrupted and restarted at any point.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Clock, batch::MINUTE_MS};
use crate::store::{Store, StoreError, stats::Kept};

/// How long the finer grains are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Counts by minute.
    pub minutes: Duration,
    /// Counts by hour.
    pub hours: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
        Self { minutes: days(35), hours: days(400) }
    }
}

impl Retention {
    /// Batches may arrive a day late, and a day that is still open is computed from its hours.
    pub const LEAST: Duration = Duration::from_secs(2 * 24 * 60 * 60);

    /// The data that is kept at a point in time.
    pub(super) fn kept(self, now_ms: i64) -> Kept {
        let from = |kept: Duration, grain: i64| {
            let kept = i64::try_from(kept.max(Self::LEAST).as_millis()).unwrap_or(i64::MAX);
            let minute = now_ms.saturating_sub(kept).div_euclid(MINUTE_MS);
            minute.saturating_sub(minute.rem_euclid(grain)).max(0)
        };
        Kept { minutes_from: from(self.minutes, 60), hours_from: from(self.hours.max(self.minutes), 24 * 60) }
    }
}

/// Interval between checks for expired data.
const EVERY: Duration = Duration::from_secs(60);
/// Pause between two steps, so that other writers can proceed.
const PAUSE: Duration = Duration::from_millis(50);

/// Deletes expired data until stopped.
pub(super) async fn run(store: Store, clock: Clock, retention: Retention, stop: CancellationToken) {
    let mut wait = Duration::ZERO;
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return,
        }
        wait = match step(&store, retention, clock()).await {
            Ok(true) => PAUSE,
            Ok(false) => EVERY,
            Err(error) => {
                tracing::error!(%error, "old statistics cannot be removed");
                EVERY
            }
        };
    }
}

/// Deletes a limited amount of expired data. Returns true if there may be more.
pub(super) async fn step(store: &Store, retention: Retention, now_ms: i64) -> Result<bool, StoreError> {
    Ok(store.forget(retention.kept(now_ms)).await? || store.shrink().await?)
}
