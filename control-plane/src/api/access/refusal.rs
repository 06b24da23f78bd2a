//! Responses to rejected calls, in the caller's format: problem+json, a gRPC status, or a page.

use axum::{
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use serde_json::json;
use tonic::{Code, Status};

use crate::access::{Outcome, Role, Unknown};

/// The interface that the call uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Rest,
    Grpc,
    Dashboard,
}

impl Kind {
    pub(super) fn source(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Grpc => "grpc",
            Self::Dashboard => "dashboard",
        }
    }
}

/// Why a call is rejected.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    pub(super) says: String,
    /// A token was presented, and it is invalid.
    is_wrong_token: bool,
    /// The token that was presented, if it is known.
    pub(super) token: Option<(String, Role)>,
}

impl Refusal {
    fn new(status: StatusCode, says: impl Into<String>) -> Self {
        Self { status, says: says.into(), is_wrong_token: false, token: None }
    }

    pub(super) fn unknown(says: &str, is_wrong_token: bool) -> Self {
        Self { is_wrong_token, ..Self::new(StatusCode::UNAUTHORIZED, says) }
    }

    pub(super) fn of_unknown(unknown: &Unknown) -> Self {
        Self::unknown(&unknown.to_string(), true)
    }

    pub(super) fn forbidden(says: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, says)
    }

    /// The caller has reached its limits.
    pub(super) fn busy(says: String) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, says)
    }

    /// Records which token was presented.
    pub(super) fn of(self, name: String, role: Role) -> Self {
        Self { token: Some((name, role)), ..self }
    }

    pub(super) fn misdirected(says: String) -> Self {
        Self::new(super::MISDIRECTED, says)
    }

    /// Builds the response. A page that needs a login gets the login page, with the status of a rejection.
    pub(super) fn answer(self, kind: Kind, uri: &Uri) -> Response {
        let mut answer = match kind {
            Kind::Grpc => {
                let code = match self.status {
                    StatusCode::UNAUTHORIZED => Code::Unauthenticated,
                    StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
                    _ => Code::PermissionDenied,
                };
                return Status::new(code, self.says).into_http();
            }
            Kind::Dashboard if self.status == StatusCode::UNAUTHORIZED => {
                let mut page = super::login::page(uri);
                *page.status_mut() = self.status;
                page
            }
            Kind::Dashboard => {
                let mut page = crate::api::dashboard::refused(&self.says);
                *page.status_mut() = self.status;
                page
            }
            Kind::Rest => {
                let problem = json!({
                    "type": "about:blank",
                    "title": self.status.canonical_reason().unwrap_or_default(),
                    "status": self.status.as_u16(),
                    "detail": self.says,
                    "problems": [],
                });
                let kind = [(header::CONTENT_TYPE, "application/problem+json")];
                (self.status, kind, problem.to_string()).into_response()
            }
        };
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 6750: a call without credentials gets no error code in the challenge.
            let challenge = if self.is_wrong_token {
                r#"Bearer realm="weir", error="invalid_token""#
            } else {
                r#"Bearer realm="weir""#
            };
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}

/// The outcome of an allowed call, as written to the audit log.
pub(super) fn outcome(answer: &Response) -> (Outcome, String) {
    if let Some(code) = answer.headers().get("grpc-status") {
        let code = Code::from_bytes(code.as_bytes());
        if code == Code::Ok {
            return (Outcome::Ok, String::new());
        }
        return (Outcome::Failed, format!("{code:?}"));
    }
    let status = answer.status();
    let is_fine = status.is_success() || status.is_redirection();
    if is_fine { (Outcome::Ok, String::new()) } else { (Outcome::Failed, status.to_string()) }
}
