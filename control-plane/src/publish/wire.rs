//! Converts between protobuf and domain types. Outgoing messages are encoded here as gRPC frames.

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use weir_proto::{
    FORMAT,
    v1::{self, subscribe_response::Message},
};
use weir_snapshot::{
    Problem, Problems,
    resource::{Key, Kind},
};

use super::{
    history::Version,
    registry::{Introduction, Load},
    work::Report,
};
use crate::{current::Current, health, store::FleetKey, time::now_ms};

/// Frame header of a gRPC message: a compression flag and the length.
pub(super) const PREFIX: usize = 5;

/// Limits of what is kept of a node's description.
const MAX_LABELS: usize = 64;
const MAX_TEXT: usize = 256;
/// Maximum number of problems kept of a rejection.
const MAX_PROBLEMS: usize = 100;

/// Encodes a message as a gRPC frame.
pub(super) fn frame(message: Message) -> Bytes {
    let message = v1::SubscribeResponse { message: Some(message) };
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // Encoding fails only for lack of space, which was reserved above.
    let _ = message.encode(&mut bytes);
    bytes.freeze()
}

/// A complete revision.
pub(super) fn whole(current: &Current) -> Bytes {
    frame(Message::Snapshot(v1::Snapshot {
        format: FORMAT,
        revision: current.revision,
        resources: current.resources.iter().map(|(key, spec)| resource(key, spec)).collect(),
        hash: current.hash.to_string(),
    }))
}

/// The changes from a version to this revision. `names` tells for each key whether the version contained it.
pub(super) fn delta(from: Version, to: &Current, names: &BTreeMap<Key, bool>) -> Bytes {
    let (mut changed, mut removed) = (Vec::new(), Vec::new());
    for (key, was_there) in names {
        match to.resources.get(key) {
            Some(spec) => changed.push(resource(key, spec)),
            None if *was_there => removed.push(resource_key(key)),
            // Created and deleted in between.
            None => {}
        }
    }
    let (from_revision, revision, hash) = (from.revision, to.revision, to.hash.to_string());
    frame(Message::Delta(v1::Delta { format: FORMAT, from_revision, revision, changed, removed, hash }))
}

pub(super) fn health(complete: bool, states: &health::States) -> Bytes {
    let health = |state: &health::State| match state {
        health::State::Unknown => v1::Health::Unknown,
        health::State::Up => v1::Health::Up,
        health::State::Down => v1::Health::Down,
    };
    let backends = states
        .iter()
        .map(|(id, state)| v1::BackendHealth { backend_id: id.clone(), health: health(state).into() })
        .collect();
    frame(Message::Health(v1::HealthUpdate { complete, backends }))
}

pub(super) fn key(key: &FleetKey) -> Bytes {
    frame(Message::Key(v1::FleetKey { key: key.to_vec() }))
}

pub(super) fn fleet_size(nodes: u32) -> Bytes {
    frame(Message::FleetSize(v1::FleetSize { nodes }))
}

/// The filters of all live tails.
pub(super) fn tail(filters: &[v1::TailFilter]) -> Bytes {
    frame(Message::Tail(v1::Tail { filters: filters.to_vec() }))
}

pub(super) fn introduction(hello: v1::Hello) -> Introduction {
    let text = |text: String| weir_snapshot::visible(&text, MAX_TEXT).into_owned();
    let labels: BTreeMap<String, String> = hello.labels.into_iter().collect();
    Introduction {
        id: hello.node_id,
        boot: text(hello.boot_id),
        version: text(hello.version),
        address: text(hello.address),
        workers: hello.workers,
        labels: labels.into_iter().take(MAX_LABELS).map(|(name, value)| (text(name), text(value))).collect(),
        active_revision: hello.active_revision,
    }
}

pub(super) fn load(load: v1::Load) -> Load {
    let clock_ms = i64::try_from(load.clock_ms).ok().filter(|clock| *clock > 0);
    Load {
        connections: load.connections,
        requests: load.requests,
        dropped_rows: load.dropped_rows,
        forgotten_clients: load.forgotten_clients,
        report: Report::of(&load),
        clock_offset_ms: clock_ms.map(|clock| clock.saturating_sub(now_ms())),
    }
}

pub(super) fn problems(problems: Vec<v1::Problem>) -> Problems {
    let text = |text: String| weir_snapshot::visible(&text, 4 * MAX_TEXT).into_owned();
    let problems = problems.into_iter().take(MAX_PROBLEMS);
    Problems(problems.map(|problem| Problem::new(text(problem.path), text(problem.message))).collect())
}

fn resource(key: &Key, spec: &str) -> v1::Resource {
    v1::Resource { key: Some(resource_key(key)), spec: spec.as_bytes().to_vec() }
}

fn resource_key(key: &Key) -> v1::ResourceKey {
    let kind = match key.kind {
        Kind::Settings => v1::ResourceKind::Settings,
        Kind::Pool => v1::ResourceKind::Pool,
        Kind::Backend => v1::ResourceKind::Backend,
        Kind::Route => v1::ResourceKind::Route,
        Kind::Certificate => v1::ResourceKind::Certificate,
    };
    v1::ResourceKey { kind: kind.into(), name: key.name.clone() }
}
