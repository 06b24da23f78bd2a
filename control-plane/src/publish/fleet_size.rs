//! Sends a node the number of nodes that share the limits of the whole fleet.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

/// Minimum interval between updates to a node: after a restart nodes reconnect by the hundred.
const MIN_INTERVAL: Duration = Duration::from_millis(200);

/// The number that one node received last.
pub(super) struct FleetSizeUpdates {
    size: watch::Receiver<u32>,
    sent: u32,
    not_before: Option<Instant>,
}

impl FleetSizeUpdates {
    pub(super) fn new(size: watch::Receiver<u32>) -> Self {
        Self { size, sent: 0, not_before: None }
    }

    /// Returns the number to send now, if it is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<u32> {
        let nodes = *self.size.borrow_and_update();
        if nodes == self.sent || self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        self.sent = nodes;
        self.not_before = Some(now + MIN_INTERVAL);
        Some(nodes)
    }

    /// Waits until a number may be due; false when no more will come.
    pub(super) async fn changed(&mut self) -> bool {
        match self.not_before {
            Some(at) if *self.size.borrow() != self.sent => {
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
    async fn the_number_is_sent_at_once_and_then_at_most_a_few_times_a_second() {
        let (size, sent) = watch::channel(1);
        let mut updates = FleetSizeUpdates::new(sent);
        let begin = Instant::now();
        assert_eq!(updates.due(begin), Some(1));
        assert_eq!(updates.due(begin), None);
        for nodes in 2..=500 {
            size.send_replace(nodes);
            assert_eq!(updates.due(begin), None);
        }
        assert!(updates.changed().await);
        let later = begin + MIN_INTERVAL;
        assert!(Instant::now() >= later);
        assert_eq!(updates.due(later), Some(500));
        size.send_replace(499);
        size.send_replace(500);
        drop(size);
        assert!(updates.changed().await);
        assert_eq!(updates.due(later + MIN_INTERVAL), None, "the number is unchanged");
        assert!(!updates.changed().await);
    }
}
