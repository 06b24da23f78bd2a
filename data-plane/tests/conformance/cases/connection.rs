//! Connections: kept, closed, shared by requests in order, and never by answers that are not theirs.

use std::time::Duration;

use crate::case::{
    Check::{self, Body, Closed, Line, Lists, Open, Status},
    GET,
    Level::{Must, Own, Should},
    OK, Table, answer, check, get, post,
};
use crate::message::End;
use crate::play::again;

const FINE: &[Check] = &[Status(200), Body("ok")];

pub(super) fn table() -> Table {
    let mut t = Table::new("Connections");
    kept(&mut t);
    stale(&mut t);
    pipelined(&mut t);
    leftovers(&mut t);
    halves(&mut t);
    t
}

fn kept(t: &mut Table) {
    t.exchange("a connection of HTTP/1.1 is kept", "9112 9.3", Should, (GET, OK), &[], &[Status(200), Open]);
    t.exchange(
        "close on demand is announced and done",
        "9112 9.6",
        Must,
        (get("Connection: close\r\n"), OK),
        &[],
        &[Status(200), Lists("connection", "close"), Closed],
    );
    t.exchange(
        "close in a list in any case is done",
        "9112 9.6",
        Must,
        (get("Connection: x, CLOSE\r\n"), OK),
        &[],
        &[Status(200), Closed],
    );
    t.exchange(
        "close wins over keep-alive",
        "9112 9.3",
        Must,
        (get("Connection: keep-alive, close\r\n"), OK),
        &[],
        &[Status(200), Closed],
    );
    t.script("the backend's connection is used again", "", Own, |stage| {
        let (mut client, mut upstream, _) = stage.meet(GET)?;
        for _ in 0..3 {
            upstream.send(OK)?;
            check(&client.answer()?, FINE)?;
            client.send(GET)?;
            if stage.wait_next(&mut upstream)? {
                return Err("a new one was opened".into());
            }
            upstream.request()?;
        }
        upstream.send(OK)?;
        check(&client.answer()?, FINE)
    });
    t.script("clients share the backend's connection one after the other", "", Own, |stage| {
        let (mut first, mut upstream, _) = stage.meet(GET)?;
        upstream.send(OK)?;
        check(&first.answer()?, FINE)?;
        let mut second = stage.client_with(GET)?;
        if stage.wait_next(&mut upstream)? {
            return Err("a new one was opened".into());
        }
        upstream.request()?;
        upstream.send(OK)?;
        check(&second.answer()?, FINE)
    });
    t.script("the backend's connection is not used again after its close", "9112 9.6", Must, |stage| {
        let (mut client, mut upstream, _) = stage.meet(GET)?;
        upstream.send(answer("Connection: close\r\nContent-Length: 2\r\n", "ok"))?;
        check(&client.answer()?, FINE)?;
        client.send(GET)?;
        if !stage.wait_next(&mut upstream)? {
            return Err("it was".into());
        }
        upstream.request()?;
        upstream.send(OK)?;
        check(&client.answer()?, FINE)
    });
    t.script("the connection of a backend of HTTP/1.0 is not used again", "9112 9.3", Must, |stage| {
        let (mut client, mut upstream, _) = stage.meet(GET)?;
        upstream.send("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        check(&client.answer()?, FINE)?;
        client.send(GET)?;
        if !stage.wait_next(&mut upstream)? {
            return Err("it was".into());
        }
        upstream.request()?;
        upstream.send(OK)?;
        check(&client.answer()?, FINE)
    });
    t.script("a connection that rested for long is served", "", Own, |stage| {
        let (mut client, mut upstream, _) = stage.meet(GET)?;
        upstream.send(OK)?;
        check(&client.answer()?, FINE)?;
        let (more, end) = client.rest_within(Duration::from_millis(1300));
        if !more.is_empty() || end != End::StillOpen {
            return Err(format!("{end:?}"));
        }
        again(stage, &mut client, &mut upstream)
    });
    t.script("a request byte by byte is served", "9112 2.2", Must, |stage| {
        let mut client = stage.client()?;
        for byte in get("X-A: b\r\n").bytes() {
            client.send([byte])?;
        }
        let mut upstream = stage.backend()?;
        check(&upstream.request()?, &[Line("GET / HTTP/1.1"), Check::Is("x-a", "b")])?;
        upstream.send(OK)?;
        check(&client.answer()?, FINE)
    });
    t.script("a client may close after any byte of its request", "", Own, |stage| {
        let request = post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\nX: y\r\n\r\n");
        for cut in 0..request.len() {
            drop(stage.client_with(&request[..cut])?);
        }
        stage.settle();
        let mut client = stage.client_with("GET /alive HTTP/1.1\r\nHost: a.example\r\n\r\n")?;
        // Backends that the cut requests reached are among those that come.
        loop {
            let mut upstream = stage.backend()?;
            if upstream.request().is_ok_and(|request| request.line == "GET /alive HTTP/1.1") {
                upstream.send(OK)?;
                return check(&client.answer()?, FINE);
            }
        }
    });
}

fn stale(t: &mut Table) {
    t.script(
        "a connection that the backend closed while unused is not noticed",
        "9112 9.5",
        Should,
        |stage| {
            let (mut client, mut upstream, _) = stage.meet(GET)?;
            upstream.send(OK)?;
            check(&client.answer()?, FINE)?;
            drop(upstream);
            client.send(post("Content-Length: 2\r\n", "hi"))?;
            let mut upstream = stage.backend()?;
            check(&upstream.request()?, &[Body("hi")])?;
            upstream.send(OK)?;
            check(&client.answer()?, FINE)
        },
    );
    t.script("GET is repeated when a used connection breaks", "9110 9.2.2", Own, |stage| {
        let (mut client, mut upstream, _) = stage.meet(GET)?;
        upstream.send(OK)?;
        check(&client.answer()?, FINE)?;
        client.send(GET)?;
        stage.next_request(&mut upstream)?;
        drop(upstream);
        let mut upstream = stage.backend()?;
        upstream.request()?;
        upstream.send(OK)?;
        check(&client.answer()?, FINE)
    });
    t.script("POST is not repeated when a used connection breaks", "9110 9.2.2", Must, |stage| {
        let (mut client, mut upstream, _) = stage.meet(GET)?;
        upstream.send(OK)?;
        check(&client.answer()?, FINE)?;
        client.send(post("Content-Length: 2\r\n", "hi"))?;
        stage.next_request(&mut upstream)?;
        drop(upstream);
        while !client.is_readable() {
            if stage.try_backend().is_some() {
                return Err("it was".into());
            }
            crate::stage::pause();
        }
        let (bytes, _) = client.rest_within(Duration::from_millis(100));
        if bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 50") {
            Ok(())
        } else {
            Err(crate::peer::brief(&bytes))
        }
    });
    t.script("POST without a body is not repeated either", "9110 9.2.2", Must, |stage| {
        let (mut client, mut upstream, _) = stage.meet(GET)?;
        upstream.send(OK)?;
        check(&client.answer()?, FINE)?;
        client.send(post("Content-Length: 0\r\n", ""))?;
        stage.next_request(&mut upstream)?;
        drop(upstream);
        while !client.is_readable() {
            if stage.try_backend().is_some() {
                return Err("it was".into());
            }
            crate::stage::pause();
        }
        Ok(())
    });
}

