//! Resilience settings of a pool: hash key, sessions, circuit breaker, retries, limits, panic mode, fallback.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::seconds;
use crate::units::{ByteSize, Fraction, HumanDuration};

/// Hash key of the strategy `consistent_hash`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HashOn {
    /// The client address.
    #[default]
    ClientIp,
    /// The path without the query.
    Path,
    /// The value of this header; the client address for requests without it.
    Header(String),
    /// The value of this cookie; the client address for requests without it.
    Cookie(String),
}

impl fmt::Display for HashOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientIp => f.write_str("client_ip"),
            Self::Path => f.write_str("path"),
            Self::Header(name) => write!(f, "header {name}"),
            Self::Cookie(name) => write!(f, "cookie {name}"),
        }
    }
}

/// Session affinity (sticky sessions): keeps a client on the backend that answered it first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Sticky {
    /// Name of the session cookie; absent: `weir-` and the pool's name, so that two pools of one host do not
    /// overwrite each other's cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// A session ends when it is not used for this long.
    pub ttl: HumanDuration,
}

impl Default for Sticky {
    fn default() -> Self {
        Self { cookie: None, ttl: seconds(3600) }
    }
}

/// Circuit breaker: when a node stops sending requests to a failing backend, and when it tries the backend again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Breaker {
    /// If false, failing requests never eject a backend.
    pub enabled: bool,
    /// Number of failures in a row that ejects a backend.
    pub consecutive_failures: u32,
    /// Share of failed requests within the window that ejects a backend, 0 to 1.
    pub error_rate: Fraction,
    /// Time window for `error_rate`.
    pub window: HumanDuration,
    /// Minimum number of requests within the window for `error_rate` to apply.
    pub min_requests: u32,
    /// How long a backend stays ejected before it gets a trial request. The time grows with each ejection in a row.
    pub open_for: HumanDuration,
    /// Largest share of the pool that may be ejected at the same time, 0 to 1.
    pub max_ejected: Fraction,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            enabled: true,
            consecutive_failures: 5,
            error_rate: Fraction::from_percent(50),
            window: seconds(10),
            min_requests: 20,
            open_for: seconds(10),
            max_ejected: Fraction::from_percent(50),
        }
    }
}

/// Which failures are retried, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Retry {
    /// Maximum number of attempts per request, including the first; 1: no retry. Failed connections do not count:
    /// nothing was sent.
    pub attempts: u32,
    /// Failures that are retried.
    pub on: Vec<RetryOn>,
    /// Retries as a share of successful requests, 0 to 1. With 0, only failures that cost a backend nothing are
    /// retried.
    pub budget: Fraction,
    /// Timeout of one attempt, after which the request is tried elsewhere if it may be retried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_attempt: Option<HumanDuration>,
}

impl Default for Retry {
    fn default() -> Self {
        use RetryOn::{ConnectFailure, Reset, Status};
        Self {
            attempts: 3,
            on: vec![ConnectFailure, Reset, Status(502), Status(503), Status(504)],
            budget: Fraction::from_percent(20),
            per_attempt: None,
        }
    }
}

/// A kind of failure that is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryOn {
    /// The connection failed: nothing was sent.
    ConnectFailure,
    /// The connection broke before a response, or the response was not valid HTTP.
    Reset,
    /// No response within `per_attempt`.
    Timeout,
    /// A response with this status.
    Status(u16),
}

impl RetryOn {
    const KNOWN: &'static str = "connect_failure, reset, timeout, and statuses from 400 to 599";
}

impl Serialize for RetryOn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::ConnectFailure => serializer.serialize_str("connect_failure"),
            Self::Reset => serializer.serialize_str("reset"),
            Self::Timeout => serializer.serialize_str("timeout"),
            Self::Status(status) => serializer.serialize_u16(*status),
        }
    }
}

impl<'de> Deserialize<'de> for RetryOn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = RetryOn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "one of {}", RetryOn::KNOWN)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RetryOn, E> {
                match text {
                    "connect_failure" => Ok(RetryOn::ConnectFailure),
                    "reset" => Ok(RetryOn::Reset),
                    "timeout" => Ok(RetryOn::Timeout),
                    _ => match text.parse() {
                        Ok(status) => self.visit_u64(status),
                        Err(_) => Err(E::custom(format!(
                            "{text:?} is not a failure that can be retried (known: {})",
                            RetryOn::KNOWN
                        ))),
                    },
                }
            }

            fn visit_u64<E: serde::de::Error>(self, status: u64) -> Result<RetryOn, E> {
                u16::try_from(status)
                    .ok()
                    .filter(|status| (400..=599).contains(status))
                    .map(RetryOn::Status)
                    .ok_or_else(|| {
                        E::custom(format!(
                            "status {status} is not a failure that can be retried (known: {})",
                            RetryOn::KNOWN
                        ))
                    })
            }

            fn visit_i64<E: serde::de::Error>(self, status: i64) -> Result<RetryOn, E> {
                // Negative numbers are out of range as well.
                self.visit_u64(u64::try_from(status).unwrap_or_default())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Limits per backend and node, and limits on response heads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Limits {
    /// Connections in use per backend and node.
    pub max_connections: u32,
    /// Requests that may wait for a connection, per backend and node; 0: none.
    pub max_pending: u32,
    /// Largest response head, in bytes; larger ones become 502.
    pub max_response_head: ByteSize,
    /// Largest number of header fields in a response; more become 502.
    pub max_response_headers: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_pending: 1024,
            max_response_head: ByteSize(64 << 10),
            max_response_headers: 256,
        }
    }
}

/// When a pool's backends get requests although they are down by their health check or ejected by the circuit
/// breaker. A route's fallback comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Panic {
    /// Never: requests get 503.
    Off,
    /// When at least this share of the active backends is down or ejected, 0 to 1; 1: when all are.
    Threshold(Fraction),
}

impl Default for Panic {
    fn default() -> Self {
        Self::Threshold(Fraction::from_percent(100))
    }
}

impl Serialize for Panic {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str("off"),
            Self::Threshold(threshold) => serializer.collect_map([("threshold", threshold)]),
        }
    }
}

impl<'de> Deserialize<'de> for Panic {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Panic;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("off, or { threshold: 1.0 } with a share from 0 to 1")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Panic, E> {
                match text {
                    "off" => Ok(Panic::Off),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }

            /// Older YAML reads `off` as a boolean.
            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Panic, E> {
                match value {
                    false => Ok(Panic::Off),
                    true => Err(E::invalid_value(serde::de::Unexpected::Bool(true), &self)),
                }
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Panic, A::Error> {
                #[derive(Deserialize)]
                struct Threshold {
                    threshold: Fraction,
                }
                let read = Threshold::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Panic::Threshold(read.threshold))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Response or pool to use when the route's pool has no available backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Fallback {
    /// Another pool; not together with `status` and `body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Status of a fixed response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Body of a fixed response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}
