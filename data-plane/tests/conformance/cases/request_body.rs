//! Requests' bodies: whole, at once, and never longer or shorter than they were.

use std::time::Duration;

use crate::case::{
    Check::{self, Body, Framed, Is, Line, NoTrailer, Status, Trailer},
    Level::{Must, Own, Should},
    OK, Table, check, get, post,
};
use crate::message::{End, Framing, Parse, Side, parse, text};
use crate::peer::{Peer, Verdict};
use crate::play::status_lines;
use crate::stage::Stage;

const FINE: &[Check] = &[Status(200), Body("ok")];
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

pub(super) fn table() -> Table {
    let mut t = Table::new("Requests' bodies");
    whole(&mut t);
    pieces(&mut t);
    expectations(&mut t);
    cut(&mut t);
    t
}

fn whole(t: &mut Table) {
    t.exchange(
        "a body of known length is passed on",
        "9112 6.2",
        Must,
        (post("Content-Length: 5\r\n", "he\0\r\n"), OK),
        &[Body("he\0\r\n"), Framed(Framing::Length)],
        FINE,
    );
    t.exchange(
        "a body in chunks is passed on",
        "9112 7.1",
        Must,
        (post(CHUNKED, "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), OK),
        &[Body("abcde")],
        FINE,
    );
    t.exchange(
        "a body in chunks stays in chunks",
        "",
        Own,
        (post(CHUNKED, "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), OK),
        &[Body("abcde"), Framed(Framing::Chunked)],
        FINE,
    );
    t.exchange(
        "a length of 0 is kept",
        "9110 8.6",
        Should,
        (post("Content-Length: 0\r\n", ""), OK),
        &[Is("content-length", "0"), Body("")],
        FINE,
    );
    t.exchange(
        "an empty body in chunks is passed on",
        "9112 7.1",
        Must,
        (post(CHUNKED, "0\r\n\r\n"), OK),
        &[Body("")],
        FINE,
    );
    t.exchange(
        "GET may have a body",
        "9110 9.3.1",
        Own,
        (get("Content-Length: 3\r\n") + "abc", OK),
        &[Line("GET / HTTP/1.1"), Body("abc")],
        FINE,
    );
    t.exchange(
        "DELETE may have a body in chunks",
        "9110 9.3.5",
        Own,
        (format!("DELETE / HTTP/1.1\r\nHost: a\r\n{CHUNKED}\r\n3\r\nabc\r\n0\r\n\r\n"), OK),
        &[Line("DELETE / HTTP/1.1"), Body("abc")],
        FINE,
    );
    t.exchange(
        "a request within a body is a body",
        "9112 6.3",
        Must,
        (get("Content-Length: 34\r\n") + "GET /evil HTTP/1.1\r\nHost: a.exam\r\n", OK),
        &[Body("GET /evil HTTP/1.1\r\nHost: a.exam\r\n")],
        &[Status(200), Check::Open],
    );
    t.exchange(
        "chunk extensions are ignored",
        "9112 7.1.1",
        Must,
        (post(CHUNKED, "3;a=b;c=\"d;\\\"e\"\r\nabc\r\n0;x\r\n\r\n"), OK),
        &[Body("abc")],
        FINE,
    );
    t.exchange(
        "chunk sizes are hexadecimal in any case, with zeros",
        "9112 7.1",
        Must,
        (post(CHUNKED, "00A\r\n0123456789\r\nb\r\n0123456789a\r\n000\r\n\r\n"), OK),
        &[Body("01234567890123456789a")],
        FINE,
    );
    t.exchange(
        "line ends within a chunk are data",
        "9112 7.1",
        Must,
        (post(CHUNKED, "7\r\n0\r\n\r\na\r\r\n0\r\n\r\n"), OK),
        &[Body("0\r\n\r\na\r")],
        FINE,
    );
    t.exchange(
        "the coding's name is in any case",
        "9112 7",
        Must,
        (post("transfer-encoding: ChUnKeD\r\n", "3\r\nabc\r\n0\r\n\r\n"), OK),
        &[Body("abc")],
        FINE,
    );
    t.exchange(
        "trailers are passed on",
        "9110 6.5",
        Own,
        (post("Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n", "3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n"), OK),
        &[Body("abc"), Trailer("x-sum", "6")],
        FINE,
    );
    t.script("trailers that frame, route or authenticate do not get through", "9110 6.5.1", Must, |stage| {
        let trailers = "Content-Length: 9\r\nHost: evil\r\nAuthorization: x\r\nTransfer-Encoding: y\r\n";
        let mut client = stage.client_with(post(CHUNKED, &format!("3\r\nabc\r\n0\r\n{trailers}\r\n")))?;
        let mut upstream = loop {
            match stage.try_backend() {
                Some(upstream) => break upstream,
                // To refuse it is as good.
                None if client.is_readable() => return check(&client.answer()?, &[Status(400)]),
                None => crate::stage::pause(),
            }
        };
        if let Ok(seen) = upstream.request() {
            check(
                &seen,
                &[
                    Is("host", "a.example"),
                    Body("abc"),
                    NoTrailer("content-length"),
                    NoTrailer("host"),
                    NoTrailer("authorization"),
                    NoTrailer("transfer-encoding"),
                ],
            )?;
        }
        Ok(())
    });
    t.script("a megabyte of any bytes arrives as it was", "9112 6.2", Must, |stage| {
        let body: Vec<u8> = (0..1_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let mut client = stage.client_with(post("Content-Length: 1048576\r\n", ""))?;
        let sent = body.clone();
        let got = std::thread::scope(|scope| {
            let sending = scope.spawn(|| client.send(&sent));
            let got = stage.backend().and_then(|mut upstream| {
                let got = upstream.request()?;
                upstream.send(OK)?;
                Ok(got)
            });
            sending.join().map_err(|_| "panic".to_owned())??;
            got
        })?;
        if got.body != body {
            return Err(format!("{} bytes came, or others", got.body.len()));
        }
        check(&client.answer()?, FINE)
    });
}

fn pieces(t: &mut Table) {
    t.script("a chunk is passed on before the next one comes", "", Own, |stage| {
        let mut client = stage.client_with(post(CHUNKED, "3\r\nabc\r\n"))?;
        let mut upstream = stage.backend()?;
        upstream.until("abc")?;
        client.send("2\r\nde\r\n0\r\n\r\n")?;
        upstream.until("de")?;
        upstream.until("0\r\n\r\n")?;
        upstream.send(OK)?;
        check(&client.answer()?, FINE)
    });
    t.script("a part of a body of known length is passed on before the rest comes", "", Own, |stage| {
        let mut client = stage.client_with(post("Content-Length: 6\r\n", "abc"))?;
        let mut upstream = stage.backend()?;
        upstream.until("abc")?;
        client.send("def")?;
        upstream.until("def")?;
        upstream.send(OK)?;
        check(&client.answer()?, FINE)
    });
    t.script("a body byte by byte arrives whole", "9112 7.1", Must, |stage| {
        let mut client = stage.client_with(post(CHUNKED, ""))?;
        for byte in b"3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n" {
            client.send([*byte])?;
        }
        let mut upstream = stage.backend()?;
        check(&upstream.request()?, &[Body("abc")])?;
        upstream.send(OK)?;
        check(&client.answer()?, FINE)
    });
    t.script("a backend that does not read slows the client down", "", Own, |stage| {
        let mut client = stage.client_with(post("Content-Length: 200000000\r\n", "x"))?;
        let mut upstream = stage.backend()?;
        upstream.head()?;
        let piece = vec![b'x'; 1 << 20];
        let mut sent = 0;
        while let Ok(written) = client.write_within(&piece, Duration::from_millis(300)) {
            sent += written;
            if sent > 64 << 20 {
                return Err(format!("{sent} bytes were taken that are not read"));
            }
        }
        Ok(())
    });
}

fn expectations(t: &mut Table) {
    t.script("100-continue: the client gets a 100", "9110 10.1.1", Must, |stage| {
        let mut client = stage.client_with(post("Expect: 100-continue\r\nContent-Length: 2\r\n", ""))?;
        let mut upstream = None;
        while !client.is_readable() && upstream.is_none() {
            upstream = stage.try_backend();
            crate::stage::pause();
        }
        if let Some(upstream) = &mut upstream {
            upstream.head()?;
            upstream.send("HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let interim = client.head()?;
        if !interim.starts_with("HTTP/1.1 100 ") {
            return Err(format!("the client got {interim:?}"));
        }
        client.send("hi")?;
        let mut upstream = match upstream {
            Some(upstream) => upstream,
            None => stage.backend()?,
        };
        upstream.until("hi")?;
        upstream.send(OK)?;
        check(&client.answer()?, FINE)
    });
    t.script("the expectation is passed on to the backend", "9110 10.1.1", Own, |stage| {
        let _client = stage.client_with(post("Expect: 100-continue\r\nContent-Length: 2\r\n", ""))?;
        let head = stage.backend()?.head()?;
        if head.to_lowercase().contains("\r\nexpect: 100-continue\r\n") { Ok(()) } else { Err(head) }
    });
    t.script(
        "a final answer in place of 100 is passed on, and what follows is no request",
        "9110 10.1.1",
        Must,
        |stage| {
            let mut client = stage.client_with(post("Expect: 100-continue\r\nContent-Length: 36\r\n", ""))?;
            let mut upstream = stage.backend()?;
            upstream.head()?;
            upstream.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")?;
            no_request_follows(stage, &mut client, "HTTP/1.1 403 ")
        },
    );
    t.script("an answer before the body's end is passed on at once", "9112 9.3", Should, |stage| {
        let mut client = stage.client_with(post("Content-Length: 1000000\r\n", "abc"))?;
        let mut upstream = stage.backend()?;
        upstream.until("abc")?;
        upstream.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")?;
        check(&client.answer()?, &[Status(413)])
    });
    t.script("after an early answer a rest of the body is no request", "9112 9.3", Must, |stage| {
        let mut client = stage.client_with(post("Content-Length: 39\r\n", "abc"))?;
        let mut upstream = stage.backend()?;
        upstream.until("abc")?;
        upstream.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")?;
        no_request_follows(stage, &mut client, "HTTP/1.1 413 ")
    });
}

/// Bytes that the client sends later may reach the backend as a body, but never as a request of their own.
pub(super) fn no_request_follows(stage: &Stage, client: &mut Peer, status: &str) -> Verdict {
    let (mut got, _) = client.rest_within(Duration::from_millis(150));
    client.try_send("GET /evil HTTP/1.1\r\nHost: a.example\r\n\r\n");
    got.extend(client.rest_within(Duration::from_millis(200)).0);
    if got.is_empty() {
        // It waits for the whole body first, or tries again and again.
        got = client.rest().0;
    }
    if let Some(mut other) = stage.try_backend() {
        let (seen, _) = other.rest_within(Duration::from_millis(50));
        if !seen.is_empty() {
            return Err(format!("the body became a request: {:?}", text(&seen)));
        }
    }
    // A 100 of the proxy's own may come first.
    let got = text(&got).replacen("HTTP/1.1 100 ", "", 1);
    if got.is_empty() || got.contains(status) && status_lines(&got) == 1 { Ok(()) } else { Err(got) }
}

fn cut(t: &mut Table) {
    for (name, fields, body) in [
        ("a body shorter than its length is never completed", "Content-Length: 10\r\n", "abc"),
        ("a body cut within a chunk is never completed", CHUNKED, "5\r\nabc"),
        ("a body cut between chunks is never completed", CHUNKED, "3\r\nabc\r\n"),
        ("a body cut before its last line end is never completed", CHUNKED, "3\r\nabc\r\n0\r\n"),
    ] {
        t.script(name, "9112 8", Must, move |stage| {
            let client = stage.client_with(post(fields, body))?;
            let mut upstream = stage.backend()?;
            let head = upstream.head()?;
            drop(client);
            let (rest, end) = upstream.rest();
            let all: Vec<u8> = head.chars().map(|c| c as u8).chain(rest).collect();
            match (end, parse(&all, Side::Request, Some(end))) {
                (End::StillOpen, _) => Err("the backend still waits".into()),
                (_, Parse::Whole(..)) => Err("the backend sees a whole request".into()),
                _ => Ok(()),
            }
        });
    }
}
