//! What one caller may take of the admin port at a time: calls in flight, streams among them, and bytes of answers that wait to be
//! taken. Of the calls in flight some are worked on and the others wait for their turn, so that a caller that asks for much at once
//! delays the answers to others by little. A caller is a token, whatever it comes through (calls, sessions), and without a token an address. So one token
//! cannot take what all others need.

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

/// Calls of one caller in flight, streams included.
const CALLS: usize = 256;
/// Of these, calls that are worked on at a time.
const TURNS: usize = 16;
/// How long a call waits for its turn.
const TURN_WAIT: Duration = Duration::from_secs(20);
/// Of the calls in flight, those that last: live pages, tails, health watches, reflection.
const STREAMS: usize = 16;
/// Calls in flight on one connection to what is open to everyone.
pub(super) const OPEN_CALLS: usize = 16;
/// Bytes of answers of one caller that its clients have not taken yet. A single larger answer is let through.
const BYTES: usize = 64 << 20;

/// Whose share it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Holder {
    /// A token, by name.
    Token(String),
    /// A network, where there is no token.
    Address(Option<IpAddr>),
    /// A network that calls what is open to everyone. How many such calls there are is bounded by connections, so that
    /// others at the same address are not kept out.
    Open(Option<IpAddr>),
}

#[derive(Debug)]
struct Held {
    calls: usize,
    streams: usize,
    bytes: usize,
    turns: Arc<Semaphore>,
}

impl Default for Held {
    fn default() -> Self {
        Self { calls: 0, streams: 0, bytes: 0, turns: Arc::new(Semaphore::new(TURNS)) }
    }
}

/// What all callers have taken. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shares(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    held: Mutex<HashMap<Holder, Held>>,
    refused: AtomicU64,
}

/// What one call has taken, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Shares,
    holder: Holder,
    is_stream: bool,
    bytes: usize,
    turns: Arc<Semaphore>,
}

/// Held while a call is worked on; `None`: the call needs no turn.
pub(super) type Turn = Option<OwnedSemaphorePermit>;

impl Shares {
    fn held(&self) -> MutexGuard<'_, HashMap<Holder, Held>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls that were refused because their caller's share was taken.
    pub(crate) fn refused(&self) -> u64 {
        self.0.refused.load(Relaxed)
    }

    /// A call begins.
    ///
    /// # Errors
    /// What the caller has too many of.
    pub(super) fn take(&self, holder: Holder, is_stream: bool) -> Result<Share, String> {
        let mut all = self.held();
        let held = all.entry(holder.clone()).or_default();
        let full = if held.calls >= CALLS && !matches!(holder, Holder::Open(_)) {
            Some(format!("{CALLS} calls of this caller are in flight"))
        } else if is_stream && held.streams >= STREAMS {
            Some(format!("{STREAMS} streams of this caller are open (live pages and tails)"))
        } else {
            None
        };
        if let Some(full) = full {
            self.0.refused.fetch_add(1, Relaxed);
            return Err(full);
        }
        held.calls += 1;
        held.streams += usize::from(is_stream);
        let turns = Arc::clone(&held.turns);
        drop(all);
        Ok(Share { shares: self.clone(), holder, is_stream, bytes: 0, turns })
    }
}

impl Share {
    /// Waits until fewer of the caller's other calls are worked on. Streams do not wait, and neither do calls that are open to
    /// everyone: others at the same address could make them wait.
    ///
    /// # Errors
    /// It takes too long.
    pub(super) async fn turn(&self) -> Result<Turn, String> {
        if self.is_stream || matches!(self.holder, Holder::Open(_)) {
            return Ok(None);
        }
        let turn = Arc::clone(&self.turns).acquire_owned();
        match tokio::time::timeout(TURN_WAIT, turn).await {
            Ok(turn) => Ok(turn.ok()),
            Err(_) => {
                self.shares.0.refused.fetch_add(1, Relaxed);
                let wait = TURN_WAIT.as_secs();
                Err(format!("{TURNS} other calls of this caller were being worked on for {wait} s"))
            }
        }
    }

