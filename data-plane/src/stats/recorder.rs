//! Counts of one worker: a map that only this worker uses, handed over more than once per second.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::Duration,
};

use hdrhistogram::Histogram;
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;
use weir_snapshot::RefusalReason;

use super::{
    labels::{Hosts, Method},
    outcome::{Cut, Cuts, Durations, StreamKind},
    refusal::Refusals,
    tail::{Seen, Tap},
};

/// One finished request.
#[derive(Default)]
pub(crate) struct Sample<'a> {
    pub(crate) route: Option<&'a Arc<str>>,
    pub(crate) pool: Option<&'a Arc<str>>,
    pub(crate) backend: Option<&'a Arc<str>>,
    pub(crate) status: u16,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) retries: u32,
    pub(crate) latency: Duration,
    pub(crate) method: Method,
    /// One of [`Recorder::describe`]'s.
    pub(crate) host: Option<&'a Arc<str>>,
    /// From a backend's turn to the head of its answer.
    pub(crate) upstream: Option<Duration>,
    /// Why Weir answered it itself, where that is counted.
    pub(crate) refusal: Option<RefusalReason>,
    /// Which side cut its answer; `None`: it was sent to its end.
    pub(crate) cut: Option<Cut>,
    /// It was a tunnel or a stream: `latency` is how long that lasted.
    pub(crate) streamed: Option<StreamKind>,
    /// From the request's head to the head of its answer.
    pub(crate) head: Duration,
}

/// Labels of a request, from its head.
#[derive(Default)]
pub(crate) struct Described {
    pub(crate) method: Method,
    pub(crate) host: Option<Arc<str>>,
    /// Set only while requests are watched.
    pub(crate) seen: Option<Box<Seen>>,
}

/// Counts of requests with the same labels in the same minute.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Minutes since the Unix epoch.
    pub(crate) minute: u64,
    pub(crate) route: Option<Arc<str>>,
    pub(crate) pool: Option<Arc<str>>,
    pub(crate) backend: Option<Arc<str>>,
    pub(crate) method: Method,
    pub(crate) status: u16,
    /// A row of its own, without other labels but minute and status.
    pub(crate) host: Option<Arc<str>>,
    pub(crate) counts: Counts,
}

/// The counts of a row.
#[derive(Debug, Clone)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) retries: u64,
    /// Microseconds; of answers, not of tunnels and streams.
    pub(crate) latency: Histogram<u64>,
    /// Microseconds, exact.
    pub(crate) latency_max: u64,
    /// Latency in microseconds of requests that a backend answered; `None` without such requests.
    pub(crate) upstream: Option<Histogram<u64>>,
    pub(crate) upstream_max: u64,
    pub(crate) refused: Refusals,
    pub(crate) cut: Cuts,
    pub(crate) streams: Durations,
}

impl Counts {
    pub(crate) fn new() -> Self {
        Self {
            requests: 0,
            bytes_in: 0,
            bytes_out: 0,
            retries: 0,
            latency: histogram(),
            latency_max: 0,
            upstream: None,
            upstream_max: 0,
            refused: Refusals::default(),
            cut: Cuts::default(),
            streams: Durations::default(),
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.retries += other.retries;
        self.latency_max = self.latency_max.max(other.latency_max);
        // Both resize themselves, so that adding cannot fail.
        let _ = self.latency.add(&other.latency);
        self.upstream_max = self.upstream_max.max(other.upstream_max);
        self.refused.merge(&other.refused);
        self.cut.merge(&other.cut);
        self.streams.merge(&other.streams);
        match (&mut self.upstream, &other.upstream) {
            (Some(upstream), Some(other)) => drop(upstream.add(other)),
            (upstream @ None, Some(other)) => *upstream = Some(other.clone()),
            (_, None) => {}
        }
    }

    fn add(&mut self, sample: &Sample<'_>) {
        self.requests += 1;
        self.bytes_in += sample.bytes_in;
        self.bytes_out += sample.bytes_out;
        self.retries += u64::from(sample.retries);
        if sample.streamed.is_none() {
            let latency = micros(sample.latency);
            self.latency_max = self.latency_max.max(latency);
            // The histogram resizes itself; the value is bounded.
            let _ = self.latency.record(latency);
        } else {
            self.streams.record(micros(sample.latency));
        }
        if let Some(upstream) = sample.upstream.map(micros) {
            self.upstream_max = self.upstream_max.max(upstream);
            let _ = self.upstream.get_or_insert_with(histogram).record(upstream);
        }
        if let Some(refusal) = sample.refusal {
            self.refused.count(refusal);
        }
        if let Some(cut) = sample.cut {
            self.cut.count(cut);
        }
    }
}

/// Two significant digits keep the error below 1 %; it grows to what is recorded.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new(2).unwrap_or_else(|_| unreachable!("two significant digits are valid"))
}

/// Labels by the address of their text, which the row's own reference keeps from being used again.
#[derive(PartialEq, Eq, Hash, Clone, Copy)]
struct Key {
    minute: u64,
    route: usize,
    pool: usize,
    backend: usize,
    host: usize,
    method: Method,
    status: u16,
}

