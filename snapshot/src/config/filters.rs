//! What a route asks of a request before it goes on: addresses, methods, a rate, a password, a token.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::seconds;
use crate::units::HumanDuration;

/// Whose requests are taken. The longest prefix that holds the client's address decides; where none does, an address is
/// taken only if `allow` is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct IpFilter {
    /// Prefixes such as `10.0.0.0/8` or `2001:db8::/32`, or single addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// The same for who is refused with 403.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

/// How often who may ask.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct RateLimit {
    /// So many requests …
    pub requests: u32,
    /// … in so much time, evenly.
    pub per: HumanDuration,
    /// So many at once, after a pause; absent: as many as `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Only with `key: { header: … }`: how many values that the node does not remember one client address may bring in
    /// `per`; absent: as many as `requests`, at least 10. It bounds what invented values gain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_values: Option<u32>,
    /// Who shares a limit.
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub key: RateKey,
    /// Whether each node has the limit for itself.
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub scope: RateScope,
}

/// Who shares a rate limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateKey {
    /// Each client's address has its own; of IPv6 its /64.
    #[default]
    ClientIp,
    /// All requests of the route share one.
    Route,
    /// Each value of this header has its own; requests without it go by the client's address.
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

/// Where a rate limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateScope {
    /// Each node has the whole limit.
    #[default]
    Node,
    /// The nodes that are connected share it in equal parts.
    Fleet,
}

/// Asks for a name and a password (RFC 7617).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BasicAuth {
    /// What a browser shows.
    pub realm: String,
    /// Hashed passwords by name, as `weir hash-password` prints them: `$argon2id$…` or `$2b$…`.
    pub users: BTreeMap<String, String>,
    /// The header in which the backend is told the user's name.
    pub user_header: String,
    /// Whether the backend gets the password too; not when absent.
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

/// Asks for a signed token (RFC 7519, RFC 6750).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Jwt {
    /// What the token's `iss` must be.
    pub issuer: String,
    /// One of these must be in the token's `aud`.
    pub audience: Vec<String>,
    /// The public keys, as a JSON Web Key Set (RFC 7517).
    pub jwks: Jwks,
    /// What tokens may be signed with.
    pub algorithms: Vec<String>,
    /// The header that carries the token: of `authorization` what follows `Bearer`, of any other the whole.
    pub header: String,
    /// A cookie that carries it where the header is absent. The first one of this name that is valid is taken; the
    /// backend does not get the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// What the backend is told of a token: the header for each claim.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims_to_headers: BTreeMap<String, String>,
    /// So much may clocks differ.
    pub leeway: HumanDuration,
    /// Whether the backend gets the token too; it does when absent.
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

/// A JSON Web Key Set as text; in the file it may be written out as an object as well.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Jwks(pub String);

impl<'de> Deserialize<'de> for Jwks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self(text)),
            object @ serde_json::Value::Object(_) => Ok(Self(object.to_string())),
            _ => Err(D::Error::custom("a JSON Web Key Set: an object with keys, or its text")),
        }
    }
}
