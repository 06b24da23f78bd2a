//! The checked configuration: types that cannot hold invalid values, created only by [`check`](crate::check::check).

mod filters;
mod resilience;
mod target;
mod tls;

use std::{fmt, num::NonZeroU32, str::FromStr, sync::Arc, time::Duration};

use weir_http::{CookieNames, aliases::HeaderGuard};

pub use self::{
    filters::{BasicAuth, Filters, IpRules, Jwt, RateLimit},
    resilience::{Breaker, Fallback, Limits, Resilience, Retry, Sticky},
    target::{Redirect, RedirectError, Rewrite, Share, Split, Target, UrlMap},
    tls::{Certificate, CertificateName, Chain, KeyId, UpstreamTls},
};
use crate::{
    config::{BackendState, Protocol, Settings, Strategy},
    headers::HeaderRules,
    networks::Networks,
    problem::Problem,
    routing::{Match, Router},
};

/// The whole checked configuration of one revision. Immutable: a change creates a new snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Settings of the whole fleet.
    pub settings: Settings,
    /// Proxies whose `X-Forwarded-*` and `Forwarded` headers are trusted.
    pub trusted_proxies: Networks,
    /// In the order of the configuration; routes refer to pools by index.
    pub pools: Vec<Pool>,
    /// In the order of the configuration.
    pub routes: Vec<Route>,
    /// Finds the index of a request's route.
    pub router: Router,
    /// Settings that are allowed but look like mistakes.
    pub warnings: Vec<Problem>,
    /// In the order of the configuration.
    pub certificates: Vec<Certificate>,
}

/// Backends that share a strategy, a health check and a resilience policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Unique among the pools.
    pub name: Arc<str>,
    /// Load-balancing algorithm.
    pub strategy: Strategy,
    /// Active health check.
    pub health_check: HealthCheck,
    /// Timeouts towards the backends.
    pub timeouts: Timeouts,
    /// How a node detects backends that disappeared.
    pub keep_alive: KeepAlive,
    /// Sessions, circuit breaker, retries and limits.
    pub resilience: Resilience,
    /// HTTP version of requests to the backends.
    pub protocol: Protocol,
    /// Whether requests to the backends have no `Via` header.
    pub omit_via: bool,
    /// TLS settings for `https://` backends.
    pub tls: UpstreamTls,
    /// URLs are unique within the pool.
    pub backends: Vec<Backend>,
}

/// Timeouts towards backends; none is zero unless stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Time to open a connection.
    pub connect: Duration,
    /// Time from the end of the request to the response head.
    pub response: Duration,
    /// Longest pause between two pieces of a response body; zero: no limit.
    pub response_body: Duration,
    /// How long an idle connection is kept.
    pub idle: Duration,
    /// How long a tunnel may be silent.
    pub tunnel: Duration,
}

/// Timeouts and limits that a route overrides; `None`: those of the settings or the pool apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouteOverrides {
    /// Time to the response head; not zero.
    pub response: Option<Duration>,
    /// Longest pause between two pieces of a response body; zero: no limit.
    pub response_body: Option<Duration>,
    /// Longest pause while a client sends a request body; zero: no limit.
    pub request_body: Option<Duration>,
    /// Longest time in which a client accepts no byte of a response; zero: no limit.
    pub send: Option<Duration>,
    /// Minimum rate of a body in bytes per second; 0: no limit.
    pub min_body_rate: Option<u64>,
}

/// How a node detects backends that disappeared without closing their connections; zero disables a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// Time between two TCP keep-alive probes.
    pub tcp: Duration,
    /// Time between two HTTP/2 PINGs while requests run.
    pub ping: Duration,
    /// How long a PING or data may stay unacknowledged on an HTTP/2 connection.
    pub timeout: Duration,
}

/// Active health check of a pool's backends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// Type of probe; `None`: no probes.
    pub probe: Option<HealthProbe>,
    /// Time between two probes, at least 100 ms.
    pub interval: Duration,
    /// Time between two probes after a change; at least 100 ms and at most `interval`.
    pub fast_interval: Duration,
    /// Timeout of a probe.
    pub timeout: Duration,
    /// Successful probes in a row after which a backend is up, at least 1.
    pub rise: u32,
    /// Failed probes in a row after which a backend is down, at least 1.
    pub fall: u32,
}

