//! Every node that is known: who is connected, what it runs, and what it does now.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::sync::watch;
use weir_snapshot::{Problem, Problems, resource::ContentHash};

use super::work::Work;
use crate::store::SeenNode;

/// The revision that a node refused. The hash is part of it: a database that was put back from a copy numbers anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rejected {
    pub(super) revision: u64,
    pub(super) hash: ContentHash,
}

impl Rejected {
    pub(super) fn is(&self, current: &crate::current::Current) -> bool {
        self.revision == current.revision && self.hash == current.hash
    }
}

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
    /// Requests answered since it started.
    pub requests: u64,
    /// Statistics rows that it had to drop.
    pub dropped_rows: u64,
    /// What was wrong with the revision that it refused last, until it acknowledges a later one.
    pub rejection: Vec<Problem>,
    /// Which that was; 0: none.
    pub rejected_revision: u64,
    /// Requests in flight, by backend.
    pub active: HashMap<String, u32>,
    /// Its breakers, sessions and retries.
    pub work: Work,
    /// How far its clock is ahead of this machine's, as far as can be told; `None` before it said what time it has.
    pub clock_offset_ms: Option<i64>,
    /// What the last messages said of its clock.
    clock: VecDeque<i64>,
    boot: String,
    rejected: Option<Rejected>,
    /// Which stream is the node's; an older one that ends late changes nothing.
    stream: u64,
}

/// Messages by which a node's clock is judged.
const CLOCK_SAMPLES: usize = 8;

/// The known nodes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    nodes: Mutex<BTreeMap<String, Node>>,
    changed: watch::Sender<u64>,
    /// How many are connected.
    size: watch::Sender<u32>,
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
    pub(super) active: HashMap<String, u32>,
    pub(super) work: Work,
    pub(super) clock_offset_ms: Option<i64>,
}

impl Registry {
    /// The nodes that were seen before this program started.
    pub fn new(seen: Vec<SeenNode>) -> Self {
        let node = |seen: SeenNode| {
            let SeenNode { id, version, address, last_seen_ms } = seen;
            (id.clone(), Node { id, version, address, since_ms: last_seen_ms, ..Node::default() })
        };
        let nodes = seen.into_iter().map(node).collect();
        Self(Arc::new(Inner {
            nodes: Mutex::new(nodes),
            changed: watch::Sender::new(0),
            size: watch::Sender::new(0),
        }))
    }

    /// Every node, by id.
    pub fn nodes(&self) -> Vec<Node> {
        self.lock().values().cloned().collect()
    }

    /// Requests in flight by backend, summed over the connected nodes.
    pub fn active(&self) -> HashMap<String, u64> {
        let mut sums = HashMap::new();
        for node in self.lock().values().filter(|node| node.connected) {
            for (backend, active) in &node.active {
                *sums.entry(backend.clone()).or_default() += u64::from(*active);
            }
        }
        sums
    }

    /// Waits until every connected node runs this revision, or a later one; whether it came to that in time. A node
    /// that refused it ends the waiting at once.
    pub async fn wait_active(&self, revision: u64, within: Duration) -> bool {
        let mut changed = self.0.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                {
                    let nodes = self.lock();
                    let mut waiting =
                        nodes.values().filter(|node| node.connected && node.active_revision < revision);
                    match waiting.next() {
                        None => return true,
                        Some(node) if node.rejected_revision >= revision => return false,
                        Some(_) if waiting.any(|node| node.rejected_revision >= revision) => return false,
                        Some(_) => {}
                    }
                }
                if changed.changed().await.is_err() {
                    return false;
                }
            }
        };
        tokio::time::timeout(within, wait).await.unwrap_or(false)
    }

    /// A node's stream is open. Gives the stream's number and what this boot of the node refused last.
    pub(super) fn connect(&self, node: Introduction) -> (u64, Option<Rejected>) {
        let mut nodes = self.lock();
        let old = nodes.get(&node.id).cloned().unwrap_or_default();
        if old.connected && old.boot != node.boot {
            tracing::warn!(node = %node.id, "two processes use the same node id, or one restarted at once");
        }
        let is_same_boot = old.boot == node.boot;
        let stream = old.stream + 1;
        let kept = if is_same_boot { old } else { Node::default() };
        let rejected = kept.rejected;
        let Introduction { id, boot, version, address, workers, labels, active_revision } = node;
        let (connected, since_ms) = (true, now_ms());
        let node = Node {
            id,
            boot,
            version,
            address,
            workers,
            labels,
            active_revision,
            connected,
            since_ms,
            stream,
            ..kept
        };
        nodes.insert(node.id.clone(), node);
        drop(nodes);
        self.count();
        self.tell();
        (stream, rejected)
    }

    /// The stream has ended.
    pub(super) fn disconnect(&self, id: &str, stream: u64) {
        self.update(id, stream, |node| {
            node.connected = false;
            node.since_ms = now_ms();
            (node.connections, node.active) = (0, HashMap::new());
            node.work = Work::default();
        });
        self.count();
    }

    pub(super) fn acknowledged(&self, id: &str, stream: u64, revision: u64) {
        self.update(id, stream, |node| {
            node.active_revision = revision;
            (node.rejection, node.rejected_revision) = (Vec::new(), 0);
        });
    }

    pub(super) fn rejected(&self, id: &str, stream: u64, rejected: Rejected, problems: Problems) {
        self.update(id, stream, |node| {
            node.rejected = Some(rejected);
            (node.rejection, node.rejected_revision) = (problems.0, rejected.revision);
        });
    }

    pub(super) fn load(&self, id: &str, stream: u64, load: Load) {
        self.update(id, stream, |node| {
            (node.connections, node.requests) = (load.connections, load.requests);
            (node.dropped_rows, node.active) = (load.dropped_rows, load.active);
            node.work = load.work;
            if let Some(offset) = load.clock_offset_ms {
                node.clock.truncate(CLOCK_SAMPLES - 1);
                node.clock.push_front(offset);
                // A message that took its time makes a clock look late, and none makes it look early.
                node.clock_offset_ms = node.clock.iter().max().copied();
            }
        });
    }

    fn update(&self, id: &str, stream: u64, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.lock().get_mut(id).filter(|node| node.stream == stream) {
            change(node);
        }
        self.tell();
    }

    /// How many nodes are connected, from now on.
    pub(super) fn size(&self) -> watch::Receiver<u32> {
        self.0.size.subscribe()
    }

    fn count(&self) {
        let nodes = self.lock();
        let connected = nodes.values().filter(|node| node.connected).count();
        let connected = u32::try_from(connected).unwrap_or(u32::MAX);
        // While the nodes are locked, so that an older count never comes last.
        self.0.size.send_if_modified(|size| std::mem::replace(size, connected) != connected);
    }

    fn tell(&self) {
        self.0.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Node>> {
        self.0.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}
