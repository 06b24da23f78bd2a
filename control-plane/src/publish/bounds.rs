//! What a node's report may say: names that a kept revision knows, and no more requests and bytes than a node can have
//! carried in the time.
//!
//! A certificate proves which node reports, and nothing of what it reports. The bounds are so generous that no honest node
//! meets them; what they exclude are invented names and counts beyond any machine. They know nothing of clocks: how long
//! a node is known is measured here, and a minute is only a label, so that a clock that is off costs no counts.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tonic::Status;
use weir_proto::v1;
use weir_snapshot::resource::{Key, Kind};

use crate::{
    current::Current,
    store::{Store, StoreError},
    time::now_ms,
};

/// Attempts (requests and their retries) that one worker thread can make in a second. Weir makes some ten thousand.
const ATTEMPTS: f64 = 200_000.0;

/// Bytes that one worker thread can move in a second, in both directions.
const BYTES: f64 = 16e9;

/// Workers of a node that has not said how many it has.
const WORKERS: u32 = 16;

/// The most workers that a node is believed to have.
const MOST_WORKERS: u32 = 1024;

/// What a node that was never seen may have carried before its first report. One that carried more, because the database
/// is a new one, reports again until the time that passes covers it.
const UNSEEN: Duration = Duration::from_secs(60);

/// Nodes keep counts of so much time while the control plane is away.
const MOST_KNOWN: Duration = Duration::from_secs(25 * 3600);

/// A minute may hold this many seconds of work: minutes that are corrected by a clock may fall together.
const MINUTE: f64 = 120.0;

/// Minutes of a node that are remembered.
const MINUTES: usize = 128;

/// Nodes that are remembered, and how long one is that does not report.
const NODES: usize = 10_000;
const REMEMBERED: Duration = Duration::from_secs(3600);

/// The label of what is beyond a node's bounds.
const OTHER: &str = "_other";

/// What one node has reported.
#[derive(Debug)]
struct Ledger {
    /// As if it had been known since then.
    known_since: Instant,
    last: Instant,
    /// Seconds of one worker that its attempts and its bytes took, at the rates above.
    attempts_s: f64,
    bytes_s: f64,
    minutes: BTreeMap<u64, f64>,
}

/// What one batch says, in seconds of one worker.
#[derive(Debug, Default, Clone)]
pub(super) struct Cost {
    attempts_s: f64,
    bytes_s: f64,
    minutes: BTreeMap<u64, f64>,
}

impl Cost {
    fn of(batch: &v1::ReportRequest) -> Self {
        // Hosts say the same requests once more, but a batch can hold one without the other.
        let mut cost = Self::of_rows(&batch.rows);
        let hosts = Self::of_rows(&batch.hosts);
        cost.attempts_s = cost.attempts_s.max(hosts.attempts_s);
        cost.bytes_s = cost.bytes_s.max(hosts.bytes_s);
        for (minute, seconds) in hosts.minutes {
            let known = cost.minutes.entry(minute).or_default();
            *known = known.max(seconds);
        }
        cost
    }

    fn of_rows(rows: &[v1::TrafficRow]) -> Self {
        let mut cost = Self::default();
        for row in rows {
            let attempts = (row.requests as f64 + row.retries as f64) / ATTEMPTS;
            cost.attempts_s += attempts;
            cost.bytes_s += (row.bytes_in as f64 + row.bytes_out as f64) / BYTES;
            *cost.minutes.entry(row.minute).or_default() += attempts;
        }
        cost
    }
}

/// Why a report is refused.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum TooMuch {
    #[error(
        "rows: {attempts:.0} requests and retries in one minute; a node with {workers} workers carries {most:.0} at most"
    )]
    InMinute { attempts: f64, workers: u32, most: f64 },
    #[error(
        "rows: {what} beyond what a node with {workers} workers can have carried since it is known; sent again, they may fit later"
    )]
    SinceKnown { what: &'static str, workers: u32 },
}

impl Ledger {
    fn new(now: Instant, known: Duration) -> Self {
        let known_since = now.checked_sub(known.clamp(UNSEEN, MOST_KNOWN)).unwrap_or(now);
        Self { known_since, last: now, attempts_s: 0.0, bytes_s: 0.0, minutes: BTreeMap::new() }
    }

