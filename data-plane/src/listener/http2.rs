//! HTTP/2 from clients (RFC 9113), by ALPN or by prior knowledge on the cleartext port: h2 speaks the protocol, and
//! each stream becomes the same head, body and answer that HTTP/1 has.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    server::{Builder, SendResponse},
};
use http::{HeaderValue, Response as HttpResponse, StatusCode, header};
use weir_http::{
    Limits, Parsed, RequestHead, ResponseHead, Version, parse_request,
    translate::{read_trailers, response_fields, write_request_head},
};

use super::stream_tasks::{self, Work};
use crate::{
    answer::{Local, Media},
    client::{ClientConnection, RequestBody},
    failure::Failure,
    proxy::{self, Answer, Asker, Downstream, Exchange},
    stats::Cut,
    upstream::{Progress, Response},
    wire::{
        keep_alive::KeepAlive,
        stream::Io,
        timer::Timer,
        tunnel::{self, End, Http2End},
    },
};

/// What a client of HTTP/2 sends first (RFC 9113, 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The heads of all requests in flight on a connection may together be so many times as large as one.
///
/// HPACK lets a client send a head of the full size in some bytes, again and again: what a connection can make the node
/// keep has to be bounded as a whole.
const HEADS: usize = 16;

/// A head that used more memory than this is not kept for reuse.
const SMALL_HEAD: usize = 16 << 10;

/// How much of one request's body, and of all bodies of a connection, a client may send ahead.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// How long a client without a stream has to go after it was told to. While it has streams, only the node's drain
/// deadline cuts them.
const GO: Duration = Duration::from_secs(1);

/// How long a stream stays open for the rest of its request after its answer has ended. A reset at once makes clients lose
/// the answer that came before it (curl 7.88, httpx).
const LINGER: Duration = Duration::from_secs(5);

/// How many streams of a connection do; others are reset at once.
const MAX_LINGERING: usize = 32;

/// Serves a connection whose first bytes are the preface's; what was read of it is in the client's input.
pub(crate) async fn serve(client: Rc<ClientConnection>) {
    let Some(view) = client.worker.view() else { return };
    let settings = view.active.snapshot.settings.downstream.clone();
    drop(view);
    let idle_timeout = settings.idle_timeout.0;
    client.timer.arm_idle(settings.header_timeout.0);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(settings.max_concurrent_streams)
        .max_header_list_size(u32::try_from(settings.max_head.0).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(crate::wire::buffer::SIZE)
        .enable_connect_protocol();
    let mut handshake = std::pin::pin!(builder.handshake::<_, Bytes>(Io(Rc::clone(&client))));
    let connection = poll_fn(|cx| match handshake.as_mut().poll(cx) {
        Poll::Ready(connection) => Poll::Ready(connection.ok()),
        Poll::Pending if client.timer.expired(cx) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    });
    let Some(mut connection) = connection.await else { return };
    let streams = Rc::<Streams>::default();
    let mut keep_alive = KeepAlive::of_client(connection.ping_pong(), client.worker.timers.timer());
    client.timer.arm_idle(idle_timeout);
    let mut told_to_go = false;
    poll_fn(|cx| {
        loop {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    let open = OpenStream::new(&streams, &client, idle_timeout);
                    stream_tasks::serve(Work { request, respond, open });
                    continue;
                }
                // How a connection ends is the client's affair; its streams say what became of them.
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            if keep_alive.poll_dead(cx, true).is_ready() {
                return Poll::Ready(());
            }
            if !client.timer.expired(cx) {
                return Poll::Pending;
            }
            if told_to_go && streams.open.get() == 0 {
                return Poll::Ready(());
            }
            if !told_to_go {
                told_to_go = true;
                connection.graceful_shutdown();
            }
            client.timer.arm(GO);
        }
    })
    .await;
}

/// What a connection's open streams have.
#[derive(Default)]
struct Streams {
    /// How many there are.
    open: Cell<usize>,
    /// Bytes of their requests' heads that are still needed.
    heads: Cell<usize>,
    /// Answered streams that stay open for the rest of their requests.
    lingering: Cell<usize>,
}

