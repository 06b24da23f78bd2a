//! Where a route sends a request, and how it changes the request.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{WebScheme, is_default, pool::one, seconds};
use crate::units::HumanDuration;

/// One pool of a split.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Share {
    /// Name of the pool.
    pub pool: String,
    /// Relative share of the requests, 0 to 1000; 0: no requests.
    #[serde(default = "one")]
    pub weight: u32,
}

/// Keeps a client on the pool of a split that it got first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SplitSticky {
    /// Name of the cookie; absent: `weir_split-` and the route's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// A client is assigned to a pool again when it sends no request for this long.
    pub ttl: HumanDuration,
}

impl Default for SplitSticky {
    fn default() -> Self {
        Self { cookie: None, ttl: seconds(3600) }
    }
}

/// Changes to the request's path and host before it goes to the backend. The query is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Rewrite {
    /// Prefix that is removed from the path; matches whole segments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_prefix: Option<String>,
    /// Replaces the prefix in `match.path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_prefix: Option<String>,
    /// Replaces the whole path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Replaces the Host header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Translates the backend's URLs back to the client's: `Location`, `Content-Location`, `Refresh`, and the path
    /// and domain of cookies in responses, `Destination` (WebDAV) in requests. Not with `path`.
    #[serde(skip_serializing_if = "is_default")]
    pub map_answers: bool,
    /// Additional request header with the path prefix that only clients see, beside `X-Forwarded-Prefix`; for example
    /// `x-script-name`. Only with `strip_prefix` or `replace_prefix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_header: Option<String>,
}

/// Redirects the client. Absent parts of the URL stay as requested. The query is kept unless `path` has one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Redirect {
    /// New scheme.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<WebScheme>,
    /// New host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// New port; absent: the requested port, or the scheme's default port if scheme or host change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Replaces the whole path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Prefix that is removed from the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_prefix: Option<String>,
    /// Replaces the prefix in `match.path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_prefix: Option<String>,
    /// Status of the redirect: 301, 302, 303, 307 or 308.
    #[serde(skip_serializing_if = "is_308")]
    pub status: u16,
}

impl Default for Redirect {
    fn default() -> Self {
        Self {
            scheme: None,
            host: None,
            port: None,
            path: None,
            strip_prefix: None,
            replace_prefix: None,
            status: 308,
        }
    }
}

fn is_308(status: &u16) -> bool {
    *status == 308
}

impl super::Route {
    /// The route's target for tables: `books`, `books 90, books-next 10`, `→ https`.
    pub fn target(&self) -> String {
        let Some(redirect) = &self.redirect else {
            let shares = self.split.iter().map(|share| format!("{} {}", share.pool, share.weight));
            return if self.split.is_empty() {
                self.pool.clone()
            } else {
                shares.collect::<Vec<_>>().join(", ")
            };
        };
        let Redirect { scheme, host, port, path, strip_prefix, replace_prefix, status } = redirect;
        let mut words = vec![format!("→ {status}")];
        words.extend(scheme.map(|scheme| format!("{}://", scheme.name())));
        words.extend(host.clone());
        words.extend(port.map(|port| format!(":{port}")));
        words.extend(path.clone());
        words.extend(strip_prefix.as_ref().map(|prefix| format!("without {prefix}")));
        words.extend(replace_prefix.as_ref().map(|prefix| format!("under {prefix}")));
        words.join(" ")
    }
}

/// Changes to header fields, in the order remove, set, add.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HeaderEdits {
    /// Fields to set; replaces existing fields of the same name.
    #[serde(skip_serializing_if = "is_default")]
    pub set: std::collections::BTreeMap<String, String>,
    /// Fields to add; existing fields of the same name stay.
    #[serde(skip_serializing_if = "is_default")]
    pub add: std::collections::BTreeMap<String, String>,
    /// Names of fields to remove.
    #[serde(skip_serializing_if = "is_default")]
    pub remove: Vec<String>,
}
