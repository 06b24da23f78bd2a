//! What a pool says of picking and of failures: what hashing goes by, sessions, the breaker, retries, limits.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::seconds;
use crate::units::{ByteSize, Fraction, HumanDuration};

/// What of a request `consistent_hash` goes by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HashOn {
    /// The client's address.
    #[default]
    ClientIp,
    /// The path, without the query.
    Path,
    /// A header's value; requests without it go by the client's address.
    Header(String),
    /// A cookie's value; requests without it go by the client's address.
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

/// Keeps a client at the backend that answered it first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Sticky {
    /// The name of the session cookie; absent: `weir-` and the pool's name, so that two pools behind one host do not
    /// replace each other's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// A session that was not used for so long is over.
    pub ttl: HumanDuration,
}

impl Default for Sticky {
    fn default() -> Self {
        Self { cookie: None, ttl: seconds(3600) }
    }
}

/// When a node stops to send to a backend that fails for it, and when it tries again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Breaker {
    /// False: backends are never ejected by what happens to requests.
    pub enabled: bool,
    /// So many failures in a row eject.
    pub consecutive_failures: u32,
    /// This share of failures within the window ejects.
    pub error_rate: Fraction,
    /// How far back the share is counted.
    pub window: HumanDuration,
    /// Below so many requests within the window the share says nothing.
    pub min_requests: u32,
    /// How long a backend is out before it is tried again; it grows with each time in a row.
    pub open_for: HumanDuration,
    /// At most this share of the pool is out at once.
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

/// What may be tried again, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Retry {
    /// How often a request is sent to the pool's backends at most, the first time included; 1: once. A connection that fails
    /// sends nothing.
    pub attempts: u32,
    /// What is tried again.
    pub on: Vec<RetryOn>,
    /// Retries as a share of the requests that succeed; 0: only what costs a backend nothing.
    pub budget: Fraction,
    /// An attempt without an answer for so long is given up for another, where there may be one.
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

/// A kind of failure that is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryOn {
    /// No connection: nothing was sent.
    ConnectFailure,
    /// The connection broke before an answer, or what came is no answer.
    Reset,
    /// No answer within `per_attempt`.
    Timeout,
    /// An answer with this status.
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
                            "{text:?} is nothing to retry on (known: {})",
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
                            "status {status} is nothing to retry on (known: {})",
                            RetryOn::KNOWN
                        ))
                    })
            }

            fn visit_i64<E: serde::de::Error>(self, status: i64) -> Result<RetryOn, E> {
                // What is negative is out of bounds as well.
                self.visit_u64(u64::try_from(status).unwrap_or_default())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// What a node sends to one backend at the same time, and how large the heads of its answers may be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Limits {
    /// Connections in use.
    pub max_connections: u32,
    /// Requests that wait for one; 0: none waits.
    pub max_pending: u32,
    /// The size of an answer's head; a larger one is answered with 502.
    pub max_response_head: ByteSize,
    /// The number of fields in an answer's head; an answer with more is answered with 502.
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

/// When a pool's backends get requests although they look dead (down by their health check, or ejected by the breaker).
/// A route's fallback comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Panic {
    /// Never: requests are answered with 503.
    Off,
    /// When at least this share of the active backends looks dead; 1: when all do.
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

            /// What older YAML makes of `off`.
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

/// What answers when the pool has no backend to offer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Fallback {
    /// Another pool; without `status` and `body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// A fixed answer's status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// A fixed answer's body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}
