//! Rules of response heads.

use super::*;

fn parse(input: &str, head_request: bool) -> Result<ResponseHead, ResponseError> {
    let mut head = ResponseHead::new();
    match parse_response(input.as_bytes(), &Limits::default(), head_request, &mut head)? {
        Parsed::Complete { consumed } => {
            assert_eq!(consumed, input.len());
            Ok(head)
        }
        Parsed::Partial => panic!("partial: {input:?}"),
    }
}

#[test]
fn a_backend_that_could_be_misread_is_refused() {
    for (rule, input) in [
        ("4: version", "HTTP/2.0 200 OK\r\n\r\n"),
        ("4: version", "http/1.1 200 OK\r\n\r\n"),
        ("4: version", "HTTP/1.2 200 OK\r\n\r\n"),
        ("4: spaces", "HTTP/1.1  200 OK\r\n\r\n"),
        ("4: empty line first", "\r\nHTTP/1.1 200 OK\r\n\r\n"),
        ("4: two digits", "HTTP/1.1 20 OK\r\n\r\n"),
        ("4: four digits", "HTTP/1.1 2000 OK\r\n\r\n"),
        ("4: below 100", "HTTP/1.1 099 OK\r\n\r\n"),
        ("4: above 599", "HTTP/1.1 600 OK\r\n\r\n"),
        ("4: letters", "HTTP/1.1 2x0 OK\r\n\r\n"),
        ("4: sign", "HTTP/1.1 +20 OK\r\n\r\n"),
        ("4: NUL in the reason", "HTTP/1.1 200 O\0K\r\n\r\n"),
        ("4: CR in the reason", "HTTP/1.1 200 O\rK\r\n\r\n"),
        ("2.2: bare LF", "HTTP/1.1 200 OK\n\n"),
        ("2.2: bare LF in the status line", "HTTP/1.1 200 OK\nA: b\r\n\r\n"),
        ("2.2: bare LF after a field", "HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n"),
        ("2.2: bare LF at the end", "HTTP/1.1 200 OK\r\nA: b\r\n\n"),
        ("2.2: bare CR", "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n"),
        ("5.1: space before the colon", "HTTP/1.1 200 OK\r\nA : b\r\n\r\n"),
        ("5.2: obs-fold", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"),
        ("5: empty name", "HTTP/1.1 200 OK\r\n: b\r\n\r\n"),
        ("5: NUL", "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n"),
        ("6.1: CL and TE", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("6.1: TE in 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("6.1: coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"),
        ("6.1: coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
        ("6.1: in 204", "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("6.1: in 1xx", "HTTP/1.1 103 Early\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("6.2: two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        ("6.2: twice the same", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"),
        ("6.2: list", "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n"),
        ("6.2: negative", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
        ("6.2: huge", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        ("9110 15.2.2: no Upgrade", "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\n\r\n"),
        ("garbage", "\x16\x03\x01"),
    ] {
        let mut head = ResponseHead::new();
        let found = parse_response(input.as_bytes(), &Limits::default(), false, &mut head);
        assert!(found.is_err(), "{rule}: {input:?} gave {found:?}");
    }
}

#[test]
fn the_end_of_an_answer_is_found_as_section_6_3_says() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (input, is_head, framing, keep_alive) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, ResponseFraming::Length(5), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, ResponseFraming::None, true),
        ("HTTP/1.1 304 Not\r\nContent-Length: 5\r\n\r\n", false, ResponseFraming::None, true),
        ("HTTP/1.1 204 No\r\n\r\n", false, ResponseFraming::None, true),
        ("HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", false, ResponseFraming::None, true),
        ("HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", false, ResponseFraming::None, false),
        ("HTTP/1.1 100 Continue\r\n\r\n", false, ResponseFraming::None, true),
        ("HTTP/1.1 200 OK\r\n\r\n", false, ResponseFraming::UntilClose, false),
        ("HTTP/1.1 200 OK\r\n\r\n", true, ResponseFraming::None, true),
        ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", false, ResponseFraming::Length(0), true),
        ("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", false, ResponseFraming::Length(0), true),
        ("HTTP/1.1 200 \u{e9}\r\nContent-Length: 0\r\n\r\n", false, ResponseFraming::Length(0), true),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n",
            false,
            ResponseFraming::Length(5),
            false,
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false, ResponseFraming::Length(5), false),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n",
            false,
            ResponseFraming::Length(5),
            true,
        ),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", false, ResponseFraming::UntilClose, false),
        ("HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", false, ResponseFraming::None, false),
        (&format!("HTTP/1.1 200 OK\r\n{chunked}\r\n"), false, ResponseFraming::Chunked, true),
        (&format!("HTTP/1.1 200 OK\r\n{chunked}\r\n"), true, ResponseFraming::None, true),
    ] {
        let head = parse(input, is_head).unwrap_or_else(|error| panic!("{input:?}: {error}"));
        assert_eq!((head.framing, head.keep_alive), (framing, keep_alive), "{input:?}");
    }
}

#[test]
fn an_answer_is_found_at_every_split() {
    let input = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n";
    let end = input.len() - 17;
    let mut head = ResponseHead::new();
    for cut in 0..=input.len() {
        let found = parse_response(&input[..cut], &Limits::default(), false, &mut head);
        let want = if cut < end { Parsed::Partial } else { Parsed::Complete { consumed: end } };
        assert_eq!(found, Ok(want), "cut at {cut}");
    }
    assert!(head.is_interim());
    assert_eq!(head.reason(), b"Early Hints");
}

#[test]
fn an_endless_head_is_refused() {
    let mut head = ResponseHead::new();
    let input = format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(70_000));
    let found = parse_response(input.as_bytes(), &Limits::default(), false, &mut head);
    assert_eq!(found, Err(ResponseError::HeadTooLarge));
}

#[test]
fn how_long_the_peer_keeps_the_connection_is_read_from_keep_alive() {
    for (value, seconds) in [
        ("timeout=5", Some(5)),
        ("timeout=5, max=1000", Some(5)),
        ("max=99, Timeout = 72", Some(72)),
        ("timeout=\"5\"", Some(5)),
        ("timeout=0", Some(0)),
        ("timeout=4294967295", Some(4_294_967_295)),
        ("timeout=4294967296", None),
        ("timeout=-1", None),
        ("timeout=", None),
        ("timeout", None),
        ("timeouts=5", None),
        ("max=5", None),
        ("300", None),
    ] {
        let head =
            parse(&format!("HTTP/1.1 200 OK\r\nKeep-Alive: {value}\r\nContent-Length: 0\r\n\r\n"), false);
        assert_eq!(head.unwrap().kept_for.map(|kept| kept.as_secs()), seconds, "{value}");
    }
}
