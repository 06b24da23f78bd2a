//! Floods of HTTP/2 (RFC 9113, 10.5): the connection that brings one is ended or costs little, the program's memory
//! stays bounded, and other clients are served all along.

use std::time::{Duration, Instant};

use crate::{
    case::{
        Check::Status,
        Level::{Must, Own},
        OK, Table, check,
    },
    h2::{
        Client, Outcome, block,
        code::{CANCEL, NO_ERROR, REFUSED_STREAM},
        data, flag, frame, headers, kind, request, rst_stream, setting, settings, window_update,
    },
    h2_play::meet_get,
    peer::Verdict,
    stage::Stage,
    target::Profile,
};

/// Memory that a flood may cost.
const BOUND: usize = 24 << 20;

pub(super) fn table() -> Table {
    let mut t = Table::new("HTTP/2: floods and drain");
    t.h2("rapid reset", "9113 10.5", Own, |stage| {
        let head = block(&request("GET", &[]));
        flood(stage, 40, |round| {
            let mut frames = Vec::new();
            for n in 0..250 {
                let stream = 2 * (250 * round + n) + 1;
                frames.extend(frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &head));
                frames.extend(rst_stream(stream, CANCEL));
            }
            frames
        })
    });
    t.h2("requests that provoke resets", "9113 10.5", Own, |stage| {
        flood(stage, 40, |round| {
            let mut frames = Vec::new();
            for n in 0..250 {
                let stream = 2 * (250 * round + n) + 1;
                frames.extend(headers(stream, &request("POST", &[]), false));
                frames.extend(window_update(stream, 0));
            }
            frames
        })
    });
    t.h2("CONTINUATION without end", "9113 10.5", Own, |stage| {
        let piece = block(&[("x", &"v".repeat(8000))]);
        flood(stage, 100, move |round| match round {
            0 => frame(kind::HEADERS, flag::END_STREAM, 1, block(&request("GET", &[]))),
            _ => frame(kind::CONTINUATION, 0, 1, &piece).repeat(30),
        })
    });
    t.h2("empty CONTINUATION without end", "9113 10.5", Own, |stage| {
        flood(stage, 100, |round| match round {
            0 => frame(kind::HEADERS, flag::END_STREAM, 1, block(&request("GET", &[]))),
            _ => frame(kind::CONTINUATION, 0, 1, []).repeat(1000),
        })
    });
    t.h2("SETTINGS without end", "9113 10.5", Own, |stage| {
        flood(stage, 100, |_| settings(&[(setting::INITIAL_WINDOW_SIZE, 100_000)]).repeat(1000))
    });
    t.h2("SETTINGS of ten thousand settings", "9113 10.5", Own, |stage| {
        flood(stage, 100, |_| settings(&vec![(0xfafa, 1); 2700]).repeat(5))
    });
    t.h2("PING without end", "9113 10.5", Own, |stage| {
        flood(stage, 100, |_| frame(kind::PING, 0, 0, [7; 8]).repeat(2000))
    });
    t.h2("empty DATA without end", "9113 10.5", Own, |stage| {
        flood(stage, 100, |round| match round {
            0 => headers(1, &request("POST", &[]), false),
            _ => data(1, [], false).repeat(2000),
        })
    });
    t.h2("tiny DATA without end", "9113 10.5", Own, |stage| {
        flood(stage, 30, |round| match round {
            0 => headers(1, &request("POST", &[]), false),
            _ => data(1, "x", false).repeat(2000),
        })
    });
    t.h2("WINDOW_UPDATE without end", "9113 10.5", Own, |stage| {
        flood(stage, 100, |round| match round {
            0 => headers(1, &request("POST", &[]), false),
            _ => [window_update(0, 1), window_update(1, 1)].concat().repeat(1000),
        })
    });
    t.h2("PRIORITY without end", "9113 10.5", Own, |stage| {
        flood(stage, 100, |round| {
            (0..1000)
                .flat_map(|n| frame(kind::PRIORITY, 0, 2 * (1000 * round + n) + 1, [0, 0, 0, 0, 9]))
                .collect()
        })
    });
    t.h2("frames of unknown types without end", "9113 10.5", Own, |stage| {
        flood(stage, 100, |_| frame(0xee, 0, 0, [0; 1000]).repeat(300))
    });
    t.h2("a list of fields made large by the table", "9113 10.5.1", Own, |stage| {
        // One entry of 4 KB in the table, and each byte behind names it again.
        let value = "v".repeat(3900);
        let mut bomb = vec![0x82, 0x86, 0x84, 0x41, 9];
        bomb.extend_from_slice(b"a.example");
        bomb.extend_from_slice(&[0x40, 1, b'x']);
        let literal = block(&[("", &value)]);
        bomb.extend_from_slice(&literal[2..]);
        bomb.resize(16_000, 0xbe);
        flood(stage, 60, move |round| {
            frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 2 * round + 1, &bomb)
        })
    });
    t.h2("endless requests whose answers are not read", "9113 10.5", Own, |stage| {
        let mut hungry = stage.h2_with(&[(setting::INITIAL_WINDOW_SIZE, 0)])?;
        let before = stage.proxy.memory()?;
        let frames: Vec<u8> = (0..5000)
            .flat_map(|n| headers(2 * n + 1, &request("OPTIONS", &[("max-forwards", "0")]), true))
            .collect();
        hungry.try_send(frames);
        other_is_served(stage)?;
        bounded(stage, before)
    });
    drains(&mut t);
    t
}

