//! Cookies of requests (RFC 6265).

use std::sync::Arc;

use rustc_hash::FxHashSet;

/// Names of session cookies, which belong to the proxy and are not forwarded to backends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CookieNames(FxHashSet<Arc<str>>);

impl CookieNames {
    /// Whether a cookie has one of these names.
    pub fn contains(&self, name: &[u8]) -> bool {
        std::str::from_utf8(name).is_ok_and(|name| self.0.contains(name))
    }

    /// The names, in any order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }

    /// Whether the set has no name.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Arc<str>> for CookieNames {
    fn from_iter<I: IntoIterator<Item = Arc<str>>>(names: I) -> Self {
        Self(names.into_iter().collect())
    }
}

/// One pair of a Cookie field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CookiePair<'a> {
    /// Empty where the pair has no `=`.
    pub name: &'a [u8],
    /// The bytes after the first `=`, or the whole pair where it has none.
    pub value: &'a [u8],
    /// The whole pair as it was sent, without the blanks around it.
    pub raw: &'a [u8],
}

/// The pairs of a Cookie field's value. Blanks around the `=` belong to neither name nor value, because some servers
/// accept them there.
pub fn cookie_pairs(value: &[u8]) -> impl Iterator<Item = CookiePair<'_>> {
    let pairs = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|raw| !raw.is_empty());
    pairs.map(|raw| match memchr::memchr(b'=', raw) {
        Some(at) => {
            CookiePair { name: raw[..at].trim_ascii_end(), value: raw[at + 1..].trim_ascii_start(), raw }
        }
        None => CookiePair { name: &raw[..0], value: raw, raw },
    })
}
