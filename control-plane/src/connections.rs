//! Limits the connections of a port: how many may be open, and which one is closed when a new one needs its slot.
//!
//! A connection is unauthenticated until the port's gate has let a call on it through. A new connection is always accepted.
//! When the port, or the limit of the client's address, is full, the new connection replaces the oldest unauthenticated
//! one, or an authenticated one without a call in flight. So idle or slow connections, however many and from wherever,
//! keep out neither health probes, which need a few milliseconds, nor authenticated callers.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Limits on the connections that a port accepts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    pub(crate) total: usize,
    /// Connections from one address.
    pub(crate) per_address: usize,
    /// Unauthenticated connections that are accepted even when authenticated callers with calls in flight use the rest.
    pub(crate) reserved: usize,
}

/// The connections of a port. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: ConnectionLimits,
    table: Mutex<Table>,
    closed: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// By order of arrival.
    taken: BTreeMap<u64, (IpAddr, Arc<Connection>)>,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection that was admitted; dropping it frees its slot.
#[derive(Debug)]
pub(crate) struct Admission {
    id: u64,
    connections: Connections,
    pub(crate) connection: Arc<Connection>,
}

/// Authentication state and running calls of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    authenticated: AtomicBool,
    /// Cancelled when another connection takes this one's slot.
    closed: CancellationToken,
    calls: Mutex<Calls>,
}

#[derive(Debug)]
struct Calls {
    next: u64,
    /// The calls in flight. The value is the time since when the call's answer has waited for the client to read.
    open: BTreeMap<u64, Option<Instant>>,
    /// Since when no call has been in flight.
    quiet_since: Instant,
    /// Whether there has ever been a call.
    any: bool,
}

/// A call in flight, until it is dropped.
#[derive(Debug)]
pub(crate) struct Call {
    id: u64,
    connection: Arc<Connection>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        Self { shared: Arc::new(Shared { limits, table: Mutex::default(), closed: AtomicU64::new(0) }) }
    }

    /// Admits a connection, and closes another one if there is no free slot.
    pub(crate) fn admit(&self, address: IpAddr) -> Admission {
        let address = network(address);
        let ConnectionLimits { total, per_address, reserved } = self.shared.limits;
        let mut table = lock(&self.shared.table);
        let of_address = table.by_address.get(&address).copied().unwrap_or_default();
        if of_address >= per_address {
            self.close_one(&mut table, Some(address), reserved.min(per_address / 4));
        }
        if table.taken.len() >= total {
            self.close_one(&mut table, None, reserved);
        }
        let id = table.next;
        table.next += 1;
        let connection = Arc::<Connection>::default();
        table.taken.insert(id, (address, Arc::clone(&connection)));
        *table.by_address.entry(address).or_default() += 1;
        drop(table);
        Admission { id, connections: self.clone(), connection }
    }

    /// Closes an unauthenticated connection because the process has run out of file descriptors. Returns whether there was one.
    pub(crate) fn close_unauthenticated(&self) -> bool {
        let mut table = lock(&self.shared.table);
        self.close_one(&mut table, None, 1)
    }

    fn close_one(&self, table: &mut Table, address: Option<IpAddr>, reserve: usize) -> bool {
        let Some(id) = table.dispensable(address, reserve) else { return false };
        if let Some((_, connection)) = table.remove(id) {
            connection.closed.cancel();
            self.shared.closed.fetch_add(1, Relaxed);
        }
        true
    }

    /// Number of open connections.
    pub(crate) fn connections(&self) -> usize {
        lock(&self.shared.table).taken.len()
    }

    /// Number of connections that were closed to make room.
    pub(crate) fn closed(&self) -> u64 {
        self.shared.closed.load(Relaxed)
    }
}

impl Table {
    /// The connection to close: the oldest unauthenticated one of the address with the most, once there are `reserve` of them,
    /// then the oldest authenticated one without calls.
    fn dispensable(&self, address: Option<IpAddr>, reserve: usize) -> Option<u64> {
        let within = || self.taken.iter().filter(|(_, (of, _))| address.is_none_or(|address| *of == address));
        let mut unauthenticated: HashMap<IpAddr, (usize, u64)> = HashMap::new();
        let mut count = 0;
        for (id, (of, _)) in within().filter(|(_, (_, connection))| !connection.is_authenticated()) {
            unauthenticated.entry(*of).or_insert((0, *id)).0 += 1;
            count += 1;
        }
        if count >= reserve.max(1) {
            return unauthenticated
                .into_values()
                .max_by_key(|(count, id)| (*count, u64::MAX - id))
                .map(|(_, id)| id);
        }
        within()
            .find(|(_, (_, connection))| connection.is_authenticated() && connection.is_quiet())
            .map(|(id, _)| *id)
    }

    fn remove(&mut self, id: u64) -> Option<(IpAddr, Arc<Connection>)> {
        let removed = self.taken.remove(&id)?;
        if let Some(count) = self.by_address.get_mut(&removed.0) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&removed.0);
            }
        }
        Some(removed)
    }
}

