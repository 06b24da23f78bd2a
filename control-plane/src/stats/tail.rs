//! The live stream of requests: its watchers, and the filters that each node needs.
//!
//! The nodes apply the filters. Here each watcher has a number and a bounded queue. A watcher that does not keep up
//! loses events, receives the number of lost events, and delays no other watcher. Nodes learn the filters of all
//! watchers over a watch channel. Without watchers they receive no filters and send no events.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::{Notify, mpsc, watch};
use weir_proto::v1;
use weir_snapshot::{BackendUrl, Problems, units::HumanDuration, visible};

use super::{batch::MAX_LABEL, names, query::ReportError};
use crate::store::{Store, stats::Dimension};

/// The most events queued for one watcher.
const QUEUE: usize = 2_048;
/// Outcomes by their names.
const OUTCOMES: [(&str, v1::Outcome); 4] = [
    ("finished", v1::Outcome::Finished),
    ("cut_by_client", v1::Outcome::CutByClient),
    ("cut_by_backend", v1::Outcome::CutByBackend),
    ("cut_by_node", v1::Outcome::CutByNode),
];

/// The most concurrent watchers.
const MAX_WATCHERS: usize = 64;

/// The filter of a watcher; an absent field matches every request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TailQuery {
    /// Only this route.
    pub route: Option<String>,
    /// Only this pool.
    pub pool: Option<String>,
    /// Only this backend, by id or by URL.
    pub backend: Option<String>,
    /// Only this host.
    pub host: Option<String>,
    /// Only this method.
    pub method: Option<String>,
    /// Only paths with this prefix.
    pub path: Option<String>,
    /// `404`, `5xx` or `400-499`.
    pub status: Option<String>,
    /// Only requests that took at least this long, such as `200ms`.
    pub min_latency: Option<String>,
    /// An address, or a network as ADDRESS/BITS.
    pub client: Option<String>,
    /// `finished`, `cut`, `cut_by_client`, `cut_by_backend` or `cut_by_node`.
    pub outcome: Option<String>,
}

/// All watchers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    watchers: Mutex<BTreeMap<u64, Watcher>>,
    next: AtomicU64,
    /// Events dropped for some watcher since the start.
    dropped: AtomicU64,
    filters: watch::Sender<Arc<Vec<v1::TailFilter>>>,
}

#[derive(Debug)]
struct Watcher {
    filter: v1::TailFilter,
    queue: mpsc::Sender<v1::TailEvent>,
    dropped: Arc<Dropped>,
}

/// Events dropped for one watcher and not yet reported to it.
#[derive(Debug, Default)]
struct Dropped {
    events: AtomicU64,
    /// Notified when events were dropped, since no further event may follow.
    more: Notify,
}

impl Dropped {
    fn add(&self, events: u64) {
        self.events.fetch_add(events, Relaxed);
        self.more.notify_one();
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            watchers: Mutex::default(),
            next: AtomicU64::new(1),
            dropped: AtomicU64::new(0),
            filters: watch::Sender::new(Arc::default()),
        }
    }
}

/// One watcher; dropping it ends the watching.
#[derive(Debug)]
pub struct Watching {
    id: u64,
    events: mpsc::Receiver<v1::TailEvent>,
    dropped: Arc<Dropped>,
    tail: Tail,
}

impl Tail {
    /// The filters of all watchers, with notification of each change.
    pub fn filters(&self) -> watch::Receiver<Arc<Vec<v1::TailFilter>>> {
        self.shared.filters.subscribe()
    }

