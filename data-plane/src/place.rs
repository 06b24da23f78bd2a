//! Finds a request its place: a backend with room, after a wait in the pool's queue if need be.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    task::Poll,
    time::Instant,
};

use weir_snapshot::config::HashOn;

use crate::{
    backend::{Active, InFlight},
    balance::{Ask, Tried, maglev},
    http::{Known, RequestHead},
    pool::{PoolState, Reach, Taken},
    timer::Timer,
    upstream::{Failure, Watch},
};

/// Why a request has no place.
#[derive(Debug)]
pub(crate) enum Nowhere {
    /// No backend may get requests, or all were tried.
    NoBackend,
    /// None had room in time, or too many wait already.
    Full,
    /// There was a reason to give up while it waited: the client left, or the request's deadline passed.
    GivenUp(Failure),
}

/// What picks go by for this request.
pub(crate) fn ask(active: &Active, pool: &PoolState, head: &RequestHead, client: &str, now: Instant) -> Ask {
    let key = if pool.balancer.hashes() { key(&pool.resilience.hash_on, head, client) } else { 0 };
    Ask { key, now_ms: active.ms(now), rng: fastrand::Rng::new() }
}

fn key(on: &HashOn, head: &RequestHead, client: &str) -> u64 {
    let value = match on {
        HashOn::ClientIp => None,
        HashOn::Path => Some(head.path()),
        HashOn::Header(name) => head.get_named(name.as_bytes()),
        HashOn::Cookie(name) => cookie(head, name),
    };
    // Who does not say what is hashed on is still spread, and stays where it is.
    maglev::hash(value.unwrap_or(client.as_bytes()))
}

/// A cookie's value (RFC 6265, 4.2).
pub(crate) fn cookie<'a>(head: &'a RequestHead, name: &str) -> Option<&'a [u8]> {
    head.all(Known::Cookie)
        .flat_map(|line| line.split(|byte| *byte == b';'))
        .filter_map(|pair| {
            let pair = pair.trim_ascii();
            pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
        })
        .next()
}

/// Picks a backend; where none has room, waits for it as long as a connection may take.
pub(crate) async fn find(
    pool: &PoolState,
    ask: &mut Ask,
    tried: &Tried,
    timer: &Timer,
    watch: &mut impl Watch,
) -> Result<(usize, InFlight), Nowhere> {
    match pool.take(ask, tried, Reach::LastResort) {
        Taken::Member(member, in_flight) => return Ok((member, in_flight)),
        Taken::None => return Err(Nowhere::NoBackend),
        Taken::Full => {}
    }
    let refused = || {
        pool.live.counts.refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Nowhere::Full
    };
    let waiting = pool.queue().ok_or_else(refused)?;
    timer.arm(pool.timeouts.connect);
    loop {
        let mut room = pin!(waiting.room());
        // From here on no room is missed.
        room.as_mut().enable();
        match pool.take(ask, tried, Reach::LastResort) {
            Taken::Member(member, in_flight) => return Ok((member, in_flight)),
            Taken::None => return Err(Nowhere::NoBackend),
            Taken::Full => {}
        }
        let outcome = poll_fn(|cx| {
            if room.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            if let Poll::Ready(failure) = watch.poll(cx) {
                return Poll::Ready(Err(Nowhere::GivenUp(failure)));
            }
            if timer.expired(cx) { Poll::Ready(Err(refused())) } else { Poll::Pending }
        });
        outcome.await?;
    }
}
