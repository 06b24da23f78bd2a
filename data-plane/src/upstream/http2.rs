//! The HTTP/2 client (RFC 9113): a few connections to a backend, each carrying many requests of this worker.
//!
//! The request and the answer's head pass through the same text form and parsers as HTTP/1's, so that the rules of
//! what is passed on stand in one place.

use std::{
    cell::{Cell, RefCell},
    future::{Future as _, poll_fn},
    net::SocketAddr,
    ops::Range,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    client::{Builder, SendRequest},
};

use super::{Attempt, Failure, MAX_INTERIM, Progress, Response, ResponseBody, Upload, Watch};
use crate::{
    backend::InFlight,
    http::{
        Limits, Parsed, ResponseFraming, ResponseHead, Version, parse_response,
        translate::{push_trailers, request_from, websocket_accept, write_response_head},
    },
    keep_alive::KeepAlive,
    stream::Io,
    timer::Timer,
    tunnel::{End, Http2End},
    worker::Worker,
};

/// The most connections of one worker to one backend.
const MAX_CONNECTIONS: usize = 16;

/// The most requests that this side puts on one connection, whatever the backend allows.
const MAX_STREAMS: usize = 250;

/// How much of one answer, and of all answers of a connection, may be on its way unread.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// One worker's connections to one HTTP/2 backend.
#[derive(Default)]
pub(crate) struct Shared {
    connections: RefCell<Vec<Rc<Connection>>>,
    /// A connection is being opened: others wait for it rather than open one each.
    opening: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

struct Connection {
    sender: SendRequest<Bytes>,
    address: SocketAddr,
    streams: Cell<usize>,
    /// When its last stream ended, in the worker's milliseconds.
    since: Cell<u64>,
    driven: Rc<Driven>,
}

/// What a connection's own task says of it.
#[derive(Default)]
struct Driven {
    /// It takes no more requests.
    closed: Cell<bool>,
    /// The backend's SETTINGS have come.
    settled: Cell<bool>,
}

impl Connection {
    fn has_room(&self) -> bool {
        let most = self.sender.current_max_send_streams().min(MAX_STREAMS);
        !self.driven.closed.get() && self.streams.get() < most
    }
}

impl Shared {
    /// Closes those unused since before `oldest`, and forgets those that were closed.
    pub(crate) fn close_older_than(&self, oldest: u64) {
        self.connections.borrow_mut().retain(|connection| {
            !connection.driven.closed.get()
                && (connection.streams.get() > 0 || connection.since.get() >= oldest)
        });
    }

    fn wake(&self) {
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }

    /// The least busy connection that has room.
    fn with_room(&self, attempt: &Attempt<'_>) -> Option<Rc<Connection>> {
        let connections = self.connections.borrow();
        let usable = connections.iter().filter(|connection| {
            connection.has_room() && attempt.member.state.has_address(connection.address)
        });
        usable.min_by_key(|connection| connection.streams.get()).cloned()
    }
}

/// A place on a connection, for one request.
struct Place {
    connection: Rc<Connection>,
    connections: Rc<super::Connections>,
    worker: Rc<Worker>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connection.streams.set(self.connection.streams.get() - 1);
        self.connection.since.set(self.worker.timers.now());
        self.connections.shared.wake();
    }
}

/// Says that nobody opens a connection any more, however the opening ended.
struct Opening<'a>(&'a Shared);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.opening.set(false);
        self.0.wake();
    }
}