    /// The number of watchers.
    pub(crate) fn watchers(&self) -> usize {
        self.shared.watchers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Events dropped since the start, by nodes or because a watcher did not keep up.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Relaxed)
    }

    /// Distributes the events that a node sent to their watchers.
    pub(crate) fn take(&self, node: &str, seen: v1::TailEvents) {
        let watchers = self.shared.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.dropped.fetch_add(seen.dropped, Relaxed);
        for watcher in watchers.values().filter(|_| seen.dropped > 0) {
            watcher.dropped.add(seen.dropped);
        }
        for mut event in seen.events {
            let passed = std::mem::take(&mut event.filters);
            node.clone_into(&mut event.node);
            tame(&mut event);
            for watcher in passed.iter().filter_map(|id| watchers.get(id)) {
                if watcher.queue.try_send(event.clone()).is_err() {
                    watcher.dropped.add(1);
                    self.shared.dropped.fetch_add(1, Relaxed);
                }
            }
        }
    }

    /// Adds a watcher.
    pub(super) async fn watch(&self, store: &Store, query: &TailQuery) -> Result<Watching, ReportError> {
        let filter = read(store, query).await?;
        let id = self.shared.next.fetch_add(1, Relaxed);
        let (queue, events) = mpsc::channel(QUEUE);
        let dropped = Arc::<Dropped>::default();
        {
            let mut watchers = self.shared.watchers.lock().unwrap_or_else(PoisonError::into_inner);
            if watchers.len() >= MAX_WATCHERS {
                return Err(ReportError::invalid("", format!("{MAX_WATCHERS} others watch already")));
            }
            let filter = v1::TailFilter { id, ..filter };
            watchers.insert(id, Watcher { filter, queue, dropped: Arc::clone(&dropped) });
        }
        self.tell();
        Ok(Watching { id, events, dropped, tail: self.clone() })
    }

    fn tell(&self) {
        let watchers = self.shared.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        let filters = watchers.values().map(|watcher| watcher.filter.clone()).collect();
        self.shared.filters.send_replace(Arc::new(filters));
    }
}

