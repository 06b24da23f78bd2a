//! The HTTP/2 client (RFC 9113): a few connections to a backend, each carrying many requests of this worker.
//!
//! The request and the head of the response pass through the text form and the parsers of HTTP/1, so that the
//! forwarding rules are in one place.

use std::{
    cell::Cell,
    future::{Future as _, poll_fn},
    ops::Range,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::Builder};
use weir_http::{
    Limits, Parsed, ResponseError, ResponseFraming, ResponseHead, Version, parse_response,
    translate::{
        Http2Request, head_size, push_trailers, request_from, websocket_accept, write_response_head,
    },
};

use super::{Attempt, MAX_INTERIM, Progress, Response, ResponseBody, Upload};
use crate::{
    connections::{
        frames::{FrameObserver, PeerNotices},
        shared::{Connection, ConnectionState, Opening, SETTLE, StreamSlot},
    },
    failure::Failure,
    pool::backend::InFlight,
    wire::{
        keep_alive::KeepAlive,
        stream::Io,
        timer::Timer,
        tunnel::{End, Http2End},
        watch::Watch,
    },
};

/// Most connections of one worker to one backend.
const MAX_CONNECTIONS: usize = 16;

/// Size of a request's head, as text, that backends accept without announcing it.
const USUAL_HEAD: usize = 4096;

/// Unread bytes of one response, and of all responses of a connection, that may be in flight.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// A slot, and whether its connection had carried requests before.
async fn acquire_slot(attempt: &Attempt<'_>, watch: &mut impl Watch) -> Result<(StreamSlot, bool), Failure> {
    let shared = &attempt.connections.shared;
    let take = |connection: Rc<Connection>| {
        connection.streams.set(connection.streams.get() + 1);
        StreamSlot {
            connection,
            connections: Rc::clone(attempt.connections),
            timers: Rc::clone(&attempt.worker.timers),
        }
    };
    attempt.timer.arm(attempt.pool.timeouts.connect);
    let now = || Duration::from_millis(attempt.worker.timers.now());
    let deadline = match attempt.pool.timeouts.connect {
        Duration::ZERO => Duration::MAX,
        connect => now() + connect,
    };
    let max_head = max_header_list_size(&attempt.head_limits());
    loop {
        if let Some(connection) = shared.with_room(attempt.worker.timers.now(), max_head, |address| {
            attempt.member.state.has_address(address)
        }) {
            return Ok((take(connection), true));
        }
        // Connections that only finish their streams do not count.
        shared.connections.borrow_mut().retain(|connection| connection.is_usable(max_head));
        let left = deadline.saturating_sub(now());
        if left.is_zero() {
            let timed_out = || Failure::Connect(std::io::ErrorKind::TimedOut.into());
            return Err(if shared.opening.get() { timed_out() } else { Failure::NoStream });
        }
        let is_settling = shared.is_settling(attempt.worker.timers.now());
        attempt.timer.arm(if is_settling { SETTLE.min(left) } else { left });
        let has_room = shared.connections.borrow().len() < MAX_CONNECTIONS;
        if has_room && !is_settling && !shared.opening.get() {
            shared.opening.set(true);
            let _opening = Opening(shared);
            let connection = open(attempt, watch).await?;
            shared.connections.borrow_mut().push(Rc::clone(&connection));
            return Ok((take(connection), false));
        }
        let mut waited = false;
        poll_fn(|cx| {
            if waited {
                return Poll::Ready(Ok(()));
            }
            if let Poll::Ready(reason) = watch.poll(cx) {
                return Poll::Ready(Err(reason));
            }
            if attempt.timer.expired(cx) {
                return Poll::Ready(Ok(()));
            }
            shared.waiting.borrow_mut().push(cx.waker().clone());
            waited = true;
            Poll::Pending
        })
        .await?;
    }
}

