//! Counts that wait for their batch: merged by their labels, minute by minute, within bounds.
//!
//! A minute that is over is packed: while the control plane is away for hours, counts wait as the bytes they will
//! travel as. Hosts have bounds of their own, beyond which they share a name, so that no flood of names costs a count.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
    time::Instant,
};

use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer as _, V2Serializer},
};
use weir_proto::v1::TrafficRow;

use super::{
    labels::{Method, OTHER},
    outcome::{Cuts, Durations},
    recorder::{Counts, Row},
    refusal::Refusals,
};

/// The most rows that are kept while the control plane is away.
pub(super) const MAX_ROWS: usize = 100_000;
/// Hosts that a node tells apart within a minute.
const MAX_HOSTS: usize = 512;
/// The most rows of hosts; beyond them a new one shares its minute's name for all others.
const MAX_HOST_ROWS: usize = 100_000;
/// The most rows in one batch.
pub(super) const BATCH_ROWS: usize = 2_000;
/// The control plane counts nothing older; in minutes.
const MAX_AGE: u64 = 24 * 60;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    route: Option<Arc<str>>,
    pool: Option<Arc<str>>,
    backend: Option<Arc<str>>,
    method: Method,
    status: u16,
}

/// Counts as they are, or as they travel.
enum Kept {
    Live(Box<Counts>),
    Packed(Box<TrafficRow>),
}

/// A minute whose age by the clock and by the monotonic time differ by more than this was counted under a clock that was
/// set since; in minutes.
const CLOCK_STEP: u64 = 5;

struct Minute {
    /// When it began to wait.
    since: Instant,
    rows: BTreeMap<Labels, Kept>,
    hosts: BTreeMap<(Arc<str>, u16), Kept>,
    names: BTreeSet<Arc<str>>,
    packed: bool,
    /// Rows that were counted under another minute, before the clock was set.
    corrected: u64,
}

impl Default for Minute {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            rows: BTreeMap::new(),
            hosts: BTreeMap::new(),
            names: BTreeSet::new(),
            packed: false,
            corrected: 0,
        }
    }
}

/// Counts that wait for their batch.
#[derive(Default)]
pub(super) struct Pending {
    minutes: BTreeMap<u64, Minute>,
    rows: usize,
    hosts: usize,
    /// Rows that were lost to the bounds since the start.
    pub(super) dropped: u64,
}

/// The content of one batch.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) rows: Vec<TrafficRow>,
    pub(super) hosts: Vec<TrafficRow>,
    /// Rows of minutes that were corrected.
    pub(super) corrected: u64,
}

impl Pending {
    pub(super) fn add(&mut self, row: Row) {
        let newest = self.minutes.last_key_value().map_or(0, |(minute, _)| *minute);
        if row.minute > newest {
            for (_, minute) in self.minutes.iter_mut().rev().take_while(|(_, minute)| !minute.packed) {
                minute.pack();
            }
        }
        let Row { minute, route, pool, backend, method, status, host, counts } = row;
        let room = self.hosts < MAX_HOST_ROWS;
        let of_minute = self.minutes.entry(minute).or_default();
        // A late row of an earlier minute is packed with the next.
        of_minute.packed = false;
        let Some(host) = host else {
            let labels = Labels { route, pool, backend, method, status };
            self.rows += usize::from(put(&mut of_minute.rows, labels, counts));
            self.bound();
            return;
        };
        let known = of_minute.names.contains(&host);
        let host = if known || room && of_minute.names.len() < MAX_HOSTS { host } else { OTHER.into() };
        if !known {
            of_minute.names.insert(Arc::clone(&host));
        }
        self.hosts += usize::from(put(&mut of_minute.hosts, (host, status), counts));
    }

