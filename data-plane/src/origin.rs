//! Where a request comes from: its peer, or the client that trusted proxies report.
//!
//! Headers of clients are not trusted; those of trusted proxies are. Each list is read from its end: the peer wrote the
//! last entry, and an earlier address counts while the writer of the entry is trusted. A proxy may append to the header
//! of its client, so the last value counts for scheme and host as well.

use std::net::{IpAddr, SocketAddr};

use weir_http::{FieldKind, Range, RequestHead, authority, list};
use weir_snapshot::Networks;

/// The client of a request, with its scheme and host.
#[derive(Debug)]
pub(crate) struct Origin<'a> {
    /// The client's address, canonical: an IPv4-mapped IPv6 address is an IPv4 address.
    pub(crate) ip: IpAddr,
    /// `ip` as text.
    text: Text<'a>,
    /// The peer is a trusted proxy.
    pub(crate) trusted: bool,
    /// The client used TLS.
    pub(crate) https: bool,
    /// Range of the requested host, with its port, in the head.
    host: Option<Range>,
}

/// The other end of a client connection: the client, or a proxy in front of this node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer<'a> {
    /// Canonical: an IPv4-mapped IPv6 address is an IPv4 address.
    pub(crate) ip: IpAddr,
    /// `ip` as text.
    pub(crate) text: &'a str,
}

#[derive(Debug)]
enum Text<'a> {
    Peer(&'a str),
    Own(String),
}

impl<'a> Origin<'a> {
    /// The origin of a request that came from `peer`.
    pub(crate) fn of(trusted: &Networks, head: &RequestHead, peer: Peer<'a>, https: bool) -> Self {
        let Peer { ip: peer, text } = peer;
        let direct = Self { ip: peer, text: Text::Peer(text), trusted: false, https, host: head.host };
        // Usually there is no trusted proxy.
        if trusted.is_empty() || !trusted.contains(peer) {
            return direct;
        }
        // RFC 7239 has all of it in one field. If the proxy writes `X-Forwarded-For`, a `Forwarded` field came from
        // outside.
        let has_chain = head.get(FieldKind::XForwardedFor).is_some();
        let elements = if has_chain { Vec::new() } else { elements(head) };
        let ip = if has_chain {
            let chain = head.all(FieldKind::XForwardedFor).flat_map(list);
            first_untrusted(trusted, peer, chain.map(address).collect())
        } else {
            let node = |element: &&[u8]| parameter(element, b"for").and_then(|node| address(&node));
            first_untrusted(trusted, peer, elements.iter().map(node).collect())
        };
        let proto = match head.all(FieldKind::XForwardedProto).flat_map(list).last() {
            Some(proto) => Some(proto.to_vec()),
            None => elements.last().and_then(|element| parameter(element, b"proto")),
        };
        // After an unknown scheme the connection's own counts.
        let https = proto.and_then(|proto| is_secure(unquoted(&proto))).unwrap_or(https);
        let mut fields = head.fields.iter();
        let said = fields.rfind(|field| field.kind == FieldKind::XForwardedHost);
        let said = said.map(|field| last_member(&head.buf, field.value));
        let host = said.filter(|range| authority::is_valid(in_range(&head.buf, *range))).or(head.host);
        let text = if ip == peer { Text::Peer(text) } else { Text::Own(ip.to_string()) };
        Self { ip, text, trusted: true, https, host }
    }

    /// The client's address as text.
    pub(crate) fn text(&self) -> &str {
        match &self.text {
            Text::Peer(text) => text,
            Text::Own(text) => text,
        }
    }

    /// The requested host, with its port; `head` is the request's.
    pub(crate) fn host<'h>(&self, head: &'h RequestHead) -> Option<&'h [u8]> {
        let (from, to) = self.host?;
        head.buf.get(from as usize..to as usize)
    }

    /// The client's scheme, `http` or `https`.
    pub(crate) fn scheme(&self) -> &'static [u8] {
        if self.https { b"https" } else { b"http" }
    }
}

/// The last address in the chain that is not a trusted proxy. An invalid entry ends the chain: its writer is the
/// farthest known address.
fn first_untrusted(trusted: &Networks, peer: IpAddr, chain: Vec<Option<IpAddr>>) -> IpAddr {
    let mut farthest = peer;
    for entry in chain.into_iter().rev() {
        let Some(address) = entry else { return farthest };
        farthest = address;
        if !trusted.contains(address) {
            break;
        }
    }
    farthest
}

