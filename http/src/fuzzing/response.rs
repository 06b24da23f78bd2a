//! Answers: heads as they are accepted and written again, and whole answers up to the client.

use super::{
    cuts, show,
    witness::{self, Framing, Head},
};
use crate::{
    BodyDecoder, Limits, Parsed, ResponseFraming, ResponseHead, Step, Version, parse_response,
    push_chunk_head, push_last_chunk, translate::response_fields, write_response,
};

const DATE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
const WIDE: Limits = Limits { max_head: 1 << 20, max_fields: 1024, max_target: 0 };
const TIGHT: Limits = Limits { max_head: 256, max_fields: 6, max_target: 0 };

/// Fields that a proxy takes away, or says itself.
const OWN: [&str; 11] = [
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Fields that Connection names and cannot remove.
const KEPT: [&str; 8] = [
    "forwarded",
    "host",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
];

pub(super) fn answer(input: &[u8]) {
    for is_head in [false, true] {
        for limits in [Limits::default(), TIGHT] {
            head(input, is_head, &limits);
        }
        for client in [Version::Http11, Version::Http10] {
            relay(input, is_head, client);
        }
    }
}

fn head(input: &[u8], is_head: bool, limits: &Limits) {
    let mut head = ResponseHead::new();
    let whole = parse_response(input, limits, is_head, &mut head);
    for cut in cuts(input) {
        let mut part = ResponseHead::new();
        match parse_response(&input[..cut], limits, is_head, &mut part) {
            Ok(Parsed::Partial) => {
                let consumed =
                    if let Ok(Parsed::Complete { consumed }) = whole { consumed } else { usize::MAX };
                assert!(cut < consumed, "not accepted at its end");
            }
            Ok(complete) => assert_eq!(whole, Ok(complete), "what follows a head changes it"),
            Err(_) => assert!(whole.is_err(), "refused after {cut} bytes, and accepted with more"),
        }
    }
    let Ok(Parsed::Complete { consumed }) = whole else { return };
    let read = witness::head(&input[..consumed]);
    assert_eq!(read.length, consumed);
    let (status, reason, old) = witness::status_line(read.start);
    assert!(consumed <= limits.max_head && read.fields.len() <= limits.max_fields);
    assert_eq!((head.status, head.reason()), (status, reason));
    assert_eq!(head.version, if old { Version::Http10 } else { Version::Http11 });
    let fields: Vec<_> = head.fields.iter().map(|field| (head.name(field), head.value(field))).collect();
    assert_eq!(fields, read.fields, "the fields' lines");
    assert_eq!(head.framing, framing(status, is_head, &read));
    assert!(!(old && read.framing() == Framing::Chunked), "chunks in HTTP/1.0");
    if head.keep_alive {
        let options = read.members("connection");
        let said = |option: &str| options.iter().any(|member| member == option.as_bytes());
        assert!(!said("close") && (!old || said("keep-alive")));
        assert!(head.framing != ResponseFraming::UntilClose && status != 101);
    }
    for client in [Version::Http11, Version::Http10] {
        written(&head, &read, client, is_head);
    }
}

/// RFC 9112 section 6.3.
fn framing(status: u16, is_head: bool, read: &Head<'_>) -> ResponseFraming {
    match read.framing() {
        _ if is_head || status < 200 || matches!(status, 204 | 304) => ResponseFraming::None,
        Framing::Unsaid => ResponseFraming::UntilClose,
        Framing::Length(length) => ResponseFraming::Length(length),
        Framing::Chunked => ResponseFraming::Chunked,
    }
}

/// How an answer is framed towards a client, as the listener decides it.
fn towards(client: Version, framing: ResponseFraming) -> ResponseFraming {
    match framing {
        ResponseFraming::Chunked | ResponseFraming::UntilClose if client == Version::Http10 => {
            ResponseFraming::UntilClose
        }
        ResponseFraming::UntilClose => ResponseFraming::Chunked,
        framing => framing,
    }
}

fn write(out: &mut Vec<u8>, head: &ResponseHead, client: Version) -> ResponseFraming {
    let how = towards(client, head.framing);
    let date = (!head.is_interim()).then_some(DATE);
    let keep_alive = how != ResponseFraming::UntilClose;
    write_response(out, head, how, keep_alive, client, date, head.upgrade);
    how
}

/// Invariants of each head that is sent to a client; `came` is what the backend sent.
fn written(head: &ResponseHead, came: &Head<'_>, client: Version, is_head: bool) {
    let mut out = Vec::new();
    let how = write(&mut out, head, client);
    let sent = witness::head(&out);
    assert_eq!(sent.length, out.len(), "a head ends within what was written: {}", show(&out));
    let (status, reason, old) = witness::status_line(sent.start);
    assert_eq!((status, reason, old), (head.status, head.reason(), false));
    let said = sent.framing();
    match how {
        ResponseFraming::Length(length) => assert_eq!(said, Framing::Length(length)),
        ResponseFraming::Chunked => assert_eq!(said, Framing::Chunked),
        ResponseFraming::UntilClose => assert_eq!(said, Framing::Unsaid),
        ResponseFraming::None if status < 200 || status == 204 => assert_eq!(said, Framing::Unsaid),
        ResponseFraming::None => {
            assert_eq!(said, head.content_length.map_or(Framing::Unsaid, Framing::Length))
        }
    }
    for name in [
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "http2-settings",
    ] {
        assert_eq!(sent.all(name).count(), 0, "{name} is passed on");
    }
    assert_eq!(sent.all("upgrade").next().is_some(), status == 101);
    let options = sent.members("connection");
    let expected: &[&[u8]] = match (status, how, client) {
        (101, ..) => &[b"upgrade"],
        (100..200, ..) => &[],
        (_, ResponseFraming::UntilClose, _) => &[b"close"],
        (_, _, Version::Http10) => &[b"keep-alive"],
        _ => &[],
    };
    assert_eq!(options, expected);

    others(head, came, &sent);
    in_http2(head, &sent);

    let mut next = ResponseHead::new();
    let parsed = parse_response(&out, &WIDE, is_head, &mut next);
    assert_eq!(parsed, Ok(Parsed::Complete { consumed: out.len() }), "{}", show(&out));
    assert_eq!((next.status, next.reason(), next.framing), (head.status, head.reason(), how));
    assert_eq!(next.keep_alive, how != ResponseFraming::UntilClose && status != 101);
}

/// The same fields go to a client of HTTP/2.
fn in_http2(head: &ResponseHead, sent: &Head<'_>) {
    let fields =
        response_fields(head, Some(&http::HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT")), false);
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te"] {
        assert!(!fields.contains_key(name), "{name} in HTTP/2");
    }
    let passes =
        |name: &str| !matches!(name, "connection" | "transfer-encoding" | "upgrade" | "trailer" | "via");
    let mut there: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .filter(|(name, _)| passes(name) && name != "content-length")
        .collect();
    let here = sent.fields.iter();
    let here = here.map(|(name, value)| (String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()));
    let mut here: Vec<_> = here.filter(|(name, _)| passes(name) && name != "content-length").collect();
    there.sort();
    here.sort();
    assert_eq!(there, here);
    let length = fields.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
    assert_eq!(length, head.content_length.filter(|_| head.status >= 200));
}

/// All that is not a proxy's affair arrives as it was, in order; what Connection names does not.
fn others(head: &ResponseHead, came: &Head<'_>, sent: &Head<'_>) {
    let nominated = came.members("connection");
    let is_own = |name: &[u8]| OWN.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()));
    let is_option = |name: &[u8]| name.eq_ignore_ascii_case(b"close");
    let rest = |head: &Head<'_>| -> Vec<(Vec<u8>, Vec<u8>)> {
        head.fields
            .iter()
            .filter(|(name, _)| !is_own(name) && !is_option(name))
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect()
    };
    let mut expected = rest(came);
    expected.retain(|(name, _)| {
        let name = name.to_ascii_lowercase();
        KEPT.iter().any(|kept| name == kept.as_bytes()) || !nominated.contains(&name)
    });
    let mut arrived = rest(sent);
    assert!(arrived.pop().is_some_and(|(name, value)| name == b"Via" && value.ends_with(b" weir")));
    if head.status >= 200 && !head.date {
        assert_eq!(arrived.pop(), Some((b"Date".to_vec(), DATE.to_vec())));
    }
    assert_eq!(arrived, expected);
}

