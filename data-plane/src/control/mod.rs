//! The node's side of the control stream: registers, receives snapshots, deltas and health, and answers each.
//!
//! Only this module reads protobuf; the rest of the node sees checked snapshots. An invalid message is answered with a
//! rejection that names the problem. The node keeps its configuration, and the stream stays open.

mod apply;
mod channel;
mod health;
pub(crate) mod keep;
pub(crate) mod keeper;
mod key;
mod load;
pub(crate) mod resolve;
mod session;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use weir_snapshot::resource::{ContentHash, Resources};

pub(crate) use self::{channel::channel, session::run};
use crate::{
    enroll::Membership,
    fleet::Fleet,
    identity::Identity,
    stats::{Reporter, Tap},
    workers::Workers,
};

/// State that the tasks of the control thread share.
pub(crate) struct State {
    pub(crate) fleet: Fleet,
    pub(crate) workers: Workers,
    pub(crate) reporter: Reporter,
    pub(crate) tap: Arc<Tap>,
    membership: Membership,
    identity: Identity,
    active: Mutex<Option<Running>>,
    revision: AtomicU64,
    draining: AtomicBool,
    connected: AtomicBool,
    rejections: AtomicU64,
    /// The fleet's session key, once the control plane has sent it.
    key: Mutex<Option<Vec<u8>>>,
    /// Set if `--state-dir` is given.
    pub(crate) keeper: Option<keeper::Keeper>,
}

/// The active configuration, in the form to which deltas are applied.
#[derive(Clone)]
struct Running {
    revision: u64,
    resources: Resources,
    hash: ContentHash,
}

impl State {
    pub(crate) fn new(
        fleet: Fleet,
        workers: Workers,
        reporter: Reporter,
        tap: Arc<Tap>,
        membership: Membership,
        identity: Identity,
        state_dir: Option<std::path::PathBuf>,
    ) -> Self {
        Self {
            fleet,
            workers,
            reporter,
            tap,
            membership,
            identity,
            active: Mutex::new(None),
            revision: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            rejections: AtomicU64::new(0),
            key: Mutex::new(None),
            keeper: state_dir.map(keeper::Keeper::new),
        }
    }

    /// The active revision; 0 before the first.
    pub(crate) fn revision(&self) -> u64 {
        self.revision.load(Relaxed)
    }

    /// Whether the node is shutting down.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Marks the node as shutting down.
    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Whether the control stream is open.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Relaxed)
    }

    /// Snapshots rejected since the start.
    pub(crate) fn rejections(&self) -> u64 {
        self.rejections.load(Relaxed)
    }

    /// Marks the content of `--state-dir` as out of date.
    fn change(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.change();
        }
    }

    fn fleet_key(&self) -> Option<Vec<u8>> {
        self.key.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn running(&self) -> Option<Running> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
