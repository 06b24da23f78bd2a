//! Limits of what nodes may report: only names that a stored revision contains, and no more requests and bytes than a
//! node can have carried.
//!
//! A certificate proves which node reports, but nothing about the content. The limits are so generous that no honest
//! node reaches them; they exclude invented names and impossible counts. They do not depend on nodes' clocks: how long
//! a node is known is measured here, and a minute is only a label, so a wrong clock costs no counts.

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

/// Attempts (requests and retries) that one worker thread can make per second. Weir makes some ten thousand.
const ATTEMPTS: f64 = 200_000.0;

/// Bytes that one worker thread can move per second, in both directions.
const BYTES: f64 = 16e9;

/// Assumed workers of a node that did not report its number.
const WORKERS: u32 = 16;

/// Maximum number of workers that a node can claim.
const MAX_WORKERS: u32 = 1024;

/// Credit of a node that was never seen before. A node that carried more, because the database is new, sends its report
/// again until enough time has passed.
const UNSEEN: Duration = Duration::from_secs(60);

/// Nodes keep counts for this long while the control plane is unreachable.
const MAX_KNOWN: Duration = Duration::from_secs(25 * 3600);

/// Seconds of work that one minute may hold: minutes that are shifted by a clock correction may coincide.
const MINUTE: f64 = 120.0;

/// Number of minutes remembered per node.
const MINUTES: usize = 128;

/// Number of nodes remembered, and for how long after their last report.
const NODES: usize = 10_000;
const KEEP_FOR: Duration = Duration::from_secs(3600);

/// Label for names beyond a node's limit.
const OTHER: &str = "_other";

/// Accumulated reports of one node.
#[derive(Debug)]
struct Ledger {
    /// Start of the time for which the node has credit.
    known_since: Instant,
    last: Instant,
    /// Seconds of one worker that its attempts and bytes took, at the rates above.
    attempts_s: f64,
    bytes_s: f64,
    minutes: BTreeMap<u64, f64>,
}

/// The work in one batch, in seconds of one worker.
#[derive(Debug, Default, Clone)]
pub(super) struct Cost {
    attempts_s: f64,
    bytes_s: f64,
    minutes: BTreeMap<u64, f64>,
}

impl Cost {
    fn of(batch: &v1::ReportRequest) -> Self {
        // Host rows repeat the same requests, but a batch can contain one kind of row without the other.
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

/// Why a report is rejected.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum OverLimit {
    #[error(
        "rows: {attempts:.0} requests and retries in one minute; a node with {workers} workers carries at most {most:.0}"
    )]
    InMinute { attempts: f64, workers: u32, most: f64 },
    #[error(
        "rows: more {what} than a node with {workers} workers can have carried since it is known; a later retry may succeed"
    )]
    SinceKnown { what: &'static str, workers: u32 },
}

impl Ledger {
    fn new(now: Instant, known: Duration) -> Self {
        let known_since = now.checked_sub(known.clamp(UNSEEN, MAX_KNOWN)).unwrap_or(now);
        Self { known_since, last: now, attempts_s: 0.0, bytes_s: 0.0, minutes: BTreeMap::new() }
    }

