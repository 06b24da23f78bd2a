//! Rate limits by GCRA: for each client it keeps the moment at which all of its requests are paid for.
//!
//! Each request costs one interval, and the moment may lie ahead by as much as the burst. A changed limit needs no
//! reset, because the debt is a time. The moments of all limits are in one [`Table`] of fixed size. It has sets of a
//! few clients, each in one pair of cache lines under its own lock, which is held for a few comparisons. In a full set
//! the client with the smallest debt is evicted, and a new client of that set starts with at least that debt (but may
//! send at least one request). So eviction never gives a client an unlimited rate.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use weir_http::{RequestHead, ResponseHead};
use weir_snapshot::{
    RateLimit,
    config::{RateKey, RateScope},
};

use super::{client_key, fleet_size::FleetSize};
use crate::{answer::Local, cache_padded::CachePadded};

/// Sets of the table: with [`WAYS`] clients each it remembers 917,504 clients in 16 MiB.
const SETS: usize = 1 << 17;

/// Clients in a set: what fits into 128 bytes with the lock.
const WAYS: usize = 7;

/// The largest debt, which prevents overflow: it is far beyond any configured limit.
const MOST: u64 = 1 << 62;

/// The clients of one set. Times are nanoseconds since the table was made; 0: free.
#[derive(Debug, Default)]
struct Set {
    clients: [u64; WAYS],
    paid: [u64; WAYS],
    /// The largest debt of the evicted clients.
    floor: u64,
}

/// The clients of all limits.
pub(crate) struct Table {
    hasher: RandomState,
    sets: Box<[CachePadded<Mutex<Set>>]>,
    epoch: Instant,
    evicted: AtomicU64,
}

impl Default for Table {
    fn default() -> Self {
        Self::with_sets(SETS)
    }
}

/// Cost of a request and the largest debt of a client, in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Rate {
    interval: u64,
    /// At least the interval.
    tolerance: u64,
}

/// The request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Passed {
    /// Requests that may follow at once.
    left: u64,
    /// Nanoseconds until one more request may pass.
    next: u64,
}

/// The request may pass after this number of nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wait(u64);

impl Table {
    fn with_sets(sets: usize) -> Self {
        let sets = (0..sets.next_power_of_two()).map(|_| CachePadded::default()).collect();
        // Never 0, which marks a free slot.
        let epoch = Instant::now().checked_sub(Duration::from_secs(1)).unwrap_or_else(Instant::now);
        Self { hasher: RandomState::new(), sets, epoch, evicted: AtomicU64::new(0) }
    }

    fn now(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(MOST).max(1)
    }

    /// Whether the table has the client, whatever its debt.
    fn knows(&self, client: u64) -> bool {
        let client = client.max(1);
        let index = (client >> 32) as usize & (self.sets.len() - 1);
        let set = self.sets[index].0.lock().unwrap_or_else(PoisonError::into_inner);
        set.clients.contains(&client)
    }

    /// Accounts for one request of a client.
    fn take(&self, client: u64, rate: Rate, now: u64) -> Result<Passed, Wait> {
        let client = client.max(1);
        let Rate { interval, tolerance } = rate;
        let index = (client >> 32) as usize & (self.sets.len() - 1);
        let mut set = self.sets[index].0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, paid) = match set.clients.iter().position(|known| *known == client) {
            // After a limit was lowered, the debt expires as fast as the new limit says.
            Some(at) => (at, set.paid[at].clamp(now, now + tolerance)),
            None => {
                // Among equal debts the slot depends on the new client, so that no slot is preferred.
                let begin = client as usize % WAYS;
                let slots = (begin..begin + WAYS).map(|at| at % WAYS);
                let at = slots.min_by_key(|at| set.paid[*at]).unwrap_or_default();
                if set.paid[at] > now {
                    set.floor = set.floor.max(set.paid[at]);
                    self.evicted.fetch_add(1, Relaxed);
                }
                set.clients[at] = client;
                (at, set.floor.clamp(now, now + (tolerance - interval)))
            }
        };
        let next = paid + interval;
        let ahead = next - now;
        if ahead > tolerance {
            set.paid[at] = paid;
            return Err(Wait(ahead - tolerance));
        }
        set.paid[at] = next;
        drop(set);
        let left = (tolerance - ahead) / interval;
        Ok(Passed { left, next: ahead + (left + 1) * interval - tolerance })
    }

    /// Clients with a debt now.
    pub(crate) fn clients(&self) -> u64 {
        let now = self.now(Instant::now());
        let of = |set: &CachePadded<Mutex<Set>>| {
            let set = set.0.lock().unwrap_or_else(PoisonError::into_inner);
            set.paid.iter().filter(|paid| **paid > now).count() as u64
        };
        self.sets.iter().map(of).sum()
    }

    /// Clients that were evicted with a debt.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }
}

