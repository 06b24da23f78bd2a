//! A response whose head has arrived, with its body while it arrives, for both protocols.

use std::{
    ops::Range,
    task::{Context, Poll},
};

use weir_http::ResponseHead;

use super::{Upload, http1, http2};
use crate::{
    failure::Failure,
    wire::{timer::Timer, tunnel::End},
};

/// Number of parts of a discarded response that are read to keep its connection.
const MAX_DISCARD: u32 = 16;

pub(crate) struct Response {
    pub(crate) head: ResponseHead,
    pub(crate) body: ResponseBody,
    /// An event stream or a tunnel, which may last for any time.
    pub(crate) is_lasting: bool,
}

/// Progress of a response's body.
#[derive(Debug)]
pub(crate) enum Progress {
    /// A part of the body, available from [`ResponseBody::data`] until the next call.
    Data(Range<usize>),
    /// Nothing yet; returned only if there is something else to do meanwhile.
    Waiting,
    /// The end.
    End,
}

/// The body of a response. If it is dropped before its end, the connection is closed or the stream is reset, so that
/// the backend stops.
#[allow(clippy::large_enum_variant, reason = "the large one is the usual one, and the whole is in a box")]
pub(crate) enum ResponseBody {
    Http1(http1::Body),
    Http2(http2::Body),
}

impl ResponseBody {
    /// The next part.
    pub(crate) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
        timer: &Timer,
    ) -> Poll<Result<Progress, Failure>> {
        match self {
            Self::Http1(body) => body.poll_data(cx, timer),
            Self::Http2(body) => body.poll_data(cx, timer),
        }
    }

    /// Sets the deadline for the next part.
    pub(crate) fn arm(&self, timer: &Timer) {
        timer.arm(match self {
            Self::Http1(body) => body.stall,
            Self::Http2(body) => body.stall,
        });
    }

    /// The bytes of a part.
    pub(crate) fn data(&self, range: Range<usize>) -> &[u8] {
        match self {
            Self::Http1(body) => body.data(range),
            Self::Http2(body) => body.data(range),
        }
    }

    /// Whether bytes were read that were not returned yet.
    pub(crate) fn has_buffered(&self) -> bool {
        match self {
            Self::Http1(body) => body.has_buffered(),
            Self::Http2(_) => false,
        }
    }

    /// Trailer fields as lines, possibly none.
    pub(crate) fn trailers(&self) -> &[u8] {
        match self {
            Self::Http1(body) => body.trailers(),
            Self::Http2(body) => body.trailers(),
        }
    }

    /// Sends more of the request's body.
    pub(crate) fn poll_upload(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::Http1(body) => body.poll_upload(cx),
            Self::Http2(body) => body.poll_upload(cx),
        }
    }

    /// Body bytes sent so far.
    pub(crate) fn uploaded(&self) -> u64 {
        self.upload().bytes
    }

    /// The request of this response, as far as it was sent.
    pub(crate) fn upload(&self) -> &Upload {
        match self {
            Self::Http1(body) => &body.upload,
            Self::Http2(body) => &body.upload,
        }
    }

    /// Discards the response and returns the request, so that it can be sent again. If the whole response has arrived,
    /// its connection is kept.
    pub(crate) fn discard(mut self, timer: &Timer) -> Upload {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for _ in 0..MAX_DISCARD {
            if !matches!(self.poll_data(&mut cx, timer), Poll::Ready(Ok(Progress::Data(_)))) {
                break;
            }
        }
        match &mut self {
            Self::Http1(body) => body.upload.take(),
            Self::Http2(body) => body.upload.take(),
        }
    }

    /// Takes the connection for another protocol, with the bytes that the backend has already sent in it.
    pub(crate) fn into_tunnel(self) -> Option<End<'static>> {
        match self {
            Self::Http1(body) => body.into_tunnel(),
            Self::Http2(body) => Some(body.into_tunnel()),
        }
    }
}
