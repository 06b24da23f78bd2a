//! One HTTP/1 client connection: reads a head, gets the response, writes it, and starts again.
//!
//! A connection that waits for its next request for more than a moment is parked: the box with the state of a request
//! is dropped, and only the socket stays.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use weir_http::{BodyDecoder, BodyFraming, Limits, Parsed, RequestHead, parse_request};

use super::http2;
use crate::{
    answer::{self, Local},
    client::{ClientConnection, RequestBody},
    listener::http1_response::{respond, upgrade, write_last},
    proxy::{self, Answer, ClientHandle, Downstream, Exchange},
    stats::Cut,
    wire::{pace::PaceLimits, stream::Stream, timer::Timer},
    worker::Worker,
};

/// How long a connection keeps its request state while it waits for the next request.
const PARK_AFTER: Duration = Duration::from_millis(200);

/// The rest of a request's body is read up to this size, so that the connection can be kept.
const MAX_DISCARD: u64 = 256 << 10;

enum Next {
    /// Wait until the client sends something.
    Park,
    /// The client speaks HTTP/2.
    Http2,
    /// Close the connection.
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
        return client.send_close_notify();
    }
    let mut first = true;
    loop {
        let Some(view) = client.worker.view() else { return };
        let settings = &view.active.snapshot.settings.downstream;
        // After it was accepted, a client has the header timeout for its first head; later the idle timeout applies.
        let wait = if first { settings.header_timeout.0 } else { settings.idle_timeout.0 };
        client.timer.arm_idle(wait);
        drop(view);
        let readable = poll_fn(|cx| match client.stream.poll_readable(cx) {
            Poll::Ready(result) => Poll::Ready(result.is_ok()),
            Poll::Pending if client.timer.expired(cx) => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        });
        if !readable.await {
            return client.send_close_notify();
        }
        match active(&client, first).await {
            Next::Park => first = false,
            Next::Http2 => return http2(client).await,
            Next::Close => return,
        }
    }
}

/// Boxes the state that only a connection with a request needs. A function makes the future: one that is made where it
/// is awaited would take space in the state of every idle connection.
fn active(client: &Rc<ClientConnection>, first: bool) -> Pin<Box<impl Future<Output = Next> + use<'_>>> {
    Box::pin(serve_requests(client, first))
}

/// Boxes the state of an HTTP/2 connection.
fn http2(client: Rc<ClientConnection>) -> Pin<Box<impl Future<Output = ()>>> {
    Box::pin(http2::serve(client))
}

/// Serves requests until the connection is idle. `first`: there was no request on this connection yet.
async fn serve_requests(client: &Rc<ClientConnection>, mut first: bool) -> Next {
    let mut head = RequestHead::new();
    let mut out = Vec::new();
    loop {
        match read_head(client, &mut head).await {
            Read::Head => first = false,
            // The socket may have been reported readable by mistake.
            Read::Idle if first => {
                client.send_close_notify();
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
    /// The head has arrived.
    Head,
    /// The input has the preface of HTTP/2.
    Http2,
    /// Nothing arrived for a while.
    Idle,
    /// The client left, or took too long.
    Closed,
    /// The bytes are not a request.
    Refused(Local),
}

/// Reads one head. The caller has set the timer for its first byte.
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
    // Over TLS the handshake selects HTTP/2 (ALPN), not the first bytes (RFC 9113, 3.2).
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
                // An incomplete head without another line end is still incomplete; this check makes single bytes cheap.
                parse =
                    memchr::memchr(b'\n', &buffer[..read]).is_some() || input.len() + read > limits.max_head;
                input.extend_from_slice(&buffer[..read]);
                continue;
            }
            if !is_tls && buffer.starts_with(&http2::PREFACE[..read.min(3)]) {
                input.extend_from_slice(&buffer[..read]);
                continue;
            }
            // The usual case: the whole head arrives in one read and is parsed in place.
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

/// Rejects a head and closes the connection, because the start of the next request is unknown.
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

/// Handles one request up to the end of its response; `true` if the connection can carry another one.
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
        peer: client.peer(),
        scheme: client.scheme(),
        client_handle: ClientHandle::Http1(client),
    };
    let answer = proxy::handle(&mut exchange, &downstream, head, body).await;

    let mut keep_alive = head.keep_alive && !worker.draining.get() && !client.is_exhausted();
    match answer {
        Answer::Gone => {
            exchange.cut(Cut::Client);
            return false;
        }
        Answer::Local(local) => {
            // A client that waits for 100 Continue may or may not send its body now.
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
            // A client that waits for 100 Continue may or may not send its body now.
            keep_alive &= !head.expect_continue || client.body_done.get();
            let whole = respond(client, &mut exchange, head, &mut response, out, &mut keep_alive).await;
            exchange.bytes_in = response.body.uploaded();
            worker.heads.put(response.head);
            if !whole {
                if exchange.is_cut() {
                    // A normal close would make a body without a length look complete.
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
    // A client that asked for the end sends nothing more, so closing causes no reset.
    let is_over = !head.keep_alive && client.body_done.get() && client.input.borrow().is_empty();
    match (keep_alive, is_over) {
        (true, _) => {}
        (false, false) => client.linger().await,
        (false, true) => client.send_close_notify(),
    }
    keep_alive
}

/// Reads the rest of a body that the response did not need; `false` if it is too large or has not arrived.
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
