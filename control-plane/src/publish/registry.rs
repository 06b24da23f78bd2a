//! Every node that is known: who is connected, what it runs, and what it does now.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use weir_snapshot::{Problem, Problems};

use super::{
    history::Version,
    work::{BackendSum, Report, Sums},
};
use crate::{store::SeenNode, time::now_ms};

/// A node as it is known now.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Its id.
    pub id: String,
    /// The version of its program.
    pub version: String,
    /// Where it takes traffic.
    pub address: String,
    /// Its worker threads.
    pub workers: u32,
    /// What its operator says of it.
    pub labels: BTreeMap<String, String>,
    /// Whether its stream is open.
    pub connected: bool,
    /// Since when it is connected, or when it was last seen; milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// What it runs.
    pub active_revision: u64,
    /// Open client connections.
    pub connections: u64,
    /// Requests in flight.
    pub active_requests: u64,
    /// Requests answered since it started.
    pub requests: u64,
    /// Statistics rows that it had to drop.
    pub dropped_rows: u64,
    /// Clients of rate limits that it had to forget while they owed something.
    pub forgotten_clients: u64,
    /// What was wrong with the revision that it refused last, until it acknowledges a later one.
    pub rejection: Vec<Problem>,
    /// Which that was; 0: none.
    pub rejected_revision: u64,
    /// What last went wrong between it and this program.
    pub last_error: Option<NodeError>,
    /// How far its clock is ahead of this machine's, as far as can be told; `None` before it said what time it has.
    pub clock_offset_ms: Option<i64>,
}

/// A clock that differs by more than this is warned of: counts of the node go to the wrong minute.
pub const CLOCK_OFF_MS: i64 = 1_000;

impl Node {
    /// Whether its clock differs by more than [`CLOCK_OFF_MS`].
    fn is_clock_off(&self) -> bool {
        self.clock_offset_ms.is_some_and(|ms| ms.abs() > CLOCK_OFF_MS)
    }
}

/// Something went wrong with a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeError {
    /// In words.
    pub text: String,
    /// When, milliseconds since the Unix epoch.
    pub time_ms: i64,
}

/// Everything known under one node id: one stream, or several while processes share the id.
#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    /// Oldest first, and never empty. The last one is shown. Ended streams are removed, except the last one of a node
    /// that is away.
    streams: Vec<NodeStream>,
}

/// One stream of a node, and what its process said over it.
#[derive(Debug, Default)]
struct NodeStream {
    id: u64,
    node: Node,
    /// The process behind the stream.
    boot: String,
    report: Report,
    /// The last clock offsets, newest first.
    clock: VecDeque<i64>,
    rejected: Option<Version>,
    /// Ends the stream.
    stop: CancellationToken,
}

impl Entry {
    /// What is shown of the node.
    fn shown(&self) -> Option<&NodeStream> {
        self.streams.last()
    }

    fn is_connected(&self) -> bool {
        self.streams.iter().any(|stream| stream.node.connected)
    }
}

/// Messages by which a node's clock is judged.
const CLOCK_SAMPLES: usize = 8;

/// Who waits for nodes looks at all of them again after so long at the earliest.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The known nodes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    known: Mutex<Known>,
    changed: watch::Sender<u64>,
    /// How many are connected.
    size: watch::Sender<u32>,
    /// There is something to remember.
    unsaved: Notify,
}

#[derive(Debug, Default)]
struct Known {
    nodes: BTreeMap<String, Entry>,
    sums: Sums,
    /// Nodes that are to be remembered as they are now.
    unsaved: BTreeSet<String>,
    /// The id of the newest stream.
    newest_stream: u64,
}

/// What a node says of itself.
#[derive(Debug, Default)]
pub(super) struct Introduction {
    pub(super) id: String,
    pub(super) boot: String,
    pub(super) version: String,
    pub(super) address: String,
    pub(super) workers: u32,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) active_revision: u64,
}

