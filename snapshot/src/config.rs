//! The declarative configuration, as the file and the API carry it; not yet checked.
//!
//! Field names are part of the contract. An absent field takes the default written here. Serializing leaves defaults
//! out, so that an exported file is as short as the file it came from.

mod filters;
mod resilience;
mod routing;
mod target;
mod tls;

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    filters::{BasicAuth, IpFilter, Jwks, Jwt, RateKey, RateLimit, RateScope},
    resilience::{Breaker, Fallback, HashOn, Limits, Panic, Retry, RetryOn, Sticky},
    routing::{HeaderMatch, Match, UnderscoreHeaders, WebScheme},
    target::{HeaderEdits, Redirect, Rewrite, Share, SplitSticky},
    tls::{Certificate, Hsts, PrivateKey, Tls},
};
use crate::units::{ByteSize, HumanDuration};

/// A whole configuration. A fresh database holds a pool `default` without backends and a
/// route `default` to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Config {
    /// Settings of the whole fleet.
    #[serde(default, skip_serializing_if = "is_default")]
    pub settings: Settings,
    /// Groups of backends that share a strategy, a health check and a resilience policy.
    #[serde(default)]
    pub pools: Vec<Pool>,
    /// Rules that match requests and say where they go.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Certificates that nodes present to HTTPS clients. Clients whose server name matches no certificate get the
    /// first one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Certificate>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            pools: vec![Pool { name: "default".into(), ..Pool::default() }],
            routes: vec![Route { name: "default".into(), pool: "default".into(), ..Route::default() }],
            certificates: Vec::new(),
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Settings of the whole fleet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Settings {
    /// Networks and addresses of proxies whose `X-Forwarded-*` and `Forwarded` headers are trusted.
    #[serde(skip_serializing_if = "is_default")]
    pub trusted_proxies: Vec<String>,
    /// Timeouts and limits for client connections.
    #[serde(skip_serializing_if = "is_default")]
    pub downstream: Downstream,
    /// Allowed and denied client addresses, for all routes. A route's own filter applies in addition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_filter: Option<IpFilter>,
    /// Backend addresses that are rejected unless they are allowed here.
    #[serde(skip_serializing_if = "is_default")]
    pub allow_backends: AllowBackends,
}

/// Backend addresses that are rejected unless they are allowed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AllowBackends {
    /// Allows link-local addresses (169.254.0.0/16, fe80::/10) and cloud metadata services.
    pub link_local: bool,
    /// Allows ports of this fleet: the admin port, the nodes' port, and the nodes' own HTTP, HTTPS and status ports.
    pub own_ports: bool,
}

/// Timeouts and limits for client connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Downstream {
    /// Time for a complete request head, from its first byte or from the acceptance of the connection.
    pub header_timeout: HumanDuration,
    /// Longest pause while a client sends a request body; 0: no limit. nginx: `client_body_timeout`.
    pub body_timeout: HumanDuration,
    /// Longest time in which a client accepts no byte of a response that is ready for it; 0: no limit. nginx:
    /// `send_timeout`.
    pub send_timeout: HumanDuration,
    /// How long a connection may stay open between two requests.
    pub idle_timeout: HumanDuration,
    /// Time for the TLS handshake, from the acceptance of the connection.
    pub tls_handshake_timeout: HumanDuration,
    /// Largest request head, in bytes.
    pub max_head: ByteSize,
    /// Largest number of header fields in a request.
    pub max_headers: u32,
    /// Open connections per client address and node; 0: no limit. An IPv6 address counts with its /64 network.
    pub max_connections_per_ip: u32,
    /// Requests in flight per client address and node; 0: no limit. Each stream of an HTTP/2 connection is one
    /// request. Requests above the limit get 429. Tunnels and event streams that a backend has accepted do not count.
    /// An IPv6 address counts with its /64 network.
    pub max_requests_per_ip: u32,
    /// Concurrent streams per HTTP/2 client connection.
    pub max_concurrent_streams: u32,
    /// Minimum average rate at which a client must send or accept a body, in bytes per second; 0: no limit. Only the
    /// time in which Weir waits for the client counts.
    pub min_body_rate: ByteSize,
    /// Total time that Weir waits for a client before `min_body_rate` applies to a body.
    pub min_body_rate_grace: HumanDuration,
}

impl Default for Downstream {
    fn default() -> Self {
        Self {
            header_timeout: seconds(10),
            body_timeout: seconds(30),
            send_timeout: seconds(300),
            idle_timeout: seconds(60),
            tls_handshake_timeout: seconds(10),
            max_head: ByteSize(64 << 10),
            max_headers: 128,
            max_connections_per_ip: 0,
            max_requests_per_ip: 512,
            max_concurrent_streams: 100,
            min_body_rate: ByteSize(240),
            min_body_rate_grace: seconds(20),
        }
    }
}

fn seconds(seconds: u64) -> HumanDuration {
    HumanDuration(std::time::Duration::from_secs(seconds))
}

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

/// Load-balancing algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Weighted round robin, with evenly interleaved turns.
    #[default]
    RoundRobin,
    /// Random, in proportion to the weights.
    Random,
    /// The backend with the fewest requests in flight per weight.
    LeastConnections,
    /// The less busy of two backends chosen at random.
    PowerOfTwo,
    /// The faster of two backends chosen at random, by recent latency and load.
    PeakEwma,
    /// Hash of the client address; the same backend on every node.
    IpHash,
    /// Hash of the key in `hash_on`; the same backend on every node.
    ConsistentHash,
}

