//! The truth about failure: an error before the head, a visible break after it, and no internals.

use crate::case::{
    Check::{Body, Has, Is, Open, Status},
    GET,
    Level::{Must, Own, Should},
    OK, Table, answer, check, get, post,
};
use crate::message::End;
use crate::play::{again, hides};
use crate::target::Profile;

pub(super) fn table() -> Table {
    let mut t = Table::new("Failure");
    connecting(&mut t);
    before_head(&mut t);
    within_body(&mut t);
    pages(&mut t);
    t
}

fn connecting(t: &mut Table) {
    t.script("a backend that refuses is 503 or 502", "9110 15.6", Should, |stage| {
        let status = stage.client_with(GET)?.answer()?.status();
        if matches!(status, 502 | 503) { Ok(()) } else { Err(status.to_string()) }
    })
    .profile = Profile::Refusing;
    t.script(
        "a refused POST is answered, and the client may send its next request",
        "9112 9.3",
        Should,
        |stage| {
            let mut client = stage.client_with(post("Content-Length: 5\r\n", "hello"))?;
            client.answer()?;
            client.send(GET)?;
            let status = client.answer()?.status();
            if matches!(status, 502 | 503) { Ok(()) } else { Err(status.to_string()) }
        },
    )
    .profile = Profile::Refusing;
    t.script("a refused HEAD is answered without a body", "9110 9.3.2", Must, |stage| {
        let mut client = stage.client_with("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
        client.answer_to("HEAD")?;
        client.expect_closed()
    })
    .profile = Profile::Refusing;
    t.script("a body that is not read is never a request", "9112 9.3", Must, |stage| {
        let mut client = stage.client_with(post("Content-Length: 36\r\n", ""))?;
        super::request_body::no_request_follows(stage, &mut client, "HTTP/1.1 50")
    })
    .profile = Profile::Refusing;
    t.script("a backend that takes no connection is 504 or 503 in time", "9110 15.6.5", Should, |stage| {
        let begun = std::time::Instant::now();
        let status = stage.client_with(GET)?.answer()?.status();
        if begun.elapsed().as_secs() > 3 {
            return Err(format!("after {:?}", begun.elapsed()));
        }
        if matches!(status, 503 | 504) { Ok(()) } else { Err(status.to_string()) }
    })
    .profile = Profile::Deaf;
    for (name, request) in [
        ("a backend that refuses is passed over", GET.to_owned()),
        ("a backend that refuses is passed over by POST too", post("Content-Length: 2\r\n", "hi")),
    ] {
        t.script(name, "", Own, move |stage| {
            for _ in 0..4 {
                let (mut client, mut upstream, _) = stage.meet(&request)?;
                upstream.send(answer("Connection: close\r\nContent-Length: 2\r\n", "ok"))?;
                check(&client.answer()?, &[Status(200)])?;
            }
            Ok(())
        })
        .profile = Profile::Spare;
    }
}

fn before_head(t: &mut Table) {
    for (name, part, end) in [
        ("a backend that closes without an answer is 502", "", End::Closed),
        ("a backend that resets without an answer is 502", "", End::Reset),
        ("a backend that closes within the status line is 502", "HTTP/1.1 2", End::Closed),
        (
            "a backend that closes within its head is 502",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
            End::Closed,
        ),
        (
            "a backend that resets within its head is 502",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
            End::Reset,
        ),
        (
            "a backend that closes after an interim answer is 502",
            "HTTP/1.1 103 Early Hints\r\n\r\n",
            End::Closed,
        ),
    ] {
        t.script(name, "9110 15.6.3", Own, move |stage| {
            let (mut client, mut upstream, _) = stage.meet(post("Content-Length: 2\r\n", "hi"))?;
            upstream.send(part)?;
            match end {
                End::Reset => upstream.reset(),
                _ => drop(upstream),
            }
            check(&client.answer()?, &[Status(502)])
        });
    }
    t.script("a backend that fails does not cost the client its connection", "", Own, |stage| {
        let (mut client, mut upstream, _) = stage.meet(post("Content-Length: 2\r\n", "hi"))?;
        upstream.finish();
        check(&client.answer()?, &[Status(502)])?;
        again(stage, &mut client, &mut upstream)
    });
    t.script("a backend that fails within the body is 502", "9110 15.6.3", Own, |stage| {
        let mut client = stage.client_with(post("Content-Length: 1000000\r\n", "abc"))?;
        let mut upstream = stage.backend()?;
        upstream.until("abc")?;
        drop(upstream);
        client.try_send("def");
        check(&client.answer()?, &[Status(502)])
    });
    t.script(
        "an answer is passed on though the backend takes no more of the body",
        "9112 9.6",
        Should,
        |stage| {
            let mut client = stage.client_with(post("Content-Length: 1000000\r\n", "abc"))?;
            let mut upstream = stage.backend()?;
            upstream.until("abc")?;
            upstream
                .send("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")?;
            upstream.finish();
            check(&client.answer()?, &[Status(413), Body("no")])
        },
    );
}

fn within_body(t: &mut Table) {
    let known = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";
    t.broken("an answer of known length that is cut", Must, "1.1", known, End::Closed);
    t.broken("an answer of known length that is reset", Must, "1.1", known, End::Reset);
    t.broken(
        "an answer of known length whose body never comes",
        Must,
        "1.1",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        End::Closed,
    );
    t.broken(
        "an answer of absurd length that is cut",
        Must,
        "1.1",
        "HTTP/1.1 200 OK\r\nContent-Length: 999999999999999999\r\n\r\nabc",
        End::Closed,
    );
    t.broken(
        "an answer cut within a chunk",
        Must,
        "1.1",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        End::Closed,
    );
    t.broken(
        "an answer cut behind a chunk's data",
        Must,
        "1.1",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc",
        End::Closed,
    );
    t.broken(
        "an answer reset within a chunk",
        Must,
        "1.1",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        End::Reset,
    );
    t.broken(
        "an answer without a length that is reset",
        Should,
        "1.1",
        "HTTP/1.1 200 OK\r\n\r\nabc",
        End::Reset,
    );
    t.broken(
        "an answer to HTTP/1.0 cut within a chunk",
        Should,
        "1.0",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        End::Closed,
    );
    t.broken("an answer to HTTP/1.0 of known length that is cut", Must, "1.0", known, End::Closed);
    t.broken(
        "an answer to HTTP/1.0 without a length that is reset",
        Should,
        "1.0",
        "HTTP/1.1 200 OK\r\n\r\nabc",
        End::Reset,
    );
    for (name, rest) in [
        ("an answer cut between chunks", ""),
        ("an answer cut before its last line end", "0\r\n"),
        ("an answer cut within its trailers", "0\r\nX-A: b\r\n"),
        ("an answer with a chunk size that is no number", "x\r\nabc\r\n0\r\n\r\n"),
        ("an answer with more data than its chunk's size", "3\r\nabcd\r\n0\r\n\r\n"),
        ("an answer with a chunk size beyond 64 bits", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("an answer with a bare line feed behind a chunk's size", "3\nabc\r\n0\r\n\r\n"),
        ("an answer with an invalid trailer", "0\r\nX\r\n\r\n"),
    ] {
        t.script(name, "9112 8", Must, move |stage| {
            let (mut client, mut upstream, _) = stage.meet(GET)?;
            upstream.send(answer("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n"))?;
            client.until("abc")?;
            upstream.send(rest)?;
            upstream.finish();
            let (rest, end) = client.rest();
            match end {
                End::StillOpen => Err("the client still waits".into()),
                _ if rest.ends_with(b"0\r\n\r\n") => Err("it ends cleanly".into()),
                _ => Ok(()),
            }
        });
    }
}

fn pages(t: &mut Table) {
    let failing = |fields: &'static str| {
        move |stage: &crate::stage::Stage| -> crate::peer::Verdict<_> {
            let (mut client, upstream, _) =
                stage.meet(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: 0\r\n\r\n"))?;
            let address = upstream.stream().local_addr().map_err(|error| error.to_string())?;
            drop(upstream);
            Ok((client.answer()?, address))
        }
    };
    t.script("an error is problem details", "9457 3", Own, move |stage| {
        check(
            &failing("")(stage)?.0,
            &[
                Status(502),
                Is("content-type", "application/problem+json"),
                Has("content-length"),
                Has("date"),
            ],
        )
    });
    t.script("an error is text for clients that accept text", "9110 12.5.1", Own, move |stage| {
        let (page, _) = failing("Accept: text/html, text/plain\r\n")(stage)?;
        let kind = page.values("content-type").join("");
        if page.status() == 502 && kind.starts_with("text/") { Ok(()) } else { Err(kind) }
    });
    t.script("an error has the request's id", "", Own, move |stage| {
        let (page, _) = failing("")(stage)?;
        if hides(&page.body, "\"request_id\":\"") { Err(crate::peer::brief(&page.body)) } else { Ok(()) }
    });
    t.script("an error shows no internals", "", Own, move |stage| {
        let (page, address) = failing("")(stage)?;
        if hides(&page.body, &address.port().to_string()) {
            Ok(())
        } else {
            Err(crate::peer::brief(&page.body))
        }
    });
    t.exchange(
        "an answer after a failure is its own",
        "",
        Own,
        (get(""), OK),
        &[],
        &[Status(200), Body("ok"), Open],
    );
}
