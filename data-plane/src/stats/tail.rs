//! Requests for whoever watches them live. Filters are tried here, so that what nobody asked for never leaves the node.
//!
//! While nobody watches, a request costs one look at a flag. While somebody does, a request remembers what it was about
//! and is offered when it ends; what does not fit on the way is counted and left out: watching never slows traffic.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::sync::mpsc;
use weir_proto::v1;

use super::recorder::Sample;

/// Events on their way to the control thread.
const QUEUE: usize = 4_096;
/// The most of a path that is shown.
const MAX_PATH: usize = 2_048;

/// What a request was about, kept while it runs and is watched.
#[derive(Debug)]
pub(crate) struct Seen {
    method: Box<[u8]>,
    host: Box<[u8]>,
    path: Box<[u8]>,
    client: Box<str>,
}

impl Seen {
    pub(crate) fn new(method: &[u8], host: &[u8], path: &[u8], client: &str) -> Box<Self> {
        let path = path.get(..MAX_PATH).unwrap_or(path);
        Box::new(Self { method: method.into(), host: host.into(), path: path.into(), client: client.into() })
    }
}

/// Where workers leave what is watched. One for the node.
pub(crate) struct Tap {
    on: AtomicBool,
    filters: Mutex<Arc<[Filter]>>,
    queue: mpsc::Sender<v1::TailEvent>,
    dropped: AtomicU64,
}

/// Where the control thread takes it.
pub(crate) struct Events(mpsc::Receiver<v1::TailEvent>);

impl Default for Tap {
    /// One that nobody ever watches.
    fn default() -> Self {
        Self {
            on: AtomicBool::new(false),
            filters: Mutex::new(Arc::from([])),
            queue: mpsc::channel(1).0,
            dropped: AtomicU64::new(0),
        }
    }
}

/// A tap and its end.
pub(crate) fn tap() -> (Arc<Tap>, Events) {
    let (queue, events) = mpsc::channel(QUEUE);
    (Arc::new(Tap { queue, ..Tap::default() }), Events(events))
}

impl Tap {
    /// Whether somebody watches.
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// What is watched from now on.
    pub(crate) fn watch(&self, filters: Vec<v1::TailFilter>) {
        let filters: Arc<[Filter]> = filters.into_iter().map(Filter::new).collect();
        self.on.store(!filters.is_empty(), Relaxed);
        *self.filters.lock().unwrap_or_else(PoisonError::into_inner) = filters;
    }

    /// Offers a request that has ended.
    pub(crate) fn offer(&self, seen: &Seen, sample: &Sample<'_>, request_id: impl FnOnce() -> String) {
        let filters = Arc::clone(&self.filters.lock().unwrap_or_else(PoisonError::into_inner));
        let passed: Vec<u64> = filters
            .iter()
            .filter(|filter| filter.passes(seen, sample))
            .map(|filter| filter.wanted.id)
            .collect();
        if passed.is_empty() {
            return;
        }
        let Ok(place) = self.queue.try_reserve() else {
            self.dropped.fetch_add(1, Relaxed);
            return;
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let label = |label: Option<&Arc<str>>| label.map(|label| label.to_string()).unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        place.send(v1::TailEvent {
            time_ms: u64::try_from(now.as_millis()).unwrap_or_default(),
            node: String::new(),
            client: seen.client.to_string(),
            method: text(&seen.method),
            host: text(&seen.host),
            path: text(&seen.path),
            route: label(sample.route),
            pool: label(sample.pool),
            backend: label(sample.backend),
            status: u32::from(sample.status),
            latency_us: micros(sample.latency),
            upstream_us: sample.upstream.map_or(0, |upstream| micros(upstream).max(1)),
            bytes_in: sample.bytes_in,
            bytes_out: sample.bytes_out,
            retries: sample.retries,
            request_id: request_id(),
            filters: passed,
        });
    }

    /// Events could not be passed on.
    pub(crate) fn lost(&self, events: u64) {
        self.dropped.fetch_add(events, Relaxed);
    }

    /// How many events were left out since this was asked last.
    pub(crate) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Relaxed)
    }
}

impl Events {
    /// Waits for events, and takes those that are there, a bounded number.
    pub(crate) async fn next(&mut self) -> Vec<v1::TailEvent> {
        let mut events = Vec::new();
        self.0.recv_many(&mut events, 256).await;
        if events.is_empty() {
            // The tap never goes before its end does; were it so, there would be nothing to come.
            std::future::pending::<()>().await;
        }
        events
    }