async fn open(attempt: &Attempt<'_>, watch: &mut impl Watch) -> Result<Rc<Connection>, Failure> {
    let (stream, address) = attempt.connect(watch).await?;
    let keep_alive = &attempt.pool.keep_alive;
    // All requests of a connection fail together, so unacknowledged data ends it much earlier than the kernel would.
    stream.set_user_timeout(keep_alive.timeout);
    let max_head = max_header_list_size(&attempt.head_limits());
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(crate::wire::buffer::SIZE)
        .max_header_list_size(max_head);
    let state = Rc::<ConnectionState>::default();
    // The client's side of the handshake only writes; another protocol is detected by the backend's first bytes.
    let handshake = builder.handshake(FrameObserver::new(Io(Rc::new(stream)), Rc::clone(&state.notices)));
    let (sender, mut connection) =
        handshake.await.map_err(|error| Failure::Connect(std::io::Error::other(error)))?;
    let mut pings = (!keep_alive.ping.is_zero()).then(|| {
        let timer = attempt.worker.timers.timer();
        KeepAlive::new(connection.ping_pong(), timer, keep_alive.ping, keep_alive.timeout)
    });
    let now = attempt.worker.timers.now();
    let opened = Rc::new(Connection {
        sender,
        address,
        max_head,
        opened: now,
        streams: Cell::new(0),
        since: Cell::new(now),
        state: Rc::clone(&state),
    });
    let connections = Rc::downgrade(attempt.connections);
    let this = Rc::downgrade(&opened);
    tokio::task::spawn_local(async move {
        let wake = || connections.upgrade().into_iter().for_each(|connections| connections.shared.wake());
        poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(result) => {
                if let Err(error) = result {
                    tracing::debug!(%error, "connection to a backend ended");
                }
                Poll::Ready(())
            }
            Poll::Pending => {
                // The number of free slots may have changed.
                if state.notices.take_changed() {
                    wake();
                }
                let Some(pings) = &mut pings else { return Poll::Pending };
                pings.poll_dead(cx, this.upgrade().is_some_and(|this| this.streams.get() > 0))
            }
        })
        .await;
        state.closed.set(true);
        wake();
    });
    Ok(opened)
}

/// The limit of a head as HTTP/2 counts it, with 32 bytes for each field (RFC 9113, 6.5.2).
fn max_header_list_size(limits: &Limits) -> u32 {
    u32::try_from(limits.max_head + 32 * limits.max_fields).unwrap_or(u32::MAX)
}

/// The meaning of a stream's error for its request.
fn failure(error: &h2::Error, notices: &PeerNotices, reused: bool) -> Failure {
    match error.reason() {
        // GOAWAY, for any reason: only streams that the backend has not started end with it.
        Some(_) if error.is_go_away() && error.is_remote() => Failure::NotBegun,
        Some(Reason::REFUSED_STREAM) => Failure::Refused,
        Some(Reason::ENHANCE_YOUR_CALM) if error.is_remote() => Failure::Calm,
        Some(Reason::HTTP_1_1_REQUIRED) => Failure::Invalid("it wants HTTP/1.1"),
        Some(_) if error.is_library() => {
            Failure::Invalid("malformed HTTP/2, or a head far beyond limits.max_response_head")
        }
        None if notices.go_away() == Some(Reason::ENHANCE_YOUR_CALM) => Failure::CalmConnection,
        _ => Failure::Broken { reused },
    }
}

