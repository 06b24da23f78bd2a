//! The connections of a port: how many there may be, and which one is closed when a new one comes and there is no room.
//!
//! A connection is a stranger until a call on it was let in by the port's gate, that is until its caller is known. A new connection is
//! always accepted. When the port or the share of its address is full, it takes the place of the oldest stranger, or of
//! a known caller's connection without a call in flight. So connections that say nothing or say it slowly, however many and from
//! wherever, keep out neither health probes, which need a few milliseconds, nor authenticated callers, who are known after
//! their first call.

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

/// How many connections a port takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// All of them.
    pub(crate) all: usize,
    /// Those of one address.
    pub(crate) share: usize,
    /// Strangers who are let in although everything else is taken by known callers with calls in flight.
    pub(crate) reserve: usize,
}

/// The connections of a port. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    seats: Mutex<Seats>,
    closed: AtomicU64,
}

#[derive(Debug, Default)]
struct Seats {
    next: u64,
    /// In the order in which they came.
    taken: BTreeMap<u64, (IpAddr, Arc<Connection>)>,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    id: u64,
    room: Room,
    pub(crate) connection: Arc<Connection>,
}

/// What is known of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    known: AtomicBool,
    /// Its place was given to another one.
    closed: CancellationToken,
    calls: Mutex<Calls>,
}

#[derive(Debug)]
struct Calls {
    next: u64,
    /// The calls in flight, each with the time since when its answer waits for the client.
    open: BTreeMap<u64, Option<Instant>>,
    /// Since when there has been no call in flight.
    quiet_since: Instant,
    /// Whether there has ever been one.
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

impl Room {
    pub(crate) fn new(limits: Limits) -> Self {
        Self(Arc::new(Inner { limits, seats: Mutex::default(), closed: AtomicU64::new(0) }))
    }

    /// Takes a place for a connection, if need be another one's.
    pub(crate) fn admit(&self, address: IpAddr) -> Seat {
        let address = network(address);
        let Limits { all, share, reserve } = self.0.limits;
        let mut seats = lock(&self.0.seats);
        let of_address = seats.by_address.get(&address).copied().unwrap_or_default();
        if of_address >= share {
            self.close_one(&mut seats, Some(address), reserve.min(share / 4));
        }
        if seats.taken.len() >= all {
            self.close_one(&mut seats, None, reserve);
        }
        let id = seats.next;
        seats.next += 1;
        let connection = Arc::<Connection>::default();
        seats.taken.insert(id, (address, Arc::clone(&connection)));
        *seats.by_address.entry(address).or_default() += 1;
        drop(seats);
        Seat { id, room: self.clone(), connection }
    }

    /// Closes a stranger's connection, as the process has no more file descriptors. Whether there was one.
    pub(crate) fn close_stranger(&self) -> bool {
        let mut seats = lock(&self.0.seats);
        self.close_one(&mut seats, None, 1)
    }

    fn close_one(&self, seats: &mut Seats, address: Option<IpAddr>, reserve: usize) -> bool {
        let Some(id) = seats.dispensable(address, reserve) else { return false };
        if let Some((_, connection)) = seats.remove(id) {
            connection.closed.cancel();
            self.0.closed.fetch_add(1, Relaxed);
        }
        true
    }

    /// Open connections.
    pub(crate) fn connections(&self) -> usize {
        lock(&self.0.seats).taken.len()
    }

    /// Connections that were closed to make room.
    pub(crate) fn closed(&self) -> u64 {
        self.0.closed.load(Relaxed)
    }
}

impl Seats {
    /// The connection whose loss matters least: the oldest stranger of the address with the most, once there are `reserve` of them,
    /// then the oldest of a known caller without calls.
    fn dispensable(&self, address: Option<IpAddr>, reserve: usize) -> Option<u64> {
        let within = || self.taken.iter().filter(|(_, (of, _))| address.is_none_or(|address| *of == address));
        let mut strangers: HashMap<IpAddr, (usize, u64)> = HashMap::new();
        let mut count = 0;
        for (id, (of, _)) in within().filter(|(_, (_, connection))| !connection.is_known()) {
            strangers.entry(*of).or_insert((0, *id)).0 += 1;
            count += 1;
        }
        if count >= reserve.max(1) {
            return strangers
                .into_values()
                .max_by_key(|(count, id)| (*count, u64::MAX - id))
                .map(|(_, id)| id);
        }
        within()
            .find(|(_, (_, connection))| connection.is_known() && connection.is_quiet())
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

/// Whose share an address counts to: with IPv6 one machine has a whole network of 64 bits.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.room.0.seats).remove(self.id);
    }
}

impl Seat {
    /// Returns when the place was given to another connection.
    pub(crate) async fn closed(&self) {
        self.connection.closed.cancelled().await;
    }
}

impl Default for Connection {
    fn default() -> Self {
        let calls = Calls { next: 0, open: BTreeMap::new(), quiet_since: Instant::now(), any: false };
        Self { known: AtomicBool::new(false), closed: CancellationToken::new(), calls: Mutex::new(calls) }
    }
}

impl Connection {
    /// A call on it was let in.
    pub(crate) fn make_known(&self) {
        self.known.store(true, Relaxed);
    }

