//! One worker's connections to one backend between requests.

use std::{cell::RefCell, net::SocketAddr};

use super::http2::Shared;
use crate::stream::Stream;

/// The most unused connections that a worker keeps to one backend.
const KEEP: usize = 512;

/// All that a worker has open to a backend and that no request owns.
#[derive(Default)]
pub(crate) struct Connections {
    pub(crate) idle: Idle,
    pub(crate) shared: Shared,
}

/// Unused HTTP/1 connections. The last one used is taken first, so that a quiet backend's connections grow old and
/// are closed.
#[derive(Default)]
pub(crate) struct Idle {
    connections: RefCell<Vec<Connection>>,
}

/// A connection to a backend that carries no request.
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    pub(crate) address: SocketAddr,
    /// When it was last used, in the worker's milliseconds.
    since: u64,
}

impl Idle {
    /// An open connection to an address that the backend still has, if there is one. Broken ones are thrown away on
    /// the way.
    pub(crate) fn take(&self, is_current: impl Fn(SocketAddr) -> bool) -> Option<Connection> {
        let mut connections = self.connections.borrow_mut();
        while let Some(connection) = connections.pop() {
            if connection.stream.is_quiet() && is_current(connection.address) {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose last answer was complete.
    pub(crate) fn put(&self, stream: Stream, address: SocketAddr, now: u64) {
        let mut connections = self.connections.borrow_mut();
        if connections.len() < KEEP {
            connections.push(Connection { stream, address, since: now });
        }
    }

    /// Closes those unused since before `oldest`.
    pub(crate) fn close_older_than(&self, oldest: u64) {
        // In the order of use: the oldest stand first.
        let mut connections = self.connections.borrow_mut();
        let old = connections.iter().take_while(|connection| connection.since < oldest).count();
        connections.drain(..old);
    }
}