/// A route's limit.
pub(crate) struct Limiter {
    table: Arc<Table>,
    /// Distinguishes its clients from those of other limits.
    seed: u64,
    key: RateKey,
    /// The limit of one node.
    rate: Rate,
    /// The limit for new values of a header from one address, for one node.
    new_values: Rate,
    /// The nodes that share the limit.
    size: Option<Arc<FleetSize>>,
    texts: Arc<Texts>,
}

/// Header values of a limit that are the same for all clients.
struct Texts {
    name: Arc<str>,
    policy: String,
}

impl Limiter {
    pub(crate) fn new(route: &Arc<str>, limit: &RateLimit, table: Arc<Table>, size: Arc<FleetSize>) -> Self {
        let per = u64::try_from(limit.per.as_nanos()).unwrap_or(MOST);
        let interval = (per / u64::from(limit.requests.max(1))).max(1);
        let tolerance = interval.saturating_mul(u64::from(limit.burst.max(1))).min(MOST);
        let each = (per / u64::from(limit.new_values.max(1))).max(1);
        let new_values = Rate {
            interval: each,
            tolerance: each.saturating_mul(u64::from(limit.new_values.max(1))).min(MOST),
        };
        let seed = table.hasher.hash_one((&**route, &limit.key));
        let policy =
            format!("\"{route}\";q={};w={}", limit.requests, limit.per.as_nanos().div_ceil(1_000_000_000));
        Self {
            table,
            seed,
            key: limit.key.clone(),
            rate: Rate { interval, tolerance },
            new_values,
            size: (limit.scope == RateScope::Fleet).then_some(size),
            texts: Arc::new(Texts { name: Arc::clone(route), policy }),
        }
    }

    /// This node's part of a limit: a shared limit is divided, and each node has at least one request.
    fn part(&self, rate: Rate) -> Rate {
        let nodes = self.size.as_ref().map_or(1, |size| u64::from(size.nodes()));
        let interval = rate.interval.saturating_mul(nodes).min(MOST);
        Rate { interval, tolerance: rate.tolerance.max(interval) }
    }

    /// An address pays for each new value of the header, because otherwise a client could invent values and have a
    /// limit for each. A rejected value is not stored.
    fn admit(&self, value: u64, address: IpAddr, now: u64) -> Result<(), Wait> {
        if self.table.knows(value) {
            return Ok(());
        }
        let key = self.table.hasher.hash_one((self.seed, "new values", client_key(address)));
        self.table.take(key, self.part(self.new_values), now).map(|_| ())
    }

    /// Accounts for one request. The error has the state of a client that must wait.
    pub(crate) fn ask(&self, head: &RequestHead, address: IpAddr, now: Instant) -> Result<Quota, Quota> {
        let hasher = &self.table.hasher;
        let mut is_value = false;
        let client = match &self.key {
            RateKey::Route => self.seed,
            RateKey::ClientIp => hasher.hash_one((self.seed, client_key(address))),
            RateKey::Header(name) => match head.get_named(name.as_bytes()) {
                Some(value) => {
                    is_value = true;
                    hasher.hash_one((self.seed, value))
                }
                None => hasher.hash_one((self.seed, client_key(address))),
            },
        };
        let quota = |left, wait: u64| Quota {
            texts: Arc::clone(&self.texts),
            left,
            is_new_value: false,
            seconds: wait.div_ceil(1_000_000_000).max(1),
        };
        let now = self.table.now(now);
        if is_value && let Err(Wait(wait)) = self.admit(client, address, now) {
            return Err(Quota { is_new_value: true, ..quota(0, wait) });
        }
        match self.table.take(client, self.part(self.rate), now) {
            Ok(Passed { left, next }) => Ok(quota(left, next)),
            Err(Wait(wait)) => Err(quota(0, wait)),
        }
    }
}

/// A client's state in a limit, for the headers of draft-ietf-httpapi-ratelimit-headers-10.
pub(crate) struct Quota {
    texts: Arc<Texts>,
    left: u64,
    /// The address sent too many new values of the header.
    is_new_value: bool,
    /// Seconds until one more request may pass.
    seconds: u64,
}

