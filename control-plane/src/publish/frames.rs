//! Encodes each message to nodes once: a thousand nodes that move to the same revision share the same bytes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use super::{
    history::{History, Version},
    wire,
};
use crate::{current::Current, health};

/// Number of cached differences to the newest revision: nodes usually come from the same few revisions.
const MAX_DELTAS: usize = 64;

/// Encoded messages, shared by all streams. Cheap to clone.
#[derive(Clone)]
pub(super) struct Frames {
    shared: Arc<Shared>,
}

struct Shared {
    history: History,
    pushes: Mutex<Pushes>,
    health: Mutex<HealthFrames>,
}

/// Messages that lead to one revision.
#[derive(Default)]
struct Pushes {
    to: Option<Version>,
    whole: Option<Bytes>,
    deltas: HashMap<u64, Option<Bytes>>,
}

/// Messages that lead to one version of health.
#[derive(Default)]
struct HealthFrames {
    to: u64,
    from: HashMap<Option<u64>, Bytes>,
}

impl Frames {
    pub(super) fn new(history: History) -> Self {
        Self { shared: Arc::new(Shared { history, pushes: Mutex::default(), health: Mutex::default() }) }
    }

    pub(super) fn history(&self) -> &History {
        &self.shared.history
    }

    /// Encodes a complete revision.
    pub(super) fn whole(&self, to: &Current) -> Bytes {
        match self.pushes(to) {
            // The first stream encodes while it holds the lock; the others wait for the bytes.
            Some(mut pushes) => pushes.whole.get_or_insert_with(|| wire::whole(to)).clone(),
            None => wire::whole(to),
        }
    }

    /// Encodes the difference between two revisions; `None` when it is no longer known.
    pub(super) fn delta(&self, from: Version, to: &Current) -> Option<Bytes> {
        let make = || {
            let names = self.shared.history.between(from, Version::of(to))?;
            Some(wire::delta(from, to, &names))
        };
        let Some(mut pushes) = self.pushes(to) else { return make() };
        if let Some(made) = pushes.deltas.get(&from.revision) {
            return made.clone();
        }
        let made = make();
        if pushes.deltas.len() < MAX_DELTAS {
            pushes.deltas.insert(from.revision, made.clone());
        }
        made
    }

    /// Encodes the health of backends: the changes since a version, or all states. Before the first probes are done,
    /// all states are marked as incomplete.
    pub(super) fn health(&self, from: Option<u64>, published: &health::PublishedHealth) -> Bytes {
        let make = || match from.and_then(|from| published.since(from)) {
            Some(changed) => wire::health(false, &changed),
            None => wire::health(published.is_settled, &published.states),
        };
        let mut frames = self.shared.health.lock().unwrap_or_else(PoisonError::into_inner);
        if frames.to < published.version {
            *frames = HealthFrames { to: published.version, from: HashMap::new() };
        }
        if frames.to > published.version {
            return make();
        }
        frames.from.entry(from).or_insert_with(make).clone()
    }

    /// The cache for this revision; `None` when a later revision is already cached.
    fn pushes(&self, to: &Current) -> Option<MutexGuard<'_, Pushes>> {
        let to = Version::of(to);
        let mut pushes = self.shared.pushes.lock().unwrap_or_else(PoisonError::into_inner);
        match pushes.to {
            Some(kept) if kept == to => {}
            Some(kept) if kept.revision > to.revision => return None,
            _ => *pushes = Pushes { to: Some(to), ..Pushes::default() },
        }
        Some(pushes)
    }
}
