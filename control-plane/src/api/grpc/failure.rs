//! Errors of the use cases as gRPC status.

use tonic::{Code, Status};
use weir_snapshot::Problem;

use crate::{access::AccessError, app::AppError, store::StoreError};

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
            AppError::Invalid(_) => Code::InvalidArgument,
            AppError::NotFound(..) | AppError::Missing(_) => Code::NotFound,
            AppError::Conflict(_) => Code::FailedPrecondition,
            AppError::Outdated { .. } => Code::Aborted,
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

/// A field with an invalid value.
pub(super) fn invalid(field: &str, message: impl Into<String>) -> AppError {
    AppError::Invalid(Problem::new(field, message).into())
}

/// Names the mistakes of one item of a `list` of the configuration by the request's `field`: the item's place in the
/// configuration means nothing to the caller.
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
