//! One request, from top to bottom: route, pick, connect or reuse, send, retry, answer.

mod attempts;
mod client_watch;
mod exchange;
mod retry;
mod route;

use std::{cell::RefCell, future::poll_fn, rc::Rc, task::Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use weir_http::{BodyFraming, FieldKind, Forwarded, RequestHead};
use weir_snapshot::{
    Fallback, Route, Target,
    config::{Downstream as Settings, Protocol},
};

pub(crate) use self::exchange::Exchange;
use self::{
    attempts::{PoolOutcome, PoolRequest, given_up},
    client_watch::ClientWatch,
};
use crate::{
    answer::Local,
    client::{ClientConnection, RequestBody},
    edit::{Facts, ResponseFacts},
    filter,
    origin::{Origin, Peer},
    pool::Candidates,
    stats::Refusal,
    upstream::{Response, Upload},
    wire::{pace::PaceLimits, timer::Timer, watch::Watch},
    worker::{View, Worker},
};

/// Tells browsers to come by HTTPS only (RFC 6797).
const HSTS: &str = "strict-transport-security";

/// What the client gets.
pub(crate) enum Answer {
    /// From a backend.
    Upstream(Box<Response>),
    /// From Weir itself.
    Local(Local),
    /// Nothing: it has left.
    Gone,
}

impl Answer {
    /// Tells browsers to come by HTTPS only: an answer of anybody's may (RFC 6797, 7.1).
    fn tells_of_https(&mut self, hsts: &str) {
        match self {
            Self::Upstream(response) => {
                // Ours is the one that counts: browsers heed the first (RFC 6797, 8.1).
                response.head.remove(HSTS.as_bytes());
                response.head.add(HSTS.as_bytes(), hsts.as_bytes());
            }
            Self::Local(local) => local.extra_mut().add(HSTS, hsts.as_bytes()),
            Self::Gone => {}
        }
    }
}

/// Who asks, whatever the protocol.
pub(crate) struct Downstream<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    /// The request's deadlines.
    pub(crate) timer: &'a Timer,
    pub(crate) peer: Peer<'a>,
    /// `http` or `https`, as it connected.
    pub(crate) scheme: &'static [u8],
    /// Is watched for the client's leaving, and takes interim answers.
    pub(crate) client_handle: ClientHandle<'a>,
}

/// The client's side of a request that is under way.
#[derive(Clone, Copy)]
pub(crate) enum ClientHandle<'a> {
    /// A connection.
    Http1(&'a ClientConnection),
    /// A stream of a connection.
    Http2(&'a RefCell<SendResponse<Bytes>>),
}

/// Finds the request's answer. Returns when its head is there.
pub(crate) async fn handle(
    exchange: &mut Exchange,
    client: &Downstream<'_>,
    head: &mut RequestHead,
    body: RequestBody,
) -> Answer {
    let answer = find(exchange, client, head, body).await;
    match (exchange.quota.take(), answer) {
        (Some(quota), Answer::Upstream(mut response)) => {
            quota.add_to_head(&mut response.head);
            Answer::Upstream(response)
        }
        (Some(quota), Answer::Local(local)) => Answer::Local(quota.add_to_local(local)),
        (_, answer) => answer,
    }
}

async fn find(
    exchange: &mut Exchange,
    client: &Downstream<'_>,
    head: &mut RequestHead,
    body: RequestBody,
) -> Answer {
    let view = Rc::clone(&exchange.view);
    let snapshot = &view.active.snapshot;
    let origin = Origin::of(&snapshot.trusted_proxies, head, client.peer, client.scheme == b"https");
    exchange.client_ip = origin.ip;
    let path = head.path_and_query();
    exchange.described = client.worker.recorder.describe(head.method(), head.host(), path, origin.text());
    if let Some(local) = Local::for_method(head) {
        return Answer::Local(local);
    }
    let index = match route::find(snapshot, head, &origin) {
        Ok(index) => index,
        Err(local) => return Answer::Local(local),
    };
    exchange.route = Some(index);
    let route = &snapshot.routes[index];
    let refused = match &view.active.filters[index] {
        Some(chain) => {
            let outcome = filter::apply(chain, origin.ip, &client.worker.timers, head).await;
            exchange.quota = outcome.quota;
            exchange.refusal = outcome.refused.as_ref().map(|refused| refused.reason);
            outcome.refused.map(|refused| refused.answer)
        }
        None => None,
    };
    let head = &*head;
    let routed = Routed { view: &view, route, origin: &origin };
    let mut answer = match (refused, &route.target) {
        (Some(local), _) => Answer::Local(local),
        (None, Target::Redirect(redirect)) => Answer::Local(route::redirect(redirect, head, &origin)),
        (None, Target::Pool(pool)) => forward(exchange, client, head, body, routed, *pool).await,
        (None, Target::Split(split)) => {
            let chosen = route::choose(split, view.active.split(index), head);
            let mut answer = forward(exchange, client, head, body, routed, chosen.pool).await;
            // Who was served by the fallback is not kept there.
            if let Answer::Upstream(response) = &mut answer
                && exchange.pool == Some(chosen.pool)
                && let Some(cookie) = chosen.cookie(origin.https)
            {
                response.head.add(b"Set-Cookie", cookie.as_bytes());
            }
            answer
        }
    };
    if let Some(hsts) = route.hsts.as_deref().filter(|_| origin.https) {
        answer.tells_of_https(hsts);
    }
    if let Some(rules) = &route.response_headers {
        exchange.edit(&mut answer, rules, head, client.peer.text, &origin);
    }
    answer
}

/// A request whose route is known.
#[derive(Clone, Copy)]
struct Routed<'a> {
    view: &'a View,
    route: &'a Route,
    origin: &'a Origin<'a>,
}