/// A place, and whether its connection had carried requests before.
async fn place(attempt: &Attempt<'_>, watch: &mut impl Watch) -> Result<(Place, bool), Failure> {
    let shared = &attempt.connections.shared;
    let take = |connection: Rc<Connection>| {
        connection.streams.set(connection.streams.get() + 1);
        Place { connection, connections: Rc::clone(attempt.connections), worker: Rc::clone(attempt.worker) }
    };
    attempt.timer.arm(attempt.pool.timeouts.connect);
    loop {
        if let Some(connection) = shared.with_room(attempt) {
            return Ok((take(connection), true));
        }
        shared.connections.borrow_mut().retain(|connection| !connection.driven.closed.get());
        if !shared.opening.get() && shared.connections.borrow().len() < MAX_CONNECTIONS {
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
                return Poll::Ready(Err(Failure::Connect(std::io::ErrorKind::TimedOut.into())));
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
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(crate::buffer::SIZE)
        .max_header_list_size(u32::try_from(Limits::default().max_head).unwrap_or(u32::MAX));
    // The client's side of the handshake only writes: a backend that speaks something else is found out by its answer.
    let handshake = builder.handshake(Io(Rc::new(stream)));
    let (sender, mut connection) =
        handshake.await.map_err(|error| Failure::Connect(std::io::Error::other(error)))?;
    let driven = Rc::<Driven>::default();
    let tell = Rc::clone(&driven);
    let mut keep_alive = KeepAlive::new(connection.ping_pong(), attempt.worker.timers.timer());
    keep_alive.ask();
    let connections = Rc::downgrade(attempt.connections);
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
                let dead = keep_alive.poll_dead(cx);
                if !tell.settled.get() && keep_alive.is_answered() {
                    tell.settled.set(true);
                    wake();
                }
                dead
            }
        })
        .await;
        tell.closed.set(true);
        wake();
    });
    Ok(Rc::new(Connection {
        sender,
        address,
        streams: Cell::new(0),
        since: Cell::new(attempt.worker.timers.now()),
        driven,
    }))
}

/// What an error of a stream means for its request.
fn failure(error: &h2::Error, reused: bool) -> Failure {
    match error.reason() {
        Some(Reason::REFUSED_STREAM) => Failure::Refused,
        // Only streams that the backend says it has not begun end so.
        Some(Reason::NO_ERROR) if error.is_go_away() && error.is_remote() => Failure::Refused,
        Some(Reason::HTTP_1_1_REQUIRED) => Failure::Invalid("it wants HTTP/1.1"),
        Some(_) if error.is_library() => Failure::Invalid("malformed HTTP/2"),
        _ => Failure::Broken { reused },
    }
}

