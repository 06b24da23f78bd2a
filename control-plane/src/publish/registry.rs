//! All known nodes: which are connected, their revision, and their load.

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
    /// Node id.
    pub id: String,
    /// Version of the data plane.
    pub version: String,
    /// Address on which the node accepts traffic.
    pub address: String,
    /// Number of worker threads.
    pub workers: u32,
    /// Labels set by the operator.
    pub labels: BTreeMap<String, String>,
    /// Whether its stream is open.
    pub connected: bool,
    /// When it connected, or was last seen; milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// The revision that it uses.
    pub active_revision: u64,
    /// Open client connections.
    pub connections: u64,
    /// Requests in flight.
    pub active_requests: u64,
    /// Requests completed since it started.
    pub requests: u64,
    /// Statistics rows that it dropped.
    pub dropped_rows: u64,
    /// Rate-limit clients that it evicted before their limit was replenished.
    pub forgotten_clients: u64,
    /// Problems of the last revision that it rejected, until it acknowledges a later one.
    pub rejection: Vec<Problem>,
    /// Number of that revision; 0 if there is none.
    pub rejected_revision: u64,
    /// Last error between the node and the control plane.
    pub last_error: Option<NodeError>,
    /// How far the node's clock is ahead of this machine's, in milliseconds; `None` until it reported its time.
    pub clock_offset_ms: Option<i64>,
}

/// Clock offset above which a warning is logged: the node's counts are assigned to the wrong minute.
pub const CLOCK_OFF_MS: i64 = 1_000;

impl Node {
    /// Whether its clock differs by more than [`CLOCK_OFF_MS`].
    fn is_clock_off(&self) -> bool {
        self.clock_offset_ms.is_some_and(|ms| ms.abs() > CLOCK_OFF_MS)
    }
}

/// An error of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeError {
    /// Description.
    pub text: String,
    /// Time of the error, milliseconds since the Unix epoch.
    pub time_ms: i64,
}

/// State of one node id: one stream, or several when processes share the id.
#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    /// Oldest first, never empty. The last one is shown. Closed streams are removed, except the last one of a
    /// disconnected node.
    streams: Vec<NodeStream>,
}

/// One stream of a node and what its process reported.
#[derive(Debug, Default)]
struct NodeStream {
    id: u64,
    node: Node,
    /// Boot id of the node's process.
    boot: String,
    report: Report,
    /// Last clock offsets, newest first.
    clock: VecDeque<i64>,
    rejected: Option<Version>,
    /// Closes the stream.
    stop: CancellationToken,
}

impl Entry {
    /// The stream that is shown for the node.
    fn shown(&self) -> Option<&NodeStream> {
        self.streams.last()
    }

    fn is_connected(&self) -> bool {
        self.streams.iter().any(|stream| stream.node.connected)
    }
}

/// Number of messages used to estimate a node's clock offset.
const CLOCK_SAMPLES: usize = 8;

/// Minimum interval between checks of all nodes while waiting for a revision.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// The known nodes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    known: Mutex<State>,
    changed: watch::Sender<u64>,
    /// Number of connected nodes.
    size: watch::Sender<u32>,
    /// Notified when there are unsaved changes.
    unsaved: Notify,
}

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<String, Entry>,
    sums: Sums,
    /// Ids of nodes with unsaved changes.
    unsaved: BTreeSet<String>,
    /// Id of the newest stream.
    newest_stream: u64,
}

/// A node's description of itself.
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

/// A node's current load.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) connections: u64,
    pub(super) requests: u64,
    pub(super) dropped_rows: u64,
    pub(super) forgotten_clients: u64,
    pub(super) report: Report,
    pub(super) clock_offset_ms: Option<i64>,
}

/// A stream that was registered for a node.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) stream: u64,
    /// The revision that this boot of the node rejected last.
    pub(super) rejected: Option<Version>,
    /// Cancelled when the same process opens another stream.
    pub(super) stop: CancellationToken,
}

