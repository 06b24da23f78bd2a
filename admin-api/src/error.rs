//! Errors as `application/problem+json` (RFC 9457).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_snapshot::Problem;

/// Why a call failed. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Error {
    /// Always `about:blank`: the status says what kind of error it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    #[schemars(range(min = 400, max = 599))]
    pub status: u16,
    /// The error in words.
    pub detail: String,
    /// Every mistake in the request, each with its place.
    pub problems: Vec<Problem>,
    /// The current revision, when `If-Match` named another one (status 412).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}
