//! HTTP/2 from clients, over cleartext with prior knowledge (RFC 9113, 3.3): hyper speaks the protocol, and each
//! stream becomes the same head, body and answer that HTTP/1 has.
//!
//! A request is written as an HTTP/1.1 head and parsed by the same strict parser: what HTTP/1 refuses does not come
//! in by another door.

use std::{
    cell::Cell,
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response as HttpResponse};
use http_body::{Body, Frame};
use hyper::{body::Incoming, rt::ReadBufCursor, service::service_fn};
use hyper_util::rt::TokioTimer;

use super::{RequestBody, http1::Client};
use crate::{
    answer::{Local as Page, Media},
    http::{Limits, Parsed, RequestHead, ResponseHead, parse_request},
    proxy::{self, Answer, Downstream, Exchange},
    timer::Timer,
    upstream::http1::{Failure, Progress, Response},
    worker::Worker,
};

/// What a client of HTTP/2 sends first (RFC 9113, 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Streams that a client may have open at once.
const MAX_STREAMS: u32 = 256;

/// How long a client has for its open streams after it was told to go.
const GOAWAY: Duration = Duration::from_secs(30);

/// Serves a connection whose first bytes are the preface's; what was read of it is in the client's input.
pub(crate) async fn serve(client: Rc<Client>) {
    let Some(view) = client.worker.view() else { return };
    let settings = view.active.snapshot.settings.downstream.clone();
    drop(view);
    let streams = Rc::new(Cell::new(0_usize));
    let idle_timeout = settings.idle_timeout.0;
    let service = service_fn(|request| {
        let open = OpenStream::new(&streams, &client, idle_timeout);
        let client = Rc::clone(&client);
        async move { Ok::<_, Infallible>(answer(&client, request, open).await) }
    });
    let header_list = u32::try_from(settings.max_head.0).unwrap_or(u32::MAX);
    let connection = hyper::server::conn::http2::Builder::new(Local)
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(header_list)
        .max_send_buf_size(crate::buffer::SIZE)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20))
        .auto_date_header(false)
        .serve_connection(Io(Rc::clone(&client)), service);
    let mut connection = std::pin::pin!(connection);
    client.timer.arm_idle(idle_timeout);
    let mut told_to_go = false;
    poll_fn(|cx| {
        loop {
            // How a connection ends is the client's affair; its streams have said what became of them.
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if !client.timer.expired(cx) {
                return Poll::Pending;
            }
            if told_to_go {
                return Poll::Ready(());
            }
            told_to_go = true;
            connection.as_mut().graceful_shutdown();
            client.timer.arm(GOAWAY);
        }
    })
    .await;
}

/// Runs a stream's task on the worker's own thread.
#[derive(Clone)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local
where
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// A stream that is open; the connection's idle time runs only while there is none.
struct OpenStream {
    streams: Rc<Cell<usize>>,
    client: Rc<Client>,
    idle_timeout: Duration,
}

impl OpenStream {
    fn new(streams: &Rc<Cell<usize>>, client: &Rc<Client>, idle_timeout: Duration) -> Self {
        streams.set(streams.get() + 1);
        client.timer.arm_idle(Duration::ZERO);
        Self { streams: Rc::clone(streams), client: Rc::clone(client), idle_timeout }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.streams.set(self.streams.get() - 1);
        if self.streams.get() == 0 && !self.client.worker.draining.get() {
            self.client.timer.arm_idle(self.idle_timeout);
        }
    }
}

async fn answer(client: &Rc<Client>, request: Request<Incoming>, open: OpenStream) -> HttpResponse<Answered> {
    let worker = &client.worker;
    let Some(view) = worker.view() else {
        return HttpResponse::new(Answered::whole(Bytes::new()));
    };
    let settings = &view.active.snapshot.settings.downstream;
    let limits = Limits {
        max_head: usize::try_from(settings.max_head.0).unwrap_or(usize::MAX),
        max_fields: settings.max_headers as usize,
        ..Limits::default()
    };
    let mut exchange = Exchange::begin(Rc::clone(worker), Rc::clone(&view), Instant::now());
    let (parts, body) = request.into_parts();
    let mut text = Vec::with_capacity(512);
    write_head(&mut text, &parts, body.is_end_stream());
    let mut head = RequestHead::new();
    let refused = match parse_request(&text, &limits, &mut head) {
        Ok(Parsed::Complete { .. }) => None,
        Ok(Parsed::Partial) => Some(Page::bad_request("malformed request")),
        Err(error) => Some(Page::refused(&error)),
    };
    if let Some(local) = refused {
        return local_answer(worker, &mut exchange, local, Media::Problem);
    }
    let body = if body.is_end_stream() {
        RequestBody::Empty
    } else {
        RequestBody::Http2 { body, trailers: Vec::new() }
    };
    let timer = worker.timers.timer();
    let downstream =
        Downstream { worker, timer: &timer, address: &client.address, scheme: client.scheme(), http1: None };
    match proxy::handle(&mut exchange, &downstream, &head, body).await {
        Answer::Upstream(response) => {
            let mut answer = HttpResponse::builder().status(response.head.status);
            if let Some(headers) = answer.headers_mut() {
                fill(headers, &response.head, &worker.date());
            }
            exchange.status = response.head.status;
            let content = Content::Upstream { response, timer };
            answer
                .body(Answered { content, exchange: Some(exchange), _open: Some(open) })
                .unwrap_or_else(|_| HttpResponse::new(Answered::whole(Bytes::new())))
        }
        Answer::Local(local) => local_answer(worker, &mut exchange, local, Media::accepted(&head)),
        Answer::Gone => {
            HttpResponse::new(Answered { content: Content::Broken, exchange: None, _open: Some(open) })
        }
    }
}

