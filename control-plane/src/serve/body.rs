//! Bodies with deadlines: a request's body must arrive at a minimum rate, and the time that an answer waits for its
//! client is tracked.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::connections::Call;

/// Minimum time allowed for a body of any length.
const GRACE: Duration = Duration::from_secs(10);
/// [`GRACE`] for gRPC streams: a tool may keep one open for reflection.
const STREAM_GRACE: Duration = Duration::from_secs(300);
/// Minimum rate of a body after its grace period, in bytes per second.
const RATE: u64 = 16 << 10;

/// Largest piece of an answer passed on at once, so that memory and deadlines depend on how much the client reads.
const PIECE: usize = 64 << 10;

/// A request body with a deadline.
pub(super) struct TimedBody {
    inner: Incoming,
    grace: Duration,
    begun: Option<Instant>,
    received: u64,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Set when the body arrived too slowly.
    pub(super) is_late: Arc<AtomicBool>,
}

impl TimedBody {
    pub(super) fn new(inner: Incoming, is_grpc: bool) -> Self {
        let grace = if is_grpc { STREAM_GRACE } else { GRACE };
        Self { inner, grace, begun: None, received: 0, deadline: None, is_late: Arc::default() }
    }
}

impl HttpBody for TimedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
                self.received += data.len() as u64;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(axum::Error::new)));
        }
        let begun = *self.begun.get_or_insert_with(Instant::now);
        loop {
            let due = begun + self.grace + Duration::from_millis(self.received.saturating_mul(1000) / RATE);
            let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if deadline.deadline() < due {
                deadline.as_mut().reset(due);
            }
            ready!(deadline.as_mut().poll(cx));
            if Instant::now() >= due {
                self.is_late.store(true, Relaxed);
                let error = io::Error::new(io::ErrorKind::TimedOut, "the body did not arrive in time");
                return Poll::Ready(Some(Err(axum::Error::new(error))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body, passed on in pieces. The call ends when it is dropped.
pub(super) struct CallBody {
    inner: Body,
    /// Rest of the last frame.
    rest: Bytes,
    call: Call,
}

impl CallBody {
    pub(super) fn new(inner: Body, call: Call) -> Self {
        Self { inner, rest: Bytes::new(), call }
    }
}

impl HttpBody for CallBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.call.waits_for_client(false);
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        self.call.waits_for_client(true);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.inner.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
