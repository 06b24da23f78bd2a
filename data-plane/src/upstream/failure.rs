//! Why an attempt gave no answer, or an answer broke off.

use std::io;

use crate::listener::BodyFailure;

/// What went wrong, and with it whose fault it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// There was no connection: nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// There was a connection, and no TLS on it that can be trusted: nothing was sent.
    #[error("TLS: {0}")]
    Handshake(io::Error),
    /// The backend said that it has not looked at the request (RFC 9113, 8.7): anyone may have it again.
    #[error("the backend refused the request unseen")]
    Refused,
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