/// Whether a scheme uses TLS; `None` for an unknown one. Proxies name a WebSocket's scheme `ws` or `wss`.
fn is_secure(scheme: &[u8]) -> Option<bool> {
    let is = |names: [&[u8]; 2]| names.iter().any(|name| scheme.eq_ignore_ascii_case(name));
    match () {
        () if is([b"https", b"wss"]) => Some(true),
        () if is([b"http", b"ws"]) => Some(false),
        () => None,
    }
}

/// A value without the quotes around it.
fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner.trim_ascii(),
        value => value,
    }
}

fn in_range(buf: &[u8], (from, to): Range) -> &[u8] {
    buf.get(from as usize..to as usize).unwrap_or_default()
}

/// Range of a list's last member, without its quotes.
fn last_member(buf: &[u8], (from, to): Range) -> Range {
    let value = in_range(buf, (from, to));
    let tail = value.rsplit(|byte| *byte == b',').next().unwrap_or_default();
    let start = from as usize + (value.len() - tail.len());
    let blanks = tail.len() - tail.trim_ascii_start().len();
    let member = tail.trim_ascii();
    let bare = unquoted(member);
    let quote = if bare.len() == member.len() {
        0
    } else {
        1 + member[1..].len() - member[1..].trim_ascii_start().len()
    };
    let start = (start + blanks + quote) as u32;
    (start, start + bare.len() as u32)
}

/// An address, with or without quotes, port, brackets and zone (RFC 4007 section 11, RFC 6874). The zone has a meaning
/// only on the host that wrote it.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(unquoted(entry.trim_ascii())).ok()?.trim();
    let without_zone = |text: &str| text.split_once('%').map_or(text, |(address, _)| address).parse().ok();
    let address = match text.strip_prefix('[') {
        Some(rest) => {
            let (inner, port) = rest.split_once(']')?;
            let port_is_fine = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            without_zone(inner).filter(|_| port_is_fine).map(IpAddr::V6)
        }
        None => match text.parse::<IpAddr>() {
            Ok(address) => Some(address),
            Err(_) if text.contains('%') => without_zone(text).map(IpAddr::V6),
            Err(_) => text.parse::<SocketAddr>().ok().map(|address| address.ip()),
        },
    };
    address.map(|address| address.to_canonical())
}

fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The elements of all `Forwarded` fields, in order (RFC 7239 section 4).
fn elements(head: &RequestHead) -> Vec<&[u8]> {
    head.all(FieldKind::Forwarded).flat_map(|line| split(line, b',')).collect()
}

