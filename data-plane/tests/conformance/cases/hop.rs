//! Fields of one hop are not forwarded, in both directions (RFC 9110, 7.6.1).

use crate::case::{
    Check::{self, Body, Has, Is, Lists, No, Status, Unlisted},
    Level::{Must, Own, Should},
    OK, Table, answer, get, post,
};

const FINE: &[Check] = &[Status(200), Body("ok")];

pub(super) fn table() -> Table {
    let mut t = Table::new("Hop by hop");
    requests(&mut t);
    answers(&mut t);
    t
}

fn requests(t: &mut Table) {
    t.exchange(
        "Connection is not passed on",
        "9110 7.6.1",
        Must,
        (get("Connection: keep-alive, x-any\r\n"), OK),
        &[Unlisted("connection", "x-any")],
        FINE,
    );
    t.exchange(
        "what Connection nominates is removed",
        "9110 7.6.1",
        Must,
        (get("Connection: X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\n"), OK),
        &[No("x-hop"), Is("x-end", "2")],
        FINE,
    );
    t.exchange("what several Connection fields nominate is removed", "9110 7.6.1", Must, (get("Connection: X-One\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\nConnection: ,x-two ,, X-THREE,\r\n"), OK), &[No("x-one"), No("x-two"), No("x-three")], FINE);
    t.exchange(
        "a nominated field is removed on each of its lines",
        "9110 7.6.1",
        Must,
        (get("X-Hop: 1\r\nConnection: x-hop\r\nx-hop: 2\r\n"), OK),
        &[No("x-hop")],
        FINE,
    );
    t.exchange(
        "Keep-Alive is removed",
        "9110 7.6.1",
        Must,
        (get("Keep-Alive: timeout=5\r\nConnection: keep-alive\r\n"), OK),
        &[No("keep-alive")],
        FINE,
    );
    t.exchange(
        "Proxy-Connection is removed",
        "9110 7.6.1",
        Must,
        (get("Proxy-Connection: keep-alive\r\n"), OK),
        &[No("proxy-connection")],
        FINE,
    );
    t.exchange(
        "Proxy-Authorization ends here",
        "9110 11.7.2",
        Own,
        (get("Proxy-Authorization: Basic eDp5\r\n"), OK),
        &[No("proxy-authorization")],
        FINE,
    );
    t.exchange(
        "TE for another coding is removed",
        "9110 10.1.4",
        Must,
        (get("TE: gzip;q=0.5\r\nConnection: TE\r\n"), OK),
        &[No("te")],
        FINE,
    );
    t.exchange(
        "TE: trailers is passed on",
        "9110 6.5.1",
        Should,
        (get("TE: gzip, trailers\r\nConnection: TE\r\n"), OK),
        &[Is("te", "trailers"), Lists("connection", "te")],
        FINE,
    );
    t.exchange(
        "Upgrade that Connection does not nominate is removed",
        "9110 7.8",
        Must,
        (get("Upgrade: websocket\r\n"), OK),
        &[No("upgrade")],
        FINE,
    );
    t.exchange(
        "an offer of h2c is not passed on",
        "9113 3.1",
        Own,
        (
            get(
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
            ),
            OK,
        ),
        &[No("upgrade"), No("http2-settings"), Unlisted("connection", "upgrade")],
        FINE,
    );
    t.exchange(
        "an offer of h2c among others is not passed on",
        "9113 3.1",
        Own,
        (get("Connection: Upgrade\r\nUpgrade: websocket, H2C\r\n"), OK),
        &[Unlisted("upgrade", "h2c")],
        FINE,
    );
    t.exchange(
        "Upgrade in HTTP/1.0 is ignored",
        "9110 7.8",
        Must,
        ("GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", OK),
        &[No("upgrade")],
        FINE,
    );
    t.exchange(
        "close of the client is not close of the backend",
        "9112 9.6",
        Own,
        (get("Connection: close\r\n"), OK),
        &[Unlisted("connection", "close")],
        FINE,
    );
    t.exchange(
        "Host cannot be nominated away",
        "9110 7.6.1",
        Own,
        (get("Connection: host\r\n"), OK),
        &[Is("host", "a.example")],
        FINE,
    );
    t.exchange(
        "X-Forwarded-For cannot be nominated away",
        "",
        Own,
        (get("Connection: x-forwarded-for, x-real-ip\r\n"), OK),
        &[Is("x-forwarded-for", "127.0.0.1"), Is("x-real-ip", "127.0.0.1")],
        FINE,
    );
    t.exchange(
        "Via cannot be nominated away",
        "9110 7.6.3",
        Own,
        (get("Connection: via\r\nVia: 1.1 first\r\n"), OK),
        &[Lists("via", "1.1 first")],
        FINE,
    );
    t.exchange(
        "Content-Length cannot be nominated away",
        "9112 6.3",
        Must,
        (post("Connection: Content-Length\r\nContent-Length: 5\r\n", "hello"), OK),
        &[Body("hello")],
        FINE,
    );
    t.exchange(
        "Transfer-Encoding cannot be nominated away",
        "9112 6.3",
        Must,
        (
            post(
                "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
            OK,
        ),
        &[Body("hello")],
        FINE,
    );
}

fn answers(t: &mut Table) {
    t.exchange(
        "an answer's nominated fields are removed",
        "9110 7.6.1",
        Must,
        (
            get(""),
            answer("Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nX-End: 2\r\nContent-Length: 2\r\n", "ok"),
        ),
        &[],
        &[No("x-hop"), Unlisted("connection", "x-hop"), Is("x-end", "2")],
    );
    t.exchange(
        "an answer's Keep-Alive is removed",
        "9110 7.6.1",
        Must,
        (get(""), answer("Keep-Alive: timeout=77\r\nConnection: keep-alive\r\nContent-Length: 2\r\n", "ok")),
        &[],
        &[KEEP_ALIVE_IS_OUR_OWN],
    );
    t.exchange(
        "an answer's Proxy-Connection is removed",
        "9110 7.6.1",
        Must,
        (get(""), answer("Proxy-Connection: keep-alive\r\nContent-Length: 2\r\n", "ok")),
        &[],
        &[No("proxy-connection")],
    );
    t.exchange(
        "an answer's Upgrade offer is removed",
        "9110 7.8",
        Must,
        (get(""), answer("Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 2\r\n", "ok")),
        &[],
        &[No("upgrade"), Unlisted("connection", "upgrade")],
    );
    t.exchange(
        "an answer's Proxy-Authenticate ends here",
        "9110 11.7.1",
        Own,
        (get(""), answer("Proxy-Authenticate: Basic\r\nContent-Length: 2\r\n", "ok")),
        &[],
        &[No("proxy-authenticate")],
    );
    t.exchange(
        "close of the backend is not close of the client",
        "9112 9.6",
        Own,
        (get(""), answer("Connection: close\r\nContent-Length: 2\r\n", "ok")),
        &[],
        &[Unlisted("connection", "close"), Body("ok"), Check::Open],
    );
    t.exchange(
        "WWW-Authenticate is kept",
        "9110 11.6.1",
        Must,
        (
            get(""),
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n",
        ),
        &[],
        &[Status(401), Is("www-authenticate", "Basic realm=\"x\""), Has("content-length")],
    );
}

/// A proxy may say its own; the backend's value must not get through.
const KEEP_ALIVE_IS_OUR_OWN: Check = Unlisted("keep-alive", "timeout=77");