/// What a node does now.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) connections: u64,
    pub(super) requests: u64,
    pub(super) dropped_rows: u64,
    pub(super) forgotten_clients: u64,
    pub(super) report: Report,
    pub(super) clock_offset_ms: Option<i64>,
}

/// A stream that is a node's now.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) stream: u64,
    /// What this boot of the node refused last.
    pub(super) rejected: Option<Version>,
    /// The same process has opened another stream.
    pub(super) stop: CancellationToken,
}

impl Registry {
    /// The nodes that were seen before this program started.
    pub fn new(seen: Vec<SeenNode>) -> Self {
        let entry = |seen: SeenNode| {
            let SeenNode { id, version, address, labels, active_revision, last_seen_ms } = seen;
            let name = Arc::from(id.as_str());
            let (since_ms, key) = (last_seen_ms, id.clone());
            let node = Node { id, version, address, labels, active_revision, since_ms, ..Node::default() };
            (key, Entry { name, streams: vec![NodeStream { node, ..NodeStream::default() }] })
        };
        let known = Known { nodes: seen.into_iter().map(entry).collect(), ..Known::default() };
        let (changed, size, unsaved) = (watch::Sender::new(0), watch::Sender::new(0), Notify::new());
        Self { shared: Arc::new(Shared { known: Mutex::new(known), changed, size, unsaved }) }
    }

    /// Every node, by id.
    pub fn nodes(&self) -> Vec<Node> {
        self.lock().nodes.values().filter_map(Entry::shown).map(|stream| stream.node.clone()).collect()
    }

    /// What the connected nodes do, added up.
    pub fn sums(&self) -> Sums {
        self.lock().sums.clone()
    }

    /// What the connected nodes do with a backend, added up.
    pub fn sum(&self, backend: &str) -> BackendSum {
        self.lock().sums.backends.get(backend).cloned().unwrap_or_default()
    }

    /// Waits until every connected node runs this revision, or a later one; whether it came to that in time. A node
    /// that refused it ends the waiting at once.
    pub async fn wait_active(&self, revision: u64, within: Duration) -> bool {
        let mut changed = self.shared.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                {
                    let known = self.lock();
                    let nodes =
                        known.nodes.values().flat_map(|entry| &entry.streams).map(|stream| &stream.node);
                    let mut waiting =
                        nodes.filter(|node| node.connected && node.active_revision < revision).peekable();
                    if waiting.peek().is_none() {
                        return true;
                    }
                    if waiting.any(|node| node.rejected_revision >= revision) {
                        return false;
                    }
                }
                if changed.changed().await.is_err() {
                    return false;
                }
                // A thousand nodes answer within the blink of an eye: not each of them is a reason to look.
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(within, wait).await.unwrap_or(false)
    }

    /// Whether a process other than `boot` has an open stream under this id.
    pub fn is_taken(&self, id: &str, boot: &str) -> bool {
        let known = self.lock();
        let streams = known.nodes.get(id).into_iter().flat_map(|entry| &entry.streams);
        streams.into_iter().any(|stream| stream.node.connected && (boot.is_empty() || stream.boot != boot))
    }

    /// Whether a process has an open stream under this id.
    pub(super) fn is_open(&self, id: &str, boot: &str) -> bool {
        let known = self.lock();
        let streams = known.nodes.get(id).into_iter().flat_map(|entry| &entry.streams);
        streams.into_iter().any(|stream| stream.node.connected && stream.boot == boot)
    }

    /// The worker threads that a node said it has.
    pub(super) fn workers(&self, id: &str) -> Option<u32> {
        let known = self.lock();
        known.nodes.get(id)?.streams.iter().map(|stream| stream.node.workers).max()
    }

