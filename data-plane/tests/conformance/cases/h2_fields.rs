//! Malformed requests of HTTP/2 (RFC 9113, 8.1 to 8.3), and what would be smuggled into HTTP/1.1 by them: refused,
//! and nothing of them goes on.

use crate::{
    case::{
        Level::{Must, Own, Should},
        Table,
    },
    h2::{data, headers, request},
    h2_play::{malformed, never_complete},
};

pub(super) fn table() -> Table {
    let mut t = Table::new("HTTP/2: malformed requests");
    names_and_values(&mut t);
    pseudo_fields(&mut t);
    targets(&mut t);
    lengths(&mut t);
    trailers(&mut t);
    t
}

fn names_and_values(t: &mut Table) {
    for (name, field, value) in [
        ("an upper-case field name", "X-Upper", "a"),
        ("a name with a space", "x y", "a"),
        ("a name with a colon", "x:y", "a"),
        ("a name that begins with a colon", ":x", "a"),
        ("an empty name", "", "a"),
        ("a name with a line feed", "x\ny", "a"),
        ("a name with a carriage return and a line feed", "x: a\r\ny", "a"),
        ("a name with NUL", "x\0", "a"),
        ("a name beyond ASCII", "x\u{e9}", "a"),
        ("a name with a delete", "x\x7f", "a"),
        ("a value with a line feed", "x", "a\nb: c"),
        ("a value with a carriage return", "x", "a\rb: c"),
        ("a value with both and a field behind", "x", "a\r\nhost: evil.example"),
        ("a value with a whole request behind", "x", "a\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a value with NUL", "x", "a\0b"),
    ] {
        t.malformed(name, "9113 8.2.1", Must, &request("GET", &[(field, value)]));
    }
    t.malformed("a value with a space before it", "9113 8.2.1", Must, &request("GET", &[("x", " a")]));
    t.malformed("a value with a tab behind it", "9113 8.2.1", Must, &request("GET", &[("x", "a\t")]));
    t.malformed("a value with a control character", "9110 5.5", Own, &request("GET", &[("x", "a\x01b")]));
    for (name, field, value) in [
        ("Connection", "connection", "close"),
        ("Connection that nominates", "connection", "x-secret"),
        ("Keep-Alive", "keep-alive", "timeout=5"),
        ("Proxy-Connection", "proxy-connection", "keep-alive"),
        ("Transfer-Encoding", "transfer-encoding", "chunked"),
        ("Upgrade", "upgrade", "websocket"),
        ("TE other than trailers", "te", "gzip"),
        ("TE with more than trailers", "te", "trailers, gzip"),
    ] {
        t.malformed(name, "9113 8.2.2", Must, &request("GET", &[(field, value)]));
    }
    t.h2("Transfer-Encoding with a body", "9113 8.2.2", Must, |stage| {
        let head = headers(1, &request("POST", &[("transfer-encoding", "chunked")]), false);
        malformed(stage, &[head, data(1, "0\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n", true)].concat())
    });
}

fn pseudo_fields(t: &mut Table) {
    let all = [(":method", "GET"), (":scheme", "http"), (":authority", "a.example"), (":path", "/")];
    for (at, name) in [(0, "no :method"), (1, "no :scheme"), (3, "no :path")] {
        let fields: Vec<_> =
            all.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, field)| *field).collect();
        t.malformed(name, "9113 8.3.1", Must, &fields);
    }
    for (field, value) in all {
        t.malformed(&format!("{field} twice"), "9113 8.3", Must, &[&all[..], &[(field, value)]].concat());
        t.malformed(
            &format!("{field} twice, and not the same"),
            "9113 8.3",
            Must,
            &[&all[..], &[(field, if field == ":method" { "POST" } else { "/b" })]].concat(),
        );
    }
    t.malformed(
        "a pseudo-field after a field",
        "9113 8.3",
        Must,
        &[(":method", "GET"), (":scheme", "http"), (":authority", "a.example"), ("x", "y"), (":path", "/")],
    );
    t.malformed("an unknown pseudo-field", "9113 8.3", Must, &[&all[..], &[(":unknown", "x")]].concat());
    t.malformed("a pseudo-field of answers", "9113 8.3", Must, &[&all[..], &[(":status", "200")]].concat());
    t.malformed("no field at all", "9113 8.3.1", Must, &[]);
    t.malformed(
        ":protocol without CONNECT",
        "8441 4",
        Must,
        &[&all[..], &[(":protocol", "websocket")]].concat(),
    );
    t.malformed("CONNECT with a path and no protocol", "9113 8.5", Must, &request("CONNECT", &[]));
    t.malformed(
        "CONNECT, which no gateway serves",
        "9110 9.3.6",
        Own,
        &[(":method", "CONNECT"), (":authority", "b.example:443")],
    );
    for (name, value) in [
        ("a method with a space", "GET /evil HTTP/1.1"),
        ("a method with a line end", "GET / HTTP/1.1\r\nHost: evil\r\n\r\nGET"),
        ("an empty method", ""),
        ("a method with a colon", "GE:T"),
        ("a method with NUL", "GET\0"),
    ] {
        t.malformed(name, "9110 9.1", Must, &request(value, &[]));
    }
    for (name, value) in [
        ("an empty scheme", ""),
        ("a scheme with a space", "http "),
        ("a scheme with a target", "http://evil/"),
        ("a scheme with a line end", "http\r\nx: y"),
    ] {
        t.malformed(name, "9113 8.3.1", Must, &[all[0], (":scheme", value), all[2], all[3]]);
    }
}

