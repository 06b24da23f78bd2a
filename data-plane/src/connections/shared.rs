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

/// The most requests that this side puts on one connection, whatever the backend allows.
const MAX_STREAMS: usize = 250;

/// How long requests wait for the SETTINGS of a new connection, which say how many it takes. Its first request does not
/// wait.
pub(crate) const SETTLE: Duration = Duration::from_millis(250);

/// One worker's connections to one HTTP/2 backend.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) connections: RefCell<Vec<Rc<Connection>>>,
    /// A connection is being opened: others wait for it rather than open one each.
    pub(crate) opening: Cell<bool>,
    pub(crate) waiting: RefCell<Vec<Waker>>,
}

pub(crate) struct Connection {
    pub(crate) sender: SendRequest<Bytes>,
    pub(crate) address: SocketAddr,
    /// What it accepts of an answer's head, which was announced when it was opened.
    pub(crate) max_head: u32,
    /// In the worker's milliseconds.
    pub(crate) opened: u64,
    pub(crate) streams: Cell<usize>,
    /// When its last stream ended, in the worker's milliseconds.
    pub(crate) since: Cell<u64>,
    pub(crate) state: Rc<ConnectionState>,
}

/// What a connection's own task says of it.
#[derive(Default)]
pub(crate) struct ConnectionState {
    /// It has ended, or takes no more requests.
    pub(crate) closed: Cell<bool>,
    pub(crate) notices: Rc<PeerNotices>,
}

impl ConnectionState {
    /// Whether it may take new requests. After a GOAWAY it only finishes what runs on it (RFC 9113, 6.8).
    pub(crate) fn is_open(&self) -> bool {
        !self.closed.get() && self.notices.go_away().is_none()
    }

    /// It took no request when it was given one, and gets no other. A backend that has not even sent its SETTINGS was
    /// never there.
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
    /// Whether the backend has not said yet how many requests it takes. Servers refuse what is too much for them, some
    /// with ENHANCE_YOUR_CALM (gRPC's), after which a request may not be sent again.
    pub(crate) fn is_unsettled(&self, now: u64) -> bool {
        let waited = Duration::from_millis(now.saturating_sub(self.opened));
        self.state.is_open() && !self.state.notices.is_settled() && waited < SETTLE
    }

    fn has_room(&self, now: u64) -> bool {
        let most = self.sender.current_max_send_streams().min(MAX_STREAMS);
        let most = if self.is_unsettled(now) { 1 } else { most };
        self.streams.get() < most
    }

    /// Whether it may take new requests. Larger heads than it was opened for need a new connection.
    pub(crate) fn is_usable(&self, max_head: u32) -> bool {
        self.state.is_open() && self.max_head >= max_head
    }
}

impl Shared {
    /// Closes those unused since before `oldest`, and forgets those that take no more requests: the requests that
    /// still run on one keep it.
    pub(crate) fn close_older_than(&self, oldest: u64) {
        self.connections.borrow_mut().retain(|connection| {
            connection.state.is_open() && (connection.streams.get() > 0 || connection.since.get() >= oldest)
        });
    }

    /// A connection says soon whether it has room.
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

/// A place on a connection, for one request.
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

/// Says that nobody opens a connection any more, however the opening ended.
pub(crate) struct Opening<'a>(pub(crate) &'a Shared);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.opening.set(false);
        self.0.wake();
    }
}