    /// Forgets what waits.
    pub(crate) fn clear(&mut self) {
        while self.0.try_recv().is_ok() {}
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

struct Filter {
    wanted: v1::TailFilter,
    client: Option<Network>,
}

impl Filter {
    fn new(wanted: v1::TailFilter) -> Self {
        let client = Network::parse(&wanted.client);
        Self { wanted, client }
    }

    fn passes(&self, seen: &Seen, sample: &Sample<'_>) -> bool {
        let wanted = &self.wanted;
        let label =
            |wanted: &str, is: Option<&Arc<str>>| wanted.is_empty() || is.is_some_and(|is| **is == *wanted);
        let text = |wanted: &str, is: &[u8]| wanted.is_empty() || wanted.as_bytes().eq_ignore_ascii_case(is);
        let status = u32::from(sample.status);
        let backend = |backend: &Arc<str>| wanted.backends.iter().any(|wanted| wanted.as_str() == &**backend);
        (wanted.status_to == 0 || (wanted.status_from..=wanted.status_to).contains(&status))
            && micros(sample.latency) >= wanted.min_latency_us
            && label(&wanted.route, sample.route)
            && label(&wanted.pool, sample.pool)
            && label(&wanted.host, sample.host)
            && (wanted.backends.is_empty() || sample.backend.is_some_and(backend))
            && text(&wanted.method, &seen.method)
            && seen.path.starts_with(wanted.path_prefix.as_bytes())
            && (wanted.client.is_empty() || self.is_client(&seen.client))
    }

    fn is_client(&self, client: &str) -> bool {
        let Some(network) = &self.client else { return false };
        client.parse().is_ok_and(|client| network.contains(client))
    }
}

/// Addresses that begin with the same bits.
struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = bits.unwrap_or(if address.is_ipv4() { 32 } else { 128 });
        Some(Self { address, bits })
    }

    fn contains(&self, client: IpAddr) -> bool {
        match (self.address, client.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(client)) => {
                (own.to_bits() ^ client.to_bits()).leading_zeros() >= self.bits
            }
            (IpAddr::V6(own), IpAddr::V6(client)) => {
                (own.to_bits() ^ client.to_bits()).leading_zeros() >= self.bits
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample<'a>(route: &'a Arc<str>, status: u16, ms: u64) -> Sample<'a> {
        Sample { route: Some(route), status, latency: Duration::from_millis(ms), ..Sample::default() }
    }

    #[test]
    fn only_what_passes_a_filter_is_taken_and_names_the_filters() {
        let (tap, mut events) = tap();
        assert!(!tap.is_on());
        tap.watch(vec![
            v1::TailFilter { id: 1, status_from: 500, status_to: 599, ..Default::default() },
            v1::TailFilter { id: 2, route: "api".into(), min_latency_us: 5_000, ..Default::default() },
            v1::TailFilter {
                id: 3,
                client: "10.1.0.0/16".into(),
                path_prefix: "/x".into(),
                ..Default::default()
            },
        ]);
        assert!(tap.is_on());
        let seen = |path: &str, client| Seen::new(b"GET", b"a.example", path.as_bytes(), client);
        let (api, web): (Arc<str>, Arc<str>) = ("api".into(), "web".into());
        tap.offer(&seen("/", "10.2.0.1"), &sample(&web, 200, 9), String::new);
        tap.offer(&seen("/", "10.2.0.1"), &sample(&api, 503, 9), String::new);
        tap.offer(&seen("/xy", "10.1.2.3"), &sample(&web, 200, 1), String::new);
        tap.offer(&seen("/y", "10.1.2.3"), &sample(&web, 200, 1), String::new);
        let mut passed = Vec::new();
        while let Ok(event) = events.0.try_recv() {
            passed.push(event.filters);
        }
        assert_eq!(passed, [vec![1, 2], vec![3]]);
        tap.watch(Vec::new());
        assert!(!tap.is_on());
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let (tap, _events) = tap();
        tap.watch(vec![v1::TailFilter { id: 1, ..Default::default() }]);
        let route: Arc<str> = "api".into();
        let seen = Seen::new(b"GET", b"", b"/", "::1");
        for _ in 0..QUEUE + 7 {
            tap.offer(&seen, &sample(&route, 200, 1), String::new);
        }
        assert_eq!((tap.take_dropped(), tap.take_dropped()), (7, 0));
    }
}