    /// Accounts for a whole batch, or rejects it.
    fn take(&mut self, cost: &Cost, workers: u32, now: Instant) -> Result<(), OverLimit> {
        let rate = f64::from(workers);
        for (minute, seconds) in &cost.minutes {
            let seconds = seconds + self.minutes.get(minute).copied().unwrap_or_default();
            if seconds > MINUTE * rate {
                let (attempts, most) = (seconds * ATTEMPTS, MINUTE * rate * ATTEMPTS);
                return Err(OverLimit::InMinute { attempts, workers, most });
            }
        }
        let most = now.duration_since(self.known_since).as_secs_f64() * rate;
        for (what, seconds) in
            [("requests", self.attempts_s + cost.attempts_s), ("bytes", self.bytes_s + cost.bytes_s)]
        {
            if seconds > most {
                return Err(OverLimit::SinceKnown { what, workers });
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

/// Limits for the reports of all nodes.
pub(super) struct Bounds {
    store: Store,
    ledgers: Mutex<HashMap<String, Ledger>>,
    /// Names that existed only in revisions before the one with this number.
    past: Mutex<(u64, HashSet<Key>)>,
}

impl Bounds {
    pub(super) fn new(store: Store) -> Self {
        Self { store, ledgers: Mutex::default(), past: Mutex::default() }
    }

    /// Rejects a batch with a name that no stored revision contains. The node sends it again without the name.
    pub(super) async fn check_names(
        &self,
        batch: &v1::ReportRequest,
        current: &Current,
    ) -> Result<(), Status> {
        let unknown: Vec<Key> = {
            let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
            if past.0 != current.revision {
                // The set of stored revisions changed too.
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
            // Not the status code of a malformed batch: without this name the batch is valid.
            let name: String = name.chars().take(100).collect();
            return Err(Status::out_of_range(format!("rows: no stored revision has a {kind} {name:?}")));
        }
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if past.0 == current.revision {
            past.1.extend(known);
        }
        Ok(())
    }

    /// Accounts for a batch, or rejects it because of its counts.
    pub(super) async fn take(&self, batch: &v1::ReportRequest, workers: Option<u32>) -> Result<Cost, Status> {
        let cost = Cost::of(batch);
        let workers = workers.filter(|workers| *workers > 0).unwrap_or(WORKERS).min(MAX_WORKERS);
        if !self.ledgers().contains_key(&batch.node_id) {
            let seen =
                self.store.node_first_seen(&batch.node_id).await.map_err(|error| self.failed(&error))?;
            let known_ms = seen.map_or(0, |seen| now_ms().saturating_sub(seen));
            let known = Duration::from_millis(u64::try_from(known_ms).unwrap_or_default());
            let now = Instant::now();
            let mut ledgers = self.ledgers();
            if ledgers.len() >= NODES {
                ledgers.retain(|_, ledger| now.duration_since(ledger.last) < KEEP_FOR);
            }
            if ledgers.len() >= NODES {
                return Err(Status::resource_exhausted(format!("more than {NODES} nodes report")));
            }
            ledgers.entry(batch.node_id.clone()).or_insert_with(|| Ledger::new(now, known));
        }
        let mut ledgers = self.ledgers();
        // Another call may have evicted the node in the meantime.
        let Some(ledger) = ledgers.get_mut(&batch.node_id) else {
            return Err(Status::unavailable("send the batch again"));
        };
        let taken = ledger.take(&cost, workers, Instant::now());
        drop(ledgers);
        taken.map(|()| cost).map_err(|refused| {
            tracing::warn!(node = batch.node_id, sequence = batch.sequence, reason = %refused, "batch rejected");
            match refused {
                OverLimit::InMinute { .. } => Status::invalid_argument(refused.to_string()),
                OverLimit::SinceKnown { .. } => Status::resource_exhausted(refused.to_string()),
            }
        })
    }

    /// Returns the credit of a batch that was not stored, or was a duplicate.
    pub(super) fn give_back(&self, node_id: &str, cost: &Cost) {
        if let Some(ledger) = self.ledgers().get_mut(node_id) {
            ledger.give_back(cost);
        }
    }

    fn ledgers(&self) -> std::sync::MutexGuard<'_, HashMap<String, Ledger>> {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: &StoreError) -> Status {
        tracing::error!(%error, "cannot check a report");
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
    fn host_rows_are_limited_like_others() {
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
    fn a_minute_is_limited_over_all_batches() {
        let now = Instant::now();
        let mut ledger = Ledger::new(now, MAX_KNOWN);
        let most = 2 * 120 * 200_000;
        assert!(ledger.take(&cost(7, most + 1, 0), 2, now).is_err());
        for _ in 0..10 {
            ledger.take(&cost(7, most / 10, 0), 2, now).unwrap();
        }
        assert!(matches!(ledger.take(&cost(7, 1, 0), 2, now), Err(OverLimit::InMinute { workers: 2, .. })));
        ledger.take(&cost(8, most, 0), 2, now).unwrap();
        // Credit of a batch that was not stored is returned.
        ledger.give_back(&cost(8, most, 0));
        ledger.take(&cost(8, most, 0), 2, now).unwrap();
    }

    #[test]
    fn the_total_is_limited_by_the_time_since_the_node_is_known() {
        let now = Instant::now();
        let mut ledger = Ledger::new(now, Duration::ZERO);
        // A node that was never seen has credit for one minute.
        for minute in 0..60 {
            ledger.take(&cost(minute, 2 * 200_000, 0), 2, now).unwrap();
        }
        let more = cost(99, 2 * 200_000, 0);
        assert!(matches!(ledger.take(&more, 2, now), Err(OverLimit::SinceKnown { what: "requests", .. })));
        ledger.take(&more, 2, now + SECOND).unwrap();
        // Bytes of a long download arrive at once, so only the total time limits them.
        let mut ledger = Ledger::new(now, Duration::from_secs(3600));
        ledger.take(&cost(1, 1, 40_000_000_000_000), 1, now).unwrap();
        let more = cost(2, 1, 20_000_000_000_000);
        assert!(matches!(ledger.take(&more, 1, now), Err(OverLimit::SinceKnown { what: "bytes", .. })));
    }

    #[test]
    fn an_honest_node_delivers_a_whole_day_after_an_outage() {
        let now = Instant::now();
        let mut ledger = Ledger::new(now, MAX_KNOWN);
        for minute in 0..24 * 60 {
            // 50,000 requests per second and worker, each with a retry, all day.
            ledger.take(&cost(minute, 4 * 60 * 100_000, 1 << 30), 4, now).unwrap();
        }
        assert!(ledger.minutes.len() <= MINUTES);
    }
}
