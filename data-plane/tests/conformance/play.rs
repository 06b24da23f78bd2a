//! The plays that many cases share.

use std::time::Duration;

use crate::{
    case::{Check, check, post},
    message::{End, Framing, Parse, Side, find, parse, text},
    peer::{Peer, Verdict, brief},
    stage::{Stage, pause},
};

pub(crate) fn exchange(
    stage: &Stage,
    request: &[u8],
    answer: &[u8],
    at_backend: &[Check],
    at_client: &[Check],
) -> Verdict {
    let method = text(request.split(|byte| *byte == b' ').next().unwrap_or_default());
    let (mut client, mut upstream, seen) = stage.meet(request)?;
    check(&seen, at_backend).map_err(|why| format!("backend: {why}"))?;
    upstream.send(answer)?;
    let side = Side::Answer { to_head: method == "HEAD" };
    let until_close =
        matches!(parse(answer, side, Some(End::Closed)), Parse::Whole(m, _) if m.framing == Framing::Close);
    if until_close {
        upstream.finish();
    }
    let got = client.answer_to(&method)?;
    check(&got, at_client).map_err(|why| format!("client: {why}"))?;
    for check in at_client {
        match check {
            Check::Closed => client.expect_closed()?,
            Check::Open => again(stage, &mut client, &mut upstream)?,
            _ => {}
        }
    }
    Ok(())
}

/// Another exchange on the client's connection.
pub(crate) fn again(stage: &Stage, client: &mut Peer, upstream: &mut Peer) -> Verdict {
    client.send("GET /again HTTP/1.1\r\nHost: a.example\r\n\r\n")?;
    let request = stage.next_request(upstream)?;
    check(&request, &[Check::Line("GET /again HTTP/1.1")])?;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain")?;
    check(&client.answer()?, &[Check::Status(200), Check::Body("again")])
}

pub(crate) fn refused(stage: &Stage, request: &[u8], statuses: &[u16]) -> Verdict {
    let mut client = stage.client()?;
    client.try_send(request);
    let deadline = std::time::Instant::now() + stage.patience;
    let mut upstream: Option<Peer> = None;
    while !client.is_readable() {
        upstream = upstream.or_else(|| stage.try_backend());
        if let Some(upstream) = &mut upstream
            && upstream.is_readable()
        {
            return nothing_came(upstream);
        }
        if std::time::Instant::now() > deadline {
            return Err("neither refused nor forwarded".into());
        }
        pause();
    }
    let (bytes, end) = client.rest();
    let answer = text(&bytes);
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    if !statuses.contains(&status) {
        return Err(format!("answered {:?}", brief(&bytes)));
    }
    if end == End::StillOpen || status_lines(&answer) > 1 {
        return Err(format!("{end:?} after {:?}", brief(&bytes)));
    }
    match upstream.or_else(|| stage.try_backend()) {
        Some(mut upstream) => nothing_came(&mut upstream),
        None => Ok(()),
    }
}

fn nothing_came(upstream: &mut Peer) -> Verdict {
    match upstream.rest_within(Duration::from_millis(20)) {
        (bytes, _) if bytes.is_empty() => Ok(()),
        (bytes, _) => Err(format!("forwarded as {:?}", brief(&bytes))),
    }
}

pub(crate) fn bad_body(stage: &Stage, body: &[u8]) -> Verdict {
    let mut client = stage.client_with(post("Transfer-Encoding: chunked\r\n", ""))?;
    client.try_send(body);
    let deadline = std::time::Instant::now() + stage.patience;
    let mut upstream = None;
    while !client.is_readable() {
        upstream = upstream.or_else(|| stage.try_backend());
        if let Some(upstream) = &mut upstream
            && upstream.is_readable()
            && let Ok(request) = upstream.request()
        {
            return Err(format!("completed as {:?} {:?}", request.fields, text(&request.body)));
        }
        if std::time::Instant::now() > deadline {
            return Err("neither refused nor forwarded".into());
        }
        pause();
    }
    let (bytes, end) = client.rest();
    if end == End::StillOpen {
        return Err("the connection stays open".into());
    }
    if !bytes.is_empty() && !bytes.starts_with(b"HTTP/1.1 4") && !bytes.starts_with(b"HTTP/1.1 50") {
        return Err(format!("answered {:?}", brief(&bytes)));
    }
    if let Some(mut upstream) = upstream.or_else(|| stage.try_backend()) {
        let (bytes, end) = upstream.rest();
        // A connection on which nothing was sent may wait for another request.
        if end == End::StillOpen && !bytes.is_empty() {
            return Err("the backend's connection stays open".into());
        }
        if let Parse::Whole(request, _) = parse(&bytes, Side::Request, None) {
            return Err(format!("completed as {:?} {:?}", request.fields, text(&request.body)));
        }
    }
    Ok(())
}

pub(crate) fn lie(stage: &Stage, answer: &[u8]) -> Verdict {
    let (mut client, mut upstream, _) = stage.meet(post("Content-Length: 1\r\n", "x"))?;
    upstream.send(answer)?;
    let got = client.answer()?;
    if got.status() != 502 {
        return Err(format!("client: answered {:?} {:?} {:?}", got.line, got.fields, text(&got.body)));
    }
    match upstream.rest() {
        (_, End::StillOpen) => Err("the backend's connection stays open".into()),
        _ => Ok(()),
    }
}

pub(crate) fn broken(stage: &Stage, version: &str, answer: &str, end: End) -> Verdict {
    let (mut client, mut upstream, _) =
        stage.meet(format!("GET / HTTP/{version}\r\nHost: a.example\r\n\r\n"))?;
    upstream.send(answer)?;
    // Time to pass on what has come, so that the break is in the body and not before its head.
    let (seen, _) = client.rest_within(Duration::from_millis(100));
    match end {
        End::Reset => upstream.reset(),
        _ => drop(upstream),
    }
    let (rest, end) = client.rest();
    if end == End::StillOpen {
        return Err("the client still waits".into());
    }
    match parse(&[seen, rest].concat(), Side::Answer { to_head: false }, Some(end)) {
        // A client that has sent nothing yet may still get an error.
        Parse::Whole(message, _) if message.status() == 502 => Ok(()),
        Parse::Whole(message, _) => {
            Err(format!("ends cleanly ({:?}) with {:?} after {end:?}", message.framing, text(&message.body)))
        }
        _ => Ok(()),
    }
}

/// Whether nothing of `secret` shows in the bytes.
pub(crate) fn hides(bytes: &[u8], secret: &str) -> bool {
    find(bytes, secret.as_bytes()).is_none()
}

/// How many answers the text holds.
pub(crate) fn status_lines(text: &str) -> usize {
    text.split("HTTP/1.1 ").skip(1).filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())).count()
}
