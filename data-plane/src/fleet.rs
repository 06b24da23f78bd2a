//! The node's fleet: joins each checked snapshot with the live state of its pools and backends.
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

/// Interval in which breakers and slow starts advance.
const TICK: Duration = Duration::from_millis(50);

/// The active configuration with its live state.
pub(crate) struct Active {
    /// The checked configuration.
    pub(crate) snapshot: Arc<Snapshot>,
    /// In the order of [`Snapshot::pools`].
    pub(crate) pools: Vec<ActivePool>,
    /// In the order of [`Snapshot::routes`]; `None`: the route has no filters.
    pub(crate) filters: Vec<Option<Arc<filter::Chain>>>,
    /// Session affinity of splits, by route; empty if no split uses it.
    splits: Vec<Option<Box<Sticky>>>,
    /// Certificates for clients.
    pub(crate) certificates: Arc<CertificateTable>,
    /// The addresses that its backends may have.
    pub(crate) permit: AddressPolicy,
    epoch: Instant,
}

impl Active {
    /// The session affinity of a route's split.
    pub(crate) fn split(&self, route: usize) -> Option<&Sticky> {
        self.splits.get(route)?.as_deref()
    }

    /// Milliseconds since the node's start.
    pub(crate) fn ms(&self, at: Instant) -> u64 {
        millis(at.saturating_duration_since(self.epoch))
    }
}

/// All live state of the node.
pub(crate) struct Fleet {
    epoch: Instant,
    backends: Mutex<HashMap<Arc<str>, Weak<BackendState>>>,
    pools: Mutex<HashMap<Arc<str>, Weak<PoolState>>>,
    /// Last results of health checks, also for backends that no snapshot names yet.
    health: Mutex<HashMap<String, Health>>,
    /// The last configuration that was built.
    active: Mutex<Weak<Active>>,
    /// The key that signs session cookies; the node's own until the control plane sends the fleet's.
    key: Mutex<Key>,
    /// State of filters that outlives snapshots.
    pub(crate) filters: filter::FilterState,
    /// Private keys of certificates, and ticket keys.
    pub(crate) tls: TlsState,
    /// Whether the node listens for HTTPS.
    serves_https: bool,
    /// Ports of the fleet, which backends must not use.
    own_ports: Arc<[OwnPort]>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            // Never 0, which means that an event has not happened.
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
    /// The fleet of a node with HTTPS, which needs the private keys of all certificates.
    pub(crate) fn of_https(serves_https: bool, tls: TlsState, own_ports: Arc<[OwnPort]>) -> Self {
        Self { serves_https, tls, own_ports, ..Self::default() }
    }

    /// Joins a checked snapshot with the live state of the backends and pools that it keeps.
    ///
    /// # Errors
    /// The key of a certificate is missing.
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
            // No pool's name has a blank.
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
                // In a new pool all backends start at once, so there is no slow start.
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

    /// Sets the fleet's key. Returns whether it is a new one. The active configuration keeps the old one.
    pub(crate) fn set_key(&self, key: Key) -> bool {
        let mut own = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *own, key) != key
    }

    /// The active configuration, if a worker still uses it.
    pub(crate) fn active(&self) -> Option<Arc<Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    /// Advances breakers and slow starts, forever.
    pub(crate) async fn run_ticks(&self) {
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

    /// Sets results of health checks. `complete`: backends without a result become unknown. Returns the backends whose
    /// health changed.
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
                // Usually the backend was removed from the configuration, so nothing is kept.
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

    /// A health check succeeds for a backend that was down.
    fn recovered(&self, backend: &BackendState) {
        let now_ms = self.now_ms();
        let active = self.active();
        let pools = active.iter().flat_map(|active| &active.pools);
        let pool = pools.into_iter().find(|pool| std::ptr::eq(&*pool.state, &*backend.pool));
        let slow_start = pool.map_or(Duration::ZERO, |pool| pool.resilience.slow_start);
        backend.recover(now_ms, slow_start, 0);
        // The reason for the ejection may be over as well, so a few requests try the backend.
        if backend.circuit.half_open(now_ms, true) {
            backend.availability.half_open();
        }
    }
}

/// A random key of this node, used until the fleet's key arrives.
fn own_key() -> Key {
    let mut key = Key::default();
    // Version 4 UUIDs use the system's random numbers.
    key.chunks_mut(16).for_each(|piece| piece.copy_from_slice(uuid::Uuid::new_v4().as_bytes()));
    key
}