/// Plays the flood in this number of pieces; meanwhile, and afterwards, another client is served.
fn flood(stage: &Stage, rounds: u32, mut piece: impl FnMut(u32) -> Vec<u8>) -> Verdict {
    let mut flooding = stage.h2()?;
    let before = stage.proxy.memory()?;
    // A flood that the other side has ended need not be sent to its end.
    flooding
        .peer
        .stream()
        .set_write_timeout(Some(Duration::from_millis(200)))
        .map_err(|error| error.to_string())?;
    let mut most = before;
    for round in 0..rounds {
        if flooding.peer.send(piece(round)).is_err() {
            break;
        }
        most = most.max(stage.proxy.memory()?);
        if round % (rounds / 3).max(1) == 1 {
            other_is_served(stage)?;
        }
    }
    other_is_served(stage)?;
    most = most.max(stage.proxy.memory()?);
    let grown = most.saturating_sub(before);
    if grown > BOUND { Err(format!("memory grew by {} KB", grown / 1024)) } else { Ok(()) }
}

fn bounded(stage: &Stage, before: usize) -> Verdict {
    let grown = stage.proxy.memory()?.saturating_sub(before);
    if grown > BOUND { Err(format!("memory grew by {} KB", grown / 1024)) } else { Ok(()) }
}

/// Another client gets its answer while what the flood brought is at the backend too.
fn other_is_served(stage: &Stage) -> Verdict {
    let mut other = stage.h2()?;
    other.send(headers(1, &request("GET", &[("x-other", "1")]), true))?;
    let deadline = Instant::now() + stage.patience;
    while Instant::now() < deadline {
        let mut upstream = stage.backend()?;
        let Ok(head) = upstream.head() else { continue };
        if head.to_lowercase().contains("x-other: 1") {
            upstream.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")?;
            return check(&other.answer(1)?, &[Status(200)]);
        }
    }
    Err("another client is not served".into())
}

fn drains(t: &mut Table) {
    t.h2("a stopping program sends GOAWAY and finishes running requests", "9113 6.8", Own, |stage| {
        let (mut client, mut upstream) = meet_get(stage)?;
        stage.proxy.terminate()?;
        gone_away(&mut client)?;
        upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")?;
        client.until(1, b"abc")?;
        upstream.send("0\r\n\r\n")?;
        client.answer(1).map(|_| ())
    })
    .profile = Profile::Drained;
    t.h2("a request sent before GOAWAY was seen is served or visibly refused", "9113 6.8", Must, |stage| {
        let (mut client, mut upstream) = meet_get(stage)?;
        stage.proxy.terminate()?;
        client.send(headers(3, &request("GET", &[]), true))?;
        upstream.send(OK)?;
        client.answer(1)?;
        let mut second = stage.try_backend();
        if let Some(second) = &mut second {
            second.try_send(OK);
        }
        upstream.try_send(OK);
        match client.outcome(3) {
            Outcome::Answer(answer) => check(&answer, &[Status(200)]),
            Outcome::Reset(REFUSED_STREAM, _) | Outcome::Lost(Some(NO_ERROR), _) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .profile = Profile::Drained;
    t.h2("streams after the final GOAWAY do not run", "9113 6.8", Must, |stage| {
        let (mut client, mut upstream) = meet_get(stage)?;
        stage.proxy.terminate()?;
        gone_away(&mut client)?;
        // A first GOAWAY may be a warning, with the highest number of all.
        client.sync()?;
        let told = |client: &Client| client.goaway.is_some_and(|(last, _)| last < 1001);
        client.hear(told).map_err(|end| format!("no final GOAWAY: {end:?}"))?;
        client.try_send(headers(1001, &request("GET", &[("x-late", "1")]), true));
        upstream.send(OK)?;
        client.answer(1)?;
        match stage.try_backend().map(|mut peer| peer.head()) {
            Some(Ok(head)) if head.contains("x-late") => Err("it reached the backend".into()),
            _ => Ok(()),
        }
    })
    .profile = Profile::Drained;
    t.h2("an idle connection is closed when the program stops", "9113 6.8", Own, |stage| {
        let mut client = stage.h2()?;
        stage.proxy.terminate()?;
        match client.hear_for(client.patience()) {
            crate::message::End::StillOpen => Err("it stays open".into()),
            _ if client.goaway.is_none() => Err("no GOAWAY".into()),
            _ => Ok(()),
        }
    })
    .profile = Profile::Drained;
}

fn gone_away(client: &mut Client) -> Verdict {
    client.hear(|client| client.goaways > 0).map_err(|end| format!("no GOAWAY: {end:?}"))
}
