//! Malformed chunks in requests (RFC 9112, 7.1): the request is never completed, and the connection is closed.

use crate::case::{
    Check::Status,
    Level::{Must, Own},
    Table, check, post,
};

pub(super) fn table() -> Table {
    let mut t = Table::new("Malformed chunks refused");
    for (body, what, level) in [
        ("x\r\nabc\r\n0\r\n\r\n", "a size that is no number", Must),
        ("\r\nabc\r\n0\r\n\r\n", "no size", Must),
        ("-3\r\nabc\r\n0\r\n\r\n", "a negative size", Must),
        ("+3\r\nabc\r\n0\r\n\r\n", "a size with a sign", Must),
        ("0x3\r\nabc\r\n0\r\n\r\n", "a size with a prefix", Must),
        ("3_0\r\nabc\r\n0\r\n\r\n", "a size with an underscore", Must),
        (" 3\r\nabc\r\n0\r\n\r\n", "a space before the size", Must),
        ("3 \r\nabc\r\n0\r\n\r\n", "a space behind the size", Own),
        ("3\t\r\nabc\r\n0\r\n\r\n", "a tab behind the size", Own),
        ("3 3\r\nabc\r\n0\r\n\r\n", "two sizes", Must),
        ("10000000000000003\r\nabc\r\n0\r\n\r\n", "a size beyond 64 bits", Must),
        ("FFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n", "a size of 2^64-1", Own),
        ("8000000000000000\r\nabc\r\n0\r\n\r\n", "a size of 2^63", Own),
        ("3\nabc\r\n0\r\n\r\n", "a bare line feed behind the size", Own),
        ("3\rabc\r\n0\r\n\r\n", "a bare carriage return behind the size", Own),
        ("3\r\nabc\n0\r\n\r\n", "a bare line feed behind the data", Own),
        ("3\r\nabc0\r\n\r\n", "no line end behind the data", Must),
        ("3\r\nabcd\r\n0\r\n\r\n", "more data than its size", Must),
        ("3\r\nabcX\n0\r\n\r\n", "other bytes in place of the line end", Must),
        ("3;a\nb\r\nabc\r\n0\r\n\r\n", "a bare line feed in an extension", Own),
        ("3;a\rb\r\nabc\r\n0\r\n\r\n", "a bare carriage return in an extension", Own),
        ("3;a\0\r\nabc\r\n0\r\n\r\n", "NUL in an extension", Own),
        ("3;a=\"\r\nabc\r\n0\r\n\r\n", "an open quote in an extension", Own),
        ("3\r\nabc\r\n0\r\nX\r\n\r\n", "a trailer without a colon", Must),
        ("3\r\nabc\r\n0\r\nX : y\r\n\r\n", "a space before a trailer's colon", Must),
        ("3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n", "a folded trailer", Own),
        ("3\r\nabc\r\n0\r\nX: y\n\r\n", "a bare line feed behind a trailer", Own),
        ("3\r\nabc\r\n0\r\nX: \0\r\n\r\n", "NUL in a trailer", Must),
        ("3\r\nabc\r\n0\r\n\n", "a bare line feed at the end", Own),
        ("3\r\nabc\r\n0\n\r\n", "a bare line feed behind the last size", Own),
        ("3\r\nabc\r\n00x0\r\n\r\n", "a last size that is no number", Must),
    ] {
        t.bad_body(&format!("a chunk with {what}"), "9112 7.1", level, body);
    }
    t.bad_body(
        "an extension of 100 KB",
        "9112 7.1.1",
        Own,
        format!("3;{}\r\nabc\r\n0\r\n\r\n", "a".repeat(100_000)),
    );
    t.bad_body(
        "trailers of 100 KB",
        "9110 6.5",
        Own,
        format!("3\r\nabc\r\n0\r\n{}\r\n", "X-A: b\r\n".repeat(13_000)),
    );
    t.script("a bad chunk is answered with 400", "9112 7.1", Own, |stage| {
        let mut client = stage.client_with(post("Transfer-Encoding: chunked\r\n", "x\r\n"))?;
        check(&client.answer()?, &[Status(400)])?;
        client.expect_closed()
    });
    t.script("a bad chunk after good ones is answered with 400", "9112 7.1", Own, |stage| {
        let mut client = stage.client_with(post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n"))?;
        let mut upstream = stage.backend()?;
        upstream.until("abc")?;
        client.send("x\r\n")?;
        check(&client.answer()?, &[Status(400)])?;
        client.expect_closed()
    });
    t
}
