//! Flow control of HTTP/2 (RFC 9113, 5.2 and 6.9) from end to end: no side sends what the other side has not asked for,
//! and nothing is buffered for a side that does not read.

use std::time::Duration;

use crate::{
    case::{
        Check::{Body, Status},
        Level::{Must, Own},
        OK, Table, answer, check,
    },
    h2::{
        Outcome, code::FLOW_CONTROL_ERROR, data, flag, frame, headers, kind, request, rst_stream, setting,
        settings, window_update,
    },
    h2_play::{again, meet_get, stream_error},
    message::End,
};

/// Time in which nothing more comes.
const QUIET: Duration = Duration::from_millis(60);

pub(super) fn table() -> Table {
    let mut t = Table::new("HTTP/2: flow control");
    towards_the_client(&mut t);
    towards_the_backend(&mut t);
    t
}

fn ten(body: &str) -> String {
    answer(&format!("Content-Length: {}\r\n", body.len()), body)
}

fn towards_the_client(t: &mut Table) {
    t.h2("no more than a stream's window is sent", "9113 6.9", Must, |stage| {
        let mut client = stage.h2_with(&[(setting::INITIAL_WINDOW_SIZE, 4)])?;
        client.generous = false;
        client.send(headers(1, &request("GET", &[]), true))?;
        let mut upstream = stage.backend()?;
        upstream.request()?;
        upstream.send(ten("0123456789"))?;
        client.until(1, b"0123")?;
        quiet(&mut client, 4)?;
        client.send(window_update(1, 3))?;
        client.until(1, b"0123456")?;
        quiet(&mut client, 7)?;
        client.send(window_update(1, 100))?;
        check(&client.answer(1)?, &[Status(200), Body("0123456789")])
    });
    t.h2("heads pass a window of 0", "9113 6.9", Must, |stage| {
        let mut client = stage.h2_with(&[(setting::INITIAL_WINDOW_SIZE, 0)])?;
        client.generous = false;
        client.send(headers(1, &request("GET", &[]), true))?;
        let mut upstream = stage.backend()?;
        upstream.request()?;
        upstream.send(ten("0123456789"))?;
        check(&client.head(1)?, &[Status(200)])?;
        quiet(&mut client, 0)?;
        client.send(settings(&[(setting::INITIAL_WINDOW_SIZE, 10)]))?;
        check(&client.answer(1)?, &[Body("0123456789")])
    });
    t.h2("a window that becomes negative is waited out", "9113 6.9.2", Must, |stage| {
        let mut client = stage.h2_with(&[(setting::INITIAL_WINDOW_SIZE, 6)])?;
        client.generous = false;
        client.send(headers(1, &request("GET", &[]), true))?;
        let mut upstream = stage.backend()?;
        upstream.request()?;
        upstream.send(ten("0123456789"))?;
        client.until(1, b"012345")?;
        // 6 - 6 sent, then 4 less: four are owed before another may come.
        client.send(settings(&[(setting::INITIAL_WINDOW_SIZE, 2)]))?;
        client.send(window_update(1, 4))?;
        quiet(&mut client, 6)?;
        client.send(window_update(1, 1))?;
        client.until(1, b"0123456")?;
        quiet(&mut client, 7)?;
        client.send(window_update(1, 100))?;
        check(&client.answer(1)?, &[Body("0123456789")])
    });
    t.h2("no more than the connection's window is sent", "9113 6.9", Must, |stage| {
        let mut client = stage.h2_with(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)])?;
        client.generous = false;
        client.send(headers(1, &request("GET", &[]), true))?;
        let mut upstream = stage.backend()?;
        upstream.request()?;
        upstream.send(ten(&"x".repeat(100_000)))?;
        let all = client.hear(|client| client.received == 65_535);
        all.map_err(|end| format!("{end:?} after {}", client.received))?;
        quiet(&mut client, 65_535)?;
        client.send(window_update(0, 1 << 20))?;
        check(&client.answer(1)?, &[Status(200)])?;
        if client.received == 100_000 { Ok(()) } else { Err(format!("{}", client.received)) }
    });
    t.h2("no frame is larger than the client allows", "9113 4.2", Must, |stage| {
        let (mut client, mut upstream) = meet_get(stage)?;
        upstream.send(ten(&"x".repeat(60_000)))?;
        let deadline = std::time::Instant::now() + stage.patience;
        while client.received < 60_000 {
            let frame = client.next(deadline).map_err(|end| format!("{end:?}"))?;
            if frame.payload.len() > 16_384 {
                return Err(format!("a frame of {}", frame.payload.len()));
            }
        }
        Ok(())
    });
    t.h2("a stream that is not read holds no other up", "9113 5.2", Must, |stage| {
        let mut client = stage.h2_with(&[(setting::INITIAL_WINDOW_SIZE, 1000)])?;
        client.generous = false;
        client.send(headers(1, &request("GET", &[]), true))?;
        let mut upstream = stage.backend()?;
        upstream.request()?;
        upstream.send(answer("Content-Length: 10001\r\n", &"x".repeat(10_000)))?;
        client.hear(|client| client.received == 1000).map_err(|end| format!("{end:?}"))?;
        again(stage, &mut client, 3)?;
        upstream.send("x")?;
        client.send(window_update(1, 9001))?;
        check(&client.answer(1)?, &[Status(200)])
    });
    t.h2("a client that does not read slows the backend down", "", Own, |stage| {
        let mut client = stage.h2()?;
        client.generous = false;
        client.send(headers(1, &request("GET", &[]), true))?;
        let mut upstream = stage.backend()?;
        upstream.request()?;
        upstream.send(answer("Content-Length: 200000000\r\n", ""))?;
        let before = stage.proxy.memory()?;
        let piece = vec![b'x'; 1 << 20];
        let mut sent = 0;
        while let Ok(written) = upstream.write_within(&piece, Duration::from_millis(200)) {
            sent += written;
            if sent > 32 << 20 {
                return Err(format!("{sent} bytes were taken that are not read"));
            }
        }
        let grown = stage.proxy.memory()?.saturating_sub(before);
        if grown > 4 << 20 { Err(format!("memory grew by {grown}")) } else { Ok(()) }
    });
    t.h2("a hundred streams that are not read cost bounded memory", "", Own, |stage| {
        let mut client = stage.h2()?;
        client.generous = false;
        let before = stage.proxy.memory()?;
        let mut upstreams = Vec::new();
        let streams = client.settings.get(&setting::MAX_CONCURRENT_STREAMS).copied().unwrap_or(100).min(100);
        for n in 0..streams {
            client.send(headers(2 * n + 1, &request("GET", &[]), true))?;
            let mut upstream = stage.backend()?;
            upstream.request()?;
            upstream.send(answer("Content-Length: 200000000\r\n", ""))?;
            upstreams.push(upstream);
        }
        let piece = vec![b'x'; 1 << 20];
        for upstream in &mut upstreams {
            let _ = upstream.write_within(&piece, Duration::from_millis(3));
        }
        client.sync()?;
        let grown = stage.proxy.memory()?.saturating_sub(before);
        if grown > 32 << 20 { Err(format!("memory grew by {grown}")) } else { Ok(()) }
    });
}