    /// Takes a batch in, or nothing of it.
    fn take(&mut self, cost: &Cost, workers: u32, now: Instant) -> Result<(), TooMuch> {
        let rate = f64::from(workers);
        for (minute, seconds) in &cost.minutes {
            let seconds = seconds + self.minutes.get(minute).copied().unwrap_or_default();
            if seconds > MINUTE * rate {
                let (attempts, most) = (seconds * ATTEMPTS, MINUTE * rate * ATTEMPTS);
                return Err(TooMuch::InMinute { attempts, workers, most });
            }
        }
        let most = now.duration_since(self.known_since).as_secs_f64() * rate;
        for (what, seconds) in
            [("requests", self.attempts_s + cost.attempts_s), ("bytes", self.bytes_s + cost.bytes_s)]
        {
            if seconds > most {
                return Err(TooMuch::SinceKnown { what, workers });
            }
        }
        self.last = now;
        self.attempts_s += cost.attempts_s;
        self.bytes_s += cost.bytes_s;
        for (minute, seconds) in &cost.minutes {
            *self.minutes.entry(*minute).or_default() += seconds;
        }
        while self.minutes.len() > MINUTES {
            self.minutes.pop_first();
        }
        Ok(())
    }

    fn give_back(&mut self, cost: &Cost) {
        self.attempts_s -= cost.attempts_s;
        self.bytes_s -= cost.bytes_s;
        for (minute, seconds) in &cost.minutes {
            if let Some(sum) = self.minutes.get_mut(minute) {
                *sum -= seconds;
            }
        }
    }
}

/// The bounds of what nodes report.
pub(super) struct Bounds {
    store: Store,
    ledgers: Mutex<HashMap<String, Ledger>>,
    /// Names that the revision of this number does not know and an earlier one did.
    past: Mutex<(u64, HashSet<Key>)>,
}

impl Bounds {
    pub(super) fn new(store: Store) -> Self {
        Self { store, ledgers: Mutex::default(), past: Mutex::default() }
    }

    /// Refuses a batch that names what no kept revision knew. The node sends it again without those names.
    pub(super) async fn check_names(
        &self,
        batch: &v1::ReportRequest,
        current: &Current,
    ) -> Result<(), Status> {
        let unknown: Vec<Key> = {
            let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
            if past.0 != current.revision {
                // Which revisions are kept has changed with it.
                *past = (current.revision, HashSet::new());
            }
            let mut unknown = HashSet::new();
            for row in &batch.rows {
                for (kind, name) in
                    [(Kind::Route, &row.route), (Kind::Pool, &row.pool), (Kind::Backend, &row.backend)]
                {
                    if name.is_empty() || name == OTHER {
                        continue;
                    }
                    let key = Key { kind, name: name.clone() };
                    if !current.resources.contains_key(&key) && !past.1.contains(&key) {
                        unknown.insert(key);
                    }
                }
            }
            unknown.into_iter().collect()
        };
        if unknown.is_empty() {
            return Ok(());
        }
        let known = self.store.keys_in_revisions(&unknown).await.map_err(|error| self.failed(&error))?;
        if let Some(Key { kind, name }) = unknown.iter().find(|key| !known.contains(key)) {
            // Not the code of a malformed batch: without the name it is a good one.
            let name: String = name.chars().take(100).collect();
            return Err(Status::out_of_range(format!("rows: no kept revision has a {kind} {name:?}")));
        }
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if past.0 == current.revision {
            past.1.extend(known);
        }
        Ok(())
    }

    /// Takes a batch in, or refuses it for what it counts.
    pub(super) async fn take(&self, batch: &v1::ReportRequest, workers: Option<u32>) -> Result<Cost, Status> {
        let cost = Cost::of(batch);
        let workers = workers.filter(|workers| *workers > 0).unwrap_or(WORKERS).min(MOST_WORKERS);
        if !self.ledgers().contains_key(&batch.node_id) {
            let seen =
                self.store.node_first_seen(&batch.node_id).await.map_err(|error| self.failed(&error))?;
            let known_ms = seen.map_or(0, |seen| now_ms().saturating_sub(seen));
            let known = Duration::from_millis(u64::try_from(known_ms).unwrap_or_default());
            let now = Instant::now();
            let mut ledgers = self.ledgers();
            if ledgers.len() >= NODES {
                ledgers.retain(|_, ledger| now.duration_since(ledger.last) < REMEMBERED);
            }
            if ledgers.len() >= NODES {
                return Err(Status::resource_exhausted(format!("more than {NODES} nodes report")));
            }
            ledgers.entry(batch.node_id.clone()).or_insert_with(|| Ledger::new(now, known));
        }
        let mut ledgers = self.ledgers();
        // Another call may have made room meanwhile.
        let Some(ledger) = ledgers.get_mut(&batch.node_id) else {
            return Err(Status::unavailable("send the batch again"));
        };
        let taken = ledger.take(&cost, workers, Instant::now());
        drop(ledgers);
        taken.map(|()| cost).map_err(|refused| {
            tracing::warn!(node = batch.node_id, sequence = batch.sequence, reason = %refused, "batch refused");
            match refused {
                TooMuch::InMinute { .. } => Status::invalid_argument(refused.to_string()),
                TooMuch::SinceKnown { .. } => Status::resource_exhausted(refused.to_string()),
            }
        })
    }

