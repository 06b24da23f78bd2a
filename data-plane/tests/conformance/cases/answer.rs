//! The meaning of a response that reaches the client, in a framing that the client can read.

use crate::case::{
    Check::{
        self, Body, Closed, Framed, Has, Is, Lines, Lists, Members, No, Open, Status, Trailer, Unlisted,
    },
    GET,
    Level::{Must, Own, Should},
    OK, Table, answer, get,
};
use crate::message::{Framing, text};

pub(super) fn table() -> Table {
    let mut t = Table::new("Answers");
    fields(&mut t);
    framing(&mut t);
    http10(&mut t);
    t
}

fn fields(t: &mut Table) {
    t.exchange(
        "an unknown status is kept",
        "9110 15",
        Must,
        (GET, "HTTP/1.1 299 Odd\r\nContent-Length: 2\r\n\r\nok"),
        &[],
        &[Status(299), Body("ok")],
    );
    t.exchange(
        "an error of the backend is kept",
        "9110 15.6",
        Must,
        (GET, "HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno"),
        &[],
        &[Status(500), Body("no")],
    );
    t.exchange(
        "an answer of 503 is the backend's own",
        "",
        Own,
        (GET, "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy"),
        &[],
        &[Status(503), Is("retry-after", "7"), Body("busy")],
    );
    t.exchange(
        "Set-Cookie lines are never joined",
        "9110 5.3",
        Must,
        (
            GET,
            answer("Set-Cookie: a=1; Path=/\r\nX-A: b\r\nSet-Cookie: b=2, c\r\nContent-Length: 2\r\n", "ok"),
        ),
        &[],
        &[Lines("set-cookie", &["a=1; Path=/", "b=2, c"])],
    );
    t.exchange(
        "an answer's repeated fields keep their order",
        "9110 5.3",
        Must,
        (GET, answer("X-A: 1\r\nX-B: 2\r\nx-a: 3\r\nContent-Length: 2\r\n", "ok")),
        &[],
        &[Is("x-a", "1, 3")],
    );
    t.exchange("Date is added where it is missing", "9110 6.6.1", Must, (GET, OK), &[], &[Has("date")]);
    t.exchange(
        "Date is kept where it is there",
        "9110 6.6.1",
        Must,
        (GET, answer("Date: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Length: 2\r\n", "ok")),
        &[],
        &[Is("date", "Tue, 15 Nov 1994 08:12:31 GMT")],
    );
    t.exchange(
        "Server is kept",
        "9110 10.2.4",
        Own,
        (GET, answer("Server: theirs/1\r\nContent-Length: 2\r\n", "ok")),
        &[],
        &[Is("server", "theirs/1")],
    );
    t.exchange("Server is not made up", "", Own, (GET, OK), &[], &[No("server")]);
    t.exchange(
        "Via is added to answers",
        "9110 7.6.3",
        Own,
        (GET, answer("Via: 1.1 inner\r\nContent-Length: 2\r\n", "ok")),
        &[],
        &[Lists("via", "1.1 inner"), Members("via", 2)],
    );
    t.exchange(
        "a coded body is passed on untouched",
        "9110 7.7",
        Must,
        (
            get("Accept-Encoding: gzip\r\n"),
            answer("Content-Encoding: gzip\r\nContent-Length: 6\r\nETag: \"x\"\r\n", "\u{1f}\u{7}\0\r\nx"),
        ),
        &[],
        &[Is("content-encoding", "gzip"), Is("etag", "\"x\""), Body("\u{1f}\u{7}\0\r\nx")],
    );
    t.exchange(
        "206 keeps its range",
        "9110 14.4",
        Must,
        (
            get("Range: bytes=0-1\r\n"),
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nok",
        ),
        &[],
        &[Status(206), Is("content-range", "bytes 0-1/9"), Body("ok")],
    );
    t.exchange(
        "Location is kept as it is",
        "9110 10.2.2",
        Own,
        (GET, "HTTP/1.1 302 Found\r\nLocation: /b?c#d\r\nContent-Length: 0\r\n\r\n"),
        &[],
        &[Status(302), Is("location", "/b?c#d")],
    );
    t.exchange(
        "an answer's bytes beyond ASCII are kept",
        "9110 5.5",
        Should,
        (GET, b"HTTP/1.1 200 OK\r\nX-A: caf\xe9\r\nContent-Length: 2\r\n\r\nok"),
        &[],
        &[Is("x-a", "caf\u{e9}")],
    );
    t.exchange(
        "an answer without a reason is accepted",
        "9112 4",
        Must,
        (GET, "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok"),
        &[],
        &[Status(200), Body("ok")],
    );
    t.exchange(
        "an answer without even the space before a reason is accepted",
        "",
        Own,
        (GET, "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"),
        &[],
        &[Status(200), Body("ok")],
    );
    t.exchange(
        "an answer's head of 40 KB is passed on",
        "",
        Own,
        (
            GET,
            answer(
                &format!(
                    "X-A: {}\r\nX-B: {}\r\nX-C: 1\r\nContent-Length: 2\r\n",
                    "a".repeat(20_000),
                    "b".repeat(20_000)
                ),
                "ok",
            ),
        ),
        &[],
        &[Has("x-a"), Has("x-b"), Is("x-c", "1"), Body("ok")],
    );
}

