//! Worker threads: each has its own runtime, its own listening socket, its own idle upstream connections and its
//! own counters. Nothing here is shared with another worker but what [`Active`] holds.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::HeaderValue;
use tokio::sync::{mpsc, oneshot, watch};
use weir_http::{RequestHead, ResponseHead};

use crate::{
    backend::{Active, Member},
    buffer::{Buffers, Spare},
    descriptors::{self, ClientDescriptor},
    listener::{self, Addresses, ClientRequests, Door, Entered, NodeRequests, StreamTasks},
    stats::{Cut, Recorder},
    timer::{GRAIN, Timers},
    tls::Certificates,
    upstream::Connections,
};

/// How often a worker hands its counts over: all of them at the same time, by the clock on the wall, so that they go with
/// one batch. With the moment that the reporter gathers them for, a node that is killed loses less than a second.
const FLUSH_MS: u128 = 700;

/// A client connection may wait this long for a request, however many others wait to be accepted.
const MAY_WAIT: Duration = Duration::from_millis(500);

/// How long a worker may take to end once nothing runs.
const STOP: Duration = Duration::from_secs(2);

/// What one worker has.
pub(crate) struct Worker {
    view: RefCell<Option<Rc<View>>>,
    pub(crate) recorder: Recorder,
    pub(crate) timers: Rc<Timers>,
    pub(crate) buffers: Rc<Buffers>,
    /// What goes up, until it has gone.
    pub(crate) uploads: Spare<Vec<u8>>,
    /// Heads of answers.
    pub(crate) heads: Spare<ResponseHead>,
    /// Heads of requests.
    pub(crate) requests: Spare<RequestHead>,
    /// Tasks for HTTP/2's streams.
    pub(crate) stream_tasks: StreamTasks,
    date: RefCell<DateCache>,
    /// When counts were handed over last, in units of [`FLUSH_MS`].
    flushed: Cell<u128>,
    pub(crate) load: Arc<Load>,
    pub(crate) draining: Cell<bool>,
    /// Tells the accepting tasks that the worker drains.
    pub(crate) drain: watch::Sender<bool>,
    /// Open client connections of this worker.
    pub(crate) connections: Cell<usize>,
    /// Connections per client address, of all workers.
    addresses: Arc<Addresses>,
    /// Requests in flight per client address.
    pub(crate) client_requests: ClientRequests,
}

/// The active configuration with this worker's connections to the backends.
pub(crate) struct View {
    pub(crate) active: Arc<Active>,
    /// By pool and member.
    pub(crate) connections: Vec<Vec<Rc<Connections>>>,
}

/// What a worker tells the rest of the node, written by it alone.
#[derive(Default)]
pub(crate) struct Load {
    connections: AtomicU64,
    requests: AtomicU64,
    failed_handshakes: AtomicU64,
    handshakes: AtomicU64,
    resumed: AtomicU64,
    /// Answers that were cut, by [`Cut::ALL`].
    cut: [AtomicU64; 3],
    streams: AtomicU64,
    closed_for_room: AtomicU64,
}

impl Load {
    /// Counts a client that got through its TLS handshake.
    pub(crate) fn handshake(&self, is_resumed: bool) {
        self.handshakes.fetch_add(1, Relaxed);
        if is_resumed {
            self.resumed.fetch_add(1, Relaxed);
        }
    }

    /// Counts a client that did not get through its TLS handshake.
    pub(crate) fn failed_handshake(&self) {
        self.failed_handshakes.fetch_add(1, Relaxed);
    }
}

/// The value of a `Date` field, made anew each second (RFC 9110, 6.6.1).
struct DateCache {
    second: u64,
    text: Rc<str>,
    value: Option<HeaderValue>,
}

impl Worker {
    /// The configuration in use; `None` before the first snapshot.
    pub(crate) fn view(&self) -> Option<Rc<View>> {
        self.view.borrow().clone()
    }

    /// Counts a connection until the guard is dropped; `None` when its address has `limit` of them already (0: any
    /// number), or when clients have as many as they may have.
    pub(crate) fn connection(self: &Rc<Self>, address: IpAddr, limit: u32) -> Option<OpenConnection> {
        let descriptor = descriptors::client()?;
        let entered = if limit > 0 { Some(self.addresses.enter(address, limit)?) } else { None };
        self.connections.set(self.connections.get() + 1);
        self.load.connections.fetch_add(1, Relaxed);
        Some(OpenConnection { worker: Rc::clone(self), _entered: entered, _descriptor: descriptor })
    }

