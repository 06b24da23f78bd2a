//! Live state of a pool, which outlives snapshots and is shared by all workers of the node.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use super::{balance::maglev::Table, retry_budget::RetryBudget};
use crate::{cache_padded::CachePadded, failure::Owner, wire::tls::ClientConfigCache};

/// A pool's live state, which outlives snapshots.
#[derive(Debug, Default)]
pub(crate) struct PoolState {
    cursor: Arc<CachePadded<AtomicUsize>>,
    pub(crate) budget: RetryBudget,
    /// The table of the last balancer that hashed, to be used again.
    table: Mutex<Option<Arc<Table>>>,
    /// Held while one is ejected, so that the bound on the ejected holds.
    pub(super) ejecting: Mutex<()>,
    /// Requests that wait for room.
    pub(super) waiting: CachePadded<AtomicU32>,
    pub(super) room: Notify,
    /// Whether it was in panic mode when that was looked at last.
    pub(super) panicking: AtomicBool,
    pub(crate) counts: Counts,
    /// What its backends are shaken hands with.
    pub(crate) tls: ClientConfigCache,
}

/// What happened in a pool since the node began.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Attempts at its backends beyond the first of their requests.
    pub(crate) retries: AtomicU64,
    /// Answers that a backend broke off.
    pub(crate) cut_by_backend: AtomicU64,
    /// Picks in panic mode.
    pub(crate) panics: AtomicU64,
    /// Requests that the fallback answered.
    pub(crate) fallbacks: AtomicU64,
    /// Requests refused because no backend had room.
    pub(crate) refused: AtomicU64,
    /// Sessions that had to go to another backend.
    pub(crate) repinned: AtomicU64,
    /// Ejections that `max_ejected` forbade.
    pub(crate) spared: AtomicU64,
    /// Failed attempts, by whose failure it was, in the order of [`Owner::ALL`].
    failed: [AtomicU64; Owner::ALL.len()],
}

impl Counts {
    /// Counts one of what `which` names.
    pub(crate) fn count(&self, which: impl Fn(&Self) -> &AtomicU64) {
        which(self).fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a failed attempt.
    pub(crate) fn count_failed(&self, owner: Owner) {
        self.failed[owner as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Failed attempts since the node began, by whose failure it was.
    pub(crate) fn failed(&self, owner: Owner) -> u64 {
        self.failed[owner as usize].load(Ordering::Relaxed)
    }
}

impl PoolState {
    pub(crate) fn cursor(&self) -> Arc<CachePadded<AtomicUsize>> {
        Arc::clone(&self.cursor)
    }

    /// The hash table over these backends: the last one, where it is of the same.
    pub(crate) fn table(&self, active: Vec<(String, u32, usize)>) -> Arc<Table> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        match &*table {
            Some(table) if table.is_of(&active) => Arc::clone(table),
            _ => Arc::clone(table.insert(Arc::new(Table::new(active)))),
        }
    }

    /// Requests that wait for room now.
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.0.load(Ordering::Relaxed)
    }

    /// A backend has room again: one that waits may try.
    pub(crate) fn tell_room(&self) {
        // Ordered after the count that made the room; who waits counts itself before it looks for room.
        if self.waiting.0.load(Ordering::SeqCst) > 0 {
            self.room.notify_one();
        }
    }
}
