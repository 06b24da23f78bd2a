//! Limits how fast streams are admitted and how many messages a node may send. After a restart of the control plane the
//! whole fleet reconnects at once, and a faulty node must not slow down the others.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};

/// Interval between admitted streams.
const STEP: Duration = Duration::from_millis(1);

/// Number of streams admitted without waiting.
const BURST: u32 = 100;

/// Maximum number of streams that have not yet acknowledged their first revision.
const JOINING: usize = 128;

/// Admits streams at a bounded rate. Cheap to clone.
#[derive(Clone)]
pub(super) struct Gate {
    /// When the next stream would be due if all were spread evenly.
    due: Arc<Mutex<Option<Instant>>>,
    joining: Arc<Semaphore>,
}

/// Released when the node has acknowledged its first revision.
pub(super) type Joining = tokio::sync::OwnedSemaphorePermit;

impl Default for Gate {
    fn default() -> Self {
        Self { due: Arc::default(), joining: Arc::new(Semaphore::new(JOINING)) }
    }
}

impl Gate {
    /// Waits until this stream may proceed.
    pub(super) async fn admit(&self) -> Option<Joining> {
        let turn = self.turn(Instant::now());
        tokio::time::sleep_until(turn).await;
        // The semaphore is never closed.
        Arc::clone(&self.joining).acquire_owned().await.ok()
    }

    fn turn(&self, now: Instant) -> Instant {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(STEP * BURST).unwrap_or(now);
        let this = due.unwrap_or(earliest).max(earliest);
        *due = Some(this + STEP);
        this.max(now)
    }
}

/// Message limit of a node: a burst, and a rate per second.
#[derive(Debug)]
pub(super) struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    const BURST: f64 = 1000.0;
    /// A busy node sends a handful of messages per second; live tails add some.
    const PER_SECOND: f64 = 200.0;

    pub(super) fn new(now: Instant) -> Self {
        Self { left: Self::BURST, at: now }
    }

    /// Takes one message; false if the limit is exceeded.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * Self::PER_SECOND;
        self.at = now;
        self.left = (self.left + gained).min(Self::BURST) - 1.0;
        self.left >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_streams_is_spread_out_and_a_single_one_is_not_delayed() {
        let (gate, now) = (Gate::default(), Instant::now() + STEP * BURST);
        let turns: Vec<Instant> = (0..1000).map(|_| gate.turn(now)).collect();
        assert!(turns.iter().take(BURST as usize).all(|turn| *turn == now));
        let last = *turns.last().unwrap_or(&now);
        assert!(last > now + STEP * 800 && last <= now + STEP * 1000, "{:?}", last - now);
        assert_eq!(gate.turn(now + STEP * 5000), now + STEP * 5000);
    }

    #[test]
    fn an_allowance_refills_up_to_its_burst() {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        let taken = |allowance: &mut Allowance, now| (0..5000).take_while(|_| allowance.take(now)).count();
        assert_eq!(taken(&mut allowance, now), 1000);
        assert!(!allowance.take(now));
        let later = now + Duration::from_secs(3600);
        assert_eq!(taken(&mut allowance, later), 1000);
    }
}
