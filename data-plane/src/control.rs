//! The node's side of the control stream: says hello, takes snapshots, deltas and health, answers each.
//!
//! This is the door through which protobuf comes in: behind it there are only checked snapshots. Whatever is wrong
//! is answered with a rejection that names it, and the node keeps what it has; the stream goes on.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};
use weir_proto::{
    FORMAT,
    v1::{
        self, SubscribeRequest, nodes_client::NodesClient, subscribe_request::Message as Say,
        subscribe_response::Message as Told,
    },
};
use weir_snapshot::{
    Problem, Problems,
    resource::{ContentHash, Key, Kind, Resources, from_resources},
};

use crate::{
    Config,
    backend::{BackendState, Fleet, Health},
    breaker::Phase,
    pool::PoolState,
    resolve,
    stats::{Events, Reporter, Tap},
    worker::Workers,
};

/// The shortest and longest wait before the control plane is tried again.
const WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// A stream that lasted so long was a good one.
const GOOD: Duration = Duration::from_secs(2);

/// Load is told when it changes, this often at most.
const LOAD_EVERY: Duration = Duration::from_secs(1);

/// Load is told at least this often, in seconds.
const LOAD_AT_LEAST: u64 = 10;

/// Who this node is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) node_id: String,
    /// New at each start.
    pub(crate) boot_id: String,
    address: String,
}

impl Identity {
    pub(crate) fn new(config: &Config, http: std::net::SocketAddr) -> Self {
        let boot_id = uuid::Uuid::new_v4().to_string();
        Self { node_id: config.node_id(http), boot_id, address: http.to_string() }
    }
}

/// A channel that connects when it is first used, and again whenever it has to.
///
/// # Errors
/// The URL is none.
pub(crate) fn channel(config: &Config) -> anyhow::Result<Channel> {
    let url = &config.control_plane;
    let endpoint = Endpoint::from_shared(url.clone())
        .ok()
        .filter(|endpoint| endpoint.uri().scheme_str() == Some("http") && endpoint.uri().port().is_some())
        .with_context(|| format!("--control-plane {url:?} is not http://HOST:PORT"))?;
    Ok(endpoint
        .connect_timeout(Duration::from_secs(3))
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .connect_lazy())
}

/// What the control thread's tasks share.
pub(crate) struct State {
    pub(crate) fleet: Fleet,
    pub(crate) workers: Workers,
    pub(crate) reporter: Reporter,
    identity: Identity,
    active: Mutex<Option<Running>>,
    revision: AtomicU64,
    draining: AtomicBool,
    connected: AtomicBool,
    rejections: AtomicU64,
}

/// The configuration that is in use, in the form in which deltas change it.
#[derive(Clone)]
struct Running {
    revision: u64,
    resources: Resources,
    hash: ContentHash,
}

impl State {
    pub(crate) fn new(fleet: Fleet, workers: Workers, reporter: Reporter, identity: Identity) -> Self {
        Self {
            fleet,
            workers,
            reporter,
            identity,
            active: Mutex::new(None),
            revision: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            rejections: AtomicU64::new(0),
        }
    }

    /// The revision in use; 0 before the first.
    pub(crate) fn revision(&self) -> u64 {
        self.revision.load(Relaxed)
    }

    /// Whether the node has been asked to stop.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// The node has been asked to stop.
    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Whether the control stream is open.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Relaxed)
    }

    /// Snapshots that were refused since the start.
    pub(crate) fn rejections(&self) -> u64 {
        self.rejections.load(Relaxed)
    }

    fn running(&self) -> Option<Running> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn load(&self) -> v1::Load {
        let now_ms = self.fleet.now_ms();
        let backend = |backend: &Arc<BackendState>| v1::BackendLoad {
            backend_id: backend.id.to_string(),
            active_requests: backend.in_flight(),
            breaker: breaker(backend.phase()).into(),
            ejections: backend.circuit.ejections(),
            sessions: backend.sessions_left(now_ms),
        };
        let is_quiet =
            |load: &v1::BackendLoad| load.active_requests == 0 && load.ejections == 0 && load.sessions == 0;
        let mut backends: Vec<v1::BackendLoad> =
            self.fleet.backends().iter().map(backend).filter(|load| !is_quiet(load)).collect();
        backends.sort_by(|a, b| a.backend_id.cmp(&b.backend_id));
        let active = self.fleet.active();
        let pools = active.iter().flat_map(|active| &active.pools).map(pool_load).collect();
        v1::Load {
            connections: self.workers.connections(),
            backends,
            requests: self.workers.requests(),
            dropped_rows: self.reporter.dropped(),
            pools,
            clock_ms: 0,
        }
    }
}

fn breaker(phase: Phase) -> v1::Breaker {
    match phase {
        Phase::Closed => v1::Breaker::Closed,
        Phase::Open => v1::Breaker::Open,
        Phase::HalfOpen => v1::Breaker::HalfOpen,
    }
}

