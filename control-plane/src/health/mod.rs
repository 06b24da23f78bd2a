//! Health checker: probes each backend once per interval, regardless of the number of nodes, and publishes each change.
//! Health is not part of a revision.
//!
//! A task watches the current revision and runs one probe task per backend. A probe task continues with a new revision
//! if its backend's address and health check are unchanged.

mod judge;
mod names;
mod probe;
mod published;
mod secured;

use std::{
    cell::LazyCell,
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, watch},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use weir_snapshot::{
    BackendUrl, HealthCheck, Scheme, UpstreamTls,
    backend_address::OwnPort,
    config::{AllowBackends, BackendState, Protocol},
};
use weir_tls::Keys;

use crate::current::{Current, Watch};
use judge::Judge;
pub use judge::State;
use names::Known;
use probe::Connector;
pub use probe::Finding;
pub use published::PublishedHealth;
use secured::Secured;

/// Changes within this time are published together.
const COALESCE: Duration = Duration::from_millis(100);

/// Time after the start at which backends that are still unknown are published as unknown.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);

/// Maximum number of concurrent probes.
const CONCURRENT: usize = 256;

/// State of each backend that is up or down; all others are unknown.
pub type States = BTreeMap<String, State>;

/// The health checker. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    shared: Arc<Shared>,
}

struct Shared {
    judges: Mutex<HashMap<String, Probed>>,
    published: watch::Sender<Arc<PublishedHealth>>,
    /// Notified when states may differ from what was published.
    changed: Notify,
    permits: Semaphore,
    keys: Arc<dyn Keys + Send + Sync>,
    connector: Connector,
}

/// A backend that is probed.
struct Probed {
    target: Arc<Target>,
    judge: Judge,
    last_check: String,
    /// Ends the probe task when this entry is dropped.
    _task: DropGuard,
}

/// What a probe task probes, and how. If it is equal in a new revision, the task continues.
#[derive(Debug)]
struct Target {
    id: String,
    pool: String,
    url: BackendUrl,
    check: HealthCheck,
    protocol: Protocol,
    /// TLS settings; `None` means cleartext.
    tls: Option<UpstreamTls>,
    allow: AllowBackends,
    /// TLS client, from the pool's `tls` and `protocol`.
    secured: Secured,
    /// Resolved addresses of the backend's name, kept while its URL is unchanged.
    names: Arc<Known>,
}

impl Target {
    /// Whether it is probed in the same way.
    fn is(&self, other: &Self) -> bool {
        let Self { id, pool, url, check, protocol, tls, allow, secured: _, names: _ } = self;
        (id, pool, url, check, protocol, tls, allow)
            == (&other.id, &other.pool, &other.url, &other.check, &other.protocol, &other.tls, &other.allow)
    }
}

/// Whether the address is local to this machine. Normally only local addresses can be bound. With
/// `net.ipv4.ip_nonlocal_bind`, a documentation address (RFC 5737) can be bound too, and then only loopback addresses
/// count as local.
pub(crate) fn is_local(address: std::net::IpAddr) -> bool {
    let binds = |address| std::net::UdpSocket::bind((address, 0)).is_ok();
    address.is_loopback() || binds(address) && !binds(std::net::IpAddr::from([192, 0, 2, 1]))
}

impl Health {
    /// Starts to probe the backends of the current revision, until `stop`. Connections to `own_ports` are refused.
    pub fn start(
        mut current: Watch,
        keys: Arc<dyn Keys + Send + Sync>,
        own_ports: Arc<[OwnPort]>,
        stop: CancellationToken,
    ) -> Self {
        let health = Self {
            shared: Arc::new(Shared {
                judges: Mutex::default(),
                published: watch::Sender::new(Arc::default()),
                changed: Notify::new(),
                permits: Semaphore::new(CONCURRENT),
                keys,
                connector: Connector { look_up: names::system(), own_ports },
            }),
        };
        let this = health.clone();
        let now = Arc::clone(&current.borrow_and_update());
        this.follow(&now, &stop);
        // With no backends to probe, the state is settled at once.
        this.publish(false);
        tokio::spawn(stop.clone().run_until_cancelled_owned({
            let this = health.clone();
            async move { this.publish_changes().await }
        }));
        tokio::spawn(async move {
            loop {
                let now = Arc::clone(&current.borrow_and_update());
                this.follow(&now, &stop);
                tokio::select! {
                    changed = current.changed() => if changed.is_err() { break },
                    () = stop.cancelled() => break,
                }
            }
        });
        health
    }

    /// Receives the published health and each change of it.
    pub fn watch(&self) -> watch::Receiver<Arc<PublishedHealth>> {
        self.shared.published.subscribe()
    }

    /// Returns a backend's state and the result of its last probe.
    pub fn of(&self, id: &str) -> (State, String) {
        let judges = self.shared.judges.lock().unwrap_or_else(PoisonError::into_inner);
        judges.get(id).map_or((State::Unknown, String::new()), |probed| {
            (probed.judge.state(), probed.last_check.clone())
        })
    }

