//! Tells a node how many nodes share the limits of the whole fleet.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

/// A node is told this often at most: after a restart of this program nodes come back by the hundred.
const EVERY: Duration = Duration::from_millis(200);

/// What one node was told.
pub(super) struct Teller {
    size: watch::Receiver<u32>,
    told: u32,
    not_before: Option<Instant>,
}

impl Teller {
    pub(super) fn new(size: watch::Receiver<u32>) -> Self {
        Self { size, told: 0, not_before: None }
    }

    /// What is to be told now, if anything.
    pub(super) fn due(&mut self, now: Instant) -> Option<u32> {
        let nodes = *self.size.borrow_and_update();
        if nodes == self.told || self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        self.told = nodes;
        self.not_before = Some(now + EVERY);
        Some(nodes)
    }

    /// Waits until something may be due; false when there is nothing more to come.
    pub(super) async fn changed(&mut self) -> bool {
        match self.not_before {
            Some(at) if *self.size.borrow() != self.told => {
                tokio::time::sleep_until(at).await;
                true
            }
            _ => self.size.changed().await.is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_number_is_told_at_once_and_then_no_more_than_a_few_times_a_second() {
        let (size, told) = watch::channel(1);
        let mut teller = Teller::new(told);
        let begin = Instant::now();
        assert_eq!(teller.due(begin), Some(1));
        assert_eq!(teller.due(begin), None);
        for nodes in 2..=500 {
            size.send_replace(nodes);
            assert_eq!(teller.due(begin), None);
        }
        assert!(teller.changed().await);
        let later = begin + EVERY;
        assert!(Instant::now() >= later);
        assert_eq!(teller.due(later), Some(500));
        size.send_replace(499);
        size.send_replace(500);
        drop(size);
        assert!(teller.changed().await);
        assert_eq!(teller.due(later + EVERY), None, "nothing has changed");
        assert!(!teller.changed().await);
    }
}
