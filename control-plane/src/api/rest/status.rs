//! `/status`, `/nodes` and `/metrics`.

use std::fmt::Write as _;

use axum::{Json, extract::State};
use serde_json::{Value, json};

use crate::{
    api::{AppState, rfc3339},
    publish::Node,
};

pub(super) async fn status(State(state): State<AppState>) -> Json<Value> {
    let status = state.app.status();
    let nodes: Vec<Value> = status.nodes.iter().map(node).collect();
    Json(json!({ "revision": status.revision, "backends": status.backends, "nodes": nodes }))
}

pub(super) async fn nodes(State(state): State<AppState>) -> Json<Value> {
    let nodes: Vec<Value> = state.app.nodes().iter().map(node).collect();
    Json(json!({ "items": nodes }))
}

pub(super) fn node(node: &Node) -> Value {
    let rejection = (!node.rejection.is_empty() || node.rejected_revision > 0)
        .then(|| json!({ "revision": node.rejected_revision, "problems": node.rejection }));
    json!({
        "id": node.id,
        "version": node.version,
        "address": node.address,
        "workers": node.workers,
        "labels": node.labels,
        "connected": node.connected,
        "since": rfc3339(node.since_ms),
        "active_revision": node.active_revision,
        "connections": node.connections,
        "requests": node.requests,
        "dropped_rows": node.dropped_rows,
        "rejection": rejection,
    })
}

pub(super) async fn metrics(State(state): State<AppState>) -> ([(&'static str, &'static str); 1], String) {
    let status = state.app.status();
    let connected = status.nodes.iter().filter(|node| node.connected).count();
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, value: u64| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
    };
    gauge("weir_revision", "The newest revision of the configuration.", status.revision);
    gauge("weir_nodes_connected", "Nodes whose stream is open.", connected as u64);
    let mut backends = String::from("# HELP weir_backends Backends by what the health checker found.\n# TYPE weir_backends gauge\n");
    for health in ["unknown", "up", "down"] {
        let count = status.backends.iter().filter(|backend| backend.health == health).count();
        let _ = writeln!(backends, "weir_backends{{health=\"{health}\"}} {count}");
    }
    text.push_str(&backends);
    ([("content-type", "text/plain; version=0.0.4")], text)
}