/// Type of probe.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HealthProbe {
    /// A GET request that must return an expected status.
    Http {
        /// Starts with `/`.
        path: String,
        /// Statuses that count as success.
        expect: ExpectedStatus,
        /// Text that the response body must contain.
        body: Option<String>,
        /// Host header; `None`: the backend's host.
        host: Option<String>,
    },
    /// A TCP connection that must be accepted.
    Tcp,
    /// The gRPC health checking protocol must report SERVING.
    Grpc {
        /// Service name; empty: the whole server.
        service: String,
        /// Authority; `None`: the backend's host.
        host: Option<String>,
    },
}

/// Statuses that count as success, as inclusive ranges.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExpectedStatus(Vec<(u16, u16)>);

impl ExpectedStatus {
    /// Whether the status counts as success.
    pub fn accepts(&self, status: u16) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&status))
    }
}

impl FromStr for ExpectedStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let status =
            |text: &str| text.trim().parse::<u16>().ok().filter(|status| (100..=599).contains(status));
        text.split(',')
            .map(|part| {
                let (from, to) = part.split_once('-').unwrap_or((part, part));
                match (status(from), status(to)) {
                    (Some(from), Some(to)) if from <= to => Ok((from, to)),
                    _ => Err(format!(
                        "{text:?} is not a list of statuses (expected for example 200, 200-399 or 200,204)"
                    )),
                }
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// Id of a backend, unique in the whole fleet and never reused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(pub Arc<str>);

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One backend of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Unique in the whole fleet.
    pub id: BackendId,
    /// Address of the backend.
    pub url: BackendUrl,
    /// Relative share of the traffic.
    pub weight: Weight,
    /// Whether it takes traffic.
    pub state: BackendState,
}

/// Relative share of the traffic, 1 to [`Weight::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(NonZeroU32);

impl Weight {
    /// The greatest weight.
    pub const MAX: u32 = 1000;

    /// Returns the weight if it is within bounds.
    pub fn new(weight: u32) -> Option<Self> {
        NonZeroU32::new(weight).filter(|weight| weight.get() <= Self::MAX).map(Self)
    }

    /// The weight as a number.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

/// URL scheme of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// TLS.
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// The host of a URL: an IP address, or a name to resolve.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An IPv4 or IPv6 address.
    Address(std::net::IpAddr),
    /// A DNS name, in lower case.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(std::net::IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A backend's URL: only scheme, host and port. Displays in canonical form, with the port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BackendUrl {
    /// URL scheme.
    pub scheme: Scheme,
    /// IP address or name.
    pub host: Host,
    /// Port, never 0.
    pub port: u16,
}

impl fmt::Display for BackendUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

impl FromStr for BackendUrl {
    type Err = String;

    /// Parses `http://host[:port]` or `https://host[:port]`. The error says what is wrong with which URL.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("{text:?} {what}"));
        let Some((scheme, rest)) = text.split_once("://") else {
            return wrong("has no scheme (expected http://host:port)");
        };
        let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            _ => return wrong("has an unsupported scheme (supported: http, https)"),
        };
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !matches!(tail, "" | "/") {
            return wrong("has a path, query or fragment; only scheme, host and port are allowed");
        }
        if authority.contains('@') {
            return wrong("has user information; only scheme, host and port are allowed");
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let Some((address, port)) = rest.split_once(']') else {
                    return wrong("has an IPv6 address without its closing bracket");
                };
                let Ok(address) = address.parse::<std::net::Ipv6Addr>() else {
                    return wrong("has an invalid IPv6 address");
                };
                (Host::Address(address.into()), port)
            }
            None => {
                let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
                match host.parse::<std::net::Ipv4Addr>() {
                    Ok(address) => (Host::Address(address.into()), port),
                    Err(_) if is_dns_name(host) => (Host::Name(host.to_ascii_lowercase()), port),
                    Err(_) if host.is_empty() => return wrong("has no host"),
                    Err(_) => return wrong("has an invalid host name"),
                }
            }
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => default_port,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => match digits.parse::<u16>() {
                Ok(port) if port > 0 => port,
                _ => return wrong("has an invalid port (expected 1 to 65535)"),
            },
            _ => return wrong("has an invalid port (expected 1 to 65535)"),
        };
        Ok(Self { scheme, host, port })
    }
}

