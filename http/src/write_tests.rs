//! The output of the writers, and that it has the same meaning as the input.

use proptest::prelude::*;

use super::*;

const FORWARDED: Forwarded<'_> = Forwarded {
    client_ip: b"192.0.2.1",
    peer_ip: b"192.0.2.1",
    proto: b"http",
    peer_proto: b"http",
    host: b"h",
    request_id: b"id",
    trust: false,
    edit: None,
    guard: None,
    session_cookies: &[],
    omit_via: false,
    is_secured: false,
};
const TAIL: &str = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n\
                    X-Real-IP: 192.0.2.1\r\nX-Request-Id: id\r\nVia: 1.1 weir\r\n\r\n";

fn request(input: &str) -> RequestHead {
    let mut head = RequestHead::new();
    let found = parse_request(input.as_bytes(), &Limits::default(), &mut head);
    assert_eq!(found, Ok(Parsed::Complete { consumed: input.len() }), "{input:?}");
    head
}

fn sent(head: &RequestHead, forwarded: &Forwarded<'_>) -> String {
    let mut out = Vec::new();
    write_request(&mut out, head, forwarded, head.framing, head.upgrade);
    String::from_utf8(out).unwrap()
}

fn answered(input: &str, is_head: bool, keep_alive: bool, client: Version) -> String {
    let mut head = ResponseHead::new();
    let found = parse_response(input.as_bytes(), &Limits::default(), is_head, &mut head);
    assert_eq!(found, Ok(Parsed::Complete { consumed: input.len() }), "{input:?}");
    let mut out = Vec::new();
    write_response(&mut out, &head, head.framing, keep_alive, client, Some(b"now"), head.upgrade);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_request_keeps_what_is_its_own_and_loses_the_hop() {
    let head = request(
        "GET /a?b HTTP/1.1\r\nhOST: h\r\nA:1\r\nConnection: keep-alive, X-Hop, host, x-forwarded-for\r\nx-hop: 1\r\n\
         Keep-Alive: 5\r\nProxy-Connection: x\r\nProxy-Authorization: y\r\nTE: gzip, trailers\r\nTrailer: z\r\n\
         Upgrade: w\r\nB: 2  \r\na: 3\r\nX-Forwarded-For: 1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\nForwarded: for=1\r\n\
         X-Forwarded-Proto: https\r\nVia: 1.0 x\r\nX-Request-Id: mine\r\nC:\t4\r\n\r\n",
    );
    let want = "GET /a?b HTTP/1.1\r\nhOST: h\r\nA: 1\r\nB: 2\r\na: 3\r\nVia: 1.0 x\r\nC: 4\r\n\
                Connection: te\r\nTE: trailers\r\n";
    assert_eq!(sent(&head, &FORWARDED), format!("{want}{TAIL}"));
}

#[test]
fn a_trusted_proxy_is_believed() {
    let head = request(
        "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1.1.1.1\r\nx-forwarded-for: 2.2.2.2\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: o\r\nX-Real-IP: 1.1.1.1\r\nForwarded: for=1\r\n\r\n",
    );
    let claimed = Forwarded { proto: b"https", host: b"o", client_ip: b"2.2.2.2", ..FORWARDED };
    let trusting = Forwarded { trust: true, request_id: b"", ..claimed };
    assert_eq!(
        sent(&head, &trusting),
        "GET / HTTP/1.1\r\nHost: h\r\n\
         X-Forwarded-For: 1.1.1.1, 2.2.2.2, 192.0.2.1\r\nForwarded: for=1, for=192.0.2.1;proto=http\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Host: o\r\nX-Real-IP: 2.2.2.2\r\nVia: 1.1 weir\r\n\r\n"
    );
}

#[test]
fn targets_and_framing_take_their_one_form() {
    let line = |input: &str| sent(&request(input), &FORWARDED).lines().take(3).collect::<Vec<_>>().join("|");
    assert!(line("GET http://H?x HTTP/1.1\r\nHost: h\r\n\r\n").starts_with("GET /?x HTTP/1.1|Host: H|X-"));
    assert!(line("GET http://h HTTP/1.0\r\n\r\n").starts_with("GET / HTTP/1.1|Host: h|"));
    assert!(line("OPTIONS http://h HTTP/1.1\r\nHost: h\r\n\r\n").starts_with("OPTIONS * HTTP/1.1|"));
    assert!(line("OPTIONS * HTTP/1.1\r\nHost: h\r\nMax-Forwards: 3\r\n\r\n").ends_with("|Max-Forwards: 2"));
    assert!(
        line("POST / HTTP/1.1\r\nHost: h\r\ncontent-length: 007\r\n\r\n").ends_with("|Content-Length: 7")
    );
    assert!(
        line("POST / HTTP/1.1\r\nHost: h\r\ntransfer-encoding: Chunked\r\n\r\n")
            .ends_with("|Transfer-Encoding: chunked")
    );
    let upgrade = sent(
        &request("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        &FORWARDED,
    );
    assert_eq!(
        upgrade,
        format!("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n{TAIL}")
    );
}

#[test]
fn a_route_can_change_the_request() {
    let mut head = request("GET /v1/a HTTP/1.1\r\nHost: h\r\nX-Debug: 1\r\nX-Unwanted: 1\r\nB: 2\r\n\r\n");
    head.remove(b"x-unwanted");
    assert!(head.add(b"X-Env", b"prod") && !head.add(b"X", b"a\r\nb") && !head.add(b"X ", b"a"));
    let edit = RequestEdit {
        target: Some(b"/a?x".to_vec()),
        host: Some("books"),
        removed: &["x-debug".into()],
        prefix: Some("/v1"),
        lines: b"X-Own: 1\r\n".to_vec(),
        ..RequestEdit::default()
    };
    let tail = TAIL.replace("Via", "X-Forwarded-Prefix: /v1\r\nX-Own: 1\r\nVia");
    assert_eq!(
        sent(&head, &Forwarded { edit: Some(&edit), ..FORWARDED }),
        format!("GET /a?x HTTP/1.1\r\nHost: books\r\nB: 2\r\nX-Env: prod\r\n{tail}")
    );
}

#[test]
fn an_answer_is_framed_for_its_client() {
    assert_eq!(
        answered(
            "HTTP/1.0 200 Fine so\r\nServer: s\r\nSet-Cookie: a\r\nConnection: x\r\nX: 1\r\nSet-Cookie: b\r\nContent-Length: 3\r\nKeep-Alive: 1\r\n\r\n",
            false,
            true,
            Version::Http10
        ),
        "HTTP/1.1 200 Fine so\r\nServer: s\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 3\r\nConnection: keep-alive\r\nDate: now\r\nVia: 1.0 weir\r\n\r\n"
    );
    assert_eq!(
        answered("HTTP/1.1 304 N\r\nDate: then\r\nContent-Length: 3\r\n\r\n", false, false, Version::Http11),
        "HTTP/1.1 304 N\r\nDate: then\r\nContent-Length: 3\r\nConnection: close\r\nVia: 1.1 weir\r\n\r\n"
    );
    assert_eq!(
        answered("HTTP/1.1 204\r\nContent-Length: 0\r\n\r\n", false, true, Version::Http11),
        "HTTP/1.1 204 \r\nDate: now\r\nVia: 1.1 weir\r\n\r\n"
    );
    assert_eq!(
        answered("HTTP/1.1 103 E\r\nLink: a\r\n\r\n", false, true, Version::Http11),
        "HTTP/1.1 103 E\r\nLink: a\r\nVia: 1.1 weir\r\n\r\n"
    );
    assert_eq!(
        answered(
            "HTTP/1.1 200 OK\r\nTrailer: t\r\nTransfer-Encoding: chunked\r\n\r\n",
            false,
            true,
            Version::Http11
        ),
        "HTTP/1.1 200 OK\r\nTrailer: t\r\nTransfer-Encoding: chunked\r\nDate: now\r\nVia: 1.1 weir\r\n\r\n"
    );
    assert_eq!(
        answered("HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: w\r\n\r\n", false, true, Version::Http11),
        "HTTP/1.1 101 S\r\nUpgrade: w\r\nConnection: upgrade\r\nVia: 1.1 weir\r\n\r\n"
    );
}

/// Bytes of which most are what a head is made of, so that some of them get far.
fn wire() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        proptest::sample::select(vec![
            "GET ",
            "POST ",
            "/",
            "/a?b",
            "http://h/",
            "*",
            " HTTP/1.1",
            " HTTP/1.0",
            "\r\n",
            "\r\n\r\n",
            "\n",
            "\r",
            " ",
            "\t",
            ":",
            "Host: h",
            "Host: g",
            "Content-Length: 3",
            "Transfer-Encoding: chunked",
            "Connection: close, b",
            "B: c",
            "HTTP/1.1 200 OK",
            "HTTP/1.1 204 ",
            "Upgrade: x",
            "Connection: upgrade",
            ",",
            "\0",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..3),
    ];
    proptest::collection::vec(part, 0..14).prop_map(|parts| parts.concat())
}

fn good_request() -> impl Strategy<Value = String> {
    let field = ("[A-Za-z][a-z-]{0,16}", " {0,2}", "([!-~]([ -~]{0,20}[!-~])?)?", "[ \t]{0,2}");
    let known = proptest::sample::select(vec![
        "Connection: b, te",
        "TE: trailers",
        "Upgrade: w",
        "Connection: upgrade",
        "Keep-Alive: 3",
        "X-Forwarded-For: 1.2.3.4",
        "Content-Length: 12",
        "Transfer-Encoding: chunked",
        "Expect: 100-continue",
        "Cookie: a=b",
        "Via: 1.1 z",
    ])
    .prop_map(str::to_owned);
    let line = prop_oneof![3 => field.prop_map(|(n, a, v, b)| format!("{n}:{a}{v}{b}")), 1 => known];
    (
        "(GET|POST|HEAD|PATCH)",
        "(/[!-\"$-~]{0,20}|http://h(/[a-z]{0,3})?)",
        proptest::collection::vec(line, 0..10),
    )
        .prop_map(|(method, target, lines)| {
            let fields: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            format!("{method} {target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
        })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in wire(), is_head in any::<bool>()) {
        let (mut request, mut response) = (RequestHead::new(), ResponseHead::new());
        let limits = Limits { max_head: 60, ..Limits::default() };
        for limits in [limits, Limits::default()] {
            let _ = parse_request(&bytes, &limits, &mut request);
            let _ = parse_response(&bytes, &limits, is_head, &mut response);
        }
    }

    #[test]
    fn what_is_accepted_is_written_in_a_form_that_reads_the_same(input in prop_oneof![
        4 => good_request().prop_map(String::into_bytes), 1 => wire(),
    ]) {
        let (mut first, mut second) = (RequestHead::new(), RequestHead::new());
        if let Ok(Parsed::Complete { .. }) = parse_request(&input, &Limits::default(), &mut first) {
            let mut out = Vec::new();
            write_request(&mut out, &first, &FORWARDED, first.framing, first.upgrade);
            let again = parse_request(&out, &Limits::default(), &mut second);
            prop_assert_eq!(again, Ok(Parsed::Complete { consumed: out.len() }));
            prop_assert_eq!(first.method(), second.method());
            prop_assert_eq!(first.framing, second.framing);
            prop_assert_eq!(first.upgrade, second.upgrade);
            prop_assert_eq!(first.te_trailers, second.te_trailers);
            prop_assert_eq!(first.expect_continue, second.expect_continue);
            let own = |head: &RequestHead| -> Vec<(Vec<u8>, Vec<u8>)> {
                head.fields.iter().filter(|f| f.kind == FieldKind::Other && !f.hop)
                    .map(|f| (head.name(f).to_vec(), head.value(f).to_vec())).collect()
            };
            prop_assert_eq!(own(&first), own(&second));
        }
    }

    #[test]
    fn an_accepted_answer_is_written_in_a_form_that_reads_the_same(fields in good_request(), is_head in any::<bool>()) {
        let rest = fields.split_once("\r\n").unwrap().1;
        let input = format!("HTTP/1.1 200 OK\r\n{rest}");
        let (mut first, mut second) = (ResponseHead::new(), ResponseHead::new());
        if let Ok(Parsed::Complete { .. }) = parse_response(input.as_bytes(), &Limits::default(), is_head, &mut first) {
            let mut out = Vec::new();
            write_response(&mut out, &first, first.framing, first.keep_alive, Version::Http11, Some(b"now"), first.upgrade);
            let again = parse_response(&out, &Limits::default(), is_head, &mut second);
            prop_assert_eq!(again, Ok(Parsed::Complete { consumed: out.len() }));
            prop_assert_eq!(first.framing, second.framing);
            prop_assert_eq!(first.content_length, second.content_length);
            prop_assert_eq!(first.keep_alive, second.keep_alive);
        }
    }
}