    /// A node's stream is open. `None`: the id is to be used by one process at a time, and another one has it.
    pub(super) fn connect(&self, node: Introduction, is_exclusive: bool) -> Option<Joined> {
        let mut known = self.lock();
        let Known { nodes, sums, unsaved, newest_stream } = &mut *known;
        *newest_stream += 1;
        let Introduction { id, boot, version, address, workers, labels, active_revision } = node;
        let is_other = |stream: &NodeStream| stream.node.connected && stream.boot != boot;
        if is_exclusive && nodes.get(&id).is_some_and(|entry| entry.streams.iter().any(is_other)) {
            return None;
        }
        let name = Arc::from(id.as_str());
        let entry = nodes.entry(id.clone()).or_insert_with(|| Entry { name, streams: Vec::new() });
        let mut last_error = None;
        if let Some(shown) = entry.shown() {
            sums.remove(&entry.name, &shown.report);
            last_error.clone_from(&shown.node.last_error);
        }
        let same_boot = entry.streams.iter().position(|stream| stream.boot == boot);
        let old = same_boot.map(|at| entry.streams.remove(at)).unwrap_or_default();
        // The same process reconnected before the end of its earlier stream was noticed.
        old.stop.cancel();
        if !old.node.connected {
            self.shared.size.send_modify(|size| *size = size.saturating_add(1));
        }
        entry.streams.retain(|stream| stream.node.connected);
        if !entry.streams.is_empty() {
            let text = "two processes use this node id, or it restarted at once".to_owned();
            tracing::warn!(node = %id, "{text}");
            let error = NodeError { text, time_ms: now_ms() };
            for other in &mut entry.streams {
                other.node.last_error = Some(error.clone());
            }
            last_error = Some(error);
        }
        let (stream, stop) = (*newest_stream, CancellationToken::new());
        let node = Node {
            id: id.clone(),
            version,
            address,
            workers,
            labels,
            active_revision,
            connected: true,
            since_ms: now_ms(),
            last_error,
            ..old.node
        };
        let joined = Joined { stream, rejected: old.rejected, stop: stop.clone() };
        let report = Report::default();
        entry.streams.push(NodeStream { id: stream, node, boot, report, stop, ..old });
        unsaved.insert(id);
        self.shared.unsaved.notify_one();
        self.tell();
        Some(joined)
    }

    /// The stream has ended; why, where something was wrong. The node is away once no stream of it is left.
    pub(super) fn disconnect(&self, id: &str, stream: u64, error: Option<&str>) {
        let mut known = self.lock();
        let Known { nodes, sums, unsaved, .. } = &mut *known;
        let Some(entry) = nodes.get_mut(id) else { return };
        // Absent when the same process has opened another stream meanwhile.
        let Some(at) = entry.streams.iter().position(|one| one.id == stream) else { return };
        let was_shown = at + 1 == entry.streams.len();
        let mut ended = entry.streams.remove(at);
        // Sent while the nodes are locked, so that an older count never comes last.
        self.shared.size.send_modify(|size| *size = size.saturating_sub(1));
        if was_shown {
            sums.remove(&entry.name, &ended.report);
            if let Some(next) = entry.streams.last_mut() {
                sums.add(&entry.name, &mut next.report);
            }
        }
        let error = error.map(|text| NodeError { text: text.to_owned(), time_ms: now_ms() });
        match entry.streams.last_mut() {
            Some(survivor) => survivor.node.last_error = error.or(survivor.node.last_error.take()),
            None => {
                let node = &mut ended.node;
                (node.connected, node.since_ms) = (false, now_ms());
                (node.connections, node.active_requests) = (0, 0);
                node.last_error = error.or(node.last_error.take());
                ended.report = Report::default();
                entry.streams.push(ended);
            }
        }
        unsaved.insert(id.to_owned());
        self.shared.unsaved.notify_one();
        self.tell();
    }

    /// The node does something that it should not; its stream goes on.
    pub(super) fn strange(&self, id: &str, stream: u64, text: String) {
        tracing::warn!(node = id, "{text}");
        self.update(id, stream, |stream| {
            stream.node.last_error = Some(NodeError { text, time_ms: now_ms() });
        });
    }

