//! Errors as `application/problem+json` (RFC 9457), with a list of all invalid fields.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use weir_admin_api::Error;
use weir_snapshot::{Problem, Problems};

use super::guard::Tag;
use crate::{app::AppError, stats::ReportError, store::StoreError};

/// An error response.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    detail: String,
    pub(super) problems: Vec<Problem>,
    /// The current revision, if another one was expected.
    current: Option<u64>,
}

impl Refusal {
    /// An error without a list of invalid fields.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), problems: Vec::new(), current: None }
    }

    /// A 400 response with these problems.
    pub(super) fn bad_request(problems: Problems) -> Self {
        Self { problems: problems.0.clone(), ..Self::new(StatusCode::BAD_REQUEST, problems.to_string()) }
    }

    /// Names the errors in one object of a `list` of the configuration by their path in the request body: the caller
    /// does not know the object's index in the configuration.
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

impl From<ReportError> for Refusal {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::Invalid(problems) => Self::bad_request(problems),
            ReportError::Store(error) => {
                tracing::error!(%error, "report failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the report failed; see the control plane's log")
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Error {
            kind: "about:blank".into(),
            title: self.status.canonical_reason().unwrap_or_default().into(),
            status: self.status.as_u16(),
            detail: self.detail,
            problems: self.problems,
            revision: self.current,
        };
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        let tag = self.current.map(Tag::revision);
        (self.status, tag, content_type, Json(body).into_response().into_body()).into_response()
    }
}