    /// The oldest minute goes first.
    fn bound(&mut self) {
        while self.rows > MAX_ROWS {
            let Some(mut oldest) = self.minutes.first_entry() else { return };
            if oldest.get_mut().rows.pop_first().is_some() {
                self.rows -= 1;
                self.dropped += 1;
            }
            if oldest.get().rows.is_empty() {
                self.hosts -= oldest.remove().hosts.len();
            }
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.minutes.is_empty()
    }

    /// Whether the next batch takes all that waits.
    pub(super) fn fits(&self) -> bool {
        self.rows + self.hosts <= BATCH_ROWS
    }

    /// The next batch. Rows that are too old are dropped and counted.
    pub(super) fn take(&mut self, now: u64) -> Taken {
        while let Some(oldest) = self.minutes.first_entry().filter(|minute| minute.key() + MAX_AGE < now) {
            let minute = oldest.remove();
            self.rows -= minute.rows.len();
            self.hosts -= minute.hosts.len();
            self.dropped += minute.rows.len() as u64;
        }
        let mut taken = Taken::default();
        let mut room = BATCH_ROWS;
        while room > 0 {
            let Some(mut oldest) = self.minutes.first_entry() else { break };
            let at = *oldest.key();
            let minute = oldest.get_mut();
            taken.corrected += std::mem::take(&mut minute.corrected);
            while room > 0
                && let Some((labels, kept)) = minute.rows.pop_first()
            {
                (room, self.rows) = (room - 1, self.rows - 1);
                taken.rows.extend(kept.row().map(|row| labels.name(at, row)));
            }
            while room > 0
                && let Some(((host, status), kept)) = minute.hosts.pop_first()
            {
                (room, self.hosts) = (room - 1, self.hosts - 1);
                let (host, status) = (host.to_string(), u32::from(status));
                taken.hosts.extend(kept.row().map(|row| TrafficRow { minute: at, host, status, ..row }));
            }
            if minute.rows.is_empty() && minute.hosts.is_empty() {
                oldest.remove();
            }
        }
        taken
    }
}

impl Pending {
    /// Corrects minutes that were counted before the clock was set: their age by the monotonic time is the true one. So a
    /// clock that was corrected while counts wait makes none of them too old, and none to come.
    pub(super) fn correct(&mut self, now: u64, at: Instant) {
        let true_minute =
            |minute: &Minute| now.saturating_sub(at.duration_since(minute.since).as_secs() / 60);
        let is_off = |(at, minute): &(&u64, &Minute)| at.abs_diff(true_minute(minute)) > CLOCK_STEP;
        let off: Vec<u64> = self.minutes.iter().filter(is_off).map(|(at, _)| *at).collect();
        for wrong in off {
            let Some(mut minute) = self.minutes.remove(&wrong) else { continue };
            tracing::warn!(
                rows = minute.rows.len(),
                "clock changed: the minute of pending counts is corrected"
            );
            minute.corrected += minute.rows.len() as u64;
            let right = true_minute(&minute);
            let Some(there) = self.minutes.get_mut(&right) else {
                self.minutes.insert(right, minute);
                continue;
            };
            there.packed = false;
            there.corrected += minute.corrected;
            // Rows with the same labels are merged.
            self.rows -= merge(&mut there.rows, minute.rows);
            self.hosts -= merge(&mut there.hosts, minute.hosts);
            there.names.extend(minute.names);
        }
    }
}

/// Moves rows to others; how many became one with a row that was there.
fn merge<K: Ord>(to: &mut BTreeMap<K, Kept>, from: BTreeMap<K, Kept>) -> usize {
    let mut joined = 0;
    for (key, kept) in from {
        match to.entry(key) {
            Entry::Vacant(entry) => drop(entry.insert(kept)),
            Entry::Occupied(mut entry) => {
                joined += 1;
                // Rows that this process packed can be unpacked.
                if let (Some(mut sum), Some(counts)) = (entry.get().unpacked(), kept.unpacked()) {
                    sum.merge(&counts);
                    entry.insert(Kept::Live(Box::new(sum)));
                }
            }
        }
    }
    joined
}

/// Adds counts; whether they are a row of their own.
fn put<K: Ord>(rows: &mut BTreeMap<K, Kept>, key: K, counts: Counts) -> bool {
    match rows.get_mut(&key) {
        Some(Kept::Live(sum)) => sum.merge(&counts),
        Some(kept) => {
            if let Some(mut sum) = kept.unpacked() {
                sum.merge(&counts);
                *kept = Kept::Live(Box::new(sum));
            }
        }
        None => {
            rows.insert(key, Kept::Live(Box::new(counts)));
            return true;
        }
    }
    false
}

impl Minute {
    fn pack(&mut self) {
        for kept in self.rows.values_mut().chain(self.hosts.values_mut()) {
            if let Kept::Live(counts) = kept
                && let Some(row) = to_wire(counts)
            {
                *kept = Kept::Packed(Box::new(row));
            }
        }
        self.packed = true;
    }
}

impl Kept {
    fn row(self) -> Option<TrafficRow> {
        match self {
            Self::Live(counts) => to_wire(&counts),
            Self::Packed(row) => Some(*row),
        }
    }

