//! Settings of the whole fleet.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{IpFilter, is_default, seconds};
use crate::units::{ByteSize, HumanDuration};

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
