//! The record of one request while it runs, and what it adds to statistics at its end.

use std::{
    net::{IpAddr, Ipv4Addr},
    rc::Rc,
    sync::Arc,
    task::Context,
    time::{Duration, Instant},
};

use weir_http::{FieldKind, RequestHead, ResponseHead};
use weir_snapshot::{RefusalReason, RouteOverrides, headers::HeaderRules};

use super::Answer;
use crate::{
    client_limits::ClientRequest,
    edit::{Facts, ResponseFacts},
    failure::Failure,
    filter::Quota,
    fleet::Active,
    origin::Origin,
    stats::{Cut, Described, ResponseKind, Sample},
    wire::{
        pace::{Pace, PaceLimits},
        timer::Timer,
    },
    worker::{View, Worker},
};

/// Everything known about a request while it runs. Dropping it records the request, however it ended.
pub(crate) struct Exchange {
    pub(crate) worker: Rc<Worker>,
    pub(crate) view: Rc<View>,
    pub(super) started: Instant,
    pub(super) route: Option<usize>,
    pub(super) pool: Option<usize>,
    pub(super) member: Option<usize>,
    /// Status of the response; 499 before it is known.
    pub(crate) status: u16,
    /// Body bytes from the client.
    pub(crate) bytes_in: u64,
    /// Body bytes to the client.
    pub(crate) bytes_out: u64,
    /// Number of attempts, at any backend.
    pub(super) attempts: u32,
    pub(super) id: u64,
    /// The client's address, as reported by trusted proxies, and canonical: no IPv4-mapped IPv6 address.
    pub(crate) client_ip: IpAddr,
    /// How the response ended; `None` before its end.
    end: Option<End>,
    pub(super) kind: ResponseKind,
    /// The route's deadline for the whole request.
    pub(super) deadline: Option<Timer>,
    /// Method, host and path for statistics and live tail.
    pub(super) described: Described,
    /// From the last attempt's start to the head of its response.
    pub(super) upstream: Option<Duration>,
    /// From the head of the request to the head of the response.
    pub(super) headed: Option<Duration>,
    /// Why the node itself answers, if reports count the reason.
    pub(crate) refusal: Option<RefusalReason>,
    /// The client's state in the route's rate limit.
    pub(crate) quota: Option<Quota>,
    /// How slowly the client reads the response.
    pub(crate) taking: Pace,
    /// The request's count for its client address.
    pub(super) counted: Option<ClientRequest>,
}

impl Exchange {
    pub(crate) fn begin(worker: Rc<Worker>, view: Rc<View>, started: Instant) -> Self {
        let settings = &view.active.snapshot.settings.downstream;
        let taking = Pace::new(PaceLimits::of_response(settings, &RouteOverrides::default()));
        Self {
            taking,
            counted: None,
            worker,
            view,
            started,
            route: None,
            pool: None,
            member: None,
            status: 499,
            bytes_in: 0,
            bytes_out: 0,
            attempts: 0,
            id: fastrand::u64(..),
            client_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            end: None,
            kind: ResponseKind::Answer,
            deadline: None,
            described: Described::default(),
            upstream: None,
            headed: None,
            refusal: None,
            quota: None,
        }
    }

    /// Notes that a backend's response is forwarded with this status.
    pub(crate) fn answers(&mut self, head: &ResponseHead, status: u16) {
        self.status = status;
        self.kind = if status == 101 { ResponseKind::Tunnel } else { ResponseKind::of(head) };
    }

    /// Notes that a part of the response's body is sent to the client.
    pub(crate) fn sends(&mut self, piece: &[u8]) {
        self.bytes_out += piece.len() as u64;
        self.kind.read(piece);
    }

    /// Notes that the whole response was handed to the client's connection.
    pub(crate) fn finish(&mut self) {
        self.end.get_or_insert(End::Whole);
    }

    /// Notes that the response was cut.
    pub(crate) fn cut(&mut self, by: Cut) {
        self.end.get_or_insert(End::Cut(by));
    }

    /// Notes the end of the response, and the side that cut it, if any.
    pub(crate) fn ends(&mut self, cut: Option<Cut>) {
        match cut {
            None => self.finish(),
            Some(by) => self.cut(by),
        }
    }

    /// Notes that the response broke off while its body was forwarded.
    pub(crate) fn broke_off(&mut self, failure: &Failure) {
        self.cut(match failure {
            Failure::ClientGone | Failure::ClientStalled | Failure::RequestBody(_) => Cut::Client,
            Failure::Deadline => Cut::Node,
            _ => Cut::Backend,
        });
    }

    pub(crate) fn is_cut(&self) -> bool {
        matches!(self.end, Some(End::Cut(_)))
    }