    /// Probes a backend now; the result counts like any other probe. `None` if the backend is not probed.
    pub async fn check(&self, id: &str) -> Option<Finding> {
        let target = {
            let judges = self.shared.judges.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&judges.get(id)?.target)
        };
        Some(self.probe(&target).await)
    }

    /// Starts and ends probe tasks to match the revision.
    fn follow(&self, current: &Current, stop: &CancellationToken) {
        let mut judges = self.shared.judges.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *judges);
        for pool in &current.snapshot.pools {
            if pool.health_check.probe.is_none() {
                continue;
            }
            // Created once per pool, when a new backend needs it.
            let secured = LazyCell::new(|| Secured::new(pool, &*self.shared.keys));
            for backend in pool.backends.iter().filter(|backend| backend.state != BackendState::Disabled) {
                let target = Target {
                    id: backend.id.to_string(),
                    pool: pool.name.to_string(),
                    url: backend.url.clone(),
                    check: pool.health_check.clone(),
                    protocol: pool.protocol,
                    tls: (backend.url.scheme == Scheme::Https).then(|| pool.tls.clone()),
                    allow: current.snapshot.settings.allow_backends,
                    secured: Secured::default(),
                    names: Arc::default(),
                };
                let probed = match before.remove(&target.id) {
                    Some(probed) if probed.target.is(&target) => probed,
                    // A different health check may give another result, so counting starts again. Until then the state
                    // is kept.
                    old => {
                        let state = old.as_ref().map_or(State::Unknown, |old| old.judge.state());
                        let secured = target.tls.as_ref().map(|_| secured.clone()).unwrap_or_default();
                        let old_target = old.as_ref().map(|old| &old.target);
                        let names =
                            old_target.filter(|old| old.url == target.url).map(|old| Arc::clone(&old.names));
                        let target = Target { secured, names: names.unwrap_or_default(), ..target };
                        let target = Arc::new(target);
                        let task = stop.child_token();
                        tokio::spawn({
                            let (this, target, task) = (self.clone(), Arc::clone(&target), task.clone());
                            async move { task.run_until_cancelled(this.keep_probing(&target)).await }
                        });
                        let last_check = old.map(|old| old.last_check).unwrap_or_default();
                        Probed { target, judge: Judge::new(state), last_check, _task: task.drop_guard() }
                    }
                };
                judges.insert(probed.target.id.clone(), probed);
            }
        }
        self.shared.changed.notify_one();
    }

    async fn keep_probing(&self, target: &Target) {
        loop {
            let begun = Instant::now();
            self.probe(target).await;
            let is_fast = {
                let judges = self.shared.judges.lock().unwrap_or_else(PoisonError::into_inner);
                judges.get(&target.id).is_some_and(|probed| probed.judge.is_fast())
            };
            let interval = if is_fast { target.check.fast_interval } else { target.check.interval };
            // The jitter only shortens the interval, so that a dead backend is detected within fall × interval.
            let pause = interval.mul_f64(1.0 - 0.1 * fastrand::f64());
            tokio::time::sleep_until((begun + pause).max(Instant::now() + Duration::from_millis(10))).await;
        }
    }

    /// Runs one probe, counts it, and logs if it changes the state.
    async fn probe(&self, target: &Target) -> Finding {
        let finding = {
            // The semaphore is never closed.
            let _permit = self.shared.permits.acquire().await;
            probe::probe(target, &self.shared.connector).await
        };
        let mut judges = self.shared.judges.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(probed) = judges.get_mut(&target.id).filter(|probed| probed.target.is(target)) else {
            return finding;
        };
        probed.last_check.clone_from(&finding.detail);
        let Some(state) = probed.judge.judge(finding.ok, target.check.rise, target.check.fall) else {
            return finding;
        };
        let Target { id, pool, url, .. } = target;
        match state {
            State::Down => {
                tracing::warn!(backend = %id, %url, %pool, detail = %finding.detail, "backend is DOWN");
            }
            _ => tracing::info!(backend = %id, %url, %pool, detail = %finding.detail, "backend is UP"),
        }
        self.shared.changed.notify_one();
        finding
    }

    /// Publishes changes: the first one at once, further ones together.
    async fn publish_changes(&self) {
        let settled_at = Instant::now() + SETTLE_WITHIN;
        loop {
            let is_settled = self.shared.published.borrow().is_settled;
            tokio::select! {
                () = self.shared.changed.notified() => {}
                () = tokio::time::sleep_until(settled_at), if !is_settled => {}
            }
            self.publish(Instant::now() >= settled_at);
            tokio::time::sleep(COALESCE).await;
        }
    }

    /// Publishes the current states. They are settled when no backend is unknown, or if `is_settled` is true.
    fn publish(&self, is_settled: bool) {
        let known = |(id, probed): (&String, &Probed)| match probed.judge.state() {
            State::Unknown => None,
            state => Some((id.clone(), state)),
        };
        let judges = self.shared.judges.lock().unwrap_or_else(PoisonError::into_inner);
        let states: States = judges.iter().filter_map(known).collect();
        let is_settled = is_settled || states.len() == judges.len();
        drop(judges);
        let next = self.shared.published.borrow().next(states, is_settled);
        if let Some(next) = next {
            self.shared.published.send_replace(Arc::new(next));
        }
    }
}
