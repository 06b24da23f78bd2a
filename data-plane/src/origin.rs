//! Where a request came from: who connected, or whom the proxies before us vouch for.
//!
//! What a client says of itself is worth nothing; what a trusted proxy adds is. So everything is read from its end: the
//! last entry was written by who connected, and of addresses each one before it counts as long as its writer is trusted
//! too. A proxy may add its word behind its client's, so the last one counts for scheme and host as well.

use std::net::{IpAddr, SocketAddr};

use weir_snapshot::Networks;

use crate::http::{Known, Range, RequestHead, authority, list};

/// Where a request came from.
#[derive(Debug)]
pub(crate) struct Origin<'a> {
    /// The client's address, canonical: no IPv4 address as an IPv6 one.
    pub(crate) ip: IpAddr,
    /// The same as text.
    text: Text<'a>,
    /// Who connected is a trusted proxy.
    pub(crate) trusted: bool,
    /// The client came by TLS.
    pub(crate) https: bool,
    /// Where the host that the client asked for stands in the request's head, with its port.
    host: Option<Range>,
}

#[derive(Debug)]
enum Text<'a> {
    Peer(&'a str),
    Own(String),
}

impl<'a> Origin<'a> {
    /// Of a request that came from `peer`, whose address as text is `text`.
    pub(crate) fn of(
        trusted: &Networks,
        head: &RequestHead,
        (peer, text): (IpAddr, &'a str),
        https: bool,
    ) -> Self {
        let direct = Self { ip: peer, text: Text::Peer(text), trusted: false, https, host: head.host };
        // The usual case: nobody to ask.
        if trusted.is_empty() || !trusted.contains(peer) {
            return direct;
        }
        // RFC 7239 says it in one field. Where a proxy writes the other ones, what is in this one came from outside.
        let has_chain = head.get(Known::XForwardedFor).is_some();
        let elements = if has_chain { Vec::new() } else { elements(head) };
        let ip = if has_chain {
            let chain = head.all(Known::XForwardedFor).flat_map(list);
            first_untrusted(trusted, peer, chain.map(address).collect())
        } else {
            let node = |element: &&[u8]| parameter(element, b"for").and_then(|node| address(&node));
            first_untrusted(trusted, peer, elements.iter().map(node).collect())
        };
        let proto = match head.all(Known::XForwardedProto).flat_map(list).last() {
            Some(proto) => Some(proto.to_vec()),
            None => elements.last().and_then(|element| parameter(element, b"proto")),
        };
        let https = proto.map_or(https, |proto| proto.eq_ignore_ascii_case(b"https"));
        let mut fields = head.fields.iter();
        let said = fields.rfind(|field| field.known == Known::XForwardedHost);
        let said = said.filter(|field| authority::is_valid(head.value(field))).map(|field| field.value);
        let host = said.or(head.host);
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

    /// The host that the client asked for, with its port; `head` is the request's.
    pub(crate) fn host<'h>(&self, head: &'h RequestHead) -> Option<&'h [u8]> {
        let (from, to) = self.host?;
        head.buf.get(from as usize..to as usize)
    }

    /// `http` or `https`, as the client came.
    pub(crate) fn scheme(&self) -> &'static [u8] {
        if self.https { b"https" } else { b"http" }
    }
}

/// The last address in the chain that is not a trusted proxy's. What is no address ends the chain: who wrote it is the
/// farthest that is known.
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

/// An address, with or without port and brackets.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|it| it.ip()));
    address.map(|address| address.to_canonical())
}

/// The elements of all `Forwarded` fields, in order (RFC 7239 section 4).
fn elements(head: &RequestHead) -> Vec<&[u8]> {
    head.all(Known::Forwarded).flat_map(|line| split(line, b',')).collect()
}

/// What stands between separators that are not in quotes.
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
    use crate::http::{Limits, Parsed, parse_request};

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
        let origin = Origin::of(&trusted, &head, (ip, &text), false);
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
            // What the client itself said stands before.
            ("X-Forwarded-For: 9.9.9.9, 1.1.1.1\r\n", "1.1.1.1"),
            ("X-Forwarded-For: 9.9.9.9, 1.1.1.1, 10.3.3.3\r\n", "1.1.1.1"),
            ("X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 1.1.1.1, 10.3.3.3\r\n", "1.1.1.1"),
            ("X-Forwarded-For: 1.1.1.1:5000\r\n", "1.1.1.1"),
            ("X-Forwarded-For: [2001:db9::1]:5000\r\n", "2001:db9::1"),
            ("X-Forwarded-For: 2001:db9::1\r\n", "2001:db9::1"),
            ("X-Forwarded-For: ::ffff:1.1.1.1\r\n", "1.1.1.1"),
            // All are ours: the farthest.
            ("X-Forwarded-For: 10.9.9.9, 10.3.3.3\r\n", "10.9.9.9"),
            // What is no address hides who is behind it.
            ("X-Forwarded-For: 1.1.1.1, unknown, 10.3.3.3\r\n", "10.3.3.3"),
            ("X-Forwarded-For: unknown\r\n", "10.0.0.1"),
            ("X-Forwarded-For:\r\n", "10.0.0.1"),
            ("", "10.0.0.1"),
            ("Forwarded: for=1.1.1.1;proto=https\r\n", "1.1.1.1"),
            ("Forwarded: for=9.9.9.9, For=\"1.1.1.1:80\";by=x, for=10.3.3.3\r\n", "1.1.1.1"),
            ("Forwarded: for=\"[2001:db9::1]:80\"\r\n", "2001:db9::1"),
            ("Forwarded: for=\"[2001:db8::1]\"\r\n", "2001:db8::1"),
            ("Forwarded: for=_hidden\r\n", "10.0.0.1"),
            ("Forwarded: for=\"1.1.1.1, for=8.8.8.8\r\n", "10.0.0.1"),
            // A proxy that writes one field may pass on what a client says in the other.
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
            ("Forwarded: for=1.1.1.1;proto=https\r\n", true, "own"),
            ("X-Forwarded-Host: not a host\r\n", false, "own"),
            ("X-Forwarded-For: 1.1.1.1\r\nForwarded: proto=https\r\n", false, "own"),
            // A proxy that adds its word does not repeat its client's.
            ("X-Forwarded-Proto: https, http\r\n", false, "own"),
            ("X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n", false, "own"),
            ("X-Forwarded-Host: lie\r\nX-Forwarded-Host: www.example\r\n", false, "www.example"),
        ] {
            let seen = seen("10.0.0.1", fields);
            assert_eq!((seen.2, seen.3.as_str()), (https, host), "{fields}");
        }
    }
}