fn pool_load(pool: &PoolState) -> v1::PoolLoad {
    let counts = &pool.live.counts;
    v1::PoolLoad {
        pool: pool.name.to_string(),
        panic: pool.is_panicking(),
        waiting: pool.live.waiting(),
        retries: pool.live.budget.spent(),
        retries_refused: pool.live.budget.refused(),
        fallbacks: counts.fallbacks.load(Relaxed),
        refused: counts.refused.load(Relaxed),
        repinned: counts.repinned.load(Relaxed),
    }
}

/// Keeps the control stream open for ever.
pub(crate) async fn run(state: Arc<State>, channel: Channel, tap: Arc<Tap>, mut events: Events) {
    let mut wait = WAIT.0;
    let mut told = false;
    loop {
        let begun = tokio::time::Instant::now();
        let result = subscribe(&state, channel.clone(), &tap, &mut events).await;
        // Who watched is on the other side of the stream.
        tap.watch(Vec::new());
        events.clear();
        // A stream that is accepted and ended at once is no better than none.
        if state.connected.swap(false, Relaxed) && begun.elapsed() >= GOOD {
            wait = WAIT.0;
            told = false;
        }
        // Once, not each try: the log of a lonely node stays readable.
        if !told {
            told = true;
            let reason = result.err().map_or_else(|| "stream ended".to_owned(), |error| error.to_string());
            tracing::warn!(reason, "control plane not reachable, trying again");
        }
        tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64())).await;
        wait = (wait * 2).min(WAIT.1);
    }
}

async fn subscribe(
    state: &Arc<State>,
    channel: Channel,
    tap: &Tap,
    events: &mut Events,
) -> anyhow::Result<()> {
    let (say, requests) = mpsc::channel(64);
    let running = state.running();
    say.send(request(Say::Hello(v1::Hello {
        node_id: state.identity.node_id.clone(),
        boot_id: state.identity.boot_id.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        address: state.identity.address.clone(),
        workers: u32::try_from(state.workers.count()).unwrap_or(u32::MAX),
        labels: Default::default(),
        format: FORMAT,
        active_revision: running.as_ref().map_or(0, |running| running.revision),
        active_hash: running.as_ref().map_or_else(String::new, |running| running.hash.to_string()),
    })))
    .await?;
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut client = NodesClient::new(channel).max_decoding_message_size(256 << 20);
    let mut stream =
        client.subscribe(requests).await.map_err(|status| anyhow::anyhow!(reason(&status)))?.into_inner();
    state.connected.store(true, Relaxed);
    tracing::info!(node = state.identity.node_id, "control plane connected");

    let mut last = v1::Load::default();
    let mut ticks = tokio::time::interval(LOAD_EVERY);
    let mut quiet = LOAD_AT_LEAST;
    loop {
        tokio::select! {
            message = stream.message() => {
                let Some(message) = message.map_err(|status| anyhow::anyhow!(reason(&status)))? else { return Ok(()) };
                match message.message {
                    Some(Told::Tail(v1::Tail { filters })) => tap.watch(filters),
                    message => if let Some(answer) = take(state, message).await {
                        say.send(request(answer)).await?;
                    }
                }
            }
            seen = events.next() => {
                let (dropped, count) = (tap.take_dropped(), seen.len() as u64);
                // Whoever watches may lose something, but nothing else waits for it.
                if say.try_send(request(Say::Tail(v1::TailEvents { events: seen, dropped }))).is_err() {
                    tap.lost(dropped + count);
                }
            }
            _ = ticks.tick() => {
                let load = state.load();
                quiet += 1;
                if load != last || quiet >= LOAD_AT_LEAST {
                    let clock_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
                    let clock_ms = u64::try_from(clock_ms).unwrap_or_default();
                    say.send(request(Say::Load(v1::Load { clock_ms, ..load.clone() }))).await?;
                    last = load;
                    quiet = 0;
                }
            }
        }
    }
}

/// tonic hides what went wrong below it in the error's source.
fn reason(status: &tonic::Status) -> String {
    use std::error::Error as _;
    let mut reason = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        reason = format!("{reason}: {error}");
        source = error.source();
    }
    reason
}

fn request(message: Say) -> SubscribeRequest {
    SubscribeRequest { message: Some(message) }
}

/// Acts on one message; what has to be answered.
async fn take(state: &Arc<State>, message: Option<Told>) -> Option<Say> {
    let (revision, result) = match message {
        Some(Told::Health(update)) => {
            take_health(state, &update);
            return None;
        }
        Some(Told::Key(told)) => {
            take_key(state, &told.key).await;
            return None;
        }
        // Taken before it comes here.
        Some(Told::Tail(_)) => return None,
        Some(Told::Snapshot(snapshot)) => (snapshot.revision, activate(state, whole(&snapshot)).await),
        Some(Told::Delta(delta)) => (delta.revision, activate(state, changed(state, &delta)).await),
        None => {
            tracing::error!("message of an unknown kind ignored");
            return None;
        }
    };
    Some(match result {
        Ok(hash) => Say::Ack(v1::Ack { revision, hash: hash.to_string() }),
        Err(problems) => {
            state.rejections.fetch_add(1, Relaxed);
            tracing::error!(revision, %problems, "snapshot rejected, the one before stays");
            let problem = |problem: &Problem| v1::Problem {
                path: problem.path.clone(),
                message: problem.message.clone(),
            };
            Say::Rejection(v1::Rejection { revision, problems: problems.0.iter().map(problem).collect() })
        }
    })
}

