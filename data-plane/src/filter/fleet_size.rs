//! The number of nodes that share a limit of the whole fleet, as the control plane reports it.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How long a lower number of nodes must be reported before this node's part of a limit grows. After a restart of the
/// control plane the nodes reconnect one by one, and none of them may take the whole limit meanwhile.
pub(crate) const HOLD: Duration = Duration::from_secs(10);

/// The number of nodes, at least this one.
#[derive(Debug, Default)]
pub(crate) struct FleetSize {
    /// 0: unknown.
    nodes: AtomicU32,
    /// A lower number, and since when it is reported.
    fewer: Mutex<Option<(u32, Instant)>>,
}

impl FleetSize {
    /// The number of nodes that share.
    pub(crate) fn nodes(&self) -> u32 {
        self.nodes.load(Relaxed).max(1)
    }

    /// Sets the number of connected nodes. A higher number counts at once, a lower one after [`HOLD`].
    pub(crate) fn set(&self, nodes: u32, now: Instant) {
        let mut fewer = self.fewer.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.nodes.load(Relaxed);
        if current == 0 || nodes >= current {
            *fewer = None;
            self.nodes.store(nodes.max(1), Relaxed);
        } else {
            let since = fewer.map_or(now, |(_, since)| since);
            *fewer = Some((nodes.max(1), since));
        }
    }

    /// Applies a lower number of nodes once its time has come.
    pub(crate) fn tick(&self, now: Instant) {
        let mut fewer = self.fewer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((nodes, _)) = fewer.take_if(|(_, since)| now.saturating_duration_since(*since) >= HOLD) {
            self.nodes.store(nodes, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_count_at_once_and_fewer_when_that_lasts() {
        let (size, begin) = (FleetSize::default(), Instant::now());
        assert_eq!(size.nodes(), 1, "a node alone is one");
        size.set(3, begin);
        assert_eq!(size.nodes(), 3);
        // After a restart of the control plane the nodes reconnect one by one.
        size.set(1, begin);
        size.set(2, begin + HOLD / 2);
        size.tick(begin + HOLD / 2);
        size.set(3, begin + HOLD / 2);
        size.tick(begin + HOLD * 2);
        assert_eq!(size.nodes(), 3);
        size.set(2, begin + HOLD * 2);
        size.tick(begin + HOLD * 3 - Duration::from_millis(1));
        assert_eq!(size.nodes(), 3);
        size.tick(begin + HOLD * 3);
        assert_eq!(size.nodes(), 2, "one has left for good");
        size.set(4, begin + HOLD * 3);
        assert_eq!(size.nodes(), 4);
    }
}
