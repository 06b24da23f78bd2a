//! The state of the whole fleet: `/status`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_snapshot::FilterRefusals;

use crate::{Backend, Certificate, Node};

/// The whole fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The current revision.
    pub revision: u64,
    /// Every backend, pool by pool.
    pub backends: Vec<Backend>,
    /// Every node that is connected or remembered.
    pub nodes: Vec<Node>,
    /// Every pool.
    pub pools: Vec<PoolStatus>,
    /// Every route.
    pub routes: Vec<RouteStatus>,
    /// Every certificate.
    pub certificates: Vec<Certificate>,
    /// The configuration file, when the control plane was started with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_file: Option<ConfigFile>,
}

/// A pool as the connected nodes see it; counts are sums since they started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// Its balancing strategy.
    pub strategy: weir_snapshot::config::Strategy,
    /// Nodes in panic mode: they use backends that look dead.
    pub panic: Vec<String>,
    /// Requests that wait for a free connection.
    pub waiting: u64,
    /// Retries sent.
    pub retries: u64,
    /// Retries not sent because the retry budget was used up.
    pub retries_refused: u64,
    /// Requests answered by the fallback.
    pub fallbacks: u64,
    /// Requests refused because no backend had room in time.
    pub refused: u64,
    /// Sticky sessions moved to another backend.
    pub repinned: u64,
}

/// A route as the connected nodes see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteStatus {
    /// Its name.
    pub name: String,
    /// Requests that its filters refused since the nodes started.
    pub refused: FilterRefusals,
}

/// The configuration file that the control plane was started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigFile {
    /// Its path, as given at start.
    pub path: String,
    /// Whether each start and reload applies the whole file (`--config-authoritative`).
    pub authoritative: bool,
    /// When it was last applied, RFC 3339.
    pub applied: String,
    /// The current revision after it was applied.
    pub revision: u64,
    /// How the configuration differs from the file, one line each; only the first 20.
    pub drift: Vec<String>,
    /// Number of differences.
    pub drift_count: u64,
}
