//! Header names that a backend could mistake for another header.
//!
//! CGI (RFC 3875, section 4.1.18) stores each header in a variable and replaces `-` by `_` in its name. FastCGI,
//! WSGI, Rack and PHP do the same, and some servers replace every byte that is not a letter or digit. Such a backend
//! cannot tell `X_Weir_User` from `X-Weir-User`.

/// Headers that the proxy writes, removes or reads itself.
const OWN: [&str; 15] = [
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
    "content-length",
    "transfer-encoding",
    "keep-alive",
    "max-forwards",
    "http2-settings",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "set-cookie",
    // Many HTTP clients read their proxy from the variable HTTP_PROXY (CVE-2016-5385).
    "proxy",
];

/// Headers in which proxies describe the original request. [`FAMILIES`] and [`CLIENT_IP`] add more names.
const CLAIMS: [&str; 29] = [
    "x-forwarded",
    "x-original-url",
    "x-original-uri",
    "x-original-host",
    "x-original-path",
    "x-original-method",
    "x-original-forwarded-for",
    "x-original-remote-addr",
    "x-rewrite-url",
    "x-host",
    "x-http-host-override",
    "x-scheme",
    "x-url-scheme",
    "x-arr-ssl",
    "x-real-host",
    "x-real-port",
    "x-real-proto",
    "front-end-https",
    "wl-proxy-ssl",
    "cf-connecting-ip",
    "x-remote-ip",
    "x-remote-addr",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-forward-for",
    "forwarded-for",
    "forwarded-proto",
];

/// Prefixes of claim headers.
pub const FAMILIES: [&str; 2] = ["x-forwarded-", "x-envoy-"];

/// Claim headers are named like this or end with it after a `-`: `Client-IP`, `X-Client-IP`, `True-Client-IP` and the
/// headers of other CDNs.
pub const CLIENT_IP: &str = "client-ip";

/// How a node treats a request header, judged by the header's name alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameKind {
    /// An ordinary header: passed on.
    Plain,
    /// A backend could mistake it for the named header: dropped.
    AliasOf(String),
    /// Passed on only from trusted proxies.
    Claim,
}

/// Classifies a header by its name, for explanations. Nodes use a faster implementation with the same result.
pub fn name_kind(name: &str) -> NameKind {
    let name = name.to_ascii_lowercase();
    let folded: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let is_own = OWN.contains(&folded.as_str());
    let is_family = FAMILIES.iter().any(|family| folded.starts_with(family))
        || folded.strip_suffix(CLIENT_IP).is_some_and(|rest| rest.is_empty() || rest.ends_with('-'));
    let is_claim = !is_own && (CLAIMS.contains(&folded.as_str()) || is_family);
    match () {
        () if folded == "proxy" => NameKind::AliasOf("the variable HTTP_PROXY".to_owned()),
        () if (is_own || is_claim) && folded != name => NameKind::AliasOf(folded),
        () if is_claim => NameKind::Claim,
        () => NameKind::Plain,
    }
}

/// Whether two different header names are equal for such a backend.
pub fn is_alias(own: &[u8], name: &[u8]) -> bool {
    reads_as(name, own) && !name.eq_ignore_ascii_case(own)
}

/// Whether such a backend cannot tell `name` from `own`.
pub fn reads_as(name: &[u8], own: &[u8]) -> bool {
    let same = |(a, b): (&u8, &u8)| {
        a.eq_ignore_ascii_case(b) || !a.is_ascii_alphanumeric() && !b.is_ascii_alphanumeric()
    };
    name.len() == own.len() && name.iter().zip(own).all(same)
}

/// Treatment of request headers that a CGI backend could take for other headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AliasPolicy {
    /// Headers that such a backend takes for one that the proxy writes, removes or vouches for are dropped.
    #[default]
    DropAliases,
    /// All headers with an underscore in their name are dropped as well.
    DropUnderscores,
    /// All are forwarded.
    Pass,
}

