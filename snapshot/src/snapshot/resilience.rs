//! Checked resilience settings of a pool, and fallbacks.

use std::{sync::Arc, time::Duration};

use crate::{
    config::{HashOn, RetryOn},
    units::Fraction,
};

/// Session affinity: keeps a client on the backend that answered it first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// Name of the cookie, a token (RFC 9110 section 5.6.2).
    pub cookie: Arc<str>,
    /// At least one second.
    pub ttl: Duration,
}

/// When a node ejects a backend, and when it tries it again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Breaker {
    /// Failures in a row, at least 1.
    pub consecutive_failures: u32,
    /// Share of failures within the window, more than 0.
    pub error_rate: f64,
    /// At least one second.
    pub window: Duration,
    /// At least 1.
    pub min_requests: u32,
    /// At least 100 ms.
    pub open_for: Duration,
    /// Share of the pool, more than 0.
    pub max_ejected: f64,
}

impl Eq for Breaker {}

/// Which failures are retried, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Maximum number of attempts, including the first; at least 1.
    pub attempts: u32,
    /// Retries in millionths of the successful requests.
    pub budget: u32,
    /// Timeout of one attempt, after which another backend is tried.
    pub per_attempt: Option<Duration>,
    /// Whether failed connections are retried on another backend.
    pub on_connect_failure: bool,
    /// Whether broken connections are retried.
    pub on_reset: bool,
    /// Whether attempts that exceeded `per_attempt` are retried.
    pub on_timeout: bool,
    statuses: Vec<u16>,
}

impl Retry {
    pub(crate) fn new(attempts: u32, budget: u32, per_attempt: Option<Duration>, on: &[RetryOn]) -> Self {
        let status = |on: &RetryOn| match on {
            RetryOn::Status(status) => Some(*status),
            _ => None,
        };
        Self {
            attempts,
            budget,
            per_attempt,
            on_connect_failure: on.contains(&RetryOn::ConnectFailure),
            on_reset: on.contains(&RetryOn::Reset),
            // A timeout per attempt only makes sense with another attempt.
            on_timeout: per_attempt.is_some(),
            statuses: on.iter().filter_map(status).collect(),
        }
    }

    /// Whether responses with this status are retried.
    pub fn on_status(&self, status: u16) -> bool {
        status >= 400 && self.statuses.contains(&status)
    }
}

/// Limits per backend and node, and limits on response heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections in use, at least 1.
    pub max_connections: u32,
    /// Requests that may wait for a connection.
    pub max_pending: u32,
    /// Largest response head in bytes, 1 KiB to 1 MiB.
    pub max_response_head: usize,
    /// Largest number of header fields in a response, 1 to 1024.
    pub max_response_headers: usize,
}

/// Sessions, circuit breaker, retries and limits of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resilience {
    /// Hash key; `client_ip` for strategies that do not hash.
    pub hash_on: HashOn,
    /// Session affinity.
    pub sticky: Option<Sticky>,
    /// Time until a new or recovered backend has its full share.
    pub slow_start: Duration,
    /// How long a draining backend keeps its sessions.
    pub drain_timeout: Duration,
    /// Circuit breaker; `None`: never ejects.
    pub breaker: Option<Breaker>,
    /// Which failures are retried.
    pub retry: Retry,
    /// Limits per backend and node.
    pub limits: Limits,
    /// Share of unavailable backends from which on all backends get requests, more than 0; `None`: never.
    pub panic: Option<Fraction>,
}

/// Response or pool to use when the pool has no available backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fallback {
    /// Index of another pool.
    Pool(usize),
    /// A fixed response.
    Response {
        /// 200 to 599.
        status: u16,
        /// The body as text.
        body: Arc<str>,
    },
}