/// The address that limits count a connection under. An IPv6 host usually has a whole /64 network.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        lock(&self.connections.shared.table).remove(self.id);
    }
}

impl Admission {
    /// Returns when another connection has taken the slot.
    pub(crate) async fn closed(&self) {
        self.connection.closed.cancelled().await;
    }
}

impl Default for Connection {
    fn default() -> Self {
        let calls = Calls { next: 0, open: BTreeMap::new(), quiet_since: Instant::now(), any: false };
        Self {
            authenticated: AtomicBool::new(false),
            closed: CancellationToken::new(),
            calls: Mutex::new(calls),
        }
    }
}

impl Connection {
    /// Records that the port's gate let a call on this connection through.
    pub(crate) fn mark_authenticated(&self) {
        self.authenticated.store(true, Relaxed);
    }

    pub(crate) fn is_authenticated(&self) -> bool {
        self.authenticated.load(Relaxed)
    }

    fn is_quiet(&self) -> bool {
        lock(&self.calls).open.is_empty()
    }

    /// Number of calls in flight.
    pub(crate) fn in_flight(&self) -> usize {
        lock(&self.calls).open.len()
    }

    /// Registers a call until the result is dropped.
    pub(crate) fn call(self: &Arc<Self>) -> Call {
        let mut calls = lock(&self.calls);
        let id = calls.next;
        calls.next += 1;
        calls.any = true;
        calls.open.insert(id, None);
        Call { id, connection: Arc::clone(self) }
    }

    /// Since when no call has been in flight, and whether there has ever been one. `None` while one is in flight.
    pub(crate) fn quiet(&self) -> Option<(Instant, bool)> {
        let calls = lock(&self.calls);
        calls.open.is_empty().then_some((calls.quiet_since, calls.any))
    }

    /// Since when the longest-waiting answer has waited for the client to read.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        lock(&self.calls).open.values().flatten().min().copied()
    }
}

impl Call {
    /// Records whether the answer is waiting for the client to read.
    pub(crate) fn waits_for_client(&self, waits: bool) {
        let since = waits.then(Instant::now);
        if let Some(open) = lock(&self.connection.calls).open.get_mut(&self.id) {
            *open = since;
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut calls = lock(&self.connection.calls);
        calls.open.remove(&self.id);
        calls.quiet_since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits { total: 8, per_address: 4, reserved: 2 };

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn is_closed(admission: &Admission) -> bool {
        admission.connection.closed.is_cancelled()
    }

    #[test]
    fn a_new_connection_replaces_the_oldest_unauthenticated_one_of_its_address() {
        let connections = Connections::new(LIMITS);
        let other = connections.admit(address(2));
        let admitted: Vec<Admission> = (0..6).map(|_| connections.admit(address(1))).collect();
        let closed: Vec<bool> = admitted.iter().map(is_closed).collect();
        assert_eq!(closed, [true, true, false, false, false, false]);
        assert!(!is_closed(&other));
        assert_eq!((connections.connections(), connections.closed()), (5, 2));
        drop(admitted);
        assert_eq!(connections.connections(), 1);
    }

    #[test]
    fn the_address_with_most_unauthenticated_connections_loses_one() {
        let connections = Connections::new(LIMITS);
        let one = connections.admit(address(9));
        let first: Vec<Admission> = (0..4).map(|_| connections.admit(address(1))).collect();
        let second: Vec<Admission> = (0..3).map(|_| connections.admit(address(2))).collect();
        let newest = connections.admit(address(3));
        assert!(is_closed(&first[0]) && !is_closed(&one) && !is_closed(&newest));
        assert!(second.iter().all(|admission| !is_closed(admission)));
    }

    #[test]
    fn authenticated_connections_stay_while_they_have_calls_and_others_still_get_in() {
        let connections = Connections::new(LIMITS);
        let authenticated: Vec<Admission> = (0..8).map(|last| connections.admit(address(last))).collect();
        authenticated.iter().for_each(|admission| admission.connection.mark_authenticated());
        let calls: Vec<Call> = authenticated.iter().map(|admission| admission.connection.call()).collect();
        let unauthenticated: Vec<Admission> = (0..20).map(|_| connections.admit(address(99))).collect();
        assert!(authenticated.iter().all(|admission| !is_closed(admission)));
        assert_eq!(connections.connections(), LIMITS.total + LIMITS.reserved);
        assert!(!is_closed(&unauthenticated[19]) && is_closed(&unauthenticated[0]));
        // Connections without calls may be closed.
        drop(calls);
        drop(unauthenticated);
        let _new = connections.admit(address(99));
        assert_eq!(authenticated.iter().filter(|admission| is_closed(admission)).count(), 1);
    }

    #[test]
    fn an_ipv6_network_is_one_address_and_mapped_addresses_are_ipv4() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
