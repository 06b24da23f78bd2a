//! Which requests a route matches.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_default;

/// Which requests a route matches. Absent conditions match everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Match {
    /// Host names; one must match. A name, `*.` with a suffix, or `*`.
    #[serde(skip_serializing_if = "is_default")]
    pub hosts: Vec<String>,
    /// Path prefix; matches whole segments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Exact path; instead of `path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_exact: Option<String>,
    /// Methods; one must match.
    #[serde(skip_serializing_if = "is_default")]
    pub methods: Vec<String>,
    /// Scheme of the client's request; absent: both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<WebScheme>,
    /// Headers; all must match.
    #[serde(skip_serializing_if = "is_default")]
    pub headers: BTreeMap<String, HeaderMatch>,
}

/// URL scheme of a request or a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WebScheme {
    /// Cleartext HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl WebScheme {
    /// The scheme as written in a URL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What happens to request headers with underscores. CGI, WSGI, FastCGI and PHP backends cannot tell them from other
/// headers: `X_Weir_User` and `X-Weir-User` both become `HTTP_X_WEIR_USER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnderscoreHeaders {
    /// Drops headers that would be mistaken for a header that Weir writes, removes or vouches for.
    #[default]
    DropAliases,
    /// Drops all headers with an underscore in their name.
    Drop,
    /// Passes all headers on.
    Pass,
}

/// Condition on a header: `"value"`, `{ present: true }` or `{ present: false }`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HeaderMatch {
    /// One of the header's values equals this text.
    Exact(String),
    /// Whether the header is present.
    Present(bool),
}

impl Serialize for HeaderMatch {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Exact(value) => serializer.serialize_str(value),
            Self::Present(present) => serializer.collect_map([("present", present)]),
        }
    }
}

impl<'de> Deserialize<'de> for HeaderMatch {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = HeaderMatch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a header's value as text (in quotes where it looks like a number), or { present: true } or { present: false }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<HeaderMatch, E> {
                Ok(HeaderMatch::Exact(text.to_owned()))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<HeaderMatch, A::Error> {
                #[derive(Deserialize)]
                struct Presence {
                    present: bool,
                }
                let presence = Presence::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(HeaderMatch::Present(presence.present))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl fmt::Display for Match {
    /// For tables: `api.example.com/v1* GET x-canary: 1`; `*` matches everything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if !self.hosts.is_empty() {
            words.push(self.hosts.join(", "));
        }
        words.extend(self.paths());
        if !self.methods.is_empty() {
            words.push(self.methods.join(", "));
        }
        words.extend(self.scheme.map(|scheme| scheme.name().to_owned()));
        words.extend(self.headers.iter().map(|(name, wanted)| match wanted {
            HeaderMatch::Exact(value) => format!("{name}: {value}"),
            HeaderMatch::Present(true) => format!("{name}: *"),
            HeaderMatch::Present(false) => format!("no {name}"),
        }));
        f.write_str(if words.is_empty() { "*" } else { "" })?;
        f.write_str(&words.join(" · "))
    }
}

impl Match {
    /// The path condition for tables: `/v1*` for a prefix, `= /v1` for an exact path.
    pub fn paths(&self) -> Option<String> {
        match (&self.path, &self.path_exact) {
            (Some(prefix), _) => Some(format!("{prefix}*")),
            (None, exact) => exact.as_ref().map(|exact| format!("= {exact}")),
        }
    }
}
