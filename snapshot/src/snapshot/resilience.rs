//! Checked: what a pool says of picking and of failures.

use std::{sync::Arc, time::Duration};

use crate::{
    config::{HashOn, RetryOn},
    units::Fraction,
};

/// Keeps a client at the backend that answered it first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// The cookie's name, a token (RFC 9110, 5.6.2).
    pub cookie: Arc<str>,
    /// At least a second.
    pub ttl: Duration,
}

/// When a node ejects a backend, and when it tries it again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Breaker {
    /// Failures in a row, at least 1.
    pub consecutive_failures: u32,
    /// Share of failures in the window, more than 0.
    pub error_rate: f64,
    /// At least a second.
    pub window: Duration,
    /// At least 1.
    pub min_requests: u32,
    /// At least 100 ms.
    pub open_for: Duration,
    /// Share of the pool, more than 0.
    pub max_ejected: f64,
}

impl Eq for Breaker {}

/// What may be tried again, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// How often a request is sent to a backend, the first time included; at least 1.
    pub attempts: u32,
    /// Retries in millionths of the requests that succeed.
    pub budget: u32,
    /// Another backend is asked when one gives no answer for so long.
    pub per_attempt: Option<Duration>,
    /// A backend without a connection is passed over.
    pub on_connect_failure: bool,
    /// A broken connection is tried again.
    pub on_reset: bool,
    /// An attempt that ran into `per_attempt` is tried again.
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
            // Who sets a deadline for attempts wants another attempt after it.
            on_timeout: per_attempt.is_some(),
            statuses: on.iter().filter_map(status).collect(),
        }
    }

    /// Whether an answer with this status is tried again.
    pub fn on_status(&self, status: u16) -> bool {
        status >= 400 && self.statuses.contains(&status)
    }
}

/// What a node sends to one backend at the same time, and how large the heads of its answers may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections in use, at least 1.
    pub max_connections: u32,
    /// Requests that wait for one.
    pub max_pending: u32,
    /// Bytes of an answer's head, 1 KiB to 1 MiB.
    pub max_response_head: usize,
    /// Fields of an answer's head, 1 to 1024.
    pub max_response_headers: usize,
}

/// How a pool picks and what it does about failures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resilience {
    /// What hashing goes by; `client_ip` for every strategy that does not hash.
    pub hash_on: HashOn,
    /// Sessions.
    pub sticky: Option<Sticky>,
    /// Until a new or recovered backend has its full share.
    pub slow_start: Duration,
    /// How long a draining backend keeps its sessions.
    pub drain_timeout: Duration,
    /// `None`: never ejects.
    pub breaker: Option<Breaker>,
    /// What may be tried again.
    pub retry: Retry,
    /// Per backend and node.
    pub limits: Limits,
    /// The share of dead backends from which on all get requests, more than 0; `None`: never.
    pub panic: Option<Fraction>,
}

/// What answers when the pool has no backend to offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fallback {
    /// Another pool, as an index.
    Pool(usize),
    /// A fixed answer.
    Answer {
        /// 200 to 599.
        status: u16,
        /// Its body, as text.
        body: Arc<str>,
    },
}
