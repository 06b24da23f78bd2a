//! Errors as `application/problem+json` (RFC 9457), with every mistake listed.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use weir_snapshot::{Problem, Problems};

use crate::app::AppError;

/// An error on its way to the client.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    detail: String,
    problems: Vec<Problem>,
}

impl Refusal {
    /// A refusal without a list.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), problems: Vec::new() }
    }

    /// 400 with the mistakes.
    pub(super) fn bad_request(problems: Problems) -> Self {
        Self { status: StatusCode::BAD_REQUEST, detail: problems.to_string(), problems: problems.0 }
    }
}

impl From<AppError> for Refusal {
    fn from(error: AppError) -> Self {
        let detail = error.to_string();
        let status = match error {
            AppError::Invalid(problems) => return Self::bad_request(problems),
            AppError::NotFound(..) => StatusCode::NOT_FOUND,
            AppError::Conflict(_) => StatusCode::CONFLICT,
            AppError::Outdated { .. } => StatusCode::PRECONDITION_FAILED,
            AppError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, detail)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "problems": self.problems,
        });
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, content_type, Json(body).into_response().into_body()).into_response()
    }
}
