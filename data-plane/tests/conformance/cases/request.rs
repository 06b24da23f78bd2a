//! The meaning of a request's first line and version when they reach the backend.

use crate::case::{
    Check::{self, Body, Framed, Has, Is, Line, No, Status},
    Level::{Must, Own, Should},
    OK, Table, answer, check, get,
};
use crate::message::Framing;

const FINE: &[Check] = &[Status(200), Body("ok")];

pub(super) fn table() -> Table {
    let mut t = Table::new("Requests forwarded");
    lines(&mut t);
    versions(&mut t);
    t
}

fn lines(t: &mut Table) {
    let line = |line: &str| format!("{line} HTTP/1.1\r\nHost: a.example\r\n\r\n");
    t.exchange(
        "an unknown method is passed on",
        "9110 9.1",
        Should,
        (line("BREW /pot"), OK),
        &[Line("BREW /pot HTTP/1.1")],
        FINE,
    );
    t.exchange(
        "a method's case is kept",
        "9110 9.1",
        Should,
        (line("gEt /"), OK),
        &[Line("gEt / HTTP/1.1")],
        FINE,
    );
    t.exchange(
        "DELETE without a body is passed on",
        "9110 9.3.5",
        Must,
        (line("DELETE /a"), OK),
        &[Line("DELETE /a HTTP/1.1"), Framed(Framing::None)],
        FINE,
    );
    t.exchange(
        "PATCH is passed on",
        "9110 9.1",
        Must,
        (line("PATCH /a"), OK),
        &[Line("PATCH /a HTTP/1.1")],
        FINE,
    );
    t.exchange(
        "percent-encoding is kept",
        "9110 7.7",
        Must,
        (line("GET /a%2Fb%2e%20c"), OK),
        &[Line("GET /a%2Fb%2e%20c HTTP/1.1")],
        FINE,
    );
    t.exchange(
        "double slashes are kept",
        "9110 7.7",
        Must,
        (line("GET //a///b"), OK),
        &[Line("GET //a///b HTTP/1.1")],
        FINE,
    );
    t.exchange(
        "dot segments are kept",
        "9110 7.7",
        Must,
        (line("GET /a/../b/./c"), OK),
        &[Line("GET /a/../b/./c HTTP/1.1")],
        FINE,
    );
    t.exchange(
        "a query is kept",
        "9110 7.7",
        Must,
        (line("GET /?a=b&c=%20&&d=?/"), OK),
        &[Line("GET /?a=b&c=%20&&d=?/ HTTP/1.1")],
        FINE,
    );
    t.exchange(
        "an empty query is kept",
        "9110 7.7",
        Must,
        (line("GET /a?"), OK),
        &[Line("GET /a? HTTP/1.1")],
        FINE,
    );
    t.exchange(
        "bytes of sloppy clients in a target are kept",
        "",
        Own,
        (line("GET /a|b?{c}=[d]^`\"<>\\"), OK),
        &[Line("GET /a|b?{c}=[d]^`\"<>\\ HTTP/1.1")],
        FINE,
    );
    t.exchange(
        "a target of 8 KB is passed on",
        "9112 3",
        Should,
        (line(&format!("GET /{}", "a".repeat(8000))), OK),
        &[],
        FINE,
    );
    t.exchange(
        "absolute-form becomes origin-form",
        "9112 3.2.2",
        Must,
        (line("GET http://a.example/p?q"), OK),
        &[Line("GET /p?q HTTP/1.1"), Is("host", "a.example")],
        FINE,
    );
    t.exchange(
        "an absolute-form target's empty path becomes a slash",
        "9112 3.2.1",
        Must,
        (line("GET http://a.example"), OK),
        &[Line("GET / HTTP/1.1")],
        FINE,
    );
    t.exchange(
        "an absolute-form target of only a query gets a slash",
        "9112 3.2.1",
        Must,
        (line("GET http://a.example?q"), OK),
        &[Line("GET /?q HTTP/1.1")],
        FINE,
    );
    t.exchange(
        "an absolute-form target's scheme is in any case",
        "9110 4.2.3",
        Must,
        (line("GET HTTP://a.example/p"), OK),
        &[Line("GET /p HTTP/1.1")],
        FINE,
    );
    t.exchange(
        "OPTIONS with an absolute-form target of no path becomes an asterisk",
        "9112 3.2.4",
        Must,
        (line("OPTIONS http://a.example"), OK),
        &[Line("OPTIONS * HTTP/1.1")],
        FINE,
    );
    t.exchange(
        "OPTIONS * is passed on",
        "9112 3.2.4",
        Should,
        (line("OPTIONS *"), OK),
        &[Line("OPTIONS * HTTP/1.1")],
        FINE,
    );
    t.script(
        "absolute-form and Host that disagree never reach the backend both",
        "9112 3.2.2",
        Must,
        |stage| {
            let mut client =
                stage.client_with("GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n")?;
            let upstream = loop {
                if client.is_readable() {
                    return check(&client.answer()?, &[Status(400)]);
                }
                if let Some(upstream) = stage.try_backend() {
                    break upstream;
                }
                crate::stage::pause();
            };
            let mut upstream = upstream;
            check(&upstream.request()?, &[Is("host", "b.example")])
        },
    );
    for (limit, name) in [
        ("5", "Max-Forwards of OPTIONS is counted down"),
        ("1", "Max-Forwards of OPTIONS is counted down to 0"),
    ] {
        let seen: &'static [Check] =
            if limit == "5" { &[Is("max-forwards", "4")] } else { &[Is("max-forwards", "0")] };
        let request = format!("OPTIONS / HTTP/1.1\r\nHost: a.example\r\nMax-Forwards: {limit}\r\n\r\n");
        t.exchange(name, "9110 7.6.2", Must, (request, OK), seen, FINE);
    }
    t.script("OPTIONS with Max-Forwards 0 is answered here", "9110 7.6.2", Must, |stage| {
        let mut client =
            stage.client_with("OPTIONS / HTTP/1.1\r\nHost: a.example\r\nMax-Forwards: 0\r\n\r\n")?;
        while !client.is_readable() {
            if stage.try_backend().is_some() {
                return Err("it reached the backend".into());
            }
            crate::stage::pause();
        }
        let answer = client.answer()?;
        if (200..300).contains(&answer.status()) {
            Ok(())
        } else {
            Err(format!("answered {:?}", answer.line))
        }
    });
    t.exchange(
        "Max-Forwards of GET is left alone",
        "9110 7.6.2",
        Should,
        (get("Max-Forwards: 5\r\n"), OK),
        &[Is("max-forwards", "5")],
        FINE,
    );
}

