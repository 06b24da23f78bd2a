//! The query parameters of a page. The stream that keeps the page live takes the same query.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

/// All but the unreserved characters (RFC 3986, 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The methods that a form offers: those that nodes count by name.
pub(super) const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The query parameters of a page: the fields of its form.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct PageQuery {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) per: String,
    pub(super) route: String,
    pub(super) pool: String,
    pub(super) backend: String,
    pub(super) host: String,
    pub(super) method: String,
    pub(super) tz: String,
    pub(super) status: String,
    pub(super) min_latency: String,
    pub(super) client: String,
    pub(super) outcome: String,
    pub(super) path: String,
    pub(super) before: String,
    pub(super) url: String,
    pub(super) headers: String,
}

/// Encodes the form's fields as a query, each preceded by an ampersand.
pub(super) fn encode(params: &PageQuery) -> String {
    let fields = [
        ("from", &params.from),
        ("to", &params.to),
        ("per", &params.per),
        ("route", &params.route),
        ("pool", &params.pool),
        ("backend", &params.backend),
        ("host", &params.host),
        ("method", &params.method),
        ("tz", &params.tz),
        ("status", &params.status),
        ("min_latency", &params.min_latency),
        ("client", &params.client),
        ("outcome", &params.outcome),
        ("path", &params.path),
        ("before", &params.before),
        ("url", &params.url),
        ("headers", &params.headers),
    ];
    let given = fields.into_iter().filter(|(_, value)| !value.is_empty());
    given.map(|(name, value)| format!("&{name}={}", utf8_percent_encode(value, RESERVED))).collect()
}
