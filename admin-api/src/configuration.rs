//! The configuration as a whole and its history: `/config`, `/revisions`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_snapshot::{Problem, diff::Difference};

/// Something was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revised {
    /// The current revision.
    pub revision: u64,
}

/// Query of `PUT /config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ApplyQuery {
    /// Check the configuration and answer what would change, without changing it.
    pub dry_run: bool,
    /// Wait up to this long until all connected nodes run the revision; at most 5 minutes.
    #[schemars(example = "5s")]
    pub wait: Option<String>,
}

/// Query of `POST /revisions/{n}/rollback`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WaitQuery {
    /// Wait up to this long until all connected nodes run the revision; at most 5 minutes.
    #[schemars(example = "5s")]
    pub wait: Option<String>,
}

/// Result of replacing the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    /// The current revision; for a dry run the revision that was compared with.
    pub revision: u64,
    /// Changes, one line each; for a dry run the changes that would be made.
    pub changes: Vec<String>,
    /// Warnings: valid settings that look like mistakes.
    pub warnings: Vec<Problem>,
    /// Only after a dry run: every resource that would change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<Vec<Difference>>,
    /// Changes by API or dashboard that the configuration file replaced, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<String>,
    /// Only with `wait`: whether all connected nodes run the revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// Only with `wait`: the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Rollout>,
    /// Only with status 504: what is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// How far the connected nodes are with a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rollout {
    /// Whether all connected nodes run it.
    pub complete: bool,
    /// Nodes that run it.
    pub active: Vec<String>,
    /// Nodes that do not run it yet.
    pub pending: Vec<String>,
    /// Nodes that rejected it, each with the reason.
    pub rejected: Vec<String>,
}

/// A revision of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revision {
    /// Its number.
    pub revision: u64,
    /// When it was stored, RFC 3339.
    pub time: String,
    /// The token name or program that made it.
    pub actor: String,
    /// The way it was made.
    #[schemars(extend("examples" = ["rest", "grpc", "dashboard", "file", "start", "restore"]))]
    pub source: String,
    /// Changes, one line each.
    pub changes: Vec<String>,
}

/// A revision with everything that it changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RevisionDetail {
    /// The revision.
    #[serde(flatten)]
    pub revision: Revision,
    /// Every resource that it changed.
    pub diff: Vec<Difference>,
}

/// Query of `GET /revisions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RevisionQuery {
    /// Only revisions below this number.
    pub before: Option<u64>,
    /// Items per page, at most 1000; 100 when absent.
    pub limit: Option<u32>,
    /// `next_page_token` of the page before; not together with `before`.
    pub page_token: Option<String>,
}