fn versions(t: &mut Table) {
    t.exchange(
        "a request of HTTP/1.0 goes on as HTTP/1.1",
        "9112 2.3",
        Must,
        ("GET /a HTTP/1.0\r\nHost: a.example\r\n\r\n", OK),
        &[Line("GET /a HTTP/1.1"), Is("host", "a.example")],
        FINE,
    );
    t.exchange(
        "a request of HTTP/1.0 without Host gets one",
        "9112 3.2",
        Must,
        ("GET /a HTTP/1.0\r\n\r\n", OK),
        &[Line("GET /a HTTP/1.1"), Has("host")],
        FINE,
    );
    t.exchange(
        "an empty line before a request is ignored",
        "9112 2.2",
        Should,
        ("\r\nGET /a HTTP/1.1\r\nHost: a.example\r\n\r\n", OK),
        &[Line("GET /a HTTP/1.1")],
        FINE,
    );
    t.exchange(
        "Expect of HTTP/1.0 is ignored",
        "9110 10.1.1",
        Should,
        ("POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx", OK),
        &[No("expect"), Body("x")],
        FINE,
    );
    t.exchange(
        "Expect without a body is not passed on",
        "9110 10.1.1",
        Own,
        (get("Expect: 100-continue\r\n"), OK),
        &[No("expect")],
        FINE,
    );
    t.exchange(
        "an answer of HTTP/1.0 is passed on as HTTP/1.1",
        "9112 2.3",
        Must,
        (get(""), "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        &[],
        &[Line("HTTP/1.1 200 OK"), Body("ok")],
    );
    t.exchange(
        "an answer keeps its reason",
        "",
        Own,
        (get(""), answer("Content-Length: 2\r\n", "ok").replace("OK", "Very Fine (tm)")),
        &[],
        &[Line("HTTP/1.1 200 Very Fine (tm)")],
    );
}
