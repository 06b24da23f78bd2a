//! The checked configuration: values that cannot be wrong, made only by [`check`](crate::check::check).

mod filters;
mod resilience;
mod target;
mod tls;

use std::{fmt, num::NonZeroU32, str::FromStr, sync::Arc, time::Duration};

use weir_http::{CookieNames, aliases::HeaderGuard};

pub use self::{
    filters::{BasicAuth, Filters, IpRules, Jwt, RateLimit},
    resilience::{Breaker, Fallback, Limits, Resilience, Retry, Sticky},
    target::{NoRedirect, Redirect, Rewrite, Share, Split, Target, UrlMap},
    tls::{Certificate, CertificateName, Chain, KeyId, UpstreamTls},
};
use crate::{
    config::{BackendState, Protocol, Settings, Strategy},
    headers::HeaderRules,
    networks::Networks,
    problem::Problem,
    routing::{Match, Router},
};

/// The whole checked configuration of one revision. Immutable: a change makes a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// What holds for the whole fleet.
    pub settings: Settings,
    /// Whose word on where a request came from is believed.
    pub trusted_proxies: Networks,
    /// In the order of the configuration; routes refer to them by index.
    pub pools: Vec<Pool>,
    /// In the order of the configuration.
    pub routes: Vec<Route>,
    /// Finds a request its route, as an index.
    pub router: Router,
    /// What is allowed and looks like a mistake.
    pub warnings: Vec<Problem>,
    /// In the order of the configuration.
    pub certificates: Vec<Certificate>,
}

/// Backends that share a strategy, a health check and a resilience policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Unique among the pools.
    pub name: Arc<str>,
    /// How a backend is picked.
    pub strategy: Strategy,
    /// How the control plane probes.
    pub health_check: HealthCheck,
    /// Deadlines towards the backends.
    pub timeouts: Timeouts,
    /// How a node finds out that a backend is gone.
    pub keep_alive: KeepAlive,
    /// How it picks and what it does about failures.
    pub resilience: Resilience,
    /// What its backends speak.
    pub protocol: Protocol,
    /// Requests to its backends have no `Via` of Weir's own.
    pub omit_via: bool,
    /// How its `https://` backends are spoken to.
    pub tls: UpstreamTls,
    /// No two with the same URL.
    pub backends: Vec<Backend>,
}

/// Deadlines towards backends; none is zero but where it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To open a connection.
    pub connect: Duration,
    /// To the head of the answer.
    pub response: Duration,
    /// Between two pieces of an answer's body; zero: no limit.
    pub response_body: Duration,
    /// How long an unused connection is kept.
    pub idle: Duration,
    /// How long a tunnel may be silent.
    pub tunnel: Duration,
}

/// What a route says in place of the settings and the pool; `None`: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouteBounds {
    /// To the head of the answer; not zero.
    pub response: Option<Duration>,
    /// Between two pieces of an answer's body; zero: no limit.
    pub response_body: Option<Duration>,
    /// A client's pause within a request's body; zero: no limit.
    pub request_body: Option<Duration>,
    /// How long a client may take nothing of an answer; zero: no limit.
    pub send: Option<Duration>,
    /// Bytes per second; 0: no limit.
    pub min_body_rate: Option<u64>,
}

/// How a node finds out that a backend is gone without closing its connections; zero is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// From one TCP keep-alive probe to the next.
    pub tcp: Duration,
    /// From one HTTP/2 PING to the next while requests run.
    pub ping: Duration,
    /// How long a PING or data may go without an acknowledgement on an HTTP/2 connection.
    pub timeout: Duration,
}

/// How the control plane probes a pool's backends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// What a probe is; `None`: no probes.
    pub probe: Option<HealthProbe>,
    /// From one probe to the next, at least 100 ms.
    pub interval: Duration,
    /// From one probe to the next after a change; at least 100 ms, and at most `interval`.
    pub fast_interval: Duration,
    /// At most this long.
    pub timeout: Duration,
    /// Good probes in a row that bring a backend up, at least 1.
    pub rise: u32,
    /// Failed probes in a row that take it down, at least 1.
    pub fall: u32,
}

/// What a probe is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HealthProbe {
    /// GET of this path; good when the status is among the expected.
    Http {
        /// Begins with `/`.
        path: String,
        /// The statuses that count as good.
        expect: Expectation,
        /// What the body must contain.
        body: Option<String>,
        /// The host to ask for; `None`: the backend's own.
        host: Option<String>,
    },
    /// A connection that is accepted is good.
    Tcp,
    /// gRPC's health protocol says that it serves.
    Grpc {
        /// The service to ask for; empty: the whole server.
        service: String,
        /// The host to ask for; `None`: the backend's own.
        host: Option<String>,
    },
}

/// Statuses that count as good, as inclusive ranges.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Expectation(Vec<(u16, u16)>);

impl Expectation {
    /// Whether the status counts as good.
    pub fn accepts(&self, status: u16) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&status))
    }
}

impl FromStr for Expectation {
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
                        "{text:?} is not a list of statuses (write for example 200, 200-399 or 200,204)"
                    )),
                }
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// The name by which a backend is known to the whole fleet; never reused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(pub Arc<str>);

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One address that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Known to the whole fleet.
    pub id: BackendId,
    /// Where it is.
    pub url: BackendUrl,
    /// Its share.
    pub weight: Weight,
    /// Whether it takes traffic.
    pub state: BackendState,
}

