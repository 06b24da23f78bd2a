//! Requests whose end could be found in two places (RFC 9112, 6.3 and 11.2): refused, never guessed.

use crate::case::{
    Level::{Must, Own, Should},
    Table, get, post,
};

const BAD: &[u16] = &[400];
/// A coding that is not known may be refused as not implemented.
const CODING: &[u16] = &[400, 422, 501];

pub(super) fn table() -> Table {
    let mut t = Table::new("Ambiguous framing refused");
    lengths(&mut t);
    codings(&mut t);
    t
}

fn lengths(t: &mut Table) {
    let body = "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n";
    t.refused(
        "Content-Length with Transfer-Encoding",
        "9112 6.1",
        Own,
        BAD,
        post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", &format!("0\r\n\r\n{body}")),
    );
    t.refused(
        "Transfer-Encoding with Content-Length",
        "9112 6.1",
        Own,
        BAD,
        post("Transfer-Encoding: chunked\r\nContent-Length: 6\r\n", &format!("0\r\n\r\n{body}")),
    );
    t.refused(
        "two lengths that differ",
        "9112 6.3",
        Must,
        BAD,
        post("Content-Length: 0\r\nContent-Length: 30\r\n", body),
    );
    t.refused(
        "two lengths that differ in a list",
        "9112 6.3",
        Must,
        BAD,
        post("Content-Length: 0, 30\r\n", body),
    );
    t.refused(
        "two equal lengths",
        "9112 6.3",
        Own,
        BAD,
        post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
    );
    t.refused("two equal lengths in a list", "9112 6.3", Own, BAD, post("Content-Length: 5, 5\r\n", "hello"));
    for (value, what) in [
        ("+5", "a sign"),
        ("-5", "a minus"),
        ("5a", "a letter behind"),
        ("a5", "a letter before"),
        ("0x5", "hexadecimal digits"),
        ("5 5", "two numbers"),
        ("", "nothing"),
        ("5.0", "a fraction"),
        ("5e0", "an exponent"),
        ("5;", "a parameter"),
        ("\"5\"", "quotes"),
        ("18446744073709551621", "a number beyond 64 bits"),
        ("99999999999999999999999", "a number beyond any"),
        ("5,", "a list that ends in a comma"),
        (",5", "a list that begins with a comma"),
        ("5_0", "an underscore"),
    ] {
        t.refused(
            &format!("a length of {what}"),
            "9110 8.6",
            Must,
            BAD,
            post(&format!("Content-Length: {value}\r\n"), "hello"),
        );
    }
    t.refused(
        "a length of 2^63",
        "9110 8.6",
        Own,
        &[400, 413],
        post("Content-Length: 9223372036854775808\r\n", "hello"),
    );
    t.refused(
        "a length after a space before the colon",
        "9112 5.1",
        Must,
        BAD,
        post("Content-Length : 5\r\n", "hello"),
    );
    t.refused(
        "a length after a tab before the colon",
        "9112 5.1",
        Must,
        BAD,
        post("Content-Length\t: 5\r\n", "hello"),
    );
    t.refused("a length with a tab beside it", "", Own, BAD, post("Content-Length:\t5\r\n", "hello"));
    t.refused(
        "a length with a vertical tab beside it",
        "9110 5.5",
        Must,
        BAD,
        post("Content-Length: \x0b5\r\n", "hello"),
    );
    t.refused("a length with NUL behind it", "9110 5.5", Must, BAD, post("Content-Length: 5\0\r\n", "hello"));
    t.refused(
        "a length folded to the next line",
        "9112 5.2",
        Own,
        BAD,
        post("Content-Length:\r\n 5\r\n", "hello"),
    );
}

fn codings(t: &mut Table) {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    for (value, what, level) in [
        ("xchunked", "an unknown name", Must),
        ("chunke", "a cut name", Must),
        ("chunked, chunked", "chunked twice", Own),
        ("chunked, identity", "chunked not last", Must),
        ("chunked, gzip", "chunked under gzip", Must),
        ("identity", "identity", Must),
        ("identity, chunked", "identity before chunked", Should),
        ("gzip", "gzip alone", Must),
        ("\"chunked\"", "quotes", Must),
        ("chunked;q=1", "a parameter", Must),
        ("", "nothing", Own),
        ("chunked foo", "two words", Must),
        ("x, chunked", "an unknown name before chunked", Should),
    ] {
        t.refused(
            &format!("a coding of {what}"),
            "9112 6.3",
            level,
            CODING,
            post(&format!("Transfer-Encoding: {value}\r\n"), body),
        );
    }
    t.refused(
        "a coding of an empty member and chunked",
        "9110 5.6.1",
        Own,
        CODING,
        post("Transfer-Encoding: ,chunked\r\n", body),
    );
    t.refused(
        "a coding that is not implemented",
        "9112 6.1",
        Should,
        CODING,
        post("Transfer-Encoding: gzip, chunked\r\n", body),
    );
    t.refused(
        "two Transfer-Encoding fields",
        "9112 6.3",
        Must,
        CODING,
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", body),
    );
    t.refused(
        "two Transfer-Encoding fields of chunked",
        "9112 6.1",
        Own,
        CODING,
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", body),
    );
    t.refused(
        "a coding after a space before the colon",
        "9112 5.1",
        Must,
        BAD,
        post("Transfer-Encoding : chunked\r\n", body),
    );
    t.refused("a coding with a tab beside it", "", Own, BAD, post("Transfer-Encoding:\tchunked\r\n", body));
    t.refused(
        "a coding with a vertical tab beside it",
        "9110 5.5",
        Must,
        CODING,
        post("Transfer-Encoding: \x0bchunked\r\n", body),
    );
    t.refused(
        "a coding with NUL behind it",
        "9110 5.5",
        Must,
        CODING,
        post("Transfer-Encoding: chunked\0\r\n", body),
    );
    t.refused(
        "a coding folded to the next line",
        "9112 5.2",
        Own,
        CODING,
        post("Transfer-Encoding:\r\n chunked\r\n", body),
    );
    t.refused(
        "a coding on a folded line of another field",
        "9112 5.2",
        Own,
        CODING,
        post("X: y\r\n Transfer-Encoding: chunked\r\n", body),
    );
    t.refused(
        "a coding behind a bare line feed",
        "9112 2.2",
        Own,
        BAD,
        post("X: y\nTransfer-Encoding: chunked\r\n", body),
    );
    t.refused(
        "a coding behind a bare carriage return",
        "9112 2.2",
        Own,
        BAD,
        post("X: y\rTransfer-Encoding: chunked\r\n", body),
    );
    t.refused(
        "a coding with a bare carriage return behind it",
        "9112 2.2",
        Own,
        CODING,
        post("Transfer-Encoding: chunked\r \r\n", body),
    );
    let mut high = post("Transfer-Encoding: chunkedX\r\n", body).into_bytes();
    if let Some(at) = high.iter().position(|byte| *byte == b'X') {
        high[at] = 0xff;
    }
    t.refused("a coding with a byte beyond ASCII", "9112 6.3", Must, CODING, high);
    t.refused(
        "Transfer-Encoding in HTTP/1.0",
        "9112 6.1",
        Own,
        BAD,
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    );
    t.refused("Transfer-Encoding and a length in HTTP/1.0", "9112 6.1", Own, BAD, "POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    t.refused(
        "GET with a length and a coding",
        "9112 6.1",
        Own,
        BAD,
        get("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n",
    );
}