    pub(super) fn acknowledged(&self, id: &str, stream: u64, revision: u64) {
        self.update(id, stream, |stream| {
            stream.node.active_revision = revision;
            (stream.node.rejection, stream.node.rejected_revision) = (Vec::new(), 0);
        });
    }

    pub(super) fn rejected(&self, id: &str, stream: u64, rejected: Version, problems: Problems) {
        self.update(id, stream, |stream| {
            stream.rejected = Some(rejected);
            (stream.node.rejection, stream.node.rejected_revision) = (problems.0, rejected.revision);
        });
    }

    pub(super) fn load(&self, id: &str, stream: u64, mut load: Load) {
        let mut known = self.lock();
        let Known { nodes, sums, .. } = &mut *known;
        let Some(entry) = nodes.get_mut(id) else { return };
        let Some(at) = entry.streams.iter().position(|one| one.id == stream) else { return };
        let is_shown = at + 1 == entry.streams.len();
        let Some(stream) = entry.streams.get_mut(at) else { return };
        if is_shown {
            sums.remove(&entry.name, &stream.report);
            sums.add(&entry.name, &mut load.report);
        }
        let node = &mut stream.node;
        (node.connections, node.requests) = (load.connections, load.requests);
        (node.dropped_rows, node.active_requests) = (load.dropped_rows, load.report.active());
        node.forgotten_clients = load.forgotten_clients;
        stream.report = load.report;
        let Some(offset) = load.clock_offset_ms else { return };
        let was_off = node.is_clock_off();
        stream.clock.truncate(CLOCK_SAMPLES - 1);
        stream.clock.push_front(offset);
        // A message that took its time makes a clock look late, and none makes it look early.
        node.clock_offset_ms = stream.clock.iter().max().copied();
        if node.is_clock_off() && !was_off {
            tracing::warn!(
                node = id,
                offset_ms = node.clock_offset_ms,
                "the node's clock differs from this machine's"
            );
        }
    }

    /// Waits until there is something to remember.
    pub(super) async fn unsaved(&self) {
        self.shared.unsaved.notified().await;
    }

    /// What is to be remembered since this was asked last.
    pub(super) fn take_unsaved(&self) -> Vec<SeenNode> {
        let mut known = self.lock();
        let names = std::mem::take(&mut known.unsaved);
        let seen = |entry: &Entry| {
            let Node { id, version, address, labels, active_revision, connected, since_ms, .. } =
                entry.shown()?.node.clone();
            let last_seen_ms = if connected { now_ms() } else { since_ms };
            Some(SeenNode { id, version, address, labels, active_revision, last_seen_ms })
        };
        names.iter().filter_map(|name| known.nodes.get(name)).filter_map(seen).collect()
    }

    /// Forgets who has been away for longer than this, and says who that was.
    pub(super) fn forget(&self, away: Duration) -> Vec<String> {
        let away_ms = i64::try_from(away.as_millis()).unwrap_or(i64::MAX);
        let before_ms = now_ms().saturating_sub(away_ms);
        let mut known = self.lock();
        let is_gone = |entry: &Entry| {
            !entry.is_connected() && entry.shown().is_none_or(|stream| stream.node.since_ms < before_ms)
        };
        let gone = known.nodes.extract_if(.., |_, entry| is_gone(entry)).map(|(id, _)| id).collect();
        drop(known);
        self.tell();
        gone
    }

    /// How many nodes are connected, from now on.
    pub(super) fn size(&self) -> watch::Receiver<u32> {
        self.shared.size.subscribe()
    }

    fn update(&self, id: &str, stream: u64, change: impl FnOnce(&mut NodeStream)) {
        let mut known = self.lock();
        let streams = known.nodes.get_mut(id).map(|entry| &mut entry.streams);
        if let Some(stream) = streams.into_iter().flatten().find(|one| one.id == stream) {
            change(stream);
        }
        drop(known);
        self.tell();
    }

    fn tell(&self) {
        self.shared.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