    fn unpacked(&self) -> Option<Counts> {
        let row = match self {
            Self::Live(counts) => return Some((**counts).clone()),
            Self::Packed(row) => row,
        };
        let read = |bytes: &[u8]| -> Option<Histogram<u64>> {
            let mut histogram: Histogram<u64> = Deserializer::new().deserialize(&mut &*bytes).ok()?;
            // One that was read has the size that it was written with.
            histogram.auto(true);
            Some(histogram)
        };
        Some(Counts {
            requests: row.requests,
            bytes_in: row.bytes_in,
            bytes_out: row.bytes_out,
            retries: row.retries,
            latency: read(&row.latency)?,
            latency_max: row.latency_max_us,
            upstream: if row.upstream_latency.is_empty() { None } else { Some(read(&row.upstream_latency)?) },
            upstream_max: row.upstream_max_us,
            refused: Refusals::from_wire(&row.refused)?,
            cut: Cuts::from_wire(row.cut),
            streams: match &row.stream_duration[..] {
                [] => Durations::default(),
                bytes => Durations::new(read(bytes)?, row.stream_max_us),
            },
        })
    }
}

impl Labels {
    fn name(self, minute: u64, row: TrafficRow) -> TrafficRow {
        let text = |label: Option<Arc<str>>| label.map(|text| text.to_string()).unwrap_or_default();
        TrafficRow {
            minute,
            route: text(self.route),
            pool: text(self.pool),
            backend: text(self.backend),
            method: self.method.name().to_owned(),
            status: u32::from(self.status),
            ..row
        }
    }
}

/// The counts without labels.
fn to_wire(counts: &Counts) -> Option<TrafficRow> {
    // Writing to a Vec fails only for a histogram beyond any memory.
    let write = |histogram: &Histogram<u64>| {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(histogram, &mut bytes).ok().map(|_| bytes)
    };
    let streams = counts.streams.get();
    Some(TrafficRow {
        requests: counts.requests,
        bytes_in: counts.bytes_in,
        bytes_out: counts.bytes_out,
        retries: counts.retries,
        latency: write(&counts.latency)?,
        latency_max_us: counts.latency_max,
        upstream_latency: counts.upstream.as_ref().map_or(Some(Vec::new()), write)?,
        upstream_max_us: counts.upstream_max,
        refused: counts.refused.to_wire(),
        cut: counts.cut.to_wire(),
        stream_duration: streams.map_or(Some(Vec::new()), |(histogram, _)| write(histogram))?,
        stream_max_us: streams.map_or(0, |(_, max)| max),
        ..TrafficRow::default()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn row(minute: u64, status: u16, host: Option<&str>) -> Row {
        let mut counts = Counts::new();
        counts.requests = 1;
        counts.latency.record(10).unwrap();
        let (route, pool, backend, method) = (None, None, None, Method::Get);
        Row { minute, route, pool, backend, method, status, host: host.map(Arc::from), counts }
    }

    #[test]
    fn waiting_counts_merge_and_the_oldest_minute_goes_first() {
        let mut pending = Pending::default();
        for _ in 0..5 {
            pending.add(row(7, 200, None));
        }
        assert_eq!(pending.rows, 1);
        for minute in 100..100 + MAX_ROWS as u64 {
            pending.add(row(minute, 200, None));
        }
        assert_eq!((pending.rows, pending.dropped), (MAX_ROWS, 1));
        assert!(pending.minutes.keys().all(|minute| *minute >= 100));
        let batch = pending.take(100);
        assert_eq!(batch.rows.len(), BATCH_ROWS);
        assert_eq!(batch.rows[0].minute, 100);
    }

    #[test]
    fn a_minute_that_was_packed_still_takes_late_counts() {
        let mut pending = Pending::default();
        pending.add(row(7, 200, None));
        pending.add(row(8, 200, None));
        let mut late = row(7, 200, None);
        late.counts.latency = Histogram::new(2).unwrap();
        late.counts.latency.record(1 << 30).unwrap();
        pending.add(late);
        pending.add(row(9, 200, None));
        let taken = pending.take(9);
        let minutes: Vec<(u64, u64)> = taken.rows.iter().map(|row| (row.minute, row.requests)).collect();
        assert_eq!(minutes, [(7, 2), (8, 1), (9, 1)]);
        let read: Histogram<u64> = Deserializer::new().deserialize(&mut &taken.rows[0].latency[..]).unwrap();
        assert_eq!((read.len(), read.value_at_quantile(0.5)), (2, 10));
        assert!(pending.is_empty());
    }

    #[test]
    fn a_million_hosts_are_bounded_and_every_request_is_counted() {
        let mut pending = Pending::default();
        for n in 0..1_000_000u64 {
            pending.add(row(n / 1_000, 200, Some(&format!("{n}.example"))));
        }
        assert!(pending.hosts <= MAX_HOST_ROWS + 1_000, "{}", pending.hosts);
        let mut counted = 0;
        while !pending.is_empty() {
            let taken = pending.take(0);
            counted += taken.hosts.iter().map(|row| row.requests).sum::<u64>();
        }
        assert_eq!((counted, pending.hosts), (1_000_000, 0));
    }

    #[test]
    fn a_clock_that_is_set_while_counts_wait_costs_none_of_them() {
        // They have waited for a minute.
        let at = || Instant::now() + Duration::from_secs(60);
        // From 1970 to now, a day and a half on, half a day back, and an hour back.
        for (counted_at, now_is) in
            [(3, 29_000_000), (29_000_000, 29_002_160), (29_000_000, 28_999_280), (100, 40)]
        {
            let mut pending = Pending::default();
            for (minute, status) in [(counted_at, 200), (counted_at, 404), (counted_at + 1, 200)] {
                pending.add(row(minute, status, None));
                pending.add(row(minute, status, Some("a")));
            }
            // The same labels were counted in a minute after the clock was set.
            pending.add(row(now_is - 1, 200, None));
            pending.correct(now_is, at());
            let taken = pending.take(now_is);
            let requests: u64 = taken.rows.iter().map(|row| row.requests).sum();
            assert_eq!(
                (requests, pending.dropped, pending.rows, pending.hosts),
                (4, 0, 0, 0),
                "{counted_at}"
            );
            assert_eq!(taken.hosts.iter().map(|row| row.requests).sum::<u64>(), 3);
            assert!(taken.rows.iter().chain(&taken.hosts).all(|row| row.minute == now_is - 1), "{taken:?}");
            assert_eq!(taken.corrected, 3);
        }
        // A clock that is only a little off changes nothing.
        let mut pending = Pending::default();
        pending.add(row(100, 200, None));
        pending.correct(101 + CLOCK_STEP, at());
        let taken = pending.take(101 + CLOCK_STEP);
        assert_eq!((taken.rows[0].minute, taken.corrected), (100, 0));
    }

    #[test]
    fn too_old_minutes_go_and_are_counted() {
        let mut pending = Pending::default();
        pending.add(row(7, 200, None));
        pending.add(row(7 + MAX_AGE, 200, Some("a")));
        let taken = pending.take(8 + MAX_AGE);
        assert_eq!((taken.rows.len(), taken.hosts.len(), pending.dropped), (0, 1, 1));
        assert_eq!(Duration::from_secs(60 * MAX_AGE), Duration::from_secs(24 * 60 * 60));
    }
}