/// Passes a whole answer on: however it arrives, the client reads one answer with the body that the backend sent, and
/// no byte of what follows it.
fn relay(input: &[u8], is_head: bool, client: Version) {
    let mut rest = input;
    let mut head = ResponseHead::new();
    loop {
        let Ok(Parsed::Complete { consumed }) = parse_response(rest, &Limits::default(), is_head, &mut head)
        else {
            return;
        };
        rest = &rest[consumed..];
        if !head.is_interim() {
            break;
        }
    }
    if head.upgrade {
        return;
    }
    let mut out = Vec::new();
    let how = write(&mut out, &head, client);
    let mut decoder = BodyDecoder::from(head.framing);
    let mut body = Vec::new();
    let mut whole = true;
    loop {
        match decoder.decode(rest) {
            Ok(Step::Data { start, end, consumed }) => {
                body.extend_from_slice(&rest[start..end]);
                if how == ResponseFraming::Chunked {
                    push_chunk_head(&mut out, end - start);
                    out.extend_from_slice(&rest[start..end]);
                    out.extend_from_slice(b"\r\n");
                } else {
                    out.extend_from_slice(&rest[start..end]);
                }
                rest = &rest[consumed..];
            }
            Ok(Step::Done { .. }) => break,
            Ok(Step::NeedMore { .. }) => {
                whole = decoder.on_eof().is_ok();
                break;
            }
            Err(_) => {
                whole = false;
                break;
            }
        }
    }
    if whole && how == ResponseFraming::Chunked {
        push_last_chunk(&mut out, decoder.trailers());
    }
    let read = witness::head(&out);
    let came = &out[read.length..];
    match read.framing() {
        _ if how == ResponseFraming::None => assert!(came.is_empty(), "a body where none can be"),
        Framing::Unsaid => assert_eq!(came, body),
        Framing::Length(length) => {
            assert_eq!(came, body);
            assert_eq!(whole, came.len() as u64 == length, "a broken body that ends cleanly");
        }
        Framing::Chunked => match witness::chunked(came) {
            Some((data, trailers, used)) => {
                assert!(whole && used == came.len(), "a broken body that ends cleanly");
                assert_eq!(data, body);
                assert_eq!(trailers, witness::plain_lines(decoder.trailers()));
            }
            None => assert!(!whole, "a whole body without an end"),
        },
    }
}
