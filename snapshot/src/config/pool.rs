//! Pools and their backends.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Breaker, HashOn, HealthCheck, Limits, Panic, Retry, Sticky, Strategy, Tls, is_default, seconds};
use crate::units::HumanDuration;

/// A group of backends that share a strategy, a health check and a resilience policy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Pool {
    /// Name, unique among the pools.
    pub name: String,
    /// Load-balancing algorithm.
    #[serde(default)]
    pub strategy: Strategy,
    /// Hash key of the strategy `consistent_hash`; not allowed with another strategy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_on: Option<HashOn>,
    /// Session affinity (sticky sessions): keeps a client on one backend by a cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// Time in which a new or recovered backend ramps up to its full share; 0: at once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub slow_start: HumanDuration,
    /// How long a draining backend keeps its sessions; absent: 5 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<HumanDuration>,
    /// Active health check by the control plane.
    #[serde(default, skip_serializing_if = "is_default")]
    pub health_check: HealthCheck,
    /// Circuit breaker: when a node stops sending requests to a failing backend.
    #[serde(default, skip_serializing_if = "is_default")]
    pub breaker: Breaker,
    /// Which failures are retried, and how often.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retry: Retry,
    /// Timeouts towards the backends.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeouts: Timeouts,
    /// How a node detects backends that disappeared without closing their connections.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keep_alive: KeepAlive,
    /// Limits per backend and node.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// When backends get requests although all or most of them are down.
    #[serde(default, skip_serializing_if = "is_default")]
    pub panic: Panic,
    /// HTTP version of requests to the backends.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protocol: Protocol,
    /// Sends requests without a `Via` header. nginx and IIS do not compress responses to requests that have one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub omit_via: bool,
    /// TLS settings for `https://` backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The pool's backends (also: servers, endpoints, upstreams).
    #[serde(default)]
    pub backends: Vec<Backend>,
}

/// HTTP version of requests to a pool's backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1, one request at a time per connection.
    #[default]
    Http1,
    /// HTTP/2 with many requests per connection, as gRPC needs it. Without TLS it is used with prior knowledge.
    Http2,
}

/// Timeouts towards the backends of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Timeouts {
    /// Time to open a connection.
    pub connect: HumanDuration,
    /// Time from the end of the request to the response head.
    pub response: HumanDuration,
    /// Longest pause between two pieces of a response body; 0: no limit. Event streams and gRPC have no such limit.
    /// nginx: `proxy_read_timeout`, Envoy: `stream_idle_timeout`.
    pub response_body: HumanDuration,
    /// Idle connections are closed after this time, or sooner if the backend says so (`Keep-Alive: timeout=5`). The
    /// default is below the 60 s after which many servers close them.
    pub idle: HumanDuration,
    /// A tunnel (a WebSocket or any other `Upgrade`) is closed when no byte moves for this long.
    pub tunnel: HumanDuration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: seconds(1),
            // Long polls wait for up to 60 s.
            response: seconds(90),
            response_body: seconds(300),
            idle: seconds(50),
            tunnel: seconds(3600),
        }
    }
}

/// How a node detects backends that disappeared without closing their connections, for example after a power loss or
/// behind a path that drops packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KeepAlive {
    /// Time between two TCP keep-alive probes on a silent connection; 0: no probes. The backend's application does
    /// not see them.
    pub tcp: HumanDuration,
    /// Time between two HTTP/2 PINGs while requests run on a connection; 0: no PINGs. gRPC servers close connections
    /// on which PINGs come more often than they allow, by default every 5 minutes. Only with `protocol: http2`.
    pub ping: HumanDuration,
    /// An HTTP/2 connection is closed when a PING or data stays unacknowledged for this long; 0: the kernel's own
    /// timeout for data (about 15 minutes on Linux).
    pub timeout: HumanDuration,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { tcp: seconds(20), ping: seconds(0), timeout: seconds(30) }
    }
}

/// One backend of a pool (also: server, endpoint, upstream).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// The admin API has another `Backend`, with its health.
#[schemars(rename = "ConfigBackend")]
pub struct Backend {
    /// Assigned by the control plane and never reused; not in the file. Empty until it is assigned.
    #[serde(skip)]
    pub id: String,
    /// `http://host:port` or `https://host:port`.
    #[schemars(example = "http://127.0.0.1:8082")]
    pub url: String,
    /// Relative share of the traffic, 1 to 1000.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1, max = 1000), extend("default" = 1))]
    pub weight: u32,
    /// Whether the backend takes traffic.
    #[serde(default, skip_serializing_if = "is_default")]
    pub state: BackendState,
}

pub(super) fn one() -> u32 {
    1
}

fn is_one(weight: &u32) -> bool {
    *weight == 1
}

/// Whether a backend takes traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackendState {
    /// Takes traffic.
    #[default]
    Active,
    /// Finishes running requests and takes no new ones.
    Draining,
    /// Takes no traffic and is not probed.
    Disabled,
}

impl fmt::Display for BackendState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        })
    }
}

impl FromStr for BackendState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "active" => Ok(Self::Active),
            "draining" => Ok(Self::Draining),
            "disabled" => Ok(Self::Disabled),
            _ => Err(format!("unknown state {text:?} (known: active, draining, disabled)")),
        }
    }
}