/// Runs one attempt.
pub(super) async fn send(
    attempt: Attempt<'_>,
    in_flight: InFlight,
    upload: &mut Upload,
    write_head: impl Fn(&mut Vec<u8>),
    mut watch: impl Watch,
) -> Result<Box<Response>, Failure> {
    let (slot, reused) = acquire_slot(&attempt, &mut watch).await?;
    let mut sender = slot.connection.sender.clone();
    let timer = attempt.timer;
    let mut text = Vec::with_capacity(512);
    write_head(&mut text);
    // The backend's SETTINGS say whether it accepts WebSockets (RFC 8441, 3) and how large a head may be. A request
    // that depends on them waits for them.
    let state = Rc::clone(&slot.connection.state);
    let waits = attempt.offers.is_some() || text.len() > USUAL_HEAD;
    poll_fn(|cx| {
        match sender.poll_ready(cx) {
            // Nothing of the request was sent.
            Poll::Ready(Err(_)) => return Poll::Ready(Err(state.retire())),
            Poll::Ready(Ok(())) if !waits || state.notices.is_settled() => return Poll::Ready(Ok(())),
            Poll::Ready(Ok(())) if !state.is_open() => return Poll::Ready(Err(state.retire())),
            Poll::Ready(Ok(())) => attempt.connections.shared.waiting.borrow_mut().push(cx.waker().clone()),
            Poll::Pending => {}
        }
        if let Poll::Ready(reason) = watch.poll(cx) {
            return Poll::Ready(Err(reason));
        }
        if timer.expired(cx) { Poll::Ready(Err(Failure::Timeout)) } else { Poll::Pending }
    })
    .await?;

    let limits = attempt.head_limits();
    let connects = attempt.offers.is_some() && sender.is_extended_connect_protocol_enabled();
    let secure = attempt.member.secured.is_some();
    let Http2Request { mut request, websocket_key: websocket } =
        request_from(&text, connects, secure).map_err(Failure::Inexpressible)?;
    if websocket.is_some() {
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    }
    // Freed before the wait for the response.
    drop(text);
    if state.notices.max_head().is_some_and(|most| head_size(&request) > most) {
        return Err(Failure::HeadTooLarge);
    }
    upload.start_http2();
    let tunnel = websocket.is_some();
    let ends = upload.is_empty() && !tunnel;
    // An error here means the end of the connection or of its stream ids; the request was not sent.
    let (mut response, mut stream) = sender.send_request(request, ends).map_err(|_| state.retire())?;
    drop(sender);
    if ends || tunnel {
        upload.give_up();
    }
    let response_timeout = attempt.response_timeout();
    let mut uploaded = upload.is_closed();
    upload.arm(timer, response_timeout);
    let mut head = ResponseHead::new();
    let mut interim_heads = 0;
    let mut cut = false;
    let (parts, recv) = poll_fn(|cx| {
        if !uploaded {
            match upload.poll_http2(cx, &mut stream, Some(timer)) {
                Poll::Ready(Ok(())) => {
                    uploaded = true;
                    timer.arm(response_timeout);
                }
                // The response, or its error, says more; after some errors the whole request is sent again.
                Poll::Ready(Err(Failure::Broken { .. })) => (uploaded, cut) = (true, true),
                Poll::Ready(Err(failure)) => {
                    stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(failure));
                }
                Poll::Pending => {}
            }
        }
        while let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
            interim_heads += 1;
            if interim_heads > MAX_INTERIM {
                return Poll::Ready(Err(Failure::Invalid("interim answers without end")));
            }
            let (parts, ()) = interim.into_parts();
            if read_head(&parts, &limits, false, None, &mut head).is_ok() {
                watch.interim(&head);
            }
        }
        if let Poll::Ready(result) = Pin::new(&mut response).poll(cx) {
            return Poll::Ready(match result {
                Ok(response) => Ok(response.into_parts()),
                Err(error) => Err(failure(&error, &state.notices, reused)),
            });
        }
        if let Poll::Ready(reason) = watch.poll(cx) {
            return Poll::Ready(Err(reason));
        }
        if timer.expired(cx) {
            return Poll::Ready(Err(Failure::Timeout));
        }
        Poll::Pending
    })
    .await?;
    if cut {
        upload.give_up();
    }

    let accepted = websocket.filter(|_| parts.status.is_success());
    if tunnel && accepted.is_none() {
        // The backend declined the upgrade: its response is an ordinary one, and this side sends nothing more.
        let _ = stream.send_data(Bytes::new(), true);
    }
    read_head(&parts, &limits, attempt.is_head, accepted.as_deref(), &mut head)?;
    let is_event_stream = head.is_event_stream();
    let stall = attempt.response_body_timeout(&head, is_event_stream);
    let ended = recv.is_end_stream();
    match head.framing {
        // The stream's end also ends a body without a length.
        ResponseFraming::UntilClose if ended => head.framing = ResponseFraming::Length(0),
        ResponseFraming::UntilClose => head.framing = ResponseFraming::Chunked,
        _ => {}
    }
    let body = Body {
        recv,
        stream,
        upload: upload.take(),
        chunk: Bytes::new(),
        unreleased: 0,
        trailers: Vec::new(),
        no_content: head.framing == ResponseFraming::None,
        ended,
        client_stalled: false,
        stall,
        slot,
        _in_flight: in_flight,
    };
    let is_lasting = is_event_stream || head.status == 101;
    Ok(Box::new(Response { head, body: ResponseBody::Http2(body), is_lasting }))
}

