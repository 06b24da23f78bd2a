//! Parameters in paths.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something that has a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Name {
    /// Its name.
    pub name: String,
}

/// Something that has an id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Id {
    /// Its id.
    pub id: String,
}

/// A join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeTokenId {
    /// Its id.
    pub id: i64,
}

/// A revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Number {
    /// Its number.
    pub n: u64,
}
