//! Live state of backends and pools: what outlives a snapshot, shared by all workers of the node.
//!
//! A new snapshot makes a new [`Active`]; backends that stay keep their [`BackendState`], so that counters and
//! health go on. [`Active`] is what everything a request needs hangs from: it is published behind one pointer.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use weir_snapshot::{
    BackendUrl, Host, Snapshot, Timeouts,
    config::{BackendState as Wanted, Protocol},
};

use crate::balance::Balancer;

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

/// What the node knows of one backend.
pub(crate) struct BackendState {
    /// Its name in the whole fleet.
    pub(crate) id: Arc<str>,
    /// Where it is.
    pub(crate) url: BackendUrl,
    in_flight: Padded<AtomicU32>,
    health: AtomicU8,
    addresses: ArcSwap<Vec<SocketAddr>>,
    /// Its name was said to have no address, and has had none since.
    pub(crate) nameless: AtomicBool,
}

impl BackendState {
    pub(crate) fn new(id: Arc<str>, url: BackendUrl) -> Self {
        let addresses = match url.host {
            Host::Address(address) => vec![SocketAddr::new(address, url.port)],
            Host::Name(_) => Vec::new(),
        };
        Self {
            id,
            url,
            in_flight: Padded::default(),
            health: AtomicU8::new(0),
            addresses: ArcSwap::from_pointee(addresses),
            nameless: AtomicBool::new(false),
        }
    }

    /// Requests that this node has under way there.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.0.load(Relaxed)
    }

    /// Counts one request as under way until the guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.0.fetch_add(1, Relaxed);
        InFlight(Arc::clone(self))
    }

    /// What the health checker found last.
    pub(crate) fn health(&self) -> Health {
        match self.health.load(Relaxed) {
            0 => Health::Unknown,
            1 => Health::Up,
            _ => Health::Down,
        }
    }

    /// Notes what the health checker found.
    pub(crate) fn set_health(&self, health: Health) {
        self.health.store(health as u8, Relaxed);
    }

    /// Whether the health checker has nothing against it.
    pub(crate) fn is_usable(&self) -> bool {
        self.health.load(Relaxed) != Health::Down as u8
    }

    /// The addresses of its host; empty while a name could not be looked up.
    pub(crate) fn addresses(&self) -> Arc<Vec<SocketAddr>> {
        self.addresses.load_full()
    }

    /// Whether its host still has the address; costs nothing where the address was configured.
    pub(crate) fn has_address(&self, address: SocketAddr) -> bool {
        match self.url.host {
            Host::Address(own) => address == SocketAddr::new(own, self.url.port),
            Host::Name(_) => self.addresses.load().contains(&address),
        }
    }

    /// The first address: most backends have just one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.addresses.load().first().copied()
    }

    /// Notes what a name's lookup found.
    pub(crate) fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        self.addresses.store(Arc::new(addresses));
    }
}

/// One request under way at a backend.
pub(crate) struct InFlight(Arc<BackendState>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.0.fetch_sub(1, Relaxed);
    }
}

/// A backend in its pool.
pub(crate) struct Member {
    /// Live state.
    pub(crate) state: Arc<BackendState>,
    /// Its share.
    pub(crate) weight: u32,
    /// Whether it may get new requests.
    pub(crate) wanted: Wanted,
}

/// A pool as workers use it.
pub(crate) struct PoolState {
    /// Its name, for the statistics.
    pub(crate) name: Arc<str>,
    /// Deadlines.
    pub(crate) timeouts: Timeouts,
    /// What its backends speak.
    pub(crate) protocol: Protocol,
    /// All its backends, in the order of the configuration.
    pub(crate) members: Vec<Member>,
    /// How one is picked.
    pub(crate) balancer: Balancer,
}

/// The configuration that is in use, with its live state.
pub(crate) struct Active {
    /// What was checked.
    pub(crate) snapshot: Arc<Snapshot>,
    /// In the order of [`Snapshot::pools`].
    pub(crate) pools: Vec<PoolState>,
}

/// All live state of the node.
#[derive(Default)]
pub(crate) struct Fleet {
    backends: Mutex<HashMap<Arc<str>, Weak<BackendState>>>,
    cursors: Mutex<HashMap<Arc<str>, Weak<Padded<AtomicUsize>>>>,
    /// What was found last, also of backends that a snapshot is yet to name.
    health: Mutex<HashMap<String, Health>>,
}

impl Fleet {
    /// Joins a checked snapshot with the live state of the backends and pools that it keeps.
    pub(crate) fn build(&self, snapshot: Arc<Snapshot>) -> Arc<Active> {
        let mut known = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let pools = snapshot
            .pools
            .iter()
            .map(|pool| {
                let members: Vec<Member> = pool
                    .backends
                    .iter()
                    .map(|backend| {
                        let id = &backend.id.0;
                        let kept =
                            known.get(id).and_then(Weak::upgrade).filter(|state| state.url == backend.url);
                        let state = kept.unwrap_or_else(|| {
                            let state = Arc::new(BackendState::new(Arc::clone(id), backend.url.clone()));
                            if let Some(health) = health.get(&**id) {
                                state.set_health(*health);
                            }
                            known.insert(Arc::clone(id), Arc::downgrade(&state));
                            state
                        });
                        Member { state, weight: backend.weight.get(), wanted: backend.state }
                    })
                    .collect();
                let cursor = cursors.get(&pool.name).and_then(Weak::upgrade).unwrap_or_else(|| {
                    let cursor = Arc::new(Padded::default());
                    cursors.insert(Arc::clone(&pool.name), Arc::downgrade(&cursor));
                    cursor
                });
                let balancer = Balancer::new(pool.strategy, &members, cursor);
                PoolState {
                    name: Arc::clone(&pool.name),
                    timeouts: pool.timeouts,
                    protocol: pool.protocol,
                    members,
                    balancer,
                }
            })
            .collect();
        known.retain(|_, state| state.strong_count() > 0);
        cursors.retain(|_, cursor| cursor.strong_count() > 0);
        Arc::new(Active { snapshot, pools })
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
        if complete {
            *health = found;
        } else {
            health.extend(found);
        }
        let mut changed = self.backends();
        changed.retain(|backend| {
            let now = health.get(&*backend.id).copied().unwrap_or(Health::Unknown);
            let differs = backend.health() != now;
            backend.set_health(now);
            differs
        });
        changed
    }
}
