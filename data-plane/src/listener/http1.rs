//! One HTTP/1 client connection: reads a head, has it answered, writes the answer, and again.
//!
//! A connection that waits for its next request for more than a moment is parked: all that a request needs is in a
//! box that is dropped, and only the socket stays.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use weir_http::{
    BodyDecoder, BodyFraming, Limits, Parsed, RequestHead, ResponseFraming, Version, parse_request,
    push_chunk_head, push_last_chunk, write_response,
};

use super::http2;
use crate::{
    answer::{self, Local},
    client::{ClientConnection, Presence, RequestBody},
    failure::Failure,
    proxy::{self, Answer, Asker, Downstream, Exchange},
    stats::Cut,
    upstream::{Progress, Response},
    wire::{
        pace::PaceLimits,
        stream::Stream,
        timer::Timer,
        tunnel::{self, End},
    },
    worker::Worker,
};

/// How long a connection keeps its request state while it waits for the next request.
const PARK_AFTER: Duration = Duration::from_millis(200);

/// A body that nobody asked for is read up to this size, so that the connection can go on.
const MAX_DISCARD: u64 = 256 << 10;

enum Next {
    /// Nothing to do until the client sends something.
    Park,
    /// The client speaks HTTP/2.
    Http2,
    /// Over.
    Close,
}

/// Serves the connection until it ends.
pub(crate) async fn serve(worker: Rc<Worker>, stream: Stream, timer: Timer, address: IpAddr) {
    let client = Rc::new(ClientConnection {
        stream,
        timer,
        ip: address.to_canonical(),
        address: address.to_canonical().to_string(),
        input: RefCell::default(),
        body_done: Cell::new(true),
        half_closed: Cell::new(false),
        worker,
    });
    if client.stream.is_http2() {
        http2(Rc::clone(&client)).await;
        return client.say_end();
    }
    let mut first = true;
    loop {
        let Some(view) = client.worker.view() else { return };
        let settings = &view.active.snapshot.settings.downstream;
        // From acceptance a client has the time for a head; later it may rest between requests.
        let wait = if first { settings.header_timeout.0 } else { settings.idle_timeout.0 };
        client.timer.arm_idle(wait);
        drop(view);
        let readable = poll_fn(|cx| match client.stream.poll_readable(cx) {
            Poll::Ready(result) => Poll::Ready(result.is_ok()),
            Poll::Pending if client.timer.expired(cx) => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        });
        if !readable.await {
            return client.say_end();
        }
        match active(&client, first).await {
            Next::Park => first = false,
            Next::Http2 => return http2(client).await,
            Next::Close => return,
        }
    }
}

/// What only a connection with a request needs, in a box of its own. A function makes it: a future that were made
/// where it is awaited would have its place in the state of every idle connection.
fn active(client: &Rc<ClientConnection>, first: bool) -> Pin<Box<impl Future<Output = Next> + use<'_>>> {
    Box::pin(serve_requests(client, first))
}

/// The same for HTTP/2.
fn http2(client: Rc<ClientConnection>) -> Pin<Box<impl Future<Output = ()>>> {
    Box::pin(http2::serve(client))
}

/// Serves requests until the client rests. `first` says that none came on this connection yet.
async fn serve_requests(client: &Rc<ClientConnection>, mut first: bool) -> Next {
    let mut head = RequestHead::new();
    let mut out = Vec::new();
    loop {
        match read_head(client, &mut head).await {
            Read::Head => first = false,
            // The socket may have been called readable though nothing had come.
            Read::Idle if first => {
                client.say_end();
                return Next::Close;
            }
            Read::Idle => return Next::Park,
            Read::Http2 => return Next::Http2,
            Read::Closed => return Next::Close,
            Read::Refused(local) => return refuse(client, local, &mut out).await,
        }
        if !exchange(client, &mut head, &mut out).await {
            return Next::Close;
        }
        if client.worker.draining.get() {
            return Next::Close;
        }
        out.clear();
        if client.input.borrow().is_empty() {
            client.timer.arm_idle(PARK_AFTER);
        }
    }
}

enum Read {
    /// The head is there.
    Head,
    /// The preface of HTTP/2, which is in the input.
    Http2,
    /// Nothing came for a while.
    Idle,
    /// The client left, or took too long.
    Closed,
    /// What came is no request.
    Refused(Local),
}