impl Strategy {
    /// Every strategy with its name in the configuration.
    pub const ALL: [(Strategy, &str); 7] = [
        (Strategy::RoundRobin, "round_robin"),
        (Strategy::Random, "random"),
        (Strategy::LeastConnections, "least_connections"),
        (Strategy::PowerOfTwo, "power_of_two"),
        (Strategy::PeakEwma, "peak_ewma"),
        (Strategy::IpHash, "ip_hash"),
        (Strategy::ConsistentHash, "consistent_hash"),
    ];
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(strategy, _)| strategy == self).map_or("", |(_, name)| name))
    }
}

/// An unknown strategy name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown strategy {0:?} (known: {known})", known = Strategy::ALL.map(|(_, name)| name).join(", "))]
pub struct UnknownStrategy(pub String);

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(text: &str) -> Result<Self, UnknownStrategy> {
        Self::ALL
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(strategy, _)| *strategy)
            .ok_or_else(|| UnknownStrategy(text.to_owned()))
    }
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

/// Active health check by the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HealthCheck {
    /// Type of probe.
    #[serde(rename = "type")]
    pub kind: HealthCheckKind,
    /// Path of an HTTP probe.
    pub path: String,
    /// Time between two probes. A backend that stops working is down after at most `fall` × `interval` + `timeout`.
    pub interval: HumanDuration,
    /// Time between two probes after a backend was added, after its health changed, and while it recovers. Absent: 1
    /// s, or `interval` if that is shorter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fast_interval: Option<HumanDuration>,
    /// A probe that takes longer has failed.
    pub timeout: HumanDuration,
    /// Number of successful probes in a row after which a backend is up.
    pub rise: u32,
    /// Number of failed probes in a row after which a backend is down.
    pub fall: u32,
    /// Statuses that count as success: `200`, `200-399`, or several separated by commas.
    pub expect_status: String,
    /// Text that the body of the response to an HTTP probe must contain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect_body: Option<String>,
    /// Host header of an HTTP probe, or authority of a gRPC probe; absent: the backend's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Service name in a gRPC probe; absent: the whole server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            kind: HealthCheckKind::Tcp,
            path: "/".into(),
            interval: seconds(10),
            fast_interval: None,
            timeout: seconds(2),
            rise: 2,
            fall: 3,
            expect_status: "200-399".into(),
            expect_body: None,
            host: None,
            service: None,
        }
    }
}

/// Type of health probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthCheckKind {
    /// A GET request that must return an expected status.
    Http,
    /// A TCP connection that must be accepted.
    #[default]
    Tcp,
    /// The gRPC health checking protocol.
    Grpc,
    /// No probe: the backend counts as up.
    None,
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

fn one() -> u32 {
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

/// A rule that matches requests and says where they go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    /// Name, unique among the routes.
    pub name: String,
    /// Which requests match; absent: all requests.
    #[serde(default, rename = "match", skip_serializing_if = "is_default")]
    pub matches: Match,
    /// The pool that gets the requests. A route has exactly one of `pool`, `split` and `redirect`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pool: String,
    /// Several pools that share the requests by weight.
    #[serde(default, skip_serializing_if = "is_default")]
    pub split: Vec<Share>,
    /// Keeps a client on the pool of the split that it got first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_sticky: Option<SplitSticky>,
    /// Redirects the client instead of forwarding the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Changes to the request's path and host.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rewrite: Rewrite,
    /// Changes to request headers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub request_headers: HeaderEdits,
    /// What happens to request headers that a backend could mistake for another header, such as `X_Forwarded_For`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub underscore_headers: UnderscoreHeaders,
    /// Changes to response headers, also of responses that Weir generates itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub response_headers: HeaderEdits,
    /// Response or pool to use when the pool has no available backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// Limits on what clients may send.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: RouteLimits,
    /// Timeouts of the route's requests.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeouts: RouteTimeouts,
    /// Allowed and denied client addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_filter: Option<IpFilter>,
    /// Allowed methods; empty: all. GET includes HEAD.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_methods: Vec<String>,
    /// Request limit per client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Requires a user name and a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// Requires a signed token (JSON Web Token).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    /// Makes browsers use HTTPS only (HTTP Strict Transport Security).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Hsts>,
}

/// Limits on what clients may send to a route.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RouteLimits {
    /// Largest request body; larger ones get 413. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body: Option<ByteSize>,
    /// Overrides `settings.downstream.min_body_rate`; 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_body_rate: Option<ByteSize>,
}

/// Timeouts of a route's requests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RouteTimeouts {
    /// Time from the request head to the end of the response, over all attempts. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<HumanDuration>,
    /// Overrides the pool's `timeouts.response`: time from the end of the request to the response head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<HumanDuration>,
    /// Overrides the pool's `timeouts.response_body`, also for event streams and gRPC: longest pause between two
    /// pieces of a response body; 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_body: Option<HumanDuration>,
    /// Overrides `settings.downstream.body_timeout`, also for gRPC: longest pause while a client sends a request
    /// body; 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_body: Option<HumanDuration>,
    /// Overrides `settings.downstream.send_timeout`: longest time in which a client accepts no byte of a response
    /// that is ready for it; 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send: Option<HumanDuration>,
}