fn targets(t: &mut Table) {
    let path =
        |value| [(":method", "GET"), (":scheme", "http"), (":authority", "a.example"), (":path", value)];
    for (name, value) in [
        ("an empty path", ""),
        ("a path without a slash", "evil"),
        ("a path that is a whole URI", "http://evil.example/"),
        ("a path with a space", "/a b"),
        ("a path with a version behind", "/ HTTP/1.1\r\nHost: evil"),
        ("a path with a carriage return", "/a\rb"),
        ("a path with a line feed", "/a\nb"),
        ("a path with NUL", "/a\0b"),
        ("a path with a tab", "/a\tb"),
        ("a path with a delete", "/a\x7f"),
    ] {
        t.malformed(name, "9113 8.3.1", Must, &path(value));
    }
    t.malformed("a path with a fragment", "9113 8.3.1", Must, &path("/a#b"));
    t.malformed("an asterisk that is not of OPTIONS", "9113 8.3.1", Must, &path("*"));
    let authority = |value| [(":method", "GET"), (":scheme", "http"), (":authority", value), (":path", "/")];
    t.malformed("an authority with user information", "9113 8.3.1", Must, &authority("user@a.example"));
    for (name, value) in [
        ("an authority with a space", "a.example evil"),
        ("an authority with a line end", "a.example\r\nx: y"),
        ("an authority with a path", "a.example/evil"),
        ("an authority with a query", "a.example?evil"),
        ("an authority with a comma", "a.example,evil"),
        ("an authority with an invalid port", "a.example:80x"),
        ("an authority with a port beyond 65,535", "a.example:65536"),
        ("an authority with an open bracket", "[::1"),
        ("an authority with NUL", "a\0b"),
        ("an authority beyond ASCII", "\u{e9}.example"),
    ] {
        t.malformed(name, "9110 7.2", Own, &authority(value));
    }
    t.malformed("an empty authority", "9113 8.3.1", Must, &authority(""));
    t.malformed(
        "neither authority nor Host",
        "9113 8.3.1",
        Must,
        &[(":method", "GET"), (":scheme", "http"), (":path", "/")],
    );
    t.malformed(
        "Host that is not the authority",
        "9113 8.3.1",
        Should,
        &request("GET", &[("host", "evil.example")]),
    );
    t.malformed(
        "two Hosts",
        "9112 3.2",
        Must,
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            ("host", "a.example"),
            ("host", "b.example"),
        ],
    );
    t.malformed(
        "two Hosts with an authority",
        "9112 3.2",
        Must,
        &request("GET", &[("host", "a.example"), ("host", "evil.example")]),
    );
}

fn lengths(t: &mut Table) {
    let post = |length: &str, body: &str| {
        [headers(1, &request("POST", &[("content-length", length)]), false), data(1, body, true)].concat()
    };
    for (name, length, body) in [
        ("a body shorter than its length", "10", "abc"),
        ("a body longer than its length", "2", "abc"),
        ("a body longer than its length by a request", "1", "aGET /evil HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a body where the length is 0", "0", "abc"),
    ] {
        let frames = post(length, body);
        t.h2(name, "9113 8.1.1", Must, move |stage| never_complete(stage, &frames));
    }
    t.h2("no body where a length is announced", "9113 8.1.1", Must, |stage| {
        never_complete(stage, &headers(1, &request("POST", &[("content-length", "3")]), true))
    });
    for (name, length) in [
        ("a length with a sign", "+3"),
        ("a negative length", "-3"),
        ("a length in hexadecimal", "0x3"),
        ("a length of a list", "3, 3"),
        ("a length of two that differ", "3, 4"),
        ("an empty length", ""),
        ("a length beyond 64 bits", "99999999999999999999"),
        ("a length with a space within", "3 3"),
    ] {
        let frames = post(length, "abc");
        t.h2(name, "9110 8.6", Must, move |stage| malformed(stage, &frames));
    }
    t.h2("two lengths that differ", "9110 8.6", Must, |stage| {
        let fields = request("POST", &[("content-length", "3"), ("content-length", "4")]);
        malformed(stage, &[headers(1, &fields, false), data(1, "abc", true)].concat())
    });
}

fn trailers(t: &mut Table) {
    for (name, trailer) in [
        ("a pseudo-field among trailers", (":path", "/evil")),
        ("an upper-case name among trailers", ("X-Upper", "a")),
        ("a line end among trailers", ("x", "a\r\nb: c")),
        ("a line end in a trailer's name", ("x\r\ny", "a")),
        ("NUL among trailers", ("x", "a\0")),
        ("Transfer-Encoding among trailers", ("transfer-encoding", "chunked")),
        ("Connection among trailers", ("connection", "close")),
    ] {
        t.h2(name, "9113 8.1", Must, move |stage| {
            let frames = [
                headers(1, &request("POST", &[]), false),
                data(1, "abc", false),
                headers(1, &[trailer], true),
            ];
            never_complete(stage, &frames.concat())
        });
    }
}
