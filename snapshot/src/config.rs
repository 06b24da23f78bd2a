//! The declarative configuration: what the file and the API say, not yet checked.
//!
//! Field names are the contract. A value that is absent takes the default written here, and serializing leaves
//! defaults out, so that an exported file is as short as the one that was written.

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

/// A whole configuration. [`Default`] is what a fresh database holds: a pool `default` with no backend and a route
/// `default` to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Config {
    /// What holds for the whole fleet.
    #[serde(default, skip_serializing_if = "is_default")]
    pub settings: Settings,
    /// Named backends that share a strategy, a health check and a resilience policy.
    #[serde(default)]
    pub pools: Vec<Pool>,
    /// What matches, and what happens then.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// What nodes show to clients that come by HTTPS; the first one also to those that name no host that any has.
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

/// What holds for the whole fleet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Settings {
    /// Networks and addresses of proxies whose word on where a request came from is believed.
    #[serde(skip_serializing_if = "is_default")]
    pub trusted_proxies: Vec<String>,
    /// Deadlines and bounds towards clients.
    #[serde(skip_serializing_if = "is_default")]
    pub downstream: Downstream,
    /// Whose requests any route takes; a route's own filter is asked besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_filter: Option<IpFilter>,
    /// Addresses that backends may have only where this allows it.
    #[serde(skip_serializing_if = "is_default")]
    pub allow_backends: AllowBackends,
}

/// Addresses that backends may have only where this allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AllowBackends {
    /// Link-local addresses (169.254.0.0/16, fe80::/10) and cloud metadata services.
    pub link_local: bool,
    /// Ports of this fleet: the admin port, the port for nodes, and the nodes' own HTTP, HTTPS and status ports.
    pub own_ports: bool,
}

/// Deadlines and bounds towards clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Downstream {
    /// From the first byte of a request's head, or the acceptance of the connection, to the head's end.
    pub header_timeout: HumanDuration,
    /// How long a client may pause within a request's body; 0: no limit. nginx: `client_body_timeout`.
    pub body_timeout: HumanDuration,
    /// How long a client may take nothing of an answer that waits for it; 0: no limit. nginx: `send_timeout`.
    pub send_timeout: HumanDuration,
    /// A connection may wait this long for its next request.
    pub idle_timeout: HumanDuration,
    /// From the acceptance of a connection to the end of its TLS handshake.
    pub tls_handshake_timeout: HumanDuration,
    /// The size of a request's head.
    pub max_head: ByteSize,
    /// The number of fields in a request's head.
    pub max_headers: u32,
    /// Open connections per client address and node; 0: no limit. An IPv6 address counts with its /64 network.
    pub max_connections_per_ip: u32,
    /// Requests in flight per client address and node, each stream of an HTTP/2 connection being one; more are answered
    /// with 429. Tunnels and event streams that a backend has accepted do not count. 0: no limit. An IPv6 address counts
    /// with its /64 network.
    pub max_requests_per_ip: u32,
    /// Streams that an HTTP/2 client may have open on one connection.
    pub max_concurrent_streams: u32,
    /// Bytes per second of a body that a client must send or take on average, counted over the time in which Weir waits
    /// for the client; 0: no limit.
    pub min_body_rate: ByteSize,
    /// How long Weir waits for a client in all before `min_body_rate` applies to a body.
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

