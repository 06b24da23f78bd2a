//! Why a call about access failed, and why a token was not accepted.

use weir_snapshot::Problems;

use super::PREFIX;
use crate::store::StoreError;

/// Why something about access was not done.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// What was given is wrong.
    #[error("{0}")]
    Invalid(#[from] Problems),
    /// There is no such thing.
    #[error("there is no {0} {1:?}")]
    NotFound(&'static str, String),
    /// It contradicts what is there.
    #[error("{0}")]
    Conflict(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gave no random numbers.
    #[error("the system gave no random numbers")]
    NoRandomness,
}

/// Why nobody is known by what was shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// It does not look like a token.
    #[error("this is not a token of Weir: one is {PREFIX} and 64 hexadecimal digits")]
    Malformed,
    /// No token is like it.
    #[error("no such token is known")]
    NotThere,
    /// It was revoked.
    #[error("token {0:?} was revoked")]
    Revoked(String),
    /// Its time is over.
    #[error("token {0:?} has expired")]
    Expired(String),
}
