//! `ETag` and `If-Match`: a caller can name the revision that it last read. Its change is rejected if another revision
//! is current.
//!
//! Every change is covered: [`precondition`] rejects a stale or unreadable `If-Match` before the call is read, also for
//! calls that create no revision (tokens, nodes, probes). A change of the configuration checks it again inside the
//! change.
//!
//! The tag is the number of the current revision, so a change of any other resource makes it stale too. This sometimes
//! costs a second attempt; in return, no change overwrites one that its author has not seen.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, IntoResponseParts, Response, ResponseParts},
};

use super::problem::Refusal;
use crate::app::App;

/// Rejects a change whose `If-Match` does not name the current revision. As a middleware it covers every handler.
pub(super) async fn precondition(State(app): State<App>, request: Request, next: Next) -> Response {
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if is_safe || !request.headers().contains_key(header::IF_MATCH) {
        return next.run(request).await;
    }
    let checked = expected(request.headers(), &app)
        .and_then(|expected| app.at(expected).check_revision().map_err(Refusal::from));
    match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// RFC 9110, 13.1.1: one of the tags, or `*` for any current revision.
pub(super) fn expected(headers: &HeaderMap, app: &App) -> Result<Option<u64>, Refusal> {
    let wrong = || {
        let says = "If-Match is not a revision's number, as ETag gives it: \"7\"";
        Refusal::new(StatusCode::BAD_REQUEST, says)
    };
    let mut tags = Vec::new();
    for value in headers.get_all(header::IF_MATCH) {
        for tag in
            value.to_str().map_err(|_| wrong())?.split(',').map(str::trim).filter(|tag| !tag.is_empty())
        {
            if tag == "*" {
                return Ok(None);
            }
            tags.push(tag.trim_matches('"').parse::<u64>().map_err(|_| wrong())?);
        }
    }
    let current = app.current().revision;
    Ok(tags.iter().find(|tag| **tag == current).or(tags.first()).copied())
}

/// The tag of a response. It is never newer than the content of the response.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tag(u64);

impl Tag {
    /// Must be called before the content of the response is read.
    pub(super) fn of(app: &App) -> Self {
        Self(app.current().revision)
    }

    pub(super) fn revision(revision: u64) -> Self {
        Self(revision)
    }
}

impl IntoResponseParts for Tag {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Self::Error> {
        if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", self.0)) {
            parts.headers_mut().insert(header::ETAG, tag);
        }
        Ok(parts)
    }
}
