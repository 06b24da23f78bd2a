//! A request on its way to a backend: its head, and its body while it arrives, in a window that a slow backend keeps
//! full.

use std::{
    borrow::Cow,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::SendStream;
use weir_http::{BodyFraming, aliases::HeaderGuard, push_chunk_head, push_last_chunk, read_trailers};

use crate::{
    client::RequestBody,
    failure::{BodyFailure, Failure},
    wire::{
        pace::{Pace, PaceLimits},
        stream::Stream,
        timer::{Timer, Timers},
    },
};

/// Largest number of buffered bytes of a request.
const WINDOW: usize = 64 << 10;

/// Largest body that is kept for another attempt; a larger one is sent once.
const KEEP: usize = 64 << 10;

/// Larger memory is freed after the request.
const SMALL: usize = 16 << 10;

/// A request on its way to a backend.
pub(crate) struct Upload {
    body: RequestBody,
    chunked: bool,
    out: Vec<u8>,
    sent: usize,
    /// The body has been read to its end.
    complete: bool,
    /// END_STREAM was sent to an HTTP/2 backend.
    closed: bool,
    /// Body bytes taken from the client.
    pub(crate) bytes: u64,
    /// The request is rejected if its body is larger.
    max_body: u64,
    /// A part of the body was taken.
    begun: bool,
    /// The taken content, without framing, for another attempt; `None`: the request cannot be sent again.
    kept: Option<Vec<u8>>,
    failed: Option<Failure>,
    /// How slowly the client may send.
    pace: Pace,
    /// The client's deadline; `None`: there is no body.
    deadline: Option<Timer>,
    /// How long the backend may accept nothing.
    stall: Duration,
    /// Headers that the route vouches for, which must not be trailers.
    guard: Option<Arc<HeaderGuard>>,
}

impl Upload {
    /// `out` provides memory, which [`Upload::take_memory`] returns.
    pub(crate) fn new(
        body: RequestBody,
        framing: BodyFraming,
        max_body: u64,
        limits: PaceLimits,
        timers: &Rc<Timers>,
        out: Vec<u8>,
    ) -> Self {
        let has_body = !matches!(body, RequestBody::Empty);
        let deadline = has_body.then(|| timers.timer());
        Self { pace: Pace::new(limits), deadline, ..Self::of(body, framing, max_body, out) }
    }

    fn of(body: RequestBody, framing: BodyFraming, max_body: u64, out: Vec<u8>) -> Self {
        Self {
            complete: matches!(body, RequestBody::Empty),
            body,
            chunked: framing == BodyFraming::Chunked,
            out,
            sent: 0,
            closed: false,
            bytes: 0,
            max_body,
            begun: false,
            kept: None,
            failed: None,
            pace: Pace::default(),
            deadline: None,
            stall: Duration::ZERO,
            guard: None,
        }
    }

    /// Sets the headers that must not be trailers.
    pub(crate) fn guard(&mut self, guard: Option<&Arc<HeaderGuard>>) {
        self.guard = guard.cloned();
    }

    /// The forwarded trailers, as lines.
    fn trailers(&self) -> Cow<'_, [u8]> {
        let lines = self.body.trailers();
        let drops = |line: &[u8]| {
            let colon = memchr::memchr(b':', line).unwrap_or(line.len());
            self.guard.as_ref().is_some_and(|guard| guard.drops_trailer(&line[..colon]))
        };
        if lines.is_empty() || self.guard.is_none() {
            return lines.into();
        }
        lines
            .split_inclusive(|byte| *byte == b'\n')
            .filter(|line| !drops(line))
            .flatten()
            .copied()
            .collect::<Vec<_>>()
            .into()
    }

    /// Moves the rest of the request into the response.
    pub(crate) fn take(&mut self) -> Self {
        let bytes = self.bytes;
        let mut none = Self::of(RequestBody::Empty, BodyFraming::None, 0, Vec::new());
        none.bytes = bytes;
        std::mem::replace(self, none)
    }

    /// Returns the memory, unless it grew large.
    pub(super) fn take_memory(&mut self) -> Option<Vec<u8>> {
        let small = self.is_done() && (1..=SMALL).contains(&self.out.capacity());
        small.then(|| {
            self.sent = 0;
            let mut memory = std::mem::take(&mut self.out);
            memory.clear();
            memory
        })
    }

    /// Keeps a small body, so that it can be sent again.
    pub(crate) fn keep(&mut self) {
        self.kept = Some(Vec::new());
    }

    /// Ready once a part of the body has arrived, or the body has ended: until then no backend is occupied.
    pub(crate) fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if self.complete || self.begun {
            return Poll::Ready(Ok(()));
        }
        match self.body.poll_first(cx) {
            Poll::Ready(result) => {
                self.client_moved(0);
                Poll::Ready(result.map_err(Failure::RequestBody))
            }
            Poll::Pending if self.is_client_late(cx) => Poll::Ready(Err(Failure::ClientStalled)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn client_moved(&mut self, bytes: usize) {
        if let Some(deadline) = &self.deadline {
            self.pace.moved(bytes, deadline);
        }
    }

    /// Whether the client is too slow. If not, the task is woken when it is.
    fn is_client_late(&mut self, cx: &Context<'_>) -> bool {
        self.deadline.as_ref().is_some_and(|deadline| {
            self.pace.wait(deadline);
            deadline.expired(cx)
        })
    }

    /// Whether the request can be sent again unchanged.
    pub(crate) fn can_repeat(&self) -> bool {
        !self.begun || self.kept.is_some()
    }

    /// Begins an attempt at an HTTP/1 backend: `write` writes the head, and the kept part of the body follows.
    pub(super) fn start_http1(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.restart();
        write(&mut self.out);
        let kept = self.kept.as_deref().unwrap_or_default();
        if !self.chunked {
            self.out.extend_from_slice(kept);
            return;
        }
        if !kept.is_empty() {
            push_chunk(&mut self.out, kept);
        }
        if self.complete {
            let trailers = self.trailers().into_owned();
            push_last_chunk(&mut self.out, &trailers);
        }
    }

    /// Begins an attempt at an HTTP/2 backend, which receives the head separately.
    pub(super) fn start_http2(&mut self) {
        self.restart();
        self.out.extend_from_slice(self.kept.as_deref().unwrap_or_default());
    }

    fn restart(&mut self) {
        self.out.clear();
        self.sent = 0;
        self.closed = false;
    }

    /// Whether END_STREAM was sent to an HTTP/2 backend, or nothing more is sent.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether neither content nor trailers follow the head.
    pub(super) fn is_empty(&self) -> bool {
        self.is_done() && self.trailers().is_empty()
    }

    /// Whether everything was sent.
    pub(super) fn is_done(&self) -> bool {
        self.complete && self.sent == self.out.len()
    }

    /// Stops sending: the backend accepts no more, or the client sends no more.
    pub(super) fn give_up(&mut self) {
        if !self.complete {
            // A truncated body must not look complete.
            self.begun = true;
            self.kept = None;
        }
        self.complete = true;
        self.closed = true;
        self.sent = self.out.len();
    }

    /// Sets the deadline for a backend that accepts nothing. The client has a deadline of its own.
    pub(super) fn arm(&mut self, timer: &Timer, stall: Duration) {
        self.stall = stall;
        timer.arm(stall);
    }

    /// Frees the memory of a large head that was sent, before the wait for the response.
    fn shrink(&mut self) {
        if self.out.capacity() > SMALL {
            self.out = Vec::new();
            self.sent = 0;
        }
    }

    /// Reads from the client while the window has room.
    fn fill(&mut self, cx: &mut Context<'_>, timer: Option<&Timer>, http1: bool) -> Result<(), Failure> {
        // A full window that was sent makes room; without this the client's next bytes would not be read.
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
        while !self.complete && self.out.len() < WINDOW && self.failed.is_none() {
            let drawn = self.bytes;
            let (out, chunked, bytes) = (&mut self.out, http1 && self.chunked, &mut self.bytes);
            let kept = &mut self.kept;
            let frame = |data: &[u8]| {
                *bytes += data.len() as u64;
                keep(kept, data);
                if chunked {
                    push_chunk(out, data);
                } else {
                    out.extend_from_slice(data);
                }
            };
            match self.body.poll_into(cx, frame) {
                Poll::Ready(Ok(complete)) => {
                    self.begun = true;
                    self.complete = complete;
                    self.client_moved(usize::try_from(self.bytes - drawn).unwrap_or(usize::MAX));
                    if let Some(timer) = timer {
                        timer.arm(self.stall);
                    }
                    if self.bytes > self.max_body {
                        // A body that is too large must not look complete.
                        self.complete = false;
                        self.failed = Some(Failure::RequestBody(BodyFailure::TooLarge));
                    } else if complete && chunked {
                        let trailers = self.trailers().into_owned();
                        push_last_chunk(&mut self.out, &trailers);
                    }
                }
                Poll::Ready(Err(failure)) => self.failed = Some(Failure::RequestBody(failure)),
                Poll::Pending => {
                    if self.is_client_late(cx) {
                        self.failed = Some(Failure::ClientStalled);
                    }
                    break;
                }
            }
        }
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Sends what it can to an HTTP/1 backend; ready when everything was sent.
    pub(super) fn poll_http1(
        &mut self,
        cx: &mut Context<'_>,
        stream: &Stream,
        timer: Option<&Timer>,
    ) -> Poll<Result<(), Failure>> {
        loop {
            // A body that has arrived already is written together with its head.
            if !self.complete {
                self.fill(cx, timer, true)?;
            }
            if self.sent == self.out.len() {
                if self.complete {
                    return Poll::Ready(Ok(()));
                }
                // The upload waits for the client, which the backend is not responsible for.
                if let Some(timer) = timer {
                    timer.arm(Duration::ZERO);
                }
                return Poll::Pending;
            }
            match stream.poll_write(cx, &self.out[self.sent..]) {
                Poll::Ready(Ok(n)) => {
                    self.sent += n;
                    if let Some(timer) = timer {
                        timer.arm(self.stall);
                    }
                    if self.is_done() {
                        self.shrink();
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Failure::Broken { reused: false })),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Sends what it can to an HTTP/2 backend, as its window allows; ready when END_STREAM was sent.
    pub(super) fn poll_http2(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut SendStream<Bytes>,
        timer: Option<&Timer>,
    ) -> Poll<Result<(), Failure>> {
        let broken = |_| Failure::Broken { reused: false };
        loop {
            if self.closed {
                return Poll::Ready(Ok(()));
            }
            self.fill(cx, timer, false)?;
            let left = self.out.len() - self.sent;
            if left == 0 {
                if !self.complete {
                    if let Some(timer) = timer {
                        timer.arm(Duration::ZERO);
                    }
                    return Poll::Pending;
                }
                self.closed = true;
                let trailers = read_trailers(&self.trailers());
                if trailers.is_empty() {
                    stream.send_data(Bytes::new(), true).map_err(broken)?;
                } else {
                    stream.send_trailers(trailers).map_err(broken)?;
                }
                return Poll::Ready(Ok(()));
            }
            stream.reserve_capacity(left);
            let room = stream.capacity().min(left);
            if room == 0 {
                match stream.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(_))) => continue,
                    Poll::Ready(_) => return Poll::Ready(Err(Failure::Broken { reused: false })),
                    Poll::Pending => return Poll::Pending,
                }
            }
            let piece = Bytes::copy_from_slice(&self.out[self.sent..self.sent + room]);
            self.sent += room;
            let last = self.is_done() && self.trailers().is_empty();
            self.closed = last;
            stream.send_data(piece, last).map_err(broken)?;
            if let Some(timer) = timer {
                timer.arm(self.stall);
            }
        }
    }
}

/// Keeps content while all of it is small.
fn keep(kept: &mut Option<Vec<u8>>, data: &[u8]) {
    match kept {
        Some(kept) if kept.len() + data.len() <= KEEP => kept.extend_from_slice(data),
        kept => *kept = None,
    }
}

fn push_chunk(out: &mut Vec<u8>, data: &[u8]) {
    push_chunk_head(out, data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}
