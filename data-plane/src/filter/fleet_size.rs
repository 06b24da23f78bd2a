//! How many nodes share a limit of the whole fleet, as the control plane says.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How long fewer nodes must be told of before the others take their part. After a restart of the control plane the
/// nodes come back one by one, and each of them must not take the whole limit meanwhile.
pub(crate) const HOLD: Duration = Duration::from_secs(10);

/// The number of nodes, at least this one.
#[derive(Debug, Default)]
pub(crate) struct FleetSize {
    /// 0: not told yet.
    nodes: AtomicU32,
    /// Fewer, and since when.
    fewer: Mutex<Option<(u32, Instant)>>,
}

impl FleetSize {
    /// How many share.
    pub(crate) fn nodes(&self) -> u32 {
        self.nodes.load(Relaxed).max(1)
    }

    /// The control plane says how many are connected. More of them count at once, fewer after [`HOLD`].
    pub(crate) fn told(&self, nodes: u32, now: Instant) {
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

    /// Moves on what goes by time.
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
        size.told(3, begin);
        assert_eq!(size.nodes(), 3);
        // The control plane was restarted: they come back one by one.
        size.told(1, begin);
        size.told(2, begin + HOLD / 2);
        size.tick(begin + HOLD / 2);
        size.told(3, begin + HOLD / 2);
        size.tick(begin + HOLD * 2);
        assert_eq!(size.nodes(), 3);
        size.told(2, begin + HOLD * 2);
        size.tick(begin + HOLD * 3 - Duration::from_millis(1));
        assert_eq!(size.nodes(), 3);
        size.tick(begin + HOLD * 3);
        assert_eq!(size.nodes(), 2, "one has left for good");
        size.told(4, begin + HOLD * 3);
        assert_eq!(size.nodes(), 4);
    }
}