/// RFC 1123 host names, plus `_`, which container networks use. The system's resolver takes a name that ends with a
/// number, such as `0x7f000001` or `127.1`, for an IPv4 address.
fn is_dns_name(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    !host.is_empty()
        && host.len() <= 253
        && !last.bytes().all(|b| b.is_ascii_digit())
        && !hex.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
        && host.trim_end_matches('.').split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// A rule that matches requests and says where they go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Unique among the routes.
    pub name: Arc<str>,
    /// Which requests match.
    pub matches: Match,
    /// Where the requests go; pools are indexes in [`Snapshot::pools`].
    pub target: Target,
    /// Changes to the request's path and host.
    pub rewrite: Rewrite,
    /// Changes to request headers.
    pub request_headers: Option<Arc<HeaderRules>>,
    /// Changes to response headers.
    pub response_headers: Option<Arc<HeaderRules>>,
    /// Response or pool to use when the pool has no available backend.
    pub fallback: Option<Fallback>,
    /// Largest request body in bytes; `u64::MAX`: no limit.
    pub max_body: u64,
    /// Time from the request head to the end of the response; `None`: no limit.
    pub request_timeout: Option<Duration>,
    /// Overrides of the settings and the pool.
    pub overrides: RouteOverrides,
    /// Filters; `None`: none.
    pub filters: Option<Arc<Filters>>,
    /// The request headers that the route vouches for; `None`: none.
    pub guard: Option<Arc<HeaderGuard>>,
    /// The session cookies of all routes of its hosts, which are not forwarded to backends.
    pub session_cookies: Vec<Arc<CookieNames>>,
    /// The value of `Strict-Transport-Security` for responses over HTTPS.
    pub hsts: Option<Arc<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_consists_of_scheme_host_and_port() {
        for (text, printed) in [
            ("http://127.0.0.1:8082", "http://127.0.0.1:8082"),
            ("http://Books.Internal", "http://books.internal:80"),
            ("HTTP://mock_1:80/", "http://mock_1:80"),
            ("http://[::1]:9000", "http://[::1]:9000"),
            ("http://0x7g", "http://0x7g:80"),
            ("http://3com.1a", "http://3com.1a:80"),
            ("https://Books.Internal", "https://books.internal:443"),
        ] {
            assert_eq!(text.parse::<BackendUrl>().map(|url| url.to_string()).as_deref(), Ok(printed));
        }
        for (text, says) in [
            ("127.0.0.1:8082", "no scheme"),
            ("http://a:0", "invalid port"),
            ("http://a:65536", "invalid port"),
            ("http://a:port", "invalid port"),
            ("http://a:", "invalid port"),
            ("http://a:+80", "invalid port"),
            ("http://a/path", "path"),
            ("http://a?q", "path"),
            ("http://user:pw@a", "user information"),
            ("ftp://a", "unsupported scheme"),
            ("http://", "no host"),
            ("http://:80", "no host"),
            ("http://a b", "invalid host"),
            ("http://127.1", "invalid host"),
            ("http://0x7f000001", "invalid host"),
            ("http://0X7F.0x1.", "invalid host"),
            ("http://a.0x7f", "invalid host"),
            ("http://a.1", "invalid host"),
            ("http://999.1.1.1", "invalid host"),
            ("http://[::1", "bracket"),
            ("http://[zz]:1", "IPv6"),
            ("http://a\r\nx", "invalid host"),
        ] {
            let error = text.parse::<BackendUrl>().expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn expected_statuses_are_ranges() {
        let expect: ExpectedStatus = "200-299, 304".parse().unwrap();
        assert!(expect.accepts(204) && expect.accepts(304) && !expect.accepts(302));
        for text in ["", "abc", "300-200", "99", "600", "200-"] {
            assert!(text.parse::<ExpectedStatus>().is_err(), "{text}");
        }
    }
}
