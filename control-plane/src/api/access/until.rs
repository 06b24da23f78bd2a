//! Ends a stream when the token that opened it ends.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::header,
    response::Response,
};
use http_body::{Frame, SizeHint};

use crate::access::Token;

/// Returns true if the response is a long-lived stream.
pub(super) fn is_stream(answer: &Response) -> bool {
    let kind = answer.headers().get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    kind.starts_with(b"text/event-stream") || kind.starts_with(b"application/grpc")
}

/// The response, until the token ends.
pub(super) fn ended(answer: Response, token: Arc<Token>) -> Response {
    until(answer, async move { token.until_ended().await })
}

/// The response, until the future `end` completes.
pub(crate) fn until(answer: Response, end: impl Future<Output = ()> + Send + 'static) -> Response {
    answer.map(|inner| Body::new(Until { inner, ended: Some(Box::pin(end)) }))
}

struct Until {
    inner: Body,
    /// `None` once it has ended; the body has ended too.
    ended: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl HttpBody for Until {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(ended) = &mut self.ended else { return Poll::Ready(None) };
        if ended.as_mut().poll(context).is_ready() {
            self.ended = None;
            // Ends with an error, so that the client does not mistake this for the regular end of the stream.
            let error = axum::Error::new("whoever opened this stream may not have it any more");
            return Poll::Ready(Some(Err(error)));
        }
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.ended.is_none() || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
