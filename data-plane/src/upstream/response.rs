//! An answer whose head has come, and its body as it comes, whichever protocol the backend speaks.

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

/// Pieces of an answer that nobody gets that are read to keep its connection.
const MAX_DISCARD: u32 = 16;

/// An answer whose head has come.
pub(crate) struct Response {
    pub(crate) head: ResponseHead,
    pub(crate) body: ResponseBody,
    /// It lasts as long as both sides like: an event stream, or another protocol.
    pub(crate) is_lasting: bool,
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

/// The body of an answer. Dropped before its end, the backend sees that nobody listens: its connection is closed, or
/// its stream reset.
#[allow(clippy::large_enum_variant, reason = "the large one is the usual one, and the whole is in a box")]
pub(crate) enum ResponseBody {
    Http1(http1::Body),
    Http2(http2::Body),
}

impl ResponseBody {
    /// The next piece.
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

    /// Sets the deadline for the next piece.
    pub(crate) fn arm(&self, timer: &Timer) {
        timer.arm(match self {
            Self::Http1(body) => body.stall,
            Self::Http2(body) => body.stall,
        });
    }

    /// The bytes of a piece.
    pub(crate) fn data(&self, range: Range<usize>) -> &[u8] {
        match self {
            Self::Http1(body) => body.data(range),
            Self::Http2(body) => body.data(range),
        }
    }

    /// Whether more has been read than was handed out.
    pub(crate) fn has_buffered(&self) -> bool {
        match self {
            Self::Http1(body) => body.has_buffered(),
            Self::Http2(_) => false,
        }
    }

    /// Trailer fields as lines; empty when there are none.
    pub(crate) fn trailers(&self) -> &[u8] {
        match self {
            Self::Http1(body) => body.trailers(),
            Self::Http2(body) => body.trailers(),
        }
    }

    /// Moves the rest of the request's body.
    pub(crate) fn poll_upload(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::Http1(body) => body.poll_upload(cx),
            Self::Http2(body) => body.poll_upload(cx),
        }
    }

    /// Body bytes that went up so far.
    pub(crate) fn uploaded(&self) -> u64 {
        self.upload().bytes
    }

    /// The request that it answers, as far as it has gone up.
    pub(crate) fn upload(&self) -> &Upload {
        match self {
            Self::Http1(body) => &body.upload,
            Self::Http2(body) => &body.upload,
        }
    }

    /// Lets go of an answer that nobody gets, and gives the request back to be sent again. Where all of the answer is
    /// there already, its connection is kept.
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

    /// Takes the connection for another protocol, with what the backend has already said in it.
    pub(crate) fn into_tunnel(self) -> Option<End<'static>> {
        match self {
            Self::Http1(body) => body.into_tunnel(),
            Self::Http2(body) => Some(body.into_tunnel()),
        }
    }
}