/// Finds the answer in a pool, or in the route's fallback.
async fn forward(
    exchange: &mut Exchange,
    client: &Downstream<'_>,
    head: &RequestHead,
    body: RequestBody,
    routed: Routed<'_>,
    mut pool: usize,
) -> Answer {
    let Routed { view, route, origin } = routed;
    let active = &view.active;
    let Route { max_body, request_timeout, ref fallback, ref rewrite, ref bounds, .. } = *route;
    let settings = &active.snapshot.settings.downstream;
    exchange.pool = Some(pool);
    if let Err(local) = count_client(exchange, settings) {
        return Answer::Local(local);
    }
    if let BodyFraming::Length(length) = head.framing
        && length > max_body
    {
        return Answer::Local(Local::TOO_LARGE);
    }
    exchange.deadline = request_timeout.map(|within| {
        let deadline = client.worker.timers.timer();
        deadline.arm(within);
        deadline
    });
    exchange.taking.set(PaceLimits::of_response(settings, bounds));
    // Messages of gRPC come when they come; its own deadline is the client's, and passes through.
    let is_call = head.is_grpc() && active.pools[pool].protocol == Protocol::Http2;
    let pace = match bounds.request_body {
        None if is_call => PaceLimits::default(),
        Some(stall) if is_call => PaceLimits::stall(stall),
        _ => PaceLimits::of_request(settings, bounds),
    };
    let worker = client.worker;
    let mut upload = Upload::new(body, head.framing, max_body, pace, &worker.timers, worker.uploads.take());
    // An HTTP/2 backend may say of any request that it has not begun it.
    let target = &active.pools[pool];
    if head.is_idempotent() && target.resilience.retry.attempts > 1 || target.protocol == Protocol::Http2 {
        upload.keep();
    }
    upload.guard(route.guard.as_ref());
    // An upgrade takes the connection over at once: it has no room for a body.
    let upgrade = head.upgrade && head.framing.is_empty();
    let mut request_id = [0; 16];
    write_hex(exchange.id, &mut request_id);
    // A client's own id is passed on.
    let own_id = head.get(FieldKind::XRequestId).filter(|id| !id.is_empty());
    let facts = Facts {
        head,
        origin,
        peer: client.peer.text,
        request_id: own_id.unwrap_or(&request_id),
        route: &route.name,
        answer: ResponseFacts::default(),
    };
    let edit = match route::edit(route, &facts) {
        Ok(edit) => edit,
        Err(local) => return Answer::Local(local),
    };
    let forwarded = Forwarded {
        client_ip: origin.text().as_bytes(),
        peer_ip: client.peer.text.as_bytes(),
        proto: origin.scheme(),
        peer_proto: client.scheme,
        host: origin.host(head).unwrap_or_default(),
        request_id: if own_id.is_some() { b"" } else { &request_id },
        trust: origin.trusted,
        edit: edit.as_ref(),
        guard: route.guard.as_deref(),
        session_cookies: &route.session_cookies,
        // These two are the pool's.
        omit_via: false,
        is_secured: false,
    };
    // A backend's place is not taken by a request whose body may never come. A client that waits to be told to go on
    // is told by the backend, and a call may wait for its answer's head before its first message.
    if !head.framing.is_empty() && !head.expect_continue && !is_call {
        let mut watch = ClientWatch::new(client, head, exchange.deadline.as_ref());
        let first = poll_fn(|cx| match upload.poll_first(cx) {
            Poll::Pending => watch.poll(cx).map(Err),
            ready => ready,
        });
        if let Err(failure) = first.await {
            return given_up(&failure);
        }
    }
    let mut fallback = fallback.as_ref();
    loop {
        // Backends that are known to be dead are for routes without a fallback.
        let has_fallback = match fallback {
            None => false,
            Some(Fallback::Pool(other)) => *other != pool,
            Some(Fallback::Answer { .. }) => true,
        };
        let candidates = if has_fallback { Candidates::Usable } else { Candidates::LastResort };
        let map = rewrite.map.as_ref();
        let request = PoolRequest {
            pool,
            candidates,
            head,
            client,
            origin,
            forwarded: &forwarded,
            map,
            upgrade,
            bounds,
        };
        let local = match attempts::send(exchange, &request, view, &mut upload).await {
            PoolOutcome::Answer(answer) => return answer,
            PoolOutcome::Unavailable(local, refusal) => {
                exchange.refusal = Some(refusal);
                local
            }
        };
        match fallback.take() {
            // A body of which a part is gone cannot be sent to another pool.
            Some(Fallback::Pool(other)) if upload.can_repeat() && *other != pool => pool = *other,
            Some(Fallback::Answer { status, body }) => {
                active.pools[pool].state.counts.count(|counts| &counts.fallbacks);
                return Answer::Local(Local::fixed(*status, body));
            }
            _ => return Answer::Local(local),
        }
        active.pools[pool].state.counts.count(|counts| &counts.fallbacks);
        exchange.pool = Some(pool);
        exchange.member = None;
        exchange.refusal = None;
    }
}

/// Counts the request as one of its client address, unless the address has as many as it may have.
fn count_client(exchange: &mut Exchange, settings: &Settings) -> Result<(), Local> {
    let limit = settings.max_requests_per_ip;
    if limit == 0 {
        return Ok(());
    }
    exchange.counted = exchange.worker.client_requests.enter(exchange.client_ip, limit);
    if exchange.counted.is_none() {
        exchange.refusal = Some(Refusal::RateLimit);
        return Err(Local::TOO_MANY_AT_ONCE);
    }
    Ok(())
}

fn write_hex(number: u64, into: &mut [u8; 16]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (i, digit) in into.iter_mut().enumerate() {
        *digit = DIGITS[(number >> (60 - 4 * i) & 0xf) as usize];
    }
}
