//! How fast streams are admitted, and how much a node may say: after a restart of the control plane the whole fleet
//! comes back at once, and a node gone mad must not take the others' share.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};

/// From one admitted stream to the next.
const STEP: Duration = Duration::from_millis(1);

/// Streams that are admitted without waiting.
const BURST: u32 = 100;

/// Streams that may be on their way to their first acknowledgement at the same time.
const JOINING: usize = 128;

/// Admits streams at a bounded rate. Cheap to clone.
#[derive(Clone)]
pub(super) struct Gate {
    /// When the next stream would be due, were all of them evenly spread.
    due: Arc<Mutex<Option<Instant>>>,
    joining: Arc<Semaphore>,
}

/// Given back once the node runs what it was sent first.
pub(super) type Joining = tokio::sync::OwnedSemaphorePermit;

impl Default for Gate {
    fn default() -> Self {
        Self { due: Arc::default(), joining: Arc::new(Semaphore::new(JOINING)) }
    }
}

impl Gate {
    /// Waits for this stream's turn.
    pub(super) async fn admit(&self) -> Option<Joining> {
        let turn = self.turn(Instant::now());
        tokio::time::sleep_until(turn).await;
        // It is never closed.
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

/// What a node may say: so many messages at once, and so many a second for ever.
#[derive(Debug)]
pub(super) struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    const BURST: f64 = 1000.0;
    /// A node that works says a handful of things a second; who watches requests live adds some.
    const PER_SECOND: f64 = 200.0;

    pub(super) fn new(now: Instant) -> Self {
        Self { left: Self::BURST, at: now }
    }

    /// Takes one message; false: it was one too many.
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
    fn a_crowd_is_spread_out_and_a_late_one_is_not() {
        let (gate, now) = (Gate::default(), Instant::now() + STEP * BURST);
        let turns: Vec<Instant> = (0..1000).map(|_| gate.turn(now)).collect();
        assert!(turns.iter().take(BURST as usize).all(|turn| *turn == now));
        let last = *turns.last().unwrap_or(&now);
        assert!(last > now + STEP * 800 && last <= now + STEP * 1000, "{:?}", last - now);
        assert_eq!(gate.turn(now + STEP * 5000), now + STEP * 5000);
    }

    #[test]
    fn an_allowance_fills_up_again_up_to_its_bound() {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        let taken = |allowance: &mut Allowance, now| (0..5000).take_while(|_| allowance.take(now)).count();
        assert_eq!(taken(&mut allowance, now), 1000);
        assert!(!allowance.take(now));
        let later = now + Duration::from_secs(3600);
        assert_eq!(taken(&mut allowance, later), 1000);
    }
}
