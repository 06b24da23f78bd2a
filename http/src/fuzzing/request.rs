//! Request heads: what the parser accepts, and what the writer makes of it.

use super::{
    cuts, show,
    witness::{self, Framing, Head},
};
use crate::{
    BodyFraming, FieldKind, Forwarded, Limits, Parsed, RequestHead, Version, parse_request, write_request,
};

const ADDRESS: &[u8] = b"192.0.2.1";
const ID: &[u8] = b"0123456789abcdef";

/// Nothing that is written again from an accepted head is larger.
const WIDE: Limits = Limits { max_head: 1 << 20, max_fields: 1024, max_target: 1 << 20 };
const TIGHT: Limits = Limits { max_head: 256, max_fields: 6, max_target: 48 };

/// Fields that a proxy takes away, or says itself.
const OWN: [&str; 20] = [
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
];

/// Further fields that Connection names and cannot remove.
const KEPT: [&str; 1] = ["via"];

pub(super) fn head(input: &[u8]) {
    for limits in [Limits::default(), TIGHT] {
        let mut head = RequestHead::new();
        let whole = parse_request(input, &limits, &mut head);
        for cut in cuts(input) {
            let mut part = RequestHead::new();
            match parse_request(&input[..cut], &limits, &mut part) {
                Ok(Parsed::Partial) => {}
                Ok(complete) => assert_eq!(whole, Ok(complete), "what follows a head changes it"),
                Err(_) => assert!(whole.is_err(), "refused after {cut} bytes, and accepted with more"),
            }
            if let Ok(Parsed::Complete { consumed }) = whole {
                assert_eq!(cut >= consumed, !part.buf.is_empty(), "accepted before its end");
            }
        }
        if let Ok(Parsed::Complete { consumed }) = whole {
            assert!(consumed <= input.len());
            accepted(&head, &input[..consumed], &limits);
        }
    }
}

/// Invariants of each accepted head, given its bytes.
pub(super) fn accepted(head: &RequestHead, bytes: &[u8], limits: &Limits) {
    let read = witness::head(bytes.strip_prefix(b"\r\n").unwrap_or(bytes));
    let (method, target, old) = witness::request_line(read.start);
    assert!(bytes.len() <= limits.max_head && read.fields.len() <= limits.max_fields);
    assert!(target.len() <= limits.max_target);
    assert_eq!((head.method(), head.target()), (method, target));
    assert_eq!(head.version, if old { Version::Http10 } else { Version::Http11 });
    let fields: Vec<_> = head.fields.iter().map(|field| (head.name(field), head.value(field))).collect();
    assert_eq!(fields, read.fields, "the fields' lines");

    let framing = match read.framing() {
        Framing::Unsaid => BodyFraming::None,
        Framing::Length(length) => BodyFraming::Length(length),
        Framing::Chunked => BodyFraming::Chunked,
    };
    assert_eq!(head.framing, framing);
    assert!(!(old && framing == BodyFraming::Chunked), "chunks in HTTP/1.0");

    let hosts = read.all("host").count();
    assert!(hosts == 1 || old && hosts == 0, "{hosts} hosts");
    let authority = authority_of(method, target).or_else(|| read.all("host").next());
    assert_eq!(head.host(), authority);
    if let Some(authority) = authority {
        assert!(!authority.is_empty() && !authority.iter().any(|byte| b",/?#@\\ \t".contains(byte)));
    }
    let options = read.members("connection");
    let said = |option: &str| options.iter().any(|member| member == option.as_bytes());
    assert_eq!(head.keep_alive, !said("close") && (!old || said("keep-alive")));
    assert!(!head.upgrade || !old && said("upgrade") && read.all("upgrade").next().is_some());
    assert_eq!(head.te_trailers, !old && read.members("te").iter().any(|code| code == b"trailers"));
    assert!(!head.expect_continue || !old && !framing.is_empty());

    if head.is_forwardable() {
        written(head, &read, false);
        written(head, &read, true);
    }
}

/// The authority of a target in absolute-form.
fn authority_of<'a>(method: &[u8], target: &'a [u8]) -> Option<&'a [u8]> {
    if method == b"CONNECT" || matches!(target, [b'/' | b'*', ..]) {
        return None;
    }
    let at = target.windows(3).position(|window| window == b"://")?;
    let rest = &target[at + 3..];
    rest.split(|byte| matches!(byte, b'/' | b'?')).next()
}

