//! HTTP/2 requests, which pass the strict parser as text: no value may become a line.
//!
//! The input is a line `METHOD scheme://authority/path`, then lines `name: value`; NUL stands for a line feed, so that
//! values with one can be tried too. Input that h2 itself rejects is skipped.

use http::{HeaderName, HeaderValue, Method, Request, Uri, header};

use super::{request::accepted, witness};
use crate::{
    BodyFraming, Limits, Parsed, RequestHead, parse_request,
    translate::{Http2Request, request_from, write_request_head},
};

/// Fields of one connection: HTTP/2 has none of them (RFC 9113 section 8.2.2), and hyper resets their streams.
const REFUSED: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

pub(super) fn head(input: &[u8]) {
    let Some(parts) = read(input) else { return };
    for ended in [false, true] {
        let Some((text, head)) = parse(&parts, ended, false, &Limits::default()) else { continue };
        accepted(&head, &text, &Limits::default());
        same(&parts, &head, &text, ended);
    }
    if parts.method == Method::CONNECT
        && let Some((text, head)) = parse(&parts, true, true, &Limits::default())
    {
        accepted(&head, &text, &Limits::default());
        assert!(head.upgrade && head.method() == b"GET" && head.framing == BodyFraming::None);
        witness::head(&text).one("sec-websocket-key");
    }
}

fn parse(
    parts: &http::request::Parts,
    ended: bool,
    websocket: bool,
    limits: &Limits,
) -> Option<(Vec<u8>, RequestHead)> {
    let mut text = Vec::new();
    write_request_head(&mut text, parts, ended, websocket);
    let mut head = RequestHead::new();
    let Ok(Parsed::Complete { consumed }) = parse_request(&text, limits, &mut head) else { return None };
    // A value that ended the head would leave the rest for another request.
    assert_eq!(consumed, text.len(), "the head ends before its end");
    Some((text, head))
}

/// A head for a backend, as it is said to one of HTTP/2: no field of a connection, and on the other side the same again.
pub(super) fn upwards(head: &RequestHead, written: &[u8]) {
    let Ok(Http2Request { request, websocket_key: key }) = request_from(written, true, false) else { return };
    let parts = request.into_parts().0;
    for name in REFUSED {
        assert!(!parts.headers.contains_key(name), "{name} in HTTP/2");
    }
    let codes: Vec<_> = parts.headers.get_all(header::TE).iter().collect();
    assert!(codes.is_empty() || codes == ["trailers"], "{codes:?}");
    if key.is_some() {
        assert!(head.upgrade && parts.method == Method::CONNECT);
        return;
    }
    assert_eq!(parts.method.as_str().as_bytes(), head.method());
    let wide = Limits { max_head: 1 << 20, max_fields: 1024, max_target: 1 << 20 };
    let Some((_, next)) = parse(&parts, head.framing == BodyFraming::None, false, &wide) else {
        panic!("refused after HTTP/2: {}", super::show(written));
    };
    let mut first = RequestHead::new();
    assert!(matches!(parse_request(written, &wide, &mut first), Ok(Parsed::Complete { .. })));
    assert_eq!(next.path_and_query(), first.path_and_query());
    assert_eq!(next.host(), first.host());
    assert_eq!(next.framing, first.framing);
    let others = |head: &RequestHead| {
        let own = |name: &[u8]| {
            [&b"cookie"[..], b"te", b"upgrade", b"connection", b"sec-websocket-key", b"transfer-encoding"]
                .contains(&name)
        };
        let lines = head.fields.iter();
        let lines = lines.map(|field| (head.name(field).to_ascii_lowercase(), head.value(field).to_vec()));
        let mut lines: Vec<_> = lines.filter(|(name, _)| !own(name)).collect();
        // HTTP/2 keeps the order within a name only.
        lines.sort_by(|one, other| one.0.cmp(&other.0));
        lines
    };
    assert_eq!(others(&next), others(&first));
}

fn read(input: &[u8]) -> Option<http::request::Parts> {
    let mut lines = input.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let space = first.iter().position(|byte| *byte == b' ')?;
    let method = Method::from_bytes(&first[..space]).ok()?;
    let uri = Uri::try_from(&first[space + 1..]).ok()?;
    let mut request = Request::builder().method(method).uri(uri);
    for line in lines.filter(|line| !line.is_empty()) {
        let colon = line.iter().skip(1).position(|byte| *byte == b':')? + 1;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value: Vec<u8> =
            line[colon + 1..].iter().map(|byte| if *byte == 0 { b'\n' } else { *byte }).collect();
        let value = HeaderValue::from_bytes(&value).ok()?;
        if !REFUSED.contains(&name.as_str()) {
            request = request.header(name, value);
        }
    }
    Some(request.body(()).ok()?.into_parts().0)
}

/// The text says what the request said.
fn same(parts: &http::request::Parts, head: &RequestHead, text: &[u8], ended: bool) {
    assert_eq!(head.method(), parts.method.as_str().as_bytes());
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let host = parts.headers.get(http::header::HOST).map(HeaderValue::as_bytes);
    assert_eq!(head.host(), authority.or(host.map(<[u8]>::trim_ascii)));
    // CONNECT names an authority only (RFC 9113, 8.5), and Weir opens no tunnel for it.
    let path = parts.uri.path_and_query().filter(|_| parts.method != Method::CONNECT);
    let path = path.map_or("/", |path| path.as_str());
    assert_eq!(head.path_and_query(), if path.is_empty() { "/" } else { path }.as_bytes());

    let length = parts.headers.get(http::header::CONTENT_LENGTH);
    assert_eq!(head.framing == BodyFraming::Chunked, !ended && length.is_none());
    let read = witness::head(text);
    let own = |name: &str| matches!(name, "host" | "cookie" | "transfer-encoding");
    let mut sent: Vec<_> = parts
        .headers
        .iter()
        .filter(|(name, _)| !own(name.as_str()))
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().trim_ascii().to_vec()))
        .collect();
    let mut came: Vec<_> = read
        .fields
        .iter()
        .map(|(name, value)| (String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()))
        .filter(|(name, _)| !own(name))
        .collect();
    sent.sort();
    came.sort();
    assert_eq!(came, sent);
    let cookies: Vec<&[u8]> =
        parts.headers.get_all(http::header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined: Vec<&[u8]> = read.all("cookie").collect();
    match cookies.as_slice() {
        [] => assert!(joined.is_empty()),
        pieces => assert_eq!(joined, [pieces.join(&b"; "[..]).trim_ascii()]),
    }
}