    /// The request no longer counts for its client address.
    pub(super) fn uncount_client(&mut self) {
        if let Some(counted) = self.counted.take() {
            self.worker.client_requests.leave(counted);
        }
    }

    /// Whether the route's deadline has passed; if not, the task is woken when it does.
    pub(crate) fn is_late(&self, cx: &Context<'_>) -> bool {
        self.deadline.as_ref().is_some_and(|deadline| deadline.expired(cx))
    }

    /// Idle timeout of a tunnel.
    pub(crate) fn tunnel_timeout(&self) -> Duration {
        let pool = self.pool.and_then(|pool| self.active().pools.get(pool));
        pool.map_or(Duration::ZERO, |pool| pool.timeouts.tunnel)
    }

    /// The request's id in logs and errors, if the client sent none.
    pub(crate) fn request_id(&self) -> String {
        format!("{:016x}", self.id)
    }

    /// The id that the client gave the request, if it is safe to show, or else the node's own.
    pub(crate) fn id_of(&self, head: &RequestHead) -> String {
        let fine = |id: &&[u8]| {
            (1..=128).contains(&id.len())
                && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte))
        };
        let given = head.get(FieldKind::XRequestId).filter(fine);
        given.map_or_else(|| self.request_id(), |id| String::from_utf8_lossy(id).into_owned())
    }

    pub(super) fn active(&self) -> &Arc<Active> {
        &self.view.active
    }

    /// Applies the route's rules to the headers of a response.
    pub(super) fn edit(
        &self,
        answer: &mut Answer,
        rules: &Arc<HeaderRules>,
        head: &RequestHead,
        peer: &str,
        origin: &Origin<'_>,
    ) {
        let (active, own_id) = (self.active(), self.request_id());
        let status = match answer {
            Answer::Upstream(response) => response.head.status,
            Answer::Local(local) => local.status,
            Answer::Gone => return,
        };
        let pool = self.pool.and_then(|pool| active.pools.get(pool));
        let member = self.member.and_then(|member| pool?.members.get(member));
        let route = self.route.and_then(|route| active.snapshot.routes.get(route));
        let facts = Facts {
            head,
            origin,
            peer,
            request_id: head
                .get(FieldKind::XRequestId)
                .filter(|id| !id.is_empty())
                .unwrap_or(own_id.as_bytes()),
            route: route.map_or("", |route| &route.name),
            answer: ResponseFacts {
                pool: pool.map_or("", |pool| &pool.name),
                backend: member.map_or("", |member| &member.state.id),
                status,
            },
        };
        match answer {
            Answer::Upstream(response) => {
                rules.removed.iter().for_each(|name| response.head.remove(name.as_bytes()));
                response.head.hides_via = rules.removes(b"via");
                facts.render(rules, |name, value| {
                    response.head.add(name.as_bytes(), value);
                });
            }
            Answer::Local(local) => local.extra_mut().headers(rules, &facts),
            Answer::Gone => {}
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.uncount_client();
        self.worker.count_request();
        let active = self.active();
        let pool = self.pool.and_then(|pool| active.pools.get(pool));
        let cut = match self.end {
            Some(End::Whole) => None,
            Some(End::Cut(by)) => Some(by),
            // The task was dropped: the node stops, or the client's connection has ended.
            None if self.worker.draining.get() => Some(Cut::Node),
            None => Some(Cut::Client),
        };
        let streamed = self.kind.ended(cut.is_some());
        if let Some(cut) = cut {
            self.worker.count_cut(cut);
            if let Some(pool) = pool.filter(|_| cut == Cut::Backend) {
                pool.state.counts.count(|counts| &counts.cut_by_backend);
            }
        }
        if streamed.is_some() {
            self.worker.count_stream();
        }
        let latency = self.started.elapsed();
        let sample = Sample {
            route: self.route.and_then(|route| active.snapshot.routes.get(route)).map(|route| &route.name),
            pool: pool.map(|pool| &pool.name),
            backend: self.member.and_then(|member| pool?.members.get(member)).map(|member| &member.state.id),
            status: self.status,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            retries: self.attempts.saturating_sub(1),
            latency,
            method: self.described.method,
            host: self.described.host.as_ref(),
            upstream: self.upstream,
            refusal: self.refusal,
            cut,
            streamed,
            head: self.headed.unwrap_or(latency),
        };
        self.worker.recorder.record(&sample);
        if let Some(seen) = &self.described.seen {
            self.worker.recorder.offer(seen, &sample, || self.request_id());
        }
    }
}

/// How an answer ended.
#[derive(Debug, Clone, Copy)]
enum End {
    Whole,
    Cut(Cut),
}