/// Named backends that share a strategy, a health check and a resilience policy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Pool {
    /// Its name, unique among the pools.
    pub name: String,
    /// How a backend is picked.
    #[serde(default)]
    pub strategy: Strategy,
    /// What `consistent_hash` goes by; only with that strategy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_on: Option<HashOn>,
    /// Keeps clients at their backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// A backend that is new or recovered comes to its full share within this time; 0: at once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub slow_start: HumanDuration,
    /// How long a draining backend keeps its sessions; absent: 5 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<HumanDuration>,
    /// How the control plane finds out whether a backend works.
    #[serde(default, skip_serializing_if = "is_default")]
    pub health_check: HealthCheck,
    /// When a node stops to send to a backend that fails for it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub breaker: Breaker,
    /// What may be tried again, and how often.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retry: Retry,
    /// Deadlines towards the backends.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeouts: Timeouts,
    /// How a node finds out that a backend is gone without a word.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keep_alive: KeepAlive,
    /// What a node sends to one backend at the same time.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// When backends get requests although they look dead.
    #[serde(default, skip_serializing_if = "is_default")]
    pub panic: Panic,
    /// What the backends speak.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protocol: Protocol,
    /// Sends requests without a `Via` header. nginx and IIS do not compress responses to requests that have one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub omit_via: bool,
    /// How its `https://` backends are spoken to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Who answers.
    #[serde(default)]
    pub backends: Vec<Backend>,
}

/// How a backend is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// In turn, in proportion to the weights, evenly interleaved.
    #[default]
    RoundRobin,
    /// By chance, in proportion to the weights.
    Random,
    /// The fewest requests in flight per weight.
    LeastConnections,
    /// The less busy one of two that were drawn by chance.
    PowerOfTwo,
    /// Of two that were drawn by chance, the one that answers sooner, by its recent latency and its load.
    PeakEwma,
    /// By the client's address; the same on every node.
    IpHash,
    /// By what `hash_on` says; the same on every node.
    ConsistentHash,
}

impl Strategy {
    /// Every strategy, with its name in the configuration.
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

/// The name is not a strategy's.
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

/// What a pool's backends speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1, one request at a time on a connection.
    #[default]
    Http1,
    /// HTTP/2, in the clear with prior knowledge; many requests on a connection; what gRPC needs.
    Http2,
}

/// How the control plane finds out whether a backend works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HealthCheck {
    /// What a probe is.
    #[serde(rename = "type")]
    pub kind: HealthCheckKind,
    /// What an HTTP probe asks for.
    pub path: String,
    /// From one probe to the next. A backend that stops working is down after at most `fall` × `interval` + `timeout`.
    pub interval: HumanDuration,
    /// From one probe to the next after a backend was added, after its state has changed, and while it comes back. Absent:
    /// 1 s, or `interval` where that is shorter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fast_interval: Option<HumanDuration>,
    /// A probe that takes longer has failed.
    pub timeout: HumanDuration,
    /// So many good probes in a row bring a backend up.
    pub rise: u32,
    /// So many failed probes in a row take it down.
    pub fall: u32,
    /// The statuses that count as good: `200`, `200-399`, or several with commas.
    pub expect_status: String,
    /// What the body of an HTTP probe's answer must contain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect_body: Option<String>,
    /// The host that an HTTP or gRPC probe asks for; absent: the backend's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The service that a gRPC probe asks for; absent: the whole server.
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

/// What a probe is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthCheckKind {
    /// A GET that is answered with an expected status.
    Http,
    /// A connection that is accepted.
    #[default]
    Tcp,
    /// gRPC's health protocol.
    Grpc,
    /// No probe: the backend counts as up.
    None,
}

/// Deadlines towards the backends of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Timeouts {
    /// To open a connection.
    pub connect: HumanDuration,
    /// From the end of the request to the head of the answer.
    pub response: HumanDuration,
    /// Between two pieces of an answer's body; 0: no limit. Event streams and gRPC have no such limit. nginx:
    /// `proxy_read_timeout`, Envoy: `stream_idle_timeout`.
    pub response_body: HumanDuration,
    /// A connection kept for reuse is closed after this; sooner where the backend says so (`Keep-Alive: timeout=5`).
    /// The default is below the 60 s after which many servers close theirs.
    pub idle: HumanDuration,
    /// A connection that became a tunnel (a WebSocket, any `Upgrade`) is closed when nothing moves for so long.
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