/// One attempt.
pub(super) async fn send(
    attempt: Attempt<'_>,
    in_flight: InFlight,
    upload: &mut Upload,
    write_head: impl Fn(&mut Vec<u8>),
    mut watch: impl Watch,
) -> Result<Box<Response>, Failure> {
    let (place, reused) = place(&attempt, &mut watch).await?;
    let mut sender = place.connection.sender.clone();
    let timer = attempt.timer;
    // Whether the backend takes WebSockets is in its SETTINGS (RFC 8441, 3): who wants one waits for them.
    let settled = || {
        !attempt.offers_upgrade
            || place.connection.driven.settled.get()
            || place.connection.driven.closed.get()
    };
    poll_fn(|cx| match sender.poll_ready(cx) {
        Poll::Ready(result) if settled() || result.is_err() => {
            Poll::Ready(result.map_err(|error| failure(&error, reused)))
        }
        Poll::Ready(_) if timer.expired(cx) => Poll::Ready(Err(Failure::Timeout)),
        Poll::Ready(_) => {
            attempt.connections.shared.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        }
        Poll::Pending => match watch.poll(cx) {
            Poll::Ready(reason) => Poll::Ready(Err(reason)),
            Poll::Pending if timer.expired(cx) => Poll::Ready(Err(Failure::Timeout)),
            Poll::Pending => Poll::Pending,
        },
    })
    .await?;

    let mut text = Vec::with_capacity(512);
    write_head(&mut text);
    let connects = attempt.offers_upgrade && sender.is_extended_connect_protocol_enabled();
    let secure = attempt.member.secured.is_some();
    let (request, websocket) = request_from(&text, connects, secure)
        .ok_or(Failure::Invalid("the request cannot be said in HTTP/2"))?;
    upload.start(|_| {});
    let tunnel = websocket.is_some();
    let ends = upload.is_complete() && !tunnel;
    let (mut response, mut stream) =
        sender.send_request(request, ends).map_err(|error| failure(&error, reused))?;
    drop(sender);
    if ends || tunnel {
        upload.give_up();
    }
    let response_timeout = attempt.response_timeout();
    let mut uploaded = upload.is_done();
    if uploaded {
        timer.arm(response_timeout);
    } else {
        upload.arm(timer);
    }
    let mut head = ResponseHead::new();
    let mut interim_heads = 0;
    let (parts, recv) = poll_fn(|cx| {
        if !uploaded {
            match upload.poll_http2(cx, &mut stream, Some(timer)) {
                Poll::Ready(Ok(())) => {
                    uploaded = true;
                    timer.arm(response_timeout);
                }
                // The answer, or the error in its place, says more.
                Poll::Ready(Err(Failure::Broken { .. })) => {
                    upload.give_up();
                    uploaded = true;
                }
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
            if read_head(&parts, false, None, &mut head).is_ok() {
                watch.interim(&head);
            }
        }
        if let Poll::Ready(result) = Pin::new(&mut response).poll(cx) {
            return Poll::Ready(match result {
                Ok(response) => Ok(response.into_parts()),
                Err(error) => Err(failure(&error, reused)),
            });
        }
        if let Poll::Ready(reason) = watch.poll(cx) {
            return Poll::Ready(Err(reason));
        }
        if timer.expired(cx) {
            return Poll::Ready(Err(if uploaded { Failure::Timeout } else { Failure::ClientStalled }));
        }
        Poll::Pending
    })
    .await?;

    let accepted = websocket.filter(|_| parts.status.is_success());
    if tunnel && accepted.is_none() {
        // It declined: what it says is an ordinary answer, and this side has nothing more to say.
        let _ = stream.send_data(Bytes::new(), true);
    }
    read_head(&parts, attempt.is_head, accepted.as_deref(), &mut head)?;
    let ended = recv.is_end_stream();
    match head.framing {
        // Whatever ends a stream without a length, it is the stream that ends.
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
        stall: if head.is_event_stream() || head.is_grpc() { Duration::ZERO } else { response_timeout },
        _place: place,
        _in_flight: in_flight,
    };
    Ok(Box::new(Response { head, body: ResponseBody::Http2(body) }))
}

/// The answer's head through the same parser as HTTP/1's. `websocket` is the client's key where the backend agreed to
/// a tunnel: it is told what an HTTP/1.1 backend would say.
fn read_head(
    parts: &http::response::Parts,
    is_head: bool,
    websocket: Option<&[u8]>,
    head: &mut ResponseHead,
) -> Result<(), Failure> {
    let mut text = Vec::with_capacity(512);
    write_response_head(&mut text, parts, websocket.map(websocket_accept).as_deref());
    match parse_response(&text, &Limits::default(), is_head, head) {
        Ok(Parsed::Complete { .. }) => {
            head.version = Version::Http2;
            Ok(())
        }
        _ => Err(Failure::Invalid("malformed fields")),
    }
}

/// The body of an answer; dropped before its end, its stream is reset.
pub(crate) struct Body {
    recv: RecvStream,
    stream: SendStream<Bytes>,
    pub(super) upload: Upload,
    chunk: Bytes,
    /// Bytes of the last piece, of which the backend has not been told yet that they were taken.
    unreleased: usize,
    trailers: Vec<u8>,
    /// None may come (HEAD, 204, 304).
    no_content: bool,
    ended: bool,
    /// How long it may stand still; zero: as long as it likes.
    pub(super) stall: Duration,
    _place: Place,
    _in_flight: InFlight,
}

impl Body {
    pub(super) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
        timer: &Timer,
    ) -> Poll<Result<Progress, Failure>> {
        if self.unreleased > 0 {
            // Taken by the client: the backend may send as much again. A stream that has ended has no window.
            let _ = self.recv.flow_control().release_capacity(self.unreleased);
            self.unreleased = 0;
        }
        self.poll_upload(cx);
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
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(failure(&error, false))),
                Poll::Ready(None) => match self.recv.poll_trailers(cx) {
                    Poll::Ready(Ok(trailers)) => {
                        if let Some(trailers) = trailers {
                            push_trailers(&mut self.trailers, &trailers);
                        }
                        self.ended = true;
                        return Poll::Ready(Ok(Progress::End));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(failure(&error, false))),
                    Poll::Pending => {}
                },
                Poll::Pending => {}
            }
            return if timer.expired(cx) { Poll::Ready(Err(Failure::Timeout)) } else { Poll::Pending };
        }
    }

    pub(super) fn data(&self, range: Range<usize>) -> &[u8] {
        self.chunk.get(range).unwrap_or_default()
    }

    pub(super) fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    pub(super) fn poll_upload(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(_)) = self.upload.poll_http2(cx, &mut self.stream, None) {
            // The client sends no more: the backend must not take what it has for the whole.
            self.stream.send_reset(Reason::CANCEL);
            self.upload.give_up();
        }
    }

    pub(super) fn into_tunnel(self) -> End<'static> {
        let Self { recv, stream, _place, _in_flight, .. } = self;
        End::Http2(Box::new(Http2End::new(stream, recv, (_place, _in_flight))))
    }
}
