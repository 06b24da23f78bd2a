//! Clients and backends that stall: each is disconnected at its configured timeout, and another client is served
//! meanwhile.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    backend::Backend,
    stage::{Stage, gauge, status_of},
};
use crate::support::{DEADLINE, node::program};

/// Time by which a timeout of `SHORT` has certainly expired, and a default timeout has not.
const SOON: Duration = Duration::from_secs(8);

/// A client that sends something and then nothing more, or a little data forever.
struct Slow {
    name: &'static str,
    says: &'static [u8],
    then: &'static [u8],
}

const fn slow(name: &'static str, says: &'static [u8], then: &'static [u8]) -> Slow {
    Slow { name, says, then }
}

const HTTP1: [Slow; 13] = [
    slow("nothing", b"", b""),
    slow("an empty line", b"\r\n", b""),
    slow("a part of a request line", b"GET /", b""),
    slow("a target that goes on", b"GET /", b"a"),
    slow("a field that goes on", b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"a"),
    slow("fields that go on", b"GET / HTTP/1.1\r\nHost: a\r\n", b"X:y\r\n"),
    slow("the first words of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", b""),
    slow("a head and no body", b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", b""),
    slow("half a body", b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhell", b""),
    slow(
        "half a chunk",
        b"POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell",
        b"",
    ),
    slow(
        "half a chunk's size",
        b"POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=",
        b"",
    ),
    slow(
        "half the trailers",
        b"POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n",
        b"",
    ),
    slow("a request and half a head", b"GET /length HTTP/1.1\r\nHost: a\r\n\r\nGET / HT", b""),
];

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HTTP2: [Slow; 9] = [
    slow("a preface", PREFACE, b""),
    slow("a preface and settings", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", b""),
    slow("half a frame", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x06\x01\x05\0\0\0\x01\x82", b""),
    slow(
        "fields without their end",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x06\x01\x01\0\0\0\x01\x82\x86\x84\x41\x01a",
        b"",
    ),
    slow(
        "continuations that go on",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x06\x01\x01\0\0\0\x01\x82\x86\x84\x41\x01a",
        b"\0\0\0\x09\0\0\0\0\x01",
    ),
    slow(
        "a request without its body",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x06\x01\x04\0\0\0\x01\x83\x86\x84\x41\x01a",
        b"",
    ),
    slow(
        "a request whose answer it never has room for",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0\0\0\x0c\x01\x05\0\0\0\x01\x82\x86\x44\x05/huge\x41\x01a",
        b"",
    ),
    // The acknowledgements answer the pings with which h2 checks the client.
    slow(
        "a request whose answer it never has room for, and every ping answered",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0\0\0\x0c\x01\x05\0\0\0\x01\x82\x86\x44\x05/huge\x41\x01a",
        b"\0\0\x08\x06\x01\0\0\0\0\x3b\x7c\xdb\x7a\x0b\x87\x16\xb4",
    ),
    slow(
        "settings and pings for ever",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"\0\0\x08\x06\0\0\0\0\0pingpong",
    ),
];

/// Parts of a TLS client's first bytes: a record header and a part of a ClientHello.
const TLS: [Slow; 4] = [
    slow("nothing to TLS", b"", b""),
    slow("half a record's head to TLS", b"\x16\x03\x01", b""),
    slow("half a ClientHello", b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03", b""),
    slow("a ClientHello that goes on", b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03", b"a"),
];

/// Sends the data and waits for the end of the connection.
async fn stall(address: SocketAddr, slow: &Slow) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(slow.says).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let dripping = async {
        while !slow.then.is_empty() && to.write_all(slow.then).await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
        std::future::pending::<()>().await;
    };
    let ended = async {
        let mut buffer = [0; 4096];
        while from.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    };
    let either = async {
        tokio::select! {
            () = dripping => {}
            () = ended => {}
        }
    };
    assert!(timeout(SOON, either).await.is_ok(), "{} is still there", slow.name);
}

/// A client that is served during the test.
struct Served {
    stop: Arc<Notify>,
    task: tokio::task::JoinHandle<(u32, u32)>,
}

impl Served {
    async fn by(stage: &Stage) -> Self {
        let stop = Arc::new(Notify::new());
        let (node, stopped) = (stage.node.http, Arc::clone(&stop));
        let mut stream = stage.client().await;
        let task = tokio::spawn(async move {
            let (mut served, mut missed) = (0, 0);
            loop {
                match timeout(DEADLINE, ask(&mut stream)).await {
                    Ok(Ok(())) => served += 1,
                    _ => {
                        missed += 1;
                        stream = TcpStream::connect(node).await.unwrap();
                    }
                }
                tokio::select! {
                    () = stopped.notified() => return (served, missed),
                    () = sleep(Duration::from_millis(10)) => {}
                }
            }
        });
        Self { stop, task }
    }

    /// On a busy machine, this client or its backend may itself exceed a timeout now and then.
    async fn ended_well(self) {
        self.stop.notify_one();
        let (served, missed) = self.task.await.unwrap();
        assert!(served > 10 && missed <= served / 10, "{served} served, {missed} not");
    }
}

/// One exchange on a connection that is kept.
async fn ask(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"GET /length HTTP/1.1\r\nHost: a\r\n\r\n").await?;
    let mut said = Vec::new();
    while !said.ends_with(b"\r\n\r\nhello") {
        said.push(stream.read_u8().await?);
    }
    if said.starts_with(b"HTTP/1.1 200 ") { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

async fn all_end(stage: &Stage, address: SocketAddr, clients: &'static [Slow]) {
    let served = Served::by(stage).await;
    let mut tasks = tokio::task::JoinSet::new();
    for slow in clients {
        tasks.spawn(stall(address, slow));
    }
    let mut failed = Vec::new();
    while let Some(done) = tasks.join_next().await {
        failed.extend(done.err().map(|error| error.to_string()));
    }
    assert!(failed.is_empty(), "{failed:#?}");
    served.ended_well().await;
    stage.at_rest().await;
}

#[tokio::test]
async fn clients_that_stall_in_http1_are_cut_off_while_another_is_served() {
    let backend = Backend::start().await;
    let stage = Stage::new(backend.address).await;
    all_end(&stage, stage.node.http, &HTTP1).await;
}

#[tokio::test]
async fn clients_that_stall_in_http2_are_cut_off_while_another_is_served() {
    let backend = Backend::start().await;
    let stage = Stage::new(backend.address).await;
    all_end(&stage, stage.node.http, &HTTP2).await;
}

#[tokio::test]
async fn clients_that_stall_in_their_tls_handshake_are_cut_off_while_another_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let flags = ["--https", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key];
    let backend = Backend::start().await;
    let stage = Stage::by(program(), backend.address, &flags).await;
    all_end(&stage, stage.node.https.unwrap(), &TLS).await;
}

#[tokio::test]
async fn clients_that_never_read_are_cut_off_while_another_is_served() {
    let backend = Backend::start().await;
    let stage = Stage::new(backend.address).await;
    let served = Served::by(&stage).await;
    // Its single request is open all the time; the other connections come in addition.
    let only_the_served = |metrics: &str| gauge(metrics, "weir_node_connections") == 1;
    for says in [
        &b"GET /huge HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"GET /huge HTTP/1.0\r\nHost: a\r\n\r\n",
        b"POST /huge HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(stage.node.http).await.unwrap();
        stream.write_all(says).await.unwrap();
        stage.node.ask_until("/metrics", |answer| gauge(&answer.body, "weir_node_connections") == 2).await;
        let cut = stage.node.ask_until("/metrics", |answer| only_the_served(&answer.body));
        timeout(SOON, cut).await.unwrap_or_else(|_| panic!("still there: {}", says.escape_ascii()));
        drop(stream);
    }
    // Requests without end, whose responses are not read.
    let mut stream = stage.client().await;
    let pipelined =
        async { while stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.is_ok() {} };
    timeout(SOON, pipelined).await.expect("the end of requests whose answers are not read");
    served.ended_well().await;
    stage.at_rest().await;
}

#[tokio::test]
async fn backends_that_answer_byte_by_byte_run_into_the_deadline_of_their_head() {
    let backend = Backend::start().await;
    let stage = Stage::new(backend.address).await;
    let served = Served::by(&stage).await;
    for path in ["/chunked/drip", "/hints/drip"] {
        let status = timeout(SOON, status_of(stage.node.http, path)).await.expect("an answer in time");
        assert_eq!(status, 504, "{path}");
    }
    served.ended_well().await;
    stage.at_rest().await;
}