/// The headers that a route vouches for, and the treatment of headers with similar names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderGuard {
    /// Headers that the route or its filters set, remove or check; lower case.
    names: Vec<Box<str>>,
    /// Headers that a filter checks or writes before the request is sent; lower case.
    vouched: Vec<Box<str>>,
    policy: AliasPolicy,
}

impl HeaderGuard {
    /// Returns `None` if there is nothing to guard.
    pub fn new(vouched: Vec<Box<str>>, others: Vec<Box<str>>, policy: AliasPolicy) -> Option<Self> {
        let mut names = [&*vouched, &*others].concat();
        names.sort_unstable();
        names.dedup();
        let is_plain = names.is_empty() && policy == AliasPolicy::DropAliases;
        (!is_plain).then_some(Self { names, vouched, policy })
    }

    /// Whether a filter has checked or written this header. Such a header is passed on even if clients must not send
    /// it.
    pub fn vouches(&self, name: &[u8]) -> bool {
        self.vouched.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Returns the guarded header that a backend could mistake this one for.
    pub fn original(&self, name: &[u8]) -> Option<&str> {
        self.names.iter().find(|own| is_alias(own.as_bytes(), name)).map(|own| &**own)
    }

    /// Whether headers that look like Weir's own headers are passed on.
    pub fn passes_aliases(&self) -> bool {
        self.policy == AliasPolicy::Pass
    }

    fn has(&self, name: &[u8]) -> bool {
        self.names.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Whether a client's header of this name is dropped.
    pub fn drops(&self, name: &[u8]) -> bool {
        let is_alias = || self.names.iter().any(|own| is_alias(own.as_bytes(), name)) && !self.has(name);
        match self.policy {
            AliasPolicy::Pass => false,
            AliasPolicy::DropAliases => is_alias(),
            AliasPolicy::DropUnderscores => name.contains(&b'_') && !self.has(name) || is_alias(),
        }
    }

    /// Whether a client's trailer of this name is dropped. Servers that merge trailers into the headers would mistake
    /// it for a header that the route vouches for.
    pub fn drops_trailer(&self, name: &[u8]) -> bool {
        self.has(name) || self.drops(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cgi_cannot_distinguish_are_aliases() {
        for name in ["X_Weir_User", "x_weir-user", "X.Weir.User", "x~weir_user"] {
            assert!(is_alias(b"x-weir-user", name.as_bytes()), "{name}");
        }
        for name in ["X-Weir-User", "x-weir-user", "x-weir-userx", "xxweir-user", "x-weir-use1", "weir"] {
            assert!(!is_alias(b"x-weir-user", name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_guard_drops_aliases_of_its_names_and_keeps_the_names() {
        let guard = |policy| HeaderGuard::new(vec!["x-user".into()], vec!["x_own".into()], policy).unwrap();
        for (name, aliases, all) in [
            ("x-user", false, false),
            ("X_User", true, true),
            ("x.user", true, true),
            ("x_own", false, false),
            ("x-own", true, true),
            ("x_other", false, true),
            ("x-other", false, false),
        ] {
            assert_eq!(guard(AliasPolicy::DropAliases).drops(name.as_bytes()), aliases, "{name}");
            assert_eq!(guard(AliasPolicy::DropUnderscores).drops(name.as_bytes()), all, "{name}");
            assert!(!guard(AliasPolicy::Pass).drops(name.as_bytes()), "{name}");
        }
        assert!(guard(AliasPolicy::Pass).drops_trailer(b"X-User"));
        let vouched = guard(AliasPolicy::DropAliases);
        assert!(vouched.vouches(b"X-User") && !vouched.vouches(b"x_user") && !vouched.vouches(b"x_own"));
        assert_eq!(HeaderGuard::new(Vec::new(), Vec::new(), AliasPolicy::DropAliases), None);
    }
}
