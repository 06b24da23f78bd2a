//! Between HTTP/2's header maps and HTTP/1's bytes.
//!
//! HTTP/2 messages pass through the text form of HTTP/1.1 and its strict parsers, both ways: what HTTP/1 refuses does
//! not come in by another door, and what belongs to one hop is left out in one place.

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header,
    uri::{Authority, PathAndQuery, Scheme},
};

use super::{Field, Known, ResponseHead, Version, chunked::is_trailer, fields::push, push_number};

/// Appends an HTTP/2 request as an HTTP/1.1 head. Fields of one connection do not exist in HTTP/2 (RFC 9113, 8.2.2);
/// h2 has refused them. A cookie in pieces is put together again (8.2.3). An extended CONNECT for a WebSocket
/// (RFC 8441) becomes the GET that HTTP/1.1 knows (RFC 6455, 4.1).
pub(crate) fn write_request_head(
    out: &mut Vec<u8>,
    parts: &http::request::Parts,
    ended: bool,
    websocket: bool,
) {
    let method = if websocket { "GET" } else { parts.method.as_str() };
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    let authority = parts.uri.authority();
    match authority {
        Some(authority) if parts.method == Method::CONNECT && !websocket => {
            out.extend_from_slice(authority.as_str().as_bytes());
        }
        _ => {
            let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
            out.extend_from_slice(if target.is_empty() { b"/" } else { target.as_bytes() });
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(authority) = authority {
        push(out, b"Host", authority.as_str().as_bytes());
    }
    let mut cookies = 0;
    for (name, value) in &parts.headers {
        match *name {
            header::COOKIE => cookies += 1,
            // Two that disagree are refused by the parser, as two Host fields.
            header::HOST
                if authority.is_some_and(|authority| authority.as_str().as_bytes() == value.as_bytes()) => {}
            header::CONTENT_LENGTH | header::SEC_WEBSOCKET_KEY if websocket => {}
            _ => push(out, name.as_str().as_bytes(), value.as_bytes()),
        }
    }
    if cookies > 0 {
        out.extend_from_slice(b"Cookie: ");
        for (i, value) in parts.headers.get_all(header::COOKIE).iter().enumerate() {
            if i > 0 {
                out.extend_from_slice(b"; ");
            }
            out.extend_from_slice(value.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
    if websocket {
        // The key is this proxy's own, as it is the one who asks in HTTP/1.1.
        let key = BASE64.encode(fastrand::u128(..).to_be_bytes());
        push(out, b"Sec-WebSocket-Key", key.as_bytes());
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
    } else if !ended && !parts.headers.contains_key(header::CONTENT_LENGTH) {
        push(out, b"Transfer-Encoding", b"chunked");
    }
    out.extend_from_slice(b"\r\n");
}

/// The request that [`write_request`](super::write_request) wrote, as HTTP/2 says it. With `connects` an offer of a
/// WebSocket becomes an extended CONNECT, and the client's key is given back; any other offer of an upgrade is not
/// made, which HTTP allows (RFC 9110, 7.8). `secure`: it goes over TLS.
///
/// # Errors
/// HTTP/2 has no way to express the request; what is wrong, for the client.
pub(crate) fn request_from(
    head: &[u8],
    connects: bool,
    secure: bool,
) -> Result<(Request<()>, Option<Vec<u8>>), &'static str> {
    const HEAD: &str = "the request's head cannot be sent over HTTP/2";
    const FIELD: &str = "a field of the request cannot be sent over HTTP/2";
    const HOST: &str = "the request's host cannot be sent over HTTP/2";
    let mut table = [const { std::mem::MaybeUninit::uninit() }; super::MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    let whole = parsed.parse_with_uninit_headers(head, &mut table).map_err(|_| HEAD)?.is_complete();
    let (true, Some(method), Some(path)) = (whole, parsed.method, parsed.path) else { return Err(HEAD) };
    let mut fields = HeaderMap::with_capacity(parsed.headers.len());
    let (mut host, mut websocket, mut key) = (None, false, None);
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| FIELD)?;
        match name {
            header::HOST => host = Some(field.value).filter(|host| !host.is_empty()),
            header::UPGRADE => websocket |= field.value.eq_ignore_ascii_case(b"websocket"),
            header::SEC_WEBSOCKET_KEY => key = Some(field.value.to_vec()),
            header::CONNECTION | header::TRANSFER_ENCODING => {}
            header::TE if field.value != b"trailers" => {}
            // What speaks of an HTTP/1 connection, also where a route sets it (RFC 9113, 8.2.2).
            _ if matches!(name.as_str(), "keep-alive" | "proxy-connection") => {}
            _ => {
                fields.append(name, HeaderValue::from_bytes(field.value).map_err(|_| FIELD)?);
            }
        }
    }
    let key = key.filter(|_| connects && websocket);
    let host = host.ok_or("the backend speaks HTTP/2, which needs a Host")?;
    let authority = Authority::try_from(host).map_err(|_| HOST)?;
    let path = PathAndQuery::try_from(path).map_err(|_| "the request's target cannot be sent over HTTP/2")?;
    let scheme = if secure { Scheme::HTTPS } else { Scheme::HTTP };
    let mut request = Request::new(());
    *request.uri_mut() =
        Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().map_err(|_| HOST)?;
    *request.version_mut() = http::Version::HTTP_2;
    *request.method_mut() = if key.is_some() {
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        Method::CONNECT
    } else {
        Method::from_bytes(method.as_bytes()).map_err(|_| HEAD)?
    };
    *request.headers_mut() = fields;
    Ok((request, key))
}

/// How large a request's head is, as HTTP/2 counts it (RFC 9113, 6.5.2).
pub(crate) fn head_size(request: &Request<()>) -> usize {
    const FIELD: usize = 32;
    let uri = request.uri();
    let path = uri.path_and_query().map_or(1, |path| path.as_str().len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    let scheme = uri.scheme_str().map_or(0, str::len);
    let pseudo = ":method".len()
        + request.method().as_str().len()
        + ":path".len()
        + path
        + ":authority".len()
        + authority
        + ":scheme".len()
        + scheme
        + 4 * FIELD;
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD);
    pseudo + fields.sum::<usize>()
}

/// Appends an HTTP/2 answer's head as HTTP/1.1; with `accept`, as the agreement to a WebSocket.
pub(crate) fn write_response_head(out: &mut Vec<u8>, parts: &http::response::Parts, accept: Option<&str>) {
    let status = if accept.is_some() { http::StatusCode::SWITCHING_PROTOCOLS } else { parts.status };
    out.extend_from_slice(b"HTTP/1.1 ");
    push_number(out, u64::from(status.as_u16()));
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in &parts.headers {
        push(out, name.as_str().as_bytes(), value.as_bytes());
    }
    if let Some(accept) = accept {
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
        push(out, b"Sec-WebSocket-Accept", accept.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// What a server says to a client's key (RFC 6455, 4.2.2).
pub(crate) fn websocket_accept(key: &[u8]) -> String {
    use sha1::Digest as _;
    let mut hash = sha1::Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64.encode(hash.finalize())
}

/// An answer's fields as HTTP/2 sends them, without those of one hop.
pub(crate) fn response_fields(head: &ResponseHead, date: Option<&HeaderValue>, switched: bool) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(head.fields.len() + 3);
    // One copy of the head, of which the values are slices.
    let whole = Bytes::copy_from_slice(&head.buf);
    let belongs_to_hop = |field: &Field| {
        // The agreement to switch is said by the status there.
        field.hop
            || field.known == Known::Upgrade
            || switched && head.name(field).eq_ignore_ascii_case(b"sec-websocket-accept")
    };
    for field in head.fields.iter().filter(|field| !belongs_to_hop(field)) {
        let name = HeaderName::from_bytes(head.name(field));
        let value = whole.slice(field.value.0 as usize..field.value.1 as usize);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_maybe_shared(value)) {
            fields.append(name, value);
        }
    }
    if head.status >= 200 {
        if let Some(length) = head.content_length {
            fields.insert(header::CONTENT_LENGTH, length.into());
        }
        if !head.date
            && let Some(date) = date
        {
            fields.insert(header::DATE, date.clone());
        }
    }
    if !head.hides_via {
        let via = match head.version {
            Version::Http10 => "1.0 weir",
            Version::Http11 => "1.1 weir",
            Version::Http2 => "2.0 weir",
        };
        fields.append(header::VIA, HeaderValue::from_static(via));
    }
    fields
}

/// Trailer lines as a map.
pub(crate) fn read_trailers(lines: &[u8]) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            trailers.append(name, value);
        }
    }
    trailers
}

/// Appends trailers as lines, without those that a trailer must not carry (RFC 9110, 6.5.1).
pub(crate) fn push_trailers(lines: &mut Vec<u8>, trailers: &HeaderMap) {
    for (name, value) in trailers {
        if is_trailer(name.as_str().as_bytes()) {
            push(lines, name.as_str().as_bytes(), value.as_bytes());
        }
    }
}
