//! Applies messages of the control plane: reads, checks and activates snapshots and deltas, or rejects them.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use weir_proto::{
    FORMAT,
    v1::{self, subscribe_request::Message as Outgoing, subscribe_response::Message as Incoming},
};
use weir_snapshot::{
    Problem, Problems,
    resource::{ContentHash, Key, Kind, Resources, from_resources},
};

use super::{
    Running, State,
    health::take_health,
    keeper,
    key::{take_certificate_keys, take_key},
};
use crate::control::resolve;

/// How long a start without a control plane waits for the names of backends.
const RESTORE: Duration = Duration::from_millis(300);

/// Applies one message. Returns the answer, if it needs one.
pub(super) async fn take(state: &Arc<State>, message: Option<Incoming>) -> Option<Outgoing> {
    let (revision, result) = match message {
        Some(Incoming::Health(update)) => {
            take_health(state, &update);
            return None;
        }
        Some(Incoming::Key(message)) => {
            take_key(state, &message.key).await;
            return None;
        }
        Some(Incoming::FleetSize(message)) => {
            state.fleet.filters.size.set(message.nodes, Instant::now());
            return None;
        }
        Some(Incoming::Tickets(message)) => {
            state.fleet.tls.take_tickets(&message);
            return None;
        }
        Some(Incoming::CertificateKeys(message)) => {
            take_certificate_keys(state, message).await;
            return None;
        }
        // The session handles these.
        Some(Incoming::Tail(_)) => return None,
        Some(Incoming::Snapshot(snapshot)) => (snapshot.revision, activate(state, whole(&snapshot)).await),
        Some(Incoming::Delta(delta)) => (delta.revision, activate(state, changed(state, &delta)).await),
        None => {
            tracing::error!("unknown message from the control plane ignored");
            return None;
        }
    };
    Some(match result {
        Ok(hash) => {
            keeper::before_acknowledgement(state).await;
            Outgoing::Ack(v1::Ack { revision, hash: hash.to_string() })
        }
        Err(problems) => {
            state.rejections.fetch_add(1, Relaxed);
            tracing::error!(revision, %problems, "snapshot rejected, keeping the current one");
            let problem = |problem: &Problem| v1::Problem {
                path: problem.path.clone(),
                message: problem.message.clone(),
            };
            Outgoing::Rejection(v1::Rejection {
                revision,
                problems: problems.0.iter().map(problem).collect(),
            })
        }
    })
}

/// The configuration after a message is applied.
struct Next {
    revision: u64,
    resources: Resources,
    hash: ContentHash,
}

fn whole(snapshot: &v1::Snapshot) -> Result<Next, Problems> {
    check_format(snapshot.format)?;
    let mut resources = Resources::new();
    for resource in &snapshot.resources {
        let (key, spec) = read(resource)?;
        if resources.insert(key.clone(), spec).is_some() {
            return Err(Problem::new(key.to_string(), "duplicate resource").into());
        }
    }
    let hash = ContentHash::of(&resources);
    check_hash(hash, &snapshot.hash)?;
    Ok(Next { revision: snapshot.revision, resources, hash })
}

fn changed(state: &State, delta: &v1::Delta) -> Result<Next, Problems> {
    check_format(delta.format)?;
    let Some(Running { mut resources, mut hash, .. }) =
        state.running().filter(|running| running.revision == delta.from_revision)
    else {
        let message = format!(
            "the delta is from revision {}, this node runs {}",
            delta.from_revision,
            state.revision()
        );
        return Err(Problem::new("from_revision", message).into());
    };
    for key in &delta.removed {
        let key = read_key(Some(key))?;
        let spec = resources
            .remove(&key)
            .ok_or_else(|| Problem::new(key.to_string(), "is not there to be removed"))?;
        hash.remove(&key, &spec);
    }
    for resource in &delta.changed {
        let (key, spec) = read(resource)?;
        hash.add(&key, &spec);
        if let Some(before) = resources.insert(key.clone(), spec) {
            hash.remove(&key, &before);
        }
    }
    check_hash(hash, &delta.hash)?;
    Ok(Next { revision: delta.revision, resources, hash })
}

fn check_format(format: u32) -> Result<(), Problem> {
    if format == FORMAT {
        return Ok(());
    }
    Err(Problem::new("format", format!("format {format} is not known to this node (it knows {FORMAT})")))
}

fn check_hash(ours: ContentHash, theirs: &str) -> Result<(), Problem> {
    if ours.to_string() == theirs {
        return Ok(());
    }
    Err(Problem::new("hash", format!("the content is {ours}, the control plane says {theirs:?}")))
}

fn read(resource: &v1::Resource) -> Result<(Key, String), Problem> {
    let key = read_key(resource.key.as_ref())?;
    let spec = String::from_utf8(resource.spec.clone())
        .map_err(|_| Problem::new(key.to_string(), "is not UTF-8"))?;
    Ok((key, spec))
}

fn read_key(key: Option<&v1::ResourceKey>) -> Result<Key, Problem> {
    let key = key.ok_or_else(|| Problem::new("key", "is missing"))?;
    let kind = match key.kind() {
        v1::ResourceKind::Settings => Kind::Settings,
        v1::ResourceKind::Pool => Kind::Pool,
        v1::ResourceKind::Backend => Kind::Backend,
        v1::ResourceKind::Route => Kind::Route,
        v1::ResourceKind::Certificate => Kind::Certificate,
        v1::ResourceKind::Unspecified => {
            return Err(Problem::new("key.kind", format!("kind {} is not known to this node", key.kind)));
        }
    };
    Ok(Key { kind, name: key.name.clone() })
}

/// Activates the kept state of an earlier run.
pub(super) async fn restore(state: &State, snapshot: &v1::Snapshot) -> Result<(), Problems> {
    // Nodes do not store private keys: what needs one waits for the control plane.
    state.fleet.tls.set_restoring(true);
    // Clients wait, so names that are not resolved at once are looked up later.
    let restored = activate_within(state, whole(snapshot)?, RESTORE).await;
    state.fleet.tls.set_restoring(false);
    restored.map(drop)
}

/// Checks the configuration again, resolves names, and makes every worker use it.
async fn activate(state: &State, next: Result<Next, Problems>) -> Result<ContentHash, Problems> {
    let hash = activate_within(state, next?, Duration::MAX).await?;
    state.change();
    Ok(hash)
}

async fn activate_within(state: &State, next: Next, warm: Duration) -> Result<ContentHash, Problems> {
    let Next { revision, resources, hash } = next;
    let config = from_resources(&resources)?;
    let snapshot = weir_snapshot::check(&config)?;
    let active = state.fleet.build(Arc::new(snapshot))?;
    // Names that are not resolved in time are looked up again soon.
    let _ = tokio::time::timeout(warm, resolve::warm(&active)).await;
    state.workers.activate(active).await;
    *state.active.lock().unwrap_or_else(PoisonError::into_inner) =
        Some(Running { revision, resources, hash });
    state.revision.store(revision, Relaxed);
    tracing::info!(revision, "revision active");
    Ok(hash)
}
