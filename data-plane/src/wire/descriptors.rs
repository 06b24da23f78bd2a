//! Divides the process's file descriptors between clients, backends and the status port.
//!
//! A process that has used up its descriptors can open no connection to a backend, takes healthy backends for dead, and
//! does not answer on its status port. So a part of the limit is set aside for the process itself (control stream, name
//! lookups, files), a part for the status port, and clients and backends get half of the rest each: a client that sends
//! a request needs a connection to a backend, too. All of this holds for the whole process, as the limit does.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::cache_padded::CachePadded;

/// Limit to assume if none is set, or if it is higher than a node can use.
const PLENTY: usize = 1 << 24;

static CLIENTS: Share = Share::new();
static BACKENDS: Share = Share::new();

/// Connections of one kind.
struct Share {
    open: CachePadded<AtomicUsize>,
    most: AtomicUsize,
}

impl Share {
    const fn new() -> Self {
        Self { open: CachePadded(AtomicUsize::new(0)), most: AtomicUsize::new(usize::MAX) }
    }

    fn enter(&self) -> bool {
        let fits = self.open.0.fetch_add(1, Relaxed) < self.most.load(Relaxed);
        if !fits {
            self.leave();
        }
        fits
    }

    fn leave(&self) {
        self.open.0.fetch_sub(1, Relaxed);
    }
}

/// A client connection's descriptor.
#[derive(Debug)]
pub(crate) struct ClientDescriptor(());

/// A descriptor of a connection to a backend.
#[derive(Debug)]
pub(crate) struct BackendDescriptor(());

impl Drop for ClientDescriptor {
    fn drop(&mut self) {
        CLIENTS.leave();
    }
}

impl Drop for BackendDescriptor {
    fn drop(&mut self) {
        BACKENDS.leave();
    }
}

/// Room for a client connection; `None` where clients have as many as they may have.
pub(crate) fn client() -> Option<ClientDescriptor> {
    CLIENTS.enter().then(|| ClientDescriptor(()))
}

/// Room for a connection to a backend; `None` where there are as many as there may be.
pub(crate) fn backend() -> Option<BackendDescriptor> {
    BACKENDS.enter().then(|| BackendDescriptor(()))
}

/// Whether clients have as many connections as they may have.
pub(crate) fn is_full_of_clients() -> bool {
    CLIENTS.open.0.load(Relaxed) >= CLIENTS.most.load(Relaxed)
}

/// The most client connections at once.
pub(crate) fn max_clients() -> u64 {
    CLIENTS.most.load(Relaxed) as u64
}

/// The error of a process that has no descriptors left.
pub(crate) fn exhausted() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error())
}

/// The limits of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DescriptorLimits {
    clients: usize,
    backends: usize,
    /// Connections to the status port.
    pub(crate) status: usize,
}

impl DescriptorLimits {
    /// Of a limit, of which the process has `used` some already.
    fn of(limit: usize, used: usize) -> Self {
        let reserve = (limit / 8).clamp(16, 256);
        let status = (limit / 16).clamp(4, 256);
        let left = limit.saturating_sub(used + reserve + status).max(4);
        Self { clients: left / 2, backends: left - left / 2, status }
    }
}

/// Raises the process's limit as far as it may be raised, and shares it out. `workers` still open some for themselves.
pub(crate) fn divide(workers: usize) -> DescriptorLimits {
    let limit = raised_limit();
    // A poller, a waker, and a second handle of each listening socket.
    let used = in_use() + 5 * workers;
    let division = DescriptorLimits::of(limit, used);
    let DescriptorLimits { clients, backends, status } = division;
    CLIENTS.most.store(clients, Relaxed);
    BACKENDS.most.store(backends, Relaxed);
    tracing::info!(limit, clients, backends, status, "file descriptors divided");
    if clients < 64 {
        tracing::warn!(limit, clients, "few client connections fit into the limit of open files (ulimit -n)");
    }
    division
}

fn raised_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    // Some systems refuse what they call the maximum: then what is in force stays.
    let limit =
        if current != maximum && setrlimit(Resource::Nofile, raised).is_ok() { maximum } else { current };
    limit.map_or(PLENTY, |limit| usize::try_from(limit).unwrap_or(PLENTY).min(PLENTY))
}

/// Descriptors that are open now.
fn in_use() -> usize {
    const USUAL: usize = 24;
    std::fs::read_dir("/dev/fd").map_or(USUAL, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_leaves_room_for_the_process_and_its_backends() {
        for (limit, used) in [(64, 24), (200, 24), (256, 30), (1024, 40), (65_536, 100), (1 << 20, 200)] {
            let DescriptorLimits { clients, backends, status } = DescriptorLimits::of(limit, used);
            assert!(clients + backends + status + used + 16 <= limit, "{limit}");
            assert!(clients >= 4 && backends >= clients && status >= 4, "{limit}: {clients} {backends}");
        }
        assert_eq!(DescriptorLimits::of(200, 24), DescriptorLimits { clients: 69, backends: 70, status: 12 });
        // Too few for anything: it is tried all the same.
        assert_eq!(DescriptorLimits::of(32, 30).clients, 2);
    }
}
