//! `/echo`: returns the request as it was received.
//!
//! Header names are in lower case, as the HTTP library provides them. Their order is kept; values of the same name
//! are grouped.

use axum::{
    Json,
    body::Body,
    http::{Request, StatusCode},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt as _;
use serde_json::json;

use crate::problem;

/// Limit on the part of a body that is returned; the rest is only counted.
const MAX_TEXT: usize = 16 << 20;

pub(crate) async fn echo(request: Request<Body>) -> Response {
    let (head, mut body) = request.into_parts();
    let mut text = Vec::new();
    let mut length = 0u64;
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("the body ended early: {error}")),
        };
        match frame.into_data() {
            Ok(data) => {
                length += data.len() as u64;
                let room = MAX_TEXT - text.len();
                text.extend_from_slice(&data[..data.len().min(room)]);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Json(json!({
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "version": format!("{:?}", head.version),
        "headers": pairs(&head.headers),
        "body": String::from_utf8_lossy(&text),
        "length": length,
        "truncated": length > text.len() as u64,
        "trailers": trailers.as_ref().map(pairs).unwrap_or_default(),
    }))
    .into_response()
}

fn pairs(headers: &axum::http::HeaderMap) -> Vec<[String; 2]> {
    let pair = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        [name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()]
    };
    headers.iter().map(pair).collect()
}
