//! Rules of request heads.

use super::*;

fn parse(input: &[u8]) -> Result<RequestHead, RequestError> {
    let mut head = RequestHead::new();
    match parse_request(input, &Limits::default(), &mut head)? {
        Parsed::Complete { consumed } => {
            assert_eq!(consumed, input.len(), "{:?}", String::from_utf8_lossy(input));
            Ok(head)
        }
        Parsed::Partial => panic!("partial: {:?}", String::from_utf8_lossy(input)),
    }
}

fn accepted(input: &str) -> RequestHead {
    parse(input.as_bytes()).unwrap_or_else(|error| panic!("{input:?}: {error}"))
}

fn status(input: &[u8]) -> u16 {
    let mut head = RequestHead::new();
    match parse_request(input, &Limits::default(), &mut head) {
        Ok(Parsed::Complete { .. }) => 200,
        Ok(Parsed::Partial) => 0,
        Err(error) => error.status(),
    }
}

#[test]
fn what_is_ambiguous_or_malformed_is_refused() {
    let h = "Host: a\r\n";
    let get = |fields: &str| format!("GET / HTTP/1.1\r\n{h}{fields}\r\n");
    let post = |fields: &str| format!("POST / HTTP/1.1\r\n{h}{fields}\r\n");
    let line = |line: &str| format!("{line}\r\n{h}\r\n");
    let cases: Vec<(&str, String, u16)> = vec![
        // RFC 9112 section 3: the request line.
        ("3: two spaces", line("GET  / HTTP/1.1"), 400),
        ("3: two spaces before the version", line("GET /  HTTP/1.1"), 400),
        ("3: tab", line("GET\t/ HTTP/1.1"), 400),
        ("3: trailing space", line("GET / HTTP/1.1 "), 400),
        ("3: space in the target", line("GET /a b HTTP/1.1"), 400),
        ("3: leading space", line(" GET / HTTP/1.1"), 400),
        ("3: no version (HTTP/0.9)", line("GET /"), 400),
        ("3: no target", line("GET HTTP/1.1"), 400),
        ("3.1: method is a token", line("G(T / HTTP/1.1"), 400),
        ("3.1: method is not empty", line(" / HTTP/1.1"), 400),
        ("3.1: method too long", line(&format!("{} / HTTP/1.1", "A".repeat(65))), 501),
        ("2.3: lower-case version", line("GET / http/1.1"), 400),
        ("2.3: other name", line("GET / HTTX/1.1"), 400),
        ("2.3: two digits", line("GET / HTTP/1.10"), 400),
        ("2.3: unknown minor", line("GET / HTTP/1.2"), 505),
        ("2.3: unknown major", line("GET / HTTP/2.0"), 505),
        ("2.3: old", line("GET / HTTP/0.9"), 505),
        // Section 3.2: targets.
        ("3.2: fragment", line("GET /a#b HTTP/1.1"), 400),
        ("3.2: non-ASCII", line("GET /\u{e9} HTTP/1.1"), 400),
        ("3.2: control", line("GET /\x01 HTTP/1.1"), 400),
        ("3.2: DEL", line("GET /\x7f HTTP/1.1"), 400),
        ("3.2: NUL", line("GET /\0 HTTP/1.1"), 400),
        ("3.2: relative", line("GET a/b HTTP/1.1"), 400),
        ("3.2.2: other host", line("GET http://b/ HTTP/1.1"), 400),
        ("3.2.2: other port", line("GET http://a:81/ HTTP/1.1"), 400),
        ("3.2.2: user information", line("GET http://u@a/ HTTP/1.1"), 400),
        ("3.2.2: no authority", line("GET http:///x HTTP/1.1"), 400),
        ("3.2.2: other scheme", line("GET ftp://a/ HTTP/1.1"), 400),
        ("3.2.3: CONNECT with a path", line("CONNECT /a HTTP/1.1"), 400),
        ("3.2.3: CONNECT without a port", line("CONNECT a HTTP/1.1"), 400),
        ("3.2.3: authority for GET", line("GET a:80 HTTP/1.1"), 400),
        ("3.2.4: asterisk for GET", line("GET * HTTP/1.1"), 400),
        ("3.2.4: asterisk with more", line("OPTIONS *a HTTP/1.1"), 400),
        // Section 3.2 and RFC 9110 7.2: Host.
        ("Host missing", "GET / HTTP/1.1\r\n\r\n".into(), 400),
        ("Host missing, absolute", "GET http://a/ HTTP/1.1\r\n\r\n".into(), 400),
        ("two Hosts", get("Host: b\r\n"), 400),
        ("two equal Hosts", get("host: a\r\n"), 400),
        ("two Hosts in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n".into(), 400),
        ("empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n".into(), 400),
        ("Host list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".into(), 400),
        ("Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(), 400),
        ("Host with a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".into(), 400),
        ("Host with a bad port", "GET / HTTP/1.1\r\nHost: a:x\r\n\r\n".into(), 400),
        // Section 2.2: line ends.
        ("bare LF everywhere", "GET / HTTP/1.1\nHost: a\n\n".into(), 400),
        ("bare LF after the request line", format!("GET / HTTP/1.1\n{h}\r\n"), 400),
        ("bare LF after a field", "GET / HTTP/1.1\r\nHost: a\nB: c\r\n\r\n".into(), 400),
        ("bare LF at the last field", "GET / HTTP/1.1\r\nHost: a\n\r\n".into(), 400),
        ("bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n".into(), 400),
        ("bare CR in a value", get("B: c\rd\r\n"), 400),
        ("bare CR before the line end", get("B: c\r\r\n"), 400),
        ("bare CR in a name", get("B\r: c\r\n"), 400),
        ("bare CR in the request line", line("GET /\r HTTP/1.1"), 400),
        ("two empty lines first", format!("\r\n\r\nGET / HTTP/1.1\r\n{h}\r\n"), 400),
        ("a bare LF first", format!("\nGET / HTTP/1.1\r\n{h}\r\n"), 400),
        // Section 5: fields.
        ("5.1: space before the colon", get("B : c\r\n"), 400),
        ("5.1: tab before the colon", get("B\t: c\r\n"), 400),
        ("5.1: space before the colon of a length", post("Content-Length : 5\r\n"), 400),
        ("2.2: space before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n".into(), 400),
        ("5.2: obs-fold", get("B: c\r\n d\r\n"), 400),
        ("5.2: obs-fold with a tab", get("B: c\r\n\td\r\n"), 400),
        ("5.2: obs-fold of nothing", get("B: c\r\n \r\n"), 400),
        ("5: empty name", get(": c\r\n"), 400),
        ("5: no colon", get("B\r\n"), 400),
        ("5: not a token", get("B@: c\r\n"), 400),
        ("5: non-ASCII name", get("B\u{e9}: c\r\n"), 400),
        ("5.5: NUL in a value", get("B: \0\r\n"), 400),
        ("5.5: control in a value", get("B: \x01\r\n"), 400),
        ("5.5: DEL in a value", get("B: \x7f\r\n"), 400),
        // Section 6: framing.
        ("6.1: CL and TE", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400),
        ("6.1: TE and CL", post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"), 400),
        ("6.1: TE in 1.0", format!("POST / HTTP/1.0\r\n{h}Transfer-Encoding: chunked\r\n\r\n"), 400),
        ("6.1: two TE", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400),
        ("6.1: chunked twice", post("Transfer-Encoding: chunked, chunked\r\n"), 400),
        ("6.1: xchunked", post("Transfer-Encoding: xchunked\r\n"), 400),
        ("6.1: identity", post("Transfer-Encoding: identity\r\n"), 400),
        ("6.1: empty", post("Transfer-Encoding:\r\n"), 400),
        ("6.1: vertical tab", post("Transfer-Encoding: \x0bchunked\r\n"), 400),
        ("6.1: tab", post("Transfer-Encoding:\tchunked\r\n"), 400),
        ("6.1: tab behind", post("Transfer-Encoding: chunked\t\r\n"), 400),
        ("6.1: quoted", post("Transfer-Encoding: \"chunked\"\r\n"), 400),
        ("6.1: not last", post("Transfer-Encoding: chunked, gzip\r\n"), 400),
        ("6.1: other coding", post("Transfer-Encoding: gzip, chunked\r\n"), 501),
        ("6.2: two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n"), 400),
        ("6.2: the same twice", post("Content-Length: 5\r\nContent-Length: 5\r\n"), 400),
        ("6.2: list", post("Content-Length: 5, 5\r\n"), 400),
        ("6.2: plus", post("Content-Length: +5\r\n"), 400),
        ("6.2: minus", post("Content-Length: -5\r\n"), 400),
        ("6.2: inner space", post("Content-Length: 5 5\r\n"), 400),
        ("6.2: hexadecimal", post("Content-Length: 0x5\r\n"), 400),
        ("6.2: empty", post("Content-Length:\r\n"), 400),
        ("6.2: words", post("Content-Length: five\r\n"), 400),
        ("6.2: overflow", post("Content-Length: 18446744073709551621\r\n"), 400),
        ("6.2: tab", post("Content-Length:\t5\r\n"), 400),
        // Bounds.
        ("too many fields", get(&"B: c\r\n".repeat(128)), 431),
        ("head too large", get(&format!("B: {}\r\n", "c".repeat(65536))), 431),
        ("target too long", line(&format!("GET /{} HTTP/1.1", "a".repeat(16 * 1024))), 414),
        ("target too long for any head", line(&format!("GET /{} HTTP/1.1", "a".repeat(80 * 1024))), 414),
        ("too many options", get(&format!("Connection: {}\r\n", "a,".repeat(33))), 400),
    ];
    for (rule, input, want) in cases {
        assert_eq!(status(input.as_bytes()), want, "{rule}");
        // The way in which the bytes arrive must not change the verdict, only delay it.
        for cut in 0..input.len().min(400) {
            let early = status(&input.as_bytes()[..cut]);
            assert!(
                early == 0 || early == want || (early == 400 && want == 505),
                "{rule}, cut at {cut}: {early}"
            );
        }
    }
    // Bytes that are no UTF-8.
    assert_eq!(status(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_eq!(status(b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n"), 400);
    assert_eq!(status(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"), 400);
}

#[test]
fn a_head_is_found_at_every_split_and_what_follows_is_left() {
    let input = b"POST /a?b=c HTTP/1.1\r\nHost: a.example:8080\r\nContent-Length: 3\r\nX:\r\n\r\nabcGET /";
    let end = input.len() - 8;
    let mut head = RequestHead::new();
    for cut in 0..end {
        let found = parse_request(&input[..cut], &Limits::default(), &mut head);
        assert_eq!(found, Ok(Parsed::Partial), "cut at {cut}");
    }
    for cut in end..=input.len() {
        let found = parse_request(&input[..cut], &Limits::default(), &mut head);
        assert_eq!(found, Ok(Parsed::Complete { consumed: end }));
        assert_eq!(head.buf, &input[..end]);
        assert_eq!((head.path(), head.query()), (&b"/a"[..], Some(&b"b=c"[..])));
        assert_eq!(head.framing, BodyFraming::Length(3));
    }
}

#[test]
fn a_large_head_in_small_pieces_is_found_too() {
    let input = format!("GET / HTTP/1.1\r\nHost: a\r\nB: {}\r\n\r\n", "c".repeat(20_000));
    let mut head = RequestHead::new();
    for cut in (0..input.len()).step_by(97).chain([input.len() - 1]) {
        let found = parse_request(&input.as_bytes()[..cut], &Limits::default(), &mut head);
        assert_eq!(found, Ok(Parsed::Partial), "cut at {cut}");
    }
    accepted(&input);
}

#[test]
fn bounds_are_those_given() {
    let limits = Limits { max_head: 100, max_fields: 400, max_target: 20 };
    let mut head = RequestHead::new();
    let mut parse = |input: &str, limits: &Limits| parse_request(input.as_bytes(), limits, &mut head);
    assert_eq!(
        parse(&format!("GET / HTTP/1.1\r\nHost: a\r\nB: {}", "c".repeat(90)), &limits),
        Err(RequestError::HeadTooLarge)
    );
    assert_eq!(parse(&format!("GET /{}", "a".repeat(100)), &limits), Err(RequestError::UriTooLong));
    assert_eq!(
        parse(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(20)), &limits),
        Err(RequestError::UriTooLong)
    );
    assert_eq!(parse(&"A".repeat(70), &limits), Err(RequestError::NotImplemented("method")));
    let limits = Limits { max_fields: 400, ..Limits::default() };
    let many = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "B: c\r\n".repeat(n));
    assert!(matches!(parse(&many(399), &limits), Ok(Parsed::Complete { .. })));
    assert_eq!(parse(&many(400), &limits), Err(RequestError::HeadTooLarge));
}

#[test]
fn the_four_forms_of_a_target() {
    let head = accepted("GET /a/b?c=d?e HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(
        (head.form, head.path(), head.query(), head.host()),
        (TargetForm::Origin, &b"/a/b"[..], Some(&b"c=d?e"[..]), Some(&b"h"[..]))
    );
    let head = accepted("GET HTTP://H:80?c HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(
        (head.form, head.path(), head.query(), head.host()),
        (TargetForm::Absolute, &b"/"[..], Some(&b"c"[..]), Some(&b"H:80"[..]))
    );
    let head = accepted("GET https://h/x HTTP/1.0\r\n\r\n");
    assert_eq!((head.path(), head.host()), (&b"/x"[..], Some(&b"h"[..])));
    let head = accepted("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((head.form, head.path()), (TargetForm::Asterisk, &b"*"[..]));
    let head = accepted("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n");
    assert!(head.method() == b"CONNECT" && head.form == TargetForm::Authority);
    let head = accepted("\r\nGET //x HTTP/1.0\r\n\r\n");
    assert_eq!((head.path(), head.host()), (&b"//x"[..], None));
}

#[test]
fn persistence_upgrade_and_expectation_follow_the_version() {
    let head =
        |version: &str, fields: &str| accepted(&format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n"));
    assert!(head("1.1", "").keep_alive);
    assert!(!head("1.1", "Connection: x, CLOSE\r\n").keep_alive);
    assert!(!head("1.1", "Connection: keep-alive\r\nConnection: close\r\n").keep_alive);
    assert!(!head("1.0", "").keep_alive);
    assert!(head("1.0", "Connection: Keep-Alive\r\n").keep_alive);
    assert!(head("1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n").upgrade);
    assert!(!head("1.1", "Upgrade: websocket\r\n").upgrade);
    assert!(!head("1.1", "Connection: upgrade\r\n").upgrade);
    assert!(!head("1.0", "Connection: Upgrade\r\nUpgrade: websocket\r\n").upgrade);
    assert!(
        !head("1.1", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n").upgrade
    );
    assert!(head("1.1", "Expect: 100-Continue\r\nContent-Length: 1\r\n").expect_continue);
    assert!(!head("1.1", "Expect: 100-continue\r\n").expect_continue);
    assert!(!head("1.0", "Expect: 100-continue\r\nContent-Length: 1\r\n").expect_continue);
    assert_eq!(head("1.1", "Transfer-Encoding: CHUNKED\r\n").framing, BodyFraming::Chunked);
    assert_eq!(head("1.1", "Content-Length: 0\r\n").framing, BodyFraming::Length(0));
    assert!(head("1.1", "").framing == BodyFraming::None && !head("1.1", "").is_idempotent());
}

#[test]
fn a_method_that_is_too_long_is_refused_at_once_whatever_came_behind_it() {
    let method = "A".repeat(65);
    assert_eq!(status(method.as_bytes()), 501);
    assert_eq!(status(format!("{method} / HTTP/1.1\r\nHost: a\r\n").as_bytes()), 501);
    assert_eq!(status(format!("{} / HTTP/1.1\r\nHost: a\r\n", "A".repeat(64)).as_bytes()), 0);
}
