//! A worker between raw sockets: the test plays the client and the backend, byte by byte.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use weir_snapshot::config::{Backend, Config};

use crate::{fleet::Fleet, stats, workers::Workers};

/// A worker whose pool holds the given backends.
struct Proxy {
    workers: Workers,
    fleet: Fleet,
    _keep: Box<dyn std::any::Any>,
}

impl Proxy {
    fn new(backends: &[SocketAddr]) -> Self {
        Self::with(backends, |_| {})
    }

    fn with(backends: &[SocketAddr], change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.pools[0].backends = backends
            .iter()
            .enumerate()
            .map(|(i, address)| Backend {
                id: format!("b{}", i + 1),
                url: format!("http://{address}"),
                weight: 1,
                state: Default::default(),
            })
            .collect();
        change(&mut config);
        let snapshot = Arc::new(weir_snapshot::check(&config).unwrap());
        let (send, rows) = stats::channel();
        let workers = Workers::start(1, "127.0.0.1:0".parse().unwrap(), None, move || {
            stats::recorder(send.clone(), Arc::default())
        })
        .unwrap();
        let fleet = Fleet::default();
        let active = fleet.build(snapshot).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(workers.activate(active));
        Self { workers, fleet, _keep: Box::new(rows) }
    }

    fn client(&self) -> Peer {
        Peer(connect(self.workers.http))
    }

    fn in_flight(&self) -> u32 {
        self.fleet.backends().iter().map(|backend| backend.in_flight()).sum()
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// One end of a connection that a test plays.
struct Peer(TcpStream);

impl Peer {
    fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until what came ends with `end`.
    fn read_until(&mut self, end: &str) -> String {
        let mut read = Vec::new();
        let mut byte = [0];
        while !read.ends_with(end.as_bytes()) {
            match self.0.read(&mut byte) {
                Ok(1) => read.push(byte[0]),
                other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&read)),
            }
        }
        String::from_utf8(read).unwrap()
    }

    fn read_head(&mut self) -> String {
        self.read_until("\r\n\r\n")
    }

    /// Everything up to the end of the connection.
    fn read_all(&mut self) -> String {
        let mut read = Vec::new();
        let result = self.0.read_to_end(&mut read);
        let text = String::from_utf8_lossy(&read).into_owned();
        match result {
            Ok(_) => text,
            Err(error) => format!("{text}<{:?}>", error.kind()),
        }
    }

    /// Reads until what came ends with `end`, or, where that is empty, until the connection ends.
    fn read_all_for(&mut self, end: &str) -> String {
        if end.is_empty() { self.read_all() } else { self.read_until(end) }
    }

    fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0)) || self.0.take_error().is_ok_and(|error| error.is_some())
    }
}

/// A backend that the test plays.
struct Script(TcpListener);

