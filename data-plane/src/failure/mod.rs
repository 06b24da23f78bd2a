//! Why an attempt got no response, or a response broke off. `verdict.rs` is the table of what follows from each.

mod verdict;

use std::io;

pub(crate) use self::verdict::{Owner, Resend, RetryReason, Verdict};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// There was no connection: nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// There was a connection, and no TLS on it that can be trusted: nothing was sent.
    #[error("TLS: {0}")]
    Handshake(io::Error),
    /// The connection takes no more requests, and the backend has not begun this one: it comes after the last stream
    /// of its GOAWAY (RFC 9113, 6.8), or it was never sent.
    #[error("the connection closed before the request was begun")]
    NotBegun,
    /// The backend has not looked at the request: REFUSED_STREAM (RFC 9113, 8.7).
    #[error("the backend refused the stream")]
    Refused,
    /// No connection to the backend had room for another stream in time, and there are as many as may be: nothing was
    /// sent.
    #[error("no connection to the backend has room for another stream")]
    NoStream,
    /// The backend reset the stream and asks for less of the same (ENHANCE_YOUR_CALM).
    #[error("the backend reset the stream: it is asked for too much (ENHANCE_YOUR_CALM)")]
    Calm,
    /// The backend closed the connection and asks for less (ENHANCE_YOUR_CALM). Which of its requests was too much is
    /// not known.
    #[error("the backend closed the connection: it is asked for too much (ENHANCE_YOUR_CALM)")]
    CalmConnection,
    /// The protocol that the backend speaks has no way to express the request: nothing was sent.
    #[error("the request cannot be sent over HTTP/2: {0}")]
    Inexpressible(&'static str),
    /// The request's head is larger than the backend's SETTINGS allow: nothing was sent.
    #[error("the request's head is larger than the backend accepts")]
    HeadTooLarge,
    /// The connection was closed or reset before an answer.
    #[error("the backend closed the connection")]
    Broken {
        /// It had carried requests before, and may have been closed for being idle.
        reused: bool,
    },
    /// No head of an answer in time, or a body that stands still.
    #[error("the backend did not answer in time")]
    Timeout,
    /// The deadline of the whole request has passed.
    #[error("the request's deadline passed")]
    Deadline,
    /// The answer's head has more bytes or fields than the pool allows.
    #[error(
        "the head of the backend's answer is larger than limits.max_response_head or max_response_headers"
    )]
    AnswerHeadTooLarge,
    /// What came is no answer.
    #[error("the backend's answer is invalid: {0}")]
    Invalid(&'static str),
    /// The client's body did not come to its end.
    #[error("the request's body broke off")]
    RequestBody(BodyFailure),
    /// The client took too long to send its body.
    #[error("the client did not send its body in time")]
    ClientStalled,
    /// The client left while the answer was awaited.
    #[error("the client left")]
    ClientGone,
}

/// Why a request's body did not come to its end.
#[derive(Debug)]
pub(crate) enum BodyFailure {
    /// The client closed or reset its connection.
    Gone,
    /// What it sent is no body; said to the client as 400.
    Malformed(&'static str),
    /// It is larger than its route allows.
    TooLarge,
}
