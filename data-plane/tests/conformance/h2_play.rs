//! The plays that many cases of HTTP/2 share.

use std::time::Duration;

use crate::{
    case::{Check, Level, OK, Table, check},
    h2::{self, Client, Outcome, code, headers, request},
    message::{End, Message, text},
    peer::{Peer, Verdict, brief},
    stage::Stage,
};

/// A request whose head is this, and its backend.
pub(crate) fn meet(stage: &Stage, frames: impl AsRef<[u8]>) -> Verdict<(Client, Peer, Message)> {
    let mut client = stage.h2()?;
    client.send(frames)?;
    let mut upstream = stage.backend()?;
    loop {
        match upstream.request() {
            Ok(seen) => return Ok((client, upstream, seen)),
            // A connection that an earlier case gave up may arrive late.
            Err(why) => upstream = stage.backend().map_err(|_| why)?,
        }
    }
}

/// A GET in the middle of its exchange.
pub(crate) fn meet_get(stage: &Stage) -> Verdict<(Client, Peer)> {
    let (client, upstream, _) = meet(stage, headers(1, &request("GET", &[]), true))?;
    Ok((client, upstream))
}

/// Another exchange on the client's connection.
pub(crate) fn again(stage: &Stage, client: &mut Client, stream: u32) -> Verdict {
    client.send(headers(stream, &request("GET", &[("x-again", "1")]), true))?;
    let mut upstream = stage.backend()?;
    loop {
        // Connections that others have left may come first.
        match upstream.request() {
            Ok(seen) if !seen.values("x-again").is_empty() => break,
            Ok(_) => return Err("another request came".into()),
            Err(_) => upstream = stage.backend()?,
        }
    }
    upstream.send(OK)?;
    check(&client.answer(stream)?, &[Check::Status(200), Check::Body("ok")])
}

/// Nothing of a request has come to the backend.
pub(crate) fn nothing_at_backend(stage: &Stage) -> Verdict {
    let Some(mut upstream) = stage.try_backend() else { return Ok(()) };
    let (bytes, _) = upstream.rest_within(Duration::from_millis(20));
    if bytes.is_empty() { Ok(()) } else { Err(format!("forwarded as {:?}", brief(&bytes))) }
}

/// A message that is malformed (RFC 9113, 8.1.1): the stream is reset, or answered with a refusal, or the connection
/// ends; and nothing of it goes on.
pub(crate) fn malformed(stage: &Stage, frames: &[u8]) -> Verdict {
    let mut client = stage.h2()?;
    client.try_send(frames);
    match client.outcome(1) {
        Outcome::Answer(answer) if matches!(answer.status(), 400..=499) => {}
        // A server that answers before the request has ended resets the rest of it.
        Outcome::Reset(code::NO_ERROR | code::PROTOCOL_ERROR, answer)
            if matches!(answer.status(), 400..=499) => {}
        Outcome::Reset(code::PROTOCOL_ERROR, answer) if answer.status() == 0 => {}
        Outcome::Lost(Some(code::PROTOCOL_ERROR), _) => {}
        Outcome::Lost(None, End::Closed | End::Reset) if client.broken.is_none() => {}
        other => {
            let forwarded = nothing_at_backend(stage).err().unwrap_or_default();
            return Err(format!("{other:?} {:?} {forwarded}", client.broken));
        }
    }
    nothing_at_backend(stage)
}

/// A message whose body turns out to be malformed: it is never completed at the backend, and never answered well.
pub(crate) fn never_complete(stage: &Stage, frames: &[u8]) -> Verdict {
    let mut client = stage.h2()?;
    client.try_send(frames);
    let outcome = client.outcome(1);
    if let Some(mut upstream) = stage.try_backend()
        && let Ok(request) = upstream.request()
    {
        return Err(format!("completed as {:?} {:?}", request.fields, text(&request.body)));
    }
    match outcome {
        Outcome::Answer(answer) if matches!(answer.status(), 200..=399) => {
            Err(format!("answered {:?}", answer.line))
        }
        Outcome::Lost(None, End::StillOpen) => Err("nothing happens".into()),
        _ => Ok(()),
    }
}

