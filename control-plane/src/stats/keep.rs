//! Retention: minutes and hours go after their time, days stay. Removing is done in small steps between which batches
//! are stored, depends only on the clock and on what is stored, and so may be cut off and begun again anywhere.

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
    /// Batches may come a day late, and an open day is told by its hours.
    pub const LEAST: Duration = Duration::from_secs(2 * 24 * 60 * 60);

    /// What there should be at a time.
    pub(super) fn kept(self, now_ms: i64) -> Kept {
        let from = |kept: Duration, grain: i64| {
            let kept = i64::try_from(kept.max(Self::LEAST).as_millis()).unwrap_or(i64::MAX);
            let minute = now_ms.saturating_sub(kept).div_euclid(MINUTE_MS);
            minute.saturating_sub(minute.rem_euclid(grain)).max(0)
        };
        Kept { minutes_from: from(self.minutes, 60), hours_from: from(self.hours.max(self.minutes), 24 * 60) }
    }
}

/// How often it is looked whether something is old.
const EVERY: Duration = Duration::from_secs(60);
/// Between two steps: others write meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// Removes what is old, until stopped.
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

/// Removes a bounded part of what is old; whether there may be more.
pub(super) async fn step(store: &Store, retention: Retention, now_ms: i64) -> Result<bool, StoreError> {
    Ok(store.forget(retention.kept(now_ms)).await? || store.shrink().await?)
}