/// A stream that is open; the connection's idle time runs only while there is none.
pub(super) struct OpenStream {
    streams: Rc<Streams>,
    /// What is held of its head.
    head: Cell<usize>,
    client: Rc<ClientConnection>,
    idle_timeout: Duration,
}

impl OpenStream {
    fn new(streams: &Rc<Streams>, client: &Rc<ClientConnection>, idle_timeout: Duration) -> Self {
        streams.open.set(streams.open.get() + 1);
        if !client.worker.draining.get() {
            client.timer.arm_idle(Duration::ZERO);
        }
        Self { streams: Rc::clone(streams), head: Cell::new(0), client: Rc::clone(client), idle_timeout }
    }

    /// Counts the request's head, unless those of the connection are too large together.
    fn hold_head(&self, bytes: usize, max_head: usize) -> bool {
        let heads = self.streams.heads.get().saturating_add(bytes);
        let fits = heads <= max_head.saturating_mul(HEADS);
        if fits {
            self.streams.heads.set(heads);
            self.head.set(bytes);
        }
        fits
    }

    /// The head is not needed any more.
    fn release_head(&self) {
        self.streams.heads.set(self.streams.heads.get() - self.head.take());
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.release_head();
        let open = self.streams.open.get() - 1;
        self.streams.open.set(open);
        if open == 0 && !self.client.worker.draining.get() {
            self.client.timer.arm_idle(self.idle_timeout);
        }
    }
}

/// The stream was reset, or its connection has ended.
struct Gone;

/// What a stream is answered with, and what it needs until its answer has ended.
struct Answering {
    client: Rc<ClientConnection>,
    exchange: Exchange,
    timer: Timer,
    respond: RefCell<SendResponse<Bytes>>,
    streams: Rc<Streams>,
    /// The request's body.
    rest: Option<Rc<RefCell<RecvStream>>>,
}

/// One request, to the end of its answer.
pub(super) async fn stream(Work { request, respond, open }: Work) {
    let client = &open.client;
    let worker = &client.worker;
    let Some(view) = worker.view() else { return };
    let settings = &view.active.snapshot.settings.downstream;
    let limits = Limits {
        max_head: usize::try_from(settings.max_head.0).unwrap_or(usize::MAX),
        max_fields: settings.max_headers as usize,
        ..Limits::default()
    };
    let exchange = Exchange::begin(Rc::clone(worker), Rc::clone(&view), Instant::now());
    let timer = worker.timers.timer();
    let (parts, recv) = request.into_parts();
    let mut answering = Answering {
        client: Rc::clone(client),
        exchange,
        timer,
        respond: RefCell::new(respond),
        streams: Rc::clone(&open.streams),
        rest: None,
    };
    if has_spaced_value(&parts) {
        let local = Local::bad_request("a field's value begins or ends with white space");
        return answering.local(local, Media::Problem, None);
    }
    let protocol = parts.extensions.get::<h2::ext::Protocol>().map(h2::ext::Protocol::as_str);
    if protocol.is_some_and(|protocol| protocol != "websocket") {
        // RFC 8441, 4: what is not known to the server is refused.
        return answering.local(Local::UNKNOWN_PROTOCOL, Media::Problem, None);
    }
    let tunnel = protocol.is_some();
    let ended = recv.is_end_stream();
    let mut text = worker.uploads.take();
    text.clear();
    write_request_head(&mut text, &parts, ended || tunnel, tunnel);
    drop(parts);
    let mut head = worker.requests.take();
    let refused = match parse_request(&text, &limits, &mut head) {
        Ok(Parsed::Complete { .. }) => None,
        Ok(Parsed::Partial) => Some(Local::bad_request("malformed request")),
        Err(error) => Some(Local::refused(&error)),
    };
    head.version = Version::Http2;
    let size = text.len();
    if text.capacity() <= SMALL_HEAD {
        worker.uploads.put(text);
    } else {
        drop(text);
    }
    let refused =
        refused.or_else(|| (!open.hold_head(size, limits.max_head)).then_some(Local::HEADS_TOO_LARGE));
    if let Some(local) = refused {
        return answering.local(local, Media::Problem, None);
    }
    let (body, recv) = match (ended, tunnel) {
        (_, true) => (RequestBody::Empty, Some(recv)),
        (true, false) => (RequestBody::Empty, None),
        (false, false) => {
            let body = Rc::new(RefCell::new(recv));
            answering.rest = Some(Rc::clone(&body));
            (RequestBody::Http2 { body, trailers: Vec::new(), first: None }, None)
        }
    };
    let Answering { exchange, timer, respond, .. } = &mut answering;
    let downstream = Downstream {
        worker,
        timer,
        peer: (client.ip, &client.address),
        scheme: client.scheme(),
        asker: Asker::Http2(respond),
    };
    match proxy::handle(exchange, &downstream, &mut head, body).await {
        // To an extended CONNECT any success means a tunnel, and there is none.
        Answer::Upstream(response) if recv.is_some() && (200..300).contains(&response.head.status) => {
            answering.local(Local::NO_SWITCH, Media::Problem, Some(&head));
        }
        Answer::Upstream(mut response) => {
            // However long the answer takes, the request's head is not needed for it.
            if head.buf.capacity() <= SMALL_HEAD {
                worker.requests.put(head);
            } else {
                drop(head);
            }
            open.release_head();
            match recv {
                Some(recv) if response.head.status == 101 => answering.tunnel(*response, recv).await,
                _ => answering.upstream(&mut response).await,
            }
        }
        Answer::Local(local) if head.is_grpc() => answering.grpc_status(local),
        Answer::Local(local) => answering.local(local, Media::accepted(&head), Some(&head)),
        Answer::Gone => answering.exchange.cut(Cut::Client),
    }
}

