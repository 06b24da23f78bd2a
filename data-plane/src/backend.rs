//! Live state of backends and pools: what outlives a snapshot, shared by all workers of the node.
//!
//! A new snapshot makes a new [`Active`]; backends that stay keep their [`BackendState`], so that counters and
//! health go on. [`Active`] is what everything a request needs hangs from: it is published behind one pointer.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use weir_snapshot::{
    BackendUrl, Host, Pool, Problems, Route, Snapshot, Target, backend_address::OwnPort,
    config::BackendState as Wanted,
};

use crate::{
    addresses::{Addresses, Permit},
    balance::{Balancer, peak_ewma::Latency},
    breaker::{Circuit, Phase, TRIALS, Tally},
    filter,
    pool::{PoolLive, PoolState},
    standing::{DOWN, OPEN, Standing, TRIAL},
    sticky::{Key, Sticky},
    tls::{Material, Secured, Table},
};

/// How often breakers and slow starts are looked at.
const TICK: Duration = Duration::from_millis(50);

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

/// A value that has its cache line to itself, because all workers write to it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

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
    pub(crate) pool: Arc<PoolLive>,
    hot: Padded<Hot>,
    latency: Padded<Latency>,
    /// Whether it may get requests.
    pub(crate) standing: Standing,
    /// Its breaker.
    pub(crate) circuit: Circuit,
    /// The health checker looks at it.
    is_checked: AtomicBool,
    /// Since when it drains; 0: it does not.
    draining_since_ms: AtomicU64,
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
    pub(crate) fn new(id: Arc<str>, url: BackendUrl, pool: Arc<PoolLive>) -> Self {
        Self {
            id,
            url,
            pool,
            hot: Padded::default(),
            latency: Padded::default(),
            standing: Standing::default(),
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
        match (self.standing.bits() & DOWN != 0, self.is_checked.load(Relaxed)) {
            (true, _) => Health::Down,
            (false, true) => Health::Up,
            (false, false) => Health::Unknown,
        }
    }

    /// Notes what the health checker found; whether a backend that was down is so no more.
    pub(crate) fn set_health(&self, health: Health) -> bool {
        self.is_checked.store(health != Health::Unknown, Relaxed);
        if health == Health::Down {
            self.standing.set(DOWN);
            return false;
        }
        self.standing.clear(DOWN)
    }

    /// Whether neither the health checker nor the breaker has anything against it.
    pub(crate) fn is_usable(&self) -> bool {
        self.standing.bits() & (DOWN | OPEN) == 0
    }

    /// Where its breaker stands.
    pub(crate) fn phase(&self) -> Phase {
        match self.standing.bits() & (OPEN | TRIAL) {
            0 => Phase::Closed,
            TRIAL => Phase::HalfOpen,
            _ => Phase::Open,
        }
    }

    /// It is well again: it comes back by a slow start, and what was known of its latency is forgotten.
    pub(crate) fn recover(&self, now_ms: u64, slow_start: Duration, cleared: u8) {
        self.latency.0.clear();
        self.standing.begin_slow(now_ms, millis(slow_start));
        self.standing.clear(cleared);
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
    fn tick(&self, now_ms: u64) {
        self.standing.tick(now_ms);
        if self.standing.bits() & OPEN != 0 && self.circuit.half_open(now_ms, false) {
            self.standing.half_open();
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
    pub(crate) fn set_addresses(&self, found: Vec<SocketAddr>, permit: &Permit) -> bool {
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
    fn permit(&self, permit: &Permit) {
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

/// A key of this node alone, for as long as the fleet's is not known.
fn own_key() -> Key {
    let mut key = Key::default();
    // Version 4 ids come from the system's source of chance.
    key.chunks_mut(16).for_each(|piece| piece.copy_from_slice(uuid::Uuid::new_v4().as_bytes()));
    key
}

fn millis(duration: Duration) -> u64 {
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
    pub(crate) secured: Option<Arc<Secured>>,
}

/// The configuration that is in use, with its live state.
pub(crate) struct Active {
    /// What was checked.
    pub(crate) snapshot: Arc<Snapshot>,
    /// In the order of [`Snapshot::pools`].
    pub(crate) pools: Vec<PoolState>,
    /// In the order of [`Snapshot::routes`]; `None`: the route asks nothing.
    pub(crate) filters: Vec<Option<Arc<filter::Chain>>>,
    /// What keeps clients at a pool of a split, by route; empty where none does.
    splits: Vec<Option<Box<Sticky>>>,
    /// What clients are shown.
    pub(crate) certificates: Arc<Table>,
    /// Which addresses its backends may have.
    pub(crate) permit: Permit,
    epoch: Instant,
}

impl Active {
    /// What keeps clients at a pool of a route's split.
    pub(crate) fn split(&self, route: usize) -> Option<&Sticky> {
        self.splits.get(route)?.as_deref()
    }

    /// A moment, in milliseconds since the node began.
    pub(crate) fn ms(&self, at: Instant) -> u64 {
        millis(at.saturating_duration_since(self.epoch))
    }
}

/// All live state of the node.
pub(crate) struct Fleet {
    epoch: Instant,
    backends: Mutex<HashMap<Arc<str>, Weak<BackendState>>>,
    pools: Mutex<HashMap<Arc<str>, Weak<PoolLive>>>,
    /// What was found last, also of backends that a snapshot is yet to name.
    health: Mutex<HashMap<String, Health>>,
    /// What was built last.
    active: Mutex<Weak<Active>>,
    /// What sessions are signed with; the node's own until the control plane has told the fleet's.
    key: Mutex<Key>,
    /// What filters remember.
    pub(crate) filters: filter::Live,
    /// Keys of certificates, and of tickets.
    pub(crate) tls: Material,
    /// Whether it takes clients by HTTPS.
    serves_https: bool,
    /// Ports of the fleet, which no backend may be.
    own_ports: Arc<[OwnPort]>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            // Never 0: that says of a moment that it has not come.
            epoch: Instant::now().checked_sub(Duration::from_millis(1)).unwrap_or_else(Instant::now),
            backends: Mutex::default(),
            pools: Mutex::default(),
            health: Mutex::default(),
            active: Mutex::default(),
            key: Mutex::new(own_key()),
            filters: filter::Live::default(),
            tls: Material::default(),
            serves_https: false,
            own_ports: Arc::default(),
        }
    }
}

impl Fleet {
    /// For a node that takes clients by HTTPS, and so needs the keys of all certificates.
    pub(crate) fn of_https(serves_https: bool, tls: Material, own_ports: Arc<[OwnPort]>) -> Self {
        Self { serves_https, tls, own_ports, ..Self::default() }
    }

    /// Joins a checked snapshot with the live state of the backends and pools that it keeps.
    ///
    /// # Errors
    /// A certificate's key is not here.
    pub(crate) fn build(&self, snapshot: Arc<Snapshot>) -> Result<Arc<Active>, Problems> {
        let mut problems = Problems::default();
        let certificates = if self.serves_https { &snapshot.certificates[..] } else { &[] };
        let certificates = Arc::new(Table::new(certificates, &self.tls, &mut problems));
        let permit = Permit::new(snapshot.settings.allow_backends, Arc::clone(&self.own_ports));
        let mut pools = Vec::with_capacity(snapshot.pools.len());
        for (place, pool) in snapshot.pools.iter().enumerate() {
            pools.push(self.pool(pool, place, &permit, &mut problems));
        }
        problems.into_result(())?;
        let mut known = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, state| state.strong_count() > 0);
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, live| live.strong_count() > 0);
        let filters = self.filters.chains(&snapshot);
        let splits = self.splits(&snapshot);
        let epoch = self.epoch;
        let active = Arc::new(Active { snapshot, pools, filters, splits, certificates, permit, epoch });
        *self.active.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&active);
        Ok(active)
    }

    fn splits(&self, snapshot: &Snapshot) -> Vec<Option<Box<Sticky>>> {
        let key = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        let sticky = |route: &Route| {
            let Target::Split(split) = &route.target else { return None };
            let names = split.shares.iter().map(|share| &snapshot.pools[share.pool].name);
            // No pool can have a name with a blank.
            Sticky::new(split.sticky.as_ref()?, &key, &format!("split {}", route.name), names).map(Box::new)
        };
        let splits: Vec<_> = snapshot.routes.iter().map(sticky).collect();
        if splits.iter().any(Option::is_some) { splits } else { Vec::new() }
    }

    fn pool(&self, pool: &Pool, place: usize, permit: &Permit, problems: &mut Problems) -> PoolState {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let old = pools.get(&pool.name).and_then(Weak::upgrade);
        let is_new = old.is_none();
        let live = old.unwrap_or_else(|| {
            let live = Arc::<PoolLive>::default();
            pools.insert(Arc::clone(&pool.name), Arc::downgrade(&live));
            live
        });
        drop(pools);
        let now_ms = self.now_ms();
        let resilience = pool.resilience.clone();
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        let mut members = Vec::with_capacity(pool.backends.len());
        let secured = live.tls.secured(pool, place, &self.tls, problems);
        for (backend, secured) in pool.backends.iter().zip(secured) {
            let id = &backend.id.0;
            let is_same =
                |state: &Arc<BackendState>| state.url == backend.url && Arc::ptr_eq(&state.pool, &live);
            let kept = known.get(id).and_then(Weak::upgrade).filter(is_same);
            let state = kept.unwrap_or_else(|| {
                let state = BackendState::new(Arc::clone(id), backend.url.clone(), Arc::clone(&live));
                if let Some(health) = health.get(&**id) {
                    state.set_health(*health);
                }
                // A pool that is new as a whole has nobody to spare its backends the load.
                if !is_new {
                    state.standing.begin_slow(now_ms, millis(resilience.slow_start));
                }
                let state = Arc::new(state);
                known.insert(Arc::clone(id), Arc::downgrade(&state));
                state
            });
            state.permit(permit);
            if resilience.breaker.is_none() {
                state.circuit.reset(state.tally());
                state.standing.clear(OPEN | TRIAL);
            }
            let drains = backend.state == Wanted::Draining;
            match (drains, state.draining_since_ms()) {
                (true, None) => state.draining_since_ms.store(now_ms, Relaxed),
                (false, Some(_)) => {
                    state.draining_since_ms.store(0, Relaxed);
                    state.recover(now_ms, resilience.slow_start, 0);
                }
                _ => {}
            }
            members.push(Member { state, weight: backend.weight.get(), wanted: backend.state, secured });
        }
        let balancer = Balancer::new(pool.strategy, &members, &live);
        let key = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        let ids = members.iter().map(|member| &member.state.id);
        let sticky =
            resilience.sticky.as_ref().and_then(|settings| Sticky::new(settings, &key, &pool.name, ids));
        drop(key);
        PoolState {
            name: Arc::clone(&pool.name),
            timeouts: pool.timeouts,
            keep_alive: pool.keep_alive,
            protocol: pool.protocol,
            omit_via: pool.omit_via,
            resilience,
            members,
            balancer,
            sticky,
            live,
        }
    }

    /// Now, in milliseconds since the node began.
    pub(crate) fn now_ms(&self) -> u64 {
        millis(self.epoch.elapsed())
    }

    /// Notes the fleet's key; whether it is another one. What is active goes on with the old one.
    pub(crate) fn set_key(&self, key: Key) -> bool {
        let mut own = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *own, key) != key
    }

    /// What is active, as far as it is still in use.
    pub(crate) fn active(&self) -> Option<Arc<Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    /// Moves on what goes by time, for ever: open breakers and slow starts.
    pub(crate) async fn keep_time(&self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now_ms = self.now_ms();
            self.filters.size.tick(Instant::now());
            self.backends().iter().for_each(|backend| backend.tick(now_ms));
            self.active().iter().flat_map(|active| &active.pools).for_each(PoolState::tick);
        }
    }

    /// Every backend that is still in use, by id.
    pub(crate) fn backends(&self) -> Vec<Arc<BackendState>> {
        let known = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().filter_map(Weak::upgrade).collect()
    }

    /// Notes what the health checker found; `complete`: of what is not named nothing is known. Gives the backends
    /// whose health is another now.
    pub(crate) fn set_health(
        &self,
        complete: bool,
        found: HashMap<String, Health>,
    ) -> Vec<Arc<BackendState>> {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = if complete {
            *health = found;
            self.backends()
        } else {
            let known = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
            let named =
                found.keys().filter_map(|id| known.get(id.as_str()).and_then(Weak::upgrade)).collect();
            drop(known);
            for (id, found) in found {
                // Most often it is gone from the configuration: nothing is kept of it.
                if found == Health::Unknown {
                    health.remove(&id);
                } else {
                    health.insert(id, found);
                }
            }
            named
        };
        changed.retain(|backend| {
            let now = health.get(&*backend.id).copied().unwrap_or(Health::Unknown);
            let differs = backend.health() != now;
            if backend.set_health(now) {
                self.recovered(backend);
            }
            differs
        });
        changed
    }

    /// The health checker sees a backend again that it had found dead.
    fn recovered(&self, backend: &BackendState) {
        let now_ms = self.now_ms();
        let active = self.active();
        let pools = active.iter().flat_map(|active| &active.pools);
        let pool = pools.into_iter().find(|pool| std::ptr::eq(&*pool.live, &*backend.pool));
        let slow_start = pool.map_or(Duration::ZERO, |pool| pool.resilience.slow_start);
        backend.recover(now_ms, slow_start, 0);
        // What ejected it may be over as well: a few requests find out.
        if backend.circuit.half_open(now_ms, true) {
            backend.standing.half_open();
        }
    }
}
