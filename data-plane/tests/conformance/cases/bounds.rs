//! Limits of size and time: excess is rejected in time, and other clients are served meanwhile.

use std::time::{Duration, Instant};

use crate::case::{
    Check::{Body, Status},
    GET,
    Level::{Must, Own, Should},
    OK, Table, answer, check, get, post,
};
use crate::message::End;
use crate::peer::{Peer, Verdict};
use crate::play::again;
use crate::target::{Profile, SHORT};

/// By when what has a deadline of [`SHORT`] must be over: the grain of timers and a busy machine are in it.
const SOON: Duration = Duration::from_millis(SHORT.as_millis() as u64 + 1500);

pub(super) fn table() -> Table {
    let mut t = Table::new("Bounds");
    sizes(&mut t);
    heads(&mut t);
    bodies(&mut t);
    backends(&mut t);
    t
}

fn sizes(t: &mut Table) {
    t.refused(
        "a target of 100 KB",
        "9112 3",
        Must,
        &[414],
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(100_000)),
    );
    t.refused("a target that does not end", "9112 3", Must, &[414], format!("GET /{}", "a".repeat(200_000)));
    t.refused("a field of 100 KB", "6585 5", Should, &[431], get(&format!("X: {}\r\n", "a".repeat(100_000))));
    t.refused(
        "a field that does not end",
        "6585 5",
        Should,
        &[431],
        get(&format!("X: {}", "a".repeat(200_000))).trim_end(),
    );
    t.refused(
        "a head of 100 KB in small fields",
        "6585 5",
        Should,
        &[431],
        get(&"X-Some: value\r\n".repeat(7000)),
    );
    t.refused("a thousand fields", "6585 5", Own, &[431], get(&"X: y\r\n".repeat(1000)));
    t.refused(
        "a method of a hundred bytes",
        "9112 3",
        Own,
        &[400, 501],
        format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(100)),
    );
    t.refused("a method that does not end", "9112 3", Own, &[400, 414, 431, 501], "A".repeat(200_000));
    t.refused(
        "bytes without end that are no request",
        "9112 3",
        Own,
        &[400, 414, 431, 501],
        "\u{1}".repeat(100_000),
    );
    t.script("others are served while one is refused for its size", "", Own, |stage| {
        let mut large = stage.client()?;
        large.try_send(get(&format!("X: {}\r\n", "a".repeat(100_000))));
        let (mut client, mut upstream, _) = stage.meet(GET)?;
        upstream.send(OK)?;
        check(&client.answer()?, &[Status(200)])
    });
}

/// The connection is over in time, by 408 or without a word.
fn ends_soon(client: &mut Peer, since: Instant) -> Verdict {
    let (bytes, end) = client.rest_within(SOON);
    let took = since.elapsed();
    if end == End::StillOpen || took > SOON {
        return Err(format!("still open after {took:?}"));
    }
    if took < SHORT * 8 / 10 {
        return Err(format!("over after {took:?} already"));
    }
    if bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 4") || bytes.starts_with(b"HTTP/1.1 504 ") {
        Ok(())
    } else {
        Err(crate::peer::brief(&bytes))
    }
}

/// Sends a byte now and then until the connection is over.
fn drip(client: &mut Peer, bytes: &[u8], since: Instant) -> Verdict {
    for byte in bytes.iter().cycle() {
        client.try_send([*byte]);
        let (got, end) = client.rest_within(Duration::from_millis(50));
        if end != End::StillOpen || !got.is_empty() {
            return if got.is_empty() || got.starts_with(b"HTTP/1.1 4") {
                Ok(())
            } else {
                Err(crate::peer::brief(&got))
            };
        }
        if since.elapsed() > SOON {
            return Err(format!("still open after {:?}", since.elapsed()));
        }
    }
    Ok(())
}

fn heads(t: &mut Table) {
    t.script("a client that says nothing is cut off", "9112 9.5", Should, |stage| {
        let since = Instant::now();
        ends_soon(&mut stage.client()?, since)
    })
    .profile = Profile::Short;
    t.script("a client that stops within its head is cut off", "9110 15.5.9", Should, |stage| {
        let since = Instant::now();
        ends_soon(&mut stage.client_with("GET / HTTP/1.1\r\nHost: a")?, since)
    })
    .profile = Profile::Short;
    t.script("a head byte by byte does not extend its deadline", "9110 15.5.9", Should, |stage| {
        let since = Instant::now();
        drip(&mut stage.client_with("GET / HTTP/1.1\r\nHost: a\r\nX: ")?, b"a", since)
    })
    .profile = Profile::Short;
    t.script("a head field by field does not extend its deadline", "9110 15.5.9", Should, |stage| {
        let since = Instant::now();
        drip(&mut stage.client_with("GET / HTTP/1.1\r\nHost: a\r\n")?, b"X:y\r\n", since)
    })
    .profile = Profile::Short;
    t.script("empty lines do not extend the deadline", "9110 15.5.9", Own, |stage| {
        let since = Instant::now();
        let mut client = stage.client()?;
        // A refusal is as good: no request begins with many empty lines.
        match drip(&mut client, b"\r\n", since) {
            Err(why) if why.starts_with("HTTP/1.1 400 ") => Ok(()),
            other => other,
        }
    })
    .profile = Profile::Short;
    t.script("an unused connection is closed after its time", "9112 9.5", Should, |stage| {
        let (mut client, mut upstream, _) = stage.meet(GET)?;
        upstream.send(OK)?;
        check(&client.answer()?, &[Status(200)])?;
        ends_soon(&mut client, Instant::now())
    })
    .profile = Profile::Short;
    t.script("a second head that stops is cut off", "9110 15.5.9", Should, |stage| {
        let (mut client, mut upstream, _) = stage.meet(GET)?;
        upstream.send(OK)?;
        check(&client.answer()?, &[Status(200)])?;
        client.send("GET / HT")?;
        ends_soon(&mut client, Instant::now())
    })
    .profile = Profile::Short;
    t.script("others are served while fifty wait in their heads", "", Own, |stage| {
        let slow = (0..50).map(|_| stage.client_with("GET / HTTP/1.1\r\nHo")).collect::<Verdict<Vec<_>>>()?;
        let (mut client, mut upstream, _) = stage.meet(GET)?;
        upstream.send(OK)?;
        check(&client.answer()?, &[Status(200)])?;
        drop(slow);
        Ok(())
    })
    .profile = Profile::Short;
}

