//! Host patterns of routes, and hosts of requests.

use std::{
    fmt,
    io::Write as _,
    net::{IpAddr, Ipv6Addr},
};

use weir_http::authority::{self, MAX_HOST};

use super::counts::Counts;

/// A host pattern in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Exactly this host.
    Exact(Box<str>),
    /// Every name that ends with a dot and this suffix.
    Suffix(Box<str>),
    /// Any host, or none.
    Any,
}

impl HostPattern {
    /// Parses `name`, `*.suffix` or `*`; the error says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            Err(format!("{text:?} {why} (expected for example books.example.com, *.example.com or *)"))
        };
        if text == "*" {
            return Ok(Self::Any);
        }
        let lower = text.to_ascii_lowercase();
        if let Some(address) = lower.strip_prefix('[') {
            let parsed = address.strip_suffix(']').map(str::parse::<Ipv6Addr>);
            return match parsed {
                Some(Ok(address)) => Ok(Self::address(address)),
                _ if address.contains('%') => wrong("has a zone, which a Host header cannot have"),
                _ => wrong("is not an IPv6 address in brackets without a port"),
            };
        }
        if let Ok(address) = lower.parse::<Ipv6Addr>() {
            return Ok(Self::address(address));
        }
        if lower.contains("://") || lower.contains('/') {
            return wrong("is a URL or has a path; only a host name is allowed");
        }
        if lower.contains(':') {
            return wrong("has a port; hosts are matched without a port");
        }
        if !lower.is_ascii() {
            return wrong("is not ASCII; write an international name in xn-- form");
        }
        let (suffix, name) = match lower.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, lower.as_str()),
        };
        if name.contains('*') {
            return wrong("has a * that is not the whole first label");
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if name.len() > MAX_HOST - 2 || !name.split('.').all(is_label) {
            return wrong("is not a host name");
        }
        if !authority::is_valid(name.as_bytes()) {
            return wrong("ends in a number but is not an IPv4 address of four decimal numbers");
        }
        Ok(if suffix { Self::Suffix(name.into()) } else { Self::Exact(name.into()) })
    }

    fn address(address: Ipv6Addr) -> Self {
        let mut text = Vec::new();
        push_address(address, &mut text);
        Self::Exact(String::from_utf8_lossy(&text).into())
    }

    /// How specific the pattern is; the greatest goes first.
    pub(super) fn rank(&self) -> (u8, usize) {
        match self {
            Self::Exact(_) => (2, 0),
            Self::Suffix(suffix) => (1, suffix.len()),
            Self::Any => (0, 0),
        }
    }

    /// Whether the pattern matches a host returned by [`read`].
    pub(super) fn takes(&self, host: Option<&[u8]>) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (_, None) => false,
            (Self::Exact(name), Some(host)) => name.as_bytes() == host,
            (Self::Suffix(suffix), Some(host)) => host
                .strip_suffix(suffix.as_bytes())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with(b".")),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Suffix(suffix) => write!(f, "*.{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// The canonical form of an address: as in RFC 5952, in brackets; IPv4-mapped IPv6 as IPv4.
fn push_address(address: Ipv6Addr, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = match address.to_canonical() {
        IpAddr::V4(address) => write!(out, "{address}"),
        IpAddr::V6(address) => write!(out, "[{address}]"),
    };
}

/// Normalizes the host of a request's authority to the form of the patterns: lower case, without port and root dot,
/// IPv6 addresses in canonical form. A lower-case name is not copied.
pub(super) fn read<'a>(authority: Option<&'a [u8]>, lower: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    let authority = authority?;
    if let Some(address) = authority.strip_prefix(b"[") {
        let end = address.iter().position(|byte| *byte == b']')?;
        push_address(authority::ipv6(&address[..end])?, lower);
        return Some(lower);
    }
    let end = authority.iter().position(|byte| *byte == b':').unwrap_or(authority.len());
    let name = &authority[..end];
    let name = name.strip_suffix(b".").unwrap_or(name);
    if name.is_empty() || name.len() > MAX_HOST {
        return None;
    }
    if !name.iter().fold(false, |any, byte| any | byte.is_ascii_uppercase()) {
        return Some(name);
    }
    lower.extend(name.iter().map(u8::to_ascii_lowercase));
    Some(lower)
}