/// Writes the request as the proxy does.
pub(super) fn forward(head: &RequestHead, trust: bool) -> Vec<u8> {
    let forwarded = Forwarded {
        client_ip: ADDRESS,
        peer_ip: ADDRESS,
        proto: b"https",
        peer_proto: b"https",
        host: head.host().unwrap_or_default(),
        request_id: if head.get(FieldKind::XRequestId).is_some() { b"" } else { ID },
        trust,
        edit: None,
        guard: None,
        session_cookies: &[],
        omit_via: false,
        is_secured: false,
    };
    let mut out = Vec::new();
    write_request(&mut out, head, &forwarded, head.framing, head.upgrade && head.framing.is_empty());
    out
}

/// Invariants of each head that is sent to a backend; `came` is what the client sent.
fn written(head: &RequestHead, came: &Head<'_>, trust: bool) {
    let out = forward(head, trust);
    let sent = witness::head(&out);
    assert_eq!(sent.length, out.len(), "a head ends within what was written: {}", show(&out));
    let (method, target, old) = witness::request_line(sent.start);
    assert_eq!((method, old), (head.method(), false));
    assert_eq!(target, expected_target(head));
    assert_eq!(sent.one("host"), head.host().unwrap_or_default());
    let framing = match sent.framing() {
        Framing::Unsaid => BodyFraming::None,
        Framing::Length(length) => BodyFraming::Length(length),
        Framing::Chunked => BodyFraming::Chunked,
    };
    assert_eq!(framing, head.framing);

    let upgrade = head.upgrade && head.framing.is_empty();
    for name in
        ["keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate", "http2-settings"]
    {
        assert_eq!(sent.all(name).count(), 0, "{name} is passed on");
    }
    let mut options = Vec::new();
    options.extend(upgrade.then(|| b"upgrade".to_vec()));
    options.extend(head.te_trailers.then(|| b"te".to_vec()));
    assert_eq!(sent.members("connection"), options);
    assert!(sent.all("connection").count() <= 1);
    let codes: &[&[u8]] = if head.te_trailers { &[b"trailers"] } else { &[] };
    assert_eq!(sent.all("te").collect::<Vec<_>>(), codes);
    assert_eq!(sent.all("upgrade").next().is_some(), upgrade);
    let is_http2 =
        |protocol: &Vec<u8>| matches!(protocol.split(|byte| *byte == b'/').next(), Some(b"h2c" | b"h2"));
    assert!(!sent.members("upgrade").iter().any(is_http2), "an offer of HTTP/2 is passed on");

    provenance(&sent, trust);
    others(came, &sent, trust);
    again(head, &out);
    if head.host().is_some() {
        super::http2::upwards(head, &out);
    }
}

fn expected_target(head: &RequestHead) -> Vec<u8> {
    let target = head.target();
    let Some(authority) = authority_of(head.method(), target) else { return target.to_vec() };
    let scheme = target.windows(3).position(|window| window == b"://").unwrap_or_default() + 3;
    match &target[scheme + authority.len()..] {
        [] if head.method() == b"OPTIONS" => b"*".to_vec(),
        [] => b"/".to_vec(),
        rest @ [b'?', ..] => [b"/", rest].concat(),
        rest => rest.to_vec(),
    }
}

/// The fields by which a backend learns who asked: one of each, and a stranger's word counts for nothing.
fn provenance(sent: &Head<'_>, trust: bool) {
    let chain = sent.one("x-forwarded-for");
    assert!(if trust { chain.ends_with(ADDRESS) } else { chain == ADDRESS }, "{}", show(chain));
    // The trusted value was chosen before (`origin`): there is one, and never the client's own.
    assert_eq!(sent.one("x-forwarded-proto"), b"https");
    // Also a trusted proxy may have passed on what a client said here.
    assert_eq!(sent.one("x-real-ip"), ADDRESS);
    sent.one("x-forwarded-host");
    assert!(trust || sent.all("forwarded").next().is_none(), "a stranger's Forwarded is passed on");
    assert!(sent.all("x-request-id").next().is_some(), "a request without an id");
}

