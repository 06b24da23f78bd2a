//! Filters of a route: client addresses, methods, rate limit, basic authentication, JSON Web Tokens.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::seconds;
use crate::units::HumanDuration;

/// Allowed and denied client addresses. The longest prefix that contains the address decides. If none does, the
/// address is allowed only if `allow` is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct IpFilter {
    /// Prefixes such as `10.0.0.0/8` or `2001:db8::/32`, or single addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Prefixes or addresses that get 403.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

/// Request limit per client.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct RateLimit {
    /// Number of requests allowed per period.
    pub requests: u32,
    /// Period over which `requests` are allowed, evenly spread.
    pub per: HumanDuration,
    /// Requests that may come at once after a pause; absent: as many as `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Only with `key: { header: … }`: number of header values unknown to the node that one client address may send
    /// per period; absent: as many as `requests`, at least 10. It limits what a client gains by inventing values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_values: Option<u32>,
    /// Which requests share a limit.
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub key: RateKey,
    /// Whether the limit holds per node or for the whole fleet.
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub scope: RateScope,
}

/// Which requests share a rate limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateKey {
    /// One limit per client address; per /64 network for IPv6.
    #[default]
    ClientIp,
    /// One limit for all requests of the route.
    Route,
    /// One limit per value of this header; requests without it share the limit of their client address.
    Header(String),
}

impl fmt::Display for RateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientIp => f.write_str("client_ip"),
            Self::Route => f.write_str("route"),
            Self::Header(name) => write!(f, "header {name}"),
        }
    }
}

/// Scope of a rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateScope {
    /// Each node allows the whole limit.
    #[default]
    Node,
    /// The connected nodes share the limit in equal parts.
    Fleet,
}

/// Requires a user name and a password (RFC 7617).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BasicAuth {
    /// Realm that browsers show in the login dialog.
    pub realm: String,
    /// Hashed passwords by user name, as `weir hash-password` prints them: `$argon2id$…` or `$2b$…`.
    pub users: BTreeMap<String, String>,
    /// Request header in which the backend gets the user name.
    pub user_header: String,
    /// Whether the backend also gets the password; false when absent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_authorization: bool,
}

impl Default for BasicAuth {
    fn default() -> Self {
        Self {
            realm: "weir".into(),
            users: BTreeMap::new(),
            user_header: "x-weir-user".into(),
            keep_authorization: false,
        }
    }
}

/// Requires a signed token (JSON Web Token: RFC 7519, RFC 6750).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Jwt {
    /// Required value of the token's `iss` claim.
    pub issuer: String,
    /// The token's `aud` claim must contain one of these.
    pub audience: Vec<String>,
    /// Public keys, as a JSON Web Key Set (RFC 7517).
    pub jwks: Jwks,
    /// Allowed signature algorithms.
    pub algorithms: Vec<String>,
    /// Request header with the token: after `Bearer` in `authorization`, the whole value in any other header.
    pub header: String,
    /// Cookie with the token, used if the header is absent. The first valid one of this name counts; the backend does
    /// not get the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// Claims that the backend gets as request headers: claim name to header name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims_to_headers: BTreeMap<String, String>,
    /// Tolerated clock difference.
    pub leeway: HumanDuration,
    /// Whether the backend also gets the token; true when absent.
    #[serde(skip_serializing_if = "Clone::clone")]
    pub keep_authorization: bool,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: Vec::new(),
            jwks: Jwks::default(),
            algorithms: vec!["RS256".into(), "ES256".into()],
            header: "authorization".into(),
            cookie: None,
            claims_to_headers: BTreeMap::new(),
            leeway: seconds(30),
            keep_authorization: true,
        }
    }
}

/// A JSON Web Key Set as text. In the file it may also be written as an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Jwks(pub String);

impl<'de> Deserialize<'de> for Jwks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self(text)),
            object @ serde_json::Value::Object(_) => Ok(Self(object.to_string())),
            _ => {
                Err(D::Error::custom("expected a JSON Web Key Set: an object with `keys`, or its JSON text"))
            }
        }
    }
}
