//! Live state of a pool, which outlives snapshots and is shared by all workers of the node.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use super::{balance::maglev::Table, retry_budget::RetryBudget};
use crate::{cache_padded::CachePadded, failure::Owner, wire::tls::ClientConfigCache};

#[derive(Debug, Default)]
pub(crate) struct PoolState {
    cursor: Arc<CachePadded<AtomicUsize>>,
    pub(crate) budget: RetryBudget,
    /// The last hash table, which is reused for the same backends.
    table: Mutex<Option<Arc<Table>>>,
    /// Held during an ejection, so that `max_ejected` holds.
    pub(super) ejecting: Mutex<()>,
    /// Queued requests.
    pub(super) waiting: CachePadded<AtomicU32>,
    pub(super) room: Notify,
    /// Whether the pool was in panic mode at the last check.
    pub(super) panicking: AtomicBool,
    pub(crate) counts: Counts,
    /// TLS client settings of its backends.
    pub(crate) tls: ClientConfigCache,
}

/// Counts since the start of the node.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Retries and resends.
    pub(crate) retries: AtomicU64,
    /// Responses cut by a backend.
    pub(crate) cut_by_backend: AtomicU64,
    /// Backends picked in panic mode.
    pub(crate) panics: AtomicU64,
    /// Requests answered by the fallback.
    pub(crate) fallbacks: AtomicU64,
    /// Requests refused because all backends were full.
    pub(crate) refused: AtomicU64,
    /// Sessions moved to another backend.
    pub(crate) repinned: AtomicU64,
    /// Ejections prevented by `max_ejected`.
    pub(crate) spared: AtomicU64,
    /// Failed attempts by owner, in the order of [`Owner::ALL`].
    failed: [AtomicU64; Owner::ALL.len()],
}

impl Counts {
    /// Increments the counter that `which` returns.
    pub(crate) fn count(&self, which: impl Fn(&Self) -> &AtomicU64) {
        which(self).fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_failed(&self, owner: Owner) {
        self.failed[owner as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Failed attempts of an owner since the start.
    pub(crate) fn failed(&self, owner: Owner) -> u64 {
        self.failed[owner as usize].load(Ordering::Relaxed)
    }
}

impl PoolState {
    pub(crate) fn cursor(&self) -> Arc<CachePadded<AtomicUsize>> {
        Arc::clone(&self.cursor)
    }

    /// The hash table for these backends; the last one, if it is for the same.
    pub(crate) fn table(&self, active: Vec<(String, u32, usize)>) -> Arc<Table> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        match &*table {
            Some(table) if table.is_of(&active) => Arc::clone(table),
            _ => Arc::clone(table.insert(Arc::new(Table::new(active)))),
        }
    }

    /// Number of queued requests.
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.0.load(Ordering::Relaxed)
    }

    /// Wakes one queued request, because a backend has room.
    pub(crate) fn notify_waiting(&self) {
        // Ordered after the decrement that made room; a waiting request counts itself before it looks for room.
        if self.waiting.0.load(Ordering::SeqCst) > 0 {
            self.room.notify_one();
        }
    }
}
