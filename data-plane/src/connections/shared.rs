//! A worker's HTTP/2 connections to one backend, each of which carries many requests.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    task::Waker,
    time::Duration,
};

use bytes::Bytes;
use h2::client::SendRequest;

use super::frames::PeerNotices;
use crate::{failure::Failure, wire::timer::Timers};

/// Most requests of this side on one connection, whatever the backend allows.
const MAX_STREAMS: usize = 250;

/// How long requests wait for the SETTINGS of a new connection, which limit the number of streams. Its first request
/// does not wait.
pub(crate) const SETTLE: Duration = Duration::from_millis(250);

/// One worker's connections to one HTTP/2 backend.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) connections: RefCell<Vec<Rc<Connection>>>,
    /// A connection is being opened: other requests wait for it and open none.
    pub(crate) opening: Cell<bool>,
    pub(crate) waiting: RefCell<Vec<Waker>>,
}

pub(crate) struct Connection {
    pub(crate) sender: SendRequest<Bytes>,
    pub(crate) address: SocketAddr,
    /// Largest response head that this side announced when it opened the connection, in bytes.
    pub(crate) max_head: u32,
    /// In the worker's milliseconds.
    pub(crate) opened: u64,
    pub(crate) streams: Cell<usize>,
    /// When its last stream ended, in the worker's milliseconds.
    pub(crate) since: Cell<u64>,
    pub(crate) state: Rc<ConnectionState>,
}

/// State that the connection's own task reports.
#[derive(Default)]
pub(crate) struct ConnectionState {
    /// Whether the connection has ended, or takes no more requests.
    pub(crate) closed: Cell<bool>,
    pub(crate) notices: Rc<PeerNotices>,
}

impl ConnectionState {
    /// Whether the connection takes new requests. After a GOAWAY it only finishes those in flight (RFC 9113 section
    /// 6.8).
    pub(crate) fn is_open(&self) -> bool {
        !self.closed.get() && self.notices.go_away().is_none()
    }

    /// Marks a connection that rejected a request as closed. If even its SETTINGS have not arrived, the connection
    /// attempt has failed.
    pub(crate) fn retire(&self) -> Failure {
        self.closed.set(true);
        if self.notices.is_settled() {
            return Failure::NotBegun;
        }
        Failure::Connect(std::io::Error::new(
            std::io::ErrorKind::ConnectionAborted,
            "the connection was closed before the backend's SETTINGS came",
        ))
    }
}

impl Connection {
    /// Whether the backend has not announced yet how many streams it allows. Servers refuse excess streams, some
    /// (gRPC's) with ENHANCE_YOUR_CALM, after which a request may not be sent again.
    pub(crate) fn is_unsettled(&self, now: u64) -> bool {
        let waited = Duration::from_millis(now.saturating_sub(self.opened));
        self.state.is_open() && !self.state.notices.is_settled() && waited < SETTLE
    }

    fn has_room(&self, now: u64) -> bool {
        let most = self.sender.current_max_send_streams().min(MAX_STREAMS);
        let most = if self.is_unsettled(now) { 1 } else { most };
        self.streams.get() < most
    }

    /// Whether the connection takes new requests. Response heads larger than announced need a new connection.
    pub(crate) fn is_usable(&self, max_head: u32) -> bool {
        self.state.is_open() && self.max_head >= max_head
    }
}

impl Shared {
    /// Closes connections unused since before `oldest`, and removes those that take no more requests: their running
    /// requests keep them.
    pub(crate) fn close_older_than(&self, oldest: u64) {
        self.connections.borrow_mut().retain(|connection| {
            connection.state.is_open() && (connection.streams.get() > 0 || connection.since.get() >= oldest)
        });
    }

    /// Whether a connection will announce its number of streams soon.
    pub(crate) fn is_settling(&self, now: u64) -> bool {
        self.connections.borrow().iter().any(|connection| connection.is_unsettled(now))
    }

    pub(crate) fn wake(&self) {
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }

    /// The least busy connection that has room.
    pub(crate) fn with_room(
        &self,
        now: u64,
        max_head: u32,
        is_current: impl Fn(SocketAddr) -> bool,
    ) -> Option<Rc<Connection>> {
        let connections = self.connections.borrow();
        let usable = connections.iter().filter(|connection| {
            connection.is_usable(max_head) && connection.has_room(now) && is_current(connection.address)
        });
        usable.min_by_key(|connection| connection.streams.get()).cloned()
    }
}

/// One request's slot on a connection.
pub(crate) struct StreamSlot {
    pub(crate) connection: Rc<Connection>,
    pub(crate) connections: Rc<super::Connections>,
    pub(crate) timers: Rc<Timers>,
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.connection.streams.set(self.connection.streams.get() - 1);
        self.connection.since.set(self.timers.now());
        self.connections.shared.wake();
    }
}

/// Marks the opening of a connection as over when it is dropped.
pub(crate) struct Opening<'a>(pub(crate) &'a Shared);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.opening.set(false);
        self.0.wake();
    }
}