impl Quota {
    fn state(&self) -> String {
        format!("\"{}\";r={};t={}", self.texts.name, self.left, self.seconds)
    }

    /// The response to a request over the limit.
    pub(crate) fn refuse(&self) -> Local {
        let local = if self.is_new_value { Local::TOO_MANY_VALUES } else { Local::TOO_MANY };
        self.add_to_local(local.with("retry-after", self.seconds.to_string()))
    }

    /// Adds the state to a response of the node itself.
    pub(crate) fn add_to_local(&self, local: Local) -> Local {
        local.with("ratelimit-policy", self.texts.policy.clone()).with("ratelimit", self.state())
    }

    /// Adds the state to a backend's response.
    pub(crate) fn add_to_head(&self, head: &mut ResponseHead) {
        // Both are visible ASCII.
        head.add(b"RateLimit-Policy", self.texts.policy.as_bytes());
        head.add(b"RateLimit", self.state().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    /// 20 a minute, 20 at once.
    const RATE: Rate = Rate { interval: 3 * SECOND, tolerance: 60 * SECOND };

    #[test]
    fn a_set_fits_its_cache_lines() {
        assert_eq!(size_of::<CachePadded<Mutex<Set>>>(), 128);
    }

    #[test]
    fn twenty_pass_and_five_wait_and_others_are_untouched() {
        let table = Table::with_sets(8);
        let results: Vec<_> = (0..25).map(|_| table.take(7, RATE, SECOND)).collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 20);
        assert_eq!(results[0], Ok(Passed { left: 19, next: 3 * SECOND }));
        assert_eq!(results[19], Ok(Passed { left: 0, next: 3 * SECOND }));
        assert!(results[20..].iter().all(|result| *result == Err(Wait(3 * SECOND))));
        assert_eq!(table.take(8, RATE, SECOND), Ok(Passed { left: 19, next: 3 * SECOND }));
        // One request is allowed every three seconds.
        assert!(table.take(7, RATE, 4 * SECOND - 1).is_err());
        assert_eq!(table.take(7, RATE, 4 * SECOND), Ok(Passed { left: 0, next: 3 * SECOND }));
        assert!(table.take(7, RATE, 4 * SECOND).is_err());
        assert_eq!(table.take(7, RATE, 3600 * SECOND).map(|passed| passed.left), Ok(19));
    }

    #[test]
    fn a_limit_that_changes_forgets_nobody() {
        let table = Table::with_sets(8);
        assert!((0..20).all(|_| table.take(7, RATE, SECOND).is_ok()));
        let double = Rate { interval: RATE.interval / 2, ..RATE };
        assert_eq!(table.take(7, double, SECOND), Err(Wait(double.interval)), "what was asked for is owed");
        assert!(table.take(7, double, SECOND + double.interval).is_ok(), "and comes back twice as fast");
        let narrow = Rate { interval: SECOND, tolerance: SECOND };
        assert_eq!(table.take(7, narrow, 2 * SECOND), Err(Wait(SECOND)), "no longer than the new limit says");
    }

    #[test]
    fn a_million_clients_fit_into_the_table_and_the_one_that_is_at_its_limit_stays_there() {
        let table = Table::default();
        let bytes = size_of_val(&*table.sets);
        assert_eq!(bytes, 16 << 20);
        let ours = table.hasher.hash_one("ours");
        let mut passed = 0;
        for client in 0..1_000_000u64 {
            assert!(table.take(table.hasher.hash_one(client), RATE, SECOND).is_ok(), "each may ask once");
            if client % 10_000 == 0 {
                passed += u64::from(table.take(ours, RATE, SECOND).is_ok());
            }
        }
        assert_eq!(passed, 20, "of a hundred");
        let remembered: usize = table
            .sets
            .iter()
            .map(|set| set.0.lock().unwrap().clients.iter().filter(|client| **client != 0).count())
            .sum();
        // By chance some sets get more clients than they hold while others have room: about 813,000 of the 917,504
        // slots.
        assert!(remembered <= SETS * WAYS && remembered > 800_000, "{remembered}");
        assert_eq!(remembered as u64 + table.evicted(), 1_000_001, "every evicted client is counted");
    }

    #[test]
    fn who_is_forgotten_is_not_let_through_unlimited() {
        // One set: every new client evicts another one.
        let table = Table::with_sets(1);
        let mut passed = 0;
        for other in 0..10_000u64 {
            passed += u64::from(table.take(1, RATE, SECOND).is_ok());
            assert!(table.take(2 + other, RATE, SECOND).is_ok());
        }
        // 20 of its own; then one for each time that all others were evicted before it.
        assert!(passed <= 20 + 10_000 / (WAYS as u64 - 1), "{passed}");
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate(
            gaps in proptest::collection::vec(0u64..5 * SECOND, 1..200),
            requests in 1u64..50,
            burst in 1u64..50,
        ) {
            let table = Table::with_sets(1);
            let rate = Rate { interval: 60 * SECOND / requests, tolerance: 60 * SECOND / requests * burst };
            let (begin, mut now, mut passed) = (SECOND, SECOND, 0u64);
            for gap in gaps {
                now += gap;
                match table.take(1, rate, now) {
                    Ok(_) => passed += 1,
                    Err(Wait(wait)) => {
                        prop_assert!(table.take(1, rate, now + wait - 1).is_err());
                        prop_assert!(wait <= rate.interval);
                    }
                }
                prop_assert!(passed <= burst + (now - begin) / rate.interval);
            }
        }
    }

    fn limiter(scope: RateScope, size: &Arc<FleetSize>) -> Limiter {
        let key = RateKey::Route;
        let per = Duration::from_secs(60);
        let limit = RateLimit { requests: 20, per, burst: 20, new_values: 20, key, scope };
        Limiter::new(&"r".into(), &limit, Arc::new(Table::with_sets(1)), Arc::clone(size))
    }

    #[test]
    fn the_fleet_shares_and_each_node_lets_at_least_one_through() {
        let now = Instant::now();
        let count = |limiter: &Limiter| {
            let ask = || limiter.ask(&RequestHead::new(), IpAddr::from([127, 0, 0, 1]), now).is_ok();
            (0..25).filter(|_| ask()).count()
        };
        for (nodes, passes) in [(1, 20), (2, 10), (3, 6), (20, 1), (1000, 1)] {
            let size = Arc::<FleetSize>::default();
            size.set(nodes, now);
            assert_eq!(count(&limiter(RateScope::Fleet, &size)), passes, "{nodes}");
            assert_eq!(count(&limiter(RateScope::Node, &size)), 20);
        }
    }

    #[test]
    fn invented_values_of_a_header_are_limited_by_address() {
        let limit = RateLimit {
            requests: 20,
            per: Duration::from_secs(60),
            burst: 20,
            new_values: 10,
            key: RateKey::Header("x-key".into()),
            scope: RateScope::Node,
        };
        let limiter = Limiter::new(&"r".into(), &limit, Arc::new(Table::with_sets(1 << 10)), Arc::default());
        let now = Instant::now();
        let ask = |value: String, address: u8, at: Instant| {
            let mut head = RequestHead::new();
            assert!(head.add(b"X-Key", value.as_bytes()));
            limiter.ask(&head, IpAddr::from([192, 0, 2, address]), at)
        };
        let passed = (0..1000).filter(|n| ask(format!("a{n}"), 1, now).is_ok()).count();
        assert_eq!(passed, 10);
        let refused = ask("a999".into(), 1, now).err().unwrap();
        assert_eq!((refused.left, refused.seconds), (0, 6), "one more value each six seconds");
        // Known values, other addresses and later requests are not affected.
        assert!(ask("a0".into(), 1, now).is_ok());
        assert!(ask("a999".into(), 2, now).is_ok());
        assert!(ask("a999".into(), 1, now).is_ok(), "known by now, whoever brought it");
        assert!(ask("a998".into(), 1, now + Duration::from_secs(6)).is_ok());
        // A known value has its own limit.
        let more = (0..100).filter(|_| ask("a1".into(), 1, now).is_ok()).count();
        assert_eq!(more, 19);
    }

    #[test]
    fn clients_are_told_where_they_stand() {
        let limiter = limiter(RateScope::Node, &Arc::default());
        let ask = || limiter.ask(&RequestHead::new(), IpAddr::from([127, 0, 0, 1]), Instant::now());
        let Ok(quota) = ask() else { panic!("refused") };
        assert_eq!(quota.texts.policy, "\"r\";q=20;w=60");
        assert_eq!(quota.state(), "\"r\";r=19;t=3");
    }
}
