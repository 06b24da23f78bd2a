//! Every node that is known: who is connected, what it runs, and what it does now.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use weir_snapshot::{Problem, Problems};

use super::{
    history::Version,
    work::{BackendSum, Report, Sums},
};
use crate::store::SeenNode;

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

/// Something went wrong with a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeError {
    /// In words.
    pub text: String,
    /// When, milliseconds since the Unix epoch.
    pub time_ms: i64,
}

/// What is kept of a node beside what is shown.
#[derive(Debug, Default)]
struct Entry {
    node: Node,
    name: Arc<str>,
    report: Report,
    /// What the last messages said of its clock.
    clock: VecDeque<i64>,
    boot: String,
    rejected: Option<Version>,
    /// Which stream is the node's; an older one that ends late changes nothing.
    stream: u64,
    /// Ends that stream.
    stop: CancellationToken,
}

/// Messages by which a node's clock is judged.
const CLOCK_SAMPLES: usize = 8;

/// Who waits for nodes looks at all of them again after so long at the earliest.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The known nodes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
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
            (key, Entry { node, name, ..Entry::default() })
        };
        let known = Known { nodes: seen.into_iter().map(entry).collect(), ..Known::default() };
        let (changed, size, unsaved) = (watch::Sender::new(0), watch::Sender::new(0), Notify::new());
        Self(Arc::new(Inner { known: Mutex::new(known), changed, size, unsaved }))
    }

    /// Every node, by id.
    pub fn nodes(&self) -> Vec<Node> {
        self.lock().nodes.values().map(|entry| entry.node.clone()).collect()
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
        let mut changed = self.0.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                {
                    let known = self.lock();
                    let nodes = known.nodes.values().map(|entry| &entry.node);
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

    /// A node's stream is open.
    pub(super) fn connect(&self, node: Introduction) -> Joined {
        let mut known = self.lock();
        let known = &mut *known;
        let Introduction { id, boot, version, address, workers, labels, active_revision } = node;
        let old = known.nodes.remove(&id).unwrap_or_default();
        known.sums.remove(&old.name, &old.report);
        let is_same_boot = old.boot == boot;
        if !old.node.connected {
            self.0.size.send_modify(|size| *size = size.saturating_add(1));
        }
        let mut last_error = old.node.last_error.clone();
        if old.node.connected && is_same_boot {
            // The same process: that one's end has just not been noticed yet.
            old.stop.cancel();
        } else if old.node.connected {
            let text = "two processes use this node id, or it restarted at once".to_owned();
            tracing::warn!(node = %id, "{text}");
            last_error = Some(NodeError { text, time_ms: now_ms() });
        }
        let (stream, stop) = (old.stream + 1, CancellationToken::new());
        let kept = if is_same_boot { old } else { Entry::default() };
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
            ..kept.node
        };
        let joined = Joined { stream, rejected: kept.rejected, stop: stop.clone() };
        let (name, report) = (Arc::from(id.as_str()), Report::default());
        let entry = Entry { node, name, report, boot, stream, stop, ..kept };
        known.unsaved.insert(id.clone());
        known.nodes.insert(id, entry);
        self.0.unsaved.notify_one();
        self.tell();
        joined
    }

    /// The stream has ended; why, where something was wrong.
    pub(super) fn disconnect(&self, id: &str, stream: u64, error: Option<&str>) {
        self.update(id, stream, |entry, sums| {
            let node = &mut entry.node;
            // While the nodes are locked: an older count never comes last.
            if node.connected {
                self.0.size.send_modify(|size| *size = size.saturating_sub(1));
            }
            (node.connected, node.since_ms) = (false, now_ms());
            (node.connections, node.active_requests) = (0, 0);
            sums.remove(&entry.name, &entry.report);
            entry.report = Report::default();
            if let Some(error) = error {
                node.last_error = Some(NodeError { text: error.to_owned(), time_ms: now_ms() });
            }
        });
        self.lock().unsaved.insert(id.to_owned());
        self.0.unsaved.notify_one();
    }

    /// The node does something that it should not; its stream goes on.
    pub(super) fn strange(&self, id: &str, stream: u64, text: String) {
        tracing::warn!(node = id, "{text}");
        self.update(id, stream, |entry, _| {
            entry.node.last_error = Some(NodeError { text, time_ms: now_ms() });
        });
    }

    pub(super) fn acknowledged(&self, id: &str, stream: u64, revision: u64) {
        self.update(id, stream, |entry, _| {
            entry.node.active_revision = revision;
            (entry.node.rejection, entry.node.rejected_revision) = (Vec::new(), 0);
        });
    }

    pub(super) fn rejected(&self, id: &str, stream: u64, rejected: Version, problems: Problems) {
        self.update(id, stream, |entry, _| {
            entry.rejected = Some(rejected);
            (entry.node.rejection, entry.node.rejected_revision) = (problems.0, rejected.revision);
        });
    }

    pub(super) fn load(&self, id: &str, stream: u64, mut load: Load) {
        let mut known = self.lock();
        let Known { nodes, sums, .. } = &mut *known;
        let Some(entry) = nodes.get_mut(id).filter(|entry| entry.stream == stream) else { return };
        sums.remove(&entry.name, &entry.report);
        sums.add(&entry.name, &mut load.report);
        let node = &mut entry.node;
        (node.connections, node.requests) = (load.connections, load.requests);
        (node.dropped_rows, node.active_requests) = (load.dropped_rows, load.report.active());
        node.forgotten_clients = load.forgotten_clients;
        entry.report = load.report;
        if let Some(offset) = load.clock_offset_ms {
            entry.clock.truncate(CLOCK_SAMPLES - 1);
            entry.clock.push_front(offset);
            // A message that took its time makes a clock look late, and none makes it look early.
            node.clock_offset_ms = entry.clock.iter().max().copied();
        }
    }

    /// Waits until there is something to remember.
    pub(super) async fn unsaved(&self) {
        self.0.unsaved.notified().await;
    }

    /// What is to be remembered since this was asked last.
    pub(super) fn take_unsaved(&self) -> Vec<SeenNode> {
        let mut known = self.lock();
        let names = std::mem::take(&mut known.unsaved);
        let seen = |entry: &Entry| {
            let Node { id, version, address, labels, active_revision, connected, since_ms, .. } =
                entry.node.clone();
            let last_seen_ms = if connected { now_ms() } else { since_ms };
            SeenNode { id, version, address, labels, active_revision, last_seen_ms }
        };
        names.iter().filter_map(|name| known.nodes.get(name)).map(seen).collect()
    }

    /// Forgets who has been away for longer than this, and says who that was.
    pub(super) fn forget(&self, away: Duration) -> Vec<String> {
        let away_ms = i64::try_from(away.as_millis()).unwrap_or(i64::MAX);
        let before_ms = now_ms().saturating_sub(away_ms);
        let mut known = self.lock();
        let is_gone = |entry: &Entry| !entry.node.connected && entry.node.since_ms < before_ms;
        let gone = known.nodes.extract_if(.., |_, entry| is_gone(entry)).map(|(id, _)| id).collect();
        drop(known);
        self.tell();
        gone
    }

    /// How many nodes are connected, from now on.
    pub(super) fn size(&self) -> watch::Receiver<u32> {
        self.0.size.subscribe()
    }

    fn update(&self, id: &str, stream: u64, change: impl FnOnce(&mut Entry, &mut Sums)) {
        let mut known = self.lock();
        let Known { nodes, sums, .. } = &mut *known;
        if let Some(entry) = nodes.get_mut(id).filter(|entry| entry.stream == stream) {
            change(entry, sums);
        }
        drop(known);
        self.tell();
    }

    fn tell(&self) {
        self.0.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}