impl Script {
    fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    fn accept(&self) -> Peer {
        let (stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Peer(stream)
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET: &str = "GET /a?b=c HTTP/1.1\r\nHost: Example.com\r\n\r\n";

fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_request_keeps_its_bytes_and_gains_the_forwarded_fields() {
    let backend = Script::new();
    let proxy = Proxy::new(&[backend.address()]);
    let mut client = proxy.client();
    client.send("GET /a%2Fb//c?x=%20 HTTP/1.1\r\nHost: Example.com\r\nX-One: 1\r\nConnection: keep-alive, X-Hop\r\nX-Hop: gone\r\nx-one: 2\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n");
    let mut upstream = backend.accept();
    let head = upstream.read_head();
    assert!(head.starts_with("GET /a%2Fb//c?x=%20 HTTP/1.1\r\nHost: Example.com\r\n"), "{head}");
    assert!(head.find("X-One: 1\r\n") < head.find("x-one: 2\r\n"), "{head}");
    assert!(!head.contains("X-Hop") && !head.contains("6.6.6.6"), "{head}");
    for field in [
        "X-Forwarded-For: 127.0.0.1",
        "X-Real-IP: 127.0.0.1",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: Example.com",
        "Via: 1.1 weir",
        "X-Request-Id: ",
    ] {
        assert!(head.contains(field), "{field}: {head}");
    }
    upstream.send("HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nKeep-Alive: timeout=5\r\n\r\nok");
    let head = client.read_head();
    assert!(head.starts_with("HTTP/1.1 200 Fine\r\n"), "{head}");
    assert!(
        head.contains("Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n") && !head.contains("Keep-Alive"),
        "{head}"
    );
    assert!(head.contains("Date: "), "{head}");
    client.read_until("ok");
}

#[test]
fn connections_are_reused_on_both_sides() {
    let backend = Script::new();
    let proxy = Proxy::new(&[backend.address()]);
    let mut client = proxy.client();
    client.send(GET);
    let mut upstream = backend.accept();
    for _ in 0..3 {
        upstream.read_head();
        upstream.send(OK);
        client.read_until("ok");
        client.send(GET);
    }
    upstream.read_head();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Script::new();
    let proxy = Proxy::new(&[backend.address()]);
    let mut client = proxy.client();
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nxyzGET /3 HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut upstream = backend.accept();
    for n in 1..=3 {
        assert!(upstream.read_head().contains(&format!(" /{n} ")));
        if n == 2 {
            upstream.read_until("xyz");
        }
        upstream.send(&format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{n}"));
        assert!(client.read_until(&format!("\r\n\r\n{n}")).starts_with("HTTP/1.1 200"));
    }
}

#[test]
fn bodies_and_trailers_stream_both_ways() {
    let backend = Script::new();
    let proxy = Proxy::new(&[backend.address()]);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n");
    let mut upstream = backend.accept();
    upstream.read_head();
    // The first piece is there before the second was sent.
    upstream.read_until("3\r\nabc\r\n");
    client.send("2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n");
    upstream.read_until("2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n");
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.read_head();
    upstream.send("4\r\nwxyz\r\n");
    client.read_until("4\r\nwxyz\r\n");
    upstream.send("0\r\nX-Sum: 4\r\n\r\n");
    client.read_until("0\r\nX-Sum: 4\r\n\r\n");
}

#[test]
fn answers_are_framed_as_the_client_can_read_them() {
    for (request, answer, close, expected) in [
        (
            "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
            false,
            "Content-Length: 100",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n",
            false,
            "304",
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n", false, "204"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nabc", true, "3\r\nabc\r\n0\r\n\r\n"),
        (
            "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            false,
            "\r\n\r\nabc",
        ),
    ] {
        let backend = Script::new();
        let proxy = Proxy::new(&[backend.address()]);
        let mut client = proxy.client();
        client.send(&request.replace("HTTP/1.1\r\n", "HTTP/1.1\r\nConnection: close\r\n"));
        let mut upstream = backend.accept();
        upstream.read_head();
        upstream.send(answer);
        if close {
            drop(upstream);
        }
        let got = client.read_all();
        assert!(got.contains(expected), "{request}{answer}: {got}");
    }
}

#[test]
fn interim_answers_are_passed_on() {
    let backend = Script::new();
    let proxy = Proxy::new(&[backend.address()]);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    let mut upstream = backend.accept();
    assert!(upstream.read_head().contains("Expect: 100-continue"));
    upstream.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
    assert!(client.read_head().contains("Link: </a>"));
    assert!(client.read_head().starts_with("HTTP/1.1 100 Continue"));
    client.send("hi");
    upstream.read_until("hi");
    upstream.send(OK);
    client.read_until("ok");
}

#[test]
fn an_answer_before_the_requests_end_is_passed_on_at_once() {
    let backend = Script::new();
    let proxy = Proxy::new(&[backend.address()]);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc");
    let mut upstream = backend.accept();
    upstream.read_until("abc");
    upstream.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
    assert!(client.read_head().starts_with("HTTP/1.1 413"));
    assert!(client.is_closed());
}

#[test]
fn a_connection_closed_while_unused_is_replaced_without_notice() {
    let backend = Script::new();
    let proxy = Proxy::new(&[backend.address()]);
    let mut client = proxy.client();
    client.send(GET);
    let mut upstream = backend.accept();
    upstream.read_head();
    upstream.send(OK);
    client.read_until("ok");
    client.send(GET);
    // The request is there, and the backend gives up its connection without a word.
    upstream.read_head();
    drop(upstream);
    let mut upstream = backend.accept();
    upstream.read_head();
    upstream.send(OK);
    client.read_until("ok");
}

#[test]
fn a_request_that_must_not_be_repeated_is_not() {
    let backend = Script::new();
    let proxy = Proxy::new(&[backend.address()]);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    let mut upstream = backend.accept();
    upstream.read_until("hi");
    drop(upstream);
    assert!(client.read_head().starts_with("HTTP/1.1 502"));
    backend.0.set_nonblocking(true).unwrap();
    assert!(backend.0.accept().is_err());
}

#[test]
fn a_backend_that_refuses_is_passed_over() {
    let (refusing, backend) = (Script::new(), Script::new());
    let proxy = Proxy::new(&[refusing.address(), backend.address()]);
    drop(refusing);
    for _ in 0..4 {
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
        let mut upstream = backend.accept();
        upstream.read_until("hi");
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        client.read_until("ok");
    }
}

#[test]
fn failures_say_what_they_are() {
    let nobody = Script::new().address();
    let proxy = Proxy::new(&[nobody]);
    let mut client = proxy.client();
    client.send(GET);
    assert!(client.read_head().starts_with("HTTP/1.1 503"));

    let proxy = Proxy::new(&[]);
    let mut client = proxy.client();
    client.send(GET);
    assert!(client.read_until("}\n").contains("no active backend"));

    let backend = Script::new();
    let slow = Proxy::with(&[backend.address()], |config| {
        config.pools[0].timeouts.response = "100ms".parse().unwrap();
    });
    let mut client = slow.client();
    client.send(GET);
    let mut upstream = backend.accept();
    upstream.read_head();
    assert!(client.read_head().starts_with("HTTP/1.1 504"));
    assert!(upstream.is_closed());

    for lie in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "hello\r\n\r\n",
        "HTTP/1.1 200 OK\nX: y\n\n",
    ] {
        let mut client = slow.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
        let mut upstream = backend.accept();
        upstream.read_until("x");
        upstream.send(lie);
        assert!(client.read_head().starts_with("HTTP/1.1 502"), "{lie}");
        assert!(upstream.is_closed(), "{lie}");
    }
}

#[test]
fn a_broken_body_never_ends_cleanly() {
    let backend = Script::new();
    let proxy = Proxy::new(&[backend.address()]);
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let mut client = proxy.client();
        client.send(GET);
        let mut upstream = backend.accept();
        upstream.read_head();
        upstream.send(answer);
        client.read_until("abc");
        drop(upstream);
        let rest = client.read_all();
        assert!(!rest.contains("0\r\n\r\n"), "{rest}");
    }
    wait("no request in flight", || proxy.in_flight() == 0);
}

#[test]
fn bytes_after_an_answer_never_reach_the_next_client() {
    let backend = Script::new();
    let proxy = Proxy::new(&[backend.address()]);
    let mut client = proxy.client();
    client.send(GET);
    let mut upstream = backend.accept();
    upstream.read_head();
    upstream.send(&format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"));
    client.read_until("ok");
    client.send(GET);
    let mut upstream = backend.accept();
    upstream.read_head();
    upstream.send(OK);
    assert!(!client.read_until("ok").contains("evil"));
}

#[test]
fn what_is_ambiguous_is_refused_and_the_connection_closed() {
    let backend = Script::new();
    let proxy = Proxy::new(&[backend.address()]);
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        let mut client = proxy.client();
        client.send(request);
        let got = client.read_all();
        assert!(got.starts_with("HTTP/1.1 400 "), "{request:?}: {got}");
    }
}

#[test]
fn a_client_that_leaves_cancels_its_request() {
    let backend = Script::new();
    let proxy = Proxy::new(&[backend.address()]);
    let mut client = proxy.client();
    client.send(GET);
    let mut upstream = backend.accept();
    upstream.read_head();
    drop(client);
    assert!(upstream.is_closed());
    wait("no request in flight", || proxy.in_flight() == 0);
}

#[test]
fn a_half_closed_client_is_served() {
    let backend = Script::new();
    let proxy = Proxy::new(&[backend.address()]);
    let mut client = proxy.client();
    client.send(GET);
    client.0.shutdown(std::net::Shutdown::Write).unwrap();
    let mut upstream = backend.accept();
    upstream.read_head();
    upstream.send(OK);
    client.read_until("ok");
}

#[test]
fn an_upgrade_carries_bytes_both_ways() {
    let backend = Script::new();
    let proxy = Proxy::new(&[backend.address()]);
    let mut client = proxy.client();
    client.send("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    let mut upstream = backend.accept();
    let head = upstream.read_head();
    assert!(
        head.contains("Upgrade: echo\r\n") && head.to_lowercase().contains("connection: upgrade"),
        "{head}"
    );
    upstream.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello");
    assert!(client.read_head().contains("Upgrade: echo\r\n"));
    client.read_until("hello");
    client.send("ping");
    upstream.read_until("ping");
    upstream.send("pong");
    client.read_until("pong");
    client.0.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(upstream.is_closed());
    upstream.send("last");
    drop(upstream);
    assert_eq!(client.read_all(), "last");
}

#[test]
fn a_head_may_come_byte_by_byte_and_must_come_in_time() {
    let backend = Script::new();
    let proxy = Proxy::with(&[backend.address()], |config| {
        config.settings.downstream.header_timeout = "300ms".parse().unwrap();
    });
    let mut client = proxy.client();
    for byte in GET.as_bytes() {
        client.0.write_all(&[*byte]).unwrap();
    }
    let mut upstream = backend.accept();
    upstream.read_head();
    upstream.send(OK);
    client.read_until("ok");

    let mut slow = proxy.client();
    slow.send("GET / HTTP/1.1\r\nHost:");
    assert!(slow.read_all().starts_with("HTTP/1.1 408"));
    // The idle timeout is for connections that had a request.
    assert_eq!(proxy.client().read_all(), "");
}

#[test]
fn an_event_stream_may_be_silent_for_longer_than_an_answer_may_take() {
    let backend = Script::new();
    let proxy = Proxy::with(&[backend.address()], |config| {
        config.pools[0].timeouts.response = "100ms".parse().unwrap();
        config.pools[0].timeouts.response_body = "100ms".parse().unwrap();
    });
    for (content_type, lives) in [("text/event-stream", true), ("text/plain", false)] {
        let mut client = proxy.client();
        client.send(GET);
        let mut upstream = backend.accept();
        upstream.read_head();
        upstream.send(&format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n"
        ));
        client.read_until("4\r\none\n\r\n");
        // Another request's deadline passes meanwhile.
        let mut other = proxy.client();
        other.send(GET);
        let mut silent = backend.accept();
        silent.read_head();
        assert!(other.read_head().starts_with("HTTP/1.1 504"));
        upstream.0.write_all(b"4\r\ntwo\n\r\n").unwrap();
        let more = client.read_all_for(if lives { "two\n\r\n" } else { "" });
        assert_eq!(more.contains("two"), lives, "{content_type}: {more}");
    }
}

#[test]
fn a_name_uses_its_next_address_when_the_one_in_use_accepts_no_connection() {
    let (dead, live) = (Script::new().address(), Script::new());
    let proxy = Proxy::with(&[live.address()], |config| {
        config.pools[0].backends[0].url = "http://books.invalid:80".into();
    });
    let state = proxy.fleet.backends().pop().unwrap();
    let permit = crate::pool::addresses::AddressPolicy::default();
    assert!(state.set_addresses(vec![dead, live.address()], &permit));
    let mut client = proxy.client();
    for n in 0..2 {
        // Not idempotent, and asked once: the connection alone was tried again.
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        let mut backend = live.accept();
        backend.read_head();
        backend.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        drop(backend);
        assert!(client.read_until("ok").starts_with("HTTP/1.1 200"), "{n}");
        assert_eq!(state.addresses().in_use(), Some(live.address()));
    }
    // The same answer of the name server keeps what is in use; when that is gone, all are tried.
    assert!(!state.set_addresses(vec![dead, live.address()], &permit));
    drop(live);
    client.send(GET);
    let answer = client.read_head();
    assert!(answer.starts_with("HTTP/1.1 502") || answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[test]
fn a_backend_that_is_down_gets_no_request_where_there_is_a_fallback() {
    use weir_snapshot::config::{Fallback, Panic};
    let backend = Script::new();
    let with = |panic: Panic, has_fallback: bool| {
        let proxy = Proxy::with(&[backend.address()], |config| {
            config.pools[0].panic = panic;
            let fallback = Fallback { status: Some(503), body: Some("back soon".into()), pool: None };
            config.routes[0].fallback = has_fallback.then_some(fallback);
        });
        proxy.fleet.set_health(false, [("b1".to_owned(), crate::pool::backend::Health::Down)].into());
        let mut client = proxy.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        (proxy, client)
    };
    backend.0.set_nonblocking(true).unwrap();
    for panic in [Panic::default(), Panic::Off] {
        let (proxy, mut client) = with(panic, true);
        let answer = client.read_all();
        assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("back soon"), "{panic:?}: {answer}");
        assert!(backend.0.accept().is_err(), "{panic:?}: the backend was asked");
        // It answers again as soon as health says so.
        proxy.fleet.set_health(false, [("b1".to_owned(), crate::pool::backend::Health::Up)].into());
        backend.0.set_nonblocking(false).unwrap();
        let mut client = proxy.client();
        client.send(GET);
        let mut peer = backend.accept();
        peer.read_head();
        peer.send(OK);
        assert!(client.read_until("ok").starts_with("HTTP/1.1 200"));
        backend.0.set_nonblocking(true).unwrap();
    }
    let (_proxy, mut client) = with(Panic::Off, false);
    let answer = client.read_all();
    assert!(answer.starts_with("HTTP/1.1 503") && backend.0.accept().is_err(), "{answer}");
    backend.0.set_nonblocking(false).unwrap();
    let (_proxy, mut client) = with(Panic::default(), false);
    let mut peer = backend.accept();
    peer.read_head();
    peer.send(OK);
    assert!(client.read_all().ends_with("ok"), "without a fallback panic mode uses it");
}
