//! Writes the response to an HTTP/1 request while it arrives.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
};

use weir_http::{RequestHead, ResponseFraming, Version, push_chunk_head, push_last_chunk, write_response};

use crate::{
    answer,
    client::{ClientConnection, Presence},
    failure::Failure,
    proxy::Exchange,
    stats::Cut,
    upstream::{Progress, Response},
    wire::tunnel::{self, End},
};

/// Writes the response while it arrives; `false` if the connection must be closed as it is.
pub(super) async fn respond(
    client: &Rc<ClientConnection>,
    exchange: &mut Exchange,
    request: &RequestHead,
    response: &mut Response,
    out: &mut Vec<u8>,
    keep_alive: &mut bool,
) -> bool {
    // HTTP/1.0 has no chunks, so a body of unknown length ends with the connection.
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
        // Available data is sent at once: a head or an event never waits for the next part.
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
            // Nothing of the response was sent, so the client gets an error instead.
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
pub(super) async fn write_last(
    client: &ClientConnection,
    exchange: &mut Exchange,
    out: &mut Vec<u8>,
) -> bool {
    let written = match out.is_empty() {
        true => Ok(()),
        false => write_all(client, exchange, out, &mut None).await,
    };
    exchange.ends(written.err());
    written.is_ok()
}

/// Writes all of `out` and empties it. Meanwhile the rest of the request's body is forwarded: otherwise a backend that
/// echoes and a client that sends before it reads would wait for each other.
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

/// Writes `out` and a part of the response's body, in one call where possible.
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

/// Called while the client accepts nothing.
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

/// The backend accepted another protocol: forwards bytes in both directions.
pub(super) async fn upgrade(
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