/// Reads one head. The timer is armed for the wait before its first byte.
async fn read_head(client: &ClientConnection, head: &mut RequestHead) -> Read {
    let worker = &client.worker;
    let Some(view) = worker.view() else {
        return Read::Closed;
    };
    let settings = &view.active.snapshot.settings.downstream;
    let limits = Limits {
        max_head: usize::try_from(settings.max_head.0).unwrap_or(usize::MAX),
        max_fields: settings.max_headers as usize,
        ..Limits::default()
    };
    // Over TLS the handshake decides for HTTP/2 (ALPN), not the first bytes (RFC 9113, 3.2).
    let is_tls = client.stream.is_tls();
    let mut begun = false;
    let mut parse = true;
    poll_fn(|cx| {
        loop {
            let mut input = client.input.borrow_mut();
            if !input.is_empty() {
                if !begun {
                    begun = true;
                    client.timer.arm(settings.header_timeout.0);
                }
                let preface = &http2::PREFACE[..input.len().min(http2::PREFACE.len())];
                if !is_tls && input.starts_with(preface) {
                    if input.len() >= http2::PREFACE.len() {
                        return Poll::Ready(Read::Http2);
                    }
                } else if parse {
                    match parse_request(&input, &limits, head) {
                        Ok(Parsed::Complete { consumed }) => {
                            input.drain(..consumed);
                            return Poll::Ready(Read::Head);
                        }
                        Ok(Parsed::Partial) => parse = false,
                        Err(error) => return Poll::Ready(Read::Refused(Local::refused(&error))),
                    }
                }
            }
            match client.stream.poll_readable(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Read::Closed),
                Poll::Pending if client.timer.expired(cx) => {
                    return Poll::Ready(if begun {
                        Read::Refused(Local::REQUEST_TIMEOUT)
                    } else {
                        Read::Idle
                    });
                }
                Poll::Pending => return Poll::Pending,
            }
            let mut buffer = worker.buffers.take();
            let read = match client.stream.poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Read::Closed),
                Poll::Ready(Ok(read)) => read,
                // Readiness was stale.
                Poll::Pending => continue,
            };
            if !input.is_empty() {
                // Without a line's end a head that was incomplete still is; that keeps single bytes cheap.
                parse =
                    memchr::memchr(b'\n', &buffer[..read]).is_some() || input.len() + read > limits.max_head;
                input.extend_from_slice(&buffer[..read]);
                continue;
            }
            if !is_tls && buffer.starts_with(&http2::PREFACE[..read.min(3)]) {
                input.extend_from_slice(&buffer[..read]);
                continue;
            }
            // The usual case: the whole head in one read, parsed where it was read to.
            match parse_request(&buffer[..read], &limits, head) {
                Ok(Parsed::Complete { consumed }) => {
                    input.extend_from_slice(&buffer[consumed..read]);
                    return Poll::Ready(Read::Head);
                }
                Ok(Parsed::Partial) => {
                    input.extend_from_slice(&buffer[..read]);
                    begun = true;
                    parse = false;
                    client.timer.arm(settings.header_timeout.0);
                }
                Err(error) => return Poll::Ready(Read::Refused(Local::refused(&error))),
            }
        }
    })
    .await
}

/// Answers a head that is refused, and closes: where the next request would begin is unknown.
async fn refuse(client: &Rc<ClientConnection>, local: Local, out: &mut Vec<u8>) -> Next {
    let Some(view) = client.worker.view() else {
        return Next::Close;
    };
    let mut exchange = Exchange::begin(Rc::clone(&client.worker), view, Instant::now());
    exchange.status = local.status;
    local.write(out, &client.worker.date(), false, false, answer::Media::Problem, &exchange.request_id());
    exchange.taking.set(PaceLimits::stall(Duration::from_secs(5)));
    if write_last(client, &mut exchange, out).await {
        client.linger().await;
    }
    Next::Close
}

