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

/// The log is told of a backend's bad TLS this often at most, in seconds.
const COMPLAIN_EVERY: u64 = 10;

/// A session that did not come for so long is not counted as one that a draining backend still has.
const LATELY: Duration = Duration::from_secs(60);

/// Sessions of one draining backend that are told apart.
const MOST_SESSIONS: usize = 100_000;

/// What the control plane's health checker found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// Not checked: used as if it were up.
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

/// What is written with every request.
#[derive(Debug, Default)]
struct Hot {
    in_flight: AtomicU32,
    /// Of these, the ones that try a half-open backend.
    trials: AtomicU32,
    tally: Tally,
}

/// What the node knows of one backend.
pub(crate) struct BackendState {
    /// Its name in the whole fleet.
    pub(crate) id: Arc<str>,
    /// Where it is.
    pub(crate) url: BackendUrl,
    /// Its pool's live state.
    pub(crate) pool: Arc<PoolState>,
    hot: CachePadded<Hot>,
    latency: CachePadded<Latency>,
    /// Whether it may get requests.
    pub(crate) availability: Availability,
    /// Its breaker.
    pub(crate) circuit: Circuit,
    /// The health checker looks at it.
    is_checked: AtomicBool,
    /// Since when it drains; 0: it does not.
    pub(crate) draining_since_ms: AtomicU64,
    /// While it drains: its sessions, and when each came last.
    sessions: Mutex<HashMap<u32, u64>>,
    addresses: ArcSwap<Addresses>,
    /// Why an address of its is not used, where one is refused.
    refused: ArcSwapOption<String>,
    /// When the log was told last that there is no TLS with it, seconds since the Unix epoch.
    complained: AtomicU64,
    /// Its name was said to have no address, and has had none since.
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
            complained: AtomicU64::new(0),
            nameless: AtomicBool::new(false),
        }
    }

    /// Whether the log may be told of what is wrong with it: once in a while, however many requests meet it.
    pub(crate) fn may_complain(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let last = self.complained.load(Relaxed);
        now >= last + COMPLAIN_EVERY && self.complained.compare_exchange(last, now, Relaxed, Relaxed).is_ok()
    }

    /// Requests that this node has under way there.
    pub(crate) fn in_flight(&self) -> u32 {
        self.hot.0.in_flight.load(Relaxed)
    }

    /// Requests that try it while its breaker is half-open.
    pub(crate) fn trials(&self) -> u32 {
        self.hot.0.trials.load(Relaxed)
    }

    /// What its breaker counts.
    pub(crate) fn tally(&self) -> &Tally {
        &self.hot.0.tally
    }

    /// How long its answers take.
    pub(crate) fn latency(&self) -> &Latency {
        &self.latency.0
    }

    /// Counts one request as under way until the guard is dropped; `None` when there are `most` already.
    pub(crate) fn enter(self: &Arc<Self>, most: u32) -> Option<InFlight> {
        if self.hot.0.in_flight.fetch_add(1, Relaxed) >= most {
            self.hot.0.in_flight.fetch_sub(1, Ordering::SeqCst);
            self.pool.tell_room();
            return None;
        }
        Some(InFlight { state: Arc::clone(self), is_trial: false })
    }

    /// As [`enter`](Self::enter), as one of the few that try a half-open backend.
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

    /// What the health checker found last.
    pub(crate) fn health(&self) -> Health {
        match (self.availability.bits() & DOWN != 0, self.is_checked.load(Relaxed)) {
            (true, _) => Health::Down,
            (false, true) => Health::Up,
            (false, false) => Health::Unknown,
        }
    }

    /// Notes what the health checker found; whether a backend that was down is so no more.
    pub(crate) fn set_health(&self, health: Health) -> bool {
        self.is_checked.store(health != Health::Unknown, Relaxed);
        if health == Health::Down {
            self.availability.set(DOWN);
            return false;
        }
        self.availability.clear(DOWN)
    }

    /// Whether neither the health checker nor the breaker has anything against it.
    pub(crate) fn is_usable(&self) -> bool {
        self.availability.bits() & (DOWN | OPEN) == 0
    }

    /// Where its breaker stands.
    pub(crate) fn phase(&self) -> Phase {
        match self.availability.bits() & (OPEN | TRIAL) {
            0 => Phase::Closed,
            TRIAL => Phase::HalfOpen,
            _ => Phase::Open,
        }
    }

    /// It is well again: it comes back by a slow start, and what was known of its latency is forgotten.
    pub(crate) fn recover(&self, now_ms: u64, slow_start: Duration, cleared: u8) {
        self.latency.0.clear();
        self.availability.begin_slow(now_ms, millis(slow_start));
        self.availability.clear(cleared);
    }

    /// Since when it drains.
    pub(crate) fn draining_since_ms(&self) -> Option<u64> {
        Some(self.draining_since_ms.load(Relaxed)).filter(|since| *since > 0)
    }

    /// A session came to a draining backend. While another worker notes one, this one need not be: it comes again.
    pub(crate) fn note_session(&self, session: u32, now_ms: u64) {
        if let Ok(mut sessions) = self.sessions.try_lock()
            && (sessions.len() < MOST_SESSIONS || sessions.contains_key(&session))
        {
            sessions.insert(session, now_ms);
        }
    }

    /// Sessions that a draining backend still has, as far as they were heard of lately.
    pub(crate) fn sessions_left(&self, now_ms: u64) -> u32 {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = now_ms.saturating_sub(millis(LATELY));
        sessions.retain(|_, last| *last >= lately && self.draining_since_ms().is_some());
        u32::try_from(sessions.len()).unwrap_or(u32::MAX)
    }

    /// Moves on what goes by time.
    pub(crate) fn tick(&self, now_ms: u64) {
        self.availability.tick(now_ms);
        if self.availability.bits() & OPEN != 0 && self.circuit.half_open(now_ms, false) {
            self.availability.half_open();
            tracing::info!(backend = %self.id, url = %self.url, "breaker half-open");
        }
    }

    /// Whether its host still has the address; costs nothing where the address was configured.
    pub(crate) fn has_address(&self, address: SocketAddr) -> bool {
        match self.url.host {
            Host::Address(own) => address == SocketAddr::new(own, self.url.port),
            Host::Name(_) => self.addresses.load().all().contains(&address),
        }
    }

    /// The addresses of its host; empty while a name could not be looked up, and where all are refused.
    pub(crate) fn addresses(&self) -> Arc<Addresses> {
        self.addresses.load_full()
    }

    /// Whether it has an address to connect to.
    pub(crate) fn has_addresses(&self) -> bool {
        !self.addresses.load().all().is_empty()
    }

    /// Why it has no address.
    pub(crate) fn without_address(&self) -> String {
        let refused = self.refused.load();
        refused.as_ref().map_or_else(|| "its name has no address".to_owned(), |why| why.to_string())
    }

    /// Notes what a name's lookup found, as far as it is permitted; whether that is new.
    pub(crate) fn set_addresses(&self, found: Vec<SocketAddr>, permit: &AddressPolicy) -> bool {
        let (allowed, refused) = permit.filter(found);
        if let Some(why) = &refused
            && self.refused.load().as_deref() != Some(why)
        {
            tracing::warn!(backend = %self.id, url = %self.url, why, "address of a backend refused");
        }
        self.refused.store(refused.map(Arc::new));
        let before = self.addresses.load();
        if before.all() == allowed {
            return false;
        }
        self.addresses.store(Arc::new(Addresses::following(allowed, &before)));
        true
    }

    /// Applies what is permitted now to the addresses that it has.
    pub(crate) fn permit(&self, permit: &AddressPolicy) {
        let addresses = match self.url.host {
            Host::Address(address) => vec![SocketAddr::new(address, self.url.port)],
            Host::Name(_) => self.addresses.load().all().to_vec(),
        };
        self.set_addresses(addresses, permit);
    }
}

/// One request under way at a backend.
pub(crate) struct InFlight {
    state: Arc<BackendState>,
    is_trial: bool,
}

impl InFlight {
    /// Whether it tries a half-open backend.
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
        self.state.pool.tell_room();
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A backend in its pool.
pub(crate) struct Member {
    /// Live state.
    pub(crate) state: Arc<BackendState>,
    /// Its share.
    pub(crate) weight: u32,
    /// Whether it may get new requests.
    pub(crate) wanted: Wanted,
    /// How it is shaken hands with; `None`: it is spoken to in the clear.
    pub(crate) secured: Option<Arc<BackendTls>>,
}