/// The request as an HTTP/1.1 head. Fields of one connection do not exist in HTTP/2 (RFC 9113, 8.2.2); hyper has
/// refused them. A cookie in pieces is put together again (8.2.3).
fn write_head(out: &mut Vec<u8>, parts: &http::request::Parts, ended: bool) {
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b' ');
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    out.extend_from_slice(if target.is_empty() { b"/" } else { target.as_bytes() });
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(authority) = parts.uri.authority() {
        push(out, b"Host", authority.as_str().as_bytes());
    }
    let mut cookies = 0;
    for (name, value) in &parts.headers {
        match name.as_str() {
            "cookie" => cookies += 1,
            "host" if parts.uri.authority().is_some() => {}
            _ => push(out, name.as_str().as_bytes(), value.as_bytes()),
        }
    }
    if cookies > 0 {
        out.extend_from_slice(b"Cookie: ");
        for (i, value) in parts.headers.get_all(http::header::COOKIE).iter().enumerate() {
            if i > 0 {
                out.extend_from_slice(b"; ");
            }
            out.extend_from_slice(value.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
    if !ended && !parts.headers.contains_key(http::header::CONTENT_LENGTH) {
        push(out, b"Transfer-Encoding", b"chunked");
    }
    out.extend_from_slice(b"\r\n");
}

fn push(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn fill(headers: &mut HeaderMap, head: &ResponseHead, date: &str) {
    headers.reserve(head.fields.len() + 2);
    for field in head.fields.iter().filter(|field| !field.hop) {
        let name = HeaderName::from_bytes(head.name(field));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(head.value(field))) {
            headers.append(name, value);
        }
    }
    if let Some(length) = head.content_length {
        headers.insert(http::header::CONTENT_LENGTH, length.into());
    }
    if !head.date
        && let Ok(date) = HeaderValue::from_str(date)
    {
        headers.insert(http::header::DATE, date);
    }
    headers.append(http::header::VIA, HeaderValue::from_static("1.1 weir"));
}

fn local_answer(
    worker: &Worker,
    exchange: &mut Exchange,
    local: Page,
    media: Media,
) -> HttpResponse<Answered> {
    exchange.status = local.status;
    let (content_type, body) = local.page(media, &exchange.request_id());
    exchange.bytes_out = body.len() as u64;
    let mut answer = HttpResponse::new(Answered::whole(body.into()));
    if let Ok(status) = http::StatusCode::from_u16(local.status) {
        *answer.status_mut() = status;
    }
    let headers = answer.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(date) = HeaderValue::from_str(&worker.date()) {
        headers.insert(http::header::DATE, date);
    }
    answer
}

/// An answer's body on its way to a stream. Dropped before its end, its backend connection is closed; the exchange is
/// recorded either way.
pub(crate) struct Answered {
    content: Content,
    exchange: Option<Exchange>,
    _open: Option<OpenStream>,
}

enum Content {
    Whole(Bytes),
    Upstream {
        response: Box<Response>,
        timer: Timer,
    },
    Trailers(HeaderMap),
    /// Its end is a reset of the stream.
    Broken,
    Ended,
}

impl Answered {
    fn whole(bytes: Bytes) -> Self {
        Self { content: Content::Whole(bytes), exchange: None, _open: None }
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        match &mut this.content {
            Content::Ended => Poll::Ready(None),
            Content::Broken => {
                this.content = Content::Ended;
                Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())))
            }
            Content::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                this.content = Content::Ended;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Content::Trailers(trailers) => {
                let trailers = std::mem::take(trailers);
                this.content = Content::Ended;
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Content::Upstream { response, timer } => match response.body.poll_data(cx, timer) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(Progress::Data(range))) => {
                    let bytes = Bytes::copy_from_slice(response.body.data(range));
                    if let Some(exchange) = &mut this.exchange {
                        exchange.bytes_out += bytes.len() as u64;
                    }
                    Poll::Ready(Some(Ok(Frame::data(bytes))))
                }
                Poll::Ready(Ok(Progress::End | Progress::Waiting)) => {
                    let trailers = read_trailers(response.body.trailers());
                    if let Some(mut exchange) = this.exchange.take() {
                        exchange.bytes_in = response.body.uploaded();
                    }
                    this.content =
                        if trailers.is_empty() { Content::Ended } else { Content::Trailers(trailers) };
                    Pin::new(this).poll_frame(cx)
                }
                Poll::Ready(Err(failure)) => {
                    this.exchange = None;
                    this.content = Content::Ended;
                    let kind = match failure {
                        Failure::Timeout => io::ErrorKind::TimedOut,
                        _ => io::ErrorKind::ConnectionAborted,
                    };
                    Poll::Ready(Some(Err(kind.into())))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Ended => true,
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Upstream { response, .. } => response.head.framing.is_empty(),
            Content::Trailers(_) | Content::Broken => false,
        }
    }
}

/// Trailer lines as a map.
fn read_trailers(lines: &[u8]) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            trailers.append(name, value);
        }
    }
    trailers
}

/// The client's stream as hyper wants it; what was read before comes first.
struct Io(Rc<Client>);

impl hyper::rt::Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let client = &self.0;
        let mut input = client.input.borrow_mut();
        if !input.is_empty() {
            let taken = input.len().min(buf.remaining());
            buf.put_slice(&input[..taken]);
            input.drain(..taken);
            return Poll::Ready(Ok(()));
        }
        let mut buffer = client.worker.buffers.take();
        let room = buf.remaining().min(buffer.len());
        client.stream.poll_read(cx, &mut buffer[..room]).map_ok(|read| buf.put_slice(&buffer[..read]))
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.stream.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.stream.shutdown_write();
        Poll::Ready(Ok(()))
    }
}
