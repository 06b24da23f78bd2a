//! A worker's unused HTTP/1 connections to one backend.

use std::{cell::RefCell, net::SocketAddr, time::Duration};

use crate::wire::stream::Stream;

/// Most unused connections of a worker to one backend.
const KEEP: usize = 512;

/// How long before the backend closes an unused connection it is no longer used: a request that is sent while the
/// backend closes may be lost.
const MARGIN: Duration = Duration::from_secs(1);

/// Unused HTTP/1 connections. The last one used is taken first, so that surplus connections grow old and are closed.
#[derive(Default)]
pub(crate) struct Idle {
    connections: RefCell<Vec<Connection>>,
}

/// An unused connection to a backend.
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    pub(crate) address: SocketAddr,
    /// When it was last used, in the worker's milliseconds.
    since: u64,
    /// When the backend closes it (`Keep-Alive: timeout=N`), with a margin.
    until: u64,
}

/// How long an unused connection is used, if its backend keeps it open for `kept_for`.
fn usable_for(kept_for: Duration) -> Duration {
    kept_for.saturating_sub(MARGIN).max(kept_for / 2)
}

impl Idle {
    /// Takes an open connection to an address that the backend still has. Broken ones are dropped on the way.
    pub(crate) fn take(&self, now: u64, is_current: impl Fn(SocketAddr) -> bool) -> Option<Connection> {
        let mut connections = self.connections.borrow_mut();
        while let Some(connection) = connections.pop() {
            if now < connection.until && connection.stream.is_quiet() && is_current(connection.address) {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection after a complete response; `kept_for`: the backend closes it after this time.
    pub(crate) fn put(&self, stream: Stream, address: SocketAddr, now: u64, kept_for: Option<Duration>) {
        let millis = |kept_for| u64::try_from(usable_for(kept_for).as_millis()).unwrap_or(u64::MAX);
        let until = kept_for.map_or(u64::MAX, |kept_for| now.saturating_add(millis(kept_for)));
        let mut connections = self.connections.borrow_mut();
        if connections.len() < KEEP && now < until {
            connections.push(Connection { stream, address, since: now, until });
        }
    }

    /// Closes all of them.
    pub(crate) fn close(&self) {
        self.connections.borrow_mut().clear();
    }

    /// Closes connections unused since before `oldest`, and those that their backend is about to close.
    pub(crate) fn close_stale(&self, oldest: u64, now: u64) {
        self.connections
            .borrow_mut()
            .retain(|connection| connection.since >= oldest && now < connection.until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_left_before_its_backend_closes_it() {
        for (kept_for, used_for) in [(0, 0), (1_000, 500), (2_000, 1_000), (5_000, 4_000), (75_000, 74_000)] {
            assert_eq!(usable_for(Duration::from_millis(kept_for)), Duration::from_millis(used_for));
        }
    }
}