/// One request from its head to the end of its answer; `true` if the connection can carry another.
async fn exchange(client: &Rc<ClientConnection>, head: &mut RequestHead, out: &mut Vec<u8>) -> bool {
    let worker = &client.worker;
    let Some(view) = worker.view() else { return false };
    let mut exchange = Exchange::begin(Rc::clone(worker), view, Instant::now());
    let body = match head.framing {
        BodyFraming::None | BodyFraming::Length(0) => RequestBody::Empty,
        framing => RequestBody::Http1 { client: Rc::clone(client), decoder: BodyDecoder::from(framing) },
    };
    client.body_done.set(matches!(body, RequestBody::Empty));
    let downstream = Downstream {
        worker,
        timer: &client.timer,
        peer: (client.ip, &client.address),
        scheme: client.scheme(),
        asker: Asker::Http1(client),
    };
    let answer = proxy::handle(&mut exchange, &downstream, head, body).await;

    let mut keep_alive = head.keep_alive && !worker.draining.get() && !client.is_exhausted();
    match answer {
        Answer::Gone => {
            exchange.cut(Cut::Client);
            return false;
        }
        Answer::Local(local) => {
            // Who was not told to continue may or may not send its body now.
            keep_alive &= !head.expect_continue || client.body_done.get();
            exchange.status = local.status;
            let media = answer::Media::accepted(head);
            let (request_id, date) = (exchange.id_of(head), worker.date());
            exchange.bytes_out +=
                local.write(out, &date, keep_alive, head.is_head(), media, &request_id) as u64;
            if !write_last(client, &mut exchange, out).await {
                return false;
            }
        }
        Answer::Upstream(response) => {
            let mut response = *response;
            if response.head.status == 101 {
                return upgrade(client, exchange, response, out).await;
            }
            // Who was not told to continue may or may not send its body now.
            keep_alive &= !head.expect_continue || client.body_done.get();
            let whole = respond(client, &mut exchange, head, &mut response, out, &mut keep_alive).await;
            exchange.bytes_in = response.body.uploaded();
            worker.heads.put(response.head);
            if !whole {
                if exchange.is_cut() {
                    // A close would end a body without a length as if it were whole.
                    client.stream.reset();
                }
                return false;
            }
        }
    }
    drop(exchange);
    if !client.body_done.get() {
        keep_alive &= discard_body(client, head).await;
    }
    // Who asked for the end itself has nothing more to say: closing resets nothing.
    let is_over = !head.keep_alive && client.body_done.get() && client.input.borrow().is_empty();
    match (keep_alive, is_over) {
        (true, _) => {}
        (false, false) => client.linger().await,
        (false, true) => client.say_end(),
    }
    keep_alive
}

/// Writes the answer while it comes; `false` if the connection must be closed as it is.
async fn respond(
    client: &Rc<ClientConnection>,
    exchange: &mut Exchange,
    request: &RequestHead,
    response: &mut Response,
    out: &mut Vec<u8>,
    keep_alive: &mut bool,
) -> bool {
    // A client of HTTP/1.0 knows no chunks: for it a body of unknown length ends with the connection.
    let how = match response.head.framing {
        ResponseFraming::Chunked | ResponseFraming::UntilClose if request.version == Version::Http10 => {
            ResponseFraming::UntilClose
        }
        ResponseFraming::UntilClose => ResponseFraming::Chunked,
        framing => framing,
    };
    *keep_alive &= how != ResponseFraming::UntilClose;
    exchange.answers(&response.head, response.head.status);
    let date = client.worker.date();
    write_response(out, &response.head, how, *keep_alive, request.version, Some(date.as_bytes()), false);

    let chunked = how == ResponseFraming::Chunked;
    loop {
        // What is ready goes out now: a head or an event never waits for the next piece.
        let progress = poll_fn(|cx| match response.body.poll_data(cx, &client.timer) {
            Poll::Pending if !out.is_empty() => Poll::Ready(Ok(Progress::Waiting)),
            Poll::Pending if client.poll_presence(cx) == Presence::Gone => {
                Poll::Ready(Err(Failure::ClientGone))
            }
            Poll::Pending if exchange.is_late(cx) => Poll::Ready(Err(Failure::Deadline)),
            poll => poll,
        });
        match progress.await {
            Ok(Progress::Data(range)) => {
                exchange.sends(response.body.data(range.clone()));
                let written = if chunked {
                    let data = response.body.data(range);
                    push_chunk_head(out, data.len());
                    out.extend_from_slice(data);
                    out.extend_from_slice(b"\r\n");
                    if response.body.has_buffered() && out.len() < crate::wire::buffer::SIZE {
                        continue;
                    }
                    write_all(client, exchange, out, &mut Some(response)).await
                } else {
                    write_both(client, exchange, out, response, range).await
                };
                if let Err(by) = written {
                    exchange.cut(by);
                    return false;
                }
                response.body.arm(&client.timer);
            }
            Ok(Progress::Waiting) => {
                if let Err(by) = write_all(client, exchange, out, &mut Some(response)).await {
                    exchange.cut(by);
                    return false;
                }
                response.body.arm(&client.timer);
            }
            Ok(Progress::End) => {
                if chunked {
                    push_last_chunk(out, response.body.trailers());
                }
                return write_last(client, exchange, out).await;
            }
            // Nothing of it has left: the client is told what happened instead of a part.
            Err(failure)
                if !out.is_empty() && exchange.bytes_out == 0 && !matches!(failure, Failure::ClientGone) =>
            {
                tracing::debug!(%failure, "answer broke off with its head");
                *keep_alive = false;
                let local = failure.verdict().answer;
                let (media, request_id) = (answer::Media::accepted(request), exchange.id_of(request));
                out.clear();
                exchange.status = local.status;
                exchange.bytes_out =
                    local.write(out, &date, false, request.is_head(), media, &request_id) as u64;
                return write_last(client, exchange, out).await;
            }
            Err(failure) => {
                tracing::debug!(%failure, "answer broke off");
                exchange.broke_off(&failure);
                return false;
            }
        }
    }
}

