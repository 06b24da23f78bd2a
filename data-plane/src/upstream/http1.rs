//! The HTTP/1 client: sends the head of a client's request, and reads the response with strict framing.
//!
//! The rest of a request's body is sent while the response arrives.

use std::{
    future::poll_fn,
    net::SocketAddr,
    ops::Range,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use weir_http::{BodyDecoder, Parsed, ResponseError, ResponseFraming, Step, parse_response};

use super::{Attempt, MAX_INTERIM, Progress, Response, ResponseBody, Upload, upgrade};
use crate::{
    connections::Connections,
    failure::Failure,
    pool::backend::InFlight,
    wire::{buffer::Buffer, stream::Stream, timer::Timer, tunnel::End, watch::Watch},
    worker::Worker,
};

/// Runs one attempt.
pub(super) async fn send(
    attempt: Attempt<'_>,
    in_flight: InFlight,
    upload: &mut Upload,
    write_head: impl Fn(&mut Vec<u8>),
    mut watch: impl Watch,
) -> Result<Box<Response>, Failure> {
    let Attempt { worker, timer, connections, is_head, offers, .. } = attempt;
    let state = &attempt.member.state;
    let now = worker.timers.now();
    let (stream, address, reused) = match connections.idle.take(now, |address| state.has_address(address)) {
        Some(connection) => (connection.stream, connection.address, true),
        None => {
            let (stream, address) = attempt.connect(&mut watch).await?;
            (stream, address, false)
        }
    };
    let response_timeout = attempt.response_timeout();
    upload.start_http1(write_head);
    upload.arm(timer, response_timeout);
    let limits = attempt.head_limits();
    let mut head = worker.heads.take();
    let mut buffer: Option<Buffer> = None;
    let (mut start, mut end) = (0, 0);
    // The beginning of a head that does not fit into a buffer.
    let mut long = Vec::new();
    let mut uploaded = false;
    let mut interim_heads = 0;
    let broken = Failure::Broken { reused };

    poll_fn(|cx| {
        if !uploaded {
            match upload.poll_http1(cx, &stream, Some(timer)) {
                Poll::Ready(Ok(())) => {
                    uploaded = true;
                    timer.arm(response_timeout);
                }
                // A backend that closes early may have responded first: its response is read below.
                Poll::Ready(Err(Failure::Broken { .. })) => uploaded = true,
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                Poll::Pending => {}
            }
        }
        loop {
            match stream.poll_readable(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Failure::Broken { reused })),
                Poll::Pending => break,
            }
            let into = buffer.get_or_insert_with(|| worker.buffers.take());
            match stream.poll_read(cx, &mut into[end..]) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Failure::Broken { reused })),
                Poll::Ready(Ok(read)) => end += read,
                Poll::Pending => break,
            }
            loop {
                let read = if long.is_empty() {
                    &into[start..end]
                } else {
                    long.extend_from_slice(&into[start..end]);
                    (start, end) = (0, 0);
                    &long[..]
                };
                match parse_response(read, &limits, is_head, &mut head) {
                    Ok(Parsed::Complete { consumed }) => {
                        start += consumed;
                        if !long.is_empty() {
                            // The rest is from the last read, or else the head would have been complete before. So it
                            // fits.
                            end = long.len() - consumed;
                            into[..end].copy_from_slice(&long[consumed..]);
                            (start, long) = (0, Vec::new());
                        }
                        match head.status {
                            101 => return Poll::Ready(upgrade::verify(offers, &head)),
                            100..=199 => {
                                interim_heads += 1;
                                if interim_heads > MAX_INTERIM {
                                    return Poll::Ready(Err(Failure::Invalid("interim answers without end")));
                                }
                                watch.interim(&head);
                            }
                            _ => return Poll::Ready(Ok(())),
                        }
                    }
                    Ok(Parsed::Partial) if read.len() >= limits.max_head => {
                        return Poll::Ready(Err(Failure::AnswerHeadTooLarge));
                    }
                    Ok(Parsed::Partial) if !long.is_empty() => break,
                    Ok(Parsed::Partial) if end == into.len() && start == 0 => {
                        long.extend_from_slice(&into[start..end]);
                        end = 0;
                        break;
                    }
                    Ok(Parsed::Partial) => {
                        into.copy_within(start..end, 0);
                        end -= start;
                        start = 0;
                        break;
                    }
                    Err(error) => {
                        return Poll::Ready(Err(match error {
                            ResponseError::Malformed(why) => Failure::Invalid(why),
                            ResponseError::HeadTooLarge => Failure::AnswerHeadTooLarge,
                            ResponseError::Coding => Failure::Invalid("an unknown transfer coding"),
                        }));
                    }
                }
            }
        }
        if let Poll::Ready(reason) = watch.poll(cx) {
            return Poll::Ready(Err(reason));
        }
        if timer.expired(cx) {
            return Poll::Ready(Err(Failure::Timeout));
        }
        Poll::Pending
    })
    .await
    .map_err(|failure| if matches!(failure, Failure::Broken { .. }) { broken } else { failure })?;

    let is_event_stream = head.is_event_stream();
    let stall = attempt.response_body_timeout(&head, is_event_stream);
    let body = Body {
        worker: Rc::clone(worker),
        connections: Rc::clone(connections),
        decoder: BodyDecoder::from(head.framing),
        reusable: head.keep_alive && head.framing != ResponseFraming::UntilClose && head.status != 101,
        kept_for: head.kept_for,
        stream: Some(stream),
        address,
        buffer,
        start,
        end,
        upload: upload.take(),
        client_stalled: false,
        stall,
        ended: false,
        _in_flight: in_flight,
    };
    let is_lasting = is_event_stream || head.status == 101;
    Ok(Box::new(Response { head, body: ResponseBody::Http1(body), is_lasting }))
}

