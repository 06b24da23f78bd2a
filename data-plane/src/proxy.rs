//! One request, from top to bottom: route, pick, connect or reuse, send, retry, answer.

use std::{
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use crate::{
    answer::Local,
    backend::{Active, PoolState},
    balance::Tried,
    http::{
        Forwarded, Known, RequestHead, ResponseFraming, ResponseHead, Version, write_request, write_response,
    },
    listener::{
        BodyFailure, RequestBody,
        http1::{Client, Presence},
    },
    stats::Sample,
    stream::Stream,
    timer::Timer,
    upstream::{
        Connection,
        http1::{self, Attempt, Failure, Response, Upload},
    },
    worker::{View, Worker},
};

/// A request that reached a backend is repeated at most this often, and only if that is safe.
const MAX_REPEATS: u32 = 2;

/// A client that said it sends no more may have left: after this long it is asked.
const PROBE_AFTER: Duration = Duration::from_secs(1);

/// How soon after it was asked a client that left has answered with a reset.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// What is known of a request while it runs. Dropping it records the request, however it ended.
pub(crate) struct Exchange {
    pub(crate) worker: Rc<Worker>,
    pub(crate) view: Rc<View>,
    started: Instant,
    route: Option<usize>,
    pool: Option<usize>,
    member: Option<usize>,
    /// What the client was answered; 499 until then.
    pub(crate) status: u16,
    /// Body bytes from the client.
    pub(crate) bytes_in: u64,
    /// Body bytes to the client.
    pub(crate) bytes_out: u64,
    retries: u32,
    id: u64,
    /// The answer broke off.
    pub(crate) broken: bool,
}

impl Exchange {
    pub(crate) fn begin(worker: Rc<Worker>, view: Rc<View>, started: Instant) -> Self {
        Self {
            worker,
            view,
            started,
            route: None,
            pool: None,
            member: None,
            status: 499,
            bytes_in: 0,
            bytes_out: 0,
            retries: 0,
            id: fastrand::u64(..),
            broken: false,
        }
    }

    /// The request's name in logs and errors, where the client gave none.
    pub(crate) fn request_id(&self) -> String {
        format!("{:016x}", self.id)
    }

    fn active(&self) -> &Arc<Active> {
        &self.view.active
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.worker.count_request();
        let active = self.active();
        let pool = self.pool.and_then(|pool| active.pools.get(pool));
        self.worker.recorder.record(&Sample {
            route: self.route.and_then(|route| active.snapshot.routes.get(route)).map(|route| &route.name),
            pool: pool.map(|pool| &pool.name),
            backend: self.member.and_then(|member| pool?.members.get(member)).map(|member| &member.state.id),
            status: self.status,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            retries: self.retries,
            latency: self.started.elapsed(),
        });
    }
}

/// What the client gets.
pub(crate) enum Answer {
    /// From a backend.
    Upstream(Box<Response>),
    /// From Weir itself.
    Local(Local),
    /// Nothing: it has left.
    Gone,
}

/// Who asks, whatever the protocol.
pub(crate) struct Downstream<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    /// The request's deadlines.
    pub(crate) timer: &'a Timer,
    /// The client's address as text.
    pub(crate) address: &'a str,
    /// `http` or `https`, as the client came.
    pub(crate) scheme: &'static [u8],
    /// The connection, if it is HTTP/1: it is watched for the client's leaving, and takes interim answers.
    pub(crate) http1: Option<&'a Client>,
}

