//! Why a use case did not do what it was asked.

use weir_snapshot::{Problem, Problems};

use crate::{access::AccessError, store::StoreError};

/// Why a use case did not do what it was asked. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// What was given is wrong; every mistake is named.
    #[error("{0}")]
    Invalid(#[from] Problems),
    /// There is no such thing.
    #[error("there is no {0} {1:?}")]
    NotFound(&'static str, String),
    /// There is no such thing, told in full.
    #[error("{0}")]
    Missing(String),
    /// It contradicts what is there.
    #[error("{0}")]
    Conflict(String),
    /// Somebody else was faster: the revision is not the expected one.
    #[error(
        "the configuration has changed: revision {current} is current, not {expected}; look at it and try again"
    )]
    Outdated {
        /// The revision that the change was made for.
        expected: u64,
        /// The revision that is current.
        current: u64,
    },
    /// Not the caller's fault; the log knows more.
    #[error("the control plane's database failed{}", cause(.0))]
    Store(#[source] StoreError),
    /// The control plane could not do it for another reason than its database.
    #[error("the control plane failed: {0}")]
    Internal(String),
}

/// What an operator can do something about is said, the rest is for the log.
fn cause(error: &StoreError) -> String {
    match error {
        StoreError::Unavailable { cause, .. } => format!(": {cause}"),
        _ => String::new(),
    }
}

impl AppError {
    /// One mistake.
    pub fn invalid(path: &str, message: impl Into<String>) -> Self {
        Self::Invalid(Problem::new(path, message).into())
    }

    /// There is no such thing.
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
