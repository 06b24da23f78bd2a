//! Converts errors of the use cases to gRPC statuses, with machine-readable details (AIP-193): `google.rpc.BadRequest`
//! lists each invalid field, `google.rpc.ErrorInfo` holds the current revision if another one was expected.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};
use weir_snapshot::{Problem, Problems};

use crate::{access::AccessError, app::AppError, store::StoreError};

/// The most invalid fields in the details of an error. Details travel in a trailer, whose size clients limit; the
/// message of the status lists all fields.
const MAX_VIOLATIONS: usize = 50;

/// Why an RPC failed.
#[derive(Debug)]
pub(super) struct Failure(Status);

/// The response of an RPC.
pub(super) type Answer<T> = Result<T, Failure>;

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        failure.0
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self(status)
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        let code = match &error {
            AppError::Invalid(problems) => return Self(invalid_argument(problems)),
            AppError::Outdated { current, .. } => {
                let metadata = [("revision".to_owned(), current.to_string())];
                let details = ErrorDetails::with_error_info("REVISION_OUTDATED", "weir.v1", metadata);
                return Self(Status::with_error_details(Code::Aborted, error.to_string(), details));
            }
            AppError::NotFound(..) | AppError::Missing(_) => Code::NotFound,
            AppError::Conflict(_) => Code::FailedPrecondition,
            AppError::Store(StoreError::Unavailable { .. }) => Code::Unavailable,
            AppError::Store(_) | AppError::Internal(_) => Code::Internal,
        };
        Self(Status::new(code, error.to_string()))
    }
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        AppError::from(error).into()
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        AppError::from(error).into()
    }
}

/// The status for an invalid request.
pub(super) fn invalid_argument(problems: &Problems) -> Status {
    let violation = |problem: &Problem| FieldViolation::new(&problem.path, &problem.message);
    let violations: Vec<_> = problems.0.iter().take(MAX_VIOLATIONS).map(violation).collect();
    let details = ErrorDetails::with_bad_request(violations);
    Status::with_error_details(Code::InvalidArgument, problems.to_string(), details)
}

/// A field with an invalid value.
pub(super) fn invalid(field: &str, message: impl Into<String>) -> AppError {
    AppError::Invalid(Problem::new(field, message).into())
}

/// Names the errors in one item of a `list` of the configuration by the request's `field`: the caller does not know the
/// item's index in the configuration.
pub(super) fn in_field(list: &str, field: &str, error: AppError) -> AppError {
    let AppError::Invalid(mut problems) = error else { return error };
    for problem in &mut problems.0 {
        let index = problem.path.strip_prefix(list).and_then(|path| path.strip_prefix('['));
        if let Some((_, inner)) = index.and_then(|path| path.split_once(']')) {
            problem.path = join(field, inner.trim_start_matches('.'));
        }
    }
    AppError::Invalid(problems)
}

/// A path inside a field.
pub(super) fn join(field: &str, path: &str) -> String {
    match path {
        "" => field.to_owned(),
        path if field.is_empty() => path.to_owned(),
        path => format!("{field}.{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_name_the_fields_and_the_current_revision() {
        let problems = (0..60).map(|i| Problem::new(format!("pools[{i}]"), "is wrong")).collect();
        let status = Status::from(Failure::from(AppError::Invalid(Problems(problems))));
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!((violations.len(), violations[7].field.as_str()), (MAX_VIOLATIONS, "pools[7]"));
        assert!(status.message().contains("pools[59]"), "{status:?}");
        let status = Status::from(Failure::from(AppError::Outdated { expected: 3, current: 7 }));
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.metadata["revision"].as_str()), ("REVISION_OUTDATED", "7"));
    }

    #[test]
    fn mistakes_are_named_by_the_field_of_the_request() {
        let named = |path: &str| {
            let error = in_field("pools", "config", invalid(path, "is wrong"));
            error.to_string()
        };
        assert_eq!(named("pools[7].retry.budget"), "config.retry.budget: is wrong");
        assert_eq!(named("pools[7]"), "config: is wrong");
        assert_eq!(named("routes[0].pool"), "routes[0].pool: is wrong");
    }
}
