//! Limits what one caller uses of the admin port at a time: calls in flight (including streams), calls being processed,
//! and response bytes that the client has not read yet.
//!
//! A caller is a token, whether it arrives through API calls or sessions. Calls without a token are grouped by address.
//! So one caller cannot use up the resources of the others, and a caller that sends many calls at once hardly delays
//! the responses to others.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    response::Response,
};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Calls in flight per caller, including streams.
const CALLS: usize = 256;
/// Calls processed at a time per caller; further calls queue.
const ACTIVE_CALLS: usize = 16;
/// How long a call queues before it is rejected.
const QUEUE_WAIT: Duration = Duration::from_secs(20);
/// Long-lived calls in flight per caller: live pages, tails, health watches, reflection.
const STREAMS: usize = 16;
/// Calls in flight per connection to the operations that need no token.
pub(super) const OPEN_CALLS: usize = 16;
/// Response bytes per caller that its clients have not read yet. A single larger response is allowed.
const BYTES: usize = 64 << 20;

/// The key under which the limits count a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum CallerKey {
    /// A token, by name.
    Token(String),
    /// A network; used when the call has no token.
    Address(Option<IpAddr>),
    /// A network that calls an operation that needs no token. The number of such calls is limited per connection, so
    /// that other clients at the same address are not locked out.
    Open(Option<IpAddr>),
}

#[derive(Debug)]
struct Usage {
    calls: usize,
    streams: usize,
    bytes: usize,
    active: Arc<Semaphore>,
}

impl Default for Usage {
    fn default() -> Self {
        Self { calls: 0, streams: 0, bytes: 0, active: Arc::new(Semaphore::new(ACTIVE_CALLS)) }
    }
}

/// The limits of all callers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallerLimits {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    usage: Mutex<HashMap<CallerKey, Usage>>,
    refused: AtomicU64,
}

/// The share of the limits that one call uses. Dropping it releases the share.
#[derive(Debug)]
pub(super) struct CallPermit {
    limits: CallerLimits,
    caller: CallerKey,
    is_stream: bool,
    bytes: usize,
    active: Arc<Semaphore>,
}

/// Held while a call is processed; `None` if the call does not queue.
pub(super) type ActivePermit = Option<OwnedSemaphorePermit>;

impl CallerLimits {
    fn usage(&self) -> MutexGuard<'_, HashMap<CallerKey, Usage>> {
        self.shared.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls rejected because their caller reached a limit.
    pub(crate) fn refused(&self) -> u64 {
        self.shared.refused.load(Relaxed)
    }

    /// Registers a call.
    ///
    /// # Errors
    /// The caller has reached a limit; the text describes it.
    pub(super) fn take(&self, caller: CallerKey, is_stream: bool) -> Result<CallPermit, String> {
        let mut all = self.usage();
        let usage = all.entry(caller.clone()).or_default();
        let full = if usage.calls >= CALLS && !matches!(caller, CallerKey::Open(_)) {
            Some(format!("{CALLS} calls of this caller are in flight"))
        } else if is_stream && usage.streams >= STREAMS {
            Some(format!("{STREAMS} streams of this caller are open (live pages and tails)"))
        } else {
            None
        };
        if let Some(full) = full {
            self.shared.refused.fetch_add(1, Relaxed);
            return Err(full);
        }
        usage.calls += 1;
        usage.streams += usize::from(is_stream);
        let active = Arc::clone(&usage.active);
        drop(all);
        Ok(CallPermit { limits: self.clone(), caller, is_stream, bytes: 0, active })
    }
}

impl CallPermit {
    /// Waits until fewer of the caller's other calls are being processed. Streams do not wait. Calls that need no token
    /// do not wait either: other clients at the same address could delay them.
    ///
    /// # Errors
    /// The wait took too long.
    pub(super) async fn activate(&self) -> Result<ActivePermit, String> {
        if self.is_stream || matches!(self.caller, CallerKey::Open(_)) {
            return Ok(None);
        }
        let permit = Arc::clone(&self.active).acquire_owned();
        match tokio::time::timeout(QUEUE_WAIT, permit).await {
            Ok(permit) => Ok(permit.ok()),
            Err(_) => {
                self.limits.shared.refused.fetch_add(1, Relaxed);
                let wait = QUEUE_WAIT.as_secs();
                Err(format!("{ACTIVE_CALLS} other calls of this caller were in progress for {wait} s"))
            }
        }
    }

