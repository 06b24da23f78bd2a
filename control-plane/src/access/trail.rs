//! What is known of the call that runs now: who asks, and which revision came of it. It goes with the task, so that neither
//! each use case nor each page has to hand it on.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    sync::Arc,
};

use super::{Role, Token};

/// Who asks.
#[derive(Debug, Clone)]
pub struct Caller {
    /// A token's name, or `anonymous@address` while no token is needed.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// What they showed.
    pub token: Option<Arc<Token>>,
    /// Through what: `rest`, `grpc` or `dashboard`.
    pub source: &'static str,
}

/// The call that runs now.
#[derive(Debug)]
struct Trail {
    caller: Caller,
    revision: Cell<Option<u64>>,
    note: RefCell<String>,
    dry_run: Cell<bool>,
}

/// What a call left behind.
#[derive(Debug, Default)]
pub struct Left {
    /// The revision that it made.
    pub revision: Option<u64>,
    /// What it did, where the call's name does not say it.
    pub note: String,
    /// It was only asked what a change would do.
    pub dry_run: bool,
}

tokio::task_local! {
    static TRAIL: Trail;
}

/// Runs a call as somebody's; what came of it, and what it left behind.
pub async fn follow<T>(caller: Caller, call: impl Future<Output = T>) -> (T, Left) {
    let trail =
        Trail { caller, revision: Cell::new(None), note: RefCell::default(), dry_run: Cell::new(false) };
    let run = async {
        let value = call.await;
        let left = TRAIL.with(|trail| Left {
            revision: trail.revision.get(),
            note: trail.note.take(),
            dry_run: trail.dry_run.get(),
        });
        (value, left)
    };
    TRAIL.scope(trail, run).await
}

/// A revision was made by the call that runs now.
pub fn made(revision: u64) {
    // Changes by the file at start are nobody's call.
    let _ = TRAIL.try_with(|trail| trail.revision.set(Some(revision)));
}

/// The revision that the call that runs now made.
pub fn made_revision() -> Option<u64> {
    TRAIL.try_with(|trail| trail.revision.get()).ok().flatten()
}

/// Says in the audit what the call that runs now did.
pub fn note(text: String) {
    let _ = TRAIL.try_with(|trail| trail.note.replace(text));
}

/// The call that runs now is a dry run: it changes nothing, so the audit has no entry for it.
pub fn dry_run() {
    let _ = TRAIL.try_with(|trail| trail.dry_run.set(true));
}

/// Who asks, in a call that came through the gate.
pub fn caller() -> Option<Caller> {
    TRAIL.try_with(|trail| trail.caller.clone()).ok()
}
