//! `ETag` and `If-Match`: a caller may name the revision that it has seen, and its change is rejected when another one is
//! current.
//!
//! Every change is covered: [`precondition`] rejects a stale or unreadable `If-Match` before the call is read, also for
//! calls that make no revision (tokens, nodes, probes). A change of the configuration checks it again inside the change.
//!
//! The tag is the number of the current revision, so a change of anything else makes it stale too. That costs a second
//! try now and then; in return nothing is overwritten unseen.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, IntoResponseParts, Response, ResponseParts},
};

use super::problem::Refusal;
use crate::app::App;

/// Rejects a change whose `If-Match` names another revision than the current one. No handler can forget it.
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

/// RFC 9110, 13.1.1: one of the tags, or `*` for whatever is there.
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

/// The tag of an answer: it is never newer than what the answer shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tag(u64);

impl Tag {
    /// To be taken before what is answered is looked at.
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
