//! Responses that are malformed or ambiguous: 502, and the connection is never used again.

use crate::case::Check::{Status, Unlisted};
use crate::case::{
    Level::{Must, Own},
    OK, Table, answer, check, post,
};
use crate::message::End;

pub(super) fn table() -> Table {
    let mut t = Table::new("Invalid answers of backends become 502");
    heads(&mut t);
    framing(&mut t);
    others(&mut t);
    t
}

fn heads(t: &mut Table) {
    let rest = "\r\nContent-Length: 2\r\n\r\nok";
    for (line, what, level) in [
        ("hello", "no status line", Must),
        ("HTTP/1.1", "a status line without a status", Must),
        ("HTTP/1.1 20 OK", "a status of two digits", Must),
        ("HTTP/1.1 2000 OK", "a status of four digits", Must),
        ("HTTP/1.1 2x0 OK", "a status of letters", Must),
        ("HTTP/1.1 099 OK", "a status below 100", Own),
        ("HTTP/1.1  200 OK", "two spaces in the status line", Own),
        ("HTTP/1.1\t200 OK", "a tab in the status line", Own),
        ("HTTP/2.0 200 OK", "a version of 2.0", Own),
        ("HTTP/1 200 OK", "a version without a dot", Must),
        ("HTP/1.1 200 OK", "a protocol of another name", Must),
        ("ICY 200 OK", "a protocol of ICY", Must),
        (" HTTP/1.1 200 OK", "a space before it", Own),
        ("HTTP/1.1 200 O\0K", "NUL in the reason", Must),
        ("HTTP/1.1 200 OK\rX: y", "a bare carriage return in the status line", Own),
    ] {
        t.lie(&format!("an answer with {what}"), "9112 4", level, format!("{line}{rest}"));
    }
    t.lie(
        "an answer with a status above 599",
        "9110 15",
        Own,
        "HTTP/1.1 600 Odd\r\nContent-Length: 2\r\n\r\nok",
    );
    t.lie("an answer that begins with an empty line", "9112 2.2", Own, format!("\r\n{OK}"));
    for (field, what, level) in [
        ("X-A : 1", "a space before the colon", Own),
        ("X-A", "no colon", Must),
        (": 1", "no name", Must),
        ("X(A): 1", "parentheses in the name", Must),
        ("X-A: \0", "NUL in the value", Must),
        ("X-A: 1\r2", "a bare carriage return in the value", Own),
        ("X-A: 1\r\n 2", "a folded line", Own),
        ("X-A: 1\nX-B: 2", "a bare line feed", Own),
        ("X-A: \x01", "a control character in the value", Own),
    ] {
        t.lie(
            &format!("an answer's field with {what}"),
            "9112 5",
            level,
            answer(&format!("{field}\r\nContent-Length: 2\r\n"), "ok"),
        );
    }
    t.lie("an answer of bare line feeds", "9112 2.2", Own, "HTTP/1.1 200 OK\nContent-Length: 2\n\nok");
}

fn framing(t: &mut Table) {
    let chunks = "2\r\nok\r\n0\r\n\r\n";
    t.lie(
        "an answer with a length and a coding",
        "9112 6.3",
        Own,
        answer("Content-Length: 12\r\nTransfer-Encoding: chunked\r\n", chunks),
    );
    t.lie(
        "an answer with two lengths that differ",
        "9112 6.3",
        Must,
        answer("Content-Length: 2\r\nContent-Length: 3\r\n", "ok"),
    );
    t.lie(
        "an answer with two equal lengths",
        "9112 6.3",
        Own,
        answer("Content-Length: 2\r\nContent-Length: 2\r\n", "ok"),
    );
    for (value, what) in [
        ("2, 3", "two that differ"),
        ("+2", "a sign"),
        ("-2", "a minus"),
        ("2x", "a letter"),
        ("", "nothing"),
        ("0x2", "hexadecimal digits"),
        ("2.0", "a fraction"),
        ("18446744073709551618", "a number beyond 64 bits"),
    ] {
        t.lie(
            &format!("an answer's length of {what}"),
            "9112 6.3",
            Must,
            answer(&format!("Content-Length: {value}\r\n"), "ok"),
        );
    }
    t.lie(
        "an answer's coding of an unknown name",
        "9112 6.3",
        Own,
        answer("Transfer-Encoding: xchunked\r\n", chunks),
    );
    t.lie(
        "an answer's coding of chunked not last",
        "9112 6.3",
        Own,
        answer("Transfer-Encoding: chunked, identity\r\n", chunks),
    );
    t.lie(
        "an answer's coding of chunked twice",
        "9112 6.1",
        Own,
        answer("Transfer-Encoding: chunked, chunked\r\n", chunks),
    );
    t.lie(
        "an answer with two Transfer-Encoding fields",
        "9112 6.1",
        Own,
        answer("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunks),
    );
    t.lie(
        "an answer's Transfer-Encoding in HTTP/1.0",
        "9112 6.1",
        Own,
        format!("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
    );
    t.lie(
        "an answer's coding behind a space before the colon",
        "9112 5.1",
        Own,
        answer("Transfer-Encoding : chunked\r\n", chunks),
    );
    t.lie(
        "204 with a coding",
        "9112 6.1",
        Own,
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    );
}

fn others(t: &mut Table) {
    t.lie(
        "an unrequested 101",
        "9110 15.2.2",
        Must,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    t.lie("interim answers without end", "", Own, "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(2000));
    t.lie(
        "an answer's head of 200 KB",
        "",
        Own,
        answer(&format!("X: {}\r\nContent-Length: 2\r\n", "a".repeat(200_000)), "ok"),
    );
    t.lie(
        "an answer of 2,000 fields",
        "",
        Own,
        answer(&format!("{}Content-Length: 2\r\n", "X: y\r\n".repeat(2000)), "ok"),
    );
    t.script("204 with a length does not hold its connection up", "9110 8.6", Must, |stage| {
        let (mut client, mut upstream, _) = stage.meet(post("Content-Length: 0\r\n", ""))?;
        upstream.send("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello")?;
        let got = client.answer()?;
        // To refuse it is as good.
        if got.status() != 502 {
            check(&got, &[Status(204), Unlisted("content-length", "5")])?;
        }
        match upstream.rest_within(std::time::Duration::from_millis(500)) {
            (_, End::StillOpen) => Err("the backend's connection is kept".into()),
            _ => Ok(()),
        }
    });
}