/// A share of the traffic, 1 to [`Weight::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(NonZeroU32);

impl Weight {
    /// The greatest weight.
    pub const MAX: u32 = 1000;

    /// The weight, if it is in bounds.
    pub fn new(weight: u32) -> Option<Self> {
        NonZeroU32::new(weight).filter(|weight| weight.get() <= Self::MAX).map(Self)
    }

    /// As a number.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

/// How a backend is spoken to.
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

/// A host as a URL names it: an address, or a name to be looked up.
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

/// A backend's URL: scheme, host and port, nothing else. Prints in its canonical form, with the port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BackendUrl {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Where it is.
    pub host: Host,
    /// Its port, never 0.
    pub port: u16,
}

impl fmt::Display for BackendUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

impl FromStr for BackendUrl {
    type Err = String;

    /// Reads `http://host[:port]` or `https://host[:port]`. The message of an error says what is wrong with which URL.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("{text:?} {what}"));
        let Some((scheme, rest)) = text.split_once("://") else {
            return wrong("has no scheme (write http://host:port)");
        };
        let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            _ => return wrong("has an unsupported scheme (supported: http, https)"),
        };
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !matches!(tail, "" | "/") {
            return wrong("has a path, query or fragment; a backend is only scheme, host and port");
        }
        if authority.contains('@') {
            return wrong("has user information; a backend is only scheme, host and port");
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let Some((address, port)) = rest.split_once(']') else {
                    return wrong("has an IPv6 address without its closing bracket");
                };
                let Ok(address) = address.parse::<std::net::Ipv6Addr>() else {
                    return wrong("has a bad IPv6 address");
                };
                (Host::Address(address.into()), port)
            }
            None => {
                let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
                match host.parse::<std::net::Ipv4Addr>() {
                    Ok(address) => (Host::Address(address.into()), port),
                    Err(_) if is_dns_name(host) => (Host::Name(host.to_ascii_lowercase()), port),
                    Err(_) if host.is_empty() => return wrong("has no host"),
                    Err(_) => return wrong("has a bad host name"),
                }
            }
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => default_port,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => match digits.parse::<u16>() {
                Ok(port) if port > 0 => port,
                _ => return wrong("has a bad port (1 to 65535)"),
            },
            _ => return wrong("has a bad port (1 to 65535)"),
        };
        Ok(Self { scheme, host, port })
    }
}

/// RFC 1123 host names, and `_` as container networks use it. A name that ends with a number is an address in another
/// spelling, such as `0x7f000001` and `127.1`, to the system's resolver.
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

/// What matches, and what happens then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Unique among the routes.
    pub name: Arc<str>,
    /// Which requests it takes.
    pub matches: Match,
    /// Where its requests go; pools are indexes in [`Snapshot::pools`].
    pub target: Target,
    /// What is changed of a request's target.
    pub rewrite: Rewrite,
    /// What is changed of a request's header.
    pub request_headers: Option<Arc<HeaderRules>>,
    /// What is changed of an answer's header.
    pub response_headers: Option<Arc<HeaderRules>>,
    /// What answers when the pool has no backend to offer.
    pub fallback: Option<Fallback>,
    /// Bytes of a request's body; `u64::MAX`: no limit.
    pub max_body: u64,
    /// From a request's head to the end of its answer; `None`: as long as it takes.
    pub request_timeout: Option<Duration>,
    /// What it says in place of the settings and the pool.
    pub bounds: RouteBounds,
    /// What it asks of a request; `None`: nothing.
    pub filters: Option<Arc<Filters>>,
    /// The request headers that it vouches for; `None`: none.
    pub guard: Option<Arc<HeaderGuard>>,
    /// The session cookies of all routes of its hosts, which no backend gets.
    pub session_cookies: Vec<Arc<CookieNames>>,
    /// The value of `Strict-Transport-Security`, for answers over HTTPS.
    pub hsts: Option<Arc<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_scheme_host_and_port() {
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
            ("http://a:0", "bad port"),
            ("http://a:65536", "bad port"),
            ("http://a:port", "bad port"),
            ("http://a:", "bad port"),
            ("http://a:+80", "bad port"),
            ("http://a/path", "path"),
            ("http://a?q", "path"),
            ("http://user:pw@a", "user information"),
            ("ftp://a", "unsupported scheme"),
            ("http://", "no host"),
            ("http://:80", "no host"),
            ("http://a b", "bad host"),
            ("http://127.1", "bad host"),
            ("http://0x7f000001", "bad host"),
            ("http://0X7F.0x1.", "bad host"),
            ("http://a.0x7f", "bad host"),
            ("http://a.1", "bad host"),
            ("http://999.1.1.1", "bad host"),
            ("http://[::1", "bracket"),
            ("http://[zz]:1", "IPv6"),
            ("http://a\r\nx", "bad host"),
        ] {
            let error = text.parse::<BackendUrl>().expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn expectations_are_ranges() {
        let expect: Expectation = "200-299, 304".parse().unwrap();
        assert!(expect.accepts(204) && expect.accepts(304) && !expect.accepts(302));
        for text in ["", "abc", "300-200", "99", "600", "200-"] {
            assert!(text.parse::<Expectation>().is_err(), "{text}");
        }
    }
}
