//! Requests of HTTP/2 as HTTP/1.1 for the backend, and its answers back (RFC 9113, 8).

use crate::{
    case::{
        Check::{
            self, Body, Framed, Has, Interims, Is, Line, Lines, Lists, Members, No, NoTrailer, Status,
            Trailer,
        },
        Level::{Must, Own, Should},
        OK, Table, answer, check,
    },
    h2::{Outcome, code, data, headers, request},
    h2_play::{again, meet, meet_get},
    message::{End, Framing},
    target::Profile,
};

pub(super) fn table() -> Table {
    let mut t = Table::new("HTTP/2: requests and answers");
    heads(&mut t);
    bodies(&mut t);
    answers(&mut t);
    failures(&mut t);
    t
}

fn get(more: &[(&str, &str)]) -> Vec<u8> {
    headers(1, &request("GET", more), true)
}

fn heads(t: &mut Table) {
    t.h2_exchange(
        "a request becomes HTTP/1.1",
        "9113 8.3.1",
        Must,
        (get(&[]), OK),
        &[Line("GET / HTTP/1.1"), Is("host", "a.example"), No("transfer-encoding"), No("content-length")],
        &[Status(200), Body("ok")],
    );
    let path = |method, value| {
        headers(
            1,
            &[(":method", method), (":scheme", "http"), (":authority", "a.example"), (":path", value)],
            true,
        )
    };
    t.h2_exchange(
        "a path's bytes are kept",
        "9110 7.7",
        Must,
        (path("GET", "/a%2Fb//../c;d?e=%20&f"), OK),
        &[Line("GET /a%2Fb//../c;d?e=%20&f HTTP/1.1")],
        &[],
    );
    t.h2_exchange(
        "an empty query is kept",
        "9110 7.7",
        Must,
        (path("GET", "/a?"), OK),
        &[Line("GET /a? HTTP/1.1")],
        &[],
    );
    t.h2_exchange(
        "OPTIONS * is passed on",
        "9113 8.3.1",
        Should,
        (path("OPTIONS", "*"), OK),
        &[Line("OPTIONS * HTTP/1.1")],
        &[],
    );
    t.h2_exchange(
        "an unknown method is passed on",
        "9110 9.1",
        Should,
        (headers(1, &request("MKFOO", &[]), true), OK),
        &[Line("MKFOO / HTTP/1.1")],
        &[Status(200)],
    );
    t.h2_exchange(
        "an authority's port is kept",
        "9110 7.2",
        Must,
        (
            headers(
                1,
                &[(":method", "GET"), (":scheme", "http"), (":authority", "a.example:8080"), (":path", "/")],
                true,
            ),
            OK,
        ),
        &[Is("host", "a.example:8080")],
        &[],
    );
    t.h2_exchange(
        "Host is used where there is no authority",
        "9113 8.3.1",
        Must,
        (
            headers(
                1,
                &[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a.example")],
                true,
            ),
            OK,
        ),
        &[Is("host", "a.example")],
        &[],
    );
    t.h2_exchange(
        "Host that is the authority is sent once",
        "9112 3.2",
        Must,
        (get(&[("host", "a.example")]), OK),
        &[Lines("host", &["a.example"])],
        &[],
    );
    t.h2_exchange(
        "cookies in pieces are put together",
        "9113 8.2.3",
        Must,
        (get(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")]), OK),
        &[Lines("cookie", &["a=1; b=2"])],
        &[],
    );
    t.h2_exchange(
        "TE: trailers is passed on",
        "9110 10.1.4",
        Should,
        (get(&[("te", "trailers")]), OK),
        &[Lists("te", "trailers"), Lists("connection", "te")],
        &[],
    );
    t.h2_exchange(
        "repeated fields keep their order",
        "9110 5.3",
        Must,
        (get(&[("x", "1"), ("y", "2"), ("x", "3")]), OK),
        &[Is("x", "1, 3")],
        &[],
    );
    t.h2_exchange(
        "bytes beyond ASCII in a value are kept",
        "9110 5.5",
        Should,
        (get(&[("x", "\u{e9}\u{ff}")]), OK),
        &[Is("x", "\u{e9}\u{ff}")],
        &[],
    );
    t.h2_exchange(
        "an empty value is kept",
        "9110 5.5",
        Must,
        (get(&[("x", "")]), OK),
        &[Lines("x", &[""])],
        &[],
    );
    t.h2_exchange(
        "space and tab within a value are kept",
        "9110 5.5",
        Must,
        (get(&[("x", "a  b\tc")]), OK),
        &[Lines("x", &["a  b\tc"])],
        &[],
    );
    t.h2_exchange(
        "every token character is allowed in a name",
        "9110 5.6.2",
        Must,
        (get(&[("x!#$%&'*+-.^_`|~9", "y")]), OK),
        &[Is("x!#$%&'*+-.^_`|~9", "y")],
        &[],
    );
    t.h2_exchange(
        "Authorization is kept and Last-Event-ID too",
        "9110 7.6",
        Must,
        (get(&[("authorization", "Basic eA=="), ("last-event-id", "7")]), OK),
        &[Is("authorization", "Basic eA=="), Is("last-event-id", "7")],
        &[],
    );
    t.h2_exchange(
        "Proxy-Authorization ends here",
        "9110 11.7.2",
        Own,
        (get(&[("proxy-authorization", "x")]), OK),
        &[No("proxy-authorization")],
        &[],
    );
    t.h2_exchange(
        "Via names the received version",
        "9110 7.6.3",
        Must,
        (get(&[]), OK),
        &[Members("via", 1), Check::Starts("via", "2")],
        &[],
    );
    t.h2_exchange(
        "X-Forwarded-For of an untrusted client is replaced",
        "",
        Own,
        (get(&[("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=6.6.6.6")]), OK),
        &[
            Is("x-forwarded-for", "127.0.0.1"),
            No("forwarded"),
            Is("x-real-ip", "127.0.0.1"),
            Is("x-forwarded-host", "a.example"),
        ],
        &[],
    );
    t.h2("X-Forwarded-Proto is the transport's, whatever :scheme says", "", Own, |stage| {
        let (_, _, seen) = meet(stage, get(&[("x-forwarded-proto", "gopher")]))?;
        if seen.values("x-forwarded-proto") == [stage.scheme()] {
            Ok(())
        } else {
            Err(format!("{:?}", seen.fields))
        }
    });
    t.h2_exchange("a request gets an id", "", Own, (get(&[]), OK), &[Has("x-request-id")], &[]);
    t.h2_exchange(
        "Max-Forwards of OPTIONS is counted down",
        "9110 7.6.2",
        Must,
        (headers(1, &request("OPTIONS", &[("max-forwards", "3")]), true), OK),
        &[Is("max-forwards", "2")],
        &[],
    );
    t.h2("a hundred fields are kept", "", Own, |stage| {
        let names: Vec<String> = (0..100).map(|n| format!("x-{n}")).collect();
        let fields: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
        let (_, _, seen) = meet(stage, get(&fields))?;
        match names.iter().find(|name| seen.values(name) != ["v"]) {
            None => Ok(()),
            Some(name) => Err(format!("{name} is gone")),
        }
    });
    t.h2("a value of 8 KB is kept", "9110 5.4", Should, |stage| {
        let value = "v".repeat(8 << 10);
        let (_, _, seen) = meet(stage, get(&[("x", &value)]))?;
        if seen.values("x") == [value.as_str()] { Ok(()) } else { Err("it is not".into()) }
    });
    for (name, count, size) in [("a thousand fields", 1000, 1), ("a head of 100 KB", 20, 5 << 10)] {
        t.h2(
            format!("{name} are refused and the connection goes on or ends"),
            "9113 10.5.1",
            Own,
            move |stage| {
                let value = "v".repeat(size);
                let fields: Vec<_> = (0..count).map(|_| ("x", value.as_str())).collect();
                let block = crate::h2::block(&request("GET", &fields));
                let mut client = stage.h2()?;
                client.try_send(crate::h2::split_headers(1, &block, true));
                match client.outcome(1) {
                    Outcome::Answer(answer) if (400..500).contains(&answer.status()) => {}
                    Outcome::Reset(..)
                    | Outcome::Lost(_, End::Closed | End::Reset)
                    | Outcome::Lost(Some(_), _) => {}
                    other => return Err(format!("{other:?}")),
                }
                crate::h2_play::nothing_at_backend(stage)
            },
        );
    }
}

fn bodies(t: &mut Table) {
    let post = |more: &[(&str, &str)], pieces: &[&str]| {
        let mut frames = headers(1, &request("POST", more), pieces.is_empty());
        for (at, piece) in pieces.iter().enumerate() {
            frames.extend(data(1, piece, at + 1 == pieces.len()));
        }
        frames
    };
    t.h2_exchange(
        "a body of known length keeps it",
        "9112 6.2",
        Must,
        (post(&[("content-length", "6")], &["abc", "def"]), OK),
        &[Body("abcdef"), Framed(Framing::Length)],
        &[Status(200)],
    );
    t.h2_exchange(
        "a body of no known length goes on in chunks",
        "9112 7.1",
        Must,
        (post(&[], &["abc", "", "def", ""]), OK),
        &[Body("abcdef"), Framed(Framing::Chunked)],
        &[Status(200)],
    );
    t.h2_exchange(
        "a length of 0 is kept",
        "9110 8.6",
        Should,
        (post(&[("content-length", "0")], &[]), OK),
        &[Is("content-length", "0"), Body("")],
        &[Status(200)],
    );
    t.h2_exchange(
        "a POST without a body has none",
        "9112 6.3",
        Must,
        (post(&[], &[]), OK),
        &[Body(""), No("transfer-encoding")],
        &[Status(200)],
    );
    t.h2_exchange(
        "what looks like a chunk is data",
        "9112 7.1",
        Must,
        (post(&[], &["0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n"]), OK),
        &[Body("0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n")],
        &[Status(200)],
    );
    t.h2_exchange(
        "GET may have a body",
        "9110 9.3.1",
        Own,
        ([headers(1, &request("GET", &[("content-length", "3")]), false), data(1, "abc", true)].concat(), OK),
        &[Body("abc"), Is("content-length", "3")],
        &[Status(200)],
    );
    let trailing = |trailers: &[(&str, &str)]| {
        [
            headers(1, &request("POST", &[("trailer", "x-sum")]), false),
            data(1, "abc", false),
            headers(1, trailers, true),
        ]
        .concat()
    };
    t.h2_exchange(
        "trailers are passed on",
        "9113 8.1",
        Own,
        (trailing(&[("x-sum", "3")]), OK),
        &[Body("abc"), Trailer("x-sum", "3")],
        &[Status(200)],
    );
    t.h2_exchange(
        "trailers that frame, route or authenticate do not get through",
        "9110 6.5.1",
        Must,
        (trailing(&[("x-sum", "3"), ("content-length", "3"), ("host", "evil"), ("authorization", "x")]), OK),
        &[NoTrailer("content-length"), NoTrailer("host"), NoTrailer("authorization")],
        &[],
    );
    t.h2("a part of a body is passed on before the rest comes", "", Own, |stage| {
        let mut client = stage.h2()?;
        client.send([headers(1, &request("POST", &[]), false), data(1, "abc", false)].concat())?;
        let mut upstream = stage.backend()?;
        upstream.until("abc")?;
        client.send(data(1, "def", true))?;
        upstream.until("def")?;
        upstream.until("0\r\n\r\n")?;
        upstream.send(OK)?;
        check(&client.answer(1)?, &[Status(200)])
    });
    t.h2("100-continue: the client gets a 100", "9110 10.1.1", Must, |stage| {
        let mut client = stage.h2()?;
        client.send(headers(
            1,
            &request("POST", &[("expect", "100-continue"), ("content-length", "3")]),
            false,
        ))?;
        let mut upstream = stage.backend()?;
        let head = upstream.head()?;
        if head.to_lowercase().contains("expect: 100-continue") {
            upstream.send("HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        check(&client.interim(1)?, &[Status(100)])?;
        client.send(data(1, "abc", true))?;
        upstream.until("abc")?;
        upstream.send(OK)?;
        check(&client.answer(1)?, &[Status(200), Body("ok")])
    });
    t.h2("a body that stops is given up", "9110 15.5.9", Should, |stage| {
        let mut client = stage.h2()?;
        client.send([headers(1, &request("POST", &[]), false), data(1, "abc", false)].concat())?;
        let mut upstream = stage.backend()?;
        upstream.until("abc")?;
        match client.outcome(1) {
            Outcome::Answer(answer) | Outcome::Reset(_, answer)
                if matches!(answer.status(), 0 | 408 | 502 | 504) => {}
            other => return Err(format!("{other:?}")),
        }
        match upstream.rest() {
            (_, End::StillOpen) => Err("the backend's connection stays open".into()),
            (bytes, _) if bytes.ends_with(b"0\r\n\r\n") => Err("the request ends cleanly".into()),
            _ => Ok(()),
        }
    })
    .profile = Profile::Short;
}

fn answers(t: &mut Table) {
    t.h2_exchange("fields of the backend's connection end there", "9113 8.2.2", Must, (get(&[]), answer("Connection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\nX-Hop: 1\r\nX-End: 1\r\nContent-Length: 2\r\n", "ok")), &[], &[Status(200), No("connection"), No("keep-alive"), No("proxy-connection"), No("upgrade"), No("x-hop"), Is("x-end", "1")]);
    t.h2_exchange(
        "names are in lower case",
        "9113 8.2.1",
        Must,
        (get(&[]), answer("X-UPPER-Case: A\r\nContent-Length: 2\r\n", "ok")),
        &[],
        &[Is("x-upper-case", "A")],
    );
    t.h2_exchange(
        "a body in chunks comes without them",
        "9113 8.1",
        Must,
        (get(&[]), answer("Transfer-Encoding: chunked\r\n", "2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n")),
        &[],
        &[No("transfer-encoding"), Body("abc")],
    );
    t.h2_exchange(
        "a length is kept",
        "9110 8.6",
        Should,
        (get(&[]), OK),
        &[],
        &[Is("content-length", "2"), Body("ok")],
    );
    t.h2_exchange(
        "a body up to the close is whole",
        "9113 8.1",
        Must,
        (get(&[]), "HTTP/1.0 200 OK\r\n\r\nall of it"),
        &[],
        &[Status(200), Body("all of it"), No("content-length")],
    );
    t.h2_exchange(
        "trailers are passed on as trailers",
        "9113 8.1",
        Should,
        (
            get(&[("te", "trailers")]),
            answer("Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n", "3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n"),
        ),
        &[],
        &[Body("abc"), Trailer("x-sum", "3")],
    );
    t.h2_exchange(
        "Set-Cookie stays lines of its own",
        "6265 3",
        Must,
        (get(&[]), answer("Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n", "ok")),
        &[],
        &[Lines("set-cookie", &["a=1", "b=2"])],
    );
    t.h2_exchange(
        "an empty answer has no content",
        "9113 8.1",
        Must,
        (get(&[]), answer("Content-Length: 0\r\n", "")),
        &[],
        &[Status(200), Body("")],
    );
    t.h2_exchange(
        "204 has no content",
        "9110 15.3.5",
        Must,
        (get(&[]), "HTTP/1.1 204 No Content\r\n\r\n"),
        &[],
        &[Status(204), Body(""), No("content-length")],
    );
    t.h2_exchange(
        "304 keeps its length",
        "9110 8.6",
        Should,
        (get(&[]), "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\nETag: \"a\"\r\n\r\n"),
        &[],
        &[Status(304), Body(""), Is("etag", "\"a\"")],
    );
    t.h2("HEAD is answered without content and with its length", "9110 9.3.2", Must, |stage| {
        let (mut client, mut upstream, _) = meet(stage, headers(1, &request("HEAD", &[]), true))?;
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")?;
        check(&client.answer(1)?, &[Status(200), Is("content-length", "10"), Body("")])
    });
    t.h2_exchange(
        "103 is passed on",
        "8297 2",
        Should,
        (get(&[]), format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}")),
        &[],
        &[Interims(1), Status(200), Body("ok")],
    );
    t.h2("103 is passed on before the answer comes", "9110 15.2", Must, |stage| {
        let (mut client, mut upstream) = meet_get(stage)?;
        upstream.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
        check(&client.interim(1)?, &[Status(103), Is("link", "</a>")])?;
        upstream.send(OK)?;
        check(&client.answer(1)?, &[Status(200), Body("ok")])
    });
    t.h2("each part of an answer is passed on at once", "", Own, |stage| {
        let (mut client, mut upstream) = meet_get(stage)?;
        upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        check(&client.head(1)?, &[Status(200)])?;
        let mut all = Vec::new();
        for n in 0..20 {
            let event = format!("data: {n}\n\n");
            upstream.send(format!("{:x}\r\n{event}\r\n", event.len()))?;
            all.extend_from_slice(event.as_bytes());
            client.until(1, &all)?;
        }
        upstream.send("0\r\n\r\n")?;
        client.answer(1).map(|_| ())
    });
    t.h2_exchange(
        "Via names this proxy in answers",
        "9110 7.6.3",
        Must,
        (get(&[]), OK),
        &[],
        &[Check::Starts("via", "1.1 ")],
    );
    t.h2("a megabyte of any bytes arrives as it was", "9113 8.1", Must, |stage| {
        let (mut client, mut upstream) = meet_get(stage)?;
        let body: Vec<u8> = (0..1_u32 << 20).map(|n| (n >> 3) as u8).collect();
        let head = answer(&format!("Content-Length: {}\r\n", body.len()), "");
        let got = std::thread::scope(|scope| {
            scope.spawn(|| upstream.send([head.as_bytes(), &body].concat()));
            client.answer(1)
        })?;
        if got.body == body { Ok(()) } else { Err(format!("{} bytes came, or others", got.body.len())) }
    });
}

fn failures(t: &mut Table) {
    for (name, answer, end) in [
        (
            "an answer of known length that is cut",
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
            End::Closed,
        ),
        (
            "an answer of known length that is reset",
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
            End::Reset,
        ),
        (
            "an answer of known length whose body never comes",
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
            End::Closed,
        ),
        (
            "an answer cut within a chunk",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
            End::Closed,
        ),
        (
            "an answer cut between chunks",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            End::Closed,
        ),
        (
            "an answer cut before its last line end",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
            End::Closed,
        ),
        (
            "an answer cut within its trailers",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n",
            End::Closed,
        ),
        (
            "an answer with a chunk size that is no number",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n",
            End::Closed,
        ),
        (
            "an answer with more data than its chunk's size",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
            End::Closed,
        ),
        ("an answer without a length that is reset", "HTTP/1.1 200 OK\r\n\r\nabc", End::Reset),
    ] {
        t.h2(format!("{name} becomes RST_STREAM"), "9113 8.1", Must, move |stage| {
            let (mut client, mut upstream) = meet_get(stage)?;
            upstream.send(answer)?;
            // Time to pass on what has come, so that the break is in the body and not before its head.
            client.hear_for(std::time::Duration::from_millis(50));
            match end {
                End::Reset => upstream.reset(),
                _ => drop(upstream),
            }
            match client.outcome(1) {
                Outcome::Reset(code, _) if code != code::NO_ERROR => {}
                Outcome::Answer(answer) if answer.status() == 502 => {}
                other => return Err(format!("{other:?}")),
            }
            again(stage, &mut client, 3)
        });
    }
    for (name, lie) in [
        ("no answer", ""),
        ("an invalid answer", "SSH-2.0-x\r\n\r\n"),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
        (
            "a length and a coding",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "an unrequested 101",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        ),
        ("NUL in a field", "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok"),
        ("a head that is cut", "HTTP/1.1 200 OK\r\nX: a"),
    ] {
        t.h2(format!("{name} is 502"), "9110 15.6.3", Own, move |stage| {
            let (mut client, mut upstream, _) =
                meet(stage, [headers(1, &request("POST", &[]), false), data(1, "x", true)].concat())?;
            upstream.send(lie)?;
            drop(upstream);
            check(&client.answer(1)?, &[Status(502)])?;
            again(stage, &mut client, 3)
        });
    }
    t.h2("a backend that refuses is 503 or 502", "9110 15.6", Should, |stage| {
        let mut client = stage.h2()?;
        client.send(get(&[]))?;
        match client.answer(1)?.status() {
            502 | 503 => Ok(()),
            other => Err(format!("{other}")),
        }
    })
    .profile = Profile::Refusing;
    t.h2("a backend that says nothing is 504", "9110 15.6.5", Should, |stage| {
        let (mut client, mut upstream) = meet_get(stage)?;
        check(&client.answer(1)?, &[Status(504)])?;
        match upstream.rest() {
            (_, End::StillOpen) => Err("the backend's connection stays open".into()),
            _ => Ok(()),
        }
    })
    .profile = Profile::Short;
    t.h2("a backend that refuses is passed over", "", Own, |stage| {
        let mut client = stage.h2()?;
        for n in 0..4 {
            again(stage, &mut client, 2 * n + 1)?;
        }
        Ok(())
    })
    .profile = Profile::Spare;
    t.h2("an error is problem details", "9457 3", Own, |stage| {
        let (mut client, upstream, _) =
            meet(stage, headers(1, &request("POST", &[("content-length", "0")]), true))?;
        drop(upstream);
        let answer = client.answer(1)?;
        check(&answer, &[Status(502), Is("content-type", "application/problem+json"), Has("date")])
    });
}
