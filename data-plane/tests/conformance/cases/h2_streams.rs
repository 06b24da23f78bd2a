//! HTTP/2's streams (RFC 9113, 5): which may open, which are over, and what each may still say.

use crate::{
    case::{
        Check::{Body, Status},
        Level::{Must, Own, Should},
        OK, Table, check,
    },
    h2::{
        Outcome,
        code::{CANCEL, NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, STREAM_CLOSED},
        data, headers, request, rst_stream, setting, window_update,
    },
    h2_play::{again, connection_error, meet_get, stream_error},
    message::End,
    peer::Verdict,
};

pub(super) fn table() -> Table {
    let mut t = Table::new("HTTP/2: streams");
    numbers(&mut t);
    closed(&mut t);
    cancelled(&mut t);
    t
}

fn numbers(t: &mut Table) {
    t.fatal(
        "an even stream of a client",
        "9113 5.1.1",
        &[PROTOCOL_ERROR],
        headers(2, &request("GET", &[]), true),
    );
    t.h2("a stream's number below an earlier one", "9113 5.1.1", Must, |stage| {
        let mut client = stage.h2()?;
        client.try_send(
            [headers(5, &request("POST", &[]), false), headers(3, &request("GET", &[]), true)].concat(),
        );
        connection_error(&mut client, &[PROTOCOL_ERROR, STREAM_CLOSED])
    });
    t.h2("numbers may be left out", "9113 5.1.1", Must, |stage| {
        let mut client = stage.h2()?;
        again(stage, &mut client, 11)?;
        again(stage, &mut client, (1 << 31) - 1)
    });
    t.fatal("DATA on an idle stream", "9113 5.1", &[PROTOCOL_ERROR], data(1, "a", true));
    t.fatal("RST_STREAM on an idle stream", "9113 5.1", &[PROTOCOL_ERROR], rst_stream(1, CANCEL));
    t.fatal("WINDOW_UPDATE on an idle stream", "9113 5.1", &[PROTOCOL_ERROR], window_update(1, 1));
    t.h2("streams beyond the limit are refused", "9113 5.1.2", Must, |stage| {
        let mut client = stage.h2()?;
        let Some(limit) = client.settings.get(&setting::MAX_CONCURRENT_STREAMS).copied() else {
            return Err("no limit is announced".into());
        };
        if limit > 1000 {
            return Err(format!("a limit of {limit}"));
        }
        for n in 0..=limit {
            client.try_send(headers(2 * n + 1, &request("POST", &[]), false));
        }
        match client.outcome(2 * limit + 1) {
            Outcome::Reset(REFUSED_STREAM | PROTOCOL_ERROR, _) => Ok(()),
            Outcome::Lost(Some(PROTOCOL_ERROR), _) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    t.h2("as many streams as are allowed run at once", "9113 5.1.2", Must, |stage| {
        let mut client = stage.h2()?;
        let limit = client.settings.get(&setting::MAX_CONCURRENT_STREAMS).copied().unwrap_or(100).min(100);
        let mut upstreams = Vec::new();
        for n in 0..limit {
            client.send(headers(2 * n + 1, &request("GET", &[]), true))?;
        }
        for _ in 0..limit {
            let mut upstream = stage.backend()?;
            upstream.request()?;
            upstreams.push(upstream);
        }
        for upstream in upstreams.iter_mut().rev() {
            upstream.send(OK)?;
        }
        for n in 0..limit {
            check(&client.answer(2 * n + 1)?, &[Status(200), Body("ok")])?;
        }
        Ok(())
    });
    t.h2("a limit counts only streams that run", "9113 5.1.2", Must, |stage| {
        let mut client = stage.h2()?;
        let mut upstream = None;
        for n in 0..300 {
            client.send(headers(2 * n + 1, &request("GET", &[]), true))?;
            let upstream = match &mut upstream {
                None => upstream.insert(stage.backend()?),
                Some(upstream) => {
                    stage.wait_next(upstream)?;
                    upstream
                }
            };
            upstream.request()?;
            upstream.send(OK)?;
            client.answer(2 * n + 1)?;
        }
        Ok(())
    });
}

fn closed(t: &mut Table) {
    t.h2("DATA after the end of the request", "9113 5.1", Must, |stage| {
        let (mut client, _upstream) = meet_get(stage)?;
        client.try_send(data(1, "a", true));
        stream_error(&mut client, &[STREAM_CLOSED])
    });
    t.h2("HEADERS after the end of the request", "9113 5.1", Must, |stage| {
        let (mut client, _upstream) = meet_get(stage)?;
        client.try_send(headers(1, &[("x", "y")], true));
        stream_error(&mut client, &[STREAM_CLOSED])
    });
    t.h2("DATA on a stream that both have ended", "9113 5.1", Must, |stage| {
        let (mut client, mut upstream) = meet_get(stage)?;
        upstream.send(OK)?;
        client.answer(1)?;
        client.try_send(data(1, "a", true));
        stream_error(&mut client, &[STREAM_CLOSED])
    });
    t.h2("HEADERS on a stream that both have ended", "9113 5.1", Must, |stage| {
        let (mut client, mut upstream) = meet_get(stage)?;
        upstream.send(OK)?;
        client.answer(1)?;
        client.try_send(headers(1, &request("GET", &[]), true));
        connection_error(&mut client, &[STREAM_CLOSED, PROTOCOL_ERROR])
    });
    t.h2("DATA after one's own reset", "9113 5.1", Must, |stage| {
        let (mut client, _upstream, _) = meet_head(stage)?;
        client.try_send([rst_stream(1, CANCEL), data(1, "a", true)].concat());
        stream_error(&mut client, &[STREAM_CLOSED])
    });
    t.h2("WINDOW_UPDATE and RST_STREAM after the end are ignored", "9113 5.1", Must, |stage| {
        let (mut client, mut upstream) = meet_get(stage)?;
        upstream.send(OK)?;
        client.answer(1)?;
        drop(upstream);
        client.send([window_update(1, 10), rst_stream(1, CANCEL), window_update(1, 10)].concat())?;
        again(stage, &mut client, 3)
    });
    t.h2("trailers must end the stream", "9113 8.1", Must, |stage| {
        let mut client = stage.h2()?;
        client.try_send(
            [headers(1, &request("POST", &[]), false), data(1, "a", false), headers(1, &[("x", "y")], false)]
                .concat(),
        );
        stream_error(&mut client, &[PROTOCOL_ERROR])
    });
}

/// A POST whose head has come to the backend.
fn meet_head(stage: &crate::stage::Stage) -> Verdict<(crate::h2::Client, crate::peer::Peer, String)> {
    let mut client = stage.h2()?;
    client.send([headers(1, &request("POST", &[]), false), data(1, "abc", false)].concat())?;
    let mut upstream = stage.backend()?;
    let head = upstream.until("abc")?;
    Ok((client, upstream, head))
}

fn ends(upstream: &mut crate::peer::Peer) -> Verdict {
    match upstream.rest() {
        (_, End::StillOpen) => Err("the backend still works for it".into()),
        (bytes, _) if bytes.ends_with(b"0\r\n\r\n") => Err("the request ends cleanly".into()),
        _ => Ok(()),
    }
}

fn cancelled(t: &mut Table) {
    t.h2("a reset while the backend thinks cancels its work", "9113 5.4.2", Own, |stage| {
        let (mut client, mut upstream) = meet_get(stage)?;
        client.send(rst_stream(1, CANCEL))?;
        ends(&mut upstream)?;
        again(stage, &mut client, 3)
    });
    t.h2("a reset within the request cancels the backend's work", "9113 5.4.2", Must, |stage| {
        let (mut client, mut upstream, _) = meet_head(stage)?;
        client.send(rst_stream(1, CANCEL))?;
        ends(&mut upstream)?;
        again(stage, &mut client, 3)
    });
    t.h2("a reset within the answer cancels the backend's work", "9113 5.4.2", Own, |stage| {
        let (mut client, mut upstream) = meet_get(stage)?;
        upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")?;
        client.until(1, b"abc")?;
        client.send(rst_stream(1, CANCEL))?;
        ends(&mut upstream)?;
        again(stage, &mut client, 3)
    });
    t.h2("a reset of one stream leaves the others alone", "9113 5.4.2", Must, |stage| {
        let (mut client, mut first) = meet_get(stage)?;
        client.send(headers(3, &request("GET", &[]), true))?;
        let mut second = stage.backend()?;
        second.request()?;
        client.send(rst_stream(1, CANCEL))?;
        ends(&mut first)?;
        second.send(OK)?;
        check(&client.answer(3)?, &[Status(200), Body("ok")])
    });
    t.h2("a client that is gone cancels all of its streams", "", Own, |stage| {
        let (mut client, mut first) = meet_get(stage)?;
        client.send(headers(3, &request("GET", &[]), true))?;
        let mut second = stage.backend()?;
        second.request()?;
        drop(client);
        ends(&mut first)?;
        ends(&mut second)
    });
    t.h2("a connection that goes on within a body is no end of it", "9113 8.1", Must, |stage| {
        let (client, mut upstream, _) = meet_head(stage)?;
        drop(client);
        ends(&mut upstream)
    });
    t.h2("an answer before the request's end resets the rest of it", "9113 8.1", Should, |stage| {
        let (mut client, mut upstream, _) = meet_head(stage)?;
        upstream
            .send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")?;
        drop(upstream);
        match client.outcome(1) {
            Outcome::Answer(answer) | Outcome::Reset(NO_ERROR, answer) => {
                check(&answer, &[Status(413), Body("no")])?
            }
            other => return Err(format!("{other:?}")),
        }
        // Frames that are still on their way are no error.
        client.send(data(1, "more", false))?;
        again(stage, &mut client, 3)
    });
    t.h2("an answer while the request still runs is passed on at once", "9113 8.1", Must, |stage| {
        let (mut client, mut upstream, _) = meet_head(stage)?;
        upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")?;
        client.until(1, b"abc")?;
        client.send(data(1, "def", true))?;
        upstream.until("def")?;
        upstream.send("3\r\ndef\r\n0\r\n\r\n")?;
        check(&client.answer(1)?, &[Status(200), Body("abcdef")])
    });
    t.h2("streams end in any order", "9113 5", Must, |stage| {
        let (mut client, mut slow) = meet_get(stage)?;
        again(stage, &mut client, 3)?;
        slow.send(OK)?;
        check(&client.answer(1)?, &[Status(200), Body("ok")])
    });
}