/// All suffixes that start at a dot, the longest first, limited to the numbers of labels that patterns have.
pub(super) fn suffixes(host: &[u8], labels: Counts) -> impl Iterator<Item = &[u8]> {
    // Backwards to the first suffix that has no more labels than any pattern, then forwards from there.
    let mut from = host.len();
    let mut count = 0;
    while count < labels.most()
        && let Some(dot) = host[..from].iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0)
    {
        (from, count) = (dot, count + 1);
    }
    let mut rest = &host[from..];
    std::iter::from_fn(move || {
        let suffix = rest;
        let next = suffix.get(1..)?.iter().position(|byte| *byte == b'.');
        rest = next.map_or(&[], |dot| &suffix[dot + 1..]);
        count -= 1;
        Some((count + 1, suffix))
    })
    .filter(move |(count, _)| labels.may_have(*count))
    .map(|(_, suffix)| suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_pattern_is_a_name_a_suffix_or_any() {
        for (text, shown) in [
            ("Books.Example.com", "books.example.com"),
            ("*.Example.com", "*.example.com"),
            ("*.com", "*.com"),
            ("*", "*"),
            ("localhost", "localhost"),
            ("a.example.", "a.example"),
            ("10.0.0.1", "10.0.0.1"),
            ("my_service", "my_service"),
            ("::1", "[::1]"),
            ("[2001:DB8:0::1]", "[2001:db8::1]"),
            ("2001:db8:0:0:0::1", "[2001:db8::1]"),
            ("[::ffff:192.0.2.1]", "192.0.2.1"),
            ("[::ffff:c000:201]", "192.0.2.1"),
            ("1a.example", "1a.example"),
        ] {
            assert_eq!(HostPattern::parse(text).map(|host| host.to_string()).as_deref(), Ok(shown));
        }
        for (text, says) in [
            ("", "not a host name"),
            ("*.", "not a host name"),
            ("a..b", "not a host name"),
            (".a", "not a host name"),
            ("127.1", "IPv4"),
            ("010.0.0.1", "IPv4"),
            ("0x7f000001", "IPv4"),
            ("*.0.0.1", "IPv4"),
            ("[fe80::1%25eth0]", "zone"),
            ("[fe80::1%eth0]", "zone"),
            ("a b", "not a host name"),
            ("a\r\nb", "not a host name"),
            ("*a.example", "first label"),
            ("a.*", "first label"),
            ("*.*.example", "first label"),
            ("a.example:80", "has a port"),
            ("[::1]:80", "without a port"),
            ("http://a.example", "URL"),
            ("a.example/x", "path"),
            ("b\u{fc}cher.example", "xn--"),
        ] {
            let error = HostPattern::parse(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn ports_and_trailing_dots_of_a_request_are_ignored() {
        for (authority, host) in [
            ("A.Example:8080", "a.example"),
            ("a.example.", "a.example"),
            ("a.example.:80", "a.example"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("127.0.0.1.", "127.0.0.1"),
            ("[2001:db8:0::1]", "[2001:db8::1]"),
            ("[2001:DB8::0:1]:80", "[2001:db8::1]"),
            ("[2001:0db8:0:0:0:0:0:1]", "[2001:db8::1]"),
            ("[2001:db8::0.0.0.1]", "[2001:db8::1]"),
            ("[::ffff:192.0.2.1]:1", "192.0.2.1"),
            ("[0:0:0:0:0:FFFF:C000:201]", "192.0.2.1"),
        ] {
            let mut lower = Vec::new();
            assert_eq!(read(Some(authority.as_bytes()), &mut lower), Some(host.as_bytes()), "{authority}");
        }
        assert_eq!(read(None, &mut Vec::new()), None);
        assert_eq!(read(Some("a".repeat(300).as_bytes()), &mut Vec::new()), None);
    }

    #[test]
    fn suffixes_come_longest_first_and_skip_lengths_without_patterns() {
        let of = |host: &'static str, labels: &[usize]| -> Vec<&str> {
            let mut counts = Counts::default();
            labels.iter().for_each(|count| counts.add(*count));
            suffixes(host.as_bytes(), counts).map(|suffix| std::str::from_utf8(suffix).unwrap()).collect()
        };
        assert_eq!(of("a.b.c.d", &[1, 2, 3, 9]), [".b.c.d", ".c.d", ".d"]);
        assert_eq!(of("a.b.c.d", &[1, 2]), [".c.d", ".d"]);
        assert_eq!(of("a.b.c.d", &[1, 3]), [".b.c.d", ".d"]);
        assert_eq!(of("a.b.c.d", &[2]), [".c.d"]);
        assert_eq!(of("a.b.c.d", &[4]), [] as [&str; 0]);
        assert_eq!(of("a.b.c.d", &[]), [] as [&str; 0]);
        assert_eq!(of("a", &[1]), [] as [&str; 0]);
        assert_eq!(of(".a", &[1]), [] as [&str; 0], "no label before the dot");
        assert_eq!(of("..a", &[1, 2]), [".a"]);
    }
}
