//! Writers of the heads that a proxy forwards: the parsed head without the fields of the former hop and with those of
//! the next hop (RFC 9110 section 7.6).

use std::sync::Arc;

use super::{
    BodyFraming, FieldKind, RequestHead, ResponseFraming, ResponseHead, TargetForm, Version,
    aliases::HeaderGuard,
    cookies::{CookieNames, cookie_pairs},
    edit::RequestEdit,
    fields::{push, write},
    push_number,
};

/// The fields that a proxy adds to a request and the changes that it makes.
#[derive(Clone, Copy, Debug)]
pub struct Forwarded<'a> {
    /// The client's address, as text.
    pub client_ip: &'a [u8],
    /// The address of the connection's peer, as text; it differs from the client's behind a trusted proxy.
    pub peer_ip: &'a [u8],
    /// The client's scheme, `http` or `https`.
    pub proto: &'static [u8],
    /// The scheme of the peer's connection.
    pub peer_proto: &'static [u8],
    /// The host that the client requested.
    pub host: &'a [u8],
    /// Replaces the client's `X-Request-Id`; empty: the client's is kept.
    pub request_id: &'a [u8],
    /// The peer is a trusted proxy: its address is added to the chain that it sent. Otherwise the chain is replaced.
    pub trust: bool,
    /// The route's changes.
    pub edit: Option<&'a RequestEdit<'a>>,
    /// The headers that the route vouches for.
    pub guard: Option<&'a HeaderGuard>,
    /// Session cookies of the proxy, which are not forwarded.
    pub session_cookies: &'a [Arc<CookieNames>],
    /// No `Via` is added.
    pub omit_via: bool,
    /// The connection to the backend uses TLS.
    pub is_secured: bool,
}

