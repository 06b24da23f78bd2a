//! Nodes: `/nodes`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_snapshot::Problem;

/// A data-plane node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Node {
    /// Its id.
    pub id: String,
    /// Version of its program.
    pub version: String,
    /// Address on which it accepts traffic.
    pub address: String,
    /// Number of its worker threads.
    pub workers: u32,
    /// Labels that its operator gave it.
    pub labels: BTreeMap<String, String>,
    /// Whether it is connected to the control plane.
    pub connected: bool,
    /// When it connected, or was last seen; RFC 3339.
    pub since: String,
    /// State with regard to the current revision.
    pub state: NodeState,
    /// The revision that it runs; 0: none.
    pub active_revision: u64,
    /// How many revisions it is behind the current one.
    pub lag_revisions: u64,
    /// For how long it has been behind; 0 when it is not.
    pub lag_ms: u64,
    /// Open client connections.
    pub connections: u64,
    /// Requests in flight.
    pub active_requests: u64,
    /// Requests answered since it started.
    pub requests: u64,
    /// Rows of statistics that it had to drop.
    pub dropped_rows: u64,
    /// Clients whose rate-limit state it dropped because its table was full.
    pub forgotten_clients: u64,
    /// The last revision that it rejected, until it runs a later one; 0: none.
    pub rejected_revision: u64,
    /// How far its clock is ahead of the control plane's; null while unknown.
    pub clock_offset_ms: Option<i64>,
    /// Whether its counts are left out of reports.
    pub excluded: bool,
    /// Problems for which it rejected `rejected_revision`.
    pub rejection: Vec<Problem>,
    /// The last error between it and the control plane; null: none.
    pub last_error: Option<NodeError>,
}

/// Whether a node runs the current revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It runs the current revision.
    Active,
    /// It runs an earlier revision.
    Behind,
    /// It rejected the current revision.
    Rejected,
    /// It is not connected.
    Away,
    /// It is revoked, and not connected.
    Revoked,
}

names!(NodeState { Active = "active", Behind = "behind", Rejected = "rejected", Away = "away", Revoked = "revoked" });

/// An error between a node and the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeError {
    /// When it happened, RFC 3339.
    pub time: String,
    /// The error in words.
    pub text: String,
}

/// A node was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevokedNode {
    /// Its id.
    pub id: String,
    /// Always true.
    pub revoked: bool,
    /// Whether a node with this id was ever connected.
    pub known: bool,
}

/// A node may join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AllowedNode {
    /// Its id.
    pub id: String,
    /// Always false.
    pub revoked: bool,
    /// Until when a second process may join under this id, RFC 3339; null: a revoked node may join again.
    pub permit_expires: Option<String>,
}

/// Whether a node's counts are in reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeCounting {
    /// Its id.
    pub id: String,
    /// Whether its counts are left out of reports from now on.
    pub excluded: bool,
}