/// All that is not a proxy's affair arrives as it was, in order; what Connection names does not.
fn others(came: &Head<'_>, sent: &Head<'_>, trust: bool) {
    let nominated = came.members("connection");
    let is_own = |name: &[u8]| OWN.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()));
    let is_named = |name: &[u8]| {
        let name = name.to_ascii_lowercase();
        !KEPT.iter().any(|kept| name == kept.as_bytes()) && nominated.contains(&name)
    };
    // Options that are no fields may or may not take a field of their name away.
    let is_option = |name: &[u8]| matches!(name.to_ascii_lowercase().as_slice(), b"close");
    let rest = |head: &Head<'_>| -> Vec<(Vec<u8>, Vec<u8>)> {
        head.fields
            .iter()
            .filter(|(name, _)| !is_own(name) && !is_option(name))
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect()
    };
    let mut expected = rest(came);
    expected.retain(|(name, _)| match kind(name) {
        Kind::Alias => false,
        // Connection cannot take away what a trusted proxy says.
        Kind::Claim => trust,
        Kind::Own => true,
    });
    expected.retain(|(name, _)| kind(name) == Kind::Claim || !is_named(name));
    let mut arrived = rest(sent);
    let via = arrived.pop();
    assert!(
        via.is_some_and(|(name, value)| name == b"Via" && value.ends_with(b" weir")),
        "the last Via is not ours"
    );
    assert_eq!(arrived, expected);
}

#[derive(PartialEq, Eq)]
enum Kind {
    Own,
    /// A backend may take it for another field.
    Alias,
    /// A proxy's word.
    Claim,
}

/// The kind of a name, found in another way than the parser does: by the variable that CGI makes of it.
fn kind(name: &[u8]) -> Kind {
    const CLAIMS: [&str; 29] = [
        "x-host",
        "x-scheme",
        "x-arr-ssl",
        "x-real-host",
        "x-real-port",
        "x-forwarded",
        "x-remote-ip",
        "x-real-proto",
        "x-url-scheme",
        "wl-proxy-ssl",
        "forwarded-for",
        "x-remote-addr",
        "x-rewrite-url",
        "x-forward-for",
        "x-original-url",
        "x-original-uri",
        "x-proxyuser-ip",
        "front-end-https",
        "x-original-host",
        "x-original-path",
        "forwarded-proto",
        "x-azure-clientip",
        "x-azure-socketip",
        "x-originating-ip",
        "cf-connecting-ip",
        "x-original-method",
        "x-http-host-override",
        "x-original-remote-addr",
        "x-original-forwarded-for",
    ];
    let dash = |byte: &u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    let folded: Vec<u8> = name.iter().map(dash).collect();
    let lower = name.to_ascii_lowercase();
    let is_of = |names: &[&str]| names.iter().any(|own| folded == own.as_bytes());
    let is_family = folded.starts_with(b"x-forwarded-")
        || folded.starts_with(b"x-envoy-")
        || folded == b"client-ip"
        || folded.ends_with(b"-client-ip");
    let is_claim = is_of(&CLAIMS) || is_family;
    match () {
        () if folded == b"proxy" => Kind::Alias,
        () if (is_claim || is_of(&OWN) || is_of(&["set-cookie"])) && folded != lower => Kind::Alias,
        () if is_claim => Kind::Claim,
        () => Kind::Own,
    }
}

/// The written head has the same meaning to the next proxy.
fn again(head: &RequestHead, out: &[u8]) {
    if head.host().is_none() {
        // HTTP/1.0 without a host: Host is sent empty, as RFC 9110 section 7.2 has it, and refused by us.
        return;
    }
    let mut next = RequestHead::new();
    let parsed = parse_request(out, &WIDE, &mut next);
    assert_eq!(parsed, Ok(Parsed::Complete { consumed: out.len() }), "{}", show(out));
    assert_eq!(next.method(), head.method());
    assert_eq!(next.host(), head.host());
    assert_eq!(next.path_and_query(), expected_target(head));
    assert_eq!(next.framing, head.framing);
    assert_eq!(next.expect_continue, head.expect_continue);
    assert_eq!(next.te_trailers, head.te_trailers);
    assert_eq!(next.upgrade, head.upgrade && head.framing.is_empty());
    assert!(next.keep_alive && next.version == Version::Http11);
}
