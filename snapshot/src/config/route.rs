//! Routes: rules that match requests and say where they go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    BasicAuth, Fallback, HeaderEdits, Hsts, IpFilter, Jwt, Match, RateLimit, Redirect, Rewrite, Share,
    SplitSticky, UnderscoreHeaders, is_default,
};
use crate::units::{ByteSize, HumanDuration};

/// A rule that matches requests and says where they go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    /// Name, unique among the routes.
    pub name: String,
    /// Which requests match; absent: all requests.
    #[serde(default, rename = "match", skip_serializing_if = "is_default")]
    pub matches: Match,
    /// The pool that gets the requests. A route has exactly one of `pool`, `split` and `redirect`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pool: String,
    /// Several pools that share the requests by weight.
    #[serde(default, skip_serializing_if = "is_default")]
    pub split: Vec<Share>,
    /// Keeps a client on the pool of the split that it got first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_sticky: Option<SplitSticky>,
    /// Redirects the client instead of forwarding the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Changes to the request's path and host.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rewrite: Rewrite,
    /// Changes to request headers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub request_headers: HeaderEdits,
    /// What happens to request headers that a backend could mistake for another header, such as `X_Forwarded_For`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub underscore_headers: UnderscoreHeaders,
    /// Changes to response headers, also of responses that Weir generates itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub response_headers: HeaderEdits,
    /// Response or pool to use when the pool has no available backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// Limits on what clients may send.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: RouteLimits,
    /// Timeouts of the route's requests.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeouts: RouteTimeouts,
    /// Allowed and denied client addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_filter: Option<IpFilter>,
    /// Allowed methods; empty: all. GET includes HEAD.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_methods: Vec<String>,
    /// Request limit per client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Requires a user name and a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// Requires a signed token (JSON Web Token).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    /// Makes browsers use HTTPS only (HTTP Strict Transport Security).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Hsts>,
}

/// Limits on what clients may send to a route.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RouteLimits {
    /// Largest request body; larger ones get 413. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body: Option<ByteSize>,
    /// Overrides `settings.downstream.min_body_rate`; 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_body_rate: Option<ByteSize>,
}

/// Timeouts of a route's requests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RouteTimeouts {
    /// Time from the request head to the end of the response, over all attempts. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<HumanDuration>,
    /// Overrides the pool's `timeouts.response`: time from the end of the request to the response head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<HumanDuration>,
    /// Overrides the pool's `timeouts.response_body`, also for event streams and gRPC: longest pause between two
    /// pieces of a response body; 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_body: Option<HumanDuration>,
    /// Overrides `settings.downstream.body_timeout`, also for gRPC: longest pause while a client sends a request
    /// body; 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_body: Option<HumanDuration>,
    /// Overrides `settings.downstream.send_timeout`: longest time in which a client accepts no byte of a response
    /// that is ready for it; 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send: Option<HumanDuration>,
}