fn bodies(t: &mut Table) {
    for (name, fields, part) in [
        ("a body of known length that stops is given up", "Content-Length: 10\r\n", "abc"),
        ("a body in chunks that stops within one is given up", "Transfer-Encoding: chunked\r\n", "5\r\nabc"),
        (
            "a body in chunks that stops between them is given up",
            "Transfer-Encoding: chunked\r\n",
            "3\r\nabc\r\n",
        ),
    ] {
        t.script(name, "9110 15.5.9", Should, move |stage| {
            let since = Instant::now();
            let mut client = stage.client_with(post(fields, part))?;
            let mut upstream = stage.backend()?;
            upstream.until("abc")?;
            ends_soon(&mut client, since)?;
            match upstream.rest_within(SOON) {
                (_, End::StillOpen) => Err("the backend's connection stays open".into()),
                _ => Ok(()),
            }
        })
        .profile = Profile::Short;
    }
    t.script("a body that goes on slowly is served", "", Own, |stage| {
        let mut client = stage.client_with(post("Content-Length: 8\r\n", ""))?;
        for byte in b"abcdefgh" {
            let (_, end) = client.rest_within(SHORT / 5);
            if end != End::StillOpen {
                return Err("cut off".into());
            }
            client.send([*byte])?;
        }
        let mut upstream = stage.backend()?;
        check(&upstream.request()?, &[Body("abcdefgh")])?;
        upstream.send(OK)?;
        check(&client.answer()?, &[Status(200)])
    })
    .profile = Profile::Short;
    t.script("a client that takes nothing of its answer is cut off", "", Own, |stage| {
        let (_client, mut upstream, _) = stage.meet(GET)?;
        upstream.send(answer("Content-Length: 200000000\r\n", ""))?;
        let since = Instant::now();
        let piece = vec![b'x'; 1 << 20];
        let mut stream = upstream.stream();
        let _ = stream.set_write_timeout(Some(SOON));
        loop {
            match std::io::Write::write(&mut stream, &piece) {
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return Ok(()),
                Ok(_) if since.elapsed() < SOON * 2 => {}
                _ => return Err("the backend's connection stays open".into()),
            }
        }
    })
    .profile = Profile::Short;
    t.script("an answer that is taken slowly is not cut off", "", Own, |stage| {
        let (mut client, mut upstream, _) = stage.meet(GET)?;
        upstream.send(answer("Transfer-Encoding: chunked\r\n", ""))?;
        client.head()?;
        for _ in 0..6 {
            upstream.rest_within(SHORT / 4);
            upstream.send("1\r\na\r\n")?;
            client.until("1\r\na\r\n")?;
        }
        upstream.send("0\r\n\r\n")?;
        client.until("0\r\n\r\n").map(|_| ())
    })
    .profile = Profile::Short;
}

fn backends(t: &mut Table) {
    for (name, part) in [
        ("a backend that says nothing is 504", ""),
        ("a backend that stops within its head is 504", "HTTP/1.1 200 OK\r\nContent-"),
        ("a backend that stops after an interim answer is 504", "HTTP/1.1 103 Early Hints\r\n\r\n"),
    ] {
        t.script(name, "9110 15.6.5", Should, move |stage| {
            let (mut client, mut upstream, _) = stage.meet(GET)?;
            upstream.send(part)?;
            check(&client.answer()?, &[Status(504)])?;
            match upstream.rest_within(SOON) {
                (_, End::StillOpen) => Err("the backend's connection stays open".into()),
                _ => Ok(()),
            }
        })
        .profile = Profile::Short;
    }
    t.script("a backend that says nothing to a POST is 504, and the client may go on", "", Own, |stage| {
        let (mut client, mut upstream, _) = stage.meet(post("Content-Length: 1\r\n", "x"))?;
        check(&client.answer()?, &[Status(504)])?;
        again(stage, &mut client, &mut upstream)
    })
    .profile = Profile::Short;
    for (name, fields, part) in [
        ("an answer of known length that stops is visibly cut", "Content-Length: 10\r\n", "abc"),
        ("an answer in chunks that stops is visibly cut", "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n"),
        ("an answer without a length that stops is visibly cut", "X: y\r\n", "abc"),
    ] {
        t.script(name, "9112 8", Should, move |stage| {
            let (mut client, mut upstream, _) = stage.meet(GET)?;
            upstream.send(answer(fields, part))?;
            client.until("abc")?;
            let (rest, end) = client.rest_within(SOON);
            match end {
                End::StillOpen => Err("the client still waits".into()),
                _ if rest.ends_with(b"0\r\n\r\n") => Err("it ends cleanly".into()),
                _ => Ok(()),
            }
        })
        .profile = Profile::Short;
    }
}
