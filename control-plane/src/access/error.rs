//! Errors of access management, and reasons why a token is not accepted.

use weir_snapshot::Problems;

use super::PREFIX;
use crate::store::StoreError;

/// A change of access failed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The input is invalid.
    #[error("{0}")]
    Invalid(#[from] Problems),
    /// The object does not exist.
    #[error("there is no {0} {1:?}")]
    NotFound(&'static str, String),
    /// The change conflicts with the current state.
    #[error("{0}")]
    Conflict(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system returned no random numbers.
    #[error("the system returned no random numbers")]
    NoRandomness,
}

/// Why a token does not authenticate a caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// The text does not have the format of a token.
    #[error("not a Weir token (expected {PREFIX} and 64 hexadecimal digits)")]
    Malformed,
    /// No stored token matches.
    #[error("unknown token")]
    NotThere,
    /// The token was revoked.
    #[error("token {0:?} was revoked")]
    Revoked(String),
    /// The token has expired.
    #[error("token {0:?} has expired")]
    Expired(String),
}
