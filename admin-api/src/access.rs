//! Tokens, join tokens and the audit log: `/tokens`, `/node-tokens`, `/audit`.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The permissions of a token. Each role includes the permissions of the roles before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads everything but tokens and the audit log.
    Viewer,
    /// Daily operation: backends, weights, draining, strategies, probes.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// Every role, the one that allows least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];
}

names!(Role { Viewer = "viewer", Operator = "operator", Admin = "admin" });

/// The text names no role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownRole(pub String);

impl fmt::Display for UnknownRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown role {:?} (known: viewer, operator, admin)", self.0)
    }
}

impl std::error::Error for UnknownRole {}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Whether it is valid.
    pub state: TokenState,
    /// When it was created, RFC 3339.
    pub created: String,
    /// The caller that created it.
    pub created_by: String,
    /// When it expires, RFC 3339; null: never.
    pub expires: Option<String>,
    /// When it was last used, RFC 3339, to about a minute; null: never.
    pub last_used: Option<String>,
}

/// Whether a token is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenState {
    /// It is valid.
    Active,
    /// It was revoked.
    Revoked,
    /// It has expired.
    Expired,
}

names!(TokenState { Active = "active", Revoked = "revoked", Expired = "expired" });

/// A token to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewToken {
    /// Its name; no other valid token may have it.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// How long it is valid; for ever when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "30d")]
    pub expires: Option<String>,
}

/// A new token with its secret, which is shown only this once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedToken {
    /// The token.
    #[serde(flatten)]
    pub info: Token,
    /// The secret: `weir_` and 64 hexadecimal digits.
    pub token: String,
}

/// A token was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevokedToken {
    /// Its name.
    pub name: String,
    /// Always `revoked`.
    pub state: TokenState,
}

/// A token that lets nodes join, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeToken {
    /// Its id.
    pub id: i64,
    /// Whether it is valid.
    pub state: NodeTokenState,
    /// When it was created, RFC 3339.
    pub created: String,
    /// The caller that created it.
    pub created_by: String,
    /// When it expires, RFC 3339; null: never.
    pub expires: Option<String>,
    /// How many more nodes may join with it; null: any number.
    pub uses_left: Option<i64>,
    /// How many nodes have joined with it.
    pub used: i64,
    /// The node ids that it is valid for; empty: any.
    pub node_ids: Vec<String>,
}

/// Whether a join token is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeTokenState {
    /// It is valid.
    Active,
    /// It was revoked.
    Revoked,
    /// It has expired.
    Expired,
    /// As many nodes have joined with it as may.
    #[serde(rename = "used up")]
    UsedUp,
}

names!(NodeTokenState { Active = "active", Revoked = "revoked", Expired = "expired", UsedUp = "used up" });

/// A join token to create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewNodeToken {
    /// How long it is valid, or `never` for a token that does not expire; 24 hours when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["24h", "never"]))]
    pub ttl: Option<String>,
    /// How many nodes may join with it; any number when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub uses: Option<u32>,
    /// The node ids that it is valid for; any when empty.
    #[serde(default)]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 253)))]
    pub node_ids: Vec<String>,
}

/// A new join token with its secret, which is shown only this once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedNodeToken {
    /// The token.
    #[serde(flatten)]
    pub info: NodeToken,
    /// The secret.
    pub token: String,
}

/// A join token was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevokedNodeToken {
    /// Its id.
    pub id: i64,
    /// Always `revoked`.
    pub state: NodeTokenState,
}

/// An entry of the audit log: a change, or a refused call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    /// Its number; later entries have larger ones.
    pub id: i64,
    /// When, RFC 3339.
    pub time: String,
    /// Name of the token, `anonymous@ADDRESS`, or a part of the control plane.
    pub actor: String,
    /// The caller's role; empty without one.
    pub role: String,
    /// The way of the call.
    #[schemars(extend("examples" = ["rest", "grpc", "dashboard", "nodes", "start", "audit"]))]
    pub source: String,
    /// Method and path, or the gRPC method.
    pub action: String,
    /// The outcome.
    pub outcome: Outcome,
    /// Details in words.
    pub detail: String,
    /// The revision that it made; null: none.
    pub revision: Option<u64>,
    /// Number of equal refusals that this entry stands for.
    pub times: u64,
}

/// The outcome of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Ok,
    /// It was allowed and failed.
    Failed,
    /// It was not allowed.
    Refused,
}

names!(Outcome { Ok = "ok", Failed = "failed", Refused = "refused" });

/// Query of `GET /audit`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AuditQuery {
    /// Only entries listed after the one with this id, that is older ones.
    pub after: Option<i64>,
    /// Items per page, at most 1000; 100 when absent.
    pub limit: Option<u32>,
    /// `next_page_token` of the page before; not together with `after`.
    pub page_token: Option<String>,
}