/// Whether a value begins or ends with white space: h2 lets it pass and RFC 9113, 8.2.1 does not, and it must not be
/// repaired on the way to HTTP/1.1.
fn has_spaced_value(parts: &http::request::Parts) -> bool {
    let spaced = |value: &HeaderValue| {
        let ends = [value.as_bytes().first(), value.as_bytes().last()];
        ends.into_iter().flatten().any(|byte| matches!(byte, b' ' | b'\t'))
    };
    parts.headers.values().any(spaced)
}

/// Adds the fields of an answer of Weir's own.
fn insert_own(fields: &mut http::HeaderMap, local: &Local) {
    for (name, value) in local.fields() {
        if let Ok(value) = HeaderValue::from_str(value) {
            fields.insert(header::HeaderName::from_static(name), value);
        }
    }
    for (name, value) in local.extra.iter().flat_map(|extra| &extra.lines) {
        let name = header::HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            fields.append(name, value);
        }
    }
}

impl Answering {
    /// Sends an answer of Weir's own.
    fn local(mut self, local: Local, media: Media, head: Option<&RequestHead>) {
        self.exchange.status = local.status;
        let id = head.map_or_else(|| self.exchange.request_id(), |head| self.exchange.id_of(head));
        let (content_type, body) = local.page(media, &id);
        let mut answer = HttpResponse::new(());
        *answer.status_mut() =
            StatusCode::from_u16(local.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let fields = answer.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        fields.insert(header::CONTENT_LENGTH, body.len().into());
        if let Some(date) = self.client.worker.date_value() {
            fields.insert(header::DATE, date);
        }
        if !local.sends("content-type") {
            fields.remove(header::CONTENT_TYPE);
        }
        insert_own(fields, &local);
        // A stream that is gone has nobody to answer.
        if let Ok(mut stream) = self.respond.borrow_mut().send_response(answer, false) {
            self.exchange.bytes_out = body.len() as u64;
            // It is small: it waits in the connection for the client's window.
            if stream.send_data(Bytes::from(body), true).is_ok() {
                self.exchange.finish();
            }
        }
        self.linger();
        self.exchange.cut(Cut::Client);
    }

    /// Reads the rest of the request after its answer, and drops it. The answer must not be lost in a reset, nor wait for a
    /// client that sends all before it reads.
    fn linger(&mut self) {
        let Some(rest) = self.rest.take().filter(|rest| !rest.borrow().is_end_stream()) else { return };
        let streams = Rc::clone(&self.streams);
        if streams.lingering.get() >= MAX_LINGERING || self.client.worker.draining.get() {
            return;
        }
        streams.lingering.set(streams.lingering.get() + 1);
        let timer = self.client.worker.timers.timer();
        timer.arm_idle(LINGER);
        tokio::task::spawn_local(async move {
            poll_fn(|cx| {
                let mut rest = rest.borrow_mut();
                loop {
                    let used = rest.flow_control().used_capacity();
                    let _ = rest.flow_control().release_capacity(used);
                    match rest.poll_data(cx) {
                        Poll::Ready(Some(Ok(_))) if timer.expired(cx) => return Poll::Ready(()),
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Pending if !timer.expired(cx) => return Poll::Pending,
                        _ => return Poll::Ready(()),
                    }
                }
            })
            .await;
            streams.lingering.set(streams.lingering.get() - 1);
        });
    }

    /// Says to a client of gRPC what Weir's own answer means there: a status and nothing else.
    fn grpc_status(mut self, local: Local) {
        self.exchange.status = local.status;
        let (code, message) = local.grpc();
        let mut answer = HttpResponse::new(());
        let fields = answer.headers_mut();
        insert_own(fields, &local);
        // Without these it would be no status, whatever the route says of headers.
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        fields.insert("grpc-status", code.into());
        fields.insert("grpc-message", HeaderValue::from_static(message));
        // A stream that is gone has nobody to answer.
        match self.respond.borrow_mut().send_response(answer, true) {
            Ok(_) => self.exchange.finish(),
            Err(_) => self.exchange.cut(Cut::Client),
        }
    }

    fn send_head(&mut self, head: &ResponseHead, status: u16, ends: bool) -> Result<SendStream<Bytes>, Gone> {
        self.exchange.answers(head, head.status);
        let mut answer = HttpResponse::new(());
        *answer.status_mut() = StatusCode::from_u16(status).map_err(|_| Gone)?;
        *answer.headers_mut() =
            response_fields(head, self.client.worker.date_value().as_ref(), head.status == 101);
        self.respond.borrow_mut().send_response(answer, ends).map_err(|_| {
            self.exchange.cut(Cut::Client);
            Gone
        })
    }

    /// Passes a backend's answer on.
    async fn upstream(&mut self, response: &mut Response) {
        let (ends, is_grpc) = (response.head.framing.is_empty(), response.head.is_grpc());
        let status = response.head.status;
        let Ok(mut stream) = self.send_head(&response.head, status, ends) else { return };
        self.client.worker.heads.put(std::mem::take(&mut response.head));
        if ends {
            // The backend's connection is free for the next request, and the rest of this one still goes up.
            self.exchange.finish();
            let _ = poll_fn(|cx| response.body.poll_data(cx, &self.timer)).await;
            self.exchange.bytes_in = response.body.uploaded();
            return;
        }
        let result = self.body(&mut stream, response).await;
        self.exchange.bytes_in = response.body.uploaded();
        if result.is_ok() {
            self.exchange.finish();
            self.linger();
        }
        if let Err(failure) = result {
            tracing::debug!(%failure, "answer broke off");
            self.exchange.broke_off(&failure);
            if matches!(failure, Failure::ClientGone) {
                stream.send_reset(Reason::CANCEL);
                return;
            }
            // A reset overtakes what is still queued. The connection's task has a turn to send that first.
            tokio::task::yield_now().await;
            if is_grpc {
                // The code becomes a status there, and CANCEL would be the client's own.
                stream.send_reset(Reason::INTERNAL_ERROR);
            }
            // Otherwise the stream is reset as it is dropped (CANCEL), which h2 does behind a head that a slow client
            // has not taken yet.
        }
    }

    async fn body(&mut self, stream: &mut SendStream<Bytes>, response: &mut Response) -> Result<(), Failure> {
        let mut ahead = None;
        loop {
            let progress = match ahead.take() {
                Some(progress) => progress,
                None => {
                    poll_fn(|cx| match response.body.poll_data(cx, &self.timer) {
                        Poll::Pending => self.poll_given_up(cx, stream).map(Err),
                        poll => poll,
                    })
                    .await
                }
            };
            match progress? {
                Progress::Data(range) => {
                    let bytes = Bytes::copy_from_slice(response.body.data(range));
                    self.exchange.sends(&bytes);
                    // The last piece carries the end, where it is known to be the last.
                    ahead = poll_fn(|cx| {
                        Poll::Ready(match response.body.poll_data(cx, &self.timer) {
                            Poll::Ready(result) => Some(result),
                            Poll::Pending => None,
                        })
                    })
                    .await;
                    let last =
                        matches!(ahead, Some(Ok(Progress::End))) && response.body.trailers().is_empty();
                    self.piece(stream, response, bytes, last).await?;
                    if last {
                        return Ok(());
                    }
                    response.body.arm(&self.timer);
                }
                Progress::Waiting => {}
                Progress::End => {
                    let trailers = read_trailers(response.body.trailers());
                    let sent = if trailers.is_empty() {
                        stream.send_data(Bytes::new(), true)
                    } else {
                        stream.send_trailers(trailers)
                    };
                    return sent.map_err(|_| Failure::ClientGone);
                }
            }
        }
    }

    /// Sends a piece as the client's window allows.
    async fn piece(
        &mut self,
        stream: &mut SendStream<Bytes>,
        response: &mut Response,
        mut bytes: Bytes,
        last: bool,
    ) -> Result<(), Failure> {
        while !bytes.is_empty() {
            stream.reserve_capacity(bytes.len());
            let room = poll_fn(|cx| {
                loop {
                    let room = stream.capacity().min(bytes.len());
                    if room > 0 {
                        return Poll::Ready(Ok(room));
                    }
                    match stream.poll_capacity(cx) {
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Ready(_) => return Poll::Ready(Err(Failure::ClientGone)),
                        Poll::Pending => {
                            self.exchange.taking.wait(&self.timer);
                            response.body.poll_upload(cx);
                            return self.poll_given_up(cx, stream).map(|failure| {
                                // It is the client that does not read.
                                let stalled = matches!(failure, Failure::Timeout);
                                Err(if stalled { Failure::ClientStalled } else { failure })
                            });
                        }
                    }
                }
            });
            let room = room.await?;
            self.exchange.taking.moved(room, &self.timer);
            let piece = bytes.split_to(room);
            let end = last && bytes.is_empty();
            stream.send_data(piece, end).map_err(|_| Failure::ClientGone)?;
        }
        Ok(())
    }

    /// Whether there is a reason to give up while nothing moves.
    fn poll_given_up(&self, cx: &mut Context<'_>, stream: &mut SendStream<Bytes>) -> Poll<Failure> {
        if stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Failure::ClientGone);
        }
        if self.exchange.is_late(cx) {
            return Poll::Ready(Failure::Deadline);
        }
        if self.timer.expired(cx) {
            return Poll::Ready(Failure::Timeout);
        }
        Poll::Pending
    }

    /// The backend agreed to a WebSocket: from here on bytes go both ways untouched (RFC 8441, 5).
    async fn tunnel(mut self, response: Response, recv: RecvStream) {
        let Ok(stream) = self.send_head(&response.head, 200, false) else { return };
        let Some(backend) = response.body.into_tunnel() else { return self.exchange.cut(Cut::Node) };
        let client = End::Http2(Box::new(Http2End::new(stream, recv, ())));
        let idle = self.exchange.tunnel_timeout();
        let buffers = Rc::clone(&self.client.worker.buffers);
        let before = self.exchange.bytes_in;
        let exchange = &mut self.exchange;
        let passed = |bytes_in, bytes_out| {
            (exchange.bytes_in, exchange.bytes_out) = (before + bytes_in, bytes_out);
        };
        let cut = tunnel::run(client, backend, &buffers, &self.timer, idle, passed).await;
        self.exchange.ends(cut);
    }
}