/// An error of the connection (RFC 9113, 5.4.1): it is closed, and GOAWAY says one of these codes if it says any.
pub(crate) fn connection_error(client: &mut Client, codes: &[u32]) -> Verdict {
    // A server that has sent GOAWAY may wait for the other side to close.
    match client.hear_for(client.patience()) {
        End::StillOpen => return Err(format!("the connection stays open, GOAWAY {:?}", client.goaway)),
        End::Closed | End::Reset => {}
    }
    match client.goaway {
        Some((_, code)) if !codes.contains(&code) => Err(format!("GOAWAY with {code}, not one of {codes:?}")),
        _ => Ok(()),
    }
}

/// An error of stream 1 that may also end the connection (RFC 9113, 5.4.2).
pub(crate) fn stream_error(client: &mut Client, codes: &[u32]) -> Verdict {
    match client.outcome(1) {
        Outcome::Reset(code, _) | Outcome::Lost(Some(code), _) if codes.contains(&code) => Ok(()),
        Outcome::Lost(None, End::Closed | End::Reset) if client.broken.is_none() => Ok(()),
        other => Err(format!("not one of {codes:?}: {other:?} {:?}", client.broken)),
    }
}

impl Table {
    /// A case of HTTP/2.
    pub(crate) fn h2(
        &mut self,
        name: impl Into<String>,
        rfc: &'static str,
        level: Level,
        play: impl Fn(&Stage) -> Verdict + Send + Sync + 'static,
    ) -> &mut crate::case::Case {
        let case = self.script(name, rfc, level, play);
        case.version = crate::case::Version::Http2;
        case
    }

    /// These frames after the greeting end the connection with one of these codes.
    pub(crate) fn fatal(
        &mut self,
        name: &str,
        rfc: &'static str,
        codes: &'static [u32],
        frames: impl Into<Vec<u8>>,
    ) {
        let frames = frames.into();
        self.h2(name, rfc, Level::Must, move |stage| {
            let mut client = stage.h2()?;
            client.try_send(&frames);
            connection_error(&mut client, codes)
        });
    }

    /// These frames after the greeting mean nothing: the next request is served.
    pub(crate) fn harmless(
        &mut self,
        name: &str,
        rfc: &'static str,
        level: Level,
        frames: impl Into<Vec<u8>>,
    ) {
        let frames = frames.into();
        self.h2(name, rfc, level, move |stage| {
            let mut client = stage.h2()?;
            client.send(&frames)?;
            again(stage, &mut client, 101)
        });
    }

    /// A request with these fields is malformed.
    pub(crate) fn malformed(&mut self, name: &str, rfc: &'static str, level: Level, fields: &[(&str, &str)]) {
        let frames = headers(1, fields, true);
        self.h2(name, rfc, level, move |stage| malformed(stage, &frames));
    }

    /// A request and its answer, and what each side must see of the other's.
    pub(crate) fn h2_exchange(
        &mut self,
        name: &str,
        rfc: &'static str,
        level: Level,
        (frames, answer): (Vec<u8>, impl AsRef<[u8]>),
        at_backend: &'static [Check],
        at_client: &'static [Check],
    ) {
        let answer = answer.as_ref().to_vec();
        self.h2(name, rfc, level, move |stage| {
            let (mut client, mut upstream, seen) = meet(stage, &frames)?;
            check(&seen, at_backend).map_err(|why| format!("backend: {why}"))?;
            upstream.send(&answer)?;
            if h2::until_close(&answer) {
                upstream.finish();
            }
            check(&client.answer(1)?, at_client).map_err(|why| format!("client: {why}"))
        });
    }
}