/// Longest recorded duration: a year. Tunnels can last for weeks.
const MAX_MICROS: u64 = 365 * 24 * 3_600 * 1_000_000;

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).clamp(1, MAX_MICROS)
}

/// A worker's counts. Used from its thread only, never across an await.
pub(crate) struct Recorder {
    minute: Cell<u64>,
    rows: RefCell<FxHashMap<Key, Row>>,
    hosts: RefCell<Hosts>,
    tap: Arc<Tap>,
    out: mpsc::Sender<Vec<Row>>,
}

/// A recorder that hands its rows to `out`, and offers requests to whoever watches.
pub(crate) fn recorder(out: mpsc::Sender<Vec<Row>>, tap: Arc<Tap>) -> Recorder {
    Recorder { minute: Cell::new(0), rows: RefCell::default(), hosts: RefCell::default(), tap, out }
}

fn address(label: Option<&Arc<str>>) -> usize {
    label.map_or(0, |text| Arc::as_ptr(text).cast::<u8>() as usize)
}

impl Recorder {
    /// The minute to which requests that end now belong.
    pub(crate) fn set_minute(&self, minute: u64) {
        if self.minute.replace(minute) != minute {
            self.hosts.borrow_mut().next_minute();
        }
    }

    /// The labels of a request.
    pub(crate) fn describe(
        &self,
        method: &[u8],
        authority: Option<&[u8]>,
        path: &[u8],
        client: &str,
    ) -> Described {
        let host = authority.unwrap_or_default();
        let seen = if self.tap.is_on() { Some(Seen::new(method, host, path, client)) } else { None };
        Described { method: Method::of(method), host: Some(self.hosts.borrow_mut().name(host)), seen }
    }

    /// Offers a request to the live tail, if it was watched.
    pub(crate) fn offer(&self, seen: &Seen, sample: &Sample<'_>, request_id: impl FnOnce() -> String) {
        self.tap.offer(seen, sample, request_id);
    }

    /// Counts one request.
    pub(crate) fn record(&self, sample: &Sample<'_>) {
        let minute = self.minute.get();
        let mut rows = self.rows.borrow_mut();
        let key = Key {
            minute,
            route: address(sample.route),
            pool: address(sample.pool),
            backend: address(sample.backend),
            host: 0,
            method: sample.method,
            status: sample.status,
        };
        add(&mut rows, key, sample, || Row {
            minute,
            route: sample.route.cloned(),
            pool: sample.pool.cloned(),
            backend: sample.backend.cloned(),
            method: sample.method,
            status: sample.status,
            host: None,
            counts: Counts::new(),
        });
        if let Some(host) = sample.host {
            let (route, pool, backend, method) = (0, 0, 0, Method::Other);
            let key = Key {
                minute,
                route,
                pool,
                backend,
                host: address(Some(host)),
                method,
                status: sample.status,
            };
            add(&mut rows, key, sample, || Row {
                minute,
                route: None,
                pool: None,
                backend: None,
                method,
                status: sample.status,
                host: Some(Arc::clone(host)),
                counts: Counts::new(),
            });
        }
    }

    /// Hands over what was counted; when the node is behind, it stays here and goes with the next.
    pub(crate) fn flush(&self) {
        let mut rows = self.rows.borrow_mut();
        if rows.is_empty() {
            return;
        }
        if let Ok(permit) = self.out.try_reserve() {
            permit.send(rows.drain().map(|(_, row)| row).collect());
        }
    }
}

fn add(rows: &mut FxHashMap<Key, Row>, key: Key, sample: &Sample<'_>, row: impl FnOnce() -> Row) {
    rows.entry(key).or_insert_with(row).counts.add(sample);
}

/// Hands over the last counts, also of requests that were cut when the worker ended.
impl Drop for Recorder {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(backend: &Arc<str>, status: u16, ms: u64) -> Sample<'_> {
        Sample {
            route: None,
            pool: None,
            backend: Some(backend),
            status,
            bytes_in: 1,
            bytes_out: 10,
            retries: 0,
            latency: Duration::from_millis(ms),
            ..Sample::default()
        }
    }

    #[test]
    fn requests_are_counted_by_label_and_minute_and_nothing_is_lost_when_the_node_is_behind() {
        let (send, mut receive) = mpsc::channel(1);
        let recorder = recorder(send, Arc::default());
        let (a, b): (Arc<str>, Arc<str>) = ("b1".into(), "b2".into());
        recorder.record(&sample(&a, 200, 1));
        recorder.flush();
        for minute in [1, 2] {
            recorder.set_minute(minute);
            recorder.record(&sample(&a, 200, 5));
            recorder.record(&sample(&a, 200, 7));
            recorder.record(&sample(&b, 500, 9));
            recorder.flush();
        }
        assert_eq!(receive.try_recv().unwrap().len(), 1);
        recorder.flush();
        let rows = receive.try_recv().unwrap();
        assert_eq!(rows.len(), 4);
        assert_eq!(rows.iter().map(|row| row.counts.requests).sum::<u64>(), 6);
        assert!(rows.iter().all(|row| row.counts.requests == row.counts.latency.len()));
        assert!(rows.iter().all(|row| row.counts.latency_max >= 7_000));
    }
}
