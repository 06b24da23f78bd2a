//! The live tail of requests. Filters are applied here, so that only matching requests leave the node.
//!
//! While nothing is watched, a request costs one check of a flag. Otherwise it keeps its labels and is offered to the
//! watchers when it ends. Events that do not fit into the queue are counted and dropped: watching never slows down
//! traffic.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use tokio::{sync::mpsc, time::Instant};
use weir_proto::v1;
use weir_snapshot::visible_bytes;

use super::{
    outcome::{Cut, StreamKind},
    recorder::Sample,
};

/// Events on their way to the control thread.
const QUEUE: usize = 4_096;
/// Events of one message: even with the longest texts they are fewer bytes than a message may have.
const AT_ONCE: usize = 512;
/// Between two messages: a node that says too much has its stream ended, however many watch it.
const PAUSE: Duration = Duration::from_millis(20);
/// The most of a path that is shown.
const MAX_PATH: usize = 2_048;
/// The most of a host.
const MAX_HOST: usize = 256;
/// The most of a method.
const MAX_METHOD: usize = 64;

/// The labels of a watched request, kept while it runs.
#[derive(Debug)]
pub(crate) struct Seen {
    method: Box<[u8]>,
    host: Box<[u8]>,
    path: Box<[u8]>,
    client: Box<str>,
}

impl Seen {
    pub(crate) fn new(method: &[u8], host: &[u8], path: &[u8], client: &str) -> Box<Self> {
        Box::new(Self {
            method: begin(method, MAX_METHOD).into(),
            host: begin(host, MAX_HOST).into(),
            path: begin(path, MAX_PATH).into(),
            client: client.into(),
        })
    }
}

/// At most so much of what a client wrote.
fn begin(text: &[u8], most: usize) -> &[u8] {
    text.get(..most).unwrap_or(text)
}

/// Where workers leave what is watched. One for the node.
pub(crate) struct Tap {
    on: AtomicBool,
    filters: ArcSwap<Vec<Filter>>,
    queue: mpsc::Sender<v1::TailEvent>,
    /// Events that were left out since the start.
    dropped: AtomicU64,
    /// Number of dropped events that were reported to the control plane; only its session changes it.
    reported: AtomicU64,
}

/// Where the control thread takes it.
pub(crate) struct Events {
    queue: mpsc::Receiver<v1::TailEvent>,
    /// When the next may be taken.
    due: Instant,
}

impl Default for Tap {
    /// A tap that is never watched.
    fn default() -> Self {
        Self {
            on: AtomicBool::new(false),
            filters: ArcSwap::default(),
            queue: mpsc::channel(1).0,
            dropped: AtomicU64::new(0),
            reported: AtomicU64::new(0),
        }
    }
}

/// A tap and its end.
pub(crate) fn tap() -> (Arc<Tap>, Events) {
    let (into, queue) = mpsc::channel(QUEUE);
    (Arc::new(Tap { queue: into, ..Tap::default() }), Events { queue, due: Instant::now() })
}

impl Tap {
    /// Whether requests are watched.
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// Sets the filters of the watched requests.
    pub(crate) fn watch(&self, filters: Vec<v1::TailFilter>) {
        let filters: Vec<Filter> = filters.into_iter().map(Filter::new).collect();
        if !self.is_on() {
            // Earlier drops do not concern a new watcher.
            self.mark_reported(self.unreported());
        }
        let on = !filters.is_empty();
        self.filters.store(Arc::new(filters));
        self.on.store(on, Relaxed);
    }

    /// Offers a request that has ended.
    pub(crate) fn offer(&self, seen: &Seen, sample: &Sample<'_>, request_id: impl FnOnce() -> String) {
        let filters = self.filters.load();
        let passed: Vec<u64> = filters
            .iter()
            .filter(|filter| filter.passes(seen, sample))
            .map(|filter| filter.wanted.id)
            .collect();
        if passed.is_empty() {
            return;
        }
        let Ok(permit) = self.queue.try_reserve() else {
            self.dropped.fetch_add(1, Relaxed);
            return;
        };
        // Clients wrote these: nothing in them may steer the terminal that shows them.
        let label = |label: Option<&Arc<str>>| label.map(|label| label.to_string()).unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        permit.send(v1::TailEvent {
            time_ms: u64::try_from(now.as_millis()).unwrap_or_default(),
            node: String::new(),
            client: seen.client.to_string(),
            method: visible_bytes(&seen.method, MAX_METHOD),
            host: visible_bytes(&seen.host, MAX_HOST),
            path: visible_bytes(&seen.path, MAX_PATH),
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
            head_us: micros(sample.head),
            outcome: Cut::outcome(sample.cut).into(),
            kind: StreamKind::kind(sample.streamed).into(),
        });
    }

    /// Events could not be passed on.
    pub(crate) fn lost(&self, events: u64) {
        self.dropped.fetch_add(events, Relaxed);
    }

    /// How many events were left out since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// How many of these the control plane does not know of.
    pub(crate) fn unreported(&self) -> u64 {
        self.dropped().saturating_sub(self.reported.load(Relaxed))
    }

    /// Notes the number of drops that were reported to the control plane.
    pub(crate) fn mark_reported(&self, events: u64) {
        self.reported.fetch_add(events, Relaxed);
    }
}