fn framing(t: &mut Table) {
    t.exchange(
        "an answer of known length keeps it",
        "9110 8.6",
        Must,
        (GET, OK),
        &[],
        &[Is("content-length", "2"), Framed(Framing::Length), Body("ok"), Open],
    );
    t.exchange(
        "an answer of length 0 ends at once",
        "9112 6.3",
        Must,
        (GET, answer("Content-Length: 0\r\n", "")),
        &[],
        &[Is("content-length", "0"), Body(""), Open],
    );
    t.exchange(
        "an answer in chunks is passed on",
        "9112 7.1",
        Must,
        (GET, answer("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")),
        &[],
        &[Body("abcde"), Framed(Framing::Chunked), Open],
    );
    t.exchange(
        "an answer's chunk extensions are ignored",
        "9112 7.1.1",
        Must,
        (GET, answer("Transfer-Encoding: Chunked\r\n", "03;a=\"b\"\r\nabc\r\n0;c\r\n\r\n")),
        &[],
        &[Body("abc"), Open],
    );
    t.exchange(
        "an answer's trailers are passed on",
        "9110 6.5",
        Own,
        (
            get("TE: trailers\r\nConnection: TE\r\n"),
            answer("Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n", "3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n"),
        ),
        &[],
        &[Body("abc"), Trailer("x-sum", "6"), Open],
    );
    t.script("an answer's trailers that frame or control do not get through", "9110 6.5.1", Must, |stage| {
        let (mut client, mut upstream, _) = stage.meet(get("TE: trailers\r\nConnection: TE\r\n"))?;
        upstream.send(answer(
            "Transfer-Encoding: chunked\r\n",
            "3\r\nabc\r\n0\r\nContent-Length: 9\r\nSet-Cookie: evil=1\r\nTransfer-Encoding: y\r\n\r\n",
        ))?;
        let (bytes, _) = client.rest_within(std::time::Duration::from_millis(300));
        // Dropped, or the answer is refused for them.
        match text(&bytes).to_lowercase() {
            got if got.contains("evil") || got.contains(": y") || got.contains(": 9\r") => Err(got),
            got if got.starts_with("http/1.1 200") || got.starts_with("http/1.1 502") => Ok(()),
            got => Err(got),
        }
    });
    t.exchange(
        "an answer that ends with its connection is passed on whole",
        "9112 6.3",
        Must,
        (GET, answer("X: y\r\n", "abc")),
        &[],
        &[Body("abc")],
    );
    t.exchange(
        "an answer that ends with its connection goes on in chunks",
        "9112 6.3",
        Should,
        (GET, answer("X: y\r\n", "abc")),
        &[],
        &[Framed(Framing::Chunked), Body("abc"), Open],
    );
    t.exchange(
        "an answer of HTTP/1.0 that ends with its connection is passed on whole",
        "9112 6.3",
        Must,
        (GET, "HTTP/1.0 200 OK\r\n\r\nabc"),
        &[],
        &[Body("abc")],
    );
    t.exchange(
        "an answer to HEAD keeps its length and has no body",
        "9110 9.3.2",
        Must,
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", answer("Content-Length: 100\r\n", "")),
        &[],
        &[Status(200), Is("content-length", "100"), Open],
    );
    t.exchange(
        "an answer to HEAD that speaks of chunks has no body",
        "9112 6.1",
        Must,
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", answer("Transfer-Encoding: chunked\r\n", "")),
        &[],
        &[Status(200), Open],
    );
    t.exchange(
        "an answer to HEAD without a length has no body",
        "9110 9.3.2",
        Must,
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", answer("X-A: 1\r\n", "")),
        &[],
        &[Status(200), Is("x-a", "1"), Open],
    );
    t.exchange(
        "204 has no body and no framing",
        "9110 8.6",
        Must,
        (GET, "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n"),
        &[],
        &[Status(204), No("content-length"), No("transfer-encoding"), Is("x-a", "1"), Open],
    );
    t.exchange(
        "204 with a length of 0 loses it",
        "9110 8.6",
        Must,
        (GET, "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
        &[],
        &[Status(204), No("content-length"), Open],
    );
    t.exchange(
        "304 has no body, whatever its length says",
        "9110 15.4.5",
        Must,
        (GET, "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 100\r\n\r\n"),
        &[],
        &[Status(304), Is("etag", "\"x\""), Open],
    );
    t.exchange(
        "an answer that ends with its connection may be empty",
        "9112 6.3",
        Must,
        (GET, answer("X: y\r\n", "")),
        &[],
        &[Status(200), Body("")],
    );
}

fn http10(t: &mut Table) {
    t.exchange(
        "a client of HTTP/1.0 gets no chunks",
        "9112 6.1",
        Must,
        (
            "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            answer("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        ),
        &[],
        &[No("transfer-encoding"), Body("abc"), Closed],
    );
    t.exchange(
        "a client of HTTP/1.0 that keeps its connection gets no chunks either",
        "9112 6.1",
        Must,
        (
            "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
            answer("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        ),
        &[],
        &[No("transfer-encoding"), Unlisted("connection", "keep-alive"), Body("abc"), Closed],
    );
    t.exchange(
        "the connection of HTTP/1.0 is closed",
        "9112 9.3",
        Must,
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", OK),
        &[],
        &[Body("ok"), Closed],
    );
    t.exchange(
        "the connection of HTTP/1.0 is kept on demand",
        "9112 C.2.2",
        Should,
        ("GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n", OK),
        &[],
        &[Lists("connection", "keep-alive"), Body("ok"), Open],
    );
    t.exchange(
        "a client of HTTP/1.0 is answered as HTTP/1.1",
        "9110 2.5",
        Should,
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", OK),
        &[],
        &[Check::Line("HTTP/1.1 200 OK")],
    );
}
