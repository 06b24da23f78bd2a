//! One request, from top to bottom: route, pick, connect or reuse, send, retry, answer.

mod client_watch;
mod exchange;
mod retry;
mod route;

use std::{cell::RefCell, future::poll_fn, net::IpAddr, rc::Rc, task::Poll, time::Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use weir_http::{BodyFraming, FieldKind, Forwarded, RequestHead, write_request};
use weir_snapshot::{
    Fallback, Route, RouteBounds, Target, UrlMap,
    config::{Downstream as Settings, Protocol},
};

pub(crate) use self::exchange::Exchange;
use self::{
    client_watch::ClientWatch,
    retry::{Resends, Retries},
};
use crate::{
    answer::Local,
    client::{ClientConnection, RequestBody},
    edit::{Answered, Facts},
    failure::{Failure, Owner, RetryReason, Verdict},
    filter,
    origin::Origin,
    pool::{
        Reach, Taken,
        balance::Tried,
        selection::{self, Nowhere},
    },
    stats::Refusal,
    upstream::{Attempt, Response, Upload},
    url_map::Answers,
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
    /// The address of who connected, canonical, and the same as text.
    pub(crate) peer: (IpAddr, &'a str),
    /// `http` or `https`, as it connected.
    pub(crate) scheme: &'static [u8],
    /// Is watched for the client's leaving, and takes interim answers.
    pub(crate) asker: Asker<'a>,
}

/// The client's side of a request that is under way.
#[derive(Clone, Copy)]
pub(crate) enum Asker<'a> {
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
    let place = match route::find(snapshot, head, &origin) {
        Ok(place) => place,
        Err(local) => return Answer::Local(local),
    };
    exchange.route = Some(place);
    let route = &snapshot.routes[place];
    let refused = match &view.active.filters[place] {
        Some(chain) => {
            let outcome = filter::apply(chain, origin.ip, &client.worker.timers, head).await;
            exchange.quota = outcome.quota;
            exchange.refusal = outcome.refused.as_ref().map(|refused| refused.reason);
            outcome.refused.map(|refused| refused.answer)
        }
        None => None,
    };
    let head = &*head;
    let mut answer = match (refused, &route.target) {
        (Some(local), _) => Answer::Local(local),
        (None, Target::Redirect(redirect)) => Answer::Local(route::redirect(redirect, head, &origin)),
        (None, Target::Pool(pool)) => {
            forward(exchange, client, head, body, (&view, route, &origin), *pool).await
        }
        (None, Target::Split(split)) => {
            let chosen = route::choose(split, view.active.split(place), head);
            let mut answer =
                forward(exchange, client, head, body, (&view, route, &origin), chosen.pool).await;
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
        exchange.edit(&mut answer, rules, head, (client.peer.1, &origin));
    }
    answer
}

/// Finds the answer in a pool, or in the route's fallback.
async fn forward(
    exchange: &mut Exchange,
    client: &Downstream<'_>,
    head: &RequestHead,
    body: RequestBody,
    (view, route, origin): (&View, &Route, &Origin<'_>),
    mut pool: usize,
) -> Answer {
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
        peer: client.peer.1,
        request_id: own_id.unwrap_or(&request_id),
        route: &route.name,
        answer: Answered::default(),
    };
    let edit = match route::edit(route, &facts) {
        Ok(edit) => edit,
        Err(local) => return Answer::Local(local),
    };
    let forwarded = Forwarded {
        client_ip: origin.text().as_bytes(),
        peer_ip: client.peer.1.as_bytes(),
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
        let reach = if has_fallback { Reach::Usable } else { Reach::LastResort };
        let map = rewrite.map.as_ref();
        let asked = Asked { pool, reach, head, client, origin, forwarded: &forwarded, map, upgrade, bounds };
        let local = match ask(exchange, &asked, view, &mut upload).await {
            Outcome::Answer(answer) => return answer,
            Outcome::Nowhere(local, refusal) => {
                exchange.refusal = Some(refusal);
                local
            }
        };
        match fallback.take() {
            // A body of which a part is gone cannot be sent to another pool.
            Some(Fallback::Pool(other)) if upload.can_repeat() && *other != pool => pool = *other,
            Some(Fallback::Answer { status, body }) => {
                active.pools[pool].live.counts.count(|counts| &counts.fallbacks);
                return Answer::Local(Local::fixed(*status, body));
            }
            _ => return Answer::Local(local),
        }
        active.pools[pool].live.counts.count(|counts| &counts.fallbacks);
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

/// What is asked of a pool.
struct Asked<'a> {
    pool: usize,
    /// Whether dead backends may be picked.
    reach: Reach,
    head: &'a RequestHead,
    client: &'a Downstream<'a>,
    origin: &'a Origin<'a>,
    forwarded: &'a Forwarded<'a>,
    /// How URLs in its answer are mapped back.
    map: Option<&'a UrlMap>,
    /// The request offers an upgrade.
    upgrade: bool,
    /// What the route says in place of the pool.
    bounds: &'a RouteBounds,
}

/// What asking a pool came to.
enum Outcome {
    Answer(Answer),
    /// None of its backends could be asked; what to say if nobody else can, and what to count it as.
    Nowhere(Local, Refusal),
}

/// Asks a pool: picks a backend, sends, and tries others as far as that is safe and allowed.
async fn ask(exchange: &mut Exchange, asked: &Asked<'_>, view: &View, upload: &mut Upload) -> Outcome {
    let Asked { pool: pool_index, reach, head, client, origin, forwarded, map, upgrade, bounds } = *asked;
    let active = &view.active;
    let pool = &active.pools[pool_index];
    let policy = &pool.resilience.retry;
    let mut ask = selection::ask(pool, head, origin.text(), active.ms(exchange.started));
    let mut seat = selection::Seat::of(pool, head, ask.now_ms, reach);
    let mut tried = Tried::default();
    let (mut retries, mut resends) = (Retries::default(), Resends::default());
    // Why none of the backends so far could be asked.
    let mut unreached: Option<Verdict> = None;
    // A place that is taken already: for a retry it is taken before the answer at hand is given up.
    let mut next = seat.take();
    loop {
        let mut watch = ClientWatch::new(client, head, exchange.deadline.as_ref());
        let found = match next.take() {
            Some(found) => Ok(found),
            None => selection::find(pool, &mut ask, &tried, reach, client.timer, &mut watch).await,
        };
        let (member, in_flight) = match found {
            Ok(found) => found,
            Err(Nowhere::GivenUp(failure)) => return Outcome::Answer(given_up(&failure)),
            Err(Nowhere::Full) => return Outcome::Nowhere(Local::NO_ROOM, Refusal::NoRoom),
            Err(Nowhere::NoBackend) => {
                return match unreached {
                    Some(Verdict { answer, refusal, .. }) => {
                        Outcome::Nowhere(answer, refusal.unwrap_or(Refusal::NoBackend))
                    }
                    None => Outcome::Nowhere(Local::NO_BACKEND, Refusal::NoBackend),
                };
            }
        };
        exchange.member = Some(member);
        let state = &pool.members[member].state;
        let (begun, is_trial) = (Instant::now(), in_flight.is_trial());
        let attempt = Attempt {
            worker: client.worker,
            timer: client.timer,
            pool,
            member: &pool.members[member],
            bounds,
            connections: &view.connections[pool_index][member],
            is_head: head.is_head(),
            offers: upgrade.then_some(head),
        };
        // One rule for the report and the metric: whatever follows a request's first attempt is a retry, whether or not
        // the budget pays for it.
        if exchange.attempts > 0 {
            pool.live.counts.count(|counts| &counts.retries);
        }
        exchange.attempts += 1;
        let forwarded = Forwarded {
            omit_via: pool.omit_via,
            is_secured: pool.members[member].secured.is_some(),
            ..*forwarded
        };
        let write_head = |out: &mut Vec<u8>| write_request(out, head, &forwarded, head.framing, upgrade);
        let sent = attempt.run(in_flight, upload, write_head, watch).await;
        exchange.bytes_in = upload.bytes;

        let whole = sent.as_ref().map_or(&*upload, |response| response.body.upload()).can_repeat();
        let verdict = sent.as_ref().err().map(Failure::verdict);
        if let (Err(failure), Some(verdict)) = (&sent, &verdict) {
            pool.live.counts.count_failed(verdict.owner);
            tracing::debug!(backend = %state.id, owner = verdict.owner.name(), %failure, "attempt failed");
            if verdict.owner == Owner::Node && state.may_complain() {
                tracing::warn!(backend = %state.id, %failure, "this node cannot connect to a backend");
            }
            if whole && resends.allow(verdict.resend, head.is_idempotent()) {
                next = pool.take_again(&mut ask, &tried, member, verdict.resend);
                let is_same = next.as_ref().is_none_or(|(next, _)| *next == member);
                if let Some(pause) = resends.pause().filter(|_| is_same) {
                    let mut watch = ClientWatch::new(client, head, exchange.deadline.as_ref());
                    if let Err(failure) = selection::pause(client.timer, pause, &mut watch).await {
                        return Outcome::Answer(given_up(&failure));
                    }
                }
                continue;
            }
        }
        let reason = match &sent {
            Ok(response) => retry::of_status(policy, response.head.status),
            Err(_) => verdict.as_ref().and_then(|verdict| verdict.retry),
        };
        if verdict.as_ref().is_none_or(|verdict| verdict.owner == Owner::Backend) {
            let now = Instant::now();
            let ok = !reason.is_some_and(RetryReason::is_failure);
            pool.outcome(member, is_trial, ok, now - begun, active.ms(now));
            if sent.is_ok() {
                exchange.upstream = Some(now - begun);
                exchange.headed = Some(now - exchange.started);
            }
        }
        if let Some(reason) = reason {
            tried.add(member);
            if let Some(verdict) = verdict.clone().filter(|verdict| verdict.refusal.is_some())
                && unreached.as_ref().is_none_or(|last| last.weight <= verdict.weight)
            {
                unreached = Some(verdict);
            }
            let is_safe = reason.is_unseen() || head.is_idempotent();
            if whole && is_safe && retries.allows(policy, reason) {
                if reason.is_free() {
                    // Whoever is left may have it, the dead as a last resort.
                    continue;
                }
                match pool.take(&mut ask, &tried, Reach::Usable) {
                    Taken::Member(member, in_flight) if pool.live.budget.withdraw(policy) => {
                        tracing::debug!(backend = %state.id, ?reason, "attempt failed, another backend is asked");
                        retries.count();
                        next = Some((member, in_flight));
                        if let Ok(response) = sent {
                            *upload = response.body.discard(client.timer);
                        }
                        continue;
                    }
                    Taken::None if pool.is_held_back(&tried) => exchange.refusal = Some(Refusal::Breaker),
                    _ => {}
                }
            }
        } else if sent.is_ok() {
            pool.live.budget.deposit(policy);
        }
        return match sent {
            Ok(mut response) => {
                // A backend that agreed to a tunnel or an event stream wants many of them at once.
                if response.is_lasting {
                    exchange.uncount_client();
                }
                if let Some(map) = map {
                    let edit = forwarded.edit;
                    let sent_host = edit.and_then(|edit| edit.host).map(str::as_bytes).or(head.host());
                    let answers = Answers {
                        paths: edit.and_then(|edit| edit.target.as_ref()).map(|_| map),
                        scheme: origin.scheme(),
                        host: forwarded.host,
                        sent_host: sent_host.unwrap_or_default(),
                        backend: &state.url,
                    };
                    answers.apply(&mut response.head);
                }
                if reason.is_none() {
                    seat.keep(pool, member, &mut response.head, origin.https);
                }
                Outcome::Answer(Answer::Upstream(response))
            }
            Err(failure) if failure.is_of_gone_client() => Outcome::Answer(Answer::Gone),
            Err(failure) => {
                let Verdict { answer, refusal, .. } = verdict.unwrap_or_else(|| failure.verdict());
                match refusal {
                    Some(refusal) => Outcome::Nowhere(answer, refusal),
                    None => Outcome::Answer(Answer::Local(answer)),
                }
            }
        };
    }
}

/// The answer to a request that is given up before it is sent.
fn given_up(failure: &Failure) -> Answer {
    if failure.is_of_gone_client() { Answer::Gone } else { Answer::Local(failure.verdict().answer) }
}

fn write_hex(number: u64, into: &mut [u8; 16]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (i, digit) in into.iter_mut().enumerate() {
        *digit = DIGITS[(number >> (60 - 4 * i) & 0xf) as usize];
    }
}
