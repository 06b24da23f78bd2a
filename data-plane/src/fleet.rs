//! The node's live fleet: joins each checked snapshot with the live state of its pools and backends.
//!
//! A new snapshot makes a new [`Active`]. Backends that stay keep their [`BackendState`], so that counters and health
//! continue. Everything that a request needs hangs from [`Active`], which is published behind one pointer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use weir_snapshot::{
    Pool, Problems, Route, Snapshot, Target, backend_address::OwnPort, config::BackendState as Wanted,
};

use crate::{
    filter,
    pool::{
        ActivePool,
        addresses::AddressPolicy,
        availability::{OPEN, TRIAL},
        backend::{BackendState, Health, Member, millis},
        balance::Balancer,
        state::PoolState,
        sticky::{Key, Sticky},
    },
    wire::tls::{CertificateTable, TlsState},
};

/// How often breakers and slow starts are looked at.
const TICK: Duration = Duration::from_millis(50);

/// The configuration that is in use, with its live state.
pub(crate) struct Active {
    /// What was checked.
    pub(crate) snapshot: Arc<Snapshot>,
    /// In the order of [`Snapshot::pools`].
    pub(crate) pools: Vec<ActivePool>,
    /// In the order of [`Snapshot::routes`]; `None`: the route asks nothing.
    pub(crate) filters: Vec<Option<Arc<filter::Chain>>>,
    /// What keeps clients at a pool of a split, by route; empty where none does.
    splits: Vec<Option<Box<Sticky>>>,
    /// What clients are shown.
    pub(crate) certificates: Arc<CertificateTable>,
    /// Which addresses its backends may have.
    pub(crate) permit: AddressPolicy,
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
    pools: Mutex<HashMap<Arc<str>, Weak<PoolState>>>,
    /// What was found last, also of backends that a snapshot is yet to name.
    health: Mutex<HashMap<String, Health>>,
    /// What was built last.
    active: Mutex<Weak<Active>>,
    /// What sessions are signed with; the node's own until the control plane has told the fleet's.
    key: Mutex<Key>,
    /// What filters remember.
    pub(crate) filters: filter::FilterState,
    /// Keys of certificates, and of tickets.
    pub(crate) tls: TlsState,
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
            filters: filter::FilterState::default(),
            tls: TlsState::default(),
            serves_https: false,
            own_ports: Arc::default(),
        }
    }
}

impl Fleet {
    /// For a node that takes clients by HTTPS, and so needs the keys of all certificates.
    pub(crate) fn of_https(serves_https: bool, tls: TlsState, own_ports: Arc<[OwnPort]>) -> Self {
        Self { serves_https, tls, own_ports, ..Self::default() }
    }

    /// Joins a checked snapshot with the live state of the backends and pools that it keeps.
    ///
    /// # Errors
    /// A certificate's key is not here.
    pub(crate) fn build(&self, snapshot: Arc<Snapshot>) -> Result<Arc<Active>, Problems> {
        let mut problems = Problems::default();
        let certificates = if self.serves_https { &snapshot.certificates[..] } else { &[] };
        let certificates = Arc::new(CertificateTable::new(certificates, &self.tls, &mut problems));
        let permit = AddressPolicy::new(snapshot.settings.allow_backends, Arc::clone(&self.own_ports));
        let mut pools = Vec::with_capacity(snapshot.pools.len());
        for (index, pool) in snapshot.pools.iter().enumerate() {
            pools.push(self.pool(pool, index, &permit, &mut problems));
        }
        problems.into_result(())?;
        let mut known = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, state| state.strong_count() > 0);
        self.pools
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, pool_state| pool_state.strong_count() > 0);
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

    fn pool(&self, pool: &Pool, index: usize, permit: &AddressPolicy, problems: &mut Problems) -> ActivePool {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let old = pools.get(&pool.name).and_then(Weak::upgrade);
        let is_new = old.is_none();
        let pool_state = old.unwrap_or_else(|| {
            let pool_state = Arc::<PoolState>::default();
            pools.insert(Arc::clone(&pool.name), Arc::downgrade(&pool_state));
            pool_state
        });
        drop(pools);
        let now_ms = self.now_ms();
        let resilience = pool.resilience.clone();
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        let mut members = Vec::with_capacity(pool.backends.len());
        let secured = pool_state.tls.secured(pool, index, &self.tls, problems);
        for (backend, secured) in pool.backends.iter().zip(secured) {
            let id = &backend.id.0;
            let is_same =
                |state: &Arc<BackendState>| state.url == backend.url && Arc::ptr_eq(&state.pool, &pool_state);
            let kept = known.get(id).and_then(Weak::upgrade).filter(is_same);
            let state = kept.unwrap_or_else(|| {
                let state = BackendState::new(Arc::clone(id), backend.url.clone(), Arc::clone(&pool_state));
                if let Some(health) = health.get(&**id) {
                    state.set_health(*health);
                }
                // A pool that is new as a whole has nobody to spare its backends the load.
                if !is_new {
                    state.availability.begin_slow(now_ms, millis(resilience.slow_start));
                }
                let state = Arc::new(state);
                known.insert(Arc::clone(id), Arc::downgrade(&state));
                state
            });
            state.permit(permit);
            if resilience.breaker.is_none() {
                state.circuit.reset(state.tally());
                state.availability.clear(OPEN | TRIAL);
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
        let balancer = Balancer::new(pool.strategy, &members, &pool_state);
        let key = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        let ids = members.iter().map(|member| &member.state.id);
        let sticky =
            resilience.sticky.as_ref().and_then(|settings| Sticky::new(settings, &key, &pool.name, ids));
        drop(key);
        ActivePool {
            name: Arc::clone(&pool.name),
            timeouts: pool.timeouts,
            keep_alive: pool.keep_alive,
            protocol: pool.protocol,
            omit_via: pool.omit_via,
            resilience,
            members,
            balancer,
            sticky,
            state: pool_state,
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
            self.active().iter().flat_map(|active| &active.pools).for_each(ActivePool::tick);
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
        let pool = pools.into_iter().find(|pool| std::ptr::eq(&*pool.state, &*backend.pool));
        let slow_start = pool.map_or(Duration::ZERO, |pool| pool.resilience.slow_start);
        backend.recover(now_ms, slow_start, 0);
        // What ejected it may be over as well: a few requests find out.
        if backend.circuit.half_open(now_ms, true) {
            backend.availability.half_open();
        }
    }
}

/// A key of this node alone, for as long as the fleet's is not known.
fn own_key() -> Key {
    let mut key = Key::default();
    // Version 4 ids come from the system's source of chance.
    key.chunks_mut(16).for_each(|piece| piece.copy_from_slice(uuid::Uuid::new_v4().as_bytes()));
    key
}