/// The body of a response. Its connection is kept for the next request once all of it was read.
pub(crate) struct Body {
    worker: Rc<Worker>,
    connections: Rc<Connections>,
    stream: Option<Stream>,
    address: SocketAddr,
    buffer: Option<Buffer>,
    start: usize,
    end: usize,
    decoder: BodyDecoder,
    pub(super) upload: Upload,
    reusable: bool,
    /// How long the backend keeps an idle connection open, if it says so.
    kept_for: Option<Duration>,
    /// The client sends the rest of its request too slowly.
    client_stalled: bool,
    ended: bool,
    /// Longest pause; zero: no limit.
    pub(super) stall: Duration,
    _in_flight: InFlight,
}

impl Body {
    pub(super) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
        timer: &Timer,
    ) -> Poll<Result<Progress, Failure>> {
        const BROKEN: Failure = Failure::Broken { reused: false };
        if self.ended {
            return Poll::Ready(Ok(Progress::End));
        }
        self.poll_upload(cx);
        if self.client_stalled {
            return Poll::Ready(Err(Failure::ClientStalled));
        }
        loop {
            let buffered = self.buffer.as_ref().map_or(&[][..], |buffer| &buffer[self.start..self.end]);
            match self.decoder.decode(buffered).map_err(|_| Failure::Invalid("a bad chunk"))? {
                Step::Data { start, end, consumed } => {
                    let range = self.start + start..self.start + end;
                    self.start += consumed;
                    return Poll::Ready(Ok(Progress::Data(range)));
                }
                Step::Done { consumed } => {
                    self.start += consumed;
                    self.finish();
                    return Poll::Ready(Ok(Progress::End));
                }
                Step::NeedMore { consumed } => self.start += consumed,
            }
            let Some(stream) = &self.stream else {
                return Poll::Ready(Err(BROKEN));
            };
            if self.start == self.end {
                (self.start, self.end) = (0, 0);
            } else if let Some(buffer) = &mut self.buffer {
                buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            match stream.poll_readable(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(BROKEN)),
                Poll::Pending => {
                    // A waiting response holds no buffer.
                    if self.end == 0 {
                        self.buffer = None;
                    }
                    return if timer.expired(cx) {
                        Poll::Ready(Err(Failure::Timeout))
                    } else {
                        Poll::Pending
                    };
                }
            }
            let buffer = self.buffer.get_or_insert_with(|| self.worker.buffers.take());
            match stream.poll_read(cx, &mut buffer[self.end..]) {
                Poll::Ready(Ok(0)) => {
                    self.decoder.on_eof().map_err(|_| BROKEN)?;
                    self.reusable = false;
                    self.finish();
                    return Poll::Ready(Ok(Progress::End));
                }
                Poll::Ready(Ok(read)) => {
                    self.end += read;
                    timer.arm(self.stall);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(BROKEN)),
                Poll::Pending => {}
            }
        }
    }

    pub(super) fn data(&self, range: Range<usize>) -> &[u8] {
        self.buffer.as_ref().and_then(|buffer| buffer.get(range)).unwrap_or_default()
    }

    pub(super) fn has_buffered(&self) -> bool {
        self.start < self.end
    }

    pub(super) fn trailers(&self) -> &[u8] {
        self.decoder.trailers()
    }

    pub(super) fn poll_upload(&mut self, cx: &mut Context<'_>) {
        if let Some(stream) = &self.stream
            && !self.upload.is_done()
            // The deadline of the response keeps running, because the backend has no separate deadline for the upload
            // now.
            && let Poll::Ready(Err(failure)) = self.upload.poll_http1(cx, stream, None)
        {
            // The outcome of the response decides.
            self.reusable = false;
            self.client_stalled |= matches!(failure, Failure::ClientStalled);
            self.upload.give_up();
        }
    }

    pub(super) fn into_tunnel(mut self) -> Option<End<'static>> {
        let early =
            self.buffer.as_ref().map_or_else(Vec::new, |buffer| buffer[self.start..self.end].to_vec());
        Some(End::Owned { stream: self.stream.take()?, early })
    }

    fn finish(&mut self) {
        self.ended = true;
        // A connection with bytes after a complete response is not used again.
        if self.reusable
            && self.start == self.end
            && self.upload.is_done()
            && let Some(stream) = self.stream.take()
        {
            self.connections.idle.put(stream, self.address, self.worker.timers.now(), self.kept_for);
        }
        self.stream = None;
        self.buffer = None;
        if let Some(memory) = self.upload.take_memory() {
            self.worker.uploads.put(memory);
        }
    }
}