    /// Closes the client connections that have waited longest for a request; whether there were any.
    pub(crate) fn make_room(&self) -> bool {
        let some = (self.connections.get() / 16).max(1);
        let closed = self.timers.expire_longest_idle(some, MAY_WAIT);
        self.load.closed_for_room.fetch_add(closed, Relaxed);
        closed > 0
    }

    /// Closes the connections to backends that carry no request.
    pub(crate) fn close_idle(&self) {
        let Some(view) = self.view() else { return };
        view.connections.iter().flatten().for_each(|connections| connections.idle.close());
    }

    /// The value of a `Date` field now.
    pub(crate) fn date(&self) -> Rc<str> {
        Rc::clone(&self.date.borrow().text)
    }

    /// The same for HTTP/2.
    pub(crate) fn date_value(&self) -> Option<HeaderValue> {
        self.date.borrow().value.clone()
    }

    /// Counts an answered request.
    pub(crate) fn count_request(&self) {
        // Only this worker writes, so a plain load and store would do; the addition is as cheap.
        self.load.requests.fetch_add(1, Relaxed);
    }

    /// Counts an answer that was cut.
    #[cold]
    pub(crate) fn count_cut(&self, cut: Cut) {
        if let Some(count) = self.load.cut.get(cut as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Counts a tunnel or a stream.
    #[cold]
    pub(crate) fn count_stream(&self) {
        self.load.streams.fetch_add(1, Relaxed);
    }

    fn activate(&self, active: Arc<Active>) {
        let before = self.view();
        // Connections that were made with another `tls` are not used again.
        let key = |member: &Member| {
            let secured = member.secured.as_ref().map(|secured| Arc::as_ptr(&secured.config));
            (Arc::as_ptr(&member.state), secured)
        };
        let mut kept: HashMap<_, Rc<Connections>> = HashMap::new();
        if let Some(before) = &before {
            for (pool, connections) in before.active.pools.iter().zip(&before.connections) {
                for (member, connections) in pool.members.iter().zip(connections) {
                    kept.insert(key(member), Rc::clone(connections));
                }
            }
        }
        let keep = |member: &Member| kept.get(&key(member)).cloned().unwrap_or_default();
        let connections = active.pools.iter().map(|pool| pool.members.iter().map(keep).collect()).collect();
        self.view.replace(Some(Rc::new(View { active, connections })));
    }

    /// Closes upstream connections that were unused for too long.
    fn close_stale(&self) {
        let Some(view) = self.view() else { return };
        for (pool, members) in view.active.pools.iter().zip(&view.connections) {
            let limit = u64::try_from(pool.timeouts.idle.as_millis()).unwrap_or(u64::MAX);
            let now = self.timers.now();
            let oldest = now.saturating_sub(limit);
            for connections in members {
                connections.idle.close_stale(oldest, now);
                connections.shared.close_older_than(oldest);
            }
        }
    }

    fn update_date(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let turn = now.as_millis() / FLUSH_MS;
        if self.flushed.replace(turn) != turn {
            self.recorder.flush();
        }
        let now = now.as_secs();
        self.recorder.set_minute(now / 60);
        let mut date = self.date.borrow_mut();
        if date.second != now {
            date.second = now;
            date.text = httpdate::fmt_http_date(SystemTime::now()).into();
            date.value = HeaderValue::from_str(&date.text).ok();
        }
    }
}

/// One open client connection.
pub(crate) struct OpenConnection {
    worker: Rc<Worker>,
    _entered: Option<Entered>,
    _descriptor: ClientDescriptor,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.worker.connections.set(self.worker.connections.get() - 1);
        self.worker.load.connections.fetch_sub(1, Relaxed);
    }
}

/// What the control thread asks of a worker.
enum Order {
    Activate(Arc<Active>, oneshot::Sender<()>),
    Drain(oneshot::Sender<()>),
    Stop,
}

struct Handle {
    orders: mpsc::UnboundedSender<Order>,
    load: Arc<Load>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Handle {
    fn take_thread(&self) -> Option<thread::JoinHandle<()>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// All workers of the node, as the control thread sees them.
pub(crate) struct Workers {
    handles: Vec<Handle>,
    /// The address that they accept on in the clear.
    pub(crate) http: SocketAddr,
    /// The address that they accept TLS on.
    pub(crate) https: Option<SocketAddr>,
    certificates: Option<Arc<Certificates>>,
    requests: Arc<NodeRequests>,
}

/// Where TLS is accepted, and with what.
#[derive(Clone)]
pub(crate) struct Https {
    pub(crate) address: SocketAddr,
    pub(crate) config: Arc<rustls::ServerConfig>,
    /// What the configuration chooses from.
    pub(crate) certificates: Arc<Certificates>,
}

impl Workers {
    /// Starts `count` workers that accept on `http` and `https` (port 0: one free port for all of them).
    ///
    /// # Errors
    /// An address cannot be bound, or a thread cannot be started.
    pub(crate) fn start(
        count: usize,
        mut http: SocketAddr,
        mut https: Option<Https>,
        recorder: impl Fn() -> Recorder + Send + Clone + 'static,
    ) -> io::Result<Self> {
        let mut handles = Vec::with_capacity(count);
        let addresses = Arc::new(Addresses::default());
        let requests = NodeRequests::new(count);
        listener::ensure_free(http)?;
        for i in 0..count {
            let mut doors = vec![Door { socket: listener::bind(http)?, tls: None }];
            http = doors[0].socket.local_addr()?;
            if let Some(https) = &mut https {
                if i == 0 {
                    // By now also not by the one above.
                    listener::ensure_free(https.address)?;
                }
                let socket = listener::bind(https.address)?;
                https.address = socket.local_addr()?;
                doors.push(Door { socket, tls: Some(Arc::clone(&https.config)) });
            }
            let (orders, inbox) = mpsc::unbounded_channel();
            let load = Arc::new(Load::default());
            let worker_load = Arc::clone(&load);
            let (recorder, addresses) = (recorder.clone(), Arc::clone(&addresses));
            let client_requests = ClientRequests::new(&requests, i);
            let run = move || {
                if let Err(error) = run(doors, inbox, worker_load, addresses, client_requests, recorder()) {
                    tracing::error!(worker = i, %error, "worker ended");
                }
            };
            let thread = thread::Builder::new().name(format!("worker-{i}")).spawn(run)?;
            handles.push(Handle { orders, load, thread: Mutex::new(Some(thread)) });
        }
        let certificates = https.as_ref().map(|https| Arc::clone(&https.certificates));
        Ok(Self { handles, http, https: https.map(|https| https.address), certificates, requests })
    }

    /// Makes every worker use the configuration, and returns when all of them do.
    pub(crate) async fn activate(&self, active: Arc<Active>) {
        // First: a client that comes for a new host is to be shown its certificate.
        if let Some(certificates) = &self.certificates {
            certificates.set(&active.certificates);
        }
        let mut done = Vec::with_capacity(self.handles.len());
        for handle in &self.handles {
            let (tell, told) = oneshot::channel();
            if handle.orders.send(Order::Activate(Arc::clone(&active), tell)).is_ok() {
                done.push(told);
            }
        }
        for told in done {
            // A worker that ended has nothing to activate.
            let _ = told.await;
        }
    }

    /// Requests refused because their client address had too many in flight.
    pub(crate) fn refused_per_client(&self) -> u64 {
        self.requests.refused()
    }

    /// Idle client connections closed to make room for others.
    pub(crate) fn closed_for_room(&self) -> u64 {
        self.handles.iter().map(|handle| handle.load.closed_for_room.load(Relaxed)).sum()
    }

    /// Open client connections.
    pub(crate) fn connections(&self) -> u64 {
        self.handles.iter().map(|handle| handle.load.connections.load(Relaxed)).sum()
    }

    /// Requests answered since the start.
    pub(crate) fn requests(&self) -> u64 {
        self.handles.iter().map(|handle| handle.load.requests.load(Relaxed)).sum()
    }

    /// Answers that were cut before their end, by [`Cut::ALL`].
    pub(crate) fn cut(&self, cut: Cut) -> u64 {
        let of = |handle: &Handle| handle.load.cut.get(cut as usize).map_or(0, |count| count.load(Relaxed));
        self.handles.iter().map(of).sum()
    }

    /// Tunnels and streams that have ended since the start.
    pub(crate) fn streams(&self) -> u64 {
        self.handles.iter().map(|handle| handle.load.streams.load(Relaxed)).sum()
    }

    /// Clients that did not get through their TLS handshake.
    pub(crate) fn failed_handshakes(&self) -> u64 {
        self.handles.iter().map(|handle| handle.load.failed_handshakes.load(Relaxed)).sum()
    }

    /// Clients that got through their TLS handshake, and how many of them went on with an earlier session.
    pub(crate) fn handshakes(&self) -> (u64, u64) {
        let sum = |which: fn(&Load) -> &AtomicU64| {
            self.handles.iter().map(|handle| which(&handle.load).load(Relaxed)).sum()
        };
        (sum(|load| &load.handshakes), sum(|load| &load.resumed))
    }

    /// Clients for which there was no certificate.
    pub(crate) fn without_certificate(&self) -> u64 {
        self.certificates.as_ref().map_or(0, |certificates| certificates.missing())
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.handles.len()
    }

    /// Stops accepting, lets running requests finish within the deadline, then ends the threads. Their last counts
    /// have been handed over when this returns.
    pub(crate) async fn drain(&self, within: Duration) {
        let mut done = Vec::with_capacity(self.handles.len());
        for handle in &self.handles {
            let (tell, told) = oneshot::channel();
            if handle.orders.send(Order::Drain(tell)).is_ok() {
                done.push(told);
            }
        }
        let all = async {
            for told in done {
                let _ = told.await;
            }
        };
        if tokio::time::timeout(within, all).await.is_err() {
            tracing::warn!(connections = self.connections(), "drain deadline passed, connections are cut");
        }
        // Their ends hand over what was counted last, also of what was cut.
        for handle in &self.handles {
            // A worker that has ended takes no orders.
            let _ = handle.orders.send(Order::Stop);
        }
        let threads: Vec<_> = self.handles.iter().filter_map(Handle::take_thread).collect();
        let join =
            tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
        if tokio::time::timeout(STOP, join).await.is_err() {
            tracing::warn!("a worker did not end in time");
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for handle in &mut self.handles {
            // Without its sender a worker's inbox ends, and with it the worker.
            handle.orders = mpsc::unbounded_channel().0;
        }
        for thread in self.handles.iter().filter_map(Handle::take_thread) {
            // A worker that panicked has said so on its own.
            let _ = thread.join();
        }
    }
}

fn run(
    doors: Vec<Door>,
    mut inbox: mpsc::UnboundedReceiver<Order>,
    load: Arc<Load>,
    addresses: Arc<Addresses>,
    client_requests: ClientRequests,
    recorder: Recorder,
) -> io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    runtime.block_on(async move {
        let worker = Rc::new(Worker {
            view: RefCell::new(None),
            recorder,
            timers: Timers::new(),
            buffers: Rc::default(),
            uploads: Spare::default(),
            heads: Spare::default(),
            requests: Spare::default(),
            stream_tasks: StreamTasks::default(),
            date: RefCell::new(DateCache { second: 0, text: Rc::from(""), value: None }),
            flushed: Cell::new(0),
            load,
            draining: Cell::new(false),
            drain: watch::Sender::new(false),
            connections: Cell::new(0),
            addresses,
            client_requests,
        });
        worker.update_date();
        let mut waiting = doors;
        let mut turning_away = tokio::task::JoinSet::new();
        for door in &waiting {
            let (socket, in_clear) = (door.socket.try_clone()?, door.tls.is_none());
            turning_away.spawn_local(listener::waiting::turn_away(socket, in_clear, Rc::clone(&worker)));
        }
        let mut drained: Option<oneshot::Sender<()>> = None;
        let mut sweeps = tokio::time::interval(GRAIN);
        sweeps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut count = 0u64;
        loop {
            tokio::select! {
                biased;
                order = inbox.recv() => match order {
                    Some(Order::Activate(active, done)) => {
                        worker.activate(active);
                        // The kernel queues connections from the start; they are taken once there is an answer for them.
                        turning_away.abort_all();
                        for door in waiting.drain(..) {
                            tokio::task::spawn_local(listener::accept(door, Rc::clone(&worker)));
                        }
                        let _ = done.send(());
                    }
                    Some(Order::Drain(done)) => {
                        turning_away.abort_all();
                        waiting.clear();
                        worker.draining.set(true);
                        worker.drain.send_replace(true);
                        drained = Some(done);
                    }
                    Some(Order::Stop) | None => break,
                },
                _ = sweeps.tick() => {
                    if worker.draining.get() {
                        worker.timers.expire_idle();
                    }
                    worker.timers.sweep();
                    worker.update_date();
                    count += 1;
                    if count.is_multiple_of(20) {
                        worker.close_stale();
                    }
                    if drained.is_some() && worker.connections.get() == 0 {
                        worker.recorder.flush();
                        if let Some(done) = drained.take() {
                            let _ = done.send(());
                        }
                    }
                }
            }
        }
        worker.recorder.flush();
        Ok(())
    })
}