/// Writes the last of an answer, and records how the answer ended; `false` if it was cut.
async fn write_last(client: &ClientConnection, exchange: &mut Exchange, out: &mut Vec<u8>) -> bool {
    let written = match out.is_empty() {
        true => Ok(()),
        false => write_all(client, exchange, out, &mut None).await,
    };
    exchange.ends(written.err());
    written.is_ok()
}

/// Writes all of `out` and empties it. Meanwhile the rest of the request's body goes on upstream: a backend that
/// echoes and a client that sends before it reads would else wait for each other.
async fn write_all(
    client: &ClientConnection,
    exchange: &mut Exchange,
    out: &mut Vec<u8>,
    response: &mut Option<&mut Response>,
) -> Result<(), Cut> {
    let mut written = 0;
    poll_fn(|cx| {
        while written < out.len() {
            match client.stream.poll_write(cx, &out[written..]) {
                Poll::Ready(Ok(n)) => {
                    written += n;
                    exchange.taking.moved(n, &client.timer);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Cut::Client)),
                Poll::Pending => return stalled(client, exchange, response.as_deref_mut(), cx),
            }
        }
        Poll::Ready(Ok(()))
    })
    .await?;
    out.clear();
    Ok(())
}

/// Writes `out` and then a piece of the answer's body, in one call where possible.
async fn write_both(
    client: &ClientConnection,
    exchange: &mut Exchange,
    out: &mut Vec<u8>,
    response: &mut Response,
    range: std::ops::Range<usize>,
) -> Result<(), Cut> {
    let mut written = 0;
    let total = out.len() + range.len();
    poll_fn(|cx| {
        while written < total {
            let head = out.get(written..).unwrap_or_default();
            let skip = written.saturating_sub(out.len());
            let body = &response.body.data(range.clone())[skip..];
            match client.stream.poll_write_both(cx, head, body) {
                Poll::Ready(Ok(n)) => {
                    written += n;
                    exchange.taking.moved(n, &client.timer);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Cut::Client)),
                Poll::Pending => return stalled(client, exchange, Some(response), cx),
            }
        }
        Poll::Ready(Ok(()))
    })
    .await?;
    out.clear();
    Ok(())
}

/// The client takes nothing now.
fn stalled(
    client: &ClientConnection,
    exchange: &mut Exchange,
    response: Option<&mut Response>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Cut>> {
    exchange.taking.wait(&client.timer);
    if let Some(response) = response {
        response.body.poll_upload(cx);
    }
    if client.timer.expired(cx) {
        return Poll::Ready(Err(Cut::Client));
    }
    if exchange.is_late(cx) { Poll::Ready(Err(Cut::Node)) } else { Poll::Pending }
}

/// Reads what is left of a body that the answer did not need; `false` if it is too much or does not come.
async fn discard_body(client: &Rc<ClientConnection>, head: &RequestHead) -> bool {
    let small = match head.framing {
        BodyFraming::Length(length) => length <= MAX_DISCARD,
        _ => false,
    };
    // Only a body of which nothing was taken is still at its start.
    small && client.input.borrow().len() as u64 == body_length(head) && {
        client.input.borrow_mut().clear();
        client.body_done.set(true);
        true
    }
}

fn body_length(head: &RequestHead) -> u64 {
    match head.framing {
        BodyFraming::Length(length) => length,
        _ => u64::MAX,
    }
}

/// The backend agreed to another protocol: from here on bytes go both ways untouched.
async fn upgrade(
    client: &Rc<ClientConnection>,
    mut exchange: Exchange,
    response: Response,
    out: &mut Vec<u8>,
) -> bool {
    exchange.answers(&response.head, 101);
    let date = client.worker.date();
    write_response(
        out,
        &response.head,
        ResponseFraming::None,
        true,
        Version::Http11,
        Some(date.as_bytes()),
        true,
    );
    if let Err(by) = write_all(client, &mut exchange, out, &mut None).await {
        exchange.cut(by);
        return false;
    }
    let Some(backend) = response.body.into_tunnel() else {
        exchange.cut(Cut::Node);
        return false;
    };
    let idle = exchange.tunnel_timeout();
    let end = End::Client { stream: &client.stream, early: client.input.take() };
    let before = exchange.bytes_in;
    let cut =
        tunnel::run(end, backend, &client.worker.buffers, &client.timer, idle, |bytes_in, bytes_out| {
            (exchange.bytes_in, exchange.bytes_out) = (before + bytes_in, bytes_out);
        });
    let cut = cut.await;
    exchange.ends(cut);
    false
}
