//! Live state of a backend, which outlives snapshots and is shared by all workers of the node.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use weir_snapshot::{BackendUrl, Host, config::BackendState as Wanted};

use super::{
    addresses::{AddressPolicy, Addresses},
    availability::{Availability, DOWN, OPEN, TRIAL},
    breaker::{Circuit, Phase, TRIALS, Tally},
    latency::Latency,
    state::PoolState,
};
use crate::{cache_padded::CachePadded, wire::tls::BackendTls};

/// Minimum time between two log messages about one backend, in seconds.
const LOG_INTERVAL: u64 = 10;

/// A session without requests for this time no longer counts for a draining backend.
const LATELY: Duration = Duration::from_secs(60);

/// Most counted sessions of one draining backend.
const MOST_SESSIONS: usize = 100_000;

/// Result of the control plane's health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// Not checked; treated as up.
    Unknown,
    Up,
    Down,
}

/// Counters that every request writes.
#[derive(Debug, Default)]
struct Hot {
    in_flight: AtomicU32,
    /// Those of them that are trials of a half-open backend.
    trials: AtomicU32,
    tally: Tally,
}

/// Live state of one backend.
pub(crate) struct BackendState {
    /// Its id, unique in the fleet.
    pub(crate) id: Arc<str>,
    pub(crate) url: BackendUrl,
    pub(crate) pool: Arc<PoolState>,
    hot: CachePadded<Hot>,
    latency: CachePadded<Latency>,
    /// Whether the backend may receive requests.
    pub(crate) availability: Availability,
    pub(crate) circuit: Circuit,
    /// Whether health checks cover the backend.
    is_checked: AtomicBool,
    /// When draining began; 0: not draining.
    pub(crate) draining_since_ms: AtomicU64,
    /// While draining: its sessions, and the time of each one's last request.
    sessions: Mutex<HashMap<u32, u64>>,
    addresses: ArcSwap<Addresses>,
    /// Reason why one of its addresses is not allowed, if any.
    refused: ArcSwapOption<String>,
    /// Time of the last log message about its connections, in seconds since the Unix epoch.
    logged_at: AtomicU64,
    /// Its name could not be resolved, and this was logged.
    pub(crate) nameless: AtomicBool,
}

impl BackendState {
    pub(crate) fn new(id: Arc<str>, url: BackendUrl, pool: Arc<PoolState>) -> Self {
        Self {
            id,
            url,
            pool,
            hot: CachePadded::default(),
            latency: CachePadded::default(),
            availability: Availability::default(),
            circuit: Circuit::default(),
            is_checked: AtomicBool::new(false),
            draining_since_ms: AtomicU64::new(0),
            sessions: Mutex::default(),
            addresses: ArcSwap::default(),
            refused: ArcSwapOption::empty(),
            logged_at: AtomicU64::new(0),
            nameless: AtomicBool::new(false),
        }
    }

    /// Whether a problem with its connections may be logged: only once in a while, however many requests meet it.
    pub(crate) fn may_log_problem(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let last = self.logged_at.load(Relaxed);
        now >= last + LOG_INTERVAL && self.logged_at.compare_exchange(last, now, Relaxed, Relaxed).is_ok()
    }

    /// Requests of this node in flight.
    pub(crate) fn in_flight(&self) -> u32 {
        self.hot.0.in_flight.load(Relaxed)
    }

    /// Trials in flight while its breaker is half-open.
    pub(crate) fn trials(&self) -> u32 {
        self.hot.0.trials.load(Relaxed)
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.hot.0.tally
    }

    pub(crate) fn latency(&self) -> &Latency {
        &self.latency.0
    }

    /// Counts a request as in flight until the guard is dropped, or returns `None` if there are `most` already.
    pub(crate) fn enter(self: &Arc<Self>, most: u32) -> Option<InFlight> {
        if self.hot.0.in_flight.fetch_add(1, Relaxed) >= most {
            self.hot.0.in_flight.fetch_sub(1, Ordering::SeqCst);
            self.pool.notify_waiting();
            return None;
        }
        Some(InFlight { state: Arc::clone(self), is_trial: false })
    }

    /// As [`enter`](Self::enter), for a trial of a half-open backend.
    pub(crate) fn enter_trial(self: &Arc<Self>, most: u32) -> Option<InFlight> {
        if self.hot.0.trials.fetch_add(1, Relaxed) >= TRIALS {
            self.hot.0.trials.fetch_sub(1, Relaxed);
            return None;
        }
        let Some(mut in_flight) = self.enter(most) else {
            self.hot.0.trials.fetch_sub(1, Relaxed);
            return None;
        };
        in_flight.is_trial = true;
        Some(in_flight)
    }

    /// The last result of health checks.
    pub(crate) fn health(&self) -> Health {
        match (self.availability.bits() & DOWN != 0, self.is_checked.load(Relaxed)) {
            (true, _) => Health::Down,
            (false, true) => Health::Up,
            (false, false) => Health::Unknown,
        }
    }