/// Parses the response's head with the parser of HTTP/1. `websocket` is the client's key if the backend accepted a
/// tunnel; the head then becomes what an HTTP/1.1 backend would send.
fn read_head(
    parts: &http::response::Parts,
    limits: &Limits,
    is_head: bool,
    websocket: Option<&[u8]>,
    head: &mut ResponseHead,
) -> Result<(), Failure> {
    let mut text = Vec::with_capacity(512);
    write_response_head(&mut text, parts, websocket.map(websocket_accept).as_deref());
    match parse_response(&text, limits, is_head, head) {
        Ok(Parsed::Complete { .. }) => {
            head.version = Version::Http2;
            Ok(())
        }
        Err(ResponseError::HeadTooLarge) => Err(Failure::AnswerHeadTooLarge),
        _ => Err(Failure::Invalid("malformed fields")),
    }
}

/// The body of a response. If it is dropped before its end, the stream is reset.
pub(crate) struct Body {
    recv: RecvStream,
    stream: SendStream<Bytes>,
    pub(super) upload: Upload,
    chunk: Bytes,
    /// Bytes of the last part that were not acknowledged to the backend yet.
    unreleased: usize,
    trailers: Vec<u8>,
    /// The response has no content (HEAD, 204, 304).
    no_content: bool,
    ended: bool,
    /// The client sends the rest of its request too slowly.
    client_stalled: bool,
    /// Longest pause; zero: no limit.
    pub(super) stall: Duration,
    slot: StreamSlot,
    _in_flight: InFlight,
}

impl Body {
    pub(super) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
        timer: &Timer,
    ) -> Poll<Result<Progress, Failure>> {
        if self.unreleased > 0 {
            // The client has taken the bytes: the backend may send as many again. A stream that has ended has no
            // window.
            let _ = self.recv.flow_control().release_capacity(self.unreleased);
            self.unreleased = 0;
        }
        self.poll_upload(cx);
        if self.client_stalled {
            return Poll::Ready(Err(Failure::ClientStalled));
        }
        loop {
            if self.ended {
                return Poll::Ready(Ok(Progress::End));
            }
            match self.recv.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) if self.no_content && !data.is_empty() => {
                    return Poll::Ready(Err(Failure::Invalid("content where none can be")));
                }
                Poll::Ready(Some(Ok(data))) => {
                    timer.arm(self.stall);
                    if data.is_empty() {
                        continue;
                    }
                    self.unreleased = data.len();
                    self.chunk = data;
                    return Poll::Ready(Ok(Progress::Data(0..self.chunk.len())));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(self.failure(&error))),
                Poll::Ready(None) => match self.recv.poll_trailers(cx) {
                    Poll::Ready(Ok(trailers)) => {
                        if let Some(trailers) = trailers {
                            push_trailers(&mut self.trailers, &trailers);
                        }
                        self.ended = true;
                        return Poll::Ready(Ok(Progress::End));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(self.failure(&error))),
                    Poll::Pending => {}
                },
                Poll::Pending => {}
            }
            return if timer.expired(cx) { Poll::Ready(Err(Failure::Timeout)) } else { Poll::Pending };
        }
    }

    fn failure(&self, error: &h2::Error) -> Failure {
        failure(error, &self.slot.connection.state.notices, false)
    }

    pub(super) fn data(&self, range: Range<usize>) -> &[u8] {
        self.chunk.get(range).unwrap_or_default()
    }

    pub(super) fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    pub(super) fn poll_upload(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(failure)) = self.upload.poll_http2(cx, &mut self.stream, None) {
            self.client_stalled |= matches!(failure, Failure::ClientStalled);
            // The client sends no more: the backend must not take the truncated body for a complete one.
            self.stream.send_reset(Reason::CANCEL);
            self.upload.give_up();
        }
    }

    pub(super) fn into_tunnel(self) -> End<'static> {
        let Self { recv, stream, slot, _in_flight, .. } = self;
        End::Http2(Box::new(Http2End::new(stream, recv, (slot, _in_flight))))
    }
}