impl Registry {
    /// Starts with the nodes stored by an earlier process.
    pub fn new(seen: Vec<SeenNode>) -> Self {
        let entry = |seen: SeenNode| {
            let SeenNode { id, version, address, labels, active_revision, last_seen_ms } = seen;
            let name = Arc::from(id.as_str());
            let (since_ms, key) = (last_seen_ms, id.clone());
            let node = Node { id, version, address, labels, active_revision, since_ms, ..Node::default() };
            (key, Entry { name, streams: vec![NodeStream { node, ..NodeStream::default() }] })
        };
        let known = State { nodes: seen.into_iter().map(entry).collect(), ..State::default() };
        let (changed, size, unsaved) = (watch::Sender::new(0), watch::Sender::new(0), Notify::new());
        Self { shared: Arc::new(Shared { known: Mutex::new(known), changed, size, unsaved }) }
    }

    /// Returns all nodes, by id.
    pub fn nodes(&self) -> Vec<Node> {
        self.lock().nodes.values().filter_map(Entry::shown).map(|stream| stream.node.clone()).collect()
    }

    /// Returns sums over the connected nodes.
    pub fn sums(&self) -> Sums {
        self.lock().sums.clone()
    }

    /// Returns the sum over the connected nodes for one backend.
    pub fn sum(&self, backend: &str) -> BackendSum {
        self.lock().sums.backends.get(backend).cloned().unwrap_or_default()
    }

    /// Waits until every connected node uses this revision or a later one. Returns whether that happened in time; a
    /// node that rejects the revision ends the wait.
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
                // A thousand nodes answer within milliseconds, so not every answer triggers a check.
                tokio::time::sleep(CHECK_INTERVAL).await;
            }
        };
        tokio::time::timeout(within, wait).await.unwrap_or(false)
    }

    /// Whether a process other than `boot` has an open stream with this id.
    pub fn is_taken(&self, id: &str, boot: &str) -> bool {
        let known = self.lock();
        let streams = known.nodes.get(id).into_iter().flat_map(|entry| &entry.streams);
        streams.into_iter().any(|stream| stream.node.connected && (boot.is_empty() || stream.boot != boot))
    }

    /// Whether this process has an open stream with this id.
    pub(super) fn is_open(&self, id: &str, boot: &str) -> bool {
        let known = self.lock();
        let streams = known.nodes.get(id).into_iter().flat_map(|entry| &entry.streams);
        streams.into_iter().any(|stream| stream.node.connected && stream.boot == boot)
    }

    /// Number of worker threads that a node reported.
    pub(super) fn workers(&self, id: &str) -> Option<u32> {
        let known = self.lock();
        known.nodes.get(id)?.streams.iter().map(|stream| stream.node.workers).max()
    }

    /// Registers a stream. `None`: only one process may use the id, and another one is connected.
    pub(super) fn connect(&self, node: Introduction, is_exclusive: bool) -> Option<Joined> {
        let mut known = self.lock();
        let State { nodes, sums, unsaved, newest_stream } = &mut *known;
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
            let text = "two processes use this node id, or the node restarted very quickly".to_owned();
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

    /// Unregisters a stream, with the error that ended it, if any. The node is away when it has no stream left.
    pub(super) fn disconnect(&self, id: &str, stream: u64, error: Option<&str>) {
        let mut known = self.lock();
        let State { nodes, sums, unsaved, .. } = &mut *known;
        let Some(entry) = nodes.get_mut(id) else { return };
        // Absent if the same process has opened another stream in the meantime.
        let Some(at) = entry.streams.iter().position(|one| one.id == stream) else { return };
        let was_shown = at + 1 == entry.streams.len();
        let mut ended = entry.streams.remove(at);
        // Sent while the lock is held, so that an older count is never sent last.
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

    /// Records a protocol violation of the node; its stream continues.
    pub(super) fn protocol_error(&self, id: &str, stream: u64, text: String) {
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
        let State { nodes, sums, .. } = &mut *known;
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
        // Delay makes a clock appear late and never early, so the maximum is the best estimate.
        node.clock_offset_ms = stream.clock.iter().max().copied();
        if node.is_clock_off() && !was_off {
            tracing::warn!(
                node = id,
                offset_ms = node.clock_offset_ms,
                "the node's clock differs from this machine's"
            );
        }
    }

    /// Waits for unsaved changes.
    pub(super) async fn unsaved(&self) {
        self.shared.unsaved.notified().await;
    }

    /// Returns and clears the unsaved changes.
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

    /// Forgets nodes that have been away for longer than this, and returns their ids.
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

    /// Receives the number of connected nodes.
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
