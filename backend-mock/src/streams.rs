//! Responses with a requested delay, status or size.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Json,
    body::{Body, HttpBody},
    extract::{Path, Query, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use serde::Deserialize;
use serde_json::json;

use crate::problem;

/// The largest response of `/bytes/{n}`, in bytes.
const MAX_BYTES: u64 = 10 << 30;
/// The longest delay of `/slow`, in milliseconds.
const MAX_DELAY_MS: u64 = 3_600_000;

#[derive(Deserialize)]
pub(crate) struct Delay {
    #[serde(default)]
    ms: u64,
}

pub(crate) async fn slow(query: Result<Query<Delay>, QueryRejection>) -> Response {
    match query {
        Ok(Query(Delay { ms })) if ms <= MAX_DELAY_MS => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Json(json!({"slept_ms": ms})).into_response()
        }
        Ok(_) => problem(StatusCode::UNPROCESSABLE_ENTITY, "ms is out of bounds (at most 3600000, one hour)"),
        Err(rejection) => problem(StatusCode::UNPROCESSABLE_ENTITY, &rejection.body_text()),
    }
}

pub(crate) async fn status(Path(code): Path<String>) -> Response {
    // 1xx is not a final response; 101 would announce another protocol.
    match code.parse().ok().filter(|code| (200..1000).contains(code)).map(StatusCode::from_u16) {
        Some(Ok(status @ (StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED))) => status.into_response(),
        Some(Ok(status)) => (status, Json(json!({"status": status.as_u16()}))).into_response(),
        _ => problem(StatusCode::UNPROCESSABLE_ENTITY, "the status is not a number from 200 to 999"),
    }
}

pub(crate) async fn bytes(Path(n): Path<String>) -> Response {
    match n.parse() {
        Ok(n) if n <= MAX_BYTES => {
            let content_type = (header::CONTENT_TYPE, "application/octet-stream");
            ([content_type], Body::new(Generated { left: n })).into_response()
        }
        _ => problem(StatusCode::UNPROCESSABLE_ENTITY, "the size is not a number from 0 to 10 GiB"),
    }
}

static CHUNK: [u8; 64 << 10] = [b'w'; 64 << 10];

/// A body of the requested size, generated while it is sent.
struct Generated {
    left: u64,
}

impl HttpBody for Generated {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let chunk = usize::try_from(self.left).map_or(CHUNK.len(), |left| left.min(CHUNK.len()));
        self.left -= chunk as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&CHUNK[..chunk])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
