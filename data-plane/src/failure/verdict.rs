//! The table of failed attempts: the owner of the failure, whether the request may be sent again, and the response for
//! the client.
//!
//! Only failures of the backend count for its breaker. Retries, status, log, metrics and report read the same row, so
//! that they cannot disagree.

use std::io;

use rustix::io::Errno;

use weir_snapshot::RefusalReason;

use super::{BodyFailure, Failure};
use crate::answer::Local;

/// The party that caused a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The client: its request is invalid, too large or too slow, or it left.
    Client,
    /// The backend. Only these count for its breaker.
    Backend,
    /// This node: it has no file descriptor, port or memory left.
    Node,
    /// An ordinary event: a connection that closes, a backend at its limit of streams, a deadline of the route.
    None,
}

impl Owner {
    /// All, in the order of their numbers.
    pub(crate) const ALL: [Self; 4] = [Self::Client, Self::Backend, Self::Node, Self::None];

    /// Its name in metrics and logs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
            Self::Node => "node",
            Self::None => "none",
        }
    }
}

/// Whether a request may be sent again to the same backend, at once and without budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resend {
    /// Never.
    Never,
    /// If its method is idempotent, up to this number of times: the backend may have acted on the first attempt.
    Idempotent(u32),
    /// Always: the backend has not started the request. Another backend with room is as good.
    Unseen {
        /// The same backend is tried first, because it is as good as before.
        stays: bool,
    },
}

/// Why a request may be retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryReason {
    /// No connection: nothing was sent.
    Connect,
    /// No connection in time: nothing was sent, but time has passed.
    ConnectTimeout,
    /// The backend has not processed the request: it closes the connection, or has no room for a stream.
    Refused,
    /// The connection broke before a response, or the response is malformed.
    Reset,
    /// The response was too late.
    Timeout,
    /// A response with this status.
    Status(u16),
}

impl RetryReason {
    /// Whether the backend cannot have acted on the request.
    pub(crate) fn is_unseen(self) -> bool {
        matches!(self, Self::Connect | Self::ConnectTimeout | Self::Refused)
    }

    /// Whether the failure speaks against the backend and not against the request.
    pub(crate) fn is_failure(self) -> bool {
        match self {
            Self::Status(status) => status >= 500 && !matches!(status, 501 | 505),
            _ => true,
        }
    }

    /// Whether the attempt cost the backend nothing, so that another one needs no budget.
    pub(crate) fn is_free(self) -> bool {
        self.is_unseen()
    }
}

/// The consequences of a failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) owner: Owner,
    /// Has precedence over `retry`.
    pub(crate) resend: Resend,
    /// The retry policy's name for the failure; `None` if no other backend would do better.
    pub(crate) retry: Option<RetryReason>,
    /// The response for the client.
    pub(crate) answer: Local,
    /// The refusal reason in reports, if no backend can have seen the request.
    pub(crate) refusal: Option<RefusalReason>,
    /// If several backends could not be reached, the client gets the response with the highest weight.
    pub(crate) weight: u8,
}

/// Most resends of one request because of idle connections that the backend has closed.
const MAX_STALE: u32 = 8;

impl Failure {
    /// The failure's row.
    pub(crate) fn verdict(&self) -> Verdict {
        use Owner::{Backend, Client, Node, None as Ordinary};
        use Resend::{Idempotent, Never, Unseen};
        let row =
            |owner, resend, retry, answer| Verdict { owner, resend, retry, answer, refusal: None, weight: 0 };
        let unreached = |owner, retry, answer, refusal, weight| Verdict {
            refusal: Some(refusal),
            weight,
            ..row(owner, Never, Some(retry), answer)
        };
        match self {
            Self::Connect(error) if is_own(error) => {
                unreached(Node, RetryReason::Connect, Local::NO_RESOURCES, RefusalReason::NoRoom, 3)
            }
            Self::Connect(error) if error.kind() == io::ErrorKind::TimedOut => unreached(
                Backend,
                RetryReason::ConnectTimeout,
                Local::CONNECT_TIMEOUT,
                RefusalReason::NoBackend,
                1,
            ),
            Self::Connect(_) => {
                unreached(Backend, RetryReason::Connect, Local::NO_CONNECTION, RefusalReason::NoBackend, 0)
            }
            Self::Handshake(_) => {
                unreached(Backend, RetryReason::Connect, Local::NO_HANDSHAKE, RefusalReason::NoBackend, 2)
            }
            Self::NotBegun => Verdict {
                resend: Unseen { stays: true },
                ..unreached(Ordinary, RetryReason::Refused, Local::REFUSED, RefusalReason::NoRoom, 0)
            },
            Self::Refused => Verdict {
                resend: Unseen { stays: false },
                ..unreached(Ordinary, RetryReason::Refused, Local::REFUSED, RefusalReason::NoRoom, 0)
            },
            Self::NoStream => {
                unreached(Ordinary, RetryReason::Refused, Local::NO_ROOM, RefusalReason::NoRoom, 0)
            }
            Self::Calm => row(Client, Never, None, Local::CALM),
            // One more attempt is made if the request is idempotent, because another client's request may have caused
            // this.
            Self::CalmConnection => row(Ordinary, Idempotent(1), None, Local::CALM_CONNECTION),
            Self::Inexpressible(why) => row(Client, Never, None, Local::bad_request(why)),
            Self::HeadTooLarge => row(Client, Never, None, Local::HEAD_TOO_LARGE),
            // Most likely the backend closed the idle connection while the request was sent. That does not count unless
            // it repeats.
            Self::Broken { reused: true } => {
                row(Backend, Idempotent(MAX_STALE), Some(RetryReason::Reset), Local::BROKEN)
            }
            Self::Broken { reused: false } => row(Backend, Never, Some(RetryReason::Reset), Local::BROKEN),
            Self::Invalid(_) => row(Backend, Never, Some(RetryReason::Reset), Local::INVALID_ANSWER),
            Self::AnswerHeadTooLarge => {
                row(Backend, Never, Some(RetryReason::Reset), Local::ANSWER_HEAD_TOO_LARGE)
            }
            Self::Timeout => row(Backend, Never, Some(RetryReason::Timeout), Local::RESPONSE_TIMEOUT),
            Self::Deadline => row(Ordinary, Never, None, Local::DEADLINE),
            Self::RequestBody(BodyFailure::Malformed(why)) => {
                row(Client, Never, None, Local::bad_request(why))
            }
            Self::RequestBody(BodyFailure::TooLarge) => row(Client, Never, None, Local::TOO_LARGE),
            Self::ClientStalled => row(Client, Never, None, Local::REQUEST_TIMEOUT),
            Self::ClientGone | Self::RequestBody(BodyFailure::Gone) => {
                row(Client, Never, None, Local::BROKEN)
            }
        }
    }