/// Nothing more comes than has come.
fn quiet(client: &mut crate::h2::Client, received: usize) -> Result<(), String> {
    match client.hear_for(QUIET) {
        End::StillOpen if client.received == received => Ok(()),
        end => Err(format!("{end:?}, {} bytes have come, {received} were asked for", client.received)),
    }
}

fn towards_the_backend(t: &mut Table) {
    t.h2("a client that sends beyond its window is refused", "9113 6.9.1", Must, |stage| {
        let mut client = stage.h2()?;
        client.try_send(headers(1, &request("POST", &[]), false));
        client.try_send(data(1, [0; 16_384], false).repeat((8 << 20) / 16_384));
        stream_error(&mut client, &[FLOW_CONTROL_ERROR])
    });
    t.h2("a megabyte of any bytes arrives as it was", "9113 6.9", Must, |stage| {
        let mut client = stage.h2()?;
        let body: Vec<u8> = (0..1_u32 << 20).map(|n| (n >> 3) as u8).collect();
        let length = body.len().to_string();
        client.send(headers(1, &request("POST", &[("content-length", &length)]), false))?;
        let got = std::thread::scope(|scope| {
            let at_backend = scope.spawn(|| {
                let mut upstream = stage.backend()?;
                let request = upstream.request()?;
                upstream.send(OK)?;
                Ok::<_, String>(request.body)
            });
            client.upload(1, &body, true)?;
            client.answer(1)?;
            at_backend.join().map_err(|_| "the backend panicked".to_owned())?
        })?;
        if got == body { Ok(()) } else { Err(format!("{} bytes came, or others", got.len())) }
    });
    t.h2("padding counts, and is given back", "9113 6.9.1", Must, |stage| {
        let mut client = stage.h2()?;
        client.send(headers(1, &request("POST", &[]), false))?;
        // Each frame costs 256 bytes of the window for one of content.
        let padded = [&[254][..], b"x", &[0; 254]].concat();
        let one = frame(kind::DATA, flag::PADDED, 1, &padded);
        // A proxy may wait for the first part of a body before it turns to a backend.
        client.send(&one)?;
        client.spend(1, 256);
        let mut upstream = stage.backend()?;
        upstream.head()?;
        upstream.until("x")?;
        for n in 1..10_000 {
            client
                .hear(|client| client.room(1) >= 256)
                .map_err(|end| format!("the window stays shut after {n}: {end:?}"))?;
            client.send(&one)?;
            client.spend(1, 256);
            upstream.until("x")?;
        }
        Ok(())
    });
    t.h2("a backend that does not read slows the client down", "", Own, |stage| {
        let mut client = stage.h2()?;
        client.send(headers(1, &request("POST", &[("content-length", "200000000")]), false))?;
        client.send(data(1, b"x", false))?;
        client.spend(1, 1);
        let mut upstream = stage.backend()?;
        upstream.head()?;
        let taken = client.upload_while_open(1, 32 << 20)?;
        if taken >= 32 << 20 {
            Err(format!("{taken} bytes were requested that are not read"))
        } else {
            Ok(())
        }
    });
    t.h2(
        "what was sent on a stream that is over is given back to the connection",
        "9113 6.9",
        Must,
        |stage| {
            let mut client = stage.h2()?;
            // Each stream leaves unread bytes; if they were not returned to the window, the connection would stall.
            for n in 0..40 {
                let stream = 2 * n + 1;
                client.send(headers(stream, &request("POST", &[("content-length", "200000")]), false))?;
                client.send(data(stream, b"x", false))?;
                client.spend(stream, 1);
                let mut upstream = stage.backend()?;
                upstream.head()?;
                let sent = client.upload_while_open(stream, 60_000)?;
                if sent == 0 {
                    return Err(format!("the window is shut after {n} streams"));
                }
                client.send(rst_stream(stream, 8))?;
            }
            client.send(headers(101, &request("POST", &[("content-length", "60000")]), false))?;
            let sent = client.upload_while_open(101, 60_000)?;
            if sent == 60_000 { Ok(()) } else { Err(format!("only {sent} bytes are asked for")) }
        },
    );
    t.h2("what comes after an early answer is given back to the connection", "9113 6.9", Must, |stage| {
        let mut client = stage.h2()?;
        for n in 0..40 {
            let stream = 2 * n + 1;
            client.send(headers(stream, &request("POST", &[("content-length", "20000")]), false))?;
            client.send(data(stream, b"x", false))?;
            let mut upstream = stage.backend()?;
            upstream.head()?;
            upstream
                .send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
            drop(upstream);
            match client.outcome(stream) {
                Outcome::Answer(answer) | Outcome::Reset(_, answer) if answer.status() == 413 => {}
                other => return Err(format!("{other:?}")),
            }
            client.send(data(stream, vec![b'x'; 9_999], false))?;
        }
        client.send(headers(101, &request("POST", &[("content-length", "60000")]), false))?;
        let sent = client.upload_while_open(101, 60_000)?;
        if sent == 60_000 { Ok(()) } else { Err(format!("only {sent} bytes are asked for")) }
    });
}
