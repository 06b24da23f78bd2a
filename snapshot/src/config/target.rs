//! Where a route sends a request, and as what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{WebScheme, is_default, one, seconds};
use crate::units::HumanDuration;

/// One pool of a split.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Share {
    /// The pool's name.
    pub pool: String,
    /// Its part of the requests, 0 to 1000; 0: none.
    #[serde(default = "one")]
    pub weight: u32,
}

/// Keeps a client at the pool of a split that it was given first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SplitSticky {
    /// The name of the cookie; absent: `weir_split-` and the route's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// A client that did not come for so long is given a pool anew.
    pub ttl: HumanDuration,
}

impl Default for SplitSticky {
    fn default() -> Self {
        Self { cookie: None, ttl: seconds(3600) }
    }
}

/// What is changed of a request's target on its way to the backend. The query is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Rewrite {
    /// Taken off the beginning of the path, up to the border of a segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_prefix: Option<String>,
    /// Put in the place of what `match.path` names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_prefix: Option<String>,
    /// Put in the place of the whole path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The Host that the backend is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Maps URLs of the backend back to those of clients: `Location`, `Content-Location`, `Refresh`, and the path and
    /// domain of cookies in responses; `Destination` in requests (WebDAV). Not with `path`.
    #[serde(skip_serializing_if = "is_default")]
    pub map_answers: bool,
    /// A request header that gets the prefix which clients see and the backend does not, beside `X-Forwarded-Prefix`;
    /// for example `x-script-name`. Only with `strip_prefix` or `replace_prefix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_header: Option<String>,
}

/// Where a client is sent; what is absent stays as the client asked for it. The query is kept, unless `path` has one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Redirect {
    /// Another scheme.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<WebScheme>,
    /// Another host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Another port; absent: the client's, or the scheme's own where scheme or host is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Put in the place of the whole path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Taken off the beginning of the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_prefix: Option<String>,
    /// Put in the place of what `match.path` names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_prefix: Option<String>,
    /// 301, 302, 303, 307 or 308.
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
    /// Where its requests go, for tables: `books`, `books 90, books-next 10`, `→ https`.
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

/// What is changed of a message's header: first removed, then set, then added.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HeaderEdits {
    /// In the place of all fields of this name.
    #[serde(skip_serializing_if = "is_default")]
    pub set: std::collections::BTreeMap<String, String>,
    /// Beside what is there.
    #[serde(skip_serializing_if = "is_default")]
    pub add: std::collections::BTreeMap<String, String>,
    /// All fields of these names.
    #[serde(skip_serializing_if = "is_default")]
    pub remove: Vec<String>,
}
