//! Selects a backend for a request: that of its session, or one with room, if needed after a wait in the pool's queue.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use weir_http::{RequestHead, ResponseHead};
use weir_snapshot::config::{BackendState as Wanted, HashOn};

use super::{
    ActivePool, Candidates, Pick, Picked, SessionPick,
    backend::InFlight,
    balance::{PickContext, Tried},
    sticky::{self, Session, Sticky},
};
use crate::{
    failure::Failure,
    hash,
    wire::{timer::Timer, watch::Watch},
};

/// Why no backend was selected.
#[derive(Debug)]
pub(crate) enum SelectionError {
    /// No backend is available, or all were tried.
    NoBackend,
    /// No backend had room in time, or the queue is full.
    Full,
    /// The wait was given up: the client left, or the request's deadline passed.
    GivenUp(Failure),
}

/// The inputs of a pick for this request.
pub(crate) fn pick_context(pool: &ActivePool, head: &RequestHead, client: &str, now_ms: u64) -> PickContext {
    let key = if pool.balancer.hashes() { key(&pool.resilience.hash_on, head, client) } else { 0 };
    PickContext { key, now_ms, rng: fastrand::Rng::new() }
}

fn key(on: &HashOn, head: &RequestHead, client: &str) -> u64 {
    let value = match on {
        HashOn::ClientIp => None,
        HashOn::Path => Some(head.path()),
        HashOn::Header(name) => head.get_named(name.as_bytes()),
        HashOn::Cookie(name) => head.cookie_values(name).next(),
    };
    // Requests without the value that is hashed are spread by their client address.
    hash::hash(value.unwrap_or(client.as_bytes()))
}

/// Session affinity of one request, if its pool has sessions.
pub(crate) struct Affinity<'a> {
    sticky: Option<&'a Sticky>,
    /// Seconds since the Unix epoch.
    now: u64,
    session: Option<Session>,
    taken: Option<InFlight>,
    /// The session stays with its backend, although this request may go elsewhere.
    stays: bool,
}

impl<'a> Affinity<'a> {
    /// Reads the session's cookie and picks its backend, if it may be used.
    pub(crate) fn of(pool: &'a ActivePool, head: &RequestHead, now_ms: u64, candidates: Candidates) -> Self {
        let sticky = pool.sticky.as_ref();
        let mut affinity = Self { sticky, now: 0, session: None, taken: None, stays: false };
        let Some(sticky) = sticky else { return affinity };
        affinity.now = sticky::now();
        affinity.session = sticky.read(head, affinity.now);
        if let Some(session) = affinity.session {
            match pool.take_session(session, now_ms, candidates) {
                SessionPick::At(in_flight) => affinity.taken = Some(in_flight),
                SessionPick::Full => affinity.stays = true,
                SessionPick::Lost => {}
            }
        }
        affinity
    }

    /// The session's backend; only the first call returns it.
    pub(crate) fn take(&mut self) -> Option<Picked> {
        Some(Picked { member: self.session?.member, in_flight: self.taken.take()? })
    }

    /// Adds the cookie that keeps the client at the member that responded.
    pub(crate) fn keep(&self, pool: &ActivePool, member: usize, answer: &mut ResponseHead, secure: bool) {
        let Some(sticky) = self.sticky else { return };
        let is_same = self.session.filter(|session| session.member == member);
        // Sessions of a draining backend expire; they are not renewed.
        let is_fresh =
            is_same.is_some_and(|session| !session.is_old || pool.members[member].wanted != Wanted::Active);
        if is_fresh || self.stays {
            return;
        }
        if is_same.is_none() && self.session.is_some() {
            pool.state.counts.count(|counts| &counts.repinned);
        }
        let id = self.session.map_or_else(|| fastrand::u32(..), |session| session.id);
        if let Some(value) = sticky.write(member, id, self.now, secure) {
            answer.add(b"Set-Cookie", value.as_bytes());
        }
    }
}

/// Picks a backend. If all are full, waits up to `timeouts.connect`.
pub(crate) async fn find(
    pool: &ActivePool,
    context: &mut PickContext,
    tried: &Tried,
    candidates: Candidates,
    timer: &Timer,
    watch: &mut impl Watch,
) -> Result<Picked, SelectionError> {
    match pool.take(context, tried, candidates) {
        Pick::Member(picked) => return Ok(picked),
        Pick::None => return Err(SelectionError::NoBackend),
        Pick::Full => {}
    }
    let refused = || {
        pool.state.counts.count(|counts| &counts.refused);
        SelectionError::Full
    };
    let waiting = pool.queue().ok_or_else(refused)?;
    timer.arm(pool.timeouts.connect);
    loop {
        let mut room = pin!(waiting.room());
        // From here on every notification is received.
        room.as_mut().enable();
        match pool.take(context, tried, candidates) {
            Pick::Member(picked) => return Ok(picked),
            Pick::None => return Err(SelectionError::NoBackend),
            Pick::Full => {}
        }
        let outcome = poll_fn(|cx| {
            if room.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            if let Poll::Ready(failure) = watch.poll(cx) {
                return Poll::Ready(Err(SelectionError::GivenUp(failure)));
            }
            if timer.expired(cx) { Poll::Ready(Err(refused())) } else { Poll::Pending }
        });
        outcome.await?;
    }
}

/// Waits before a resend.
///
/// # Errors
/// The wait was given up.
pub(crate) async fn pause(timer: &Timer, pause: Duration, watch: &mut impl Watch) -> Result<(), Failure> {
    timer.arm(pause);
    poll_fn(|cx| match watch.poll(cx) {
        Poll::Ready(failure) => Poll::Ready(Err(failure)),
        Poll::Pending if timer.expired(cx) => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await
}
