//! Errors as `application/problem+json` (RFC 9457), with every mistake listed.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use weir_snapshot::{Problem, Problems};

use super::guard::Tag;
use crate::{app::AppError, store::StoreError};

/// An error on its way to the client.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    detail: String,
    problems: Vec<Problem>,
    /// The current revision, where the one that was expected is not.
    current: Option<u64>,
}

impl Refusal {
    /// A refusal without a list.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), problems: Vec::new(), current: None }
    }

    /// 400 with the mistakes.
    pub(super) fn bad_request(problems: Problems) -> Self {
        Self { problems: problems.0.clone(), ..Self::new(StatusCode::BAD_REQUEST, problems.to_string()) }
    }

    /// What is wrong with one object of a `list` of the configuration, by its place in what was sent: where the object
    /// stands in the configuration is nothing that its sender knows.
    pub(super) fn of_one(list: &str, error: AppError) -> Self {
        let AppError::Invalid(mut problems) = error else { return error.into() };
        for problem in &mut problems.0 {
            let index = problem.path.strip_prefix(list).and_then(|path| path.strip_prefix('['));
            if let Some((_, inner)) = index.and_then(|path| path.split_once(']')) {
                problem.path = inner.trim_start_matches('.').to_owned();
            }
        }
        Self::bad_request(problems)
    }
}

impl From<AppError> for Refusal {
    fn from(error: AppError) -> Self {
        let detail = error.to_string();
        let status = match error {
            AppError::Invalid(problems) => return Self::bad_request(problems),
            AppError::NotFound(..) | AppError::Missing(_) => StatusCode::NOT_FOUND,
            AppError::Conflict(_) => StatusCode::CONFLICT,
            AppError::Outdated { current, .. } => {
                return Self { current: Some(current), ..Self::new(StatusCode::PRECONDITION_FAILED, detail) };
            }
            AppError::Store(StoreError::Unavailable { .. }) => StatusCode::SERVICE_UNAVAILABLE,
            AppError::Store(_) | AppError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, detail)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "problems": self.problems,
        });
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        let tag = self.current.map(|current| {
            body["revision"] = current.into();
            Tag::revision(current)
        });
        (self.status, tag, content_type, Json(body).into_response().into_body()).into_response()
    }
}