    pub(crate) fn is_known(&self) -> bool {
        self.known.load(Relaxed)
    }

    fn is_quiet(&self) -> bool {
        lock(&self.calls).open.is_empty()
    }

    /// How many calls are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        lock(&self.calls).open.len()
    }

    /// A call begins.
    pub(crate) fn call(self: &Arc<Self>) -> Call {
        let mut calls = lock(&self.calls);
        let id = calls.next;
        calls.next += 1;
        calls.any = true;
        calls.open.insert(id, None);
        Call { id, connection: Arc::clone(self) }
    }

    /// Since when there has been no call in flight, and whether there has ever been one; `None`: there is one.
    pub(crate) fn quiet(&self) -> Option<(Instant, bool)> {
        let calls = lock(&self.calls);
        calls.open.is_empty().then_some((calls.quiet_since, calls.any))
    }

    /// Since when the answer that waits longest has been waiting for the client to take some of it.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        lock(&self.calls).open.values().flatten().min().copied()
    }
}

impl Call {
    /// The client has some of the answer to take, or has taken it.
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

    const LIMITS: Limits = Limits { all: 8, share: 4, reserve: 2 };

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn is_closed(seat: &Seat) -> bool {
        seat.connection.closed.is_cancelled()
    }

    #[test]
    fn a_new_connection_takes_the_place_of_its_addresss_oldest_stranger() {
        let room = Room::new(LIMITS);
        let other = room.admit(address(2));
        let seats: Vec<Seat> = (0..6).map(|_| room.admit(address(1))).collect();
        let closed: Vec<bool> = seats.iter().map(is_closed).collect();
        assert_eq!(closed, [true, true, false, false, false, false]);
        assert!(!is_closed(&other));
        assert_eq!((room.connections(), room.closed()), (5, 2));
        drop(seats);
        assert_eq!(room.connections(), 1);
    }

    #[test]
    fn the_address_with_most_strangers_makes_room_for_the_others() {
        let room = Room::new(LIMITS);
        let one = room.admit(address(9));
        let first: Vec<Seat> = (0..4).map(|_| room.admit(address(1))).collect();
        let second: Vec<Seat> = (0..3).map(|_| room.admit(address(2))).collect();
        let newest = room.admit(address(3));
        assert!(is_closed(&first[0]) && !is_closed(&one) && !is_closed(&newest));
        assert!(second.iter().all(|seat| !is_closed(seat)));
    }

    #[test]
    fn known_callers_stay_while_they_have_calls_and_strangers_still_get_in() {
        let room = Room::new(LIMITS);
        let known: Vec<Seat> = (0..8).map(|last| room.admit(address(last))).collect();
        known.iter().for_each(|seat| seat.connection.make_known());
        let calls: Vec<Call> = known.iter().map(|seat| seat.connection.call()).collect();
        let strangers: Vec<Seat> = (0..20).map(|_| room.admit(address(99))).collect();
        assert!(known.iter().all(|seat| !is_closed(seat)));
        assert_eq!(room.connections(), LIMITS.all + LIMITS.reserve);
        assert!(!is_closed(&strangers[19]) && is_closed(&strangers[0]));
        // Without calls they may go.
        drop(calls);
        drop(strangers);
        let _new = room.admit(address(99));
        assert_eq!(known.iter().filter(|seat| is_closed(seat)).count(), 1);
    }

    #[test]
    fn an_ipv6_network_is_one_address_and_mapped_addresses_are_ipv4() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
