//! Checked targets of routes: pools, splits, rewrites and redirects.

use crate::{
    config::WebScheme,
    routing::{PathFault, PathRewrite},
    snapshot::Sticky,
};

/// Where a route's requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Index of a pool.
    Pool(usize),
    /// One of several pools, by weight.
    Split(Split),
    /// The client is redirected.
    Redirect(Redirect),
}

impl Target {
    /// Indexes of the pools that may get requests.
    pub fn pools(&self) -> impl Iterator<Item = usize> {
        let (one, shares) = match self {
            Self::Pool(pool) => (Some(*pool), &[][..]),
            Self::Split(split) => (None, &split.shares[..]),
            Self::Redirect(_) => (None, &[][..]),
        };
        one.into_iter().chain(shares.iter().map(|share| share.pool))
    }
}

/// Several pools by weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Each pool once.
    pub shares: Vec<Share>,
    /// Sum of all weights, at least 1.
    pub total: u32,
    /// Keeps a client on its pool.
    pub sticky: Option<Sticky>,
}

/// One pool of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Index of the pool.
    pub pool: usize,
    /// 0 to 1000.
    pub weight: u32,
}

impl Split {
    /// Index of the share that contains `number`, which is below [`total`](Self::total).
    pub fn pick(&self, mut number: u32) -> usize {
        for (place, share) in self.shares.iter().enumerate() {
            if number < share.weight {
                return place;
            }
            number -= share.weight;
        }
        0
    }
}

/// Changes to the request before it goes to the backend.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewrite {
    /// New path.
    pub path: Option<PathRewrite>,
    /// New Host header, an authority.
    pub host: Option<Box<str>>,
    /// How URLs in responses are mapped back; `None`: not at all.
    pub map: Option<UrlMap>,
    /// The prefix that only clients see, as part of a URL.
    pub prefix: Option<Box<str>>,
    /// Additional header with the prefix, in lower case.
    pub prefix_header: Option<Box<str>>,
}

/// A pair of path prefixes, each empty or without a trailing slash: `outer` in clients' URLs corresponds to `inner`
/// in the backend's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UrlMap {
    /// Prefix in URLs of clients.
    pub outer: Box<str>,
    /// Prefix in URLs of the backend.
    pub inner: Box<str>,
}

/// Where a client is redirected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// `None`: the requested scheme.
    pub scheme: Option<WebScheme>,
    /// `None`: the requested host.
    pub host: Option<Box<str>>,
    /// `None`: the requested port, or the scheme's default port if scheme or host change.
    pub port: Option<u16>,
    /// `None`: the requested path.
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// Why a client cannot be redirected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectError {
    /// Neither the request nor the route has a host.
    NoHost,
    /// The new URL equals the requested one.
    Loop,
    /// The path is ambiguous.
    Path(PathFault),
}

impl Redirect {
    /// The redirect URL for a request to `authority` with this path and query.
    ///
    /// # Errors
    /// The client cannot be redirected.
    pub fn location(
        &self,
        came_by: WebScheme,
        authority: Option<&[u8]>,
        target: &[u8],
    ) -> Result<Vec<u8>, RedirectError> {
        let scheme = self.scheme.unwrap_or(came_by);
        let (own_host, own_port) = split(authority.unwrap_or_default());
        let host = self.host.as_ref().map_or(own_host, |host| host.as_bytes());
        if host.is_empty() {
            return Err(RedirectError::NoHost);
        }
        let stays = scheme == came_by && host.eq_ignore_ascii_case(own_host);
        let port = match self.port {
            Some(port) if port == default_port(scheme) => Vec::new(),
            Some(port) => format!(":{port}").into_bytes(),
            None if stays => own_port.to_vec(),
            None => Vec::new(),
        };
        let rewritten = match &self.path {
            Some(path) => path.apply(target).map_err(RedirectError::Path)?,
            None => None,
        };
        let is_same = stays
            && (self.port.is_none() || port == own_port || port.is_empty() && is_default(own_port, scheme))
            && rewritten.as_deref().is_none_or(|rewritten| rewritten == target);
        if is_same {
            return Err(RedirectError::Loop);
        }
        // A request without a path (`OPTIONS *`) is redirected to the root.
        let target = if target.starts_with(b"/") { target } else { b"/" };
        let path = rewritten.as_deref().unwrap_or(target);
        Ok([scheme.name().as_bytes(), b"://", host, &port, path].concat())
    }
}

