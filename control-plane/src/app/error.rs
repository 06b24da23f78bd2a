//! Errors of the use cases.

use weir_snapshot::{Problem, Problems};

use crate::{access::AccessError, store::StoreError};

/// Why a use case failed. The call has changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The input is invalid; every error is listed.
    #[error("{0}")]
    Invalid(#[from] Problems),
    /// The resource does not exist.
    #[error("there is no {0} {1:?}")]
    NotFound(&'static str, String),
    /// The resource does not exist; the text is the whole message.
    #[error("{0}")]
    Missing(String),
    /// The call conflicts with the current state.
    #[error("{0}")]
    Conflict(String),
    /// Another change was made first: the revision is not the expected one.
    #[error(
        "the configuration has changed: revision {current} is current, not {expected}; look at it and try again"
    )]
    Outdated {
        /// The revision that the change was made for.
        expected: u64,
        /// The revision that is current.
        current: u64,
    },
    /// The database failed, which is not the caller's fault. The log has the details.
    #[error("the control plane's database failed{}", cause(.0))]
    Store(#[source] StoreError),
    /// The control plane failed for another reason than its database.
    #[error("the control plane failed: {0}")]
    Internal(String),
}

/// Includes the causes that an operator can fix; other causes are only logged.
fn cause(error: &StoreError) -> String {
    match error {
        StoreError::Unavailable { cause, .. } => format!(": {cause}"),
        _ => String::new(),
    }
}

impl AppError {
    /// A single error.
    pub fn invalid(path: &str, message: impl Into<String>) -> Self {
        Self::Invalid(Problem::new(path, message).into())
    }

    /// The resource does not exist.
    pub fn not_found(what: &'static str, name: &str) -> Self {
        Self::NotFound(what, name.to_owned())
    }
}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "database failed");
        Self::Store(error)
    }
}

impl From<AccessError> for AppError {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Invalid(problems) => Self::Invalid(problems),
            AccessError::NotFound(what, name) => Self::NotFound(what, name),
            AccessError::Conflict(why) => Self::Conflict(why),
            AccessError::Store(error) => error.into(),
            AccessError::NoRandomness => {
                tracing::error!(%error, "no random numbers");
                Self::Internal(error.to_string())
            }
        }
    }
}
