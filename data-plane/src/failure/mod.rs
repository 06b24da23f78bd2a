//! Failures of attempts and responses. `verdict.rs` is the table of their consequences.

mod verdict;

use std::io;

pub(crate) use self::verdict::{Owner, Resend, RetryReason, Verdict};

/// The failure of an attempt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// No connection was made: nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The TLS handshake failed: nothing was sent.
    #[error("TLS: {0}")]
    Handshake(io::Error),
    /// The backend has not started the request: its stream comes after the last one of a GOAWAY (RFC 9113, 6.8), or it
    /// was never sent.
    #[error("the connection closed before the request was begun")]
    NotBegun,
    /// The backend has not processed the request: REFUSED_STREAM (RFC 9113, 8.7).
    #[error("the backend refused the stream")]
    Refused,
    /// No connection had room for another stream in time, and no more connections may be opened: nothing was sent.
    #[error("no connection to the backend has room for another stream")]
    NoStream,
    /// The backend reset the stream with ENHANCE_YOUR_CALM.
    #[error("the backend reset the stream: excessive load (ENHANCE_YOUR_CALM)")]
    Calm,
    /// The backend closed the connection with ENHANCE_YOUR_CALM. Which of its requests caused it is unknown.
    #[error("the backend closed the connection: excessive load (ENHANCE_YOUR_CALM)")]
    CalmConnection,
    /// HTTP/2 cannot express the request: nothing was sent.
    #[error("the request cannot be sent over HTTP/2: {0}")]
    Inexpressible(&'static str),
    /// The request's head is larger than the backend's SETTINGS allow: nothing was sent.
    #[error("the request's head is larger than the backend accepts")]
    HeadTooLarge,
    /// The connection was closed or reset before a response.
    #[error("the backend closed the connection")]
    Broken {
        /// The connection had carried requests before, and may have been closed because it was idle.
        reused: bool,
    },
    /// The head of the response did not arrive in time, or its body paused for too long.
    #[error("the backend did not answer in time")]
    Timeout,
    /// The deadline of the whole request has passed.
    #[error("the request's deadline passed")]
    Deadline,
    /// The head of the response exceeds the pool's limits.
    #[error(
        "the head of the backend's answer is larger than limits.max_response_head or max_response_headers"
    )]
    AnswerHeadTooLarge,
    /// The response is malformed.
    #[error("the backend's answer is invalid: {0}")]
    Invalid(&'static str),
    /// The client's body was not complete.
    #[error("the request's body broke off")]
    RequestBody(BodyFailure),
    /// The client took too long to send its body.
    #[error("the client did not send its body in time")]
    ClientStalled,
    /// The client left before the response.
    #[error("the client left")]
    ClientGone,
}

/// Why a request's body is not complete.
#[derive(Debug)]
pub(crate) enum BodyFailure {
    /// The client closed or reset its connection.
    Gone,
    /// The body is malformed; the client gets a 400.
    Malformed(&'static str),
    /// The body is larger than its route allows.
    TooLarge,
}