    /// Wraps the response so that it counts for the caller until the client has read it.
    ///
    /// # Errors
    /// Too many bytes of the caller's responses are unread.
    pub(super) async fn keep(mut self, answer: Response, is_change: bool) -> Result<Response, String> {
        if self.is_stream || is_change {
            return Ok(self.wrap(answer));
        }
        // gRPC encodes responses while they are read, so their size is not known in advance.
        let (answer, bytes) = match answer.body().size_hint().exact() {
            Some(bytes) => (answer, usize::try_from(bytes).unwrap_or(usize::MAX)),
            None => {
                let (parts, body) = answer.into_parts();
                match body.collect().await {
                    Ok(whole) => {
                        let trailers = whole.trailers().cloned().map(Ok);
                        let whole = whole.to_bytes();
                        let length = whole.len();
                        let body = Full::new(whole).with_trailers(std::future::ready(trailers));
                        (Response::from_parts(parts, Body::new(body)), length)
                    }
                    Err(error) => (Response::from_parts(parts, Body::new(Failed(Some(error)))), 0),
                }
            }
        };
        {
            let mut all = self.limits.usage();
            let usage = all.entry(self.caller.clone()).or_default();
            if usage.bytes > 0 && usage.bytes.saturating_add(bytes) > BYTES {
                drop(all);
                self.limits.shared.refused.fetch_add(1, Relaxed);
                return Err(format!("{} MiB of answers to this caller have not been read", BYTES >> 20));
            }
            usage.bytes = usage.bytes.saturating_add(bytes);
        }
        self.bytes = bytes;
        Ok(self.wrap(answer))
    }

    fn wrap(self, answer: Response) -> Response {
        answer.map(|inner| Body::new(LimitedBody { inner, _permit: self }))
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        let mut all = self.limits.usage();
        if let Some(usage) = all.get_mut(&self.caller) {
            usage.calls -= 1;
            usage.streams -= usize::from(self.is_stream);
            usage.bytes -= self.bytes;
            if usage.calls == 0 {
                all.remove(&self.caller);
            }
        }
    }
}

/// A body that counts towards its caller's limits.
struct LimitedBody {
    inner: Body,
    _permit: CallPermit,
}

impl HttpBody for LimitedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A body that failed.
struct Failed(Option<axum::Error>);

impl HttpBody for Failed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Poll::Ready(self.0.take().map(Err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str) -> CallerKey {
        CallerKey::Token(name.to_owned())
    }

    #[test]
    fn each_caller_has_limits_of_its_own() {
        let limits = CallerLimits::default();
        let streams: Vec<CallPermit> = (0..STREAMS).map(|_| limits.take(token("a"), true).unwrap()).collect();
        assert!(limits.take(token("a"), true).unwrap_err().contains("16 streams"));
        let call = limits.take(token("a"), false).unwrap();
        let other = limits.take(token("b"), true).unwrap();
        let nobody = limits.take(CallerKey::Address(None), true).unwrap();
        drop(streams);
        let calls: Vec<CallPermit> = (1..CALLS).map(|_| limits.take(token("a"), false).unwrap()).collect();
        assert!(limits.take(token("a"), false).unwrap_err().contains("256 calls"));
        assert_eq!(limits.refused(), 2);
        drop((calls, call, other, nobody));
        assert!(limits.usage().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_of_one_caller_are_worked_on_in_turns() {
        let limits = CallerLimits::default();
        let take = |caller, is_stream| limits.take(caller, is_stream).unwrap();
        let calls: Vec<CallPermit> = (0..ACTIVE_CALLS).map(|_| take(token("a"), false)).collect();
        let mut turns = Vec::new();
        for call in &calls {
            turns.push(call.activate().await.unwrap());
        }
        let next = take(token("a"), false);
        assert!(next.activate().await.unwrap_err().contains("16 other calls"));
        assert_eq!(limits.refused(), 1);
        assert!(take(token("b"), false).activate().await.unwrap().is_some(), "another caller does not wait");
        assert!(take(token("a"), true).activate().await.unwrap().is_none(), "a stream does not wait");
        assert!(take(CallerKey::Open(None), false).activate().await.unwrap().is_none());
        turns.pop();
        assert!(next.activate().await.unwrap().is_some());
    }

    #[tokio::test]
    async fn answers_that_wait_are_bounded_and_one_is_always_let_through() {
        let limits = CallerLimits::default();
        let large = || Response::new(Body::from(vec![0; BYTES - 10]));
        let keep = async |answer| limits.take(token("a"), false).unwrap().keep(answer, false).await;
        let first = keep(large()).await.unwrap();
        assert!(keep(large()).await.unwrap_err().contains("64 MiB"));
        assert!(keep(Response::new(Body::from("small"))).await.is_ok());
        let change = limits.take(token("a"), false).unwrap().keep(large(), true).await;
        assert!(change.is_ok(), "what was done is said");
        drop((first, change));
        let unknown =
            Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>("ab"), Ok("cd")]));
        let kept = keep(Response::new(unknown)).await.unwrap();
        assert_eq!(limits.usage()[&token("a")].bytes, 4);
        assert_eq!(kept.into_body().collect().await.unwrap().to_bytes(), "abcd");
    }
}
