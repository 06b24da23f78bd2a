//! The way of one request: route, filter, pick a backend, send, retry, respond.

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
    Fallback, RefusalReason, Route, Target,
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
    upstream::{Response, Upload},
    wire::{pace::PaceLimits, timer::Timer, watch::Watch},
    worker::{View, Worker},
};

/// Tells browsers to use only HTTPS (RFC 6797).
const HSTS: &str = "strict-transport-security";

/// The response for the client.
pub(crate) enum Answer {
    /// From a backend.
    Upstream(Box<Response>),
    /// From the node itself.
    Local(Local),
    /// No response: the client has left.
    Gone,
}

impl Answer {
    /// Adds Strict-Transport-Security; every response may have it (RFC 6797, 7.1).
    fn add_hsts(&mut self, hsts: &str) {
        match self {
            Self::Upstream(response) => {
                // Browsers use the first of several fields (RFC 6797, 8.1), so a backend's field is replaced.
                response.head.remove(HSTS.as_bytes());
                response.head.add(HSTS.as_bytes(), hsts.as_bytes());
            }
            Self::Local(local) => local.extra_mut().add(HSTS, hsts.as_bytes()),
            Self::Gone => {}
        }
    }
}

/// The client's side of a request, for all protocols.
pub(crate) struct Downstream<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    /// The request's deadlines.
    pub(crate) timer: &'a Timer,
    pub(crate) peer: Peer<'a>,
    /// The scheme of its connection, `http` or `https`.
    pub(crate) scheme: &'static [u8],
    /// Watches the client and sends it interim responses.
    pub(crate) client_handle: ClientHandle<'a>,
}

/// The connection or stream of the client.
#[derive(Clone, Copy)]
pub(crate) enum ClientHandle<'a> {
    Http1(&'a ClientConnection),
    Http2(&'a RefCell<SendResponse<Bytes>>),
}

/// Finds the response to a request. Returns when the head of the response is there.
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
            // A client that the fallback served is not kept there.
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
        answer.add_hsts(hsts);
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

/// Gets the response from a pool, or from the route's fallback.
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
    let Route { max_body, request_timeout, ref fallback, ref rewrite, overrides: ref bounds, .. } = *route;
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
    // gRPC messages may pause for any time. The client's own deadline is forwarded to the backend.
    let is_call = head.is_grpc() && active.pools[pool].protocol == Protocol::Http2;
    let pace = match bounds.request_body {
        None if is_call => PaceLimits::default(),
        Some(stall) if is_call => PaceLimits::stall(stall),
        _ => PaceLimits::of_request(settings, bounds),
    };
    let worker = client.worker;
    let mut upload = Upload::new(body, head.framing, max_body, pace, &worker.timers, worker.uploads.take());
    // An HTTP/2 backend may report for any request that it was not started.
    let target = &active.pools[pool];
    if head.is_idempotent() && target.resilience.retry.attempts > 1 || target.protocol == Protocol::Http2 {
        upload.keep();
    }
    upload.guard(route.guard.as_ref());
    // An upgrade uses the connection immediately, so the request cannot have a body.
    let upgrade = head.upgrade && head.framing.is_empty();
    let mut request_id = [0; 16];
    write_hex(exchange.id, &mut request_id);
    // The client's own id is forwarded.
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
        // These two depend on the pool.
        omit_via: false,
        is_secured: false,
    };
    // A request does not occupy a backend before the first part of its body has arrived, because it may never arrive.
    // Exceptions: a client that waits for 100 Continue gets it from the backend, and a gRPC call may wait for the head
    // of its response before it sends its first message.
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
        // Dead backends are used only if the route has no fallback.
        let has_fallback = match fallback {
            None => false,
            Some(Fallback::Pool(other)) => *other != pool,
            Some(Fallback::Response { .. }) => true,
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
            // A partly forwarded body cannot be sent to another pool.
            Some(Fallback::Pool(other)) if upload.can_repeat() && *other != pool => pool = *other,
            Some(Fallback::Response { status, body }) => {
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

/// Counts the request for its client address, unless the address has reached its limit.
fn count_client(exchange: &mut Exchange, settings: &Settings) -> Result<(), Local> {
    let limit = settings.max_requests_per_ip;
    if limit == 0 {
        return Ok(());
    }
    exchange.counted = exchange.worker.client_requests.enter(exchange.client_ip, limit);
    if exchange.counted.is_none() {
        exchange.refusal = Some(RefusalReason::PerIpLimit);
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