    /// The answer, which holds the share until its client has taken it.
    ///
    /// # Errors
    /// The caller has too many bytes of answers that wait to be taken.
    pub(super) async fn keep(mut self, answer: Response, is_change: bool) -> Result<Response, String> {
        if self.is_stream || is_change {
            return Ok(self.wrap(answer));
        }
        // gRPC makes its answers only as they are taken, and of what size they are is not known before.
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
            let mut all = self.shares.held();
            let held = all.entry(self.holder.clone()).or_default();
            if held.bytes > 0 && held.bytes.saturating_add(bytes) > BYTES {
                drop(all);
                self.shares.0.refused.fetch_add(1, Relaxed);
                return Err(format!("{} MiB of answers to this caller wait to be taken", BYTES >> 20));
            }
            held.bytes = held.bytes.saturating_add(bytes);
        }
        self.bytes = bytes;
        Ok(self.wrap(answer))
    }

    fn wrap(self, answer: Response) -> Response {
        answer.map(|inner| Body::new(Holding { inner, _share: self }))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = self.shares.held();
        if let Some(held) = all.get_mut(&self.holder) {
            held.calls -= 1;
            held.streams -= usize::from(self.is_stream);
            held.bytes -= self.bytes;
            if held.calls == 0 {
                all.remove(&self.holder);
            }
        }
    }
}

/// A body that holds a share.
struct Holding {
    inner: Body,
    _share: Share,
}

impl HttpBody for Holding {
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

/// A body that could not be made.
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

    fn token(name: &str) -> Holder {
        Holder::Token(name.to_owned())
    }

    #[test]
    fn each_holder_has_a_share_of_its_own_and_gives_it_back() {
        let shares = Shares::default();
        let streams: Vec<Share> = (0..STREAMS).map(|_| shares.take(token("a"), true).unwrap()).collect();
        assert!(shares.take(token("a"), true).unwrap_err().contains("16 streams"));
        let call = shares.take(token("a"), false).unwrap();
        let other = shares.take(token("b"), true).unwrap();
        let nobody = shares.take(Holder::Address(None), true).unwrap();
        drop(streams);
        let calls: Vec<Share> = (1..CALLS).map(|_| shares.take(token("a"), false).unwrap()).collect();
        assert!(shares.take(token("a"), false).unwrap_err().contains("256 calls"));
        assert_eq!(shares.refused(), 2);
        drop((calls, call, other, nobody));
        assert!(shares.held().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_of_one_caller_are_worked_on_in_turns() {
        let shares = Shares::default();
        let take = |holder, is_stream| shares.take(holder, is_stream).unwrap();
        let calls: Vec<Share> = (0..TURNS).map(|_| take(token("a"), false)).collect();
        let mut turns = Vec::new();
        for call in &calls {
            turns.push(call.turn().await.unwrap());
        }
        let next = take(token("a"), false);
        assert!(next.turn().await.unwrap_err().contains("16 other calls"));
        assert_eq!(shares.refused(), 1);
        assert!(take(token("b"), false).turn().await.unwrap().is_some(), "another caller does not wait");
        assert!(take(token("a"), true).turn().await.unwrap().is_none(), "a stream does not wait");
        assert!(take(Holder::Open(None), false).turn().await.unwrap().is_none());
        turns.pop();
        assert!(next.turn().await.unwrap().is_some());
    }

    #[tokio::test]
    async fn answers_that_wait_are_bounded_and_one_is_always_let_through() {
        let shares = Shares::default();
        let large = || Response::new(Body::from(vec![0; BYTES - 10]));
        let keep = async |answer| shares.take(token("a"), false).unwrap().keep(answer, false).await;
        let first = keep(large()).await.unwrap();
        assert!(keep(large()).await.unwrap_err().contains("64 MiB"));
        assert!(keep(Response::new(Body::from("small"))).await.is_ok());
        let change = shares.take(token("a"), false).unwrap().keep(large(), true).await;
        assert!(change.is_ok(), "what was done is said");
        drop((first, change));
        let unknown =
            Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>("ab"), Ok("cd")]));
        let kept = keep(Response::new(unknown)).await.unwrap();
        assert_eq!(shares.held()[&token("a")].bytes, 4);
        assert_eq!(kept.into_body().collect().await.unwrap().to_bytes(), "abcd");
    }
}