    /// Whether the client has left, so that it gets no response.
    pub(crate) fn is_client_gone(&self) -> bool {
        matches!(self, Self::ClientGone | Self::RequestBody(BodyFailure::Gone))
    }
}

/// Whether the connection failed because this machine lacks a resource, which says nothing about the backend.
fn is_own(error: &io::Error) -> bool {
    const OWN: [Errno; 5] = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| OWN.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(errno: Errno) -> Failure {
        Failure::Connect(errno.into())
    }

    #[test]
    fn each_failure_has_its_owner_and_its_status() {
        use Owner::{Backend, Client, Node, None as Ordinary};
        let cases: [(Failure, Owner, u16); 26] = [
            (connect(Errno::MFILE), Node, 503),
            (connect(Errno::NFILE), Node, 503),
            (connect(Errno::ADDRNOTAVAIL), Node, 503),
            (connect(Errno::NOBUFS), Node, 503),
            (connect(Errno::NOMEM), Node, 503),
            (connect(Errno::CONNREFUSED), Backend, 503),
            (connect(Errno::NETUNREACH), Backend, 503),
            (connect(Errno::TIMEDOUT), Backend, 504),
            (Failure::Connect(io::ErrorKind::TimedOut.into()), Backend, 504),
            (Failure::Handshake(io::ErrorKind::InvalidData.into()), Backend, 502),
            (Failure::NotBegun, Ordinary, 503),
            (Failure::Refused, Ordinary, 503),
            (Failure::NoStream, Ordinary, 503),
            (Failure::Calm, Client, 429),
            (Failure::CalmConnection, Ordinary, 503),
            (Failure::Inexpressible("x"), Client, 400),
            (Failure::HeadTooLarge, Client, 431),
            (Failure::Broken { reused: true }, Backend, 502),
            (Failure::Broken { reused: false }, Backend, 502),
            (Failure::Invalid("x"), Backend, 502),
            (Failure::AnswerHeadTooLarge, Backend, 502),
            (Failure::Timeout, Backend, 504),
            (Failure::Deadline, Ordinary, 504),
            (Failure::RequestBody(BodyFailure::Malformed("x")), Client, 400),
            (Failure::RequestBody(BodyFailure::TooLarge), Client, 413),
            (Failure::ClientStalled, Client, 408),
        ];
        for (failure, owner, status) in cases {
            let verdict = failure.verdict();
            assert_eq!((verdict.owner, verdict.answer.status), (owner, status), "{failure:?}");
        }
        assert_eq!(Failure::ClientGone.verdict().owner, Client);
        assert!(Failure::RequestBody(BodyFailure::Gone).is_client_gone());
    }

    #[test]
    fn what_may_have_been_seen_is_sent_again_only_if_it_may_be_repeated() {
        // These are sent again for any method: nothing was sent, or the backend says that it has not processed it.
        for failure in
            [connect(Errno::MFILE), connect(Errno::CONNREFUSED), Failure::NotBegun, Failure::Refused]
        {
            assert!(failure.verdict().retry.is_some_and(RetryReason::is_unseen), "{failure:?}");
        }
        let seen = [
            Failure::Broken { reused: true },
            Failure::Broken { reused: false },
            Failure::Invalid("x"),
            Failure::Timeout,
        ];
        for failure in seen {
            let verdict = failure.verdict();
            assert!(!verdict.retry.is_some_and(RetryReason::is_unseen), "{failure:?}");
            assert!(!matches!(verdict.resend, Resend::Unseen { .. }), "{failure:?}");
        }
        // A failure of the client would be the same at every backend.
        for failure in
            [Failure::Calm, Failure::Inexpressible("x"), Failure::HeadTooLarge, Failure::ClientStalled]
        {
            let verdict = failure.verdict();
            assert_eq!((verdict.resend, verdict.retry), (Resend::Never, None), "{failure:?}");
        }
    }
}