/// Finds the request's answer. Returns when its head is there.
pub(crate) async fn handle(
    exchange: &mut Exchange,
    client: &Downstream<'_>,
    head: &RequestHead,
    body: RequestBody,
) -> Answer {
    if let Some(local) = Local::for_method(head) {
        return Answer::Local(local);
    }
    let view = Rc::clone(&exchange.view);
    let active = &view.active;
    let Some(route) = active.snapshot.default_route else {
        return Answer::Local(Local::NO_ROUTE);
    };
    exchange.route = Some(route);
    let pool_index = active.snapshot.routes[route].pool;
    let pool = &active.pools[pool_index];
    exchange.pool = Some(pool_index);

    let stall = active.snapshot.settings.downstream.body_timeout.0;
    let mut upload = Upload::new(body, head.framing, stall);
    let mut tried = Tried::default();
    let mut repeats = 0;
    let mut timed_out = false;
    // An upgrade takes the connection over at once: it has no room for a body.
    let upgrade = head.upgrade && head.framing.is_empty();
    let mut request_id = [0; 16];
    write_hex(exchange.id, &mut request_id);
    loop {
        let Some(member) = pool.balancer.pick(&pool.members, &tried) else {
            return Answer::Local(match (tried.len(), timed_out) {
                (0, _) => Local::NO_BACKEND,
                (_, true) => Local::CONNECT_TIMEOUT,
                (_, false) => Local::NO_CONNECTION,
            });
        };
        exchange.member = Some(member);
        let state = &pool.members[member].state;
        let in_flight = state.enter();
        let idle = &view.idle[pool_index][member];
        let (connection, reused) = match idle.take(|address| state.addresses().contains(&address)) {
            Some(connection) => (connection, true),
            None => match connect(pool, member, client.timer).await {
                Ok(connection) => (connection, false),
                Err(error) => {
                    // Nothing was sent: any other backend may have the request.
                    timed_out |= error.kind() == std::io::ErrorKind::TimedOut;
                    tracing::debug!(backend = %state.id, %error, "connect failed");
                    tried.add(member);
                    exchange.retries += 1;
                    continue;
                }
            },
        };

        let attempt = Attempt {
            worker: client.worker,
            timer: client.timer,
            idle,
            response_timeout: pool.timeouts.response,
            is_head: head.is_head(),
            offers_upgrade: upgrade,
        };
        let write_head = |out: &mut Vec<u8>| {
            let forwarded = Forwarded {
                client_ip: client.address.as_bytes(),
                proto: client.scheme,
                host: head.host().unwrap_or_default(),
                // A client's own id is passed on.
                request_id: if head.get(Known::XRequestId).is_some() { b"" } else { &request_id },
                trust: false,
            };
            write_request(out, head, &forwarded, head.framing, upgrade);
        };
        let mut watch = client.http1.map(|client| Watch {
            client,
            may_ask: head.version == Version::Http11,
            timer: None,
            probed: false,
        });
        let watch = |cx: &mut Context<'_>| watch.as_mut().map_or(Poll::Pending, |watch| watch.poll(cx));
        let interim = |interim: &_| {
            if let Some(client) = client.http1 {
                send_interim(client, head, interim);
            }
        };
        let sent = http1::send(attempt, connection, in_flight, &mut upload, write_head, watch, interim).await;
        exchange.bytes_in = upload.bytes;
        let failure = match sent {
            Ok(response) => return Answer::Upstream(response),
            Err(failure) => failure,
        };
        tracing::debug!(backend = %state.id, %failure, reused, "attempt failed");
        let repeatable = !upload.begun && head.is_idempotent();
        match failure {
            // Closed while it was unused, as the request went out: the same backend may have it again, on the next
            // connection. Whether the backend saw the request is not known, so it must be one that may be repeated.
            Failure::Broken if reused && repeatable => exchange.retries += 1,
            Failure::Broken | Failure::Invalid(_) if repeatable && repeats < MAX_REPEATS => {
                repeats += 1;
                exchange.retries += 1;
                tried.add(member);
                if pool.balancer.pick(&pool.members, &tried).is_none() {
                    return Answer::Local(failed(&failure));
                }
            }
            Failure::ClientGone | Failure::RequestBody(BodyFailure::Gone) => return Answer::Gone,
            failure => return Answer::Local(failed(&failure)),
        }
    }
}

fn failed(failure: &Failure) -> Local {
    match failure {
        Failure::Timeout => Local::RESPONSE_TIMEOUT,
        Failure::Invalid(_) => Local::INVALID_ANSWER,
        Failure::ClientStalled => Local::REQUEST_TIMEOUT,
        Failure::RequestBody(BodyFailure::Malformed(why)) => Local::bad_request(why),
        Failure::Broken | Failure::ClientGone | Failure::RequestBody(BodyFailure::Gone) => Local::BROKEN,
    }
}

async fn connect(pool: &PoolState, member: usize, timer: &Timer) -> std::io::Result<Connection> {
    let state = &pool.members[member].state;
    let address = state.address().ok_or_else(|| std::io::Error::other("its name has no address"))?;
    let stream = Stream::connect(address, timer, pool.timeouts.connect).await?;
    Ok(Connection::new(stream, address))
}

fn write_hex(number: u64, into: &mut [u8; 16]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (i, digit) in into.iter_mut().enumerate() {
        *digit = DIGITS[(number >> (60 - 4 * i) & 0xf) as usize];
    }
}

/// Passes a 1xx answer on at once. A client of HTTP/1.0 does not know them (RFC 9110, 15.2).
fn send_interim(client: &Client, request: &RequestHead, interim: &ResponseHead) {
    if request.version == Version::Http10 {
        return;
    }
    let mut out = Vec::new();
    write_response(&mut out, interim, ResponseFraming::None, true, Version::Http11, None, false);
    client.stream.write_now(&out);
}

/// Looks after the client while its answer is awaited.
///
/// The end of its sending may mean that it left, or that it only has nothing more to say (a half-closed client is
/// served). The two look the same until something is sent: after a moment it gets a `100 Continue`, which every
/// HTTP/1.1 client must accept and ignore (RFC 9110, 15.2), and who has left answers with a reset.
struct Watch<'a> {
    client: &'a Client,
    /// A client of HTTP/1.0 knows no interim answers.
    may_ask: bool,
    timer: Option<Timer>,
    probed: bool,
}

impl Watch<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.client.poll_presence(cx) {
            Presence::There => Poll::Pending,
            Presence::Gone => Poll::Ready(()),
            Presence::Silent if self.may_ask => self.probe(cx),
            Presence::Silent => Poll::Pending,
        }
    }

    fn probe(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| {
            let timer = self.client.worker.timers.timer();
            timer.arm(PROBE_AFTER);
            timer
        });
        if !timer.expired(cx) {
            return Poll::Pending;
        }
        if !self.probed {
            self.probed = true;
            self.client.stream.write_now(b"HTTP/1.1 100 Continue\r\n\r\n");
        } else if self.client.stream.is_broken() {
            return Poll::Ready(());
        }
        timer.arm(PROBE_EVERY);
        // Registers the waker for the new deadline.
        if timer.expired(cx) { Poll::Ready(()) } else { Poll::Pending }
    }
}
