//! `ETag` and `If-Match`: who changes something may say what they have seen, and is refused when it is no longer so.
//!
//! Every changing call is covered: [`precondition`] refuses a stale or unreadable `If-Match` before the call is looked at,
//! also for calls that change no revision (tokens, nodes, probes), and [`Guarded`] checks it again inside the change.
//!
//! The tag is the number of the revision: a change of anything else makes it old as well. That costs a second look now
//! and then, and in return nothing is ever overwritten unseen.

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, IntoResponseParts, Response, ResponseParts},
};

use super::problem::Refusal;
use crate::app::App;

/// The use cases, guarded by the request's `If-Match`.
pub(super) struct Guarded(pub(super) App);

impl FromRequestParts<App> for Guarded {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        Ok(Self(app.at(expected(&parts.headers, app)?)))
    }
}

/// Refuses a changing call whose `If-Match` names another revision than the current one. No handler can forget it.
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
fn expected(headers: &HeaderMap, app: &App) -> Result<Option<u64>, Refusal> {
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
#[derive(Clone, Copy)]
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

/// An answer with its tag.
pub(super) struct Tagged<T>(pub(super) Tag, pub(super) T);

impl<T: IntoResponse> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}
