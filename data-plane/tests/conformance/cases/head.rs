//! Request heads that are malformed, or that two readers would split differently: rejected.

use crate::case::{
    Level::{Must, Own, Should},
    Table, get,
};

const BAD: &[u16] = &[400];
/// A malformed version may be taken for an unsupported one.
const LINE: &[u16] = &[400, 505];

pub(super) fn table() -> Table {
    let mut t = Table::new("Malformed heads refused");
    lines(&mut t);
    fields(&mut t);
    hosts(&mut t);
    methods(&mut t);
    t
}

fn lines(t: &mut Table) {
    let host = "\r\nHost: a.example\r\n\r\n";
    for (line, what, level) in [
        ("GET  / HTTP/1.1", "two spaces before the target", Own),
        ("GET /  HTTP/1.1", "two spaces before the version", Own),
        ("GET / HTTP/1.1 ", "a space behind the version", Own),
        (" GET / HTTP/1.1", "a space before the method", Own),
        ("GET\t/ HTTP/1.1", "a tab before the target", Own),
        ("GET / a HTTP/1.1", "a space in the target", Should),
        ("GET /", "no version", Own),
        ("GET HTTP/1.1", "no target", Must),
        ("G(T / HTTP/1.1", "a method that is no token", Must),
        ("G\0T / HTTP/1.1", "NUL in the method", Must),
        ("GET /\0 HTTP/1.1", "NUL in the target", Must),
        ("GET /\x7f HTTP/1.1", "DEL in the target", Must),
        ("GET /\t HTTP/1.1", "a tab in the target", Own),
        ("GET a HTTP/1.1", "a target without a slash", Must),
        ("GET a.example:80 HTTP/1.1", "an authority as the target of GET", Must),
        ("GET * HTTP/1.1", "an asterisk as the target of GET", Must),
        ("GET /a#b HTTP/1.1", "a fragment in the target", Must),
        ("GET http:// HTTP/1.1", "an absolute target without an authority", Must),
        ("GET http:///a HTTP/1.1", "an absolute target with an empty authority", Must),
        ("GET http://u:p@a.example/ HTTP/1.1", "an absolute target with user information", Own),
        ("GET ftp://a.example/ HTTP/1.1", "an absolute target of another scheme", Own),
        ("GET / HTTP/1.1\rX: y", "a bare carriage return", Own),
        ("GET / HTTP/11", "a version without a dot", Must),
        ("GET / HTTP/1.10", "a version of two digits", Must),
        ("GET / HTTP/1.", "a cut version", Must),
        ("GET / hTTP/1.1", "a version in another case", Must),
        ("GET / HTTP /1.1", "a space in the version", Must),
        ("GET / ICAP/1.0", "another protocol", Must),
    ] {
        t.refused(&format!("a request line with {what}"), "9112 3", level, LINE, format!("{line}{host}"));
    }
    t.refused(
        "a target with a byte beyond ASCII",
        "9112 3.2",
        Own,
        BAD,
        b"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    t.refused(
        "HTTP/2.0 in a request line",
        "9110 15.6.6",
        Should,
        &[400, 505],
        format!("GET / HTTP/2.0{host}"),
    );
    t.refused(
        "HTTP/3.7 in a request line",
        "9110 15.6.6",
        Should,
        &[400, 505],
        format!("GET / HTTP/3.7{host}"),
    );
    t.refused("a request of HTTP/0.9", "9112 3", Own, BAD, "GET /\r\n\r\n");
    t.refused(
        "a request line that ends in a bare line feed",
        "9112 2.2",
        Own,
        BAD,
        "GET / HTTP/1.1\nHost: a.example\r\n\r\n",
    );
    t.refused("a head of bare line feeds", "9112 2.2", Own, BAD, "GET / HTTP/1.1\nHost: a.example\n\n");
    t.refused("bytes of TLS", "9112 2.2", Must, BAD, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n");
    t.refused("bytes of nothing", "9112 2.2", Must, BAD, b"\x00\xff\x00\xff\r\n\r\n");
}

fn fields(t: &mut Table) {
    for (field, what, rfc, level) in [
        ("X-A : 1", "a space before the colon", "9112 5.1", Must),
        ("X-A\t: 1", "a tab before the colon", "9112 5.1", Must),
        (": 1", "no name", "9112 5", Must),
        ("X-A", "no colon", "9112 5", Must),
        ("X A: 1", "a space in the name", "9112 5", Must),
        ("X(A): 1", "parentheses in the name", "9110 5.1", Must),
        ("X\"A: 1", "a quote in the name", "9110 5.1", Must),
        ("X\0A: 1", "NUL in the name", "9110 5.1", Must),
        ("X-A: 1\0", "NUL in the value", "9110 5.5", Must),
        ("X-A: 1\r2", "a bare carriage return in the value", "9112 2.2", Own),
        ("X-A: 1\nX-B: 2", "a bare line feed behind the value", "9112 2.2", Own),
        ("X-A: 1\r\n 2", "a folded line", "9112 5.2", Own),
        ("X-A: 1\r\n\t2", "a line folded with a tab", "9112 5.2", Own),
        ("X-A: \x01", "a control character in the value", "9110 5.5", Own),
        ("X-A: \x7f", "DEL in the value", "9110 5.5", Own),
        ("X\u{e9}: 1", "letters beyond ASCII in the name", "9110 5.1", Must),
    ] {
        t.refused(&format!("a field with {what}"), rfc, level, BAD, get(&format!("{field}\r\n")));
    }
    t.refused(
        "a first field that begins with a space",
        "9112 2.2",
        Own,
        BAD,
        "GET / HTTP/1.1\r\n Host: a.example\r\nHost: a.example\r\n\r\n",
    );
    t.refused(
        "a head that ends in a bare line feed",
        "9112 2.2",
        Own,
        BAD,
        "GET / HTTP/1.1\r\nHost: a.example\r\n\n",
    );
}

fn hosts(t: &mut Table) {
    t.refused("no Host", "9112 3.2", Must, BAD, "GET / HTTP/1.1\r\n\r\n");
    t.refused("two Hosts that differ", "9112 3.2", Must, BAD, get("Host: b.example\r\n"));
    t.refused("two equal Hosts", "9112 3.2", Must, BAD, get("Host: a.example\r\n"));
    for (host, what) in [
        ("a b", "a space"),
        ("a/b", "a slash"),
        ("a,b", "a list"),
        ("u@a", "user information"),
        ("a:b", "a port of letters"),
        ("a:99999", "a port beyond all"),
        ("[::1", "an open bracket"),
        ("a?b", "a question mark"),
        ("a#b", "a hash"),
        ("a\\b", "a backslash"),
        ("http://a", "a scheme"),
        ("a\tb", "a tab"),
        ("<a>", "angle brackets"),
    ] {
        t.refused(
            &format!("a Host with {what}"),
            "9112 3.2",
            Must,
            BAD,
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        );
    }
    t.refused("an empty Host", "9110 7.2", Own, BAD, "GET / HTTP/1.1\r\nHost:\r\n\r\n");
    t.refused(
        "no Host beside an absolute target",
        "9112 3.2",
        Must,
        BAD,
        "GET http://a.example/ HTTP/1.1\r\n\r\n",
    );
}

fn methods(t: &mut Table) {
    for (name, request) in [
        ("CONNECT is refused", "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n"),
        ("CONNECT with a path is refused", "CONNECT / HTTP/1.1\r\nHost: a.example\r\n\r\n"),
        ("TRACE is refused", "TRACE / HTTP/1.1\r\nHost: a.example\r\n\r\n"),
    ] {
        t.script(name, "9110 9.3", Own, move |stage| {
            let mut client = stage.client_with(request)?;
            while !client.is_readable() {
                if let Some(mut upstream) = stage.try_backend() {
                    return Err(format!("forwarded as {:?}", upstream.request()?.line));
                }
                crate::stage::pause();
            }
            match client.answer()?.status() {
                400 | 403 | 405 | 501 => Ok(()),
                status => Err(format!("answered {status}")),
            }
        });
    }
}