/// How a node finds out that a backend is gone without closing its connections: a machine that lost power, a path
/// that drops packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KeepAlive {
    /// From one TCP keep-alive probe to the next on a silent connection; 0: none. Backends do not see them.
    pub tcp: HumanDuration,
    /// From one HTTP/2 PING to the next while requests run on a connection; 0: none. Servers of gRPC close connections
    /// on which PINGs come more often than they allow, by default every 5 minutes. Only with `protocol: http2`.
    pub ping: HumanDuration,
    /// An HTTP/2 connection on which a PING or data is not acknowledged for so long is closed; 0: the kernel's own time
    /// for data (about 15 minutes on Linux).
    pub timeout: HumanDuration,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { tcp: seconds(20), ping: seconds(0), timeout: seconds(30) }
    }
}

/// One address that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Backend {
    /// Given by the control plane, never reused; not in the file. Empty until it is given.
    #[serde(skip)]
    pub id: String,
    /// `http://host:port` or `https://host:port`.
    #[schemars(example = "http://127.0.0.1:8082")]
    pub url: String,
    /// Its share of the traffic, 1 to 1000.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1, max = 1000), extend("default" = 1))]
    pub weight: u32,
    /// Whether it takes traffic.
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
    /// It does.
    #[default]
    Active,
    /// It finishes what runs and takes nothing new.
    Draining,
    /// It takes nothing and is not probed.
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

/// What matches, and what happens then.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    /// Its name, unique among the routes.
    pub name: String,
    /// Which requests it takes; absent: all of them.
    #[serde(default, rename = "match", skip_serializing_if = "is_default")]
    pub matches: Match,
    /// The pool that requests go to; empty: none. A route has one of `pool`, `split` and `redirect`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pool: String,
    /// Several pools that requests go to, by weight.
    #[serde(default, skip_serializing_if = "is_default")]
    pub split: Vec<Share>,
    /// Keeps a client at the pool of the split that it was given first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_sticky: Option<SplitSticky>,
    /// Where the client is told to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// What is changed of a request's target.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rewrite: Rewrite,
    /// What is changed of a request's header.
    #[serde(default, skip_serializing_if = "is_default")]
    pub request_headers: HeaderEdits,
    /// What happens to request headers that a backend could take for another header, such as `X_Forwarded_For`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub underscore_headers: UnderscoreHeaders,
    /// What is changed of an answer's header, also where the answer is Weir's own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub response_headers: HeaderEdits,
    /// What answers when the pool has no backend to offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// Bounds of what clients may send.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: RouteLimits,
    /// Deadlines of the whole request.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeouts: RouteTimeouts,
    /// Whose requests it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_filter: Option<IpFilter>,
    /// The methods that it takes; empty: all. GET means HEAD as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_methods: Vec<String>,
    /// How often who may ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Asks for a name and a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// Asks for a signed token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    /// Tells browsers to come by HTTPS only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Hsts>,
}

/// Bounds of what clients may send to a route.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RouteLimits {
    /// The size of a request's body; a larger one is answered with 413. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body: Option<ByteSize>,
    /// In place of `settings.downstream.min_body_rate`; 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_body_rate: Option<ByteSize>,
}

/// Deadlines of a route's requests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RouteTimeouts {
    /// From a request's head to the end of its answer, with all its attempts. Absent: as long as it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<HumanDuration>,
    /// In place of the pool's `timeouts.response`: from the end of the request to the head of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<HumanDuration>,
    /// In place of the pool's `timeouts.response_body`, also for event streams and gRPC: between two pieces of an answer's
    /// body; 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_body: Option<HumanDuration>,
    /// In place of `settings.downstream.body_timeout`, also for gRPC: how long a client may pause within a request's body;
    /// 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_body: Option<HumanDuration>,
    /// In place of `settings.downstream.send_timeout`: how long a client may take nothing of an answer that waits for it;
    /// 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send: Option<HumanDuration>,
}