/// The parts between separators that are not in quotes.
fn split(text: &[u8], separator: u8) -> Vec<&[u8]> {
    let (mut parts, mut from, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            byte if *byte == separator && !quoted => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

/// The value of a parameter of an element, without its quotes.
fn parameter(element: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    split(element, b';').into_iter().find_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (own, value) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
        if !own.eq_ignore_ascii_case(name) {
            return None;
        }
        match value {
            [b'"', inner @ .., b'"'] => {
                let mut escaped = false;
                let keeps = |byte: &&u8| {
                    escaped = **byte == b'\\' && !escaped;
                    !escaped
                };
                Some(inner.iter().filter(keeps).copied().collect())
            }
            value => Some(value.to_vec()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_http::{Limits, Parsed, parse_request};

    fn seen(peer: &str, fields: &str) -> (String, bool, bool, String) {
        let nets = ["10.0.0.0/8", "2001:db8::/32"].map(|net| net.parse().unwrap());
        let trusted = Networks::new(nets);
        let text = format!("GET / HTTP/1.1\r\nHost: own\r\n{fields}\r\n");
        let mut head = RequestHead::new();
        let parsed = parse_request(text.as_bytes(), &Limits::default(), &mut head);
        assert!(matches!(parsed, Ok(Parsed::Complete { .. })), "{fields}");
        let ip: IpAddr = peer.parse().unwrap();
        let ip = ip.to_canonical();
        let text = ip.to_string();
        let origin = Origin::of(&trusted, &head, Peer { ip, text: &text }, false);
        assert_eq!(origin.text(), origin.ip.to_string());
        let host = String::from_utf8(origin.host(&head).unwrap().to_vec()).unwrap();
        (origin.ip.to_string(), origin.trusted, origin.https, host)
    }

    fn client(peer: &str, fields: &str) -> String {
        seen(peer, fields).0
    }

    #[test]
    fn who_is_not_trusted_speaks_for_nobody() {
        let lies = "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: other\r\nForwarded: for=1.1.1.1\r\n";
        assert_eq!(seen("192.0.2.1", lies), ("192.0.2.1".into(), false, false, "own".into()));
    }

    #[test]
    fn the_client_is_the_last_one_that_no_trusted_proxy_is() {
        for (fields, expected) in [
            ("X-Forwarded-For: 1.1.1.1\r\n", "1.1.1.1"),
            // The client's own entry comes first.
            ("X-Forwarded-For: 9.9.9.9, 1.1.1.1\r\n", "1.1.1.1"),
            ("X-Forwarded-For: 9.9.9.9, 1.1.1.1, 10.3.3.3\r\n", "1.1.1.1"),
            ("X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 1.1.1.1, 10.3.3.3\r\n", "1.1.1.1"),
            ("X-Forwarded-For: 1.1.1.1:5000\r\n", "1.1.1.1"),
            ("X-Forwarded-For: [2001:db9::1]:5000\r\n", "2001:db9::1"),
            ("X-Forwarded-For: 2001:db9::1\r\n", "2001:db9::1"),
            ("X-Forwarded-For: ::ffff:1.1.1.1\r\n", "1.1.1.1"),
            // All are trusted proxies: the farthest one counts.
            ("X-Forwarded-For: 10.9.9.9, 10.3.3.3\r\n", "10.9.9.9"),
            // An invalid entry hides the addresses before it.
            ("X-Forwarded-For: 1.1.1.1, unknown, 10.3.3.3\r\n", "10.3.3.3"),
            ("X-Forwarded-For: unknown\r\n", "10.0.0.1"),
            ("X-Forwarded-For:\r\n", "10.0.0.1"),
            ("", "10.0.0.1"),
            ("Forwarded: for=1.1.1.1;proto=https\r\n", "1.1.1.1"),
            ("Forwarded: for=9.9.9.9, For=\"1.1.1.1:80\";by=x, for=10.3.3.3\r\n", "1.1.1.1"),
            ("Forwarded: for=\"[2001:db9::1]:80\"\r\n", "2001:db9::1"),
            ("Forwarded: for=\"[2001:db8::1]\"\r\n", "2001:db8::1"),
            // Quotes and zones, in both fields.
            ("X-Forwarded-For: \"1.1.1.1\"\r\n", "1.1.1.1"),
            ("X-Forwarded-For: \"1.1.1.1:5000\"\r\n", "1.1.1.1"),
            ("X-Forwarded-For: \"[2001:db9::1]:5000\"\r\n", "2001:db9::1"),
            ("X-Forwarded-For: \"[2001:db9::1]\", \"10.3.3.3\"\r\n", "2001:db9::1"),
            ("X-Forwarded-For: \"2001:db9::1\"\r\n", "2001:db9::1"),
            ("X-Forwarded-For: fe80::1%eth0\r\n", "fe80::1"),
            ("X-Forwarded-For: [fe80::1%eth0]\r\n", "fe80::1"),
            ("X-Forwarded-For: [fe80::1%25eth0]:443\r\n", "fe80::1"),
            ("X-Forwarded-For: \"[fe80::1%2]:443\"\r\n", "fe80::1"),
            ("Forwarded: for=\"[fe80::1%25eth0]:80\"\r\n", "fe80::1"),
            ("Forwarded: for=\"1.1.1.1\"\r\n", "1.1.1.1"),
            ("Forwarded: for=\"\\1.1.1.1\"\r\n", "1.1.1.1"),
            // No addresses.
            ("X-Forwarded-For: 1.1.1.1%eth0\r\n", "10.0.0.1"),
            ("X-Forwarded-For: [1.1.1.1]\r\n", "10.0.0.1"),
            ("X-Forwarded-For: [2001:db9::1]x\r\n", "10.0.0.1"),
            ("X-Forwarded-For: [2001:db9::1]:x\r\n", "10.0.0.1"),
            ("X-Forwarded-For: [2001:db9::1\r\n", "10.0.0.1"),
            ("X-Forwarded-For: \"1.1.1.1\r\n", "10.0.0.1"),
            ("X-Forwarded-For: \"\"\r\n", "10.0.0.1"),
            ("X-Forwarded-For: %eth0\r\n", "10.0.0.1"),
            ("Forwarded: for=_hidden\r\n", "10.0.0.1"),
            ("Forwarded: for=\"1.1.1.1, for=8.8.8.8\r\n", "10.0.0.1"),
            // A proxy that writes one field may forward the client's other one.
            ("Forwarded: for=8.8.8.8\r\nX-Forwarded-For: 1.1.1.1\r\n", "1.1.1.1"),
        ] {
            assert_eq!(client("10.0.0.1", fields), expected, "{fields}");
        }
        assert_eq!(client("::ffff:10.0.0.1", "X-Forwarded-For: 1.1.1.1\r\n"), "1.1.1.1");
        assert_eq!(client("2001:db8::1", "X-Forwarded-For: 1.1.1.1\r\n"), "1.1.1.1");
    }

    #[test]
    fn scheme_and_host_are_believed_too() {
        for (fields, https, host) in [
            ("X-Forwarded-Proto: https\r\n", true, "own"),
            ("X-Forwarded-Proto: HTTPS\r\nX-Forwarded-Host: www.example:8443\r\n", true, "www.example:8443"),
            ("X-Forwarded-Proto: http\r\n", false, "own"),
            // The scheme of a WebSocket, as some proxies name it.
            ("X-Forwarded-Proto: wss\r\n", true, "own"),
            ("X-Forwarded-Proto: WSS\r\n", true, "own"),
            ("X-Forwarded-Proto: https, wss\r\n", true, "own"),
            ("X-Forwarded-Proto: ws\r\n", false, "own"),
            ("X-Forwarded-Proto: wss, ws\r\n", false, "own"),
            ("X-Forwarded-Proto: \"https\"\r\n", true, "own"),
            ("X-Forwarded-Proto: gopher\r\n", false, "own"),
            ("X-Forwarded-Proto:\r\n", false, "own"),
            ("Forwarded: for=1.1.1.1;proto=wss\r\n", true, "own"),
            ("Forwarded: for=1.1.1.1;proto=\"wss\"\r\n", true, "own"),
            ("Forwarded: for=1.1.1.1;proto=ws\r\n", false, "own"),
            ("X-Forwarded-Host: \"www.example:8443\"\r\n", false, "www.example:8443"),
            ("X-Forwarded-Host: lie, www.example\r\n", false, "www.example"),
            ("X-Forwarded-Host: lie , \" www.example \" \r\n", false, "www.example"),
            ("X-Forwarded-Host: \"\r\n", false, "own"),
            ("X-Forwarded-Host: \"\"\r\n", false, "own"),
            ("X-Forwarded-Host: www.example,\r\n", false, "own"),
            ("Forwarded: for=1.1.1.1;proto=https\r\n", true, "own"),
            ("X-Forwarded-Host: not a host\r\n", false, "own"),
            ("X-Forwarded-For: 1.1.1.1\r\nForwarded: proto=https\r\n", false, "own"),
            // A proxy that appends to the field does not remove the client's value.
            ("X-Forwarded-Proto: https, http\r\n", false, "own"),
            ("X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n", false, "own"),
            ("X-Forwarded-Host: lie\r\nX-Forwarded-Host: www.example\r\n", false, "www.example"),
        ] {
            let seen = seen("10.0.0.1", fields);
            assert_eq!((seen.2, seen.3.as_str()), (https, host), "{fields}");
        }
        // An unknown scheme is ignored: the connection uses TLS.
        let mut head = RequestHead::new();
        let text = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: gopher\r\n\r\n";
        assert!(parse_request(text.as_bytes(), &Limits::default(), &mut head).is_ok());
        let trusted = Networks::new(["10.0.0.0/8".parse().unwrap()]);
        let peer = "10.0.0.1".parse().unwrap();
        assert!(Origin::of(&trusted, &head, Peer { ip: peer, text: "10.0.0.1" }, true).https);
    }
}
