//! Context of the running call: its caller, and the revision that it created. It is stored in a task-local variable, so
//! that use cases and pages need not pass it on.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    sync::Arc,
};

use super::{Role, Token};

/// The caller of an admin API call.
#[derive(Debug, Clone)]
pub struct Caller {
    /// A token's name, or `anonymous@address` while no token is required.
    pub name: String,
    /// The caller's role.
    pub role: Role,
    /// The token that authenticated the caller.
    pub token: Option<Arc<Token>>,
    /// Interface that was used: `rest`, `grpc` or `dashboard`.
    pub source: &'static str,
}

#[derive(Debug)]
struct Trail {
    caller: Caller,
    revision: Cell<Option<u64>>,
    note: RefCell<String>,
    dry_run: Cell<bool>,
}

/// What a call recorded for the audit log.
#[derive(Debug, Default)]
pub struct Left {
    /// The revision that it created.
    pub revision: Option<u64>,
    /// Description of the call's effect, if its name does not say it.
    pub note: String,
    /// Whether the call only asked what a change would do.
    pub dry_run: bool,
}

tokio::task_local! {
    static TRAIL: Trail;
}

/// Runs a call with a caller, and returns its result and what it recorded.
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

/// Records that the running call created a revision.
pub fn made(revision: u64) {
    // Changes from the configuration file at start are not made by a call.
    let _ = TRAIL.try_with(|trail| trail.revision.set(Some(revision)));
}

/// Returns the revision that the running call created.
pub fn made_revision() -> Option<u64> {
    TRAIL.try_with(|trail| trail.revision.get()).ok().flatten()
}

/// Adds a description of the running call to the audit log.
pub fn note(text: String) {
    let _ = TRAIL.try_with(|trail| trail.note.replace(text));
}

/// Marks the running call as a dry run: it changes nothing, so it is not audited.
pub fn dry_run() {
    let _ = TRAIL.try_with(|trail| trail.dry_run.set(true));
}

/// Returns the caller of the running call, if it passed the gate.
pub fn caller() -> Option<Caller> {
    TRAIL.try_with(|trail| trail.caller.clone()).ok()
}