/// Appends the request's head as the backend receives it.
pub fn write_request(
    out: &mut Vec<u8>,
    head: &RequestHead,
    forwarded: &Forwarded<'_>,
    framing: BodyFraming,
    upgrade: bool,
) {
    out.reserve(head.buf.len() + 320);
    out.extend_from_slice(head.method());
    out.push(b' ');
    let edit = forwarded.edit;
    if let Some(target) = edit.and_then(|edit| edit.target.as_deref()) {
        out.extend_from_slice(target);
    } else if head.form == TargetForm::Absolute && head.origin.0 == head.origin.1 && head.is_options() {
        // RFC 9112 section 3.2.4: the last proxy turns an empty path back into the asterisk.
        out.push(b'*');
    } else {
        let origin = head.path_and_query();
        if origin.first() == Some(&b'?') {
            out.push(b'/');
        }
        out.extend_from_slice(origin);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let other_host = edit.and_then(|edit| edit.host);
    if let Some(host) = other_host {
        push(out, b"Host", host.as_bytes());
    } else if head.own_host || head.host.is_none() {
        push(out, b"Host", head.host().unwrap_or(forwarded.host));
    }
    let removes = |name: &[u8]| edit.is_some_and(|edit| edit.removes(name));
    let prefix = edit.and_then(|edit| edit.prefix);
    let destination = edit.and_then(|edit| edit.destination.as_ref());
    let passes_aliases = forwarded.guard.is_some_and(HeaderGuard::passes_aliases);
    let vouches = |name: &[u8]| forwarded.guard.is_some_and(|guard| guard.vouches(name));
    let drops = |name: &[u8]| forwarded.guard.is_some_and(|guard| guard.drops(name));

    let forward_max = head.is_options() || head.is_trace();
    let mut seen = Seen::default();
    write(out, &head.buf, &head.fields, |field| match field.kind {
        _ if edit.is_some() && removes(head.name(field)) => false,
        FieldKind::Other => {
            !field.hop
                && !drops(head.name(field))
                && (destination.is_none() || !head.name(field).eq_ignore_ascii_case(b"destination"))
        }
        FieldKind::Alias => (passes_aliases || vouches(head.name(field))) && !field.hop,
        // A stripped prefix is appended to the one that a proxy before this one stripped.
        FieldKind::Claim => {
            let is_prefix = prefix.is_some() && head.name(field).eq_ignore_ascii_case(b"x-forwarded-prefix");
            let is_true = forwarded.trust && !drops(head.name(field)) || vouches(head.name(field));
            is_true && !is_prefix && !field.hop
        }
        FieldKind::Cookie if !forwarded.session_cookies.is_empty() => {
            let is_whole = cookie_pairs(head.value(field)).all(|pair| !is_session(forwarded, pair.name));
            seen.sessions |= !is_whole && !field.hop;
            is_whole && !field.hop
        }
        FieldKind::Host => !head.own_host && other_host.is_none(),
        FieldKind::Trailer => framing == BodyFraming::Chunked && !field.hop,
        FieldKind::Upgrade => upgrade,
        FieldKind::XForwardedFor => {
            seen.chain = true;
            false
        }
        FieldKind::XForwardedProto | FieldKind::XForwardedHost | FieldKind::XRealIp => false,
        FieldKind::Forwarded => {
            seen.forwarded = true;
            false
        }
        FieldKind::XRequestId => forwarded.request_id.is_empty(),
        FieldKind::MaxForwards => !forward_max && !field.hop,
        _ => !field.hop,
    });

    if seen.sessions {
        cookies(out, head, forwarded);
    }
    match framing {
        BodyFraming::None => {}
        BodyFraming::Length(length) => content_length(out, length),
        BodyFraming::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    match (upgrade, head.te_trailers) {
        (true, true) => out.extend_from_slice(b"Connection: upgrade, te\r\nTE: trailers\r\n"),
        (true, false) => out.extend_from_slice(b"Connection: upgrade\r\n"),
        (false, true) => out.extend_from_slice(b"Connection: te\r\nTE: trailers\r\n"),
        (false, false) => {}
    }
    if forward_max && let Some(left) = max_forwards(head) {
        out.extend_from_slice(b"Max-Forwards: ");
        push_number(out, left.saturating_sub(1));
        out.extend_from_slice(b"\r\n");
    }
    if !removes(b"x-forwarded-for") {
        out.extend_from_slice(b"X-Forwarded-For: ");
        if seen.chain && forwarded.trust {
            joined(out, head, FieldKind::XForwardedFor);
        }
        out.extend_from_slice(forwarded.peer_ip);
        out.extend_from_slice(b"\r\n");
    }
    if seen.forwarded && forwarded.trust && !removes(b"forwarded") {
        out.extend_from_slice(b"Forwarded: ");
        joined(out, head, FieldKind::Forwarded);
        forwarded_element(out, forwarded);
    }
    if !removes(b"x-forwarded-proto") {
        push(out, b"X-Forwarded-Proto", forwarded.proto);
    }
    if !removes(b"x-forwarded-host") {
        push(out, b"X-Forwarded-Host", forwarded.host);
    }
    if !removes(b"x-real-ip") {
        push(out, b"X-Real-IP", forwarded.client_ip);
    }
    if !forwarded.request_id.is_empty() && !removes(b"x-request-id") {
        push(out, b"X-Request-Id", forwarded.request_id);
    }
    if let Some(prefix) = prefix {
        forwarded_prefix(out, head, forwarded, prefix.as_bytes());
    }
    if let Some(destination) = destination {
        out.extend_from_slice(b"Destination: ");
        if destination.is_absolute {
            out.extend_from_slice(if forwarded.is_secured { b"https://" } else { b"http://" });
        }
        out.extend_from_slice(&destination.rest);
        out.extend_from_slice(b"\r\n");
    }
    if let Some(edit) = edit {
        out.extend_from_slice(&edit.lines);
    }
    if !forwarded.omit_via && !removes(b"via") {
        via(out, head.version);
    }
    out.extend_from_slice(b"\r\n");
}

fn is_session(forwarded: &Forwarded<'_>, name: &[u8]) -> bool {
    forwarded.session_cookies.iter().any(|names| names.contains(name))
}

/// Appends the Cookie fields that contain session cookies, without those cookies.
fn cookies(out: &mut Vec<u8>, head: &RequestHead, forwarded: &Forwarded<'_>) {
    let lines = head.fields.iter().filter(|field| field.kind == FieldKind::Cookie && !field.hop);
    for line in lines.map(|field| head.value(field)) {
        let mut pairs = cookie_pairs(line).filter(|pair| !is_session(forwarded, pair.name)).peekable();
        // Fields without session cookies were forwarded unchanged.
        if pairs.peek().is_none() || cookie_pairs(line).all(|pair| !is_session(forwarded, pair.name)) {
            continue;
        }
        for (i, pair) in pairs.enumerate() {
            out.extend_from_slice(if i == 0 { b"Cookie: " } else { b"; " });
            out.extend_from_slice(pair.raw);
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends `X-Forwarded-Prefix`: the prefix that clients see and the backend does not.
fn forwarded_prefix(out: &mut Vec<u8>, head: &RequestHead, forwarded: &Forwarded<'_>, prefix: &[u8]) {
    // Only a path can be joined with the prefix.
    let is_path = |before: &&[u8]| {
        before.starts_with(b"/")
            && before.iter().all(|byte| byte.is_ascii_graphic() && !b",\"?#".contains(byte))
    };
    let before = if forwarded.trust { head.get_named(b"x-forwarded-prefix").filter(is_path) } else { None };
    let before = before.map_or(&[][..], |before| before.strip_suffix(b"/").unwrap_or(before));
    let removes = forwarded.edit.is_some_and(|edit| edit.is_removed(b"x-forwarded-prefix"));
    let own = forwarded.edit.and_then(|edit| edit.prefix_header);
    for name in [Some("X-Forwarded-Prefix").filter(|_| !removes), own].into_iter().flatten() {
        for piece in [name.as_bytes(), b": ", before, prefix, b"\r\n"] {
            out.extend_from_slice(piece);
        }
    }
}

/// Appends the values of all fields of this kind, each followed by a comma.
fn joined(out: &mut Vec<u8>, head: &RequestHead, kind: FieldKind) {
    for value in head.all(kind).filter(|value| !value.is_empty()) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
}

/// Appends this hop's element of `Forwarded` (RFC 7239), where IPv6 addresses are in brackets and quotes.
fn forwarded_element(out: &mut Vec<u8>, forwarded: &Forwarded<'_>) {
    let is_v6 = forwarded.peer_ip.contains(&b':');
    let (open, close): (&[u8], &[u8]) = if is_v6 { (b"\"[", b"]\"") } else { (b"", b"") };
    for piece in [b"for=", open, forwarded.peer_ip, close, b";proto=", forwarded.peer_proto, b"\r\n"] {
        out.extend_from_slice(piece);
    }
}

/// Fields that the request has.
#[derive(Default)]
struct Seen {
    chain: bool,
    forwarded: bool,
    /// A session cookie of the proxy.
    sessions: bool,
}

/// How many more proxies an OPTIONS or TRACE request may pass (RFC 9110 section 7.6.2). At 0 this proxy must answer it.
/// A value that is not a number is ignored.
pub fn max_forwards(head: &RequestHead) -> Option<u64> {
    std::str::from_utf8(head.get(FieldKind::MaxForwards)?).ok()?.parse().ok()
}

/// Appends the response's head as the client receives it. `how` is the framing towards the client. With `None` no body
/// follows, and Content-Length is forwarded for information (HEAD, 304).
pub fn write_response(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    how: ResponseFraming,
    keep_alive: bool,
    client_version: Version,
    date: Option<&[u8]>,
    upgrade: bool,
) {
    debug_assert!(
        how != ResponseFraming::Chunked || client_version != Version::Http10,
        "an HTTP/1.0 client cannot read chunks"
    );
    out.reserve(head.buf.len() + 160);
    out.extend_from_slice(b"HTTP/1.1 ");
    push_number(out, u64::from(head.status));
    out.push(b' ');
    out.extend_from_slice(head.reason());
    out.extend_from_slice(b"\r\n");
    // A 426 must name the required protocols (RFC 9110 section 15.5.22); HTTP/1.0 has no upgrades.
    let names_protocols = upgrade || head.status == 426 && client_version == Version::Http11;
    write(out, &head.buf, &head.fields, |field| match field.kind {
        FieldKind::Other => !field.hop,
        FieldKind::Trailer => how == ResponseFraming::Chunked && !field.hop,
        FieldKind::Upgrade => names_protocols,
        _ => !field.hop,
    });
    let interim = head.status < 200;
    match how {
        ResponseFraming::None if !interim && head.status != 204 => {
            if let Some(length) = head.content_length {
                content_length(out, length);
            }
        }
        ResponseFraming::Length(length) => content_length(out, length),
        ResponseFraming::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        ResponseFraming::None | ResponseFraming::UntilClose => {}
    }
    if upgrade {
        out.extend_from_slice(b"Connection: upgrade\r\n");
    } else if !interim {
        if names_protocols {
            let connection: &[u8] =
                if keep_alive { b"Connection: upgrade\r\n" } else { b"Connection: upgrade, close\r\n" };
            out.extend_from_slice(connection);
        } else if !keep_alive {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if client_version == Version::Http10 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        if let Some(date) = date
            && !head.date
        {
            push(out, b"Date", date);
        }
    }
    if !head.hides_via {
        via(out, head.version);
    }
    out.extend_from_slice(b"\r\n");
}

fn content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    push_number(out, length);
    out.extend_from_slice(b"\r\n");
}

/// Appends `Via` with the version in which the message arrived (RFC 9110 section 7.6.3).
fn via(out: &mut Vec<u8>, version: Version) {
    out.extend_from_slice(match version {
        Version::Http10 => b"Via: 1.0 weir\r\n",
        Version::Http11 => b"Via: 1.1 weir\r\n",
        Version::Http2 => b"Via: 2.0 weir\r\n",
    });
}
