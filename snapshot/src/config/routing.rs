//! What a route takes, and what it does with it.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_default;

/// Which requests a route takes. What is absent asks for nothing, so that an empty one takes everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Match {
    /// One of these hosts: a name, `*.` and what it ends with, or `*`.
    #[serde(skip_serializing_if = "is_default")]
    pub hosts: Vec<String>,
    /// What the path begins with, up to the border of a segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The whole path; instead of `path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_exact: Option<String>,
    /// One of these methods.
    #[serde(skip_serializing_if = "is_default")]
    pub methods: Vec<String>,
    /// How the client came; absent: either way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<WebScheme>,
    /// All of these headers.
    #[serde(skip_serializing_if = "is_default")]
    pub headers: BTreeMap<String, HeaderMatch>,
}

/// How a client comes, and where a redirect sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WebScheme {
    /// In the clear.
    Http,
    /// By TLS.
    Https,
}

impl WebScheme {
    /// As a URL has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What happens to request headers whose names become those of other headers in CGI, WSGI, FastCGI and PHP backends,
/// where `X_Weir_User` and `X-Weir-User` are both `HTTP_X_WEIR_USER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnderscoreHeaders {
    /// Headers that become one that Weir writes, removes or vouches for are dropped.
    #[default]
    DropAliases,
    /// All headers with an underscore in their name are dropped as well.
    Drop,
    /// All are passed on.
    Pass,
}

/// What a header must be: `"value"`, `{ present: true }` or `{ present: false }`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HeaderMatch {
    /// One of its values is this one.
    Exact(String),
    /// It is there, or it is not.
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
    /// For tables: `api.example.com/v1* GET x-canary: 1`; `*` for everything.
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
    /// The paths for tables: `/v1*` for a prefix, `= /v1` for a whole one.
    pub fn paths(&self) -> Option<String> {
        match (&self.path, &self.path_exact) {
            (Some(prefix), _) => Some(format!("{prefix}*")),
            (None, exact) => exact.as_ref().map(|exact| format!("= {exact}")),
        }
    }
}