    /// Sets the result of health checks. Returns whether the backend was down and no longer is.
    pub(crate) fn set_health(&self, health: Health) -> bool {
        self.is_checked.store(health != Health::Unknown, Relaxed);
        if health == Health::Down {
            self.availability.set(DOWN);
            return false;
        }
        self.availability.clear(DOWN)
    }

    /// Whether the backend passes its health check and its breaker is not open.
    pub(crate) fn is_usable(&self) -> bool {
        self.availability.bits() & (DOWN | OPEN) == 0
    }

    /// The phase of its breaker.
    pub(crate) fn phase(&self) -> Phase {
        match self.availability.bits() & (OPEN | TRIAL) {
            0 => Phase::Closed,
            TRIAL => Phase::HalfOpen,
            _ => Phase::Open,
        }
    }

    /// The backend has recovered: slow start begins, and its latency is forgotten.
    pub(crate) fn recover(&self, now_ms: u64, slow_start: Duration, cleared: u8) {
        self.latency.0.clear();
        self.availability.begin_slow(now_ms, millis(slow_start));
        self.availability.clear(cleared);
    }

    /// When draining began.
    pub(crate) fn draining_since_ms(&self) -> Option<u64> {
        Some(self.draining_since_ms.load(Relaxed)).filter(|since| *since > 0)
    }

    /// Counts a session of a draining backend. It is skipped while another worker holds the lock: the session will
    /// return.
    pub(crate) fn note_session(&self, session: u32, now_ms: u64) {
        if let Ok(mut sessions) = self.sessions.try_lock()
            && (sessions.len() < MOST_SESSIONS || sessions.contains_key(&session))
        {
            sessions.insert(session, now_ms);
        }
    }

    /// Sessions with recent requests on a draining backend.
    pub(crate) fn sessions_left(&self, now_ms: u64) -> u32 {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = now_ms.saturating_sub(millis(LATELY));
        sessions.retain(|_, last| *last >= lately && self.draining_since_ms().is_some());
        u32::try_from(sessions.len()).unwrap_or(u32::MAX)
    }

    /// Advances slow start and breaker.
    pub(crate) fn tick(&self, now_ms: u64) {
        self.availability.tick(now_ms);
        if self.availability.bits() & OPEN != 0 && self.circuit.half_open(now_ms, false) {
            self.availability.half_open();
            tracing::info!(backend = %self.id, url = %self.url, "breaker half-open");
        }
    }

    /// Whether its host still has the address. This is free if the address was configured.
    pub(crate) fn has_address(&self, address: SocketAddr) -> bool {
        match self.url.host {
            Host::Address(own) => address == SocketAddr::new(own, self.url.port),
            Host::Name(_) => self.addresses.load().all().contains(&address),
        }
    }

    /// The addresses of its host; empty if the name is not resolved, or if no address is allowed.
    pub(crate) fn addresses(&self) -> Arc<Addresses> {
        self.addresses.load_full()
    }

    pub(crate) fn has_addresses(&self) -> bool {
        !self.addresses.load().all().is_empty()
    }

    /// Why the backend has no address.
    pub(crate) fn without_address(&self) -> String {
        let refused = self.refused.load();
        refused.as_ref().map_or_else(|| "its name has no address".to_owned(), |why| why.to_string())
    }

    /// Sets the resolved addresses of a name, as far as they are allowed. Returns whether they are new.
    pub(crate) fn set_addresses(&self, found: Vec<SocketAddr>, permit: &AddressPolicy) -> bool {
        let (allowed, refused) = permit.filter(found);
        if let Some(why) = &refused
            && self.refused.load().as_deref() != Some(why)
        {
            tracing::warn!(backend = %self.id, url = %self.url, why, "backend address not allowed");
        }
        self.refused.store(refused.map(Arc::new));
        let before = self.addresses.load();
        if before.all() == allowed {
            return false;
        }
        self.addresses.store(Arc::new(Addresses::following(allowed, &before)));
        true
    }

    /// Applies the current address policy to its addresses.
    pub(crate) fn permit(&self, permit: &AddressPolicy) {
        let addresses = match self.url.host {
            Host::Address(address) => vec![SocketAddr::new(address, self.url.port)],
            Host::Name(_) => self.addresses.load().all().to_vec(),
        };
        self.set_addresses(addresses, permit);
    }
}

/// One request in flight at a backend.
pub(crate) struct InFlight {
    state: Arc<BackendState>,
    is_trial: bool,
}

impl InFlight {
    /// Whether the request is a trial of a half-open backend.
    pub(crate) fn is_trial(&self) -> bool {
        self.is_trial
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let hot = &self.state.hot.0;
        if self.is_trial {
            hot.trials.fetch_sub(1, Relaxed);
        }
        hot.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.state.pool.notify_waiting();
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) struct Member {
    pub(crate) state: Arc<BackendState>,
    pub(crate) weight: u32,
    /// Its configured state: active, draining or disabled.
    pub(crate) wanted: Wanted,
    /// TLS settings; `None` for cleartext.
    pub(crate) secured: Option<Arc<BackendTls>>,
}
