//! `uri-host [ ":" port ]` of Host headers and absolute-form targets (RFC 3986 section 3.2, RFC 9110 section 7.2).
//!
//! User information, paths and lists are rejected. So is every host that two servers could read differently: with
//! escapes (`%61.test`), with empty labels (`a..`), and an IPv4 address that is not written as four decimal numbers
//! (`127.1`, `0x7f.0.0.1`, `010.0.0.1`): some servers resolve it, others treat it as a name.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest host in bytes. DNS names are never longer (RFC 1035 section 2.3.4).
pub const MAX_HOST: usize = 255;

/// Whether `authority` is a host with an optional port and nothing else.
pub fn is_valid(authority: &[u8]) -> bool {
    let (host, port) = split(authority);
    let port_ok = match port {
        None => true,
        Some(digits) => {
            digits.iter().all(u8::is_ascii_digit)
                && digits
                    .iter()
                    .try_fold(0_u16, |n, d| n.checked_mul(10)?.checked_add(u16::from(d - b'0')))
                    .is_some()
        }
    };
    port_ok && is_host(host)
}

/// Whether `authority` has a non-empty port, as CONNECT requires.
pub fn has_port(authority: &[u8]) -> bool {
    split(authority).1.is_some_and(|port| !port.is_empty())
}

/// Whether both authorities have the same host and port. The port `default` may be absent in either.
pub fn same(a: &[u8], b: &[u8], default: &[u8]) -> bool {
    let (a_host, a_port) = split(a);
    let (b_host, b_port) = split(b);
    let port = |p: Option<&[u8]>| -> Vec<u8> { p.filter(|p| !p.is_empty()).unwrap_or(default).to_vec() };
    a_host.eq_ignore_ascii_case(b_host) && (a_port == b_port || port(a_port) == port(b_port))
}

/// Splits an authority into the host and the text after the port's colon.
pub fn split(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let from = if authority.first() == Some(&b'[') {
        memchr::memchr(b']', authority).map_or(authority.len(), |at| at + 1)
    } else {
        0
    };
    match memchr::memchr(b':', &authority[from..]) {
        Some(at) => (&authority[..from + at], Some(&authority[from + at + 1..])),
        None => (authority, None),
    }
}

fn is_host(host: &[u8]) -> bool {
    match host {
        [] => false,
        [b'[', address @ .., b']'] => ipv6(address).is_some(),
        name if name.len() > MAX_HOST => false,
        name => {
            // Each dot ends a non-empty label; one trailing dot, the DNS root, is allowed.
            let mut previous = b'.';
            for byte in name {
                if !is_name_byte(*byte) || *byte == b'.' && previous == b'.' {
                    return false;
                }
                previous = *byte;
            }
            !ends_in_number(name) || is_ipv4(name)
        }
    }
}

/// Parses an address in brackets. Addresses with a zone are rejected: a zone is only meaningful on one machine.
pub fn ipv6(address: &[u8]) -> Option<Ipv6Addr> {
    std::str::from_utf8(address).ok()?.parse().ok()
}

fn is_ipv4(name: &[u8]) -> bool {
    let name = name.strip_suffix(b".").unwrap_or(name);
    std::str::from_utf8(name).is_ok_and(|text| text.parse::<Ipv4Addr>().is_ok())
}

/// Whether the last label is a number, decimal or hexadecimal. The URL standard reads such a host as an IPv4 address.
fn ends_in_number(name: &[u8]) -> bool {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let label = &name[memchr::memrchr(b'.', name).map_or(0, |dot| dot + 1)..];
    match label {
        [b'0', b'x' | b'X', digits @ ..] => digits.iter().all(u8::is_ascii_hexdigit),
        [b'0'..=b'9', ..] => label.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// unreserved and sub-delims of RFC 3986, except the comma: `a,b` is the result of joined Host fields.
const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'='
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        for good in [
            "a",
            "a.example",
            "a.example:80",
            "a.example:",
            "A_B.example",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:8080",
            "[2001:DB8:0::1]",
            "[::ffff:192.0.2.1]",
            "127.0.0.1.",
            "1.a",
            "127.1.a",
            "0x7f.a",
            "0x7g",
            "1a",
            "a.",
            "xn--bcher-kva.example",
            "a.:65535",
        ] {
            assert!(is_valid(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a:b",
            "a:80:80",
            "a:65536",
            "a:-1",
            "a:+1",
            "user@a",
            "user:pw@a",
            "a/b",
            "a?b",
            "a#b",
            "a b",
            "a,b",
            "a\\b",
            "[::1",
            "::1",
            "[::1]x",
            "[v1.a]",
            "[fe80::1%25eth0]",
            "a%20b",
            "a%2e",
            "%61.test",
            "a..",
            "a..:80",
            "a..b",
            ".a",
            ".",
            "..",
            "[fe80::1%eth0]",
            "[::1%0]",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.0.0.1",
            "0X",
            "127.0.0.0x1",
            "010.0.0.1",
            "127.0.0.01",
            "127.0.0.1..",
            "127.0.0.256",
            "127.0.0.0.1",
            "a.1",
            "a.0x1.",
            "a%2",
            "a%zz",
            "\u{e9}",
            "a\"",
            "<a>",
            "a\0",
            "a\t",
            "a:80 ",
            "[]",
        ] {
            assert!(!is_valid(bad.as_bytes()), "{bad}");
        }
        assert!(is_valid("a".repeat(MAX_HOST).as_bytes()));
        assert!(!is_valid("a".repeat(MAX_HOST + 1).as_bytes()));
    }

    #[test]
    fn the_default_port_may_be_absent() {
        assert!(same(b"A.example", b"a.example", b"80"));
        assert!(same(b"a:80", b"a", b"80"));
        assert!(!same(b"a:81", b"a", b"80"));
        assert!(!same(b"a", b"b", b"80"));
    }
}
