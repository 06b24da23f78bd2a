//! Names of headers that a backend could take for another header.
//!
//! CGI (RFC 3875, 4.1.18) names a variable after each header, with `_` for `-`; FastCGI, WSGI, Rack and PHP do the same,
//! and some servers write `_` for every byte that is no letter or digit. Such a backend cannot tell `X_Weir_User` from
//! `X-Weir-User`.

use crate::config::UnderscoreHeaders;

/// Headers that Weir writes, removes or reads itself.
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
    // HTTP_PROXY is where many HTTP clients look for their proxy (CVE-2016-5385).
    "proxy",
];

/// Headers in which proxies say where a request came from and what it asked for; all of [`FAMILIES`] and
/// [`CLIENT_IP`] as well.
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

/// What names of claims begin with.
pub const FAMILIES: [&str; 2] = ["x-forwarded-", "x-envoy-"];

/// What names of claims end with, after a `-`, or are: `Client-IP`, `X-Client-IP`, `True-Client-IP` and those of other CDNs.
pub const CLIENT_IP: &str = "client-ip";

/// What a node makes of a request header by its name alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: it is passed on.
    Plain,
    /// A backend could take it for this header; it is dropped.
    AliasOf(String),
    /// It is passed on only from trusted proxies.
    Claim,
}

/// What a node makes of a request header by its name alone, for explanations: nodes have a faster way to the same result.
pub fn standing(name: &str) -> Standing {
    let name = name.to_ascii_lowercase();
    let folded: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let is_own = OWN.contains(&folded.as_str());
    let is_family = FAMILIES.iter().any(|family| folded.starts_with(family))
        || folded.strip_suffix(CLIENT_IP).is_some_and(|rest| rest.is_empty() || rest.ends_with('-'));
    let is_claim = !is_own && (CLAIMS.contains(&folded.as_str()) || is_family);
    match () {
        () if folded == "proxy" => Standing::AliasOf("the variable HTTP_PROXY".to_owned()),
        () if (is_own || is_claim) && folded != name => Standing::AliasOf(folded),
        () if is_claim => Standing::Claim,
        () => Standing::Plain,
    }
}

/// Whether two names of equal meaning to such a backend are not the same header.
pub fn is_alias(own: &[u8], name: &[u8]) -> bool {
    reads_as(name, own) && !name.eq_ignore_ascii_case(own)
}

/// Whether such a backend cannot tell a name from this one.
pub fn reads_as(name: &[u8], own: &[u8]) -> bool {
    let same = |(a, b): (&u8, &u8)| {
        a.eq_ignore_ascii_case(b) || !a.is_ascii_alphanumeric() && !b.is_ascii_alphanumeric()
    };
    name.len() == own.len() && name.iter().zip(own).all(same)
}

/// The headers that a route vouches for, and what happens to those that look like them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Guard {
    /// Set, removed or checked by the route and its filters; in lower case.
    names: Vec<Box<str>>,
    /// Those of them that filters have checked or written before the request is sent.
    vouched: Vec<Box<str>>,
    policy: UnderscoreHeaders,
}

impl Guard {
    /// `None` where there is nothing to guard.
    pub(crate) fn new(
        vouched: Vec<Box<str>>,
        others: Vec<Box<str>>,
        policy: UnderscoreHeaders,
    ) -> Option<Self> {
        let mut names = [&*vouched, &*others].concat();
        names.sort_unstable();
        names.dedup();
        let is_plain = names.is_empty() && policy == UnderscoreHeaders::DropAliases;
        (!is_plain).then_some(Self { names, vouched, policy })
    }

    /// Whether a filter has checked or written the header of this name, so that it is passed on whatever a client may
    /// not say under that name.
    pub fn vouches(&self, name: &[u8]) -> bool {
        self.vouched.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name))
    }

    /// The header that a backend could take one of this name for.
    pub fn original(&self, name: &[u8]) -> Option<&str> {
        self.names.iter().find(|own| is_alias(own.as_bytes(), name)).map(|own| &**own)
    }

    /// Whether names that look like those that Weir itself writes are passed on.
    pub fn passes_aliases(&self) -> bool {
        self.policy == UnderscoreHeaders::Pass
    }

    fn has(&self, name: &[u8]) -> bool {
        self.names.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Whether a client's header of this name is not passed on.
    pub fn drops(&self, name: &[u8]) -> bool {
        let is_alias = || self.names.iter().any(|own| is_alias(own.as_bytes(), name)) && !self.has(name);
        match self.policy {
            UnderscoreHeaders::Pass => false,
            UnderscoreHeaders::DropAliases => is_alias(),
            UnderscoreHeaders::Drop => name.contains(&b'_') && !self.has(name) || is_alias(),
        }
    }

    /// Whether a client's trailer of this name is not passed on: servers that merge trailers into the headers would take
    /// it for what the route vouches for.
    pub fn drops_trailer(&self, name: &[u8]) -> bool {
        self.has(name) || self.drops(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cgi_cannot_tell_apart_are_aliases() {
        for name in ["X_Weir_User", "x_weir-user", "X.Weir.User", "x~weir_user"] {
            assert!(is_alias(b"x-weir-user", name.as_bytes()), "{name}");
        }
        for name in ["X-Weir-User", "x-weir-user", "x-weir-userx", "xxweir-user", "x-weir-use1", "weir"] {
            assert!(!is_alias(b"x-weir-user", name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_guard_drops_aliases_of_its_names_and_keeps_the_names() {
        let guard = |policy| Guard::new(vec!["x-user".into()], vec!["x_own".into()], policy).unwrap();
        for (name, aliases, all) in [
            ("x-user", false, false),
            ("X_User", true, true),
            ("x.user", true, true),
            ("x_own", false, false),
            ("x-own", true, true),
            ("x_other", false, true),
            ("x-other", false, false),
        ] {
            assert_eq!(guard(UnderscoreHeaders::DropAliases).drops(name.as_bytes()), aliases, "{name}");
            assert_eq!(guard(UnderscoreHeaders::Drop).drops(name.as_bytes()), all, "{name}");
            assert!(!guard(UnderscoreHeaders::Pass).drops(name.as_bytes()), "{name}");
        }
        assert!(guard(UnderscoreHeaders::Pass).drops_trailer(b"X-User"));
        let vouched = guard(UnderscoreHeaders::DropAliases);
        assert!(vouched.vouches(b"X-User") && !vouched.vouches(b"x_user") && !vouched.vouches(b"x_own"));
        assert_eq!(Guard::new(Vec::new(), Vec::new(), UnderscoreHeaders::DropAliases), None);
    }
}
