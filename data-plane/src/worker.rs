//! The state of one worker thread: its configuration, timers, buffers, connections to backends and counters. Workers share
//! nothing but what [`Active`] holds.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::IpAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::HeaderValue;
use tokio::sync::watch;
use weir_http::{RequestHead, ResponseHead};

use crate::{
    client_limits::{ClientConnections, ClientRequests, CountedConnection},
    connections::Connections,
    fleet::Active,
    pool::backend::Member,
    stats::{Cut, Recorder},
    wire::{
        buffer::{Buffers, FreeList},
        descriptors::{self, ClientDescriptor},
        timer::Timers,
    },
};

/// Interval in which workers hand over their counts, all at the same wall-clock time, so that one batch has them all.
/// Together with the reporter's delay, a killed node loses less than a second of counts.
const FLUSH_MS: u128 = 700;

/// A client connection may wait this long for a request, even if others wait to be accepted.
const MAY_WAIT: Duration = Duration::from_millis(500);

/// State of one worker thread.
pub(crate) struct Worker {
    view: RefCell<Option<Rc<View>>>,
    pub(crate) recorder: Recorder,
    pub(crate) timers: Rc<Timers>,
    pub(crate) buffers: Rc<Buffers>,
    /// Memory of uploads.
    pub(crate) uploads: FreeList<Vec<u8>>,
    /// Memory of response heads.
    pub(crate) heads: FreeList<ResponseHead>,
    /// Memory of request heads.
    pub(crate) requests: FreeList<RequestHead>,
    date: RefCell<DateCache>,
    /// Time of the last handover, in units of [`FLUSH_MS`].
    flushed: Cell<u128>,
    pub(crate) counters: Arc<WorkerCounters>,
    pub(crate) draining: Cell<bool>,
    /// Tells the accepting tasks that the worker drains.
    pub(crate) drain: watch::Sender<bool>,
    /// Open client connections of this worker.
    pub(crate) connections: Cell<usize>,
    /// Connections per client address, of all workers.
    client_connections: Arc<ClientConnections>,
    /// Requests in flight per client address.
    pub(crate) client_requests: ClientRequests,
}

/// The active configuration with this worker's connections to the backends.
pub(crate) struct View {
    pub(crate) active: Arc<Active>,
    /// By pool and member.
    pub(crate) connections: Vec<Vec<Rc<Connections>>>,
}

/// Counters of one worker, which only it writes.
#[derive(Default)]
pub(crate) struct WorkerCounters {
    pub(crate) connections: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) failed_handshakes: AtomicU64,
    pub(crate) handshakes: AtomicU64,
    pub(crate) resumed: AtomicU64,
    /// Responses that were cut, by [`Cut::ALL`].
    pub(crate) cut: [AtomicU64; 3],
    pub(crate) streams: AtomicU64,
    pub(crate) closed_for_room: AtomicU64,
}

impl WorkerCounters {
    /// Counts a completed TLS handshake with a client.
    pub(crate) fn handshake(&self, is_resumed: bool) {
        self.handshakes.fetch_add(1, Relaxed);
        if is_resumed {
            self.resumed.fetch_add(1, Relaxed);
        }
    }

    /// Counts a failed TLS handshake with a client.
    pub(crate) fn failed_handshake(&self) {
        self.failed_handshakes.fetch_add(1, Relaxed);
    }
}

/// The value of the `Date` field, updated each second (RFC 9110, 6.6.1).
struct DateCache {
    second: u64,
    text: Rc<str>,
    value: Option<HeaderValue>,
}

impl Worker {
    /// A worker without a configuration.
    pub(crate) fn new(
        counters: Arc<WorkerCounters>,
        client_connections: Arc<ClientConnections>,
        client_requests: ClientRequests,
        recorder: Recorder,
    ) -> Rc<Self> {
        let worker = Rc::new(Self {
            view: RefCell::new(None),
            recorder,
            timers: Timers::new(),
            buffers: Rc::default(),
            uploads: FreeList::default(),
            heads: FreeList::default(),
            requests: FreeList::default(),
            date: RefCell::new(DateCache { second: 0, text: Rc::from(""), value: None }),
            flushed: Cell::new(0),
            counters,
            draining: Cell::new(false),
            drain: watch::Sender::new(false),
            connections: Cell::new(0),
            client_connections,
            client_requests,
        });
        worker.update_date();
        worker
    }

    /// The active configuration; `None` before the first snapshot.
    pub(crate) fn view(&self) -> Option<Rc<View>> {
        self.view.borrow().clone()
    }

    /// Counts a connection until the guard is dropped. Returns `None` if its address has `limit` of them already (0: no
    /// limit), or if clients have used up their descriptors.
    pub(crate) fn connection(self: &Rc<Self>, address: IpAddr, limit: u32) -> Option<OpenConnection> {
        let descriptor = descriptors::client()?;
        let entered = if limit > 0 { Some(self.client_connections.enter(address, limit)?) } else { None };
        self.connections.set(self.connections.get() + 1);
        self.counters.connections.fetch_add(1, Relaxed);
        Some(OpenConnection { worker: Rc::clone(self), _entered: entered, _descriptor: descriptor })
    }

    /// Closes the client connections that have waited longest for a request. Returns whether there were any.
    pub(crate) fn make_room(&self) -> bool {
        let some = (self.connections.get() / 16).max(1);
        let closed = self.timers.expire_longest_idle(some, MAY_WAIT);
        self.counters.closed_for_room.fetch_add(closed, Relaxed);
        closed > 0
    }

    /// Closes the connections to backends that carry no request.
    pub(crate) fn close_idle(&self) {
        let Some(view) = self.view() else { return };
        view.connections.iter().flatten().for_each(|connections| connections.idle.close());
    }

    /// The current value of the `Date` field.
    pub(crate) fn date(&self) -> Rc<str> {
        Rc::clone(&self.date.borrow().text)
    }

    /// The current value of the `Date` field, for HTTP/2.
    pub(crate) fn date_value(&self) -> Option<HeaderValue> {
        self.date.borrow().value.clone()
    }

    /// Counts a completed request.
    pub(crate) fn count_request(&self) {
        // Only this worker writes, so a plain load and store would do; the addition is as cheap.
        self.counters.requests.fetch_add(1, Relaxed);
    }

    /// Counts a response that was cut.
    #[cold]
    pub(crate) fn count_cut(&self, cut: Cut) {
        if let Some(count) = self.counters.cut.get(cut as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Counts a tunnel or a stream.
    #[cold]
    pub(crate) fn count_stream(&self) {
        self.counters.streams.fetch_add(1, Relaxed);
    }

    pub(crate) fn activate(&self, active: Arc<Active>) {
        let before = self.view();
        // Connections made with other TLS settings are not reused.
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
    pub(crate) fn close_stale(&self) {
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

    pub(crate) fn update_date(&self) {
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
    _entered: Option<CountedConnection>,
    _descriptor: ClientDescriptor,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.worker.connections.set(self.worker.connections.get() - 1);
        self.worker.counters.connections.fetch_sub(1, Relaxed);
    }
}