impl Events {
    /// Waits for events, and takes those that are there, a bounded number a bounded number of times a second.
    pub(crate) async fn next(&mut self) -> Vec<v1::TailEvent> {
        tokio::time::sleep_until(self.due).await;
        let mut events = Vec::new();
        self.queue.recv_many(&mut events, AT_ONCE).await;
        self.due = Instant::now() + PAUSE;
        if events.is_empty() {
            // The tap never goes before its end does; were it so, there would be nothing to come.
            std::future::pending::<()>().await;
        }
        events
    }

    /// Forgets what waits; how many that were.
    pub(crate) fn clear(&mut self) -> u64 {
        let mut forgotten = 0;
        while self.queue.try_recv().is_ok() {
            forgotten += 1;
        }
        forgotten
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
            && (wanted.min_latency_us == 0
                || sample.streamed.is_none() && micros(sample.latency) >= wanted.min_latency_us)
            && (wanted.outcomes.is_empty() || wanted.outcomes.contains(&Cut::outcome(sample.cut).into()))
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
        while let Ok(event) = events.queue.try_recv() {
            passed.push(event.filters);
        }
        assert_eq!(passed, [vec![1, 2], vec![3]]);
        tap.watch(Vec::new());
        assert!(!tap.is_on());
    }

    #[tokio::test]
    async fn however_much_is_watched_the_stream_carries_a_bounded_number_of_messages_of_bounded_size() {
        let (tap, mut events) = tap();
        tap.watch(vec![v1::TailFilter { id: 1, ..Default::default() }]);
        let route: Arc<str> = "api".into();
        let long = [0xff; 4_096];
        let seen = Seen::new(&long, &long, &long, "::1");
        let begun = Instant::now();
        for _ in 0..4 {
            for _ in 0..=AT_ONCE {
                tap.offer(&seen, &sample(&route, 200, 1), || "0123456789abcdef".into());
            }
            let message = v1::TailEvents { events: events.next().await, dropped: 0 };
            assert_eq!(message.events.len(), AT_ONCE);
            assert!(prost::Message::encoded_len(&message) < 4 << 20);
        }
        assert!(begun.elapsed() >= PAUSE * 3, "{:?}", begun.elapsed());
    }

    #[test]
    fn what_a_client_wrote_is_shown_escaped_and_bounded() {
        let (tap, mut events) = tap();
        tap.watch(vec![v1::TailFilter { id: 1, path_prefix: "/\u{202e}".into(), ..Default::default() }]);
        let route: Arc<str> = "api".into();
        let seen = |method: &[u8], host: &[u8], path: &[u8]| {
            tap.offer(&Seen::new(method, host, path, "::1"), &sample(&route, 200, 1), String::new);
        };
        seen(b"G\x1b[2J", "a\u{2066}b".as_bytes(), "/\u{202e}x\u{9b}\r\n".as_bytes());
        seen(&[0x1b; 9_000], &[0xff; 9_000], &["/\u{202e}".as_bytes(), &[b'a'; 9_000]].concat());
        let event = events.queue.try_recv().unwrap();
        assert_eq!(event.method, r"G\u{1b}[2J");
        assert_eq!(event.host, r"a\u{2066}b");
        assert_eq!(event.path, r"/\u{202e}x\u{9b}\u{d}\u{a}", "filters see what was sent");
        let event = events.queue.try_recv().unwrap();
        let lengths =
            [(event.method.len(), MAX_METHOD), (event.host.len(), MAX_HOST), (event.path.len(), MAX_PATH)];
        assert!(lengths.iter().all(|(length, most)| length <= most), "{lengths:?}");
    }

    #[test]
    fn an_outcome_is_a_filter_and_only_answers_have_a_latency() {
        let (tap, mut events) = tap();
        let cut = vec![v1::Outcome::CutByBackend.into(), v1::Outcome::CutByClient.into()];
        tap.watch(vec![
            v1::TailFilter { id: 1, outcomes: cut, ..Default::default() },
            v1::TailFilter { id: 2, min_latency_us: 5_000, ..Default::default() },
        ]);
        let seen = Seen::new(b"GET", b"", b"/", "::1");
        let route: Arc<str> = "api".into();
        for (cut, streamed) in [
            (None, None),
            (Some(Cut::Backend), None),
            (Some(Cut::Node), Some(StreamKind::Events)),
            (Some(Cut::Client), Some(StreamKind::Tunnel)),
            (None, Some(StreamKind::Grpc)),
        ] {
            tap.offer(&seen, &Sample { cut, streamed, ..sample(&route, 200, 9) }, String::new);
        }
        let mut passed = Vec::new();
        while let Ok(event) = events.queue.try_recv() {
            passed.push((event.filters.clone(), event.outcome(), event.kind()));
        }
        let expected = [
            (vec![2], v1::Outcome::Finished, v1::AnswerKind::Answer),
            (vec![1, 2], v1::Outcome::CutByBackend, v1::AnswerKind::Answer),
            (vec![1], v1::Outcome::CutByClient, v1::AnswerKind::Tunnel),
        ];
        assert_eq!(passed, expected);
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let (tap, mut events) = tap();
        tap.watch(vec![v1::TailFilter { id: 1, ..Default::default() }]);
        let route: Arc<str> = "api".into();
        let seen = Seen::new(b"GET", b"", b"/", "::1");
        for _ in 0..QUEUE + 7 {
            tap.offer(&seen, &sample(&route, 200, 1), String::new);
        }
        assert_eq!((tap.dropped(), tap.unreported()), (7, 7));
        tap.mark_reported(7);
        tap.lost(events.clear());
        let all = QUEUE as u64 + 7;
        assert_eq!((tap.dropped(), tap.unreported()), (all, all - 7));
    }
}
