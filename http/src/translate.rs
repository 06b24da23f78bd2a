//! Conversion between HTTP/2's header maps and HTTP/1 heads.
//!
//! HTTP/2 messages pass through the text form of HTTP/1.1 and its strict parsers, in both directions. Thus HTTP/2 cannot
//! carry what HTTP/1 rejects, and the fields of one hop are removed in one place.

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header,
    uri::{Authority, PathAndQuery, Scheme},
};

use super::{Field, FieldKind, ResponseHead, Version, chunked::is_trailer, fields::push, push_number};

/// Appends an HTTP/2 request as an HTTP/1.1 head. Connection-specific fields do not exist in HTTP/2 (RFC 9113 section
/// 8.2.2); h2 has rejected them. Cookie fields are joined (section 8.2.3). An extended CONNECT for a WebSocket
/// (RFC 8441) becomes the GET of HTTP/1.1 (RFC 6455 section 4.1).
pub fn write_request_head(out: &mut Vec<u8>, parts: &http::request::Parts, ended: bool, websocket: bool) {
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
            // If they disagree, the parser rejects them as two Host fields.
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
        // The key is this proxy's own, because it is the client of the HTTP/1.1 handshake.
        let key = BASE64.encode(fastrand::u128(..).to_be_bytes());
        push(out, b"Sec-WebSocket-Key", key.as_bytes());
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
    } else if !ended && !parts.headers.contains_key(header::CONTENT_LENGTH) {
        push(out, b"Transfer-Encoding", b"chunked");
    }
    out.extend_from_slice(b"\r\n");
}

/// A request as HTTP/2 sends it.
#[derive(Debug)]
pub struct Http2Request {
    /// An extended CONNECT where `websocket_key` is there; its sender sets `:protocol` to `websocket` (RFC 8441).
    pub request: Request<()>,
    /// The client's Sec-WebSocket-Key (RFC 6455 section 4.1).
    pub websocket_key: Option<Vec<u8>>,
}

/// Converts a head written by [`write_request`](super::write_request) to HTTP/2. With `connects` the offer of a WebSocket
/// becomes an extended CONNECT. Any other offer of an upgrade is dropped, which HTTP permits (RFC 9110 section 7.8).
/// `secure`: the scheme is `https`.
///
/// # Errors
/// HTTP/2 cannot express the request. The text is for the client.
pub fn request_from(head: &[u8], connects: bool, secure: bool) -> Result<Http2Request, &'static str> {
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
            // Fields of an HTTP/1 connection, also where a route sets them (RFC 9113 section 8.2.2).
            _ if matches!(name.as_str(), "keep-alive" | "proxy-connection") => {}
            _ => {
                fields.append(name, HeaderValue::from_bytes(field.value).map_err(|_| FIELD)?);
            }
        }
    }
    let key = key.filter(|_| connects && websocket);
    let host = host.ok_or("the backend uses HTTP/2, which needs a Host")?;
    let authority = Authority::try_from(host).map_err(|_| HOST)?;
    let path = PathAndQuery::try_from(path).map_err(|_| "the request's target cannot be sent over HTTP/2")?;
    let scheme = if secure { Scheme::HTTPS } else { Scheme::HTTP };
    let mut request = Request::new(());
    *request.uri_mut() =
        Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().map_err(|_| HOST)?;
    *request.version_mut() = http::Version::HTTP_2;
    *request.method_mut() = if key.is_some() {
        Method::CONNECT
    } else {
        Method::from_bytes(method.as_bytes()).map_err(|_| HEAD)?
    };
    *request.headers_mut() = fields;
    Ok(Http2Request { request, websocket_key: key })
}

/// The size of a request's head as HTTP/2 counts it (RFC 9113 section 6.5.2).
pub fn head_size(request: &Request<()>) -> usize {
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

/// Appends an HTTP/2 response's head as HTTP/1.1. With `accept`, the Sec-WebSocket-Accept, it becomes a 101.
pub fn write_response_head(out: &mut Vec<u8>, parts: &http::response::Parts, accept: Option<&str>) {
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

/// The Sec-WebSocket-Accept for a client's Sec-WebSocket-Key (RFC 6455 section 4.2.2).
pub fn websocket_accept(key: &[u8]) -> String {
    use sha1::Digest as _;
    let mut hash = sha1::Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64.encode(hash.finalize())
}

/// A response's fields as HTTP/2 sends them, without those of one hop. `switched`: the response accepts a WebSocket.
pub fn response_fields(head: &ResponseHead, date: Option<&HeaderValue>, switched: bool) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(head.fields.len() + 3);
    // One copy of the head, of which the values are slices.
    let whole = Bytes::copy_from_slice(&head.buf);
    let belongs_to_hop = |field: &Field| {
        // HTTP/2 accepts a WebSocket with the status alone.
        field.hop
            || field.kind == FieldKind::Upgrade
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

/// Converts trailer lines to a map.
pub fn read_trailers(lines: &[u8]) -> HeaderMap {
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

/// Appends trailers as lines, without fields that must not be trailers (RFC 9110 section 6.5.1).
pub fn push_trailers(lines: &mut Vec<u8>, trailers: &HeaderMap) {
    for (name, value) in trailers {
        if is_trailer(name.as_str().as_bytes()) {
            push(lines, name.as_str().as_bytes(), value.as_bytes());
        }
    }
}
