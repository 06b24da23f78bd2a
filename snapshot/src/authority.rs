//! `uri-host [ ":" port ]` as it stands in Host and in absolute-form targets (RFC 3986 section 3.2, RFC 9110
//! section 7.2). No user information, no path, no list: a host that two readers could split differently is none.

use std::net::Ipv6Addr;

/// Whether `authority` is a host with an optional port, and nothing else.
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

/// Whether `authority` names a port with at least one digit, as CONNECT needs it.
pub fn has_port(authority: &[u8]) -> bool {
    split(authority).1.is_some_and(|port| !port.is_empty())
}

/// Whether both name the same host and port; a port that is `default` may be left out of either.
pub fn same(a: &[u8], b: &[u8], default: &[u8]) -> bool {
    let (a_host, a_port) = split(a);
    let (b_host, b_port) = split(b);
    let port = |p: Option<&[u8]>| -> Vec<u8> { p.filter(|p| !p.is_empty()).unwrap_or(default).to_vec() };
    a_host.eq_ignore_ascii_case(b_host) && (a_port == b_port || port(a_port) == port(b_port))
}

/// The host and, after its colon, the port.
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
        [b'[', address @ .., b']'] => {
            std::str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
        }
        name => {
            let mut rest = name;
            while let [byte, tail @ ..] = rest {
                rest = match (byte, tail) {
                    (b'%', [a, b, tail @ ..]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => tail,
                    (byte, tail) if is_name_byte(*byte) => tail,
                    _ => return false,
                };
            }
            true
        }
    }
}

/// unreserved and sub-delims of RFC 3986, save the comma: `a,b` is what joined Host fields look like.
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
    fn hosts_are_a_name_or_an_address_with_an_optional_port() {
        for good in [
            "a",
            "a.example",
            "a.example:80",
            "a.example:",
            "A_B.example",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:8080",
            "a%20b",
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
    }

    #[test]
    fn a_default_port_may_be_left_out() {
        assert!(same(b"A.example", b"a.example", b"80"));
        assert!(same(b"a:80", b"a", b"80"));
        assert!(!same(b"a:81", b"a", b"80"));
        assert!(!same(b"a", b"b", b"80"));
    }
}