fn pipelined(t: &mut Table) {
    t.script("requests sent at once are answered in order", "9112 9.3.2", Must, |stage| {
        let mut client = stage.client_with("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nxyzGET /3 HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let mut upstream = stage.backend()?;
        for n in 1..=3 {
            let request = if n == 1 { upstream.request()? } else { stage.next_request(&mut upstream)? };
            if !request.line.contains(&format!(" /{n} ")) {
                return Err(format!("{:?} as number {n}", request.line));
            }
            upstream.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{n}"))?;
            let answer = client.answer()?;
            if answer.body != n.to_string().as_bytes() {
                return Err(format!("number {n} got {:?}", answer.body));
            }
        }
        Ok(())
    });
    t.script("a request after one in chunks is found where they end", "9112 7.1", Must, |stage| {
        let mut client = stage.client_with(post(
            "Transfer-Encoding: chunked\r\n",
            "3\r\nabc\r\n0\r\nA: b\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
        ))?;
        let mut upstream = stage.backend()?;
        check(&upstream.request()?, &[Body("abc")])?;
        upstream.send(OK)?;
        check(&client.answer()?, FINE)?;
        check(&stage.next_request(&mut upstream)?, &[Line("GET /2 HTTP/1.1")])?;
        upstream.send(OK)?;
        check(&client.answer()?, FINE)
    });
    t.script("fifty requests sent at once are all answered", "9112 9.3.2", Must, |stage| {
        let mut client = stage.client_with(GET.repeat(50))?;
        let mut upstream = stage.backend()?;
        for n in 0..50 {
            if n == 0 {
                upstream.request()?;
            } else {
                stage.next_request(&mut upstream)?;
            }
            upstream.send(OK)?;
            check(&client.answer()?, FINE)?;
        }
        Ok(())
    });
    t.script("after close no further request is processed", "9112 9.6", Must, |stage| {
        let mut client =
            stage.client_with(get("Connection: close\r\n") + "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let mut upstream = stage.backend()?;
        upstream.request()?;
        upstream.send(OK)?;
        check(&client.answer()?, FINE)?;
        client.expect_closed()?;
        let (rest, _) = upstream.rest_within(Duration::from_millis(20));
        if rest.is_empty() && stage.try_backend().is_none() { Ok(()) } else { Err("it was".into()) }
    });
    t.script("what follows a refused request is not processed", "9112 2.2", Must, |stage| {
        let mut client = stage.client()?;
        client.try_send("GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n");
        check(&client.answer()?, &[Status(400)])?;
        client.expect_closed()?;
        if stage.try_backend().is_none() { Ok(()) } else { Err("it was".into()) }
    });
    t.script("the answer to a refused request waits for those before it", "9112 9.3.2", Must, |stage| {
        let mut client = stage.client_with(format!("{GET}GET / HTTP/9\r\n\r\n"))?;
        let mut upstream = stage.backend()?;
        upstream.request()?;
        upstream.send(OK)?;
        check(&client.answer()?, FINE)?;
        let second = client.answer()?;
        client.expect_closed()?;
        if matches!(second.status(), 400 | 505) { Ok(()) } else { Err(second.line) }
    });
}

/// Bytes after a complete response reach no client.
fn leftovers(t: &mut Table) {
    const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for (name, method, first) in [
        ("bytes after an answer of known length are dropped", "GET", OK.to_owned()),
        (
            "bytes after an answer in chunks are dropped",
            "GET",
            answer("Transfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n"),
        ),
        ("a body in the answer to HEAD is dropped", "HEAD", answer("Content-Length: 43\r\n", "")),
        ("a body of 204 is dropped", "GET", "HTTP/1.1 204 No\r\n\r\n".to_owned()),
        ("a body of 304 is dropped", "GET", "HTTP/1.1 304 No\r\nContent-Length: 43\r\n\r\n".to_owned()),
    ] {
        t.script(name, "9112 9.2", Must, move |stage| {
            let (mut client, mut upstream, _) = stage.meet(GET.replace("GET", method))?;
            upstream.send(format!("{first}{EVIL}"))?;
            client.answer_to(method)?;
            client.try_send(GET);
            let mut second = stage.client_with(GET)?;
            // Whichever connection carries the next requests, their answers are their own.
            for _ in 0..2 {
                if stage.wait_next(&mut upstream).is_err() || upstream.request().is_err() {
                    break;
                }
                upstream.send(OK)?;
            }
            for client in [&mut client, &mut second] {
                let (bytes, _) = client.rest_within(Duration::from_millis(100));
                if !crate::play::hides(&bytes, "evil") {
                    return Err(format!("a client got {:?}", crate::peer::brief(&bytes)));
                }
            }
            Ok(())
        });
    }
    t.script("unrequested bytes of an idle backend connection are dropped", "9112 9.2", Must, |stage| {
        let (mut client, mut upstream, _) = stage.meet(GET)?;
        upstream.send(OK)?;
        check(&client.answer()?, FINE)?;
        upstream.send("HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\nevil")?;
        again(stage, &mut client, &mut upstream)
    });
}

fn halves(t: &mut Table) {
    t.script("a client that has said all it wants is answered", "", Own, |stage| {
        let mut client = stage.client_with(GET)?;
        client.finish();
        let mut upstream = stage.backend()?;
        upstream.request()?;
        upstream.send(OK)?;
        check(&client.answer()?, FINE)?;
        client.expect_closed()
    });
    t.script("a client that has said all gets a slow answer too", "", Own, |stage| {
        let mut client = stage.client_with(post("Content-Length: 2\r\n", "hi"))?;
        client.finish();
        let mut upstream = stage.backend()?;
        upstream.request()?;
        upstream.send(answer("Transfer-Encoding: chunked\r\n", "1\r\na\r\n"))?;
        client.until("1\r\na\r\n")?;
        upstream.rest_within(Duration::from_millis(150));
        upstream.send("1\r\nb\r\n0\r\n\r\n")?;
        client.until("1\r\nb\r\n0\r\n\r\n").map(|_| ())
    });
    t.script("a client that leaves has its request cancelled", "", Own, |stage| {
        let (client, mut upstream, _) = stage.meet(GET)?;
        client.reset();
        match upstream.rest() {
            (_, End::StillOpen) => Err("the backend still works for it".into()),
            _ => Ok(()),
        }
    });
    t.script("a client that leaves within its answer has it cancelled", "", Own, |stage| {
        let (mut client, mut upstream, _) = stage.meet(GET)?;
        upstream.send(answer("Transfer-Encoding: chunked\r\n", "1\r\na\r\n"))?;
        client.until("a\r\n")?;
        client.reset();
        match upstream.rest() {
            (_, End::StillOpen) => Err("the backend still works for it".into()),
            _ => Ok(()),
        }
    });
}