/// What a message says the configuration is from now on.
struct Next {
    revision: u64,
    resources: Resources,
    hash: ContentHash,
}

fn whole(snapshot: &v1::Snapshot) -> Result<Next, Problems> {
    check_format(snapshot.format)?;
    let mut resources = Resources::new();
    for resource in &snapshot.resources {
        let (key, spec) = read(resource)?;
        if resources.insert(key.clone(), spec).is_some() {
            return Err(Problem::new(key.to_string(), "is there twice").into());
        }
    }
    let hash = ContentHash::of(&resources);
    check_hash(hash, &snapshot.hash)?;
    Ok(Next { revision: snapshot.revision, resources, hash })
}

fn changed(state: &State, delta: &v1::Delta) -> Result<Next, Problems> {
    check_format(delta.format)?;
    let Some(Running { mut resources, mut hash, .. }) =
        state.running().filter(|running| running.revision == delta.from_revision)
    else {
        let message = format!(
            "the delta is from revision {}, this node runs {}",
            delta.from_revision,
            state.revision()
        );
        return Err(Problem::new("from_revision", message).into());
    };
    for key in &delta.removed {
        let key = read_key(Some(key))?;
        let spec = resources
            .remove(&key)
            .ok_or_else(|| Problem::new(key.to_string(), "is not there to be removed"))?;
        hash.remove(&key, &spec);
    }
    for resource in &delta.changed {
        let (key, spec) = read(resource)?;
        hash.add(&key, &spec);
        if let Some(before) = resources.insert(key.clone(), spec) {
            hash.remove(&key, &before);
        }
    }
    check_hash(hash, &delta.hash)?;
    Ok(Next { revision: delta.revision, resources, hash })
}

fn check_format(format: u32) -> Result<(), Problem> {
    if format == FORMAT {
        return Ok(());
    }
    Err(Problem::new("format", format!("format {format} is not known to this node (it knows {FORMAT})")))
}

fn check_hash(ours: ContentHash, theirs: &str) -> Result<(), Problem> {
    if ours.to_string() == theirs {
        return Ok(());
    }
    Err(Problem::new("hash", format!("the content is {ours}, the control plane says {theirs:?}")))
}

fn read(resource: &v1::Resource) -> Result<(Key, String), Problem> {
    let key = read_key(resource.key.as_ref())?;
    let spec = String::from_utf8(resource.spec.clone())
        .map_err(|_| Problem::new(key.to_string(), "is not UTF-8"))?;
    Ok((key, spec))
}

fn read_key(key: Option<&v1::ResourceKey>) -> Result<Key, Problem> {
    let key = key.ok_or_else(|| Problem::new("key", "is missing"))?;
    let kind = match key.kind() {
        v1::ResourceKind::Settings => Kind::Settings,
        v1::ResourceKind::Pool => Kind::Pool,
        v1::ResourceKind::Backend => Kind::Backend,
        v1::ResourceKind::Route => Kind::Route,
        v1::ResourceKind::Certificate | v1::ResourceKind::Unspecified => {
            return Err(Problem::new("key.kind", format!("kind {} is not known to this node", key.kind)));
        }
    };
    Ok(Key { kind, name: key.name.clone() })
}

/// Checks it again, warms it, and has every worker use it.
async fn activate(state: &Arc<State>, next: Result<Next, Problems>) -> Result<ContentHash, Problems> {
    let Next { revision, resources, hash } = next?;
    let config = from_resources(&resources)?;
    let snapshot = weir_snapshot::check(&config)?;
    let active = state.fleet.build(Arc::new(snapshot));
    resolve::warm(&active).await;
    state.workers.activate(active).await;
    *state.active.lock().unwrap_or_else(PoisonError::into_inner) =
        Some(Running { revision, resources, hash });
    state.revision.store(revision, Relaxed);
    tracing::info!(revision, "revision active");
    Ok(hash)
}

/// The fleet's key. When it is another than was used so far, what is active is built anew with it.
async fn take_key(state: &State, key: &[u8]) {
    let Ok(key) = key.try_into() else {
        tracing::error!(bytes = key.len(), "fleet key of a wrong length ignored");
        return;
    };
    if state.fleet.set_key(key)
        && let Some(active) = state.fleet.active()
    {
        state.workers.activate(state.fleet.build(Arc::clone(&active.snapshot))).await;
    }
}

fn take_health(state: &State, update: &v1::HealthUpdate) {
    let health = |told: &v1::BackendHealth| match told.health() {
        v1::Health::Up => Health::Up,
        v1::Health::Down => Health::Down,
        v1::Health::Unknown | v1::Health::Unspecified => Health::Unknown,
    };
    let found = update.backends.iter().map(|told| (told.backend_id.clone(), health(told))).collect();
    for backend in state.fleet.set_health(update.complete, found) {
        tracing::info!(backend = %backend.id, url = %backend.url, health = ?backend.health(), "backend health");
    }
}
