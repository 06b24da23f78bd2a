//! The meaning of a request's fields when they reach the backend, and the fields that a proxy adds.

use crate::case::{
    Check::{self, Body, Has, Is, Lines, Lists, Members, No, Status},
    Level::{Must, Own, Should},
    OK, Table, check, get,
};

const FINE: &[Check] = &[Status(200), Body("ok")];

pub(super) fn table() -> Table {
    let mut t = Table::new("Requests' fields");
    fields(&mut t);
    forwarded(&mut t);
    t
}

fn fields(t: &mut Table) {
    t.exchange(
        "repeated fields keep their order",
        "9110 5.3",
        Must,
        (get("X-A: 1\r\nX-B: 2\r\nx-a: 3\r\nX-A: 2\r\n"), OK),
        &[Is("x-a", "1, 3, 2"), Is("x-b", "2")],
        FINE,
    );
    t.exchange(
        "repeated fields stay lines of their own",
        "",
        Own,
        (get("X-A: 1\r\nX-A: 2\r\n"), OK),
        &[Lines("x-a", &["1", "2"])],
        FINE,
    );
    t.exchange(
        "an empty value is kept",
        "9110 5.5",
        Must,
        (get("X-A:\r\nX-B: \r\n"), OK),
        &[Is("x-a", ""), Has("x-a"), Has("x-b")],
        FINE,
    );
    t.exchange(
        "space around a value is no part of it",
        "9112 5",
        Must,
        (get("X-A:1\r\nX-B: \t 2 \t \r\n"), OK),
        &[Is("x-a", "1"), Is("x-b", "2")],
        FINE,
    );
    t.exchange(
        "space within a value is kept",
        "9110 5.5",
        Must,
        (get("X-A: a \t b\r\n"), OK),
        &[Is("x-a", "a \t b")],
        FINE,
    );
    let obs: Vec<u8> =
        [b"GET / HTTP/1.1\r\nHost: a.example\r\nX-A: caf\xe9 \xff\xc3\xa9\r\n\r\n".as_slice()].concat();
    t.exchange(
        "bytes beyond ASCII in a value are kept",
        "9110 5.5",
        Should,
        (obs, OK),
        &[Is("x-a", "caf\u{e9} \u{ff}\u{c3}\u{a9}")],
        FINE,
    );
    t.exchange(
        "every token character is allowed in a name",
        "9110 5.6.2",
        Must,
        (get("X!#$%&'*+-.^_`|~1: y\r\n"), OK),
        &[Is("x!#$%&'*+-.^_`|~1", "y")],
        FINE,
    );
    t.exchange(
        "a name with an underscore is kept",
        "9110 5.1",
        Must,
        (get("X_A: 1\r\n"), OK),
        &[Is("x_a", "1")],
        FINE,
    );
    t.exchange(
        "a value of 8 KB is kept",
        "9110 5.4",
        Should,
        (get(&format!("X-A: {}\r\nX-B: 1\r\n", "a".repeat(8000))), OK),
        &[Has("x-a"), Is("x-b", "1")],
        FINE,
    );
    let hundred: String = (0..100).map(|n| format!("X-{n}: {n}\r\n")).collect();
    t.exchange(
        "a hundred fields are kept",
        "",
        Own,
        (get(&hundred), OK),
        &[Is("x-0", "0"), Is("x-99", "99")],
        FINE,
    );
    let large: String = (0..7).map(|n| format!("X-{n}: {}\r\n", "a".repeat(8000))).collect();
    t.exchange("a head of 56 KB is passed on", "", Own, (get(&large), OK), &[Has("x-0"), Has("x-6")], FINE);
    t.exchange(
        "Host keeps its port",
        "9110 7.2",
        Must,
        (get("").replace("a.example", "A.example:8080"), OK),
        &[Is("host", "A.example:8080")],
        FINE,
    );
    t.exchange(
        "Host may be an address of IPv6",
        "9110 7.2",
        Must,
        (get("").replace("a.example", "[::1]:80"), OK),
        &[Is("host", "[::1]:80")],
        FINE,
    );
    t.exchange(
        "Cookie and Authorization are kept",
        "9110 7.6",
        Must,
        (get("Cookie: a=1; b=\"2\"\r\nAuthorization: Basic eDp5\r\n"), OK),
        &[Is("cookie", "a=1; b=\"2\""), Is("authorization", "Basic eDp5")],
        FINE,
    );
    t.exchange(
        "Accept-Encoding is kept",
        "9110 7.7",
        Must,
        (get("Accept-Encoding: gzip, br;q=0.5\r\n"), OK),
        &[Is("accept-encoding", "gzip, br;q=0.5")],
        FINE,
    );
    t.exchange(
        "Accept-Encoding is not made up",
        "",
        Own,
        (GET_PLAIN, OK),
        &[No("accept-encoding"), No("user-agent")],
        FINE,
    );
    t.exchange(
        "Range and conditions are kept",
        "9110 13.1",
        Must,
        (get("Range: bytes=0-1\r\nIf-None-Match: \"x\", W/\"y\"\r\nIf-Range: \"x\"\r\n"), OK),
        &[Is("range", "bytes=0-1"), Is("if-none-match", "\"x\", W/\"y\""), Is("if-range", "\"x\"")],
        FINE,
    );
    t.exchange(
        "Last-Event-ID is kept",
        "",
        Own,
        (get("Accept: text/event-stream\r\nLast-Event-ID: 42\r\n"), OK),
        &[Is("last-event-id", "42")],
        FINE,
    );
}

const GET_PLAIN: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

fn forwarded(t: &mut Table) {
    t.exchange("Via names this proxy", "9110 7.6.3", Must, (get(""), OK), &[Has("via")], FINE);
    t.exchange(
        "Via comes after those that were there",
        "9110 7.6.3",
        Must,
        (get("Via: 1.0 fred, 1.1 p.example\r\n"), OK),
        &[Lists("via", "1.0 fred"), Members("via", 3)],
        FINE,
    );
    t.exchange(
        "X-Forwarded-For of an untrusted client is replaced",
        "",
        Own,
        (get("X-Forwarded-For: 6.6.6.6\r\n"), OK),
        &[Is("x-forwarded-for", "127.0.0.1")],
        FINE,
    );
    t.script("X-Real-IP, X-Forwarded-Proto and -Host are sent", "", Own, |stage| {
        let request = get("X-Real-IP: 6.6.6.6\r\nX-Forwarded-Proto: gopher\r\nX-Forwarded-Host: evil\r\n");
        let (_, _, seen) = stage.meet(request)?;
        check(&seen, &[Is("x-real-ip", "127.0.0.1"), Is("x-forwarded-host", "a.example")])?;
        if seen.values("x-forwarded-proto") == [stage.scheme()] {
            Ok(())
        } else {
            Err(format!("{:?}", seen.fields))
        }
    });
    t.exchange(
        "Forwarded of an untrusted client is removed",
        "",
        Own,
        (get("Forwarded: for=6.6.6.6\r\n"), OK),
        &[No("forwarded")],
        FINE,
    );
    t.exchange("a request gets an id", "", Own, (get(""), OK), &[Has("x-request-id")], FINE);
    t.exchange(
        "a client's request id is kept",
        "",
        Own,
        (get("X-Request-Id: mine-1\r\n"), OK),
        &[Is("x-request-id", "mine-1")],
        FINE,
    );
}
