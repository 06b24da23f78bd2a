//! The attempts of one request at one pool: picks a backend, sends, judges the result and retries.

use std::time::Instant;

use weir_http::{Forwarded, RequestHead, write_request};
use weir_snapshot::{RefusalReason, RouteOverrides, UrlMap};

use super::{
    Answer, Downstream, Exchange,
    client_watch::ClientWatch,
    retry::{self, Resends, Retries},
};
use crate::{
    answer::Local,
    failure::{Failure, Owner, RetryReason, Verdict},
    origin::Origin,
    pool::{
        Candidates, Pick, Picked,
        balance::Tried,
        selection::{self, SelectionError},
    },
    upstream::{Attempt, Upload},
    url_map::ResponseUrls,
    worker::View,
};

/// A request for a pool.
pub(super) struct PoolRequest<'a> {
    pub(super) pool: usize,
    /// Whether dead backends may be picked.
    pub(super) candidates: Candidates,
    pub(super) head: &'a RequestHead,
    pub(super) client: &'a Downstream<'a>,
    pub(super) origin: &'a Origin<'a>,
    pub(super) forwarded: &'a Forwarded<'a>,
    /// Maps URLs in the response back to the client's form.
    pub(super) map: Option<&'a UrlMap>,
    /// The request offers an upgrade.
    pub(super) upgrade: bool,
    /// The route's timeouts, which override the pool's.
    pub(super) bounds: &'a RouteOverrides,
}

/// The result of a request to a pool.
pub(super) enum PoolOutcome {
    Answer(Answer),
    /// No backend of the pool could take the request: the answer, unless the route has a fallback, and the reason.
    Unavailable(Local, RefusalReason),
}

/// Sends a request to a pool: picks a backend, and retries as far as that is safe and allowed.
pub(super) async fn send(
    exchange: &mut Exchange,
    request: &PoolRequest<'_>,
    view: &View,
    upload: &mut Upload,
) -> PoolOutcome {
    let PoolRequest { pool: pool_index, candidates, head, client, origin, forwarded, map, upgrade, bounds } =
        *request;
    let active = &view.active;
    let pool = &active.pools[pool_index];
    let policy = &pool.resilience.retry;
    let mut context = selection::pick_context(pool, head, origin.text(), active.ms(exchange.started));
    let mut affinity = selection::Affinity::of(pool, head, context.now_ms, candidates);
    let mut tried = Tried::default();
    let (mut retries, mut resends) = (Retries::default(), Resends::default());
    // Why none of the backends so far could be reached.
    let mut unreached: Option<Verdict> = None;
    // A backend that is already picked: for a retry it is picked before the current response is given up.
    let mut next = affinity.take();
    loop {
        let mut watch = ClientWatch::new(client, head, exchange.deadline.as_ref());
        let found = match next.take() {
            Some(found) => Ok(found),
            None => selection::find(pool, &mut context, &tried, candidates, client.timer, &mut watch).await,
        };
        let Picked { member, in_flight } = match found {
            Ok(found) => found,
            Err(SelectionError::GivenUp(failure)) => return PoolOutcome::Answer(given_up(&failure)),
            Err(SelectionError::Full) => {
                return PoolOutcome::Unavailable(Local::NO_ROOM, RefusalReason::NoRoom);
            }
            Err(SelectionError::NoBackend) => {
                return match unreached {
                    Some(Verdict { answer, refusal, .. }) => {
                        PoolOutcome::Unavailable(answer, refusal.unwrap_or(RefusalReason::NoBackend))
                    }
                    None => PoolOutcome::Unavailable(Local::NO_BACKEND, RefusalReason::NoBackend),
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
        // Reports and metrics use one rule: every attempt after a request's first is a retry, whether or not the budget
        // pays for it.
        if exchange.attempts > 0 {
            pool.state.counts.count(|counts| &counts.retries);
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
            pool.state.counts.count_failed(verdict.owner);
            tracing::debug!(backend = %state.id, owner = verdict.owner.name(), %failure, "attempt failed");
            if verdict.owner == Owner::Node && state.may_log_problem() {
                tracing::warn!(backend = %state.id, %failure, "this node cannot connect to a backend");
            }
            if whole && resends.allow(verdict.resend, head.is_idempotent()) {
                next = pool.take_again(&mut context, &tried, member, verdict.resend);
                let is_same = next.as_ref().is_none_or(|next| next.member == member);
                if let Some(pause) = resends.pause().filter(|_| is_same) {
                    let mut watch = ClientWatch::new(client, head, exchange.deadline.as_ref());
                    if let Err(failure) = selection::pause(client.timer, pause, &mut watch).await {
                        return PoolOutcome::Answer(given_up(&failure));
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
                    // Any remaining backend may be tried, as a last resort also a dead one.
                    continue;
                }
                match pool.take(&mut context, &tried, Candidates::Usable) {
                    Pick::Member(Picked { member, in_flight }) if pool.state.budget.withdraw(policy) => {
                        tracing::debug!(backend = %state.id, ?reason, "attempt failed, another backend is asked");
                        retries.count();
                        next = Some(Picked { member, in_flight });
                        if let Ok(response) = sent {
                            *upload = response.body.discard(client.timer);
                        }
                        continue;
                    }
                    Pick::None if pool.is_held_by_breaker(&tried) => {
                        exchange.refusal = Some(RefusalReason::Breaker)
                    }
                    _ => {}
                }
            }
        } else if sent.is_ok() {
            pool.state.budget.deposit(policy);
        }
        return match sent {
            Ok(mut response) => {
                // A client may have many tunnels and event streams, so they do not count for its limit.
                if response.is_lasting {
                    exchange.uncount_client();
                }
                if let Some(map) = map {
                    let edit = forwarded.edit;
                    let sent_host = edit.and_then(|edit| edit.host).map(str::as_bytes).or(head.host());
                    let answers = ResponseUrls {
                        paths: edit.and_then(|edit| edit.target.as_ref()).map(|_| map),
                        scheme: origin.scheme(),
                        host: forwarded.host,
                        sent_host: sent_host.unwrap_or_default(),
                        backend: &state.url,
                    };
                    answers.apply(&mut response.head);
                }
                if reason.is_none() {
                    affinity.keep(pool, member, &mut response.head, origin.https);
                }
                PoolOutcome::Answer(Answer::Upstream(response))
            }
            Err(failure) if failure.is_client_gone() => PoolOutcome::Answer(Answer::Gone),
            Err(failure) => {
                let Verdict { answer, refusal, .. } = verdict.unwrap_or_else(|| failure.verdict());
                match refusal {
                    Some(refusal) => PoolOutcome::Unavailable(answer, refusal),
                    None => PoolOutcome::Answer(Answer::Local(answer)),
                }
            }
        };
    }
}

/// The response to a request that is given up before it is sent.
pub(super) fn given_up(failure: &Failure) -> Answer {
    if failure.is_client_gone() { Answer::Gone } else { Answer::Local(failure.verdict().answer) }
}
