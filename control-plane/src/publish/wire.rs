//! Between protobuf and what this crate works with.

use weir_proto::{FORMAT, v1};
use weir_snapshot::{
    Problem, Problems, diff,
    resource::{Key, Kind},
};

use super::{
    registry::{Introduction, Load},
    session::Push,
    work::Work,
};
use crate::{health, store::FleetKey};

pub(super) fn push(push: &Push) -> v1::SubscribeResponse {
    use v1::subscribe_response::Message;
    let message = match push {
        Push::Whole(current) => Message::Snapshot(v1::Snapshot {
            format: FORMAT,
            revision: current.revision,
            resources: current.resources.iter().map(|(key, spec)| resource(key, spec)).collect(),
            hash: current.hash.to_string(),
        }),
        Push::Delta(from, to) => {
            let (mut changed, mut removed) = (Vec::new(), Vec::new());
            for change in diff::diff(&from.resources, &to.resources) {
                match change.after {
                    Some(spec) => changed.push(resource(&change.key, &spec)),
                    None => removed.push(resource_key(&change.key)),
                }
            }
            let (from_revision, revision, hash) = (from.revision, to.revision, to.hash.to_string());
            Message::Delta(v1::Delta { format: FORMAT, from_revision, revision, changed, removed, hash })
        }
    };
    v1::SubscribeResponse { message: Some(message) }
}

pub(super) fn health(complete: bool, states: &health::States) -> v1::SubscribeResponse {
    let health = |state: &health::State| match state {
        health::State::Unknown => v1::Health::Unknown,
        health::State::Up => v1::Health::Up,
        health::State::Down => v1::Health::Down,
    };
    let backends = states
        .iter()
        .map(|(id, state)| v1::BackendHealth { backend_id: id.clone(), health: health(state).into() })
        .collect();
    let message = v1::subscribe_response::Message::Health(v1::HealthUpdate { complete, backends });
    v1::SubscribeResponse { message: Some(message) }
}

pub(super) fn key(key: &FleetKey) -> v1::SubscribeResponse {
    let message = v1::subscribe_response::Message::Key(v1::FleetKey { key: key.to_vec() });
    v1::SubscribeResponse { message: Some(message) }
}

pub(super) fn fleet_size(nodes: u32) -> v1::SubscribeResponse {
    let message = v1::subscribe_response::Message::FleetSize(v1::FleetSize { nodes });
    v1::SubscribeResponse { message: Some(message) }
}

/// The filters of who watches requests live.
pub(super) fn tail(filters: &[v1::TailFilter]) -> v1::SubscribeResponse {
    let message = v1::subscribe_response::Message::Tail(v1::Tail { filters: filters.to_vec() });
    v1::SubscribeResponse { message: Some(message) }
}

pub(super) fn introduction(hello: &v1::Hello) -> Introduction {
    Introduction {
        id: hello.node_id.clone(),
        boot: hello.boot_id.clone(),
        version: hello.version.clone(),
        address: hello.address.clone(),
        workers: hello.workers,
        labels: hello.labels.clone().into_iter().collect(),
        active_revision: hello.active_revision,
    }
}

pub(super) fn load(load: v1::Load) -> Load {
    let work = Work::of(&load);
    let active =
        load.backends.into_iter().map(|backend| (backend.backend_id, backend.active_requests)).collect();
    let clock_ms = i64::try_from(load.clock_ms).ok().filter(|clock| *clock > 0);
    let clock_offset_ms = clock_ms.map(|clock| clock.saturating_sub(super::registry::now_ms()));
    Load {
        connections: load.connections,
        requests: load.requests,
        dropped_rows: load.dropped_rows,
        active,
        work,
        clock_offset_ms,
    }
}

pub(super) fn problems(problems: Vec<v1::Problem>) -> Problems {
    Problems(problems.into_iter().map(|problem| Problem::new(problem.path, problem.message)).collect())
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
    };
    v1::ResourceKey { kind: kind.into(), name: key.name.clone() }
}
