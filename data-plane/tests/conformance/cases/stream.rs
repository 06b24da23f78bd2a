//! Answers in pieces: each is passed on as it comes, interim answers too.

use crate::case::{
    Check::{Body, Interims, Is, Open, Status},
    GET,
    Level::{Must, Own},
    OK, Table, answer, check,
};
use crate::peer::Verdict;
use crate::stage::Stage;

pub(super) fn table() -> Table {
    let mut t = Table::new("Answers in pieces");
    interim(&mut t);
    streams(&mut t);
    t
}

fn interim(t: &mut Table) {
    t.exchange(
        "103 is passed on before the answer",
        "9110 15.2",
        Must,
        (GET, format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}")),
        &[],
        &[Status(200), Interims(1), Body("ok"), Open],
    );
    t.exchange("several interim answers are passed on", "9110 15.2", Must, (GET, format!("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n{OK}")), &[], &[Status(200), Interims(3), Body("ok")]);
    t.script("103 is passed on at once, with its fields", "9110 15.2", Must, |stage| {
        let (mut client, mut upstream, _) = stage.meet(GET)?;
        upstream.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\n")?;
        let interim = client.head()?;
        if !interim.starts_with("HTTP/1.1 103 ") || interim.to_lowercase().matches("\r\nlink: <").count() != 2
        {
            return Err(interim);
        }
        upstream.send(OK)?;
        check(&client.answer()?, &[Status(200), Interims(0)])
    });
    t.exchange(
        "an unrequested 100 does no harm",
        "9110 15.2.1",
        Must,
        (GET, format!("HTTP/1.1 100 Continue\r\n\r\n{OK}")),
        &[],
        &[Status(200), Body("ok"), Open],
    );
    t.exchange(
        "a client of HTTP/1.0 gets no interim answer",
        "9110 15.2",
        Must,
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", format!("HTTP/1.1 103 Early Hints\r\n\r\n{OK}")),
        &[],
        &[Status(200), Interims(0), Body("ok")],
    );
}

fn streams(t: &mut Table) {
    t.script("the head is passed on before the body comes", "", Own, |stage| {
        let (mut client, mut upstream, _) = stage.meet(GET)?;
        upstream.send(answer("Content-Length: 3\r\n", ""))?;
        client.head()?;
        upstream.send("abc")?;
        client.until("abc").map(|_| ())
    });
    t.script("each chunk is passed on at once", "", Own, |stage| {
        each_at_once(
            stage,
            "Transfer-Encoding: chunked\r\n",
            &["1\r\na\r\n", "2\r\nbc\r\n", "1\r\nd\r\n"],
            &["a", "bc", "d"],
        )
    });
    t.script("each part of a known length is passed on at once", "", Own, |stage| {
        each_at_once(stage, "Content-Length: 100\r\n", &["one", "two", "three"], &["one", "two", "three"])
    });
    t.script("each event of a stream is passed on at once", "", Own, |stage| {
        let event = "data: 1\n\n";
        each_at_once(stage, "Content-Type: text/event-stream\r\n", &[event; 5], &[event; 5])
    });
    t.script("an answer byte by byte arrives whole", "9112 2.2", Must, |stage| {
        let (mut client, mut upstream, _) = stage.meet(GET)?;
        for byte in answer("Transfer-Encoding: chunked\r\nX-A: b\r\n", "3;x\r\nabc\r\n0\r\n\r\n").bytes() {
            upstream.send([byte])?;
        }
        check(&client.answer()?, &[Status(200), Is("x-a", "b"), Body("abc")])
    });
    for (name, chunked) in [
        ("a megabyte of known length arrives as it was", false),
        ("a megabyte in chunks arrives as it was", true),
    ] {
        t.script(name, "9112 6", Must, move |stage| {
            let body: Vec<u8> =
                (0..1_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
            let (mut client, mut upstream, _) = stage.meet(GET)?;
            let mut all = answer(
                if chunked { "Transfer-Encoding: chunked\r\n" } else { "Content-Length: 1048576\r\n" },
                "",
            )
            .into_bytes();
            for piece in body.chunks(if chunked { 10_007 } else { body.len() }) {
                if chunked {
                    all.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                }
                all.extend_from_slice(piece);
                if chunked {
                    all.extend_from_slice(b"\r\n");
                }
            }
            if chunked {
                all.extend_from_slice(b"0\r\n\r\n");
            }
            let got = std::thread::scope(|scope| {
                scope.spawn(|| upstream.send(&all));
                client.answer()
            })?;
            if got.body == body { Ok(()) } else { Err(format!("{} bytes came, or others", got.body.len())) }
        });
    }
    t.script("a client that does not read slows the backend down", "", Own, |stage| {
        let (_client, mut upstream, _) = stage.meet(GET)?;
        upstream.send(answer("Content-Length: 200000000\r\n", ""))?;
        let mut stream = upstream.stream();
        let _ = stream.set_write_timeout(Some(std::time::Duration::from_millis(300)));
        let piece = vec![b'x'; 1 << 20];
        let mut sent = 0;
        while let Ok(written) = std::io::Write::write(&mut stream, &piece) {
            sent += written;
            if sent > 64 << 20 {
                return Err(format!("{sent} bytes were taken that are not read"));
            }
        }
        Ok(())
    });
}

fn each_at_once(stage: &Stage, fields: &str, pieces: &[&str], seen: &[&str]) -> Verdict {
    let (mut client, mut upstream, _) = stage.meet(GET)?;
    upstream.send(answer(fields, ""))?;
    client.head()?;
    for (piece, seen) in pieces.iter().zip(seen) {
        upstream.send(piece)?;
        client.until(seen)?;
    }
    Ok(())
}
