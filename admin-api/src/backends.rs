//! Backends: `/backends`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_snapshot::config::BackendState;

/// A backend with its health and its load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Backend {
    /// The id that the control plane gave it, such as `b7`; never reused.
    pub id: String,
    /// Its URL in canonical form.
    pub url: String,
    /// The pool that it belongs to.
    pub pool: String,
    /// Its share of the pool's traffic.
    #[schemars(range(min = 1, max = 1000))]
    pub weight: u32,
    /// Administrative state.
    pub state: BackendState,
    /// False when its health check found it down.
    pub alive: bool,
    /// Result of the health check.
    pub health: Health,
    /// Requests in flight, summed over the nodes.
    pub active_connections: u64,
    /// Result of the last probe in words; empty before the first.
    pub last_check: String,
    /// State of its circuit breaker: the furthest that any node has gone.
    pub breaker: BreakerState,
    /// Nodes whose circuit breaker is open for it.
    pub ejected_by: Vec<String>,
    /// How often nodes have ejected it since they started.
    pub ejections: u64,
    /// While it drains: sticky sessions that used it recently.
    pub sessions: u64,
}

/// Result of a health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// No probe has ended yet, or the pool has no health check.
    Unknown,
    /// It passes its health check.
    Up,
    /// It fails its health check.
    Down,
}

names!(Health { Unknown = "unknown", Up = "up", Down = "down" });

/// State of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// Single requests pass, to find out whether the backend has recovered.
    HalfOpen,
    /// No request passes.
    Open,
}

names!(BreakerState { Closed = "closed", HalfOpen = "half_open", Open = "open" });

/// Query of `GET /backends`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BackendQuery {
    /// Only backends of this pool.
    pub pool: Option<String>,
    /// Only backends that this route can send requests to.
    pub route: Option<String>,
    /// Items per page, at most 1000; without it the answer is the whole list.
    pub limit: Option<u32>,
    /// `next_page_token` of the page before.
    pub page_token: Option<String>,
}

/// A backend to add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewBackend {
    /// `http://host:port` or `https://host:port`.
    #[schemars(example = "http://127.0.0.1:8082")]
    pub url: String,
    /// The pool to add it to; `default` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Its share of the pool's traffic; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: Option<u32>,
}

/// Changes to a backend; fields that are absent stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackendUpdate {
    /// Its new weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: Option<u32>,
    /// Its new state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<BackendState>,
}

/// A backend named by its URL.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackendByUrl {
    /// Its URL, in any spelling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its pool; needed when the URL is in several pools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// Result of one probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckResult {
    /// Whether the backend passed.
    pub ok: bool,
    /// The backend's answer, or the failure.
    pub detail: String,
    /// Duration of the probe.
    pub latency_ms: f64,
}