impl Watching {
    /// Waits for events. Returns a batch of them, and the number of events dropped since the last call.
    pub async fn next(&mut self) -> (Vec<v1::TailEvent>, u64) {
        let mut events = Vec::new();
        loop {
            tokio::select! {
                biased;
                _ = self.events.recv_many(&mut events, 256) => {}
                () = self.dropped.more.notified() => {}
            }
            let dropped = self.dropped.events.swap(0, Relaxed);
            if !events.is_empty() || dropped > 0 {
                return (events, dropped);
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.tail.shared.watchers.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        self.tail.tell();
    }
}

async fn read(store: &Store, query: &TailQuery) -> Result<v1::TailFilter, ReportError> {
    let mut problems = Problems::default();
    let given = |value: &Option<String>| value.clone().unwrap_or_default();
    let backends = match given(&query.backend) {
        none if none.is_empty() => Vec::new(),
        url if url.contains("://") => {
            let canonical = url.parse::<BackendUrl>().map_or(url.clone(), |url| url.to_string());
            let ids = store.backends_by_url(&canonical).await?;
            if ids.is_empty() {
                problems.add("backend", format!("no backend has or had the URL {url:?}"));
            }
            ids
        }
        id => vec![id],
    };
    let (status_from, status_to) = match given(&query.status) {
        none if none.is_empty() => (0, 0),
        text => status(&text).unwrap_or_else(|| {
            problems.add("status", format!("{text:?} is not a status (write 404, 5xx or 400-499)"));
            (0, 0)
        }),
    };
    let min_latency_us = match given(&query.min_latency) {
        none if none.is_empty() => 0,
        text => match text.parse::<HumanDuration>() {
            Ok(latency) => u64::try_from(latency.0.as_micros()).unwrap_or(u64::MAX),
            Err(error) => {
                problems.add("min_latency", error.to_string());
                0
            }
        },
    };
    let outcomes = match given(&query.outcome) {
        none if none.is_empty() => Vec::new(),
        text => outcomes(&text).unwrap_or_else(|| {
            let known = "finished, cut, cut_by_client, cut_by_backend, cut_by_node";
            problems.add("outcome", format!("{text:?} is not one of {known}"));
            Vec::new()
        }),
    };
    let client = given(&query.client);
    if !client.is_empty() && !is_network(&client) {
        problems.add("client", format!("{client:?} is not an address or a network (write 10.0.0.0/8)"));
    }
    let path = given(&query.path);
    if !path.is_empty() && !path.starts_with('/') {
        problems.add("path", format!("{path:?} begins no path (write /{path})"));
    }
    let method = given(&query.method);
    if !method.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        problems.add("method", format!("{method:?} is not a method"));
    }
    let filter = v1::TailFilter {
        id: 0,
        route: given(&query.route),
        pool: given(&query.pool),
        backends,
        host: given(&query.host).to_ascii_lowercase(),
        method: method.to_ascii_uppercase(),
        path_prefix: path,
        status_from,
        status_to,
        min_latency_us,
        client,
        outcomes,
    };
    for (name, dimension) in [(&filter.route, Dimension::Route), (&filter.pool, Dimension::Pool)] {
        names::check(store, &mut problems, dimension, name).await?;
    }
    if let Some(id) = query.backend.as_deref().filter(|id| !id.contains("://")) {
        names::check(store, &mut problems, Dimension::Backend, id).await?;
    }
    problems.into_result(filter).map_err(ReportError::Invalid)
}

/// Sanitizes an event. A node may be an earlier version, or not what it claims to be: no text in an event may control
/// the terminal or page that shows it, or be longer than its field needs.
fn tame(event: &mut v1::TailEvent) {
    for (text, most) in [
        (&mut event.client, 64),
        (&mut event.method, 64),
        (&mut event.host, 256),
        (&mut event.path, 2_048),
        (&mut event.route, MAX_LABEL),
        (&mut event.pool, MAX_LABEL),
        (&mut event.backend, MAX_LABEL),
        (&mut event.request_id, 128),
    ] {
        if let Cow::Owned(shown) = visible(text, most) {
            *text = shown;
        }
    }
}

/// The outcomes that the text of a filter names.
fn outcomes(text: &str) -> Option<Vec<i32>> {
    use v1::Outcome::{CutByBackend, CutByClient, CutByNode};
    let mut all = Vec::new();
    for text in text.split(',') {
        if text == "cut" {
            all.extend([CutByClient, CutByBackend, CutByNode].map(i32::from));
        } else {
            let (_, outcome) = OUTCOMES.iter().find(|(name, _)| *name == text)?;
            all.push(i32::from(*outcome));
        }
    }
    Some(all)
}

fn status(text: &str) -> Option<(u32, u32)> {
    let one = |text: &str| text.parse().ok().filter(|status| (100..=599).contains(status));
    if let Some(class) = text.strip_suffix("xx") {
        let class: u32 = class.parse().ok().filter(|class| (1..=5).contains(class))?;
        return Some((class * 100, class * 100 + 99));
    }
    match text.split_once('-') {
        Some((from, to)) => Some((one(from)?, one(to)?)).filter(|(from, to)| from <= to),
        None => one(text).map(|status| (status, status)),
    }
}

fn is_network(text: &str) -> bool {
    let (address, bits) = text.split_once('/').unwrap_or((text, "0"));
    let most = match address.parse::<std::net::IpAddr>() {
        Ok(address) if address.is_ipv4() => 32,
        Ok(_) => 128,
        Err(_) => return false,
    };
    bits.parse::<u32>().is_ok_and(|bits| bits <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_a_class_or_a_range() {
        assert_eq!(status("404"), Some((404, 404)));
        assert_eq!(status("5xx"), Some((500, 599)));
        assert_eq!(status("400-403"), Some((400, 403)));
        for wrong in ["", "6xx", "xx", "99", "500-400", "4x4", "-"] {
            assert_eq!(status(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_outcome_is_one_or_all_that_are_cut() {
        assert_eq!(outcomes("finished"), Some(vec![v1::Outcome::Finished.into()]));
        assert_eq!(outcomes("cut_by_node"), Some(vec![v1::Outcome::CutByNode.into()]));
        assert_eq!(outcomes("cut").unwrap().len(), 3);
        let both = vec![v1::Outcome::Finished.into(), v1::Outcome::CutByNode.into()];
        assert_eq!(outcomes("finished,cut_by_node"), Some(both));
        assert_eq!(outcomes("finished,"), None);
        assert!(["", "cut_by", "CUT", "200"].iter().all(|text| outcomes(text).is_none()));
    }

    #[test]
    fn what_a_node_says_of_a_request_is_escaped_and_bounded() {
        let text = "\x1b]0;x\x07\u{202e}".repeat(10_000);
        let mut event = v1::TailEvent {
            client: text.clone(),
            method: text.clone(),
            host: text.clone(),
            path: text.clone(),
            route: text.clone(),
            pool: text.clone(),
            backend: text.clone(),
            request_id: text,
            ..Default::default()
        };
        tame(&mut event);
        let v1::TailEvent { client, method, host, path, route, pool, backend, request_id, .. } = event;
        for (text, most) in [
            (client, 64),
            (method, 64),
            (host, 256),
            (path, 2_048),
            (route, MAX_LABEL),
            (pool, MAX_LABEL),
            (backend, MAX_LABEL),
            (request_id, 128),
        ] {
            assert!(text.len() <= most && weir_snapshot::is_visible(&text), "{text:?}");
            assert!(text.starts_with(r"\u{1b}]0;x\u{7}\u{202e}"), "{text:?}");
        }
    }

    #[test]
    fn a_client_is_an_address_or_a_network() {
        assert!(["10.0.0.1", "10.0.0.0/8", "::1", "fd00::/8"].iter().all(|text| is_network(text)));
        assert!(!["10.0.0.0/33", "host", "10.0.0.0/", ""].iter().any(|text| is_network(text)));
    }
}
