//! The HTTP/1 client: writes a head straight from the client's, reads the answer with strict framing.
//!
//! Reads and writes happen in the request's own future; nothing is spawned, boxed or locked. The rest of a request's
//! body goes up while the answer comes down, whoever is first.

use std::{
    future::poll_fn,
    ops::Range,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use super::{Connection, Idle};
use crate::{
    backend::InFlight,
    buffer::Buffer,
    http::{
        BodyDecoder, BodyFraming, Limits, Parsed, ResponseError, ResponseFraming, ResponseHead, Step,
        parse_response, push_chunk_head, push_last_chunk,
    },
    listener::{BodyFailure, RequestBody},
    stream::Stream,
    timer::Timer,
    worker::Worker,
};

/// Bytes of a request that are held at once.
const WINDOW: usize = 64 << 10;

/// A request on its way up: its head, and its body as it comes.
pub(crate) struct Upload {
    body: RequestBody,
    chunked: bool,
    out: Vec<u8>,
    sent: usize,
    /// The body has been read to its end.
    complete: bool,
    /// Body bytes taken from the client.
    pub(crate) bytes: u64,
    /// Something of the body was taken, so that it cannot be sent again.
    pub(crate) begun: bool,
    failed: Option<BodyFailure>,
    /// How long the client may pause within its body.
    stall: Duration,
}

impl Upload {
    pub(crate) fn new(body: RequestBody, framing: BodyFraming, stall: Duration) -> Self {
        Self {
            complete: matches!(body, RequestBody::Empty),
            body,
            chunked: framing == BodyFraming::Chunked,
            out: Vec::new(),
            sent: 0,
            bytes: 0,
            begun: false,
            failed: None,
            stall,
        }
    }

    /// Begins an attempt: the head is written by `write`. Only while nothing of the body was taken.
    fn start(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.out.clear();
        self.sent = 0;
        write(&mut self.out);
    }

    /// Everything has left.
    fn is_done(&self) -> bool {
        self.complete && self.sent == self.out.len()
    }

    /// Moves what it can; ready when everything has left.
    fn poll(&mut self, cx: &mut Context<'_>, stream: &Stream, timer: &Timer) -> Poll<Result<(), Failure>> {
        loop {
            // A full window that has left makes room: otherwise nobody would wait for the client's next bytes.
            if self.sent == self.out.len() {
                self.out.clear();
                self.sent = 0;
            }
            // A body that is there already leaves in one write with its head.
            if !self.complete && self.out.len() < WINDOW && self.failed.is_none() {
                let (out, chunked, bytes) = (&mut self.out, self.chunked, &mut self.bytes);
                let frame = |data: &[u8]| {
                    *bytes += data.len() as u64;
                    if chunked {
                        push_chunk_head(out, data.len());
                        out.extend_from_slice(data);
                        out.extend_from_slice(b"\r\n");
                    } else {
                        out.extend_from_slice(data);
                    }
                };
                match self.body.poll_into(cx, frame) {
                    Poll::Ready(Ok(complete)) => {
                        self.begun = true;
                        self.complete = complete;
                        timer.arm(self.stall);
                        if complete && self.chunked {
                            push_last_chunk(&mut self.out, self.body.trailers());
                        }
                        if self.out.len() < WINDOW {
                            continue;
                        }
                    }
                    Poll::Ready(Err(failure)) => self.failed = Some(failure),
                    Poll::Pending => {}
                }
            }
            if let Some(failure) = self.failed.take() {
                return Poll::Ready(Err(Failure::RequestBody(failure)));
            }
            if self.sent == self.out.len() {
                return if self.complete { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            match stream.poll_write(cx, &self.out[self.sent..]) {
                Poll::Ready(Ok(n)) => {
                    self.sent += n;
                    timer.arm(self.stall);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Failure::Broken)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Why an attempt gave no answer, or an answer broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The connection was closed or reset before an answer.
    #[error("the backend closed the connection")]
    Broken,
    /// No head of an answer in time.
    #[error("the backend did not answer in time")]
    Timeout,
    /// What came is no answer.
    #[error("the backend's answer is invalid: {0}")]
    Invalid(&'static str),
    /// The client's body did not come to its end.
    #[error("the request's body broke off")]
    RequestBody(BodyFailure),
    /// The client took too long to send its body.
    #[error("the client did not send its body in time")]
    ClientStalled,
    /// The client left while the answer was awaited.
    #[error("the client left")]
    ClientGone,
}

/// An answer whose head has come.
pub(crate) struct Response {
    pub(crate) head: ResponseHead,
    pub(crate) body: ResponseBody,
}

/// What one attempt needs besides the request.
pub(crate) struct Attempt<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) timer: &'a Timer,
    pub(crate) idle: &'a Rc<Idle>,
    pub(crate) response_timeout: Duration,
    pub(crate) is_head: bool,
    /// The request offered an upgrade; only then may the answer be 101.
    pub(crate) offers_upgrade: bool,
}

/// Sends a request on an open connection and reads the head of its answer.
///
/// `write_head` writes the request's head; `watch` is polled meanwhile and says when the client has left; `interim`
/// gets each 1xx answer (RFC 9110, 15.2).
pub(crate) async fn send(
    attempt: Attempt<'_>,
    connection: Connection,
    in_flight: InFlight,
    upload: &mut Upload,
    write_head: impl FnOnce(&mut Vec<u8>),
    mut watch: impl FnMut(&mut Context<'_>) -> Poll<()>,
    mut interim: impl FnMut(&ResponseHead),
) -> Result<Box<Response>, Failure> {
    let Attempt { worker, timer, idle, response_timeout, is_head, offers_upgrade } = attempt;
    let Connection { stream, address, .. } = connection;
    upload.start(write_head);
    timer.arm(if upload.complete { response_timeout } else { upload.stall });
    let limits = Limits::default();
    let mut head = ResponseHead::new();
    let mut buffer: Option<Buffer> = None;
    let (mut start, mut end) = (0, 0);
    let mut uploaded = false;
    let mut interim_heads = 0;

    poll_fn(|cx| {
        if !uploaded {
            match upload.poll(cx, &stream, timer) {
                Poll::Ready(Ok(())) => {
                    uploaded = true;
                    timer.arm(response_timeout);
                }
                // A backend that closes early may have answered first: what it said is read below.
                Poll::Ready(Err(Failure::Broken)) => uploaded = true,
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                Poll::Pending => {}
            }
        }
        loop {
            match stream.poll_readable(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Failure::Broken)),
                Poll::Pending => break,
            }
            let into = buffer.get_or_insert_with(|| worker.buffers.take());
            match stream.poll_read(cx, &mut into[end..]) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Failure::Broken)),
                Poll::Ready(Ok(read)) => end += read,
                Poll::Pending => break,
            }
            loop {
                match parse_response(&into[start..end], &limits, is_head, &mut head) {
                    Ok(Parsed::Complete { consumed }) => {
                        start += consumed;
                        match head.status {
                            101 if offers_upgrade => return Poll::Ready(Ok(())),
                            101 => {
                                return Poll::Ready(Err(Failure::Invalid(
                                    "an upgrade that nobody asked for",
                                )));
                            }
                            100..=199 => {
                                interim_heads += 1;
                                if interim_heads > 100 {
                                    return Poll::Ready(Err(Failure::Invalid("interim answers without end")));
                                }
                                interim(&head);
                            }
                            _ => return Poll::Ready(Ok(())),
                        }
                    }
                    Ok(Parsed::Partial)
                        if end - start >= limits.max_head || end == into.len() && start == 0 =>
                    {
                        return Poll::Ready(Err(Failure::Invalid("its head is too large")));
                    }
                    Ok(Parsed::Partial) => {
                        into.copy_within(start..end, 0);
                        end -= start;
                        start = 0;
                        break;
                    }
                    Err(error) => {
                        return Poll::Ready(Err(Failure::Invalid(match error {
                            ResponseError::Malformed(why) => why,
                            ResponseError::HeadTooLarge => "its head is too large",
                            ResponseError::Coding => "an unknown transfer coding",
                        })));
                    }
                }
            }
        }
        if watch(cx).is_ready() {
            return Poll::Ready(Err(Failure::ClientGone));
        }
        if timer.expired(cx) {
            return Poll::Ready(Err(if uploaded { Failure::Timeout } else { Failure::ClientStalled }));
        }
        Poll::Pending
    })
    .await?;

    let body = ResponseBody {
        worker: Rc::clone(worker),
        idle: Rc::clone(idle),
        decoder: BodyDecoder::from(head.framing),
        reusable: head.keep_alive && head.framing != ResponseFraming::UntilClose && head.status != 101,
        stream: Some(stream),
        address,
        buffer,
        start,
        end,
        // What is left of the request goes up while the answer comes down.
        upload: std::mem::replace(upload, Upload::new(RequestBody::Empty, BodyFraming::None, Duration::ZERO)),
        // Events come when they come.
        stall: if is_event_stream(&head) { Duration::ZERO } else { response_timeout },
        ended: false,
        _in_flight: in_flight,
    };
    let bytes = body.upload.bytes;
    upload.bytes = bytes;
    Ok(Box::new(Response { head, body }))
}

fn is_event_stream(head: &ResponseHead) -> bool {
    const NAME: &[u8] = b"text/event-stream";
    let content_type = head.get_named(b"content-type").and_then(|value| value.get(..NAME.len()));
    content_type.is_some_and(|start| start.eq_ignore_ascii_case(NAME))
}

/// How far the answer's body has come.
#[derive(Debug)]
pub(crate) enum Progress {
    /// A piece, to be had by [`ResponseBody::data`] until the next call.
    Data(Range<usize>),
    /// Nothing yet; only said where there is something else to do meanwhile.
    Waiting,
    /// All of it.
    End,
}

/// The body of an answer. Its connection is kept for the next request once all of it was read, and closed if dropped
/// before that: the backend sees that nobody listens.
pub(crate) struct ResponseBody {
    worker: Rc<Worker>,
    idle: Rc<Idle>,
    stream: Option<Stream>,
    address: std::net::SocketAddr,
    buffer: Option<Buffer>,
    start: usize,
    end: usize,
    decoder: BodyDecoder,
    upload: Upload,
    reusable: bool,
    ended: bool,
    stall: Duration,
    _in_flight: InFlight,
}

impl ResponseBody {
    /// The next piece.
    pub(crate) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
        timer: &Timer,
    ) -> Poll<Result<Progress, Failure>> {
        if self.ended {
            return Poll::Ready(Ok(Progress::End));
        }
        self.poll_upload(cx);
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
                return Poll::Ready(Err(Failure::Broken));
            };
            if self.start == self.end {
                (self.start, self.end) = (0, 0);
            } else if let Some(buffer) = &mut self.buffer {
                buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            match stream.poll_readable(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Failure::Broken)),
                Poll::Pending => {
                    // Who waits holds no buffer.
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
                    self.decoder.on_eof().map_err(|_| Failure::Broken)?;
                    self.reusable = false;
                    self.finish();
                    return Poll::Ready(Ok(Progress::End));
                }
                Poll::Ready(Ok(read)) => {
                    self.end += read;
                    timer.arm(self.stall);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Failure::Broken)),
                Poll::Pending => {}
            }
        }
    }

    /// Sets the deadline for the next piece.
    pub(crate) fn arm(&self, timer: &Timer) {
        timer.arm(self.stall);
    }

    /// The bytes of a piece.
    pub(crate) fn data(&self, range: Range<usize>) -> &[u8] {
        self.buffer.as_ref().and_then(|buffer| buffer.get(range)).unwrap_or_default()
    }

    /// Whether more has been read than was handed out.
    pub(crate) fn has_buffered(&self) -> bool {
        self.start < self.end
    }

    /// Trailer fields as lines; empty when there are none.
    pub(crate) fn trailers(&self) -> &[u8] {
        self.decoder.trailers()
    }

    /// Moves the rest of the request's body.
    pub(crate) fn poll_upload(&mut self, cx: &mut Context<'_>) {
        if let Some(stream) = &self.stream
            && !self.upload.is_done()
        {
            // The deadline of the answer goes on counting: a detached timer takes the upload's.
            let timer = self.worker.timers.timer();
            if let Poll::Ready(Err(_)) = self.upload.poll(cx, stream, &timer) {
                // The backend takes no more, or the client sends no more: the answer decides what becomes of it.
                self.reusable = false;
                self.upload.complete = true;
                self.upload.sent = self.upload.out.len();
            }
        }
    }

    /// Body bytes that went up so far.
    pub(crate) fn uploaded(&self) -> u64 {
        self.upload.bytes
    }

    /// Takes the connection for another protocol, with what the backend has already said in it.
    pub(crate) fn into_stream(mut self) -> (Option<Stream>, Vec<u8>) {
        let early =
            self.buffer.as_ref().map_or_else(Vec::new, |buffer| buffer[self.start..self.end].to_vec());
        (self.stream.take(), early)
    }

    fn finish(&mut self) {
        self.ended = true;
        // Bytes after a complete answer belong to nobody: such a connection is not used again.
        if self.reusable
            && self.start == self.end
            && self.upload.is_done()
            && let Some(stream) = self.stream.take()
        {
            self.idle.put(stream, self.address, self.worker.timers.now());
        }
        self.stream = None;
        self.buffer = None;
    }
}
