//! Counts of one worker: a map that nobody else touches, handed over each second.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::Duration,
};

use hdrhistogram::Histogram;
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

/// One finished request.
pub(crate) struct Sample<'a> {
    pub(crate) route: Option<&'a Arc<str>>,
    pub(crate) pool: Option<&'a Arc<str>>,
    pub(crate) backend: Option<&'a Arc<str>>,
    pub(crate) status: u16,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) retries: u32,
    pub(crate) latency: Duration,
}

/// What was counted under the same labels in the same minute.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Minutes since the Unix epoch.
    pub(crate) minute: u64,
    pub(crate) route: Option<Arc<str>>,
    pub(crate) pool: Option<Arc<str>>,
    pub(crate) backend: Option<Arc<str>>,
    pub(crate) status: u16,
    pub(crate) counts: Counts,
}

/// The counts of a row.
#[derive(Debug, Clone)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) retries: u64,
    /// Microseconds.
    pub(crate) latency: Histogram<u64>,
    /// Microseconds, exact.
    pub(crate) latency_max: u64,
}

impl Counts {
    pub(crate) fn new() -> Option<Self> {
        // Two significant digits keep the error below 1 %; the histogram grows to what is recorded.
        let latency = Histogram::new(2).ok()?;
        Some(Self { requests: 0, bytes_in: 0, bytes_out: 0, retries: 0, latency, latency_max: 0 })
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.retries += other.retries;
        self.latency_max = self.latency_max.max(other.latency_max);
        // Both resize themselves, so that adding cannot fail.
        let _ = self.latency.add(&other.latency);
    }
}

/// Labels by the address of their text, which the row's own reference keeps from being used again.
#[derive(PartialEq, Eq, Hash, Clone, Copy)]
struct Key {
    minute: u64,
    route: usize,
    pool: usize,
    backend: usize,
    status: u16,
}

/// A worker's counts. Used from its thread only, never across an await.
pub(crate) struct Recorder {
    minute: Cell<u64>,
    rows: RefCell<FxHashMap<Key, Row>>,
    out: mpsc::Sender<Vec<Row>>,
}

/// A recorder that hands its rows to `out`.
pub(crate) fn recorder(out: mpsc::Sender<Vec<Row>>) -> Recorder {
    Recorder { minute: Cell::new(0), rows: RefCell::default(), out }
}

fn address(label: Option<&Arc<str>>) -> usize {
    label.map_or(0, |text| Arc::as_ptr(text).cast::<u8>() as usize)
}

impl Recorder {
    /// The minute to which requests that end now belong.
    pub(crate) fn set_minute(&self, minute: u64) {
        self.minute.set(minute);
    }

    /// Counts one request.
    pub(crate) fn record(&self, sample: &Sample<'_>) {
        let minute = self.minute.get();
        let key = Key {
            minute,
            route: address(sample.route),
            pool: address(sample.pool),
            backend: address(sample.backend),
            status: sample.status,
        };
        let mut rows = self.rows.borrow_mut();
        let row = match rows.entry(key) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let Some(counts) = Counts::new() else { return };
                entry.insert(Row {
                    minute,
                    route: sample.route.cloned(),
                    pool: sample.pool.cloned(),
                    backend: sample.backend.cloned(),
                    status: sample.status,
                    counts,
                })
            }
        };
        let latency = u64::try_from(sample.latency.as_micros()).unwrap_or(u64::MAX).clamp(1, 1 << 40);
        let counts = &mut row.counts;
        counts.requests += 1;
        counts.bytes_in += sample.bytes_in;
        counts.bytes_out += sample.bytes_out;
        counts.retries += u64::from(sample.retries);
        counts.latency_max = counts.latency_max.max(latency);
        // The histogram resizes itself; the value is bounded above.
        let _ = counts.latency.record(latency);
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

/// What a worker counted last, also of requests that were cut as it ended.
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
        }
    }

    #[test]
    fn requests_are_counted_by_label_and_minute_and_nothing_is_lost_when_the_node_is_behind() {
        let (send, mut receive) = mpsc::channel(1);
        let recorder = recorder(send);
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
