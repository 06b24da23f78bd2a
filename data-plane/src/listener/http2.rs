//! HTTP/2 from clients (RFC 9113), by ALPN or by prior knowledge on the cleartext port. h2 implements the protocol, and
//! each stream becomes the same head, body and response as with HTTP/1.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::server::Builder;
use http::HeaderValue;
use weir_http::{Limits, Parsed, Version, parse_request, translate::write_request_head};

use super::stream_tasks::{self, Work};
use crate::{
    answer::{Local, Media},
    client::{ClientConnection, RequestBody},
    listener::http2_response::Answering,
    proxy::{self, Answer, ClientHandle, Downstream, Exchange},
    stats::Cut,
    wire::{keep_alive::KeepAlive, stream::Io},
};

/// The client's connection preface (RFC 9113 section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The heads of all requests in flight on a connection may together be this number of times as large as one.
///
/// With HPACK a client can send full-size heads in a few bytes each, so the memory of a connection needs a limit as a
/// whole.
const HEADS: usize = 16;

/// The memory of a larger head is not reused.
const SMALL_HEAD: usize = 16 << 10;

/// Bytes of one request's body, and of all bodies of a connection, that a client may send ahead.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// How long a client without a stream may stay connected after GOAWAY. Streams are cut only by the node's drain
/// deadline.
const GO: Duration = Duration::from_secs(1);

/// Serves a connection whose first bytes are the preface; the bytes read so far are in the client's input.
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
                // The end of the connection is not logged; its streams record their outcomes.
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

/// Counts of a connection's open streams.
#[derive(Default)]
pub(super) struct Streams {
    open: Cell<usize>,
    /// Bytes of their requests' heads that are still needed.
    heads: Cell<usize>,
    /// Streams that stay open after their response, for the rest of their requests.
    pub(super) lingering: Cell<usize>,
}

/// An open stream. The connection's idle timeout runs only while no stream is open.
pub(super) struct OpenStream {
    streams: Rc<Streams>,
    /// Bytes of its head that are counted.
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

    /// Counts the request's head, unless the heads of the connection are too large together.
    fn hold_head(&self, bytes: usize, max_head: usize) -> bool {
        let heads = self.streams.heads.get().saturating_add(bytes);
        let fits = heads <= max_head.saturating_mul(HEADS);
        if fits {
            self.streams.heads.set(heads);
            self.head.set(bytes);
        }
        fits
    }

    /// The head is no longer needed.
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

/// Handles one request, up to the end of its response.
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
        // RFC 8441, 4: an unknown protocol is rejected.
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
        peer: client.peer(),
        scheme: client.scheme(),
        client_handle: ClientHandle::Http2(respond),
    };
    match proxy::handle(exchange, &downstream, &mut head, body).await {
        // Any success accepts an extended CONNECT, but there is no tunnel.
        Answer::Upstream(response) if recv.is_some() && (200..300).contains(&response.head.status) => {
            answering.local(Local::NO_SWITCH, Media::Problem, Some(&head));
        }
        Answer::Upstream(mut response) => {
            // The request's head is not needed for the response.
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

/// Whether a value begins or ends with white space. h2 accepts it, RFC 9113, 8.2.1 does not, and it must not be
/// repaired on the way to HTTP/1.1.
fn has_spaced_value(parts: &http::request::Parts) -> bool {
    let spaced = |value: &HeaderValue| {
        let ends = [value.as_bytes().first(), value.as_bytes().last()];
        ends.into_iter().flatten().any(|byte| matches!(byte, b' ' | b'\t'))
    };
    parts.headers.values().any(spaced)
}
