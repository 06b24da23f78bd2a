//! The body of a request as it is read for a backend, for both protocols.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use weir_http::{BodyDecoder, MAX_TRAILERS, Step, translate::push_trailers};

use super::ClientConnection;
use crate::failure::BodyFailure;

/// The source of a request's body.
pub(crate) enum RequestBody {
    /// The request has no body.
    Empty,
    /// An HTTP/1 connection.
    Http1 {
        /// The connection.
        client: Rc<ClientConnection>,
        /// Finds the end of the body.
        decoder: BodyDecoder,
    },
    /// An HTTP/2 stream.
    Http2 {
        /// Data that is not taken is not acknowledged, so a slow backend slows the client down. The stream's own task
        /// also holds this, for data that the client sends after the response.
        body: Rc<RefCell<RecvStream>>,
        /// Trailer fields as lines, once they have arrived.
        trailers: Vec<u8>,
        /// A part that has arrived and was not taken yet.
        first: Option<Bytes>,
    },
}

/// Largest part of a body that is read before a backend is picked.
const FIRST: usize = 1024;

impl RequestBody {
    /// Trailer fields of a body that has ended, as lines.
    pub(crate) fn trailers(&self) -> &[u8] {
        match self {
            Self::Empty => &[],
            Self::Http1 { decoder, .. } => decoder.trailers(),
            Self::Http2 { trailers, .. } => trailers,
        }
    }

    /// Ready once a part of the body or its end has arrived.
    pub(crate) fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyFailure>> {
        match self {
            Self::Empty => Poll::Ready(Ok(())),
            Self::Http1 { client, .. } => {
                let mut input = client.input.borrow_mut();
                if !input.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                ready!(client.stream.poll_readable(cx)).map_err(|_| BodyFailure::Gone)?;
                let mut buffer = client.worker.buffers.take();
                match ready!(client.stream.poll_read(cx, &mut buffer[..FIRST])) {
                    Ok(0) | Err(_) => Poll::Ready(Err(BodyFailure::Gone)),
                    Ok(read) => {
                        input.extend_from_slice(&buffer[..read]);
                        Poll::Ready(Ok(()))
                    }
                }
            }
            Self::Http2 { body, first, .. } => {
                let mut body = body.borrow_mut();
                while first.is_none() && !body.is_end_stream() {
                    match ready!(body.poll_data(cx)) {
                        // An empty frame is not a part of the body.
                        Some(Ok(data)) if data.is_empty() => {}
                        Some(Ok(data)) => *first = Some(data),
                        Some(Err(_)) => return Poll::Ready(Err(BodyFailure::Gone)),
                        // Trailers follow.
                        None => break,
                    }
                }
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Reads the parts that have arrived and hands each to `frame`; `true` once the body has ended.
    pub(crate) fn poll_into(
        &mut self,
        cx: &mut Context<'_>,
        mut frame: impl FnMut(&[u8]),
    ) -> Poll<Result<bool, BodyFailure>> {
        let (client, decoder) = match self {
            Self::Empty => return Poll::Ready(Ok(true)),
            Self::Http1 { client, decoder } => (client, decoder),
            Self::Http2 { body, trailers, first } => {
                return poll_stream(&mut body.borrow_mut(), first, trailers, cx, frame);
            }
        };
        let worker = Rc::clone(&client.worker);
        let mut input = client.input.borrow_mut();
        if !input.is_empty() {
            let (consumed, done) = decode(decoder, &input, &mut frame)?;
            input.drain(..consumed);
            if done {
                client.body_done.set(true);
                return Poll::Ready(Ok(true));
            }
            if consumed > 0 {
                return Poll::Ready(Ok(false));
            }
        }
        ready!(client.stream.poll_readable(cx)).map_err(|_| BodyFailure::Gone)?;
        let mut buffer = worker.buffers.take();
        let read = match ready!(client.stream.poll_read(cx, &mut buffer)) {
            Ok(0) | Err(_) => return Poll::Ready(Err(BodyFailure::Gone)),
            Ok(read) => read,
        };
        if input.is_empty() {
            let (consumed, done) = decode(decoder, &buffer[..read], &mut frame)?;
            input.extend_from_slice(&buffer[consumed..read]);
            client.body_done.set(done);
            Poll::Ready(Ok(done))
        } else {
            input.extend_from_slice(&buffer[..read]);
            Poll::Ready(Ok(false))
        }
    }
}

fn poll_stream(
    body: &mut RecvStream,
    first: &mut Option<Bytes>,
    trailers: &mut Vec<u8>,
    cx: &mut Context<'_>,
    mut frame: impl FnMut(&[u8]),
) -> Poll<Result<bool, BodyFailure>> {
    let data = match first.take() {
        Some(data) => Some(Ok(data)),
        None => ready!(body.poll_data(cx)),
    };
    match data {
        Some(Ok(data)) => {
            if !data.is_empty() {
                frame(&data);
                // The upload's window is the limit; a stream that has ended has no window.
                let _ = body.flow_control().release_capacity(data.len());
            }
            return Poll::Ready(Ok(body.is_end_stream()));
        }
        Some(Err(_)) => return Poll::Ready(Err(BodyFailure::Gone)),
        None => {}
    }
    match ready!(body.poll_trailers(cx)) {
        Ok(Some(fields)) => {
            // HPACK makes large trailers cheap for the client; the limit is that of HTTP/1.
            let size: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 2).sum();
            if size > MAX_TRAILERS {
                return Poll::Ready(Err(BodyFailure::Malformed("trailers too large")));
            }
            push_trailers(trailers, &fields);
        }
        Ok(None) => {}
        Err(_) => return Poll::Ready(Err(BodyFailure::Gone)),
    }
    Poll::Ready(Ok(true))
}

/// Decodes the available bytes. Returns how many were used, and whether the body has ended.
fn decode(
    decoder: &mut BodyDecoder,
    input: &[u8],
    frame: &mut impl FnMut(&[u8]),
) -> Result<(usize, bool), BodyFailure> {
    let mut used = 0;
    loop {
        let rest = &input[used..];
        match decoder.decode(rest).map_err(|_| BodyFailure::Malformed("bad chunk in the request's body"))? {
            Step::Data { start, end, consumed } => {
                frame(&rest[start..end]);
                used += consumed;
            }
            Step::Done { consumed } => return Ok((used + consumed, true)),
            Step::NeedMore { consumed } => return Ok((used + consumed, false)),
        }
    }
}