fn default_port(scheme: WebScheme) -> u16 {
    match scheme {
        WebScheme::Http => 80,
        WebScheme::Https => 443,
    }
}

fn is_default(port: &[u8], scheme: WebScheme) -> bool {
    port.is_empty() || port == format!(":{}", default_port(scheme)).as_bytes()
}

/// Splits an authority into the host and the port with its colon.
fn split(authority: &[u8]) -> (&[u8], &[u8]) {
    let after = authority.iter().position(|byte| *byte == b']').map_or(0, |at| at + 1);
    let colon =
        authority[after..].iter().position(|byte| *byte == b':').map_or(authority.len(), |at| after + at);
    authority.split_at(colon)
}

#[cfg(test)]
mod tests {
    use WebScheme::{Http, Https};

    use super::*;
    use crate::routing::PathPattern;

    const NOTHING: Redirect = Redirect { scheme: None, host: None, port: None, path: None, status: 308 };

    #[test]
    fn a_redirect_changes_the_given_parts_and_keeps_the_rest() {
        let https = || Redirect { scheme: Some(Https), ..NOTHING };
        let host = || Redirect { host: Some("b".into()), ..NOTHING };
        let strip = PathRewrite::Prefix { from: PathPattern::parse("/v1", false).unwrap(), to: "/v2".into() };
        for (redirect, came, asked, target, expected) in [
            (https(), Http, "a:8080", "/x?y", "https://a/x?y"),
            (Redirect { port: Some(8443), ..https() }, Http, "a:8080", "/", "https://a:8443/"),
            (Redirect { port: Some(443), ..https() }, Http, "a:8080", "/", "https://a/"),
            (https(), Http, "[::1]:80", "/", "https://[::1]/"),
            (host(), Http, "a:8080", "/x", "http://b/x"),
            (host(), Https, "a", "/x", "https://b/x"),
            (
                Redirect { path: Some(strip.clone()), ..NOTHING },
                Http,
                "a:81",
                "/v1/x?y",
                "http://a:81/v2/x?y",
            ),
            (
                Redirect { path: Some(PathRewrite::Whole("/new?z=1".into())), ..NOTHING },
                Http,
                "a",
                "/x?y",
                "http://a/new?z=1",
            ),
            // A path that looks like an authority stays a path.
            (https(), Http, "a", "//evil.example/", "https://a//evil.example/"),
            (https(), Http, "a", "*", "https://a/"),
        ] {
            let found = redirect.location(came, Some(asked.as_bytes()), target.as_bytes());
            assert_eq!(
                found.map(|url| String::from_utf8(url).unwrap()).as_deref(),
                Ok(expected),
                "{redirect:?}"
            );
        }
        let refused = |redirect: Redirect, came, asked: Option<&str>, target: &str| {
            redirect.location(came, asked.map(str::as_bytes), target.as_bytes()).unwrap_err()
        };
        assert_eq!(refused(https(), Https, Some("a"), "/"), RedirectError::Loop);
        assert_eq!(refused(host(), Http, Some("B"), "/"), RedirectError::Loop);
        assert_eq!(
            refused(Redirect { path: Some(strip.clone()), ..NOTHING }, Http, Some("a"), "/x"),
            RedirectError::Loop
        );
        assert_eq!(refused(https(), Http, None, "/"), RedirectError::NoHost);
        let bad = refused(Redirect { path: Some(strip), ..NOTHING }, Http, Some("a"), "/v1/../x");
        assert!(matches!(bad, RedirectError::Path(_)));
    }

    #[test]
    fn a_split_gives_each_pool_its_share() {
        let share = |pool, weight| Share { pool, weight };
        let split = Split { shares: vec![share(7, 90), share(8, 0), share(9, 10)], total: 100, sticky: None };
        let mut counts = [0; 3];
        (0..split.total).for_each(|number| counts[split.pick(number)] += 1);
        assert_eq!(counts, [90, 0, 10]);
        assert_eq!(Target::Split(split).pools().collect::<Vec<_>>(), [7, 8, 9]);
    }
}