    /// The batch was not stored, or had been stored before.
    pub(super) fn give_back(&self, node_id: &str, cost: &Cost) {
        if let Some(ledger) = self.ledgers().get_mut(node_id) {
            ledger.give_back(cost);
        }
    }

    fn ledgers(&self) -> std::sync::MutexGuard<'_, HashMap<String, Ledger>> {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: &StoreError) -> Status {
        tracing::error!(%error, "a report cannot be checked");
        Status::unavailable("the report cannot be checked now")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(minute: u64, requests: u64, bytes_out: u64) -> Cost {
        let row = v1::TrafficRow { minute, requests, bytes_out, ..Default::default() };
        Cost::of(&v1::ReportRequest { rows: vec![row], ..Default::default() })
    }

    #[test]
    fn rows_of_hosts_are_bounded_as_others_are() {
        let host = |minute, requests, bytes_out| v1::TrafficRow {
            minute,
            requests,
            bytes_out,
            host: "a".into(),
            ..Default::default()
        };
        let cost = |rows: &[v1::TrafficRow], hosts: &[v1::TrafficRow]| {
            Cost::of(&v1::ReportRequest { rows: rows.to_vec(), hosts: hosts.to_vec(), ..Default::default() })
        };
        let now = Instant::now();
        let mut ledger = Ledger::new(now, Duration::from_secs(300));
        for forged in [host(7, 1 << 53, 0), host(7, 1, 1 << 53)] {
            assert!(ledger.take(&cost(&[host(7, 1, 0)], &[forged]), 2, now).is_err());
        }
        // The same requests count once.
        let honest = [host(7, 120 * 200_000, 0), host(8, 120 * 200_000, 0)];
        ledger.take(&cost(&honest, &honest), 2, now).unwrap();
        ledger.take(&cost(&honest, &[]), 2, now).unwrap();
        assert!(ledger.take(&cost(&[], &[host(7, 1, 0)]), 2, now).is_err());
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_minute_holds_what_workers_can_carry_in_two_however_many_batches_say_it() {
        let now = Instant::now();
        let mut ledger = Ledger::new(now, MOST_KNOWN);
        let most = 2 * 120 * 200_000;
        assert!(ledger.take(&cost(7, most + 1, 0), 2, now).is_err());
        for _ in 0..10 {
            ledger.take(&cost(7, most / 10, 0), 2, now).unwrap();
        }
        assert!(matches!(ledger.take(&cost(7, 1, 0), 2, now), Err(TooMuch::InMinute { workers: 2, .. })));
        ledger.take(&cost(8, most, 0), 2, now).unwrap();
        // What was not stored is given back.
        ledger.give_back(&cost(8, most, 0));
        ledger.take(&cost(8, most, 0), 2, now).unwrap();
    }

    #[test]
    fn a_node_has_carried_no_more_than_since_it_is_known_whatever_minutes_it_names() {
        let now = Instant::now();
        let mut ledger = Ledger::new(now, Duration::ZERO);
        // A minute's work is believed of a node that was never seen.
        for minute in 0..60 {
            ledger.take(&cost(minute, 2 * 200_000, 0), 2, now).unwrap();
        }
        let more = cost(99, 2 * 200_000, 0);
        assert!(matches!(ledger.take(&more, 2, now), Err(TooMuch::SinceKnown { what: "requests", .. })));
        ledger.take(&more, 2, now + SECOND).unwrap();
        // Bytes of a long download come at once, so of them only the whole time is a bound.
        let mut ledger = Ledger::new(now, Duration::from_secs(3600));
        ledger.take(&cost(1, 1, 40_000_000_000_000), 1, now).unwrap();
        let more = cost(2, 1, 20_000_000_000_000);
        assert!(matches!(ledger.take(&more, 1, now), Err(TooMuch::SinceKnown { what: "bytes", .. })));
    }

    #[test]
    fn an_honest_node_that_was_away_for_a_day_delivers_all_of_it() {
        let now = Instant::now();
        let mut ledger = Ledger::new(now, MOST_KNOWN);
        for minute in 0..24 * 60 {
            // 50,000 requests a second and worker, with a retry each, all day.
            ledger.take(&cost(minute, 4 * 60 * 100_000, 1 << 30), 4, now).unwrap();
        }
        assert!(ledger.minutes.len() <= MINUTES);
    }
}
