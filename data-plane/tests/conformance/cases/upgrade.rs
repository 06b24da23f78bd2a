//! Upgrade (RFC 9110, 7.8): agreed by the backend, and from then on bytes, both ways, untouched.

use crate::case::{
    Check::{self, Body, Is, Lists, Status},
    Level::{Must, Own},
    OK, Table, check, get,
};
use crate::message::{End, Message};
use crate::peer::{Peer, Verdict};
use crate::play::again;
use crate::stage::Stage;
use crate::target::{Profile, SHORT};

const OFFER: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn switched(stage: &Stage) -> Verdict<(Peer, Peer, Message)> {
    let (mut client, mut upstream, _) = stage.meet(get(OFFER))?;
    upstream.send(AGREED)?;
    let answer = client.answer()?;
    check(&answer, &[Status(101)])?;
    Ok((client, upstream, answer))
}

pub(super) fn table() -> Table {
    let mut t = Table::new("Upgrade");
    t.exchange(
        "the offer reaches the backend",
        "9110 7.8",
        Own,
        (get(OFFER), OK),
        &[
            Is("upgrade", "websocket"),
            Lists("connection", "upgrade"),
            Is("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            Is("sec-websocket-version", "13"),
        ],
        &[Status(200)],
    );
    t.script("the agreement reaches the client", "9110 15.2.2", Must, |stage| {
        check(
            &switched(stage)?.2,
            &[
                Is("upgrade", "websocket"),
                Lists("connection", "upgrade"),
                Is("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
                Check::No("content-length"),
                Check::No("transfer-encoding"),
            ],
        )
    });
    t.script("bytes go both ways untouched", "9110 7.8", Must, |stage| {
        let (mut client, mut upstream, _) = switched(stage)?;
        for _ in 0..3 {
            client.send("\u{0}GET / HTTP/1.1\r\n\r\n\u{1}")?;
            upstream.until("\u{0}GET / HTTP/1.1\r\n\r\n\u{1}")?;
            upstream.send("0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")?;
            client.until("0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")?;
        }
        Ok(())
    });
    t.script("bytes right behind the agreement are not lost", "9110 7.8", Must, |stage| {
        let (mut client, mut upstream, _) = stage.meet(get(OFFER))?;
        upstream.send(format!("{AGREED}early"))?;
        check(&client.answer()?, &[Status(101)])?;
        client.until("early").map(|_| ())
    });
    t.script("bytes sent before the agreement are not lost", "", Own, |stage| {
        let mut client = stage.client_with(get(OFFER) + "early")?;
        let mut upstream = stage.backend()?;
        upstream.head()?;
        upstream.send(AGREED)?;
        check(&client.answer()?, &[Status(101)])?;
        upstream.until("early").map(|_| ())
    });
    t.script("the end of the client is the end for the backend", "", Own, |stage| {
        let (client, mut upstream, _) = switched(stage)?;
        drop(client);
        match upstream.rest() {
            (_, End::StillOpen) => Err("the backend still waits".into()),
            _ => Ok(()),
        }
    });
    t.script("the end of the backend is the end for the client", "", Own, |stage| {
        let (mut client, mut upstream, _) = switched(stage)?;
        upstream.send("bye")?;
        drop(upstream);
        client.until("bye")?;
        client.expect_closed()
    });
    t.script("a client that has said all still hears", "", Own, |stage| {
        let (mut client, mut upstream, _) = switched(stage)?;
        client.send("all")?;
        client.finish();
        let (heard, end) = upstream.rest();
        if heard != b"all" || end != End::Closed {
            return Err(format!("{end:?} after {heard:?}"));
        }
        upstream.send("more")?;
        client.until("more").map(|_| ())
    });
    t.script("a backend that has said all still hears", "", Own, |stage| {
        let (mut client, mut upstream, _) = switched(stage)?;
        upstream.send("all")?;
        upstream.finish();
        let (heard, end) = client.rest();
        if heard != b"all" || end != End::Closed {
            return Err(format!("{end:?} after {heard:?}"));
        }
        client.send("more")?;
        upstream.until("more").map(|_| ())
    });
    t.script("a megabyte goes both ways at once", "9110 7.8", Must, |stage| {
        let (mut client, mut upstream, _) = switched(stage)?;
        let up: Vec<u8> = (0..1_u32 << 20).map(|n| (n >> 3) as u8).collect();
        let down: Vec<u8> = (0..1_u32 << 20).map(|n| (n >> 5) as u8).collect();
        let (heard_up, heard_down) = std::thread::scope(|scope| {
            let at_backend = scope.spawn(|| upstream.swap(&down, up.len()));
            let heard_down = client.swap(&up, down.len());
            (at_backend.join(), heard_down)
        });
        if heard_up.is_ok_and(|heard| heard == up) && heard_down == down {
            Ok(())
        } else {
            Err("not the same bytes".into())
        }
    });
    t.script("any protocol that the backend agrees to is passed on", "9110 7.8", Own, |stage| {
        let (mut client, mut upstream, seen) =
            stage.meet(get("Connection: upgrade\r\nUpgrade: my-proto/1\r\n"))?;
        check(&seen, &[Is("upgrade", "my-proto/1")])?;
        upstream.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: my-proto/1\r\n\r\nhello",
        )?;
        check(&client.answer()?, &[Status(101), Is("upgrade", "my-proto/1")])?;
        client.until("hello").map(|_| ())
    });
    t.exchange(
        "an offer that is declined is an ordinary exchange",
        "9110 7.8",
        Must,
        (get(OFFER), OK),
        &[],
        &[Status(200), Body("ok"), Check::Open],
    );
    t.script("bytes after a declined offer are the next request", "9110 7.8", Must, |stage| {
        let (mut client, mut upstream, _) = stage.meet(get(OFFER))?;
        upstream.send("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n")?;
        check(&client.answer()?, &[Status(426)])?;
        again(stage, &mut client, &mut upstream)
    });
    t.script("101 to a request without an offer is 502", "9110 15.2.2", Must, |stage| {
        let (mut client, mut upstream, _) = stage.meet(get("Upgrade: websocket\r\n"))?;
        upstream.send(AGREED)?;
        check(&client.answer()?, &[Status(502)])
    });
    t.script("101 without Upgrade is 502", "9110 15.2.2", Own, |stage| {
        let (mut client, mut upstream, _) = stage.meet(get(OFFER))?;
        upstream.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n")?;
        check(&client.answer()?, &[Status(502)])
    });
    t.script("a quiet tunnel outlives the deadlines of requests", "", Own, |stage| {
        let (mut client, mut upstream, _) = switched(stage)?;
        let (_, end) = client.rest_within(SHORT * 3);
        if end != End::StillOpen {
            return Err("cut off".into());
        }
        client.send("still here")?;
        upstream.until("still here").map(|_| ())
    })
    .profile = Profile::Short;
    t
}
