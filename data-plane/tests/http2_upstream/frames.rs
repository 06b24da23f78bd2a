//! A backend that speaks HTTP/2 frame by frame, so that it can send what a library would not.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use weir_snapshot::{
    Config,
    config::{Backend as Configured, Protocol},
};

use crate::support::{FakeControlPlane, Node, within};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;

/// A frame from the node.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn ends(&self) -> bool {
        self.flags & END_STREAM != 0
    }
}

/// A connection from the node.
pub(crate) struct Peer {
    stream: TcpStream,
    /// Number of the connection, from 0.
    pub(crate) number: usize,
    /// Whether PINGs are answered.
    pub(crate) answers_pings: bool,
    pub(crate) pings: usize,
}

impl Peer {
    /// Writes frames; a closed connection is noticed at the next read.
    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        let _ = self.stream.write_all(&frame).await;
    }

    pub(crate) async fn settings(&mut self, settings: &[(u16, u32)]) {
        let mut payload = Vec::new();
        for (id, value) in settings {
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        self.send(SETTINGS, 0, 0, &payload).await;
    }

    /// `200 OK`, without a body where `ends`.
    pub(crate) async fn answer(&mut self, stream: u32, ends: bool) {
        let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
        self.send(HEADERS, flags, stream, &[0x88]).await;
    }

    pub(crate) async fn end(&mut self, stream: u32) {
        self.send(DATA, END_STREAM, stream, b"").await;
    }

    pub(crate) async fn reset(&mut self, stream: u32, code: u32) {
        self.send(RST_STREAM, 0, stream, &code.to_be_bytes()).await;
    }

    pub(crate) async fn go_away(&mut self, last: u32, code: u32) {
        let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
        self.send(GOAWAY, 0, 0, &payload).await;
    }

    /// The next frame; connection-level frames are answered. `None` once the connection has ended.
    async fn read(&mut self) -> Option<Frame> {
        let mut header = [0; 9];
        self.stream.read_exact(&mut header).await.ok()?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await.ok()?;
        let [kind, flags] = [header[3], header[4]];
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        match kind {
            SETTINGS if flags & ACK == 0 => self.send(SETTINGS, ACK, 0, b"").await,
            PING if flags & ACK == 0 => {
                self.pings += 1;
                if self.answers_pings {
                    self.send(PING, ACK, 0, &payload).await;
                }
            }
            _ => {}
        }
        Some(Frame { kind, flags, stream, payload })
    }

    /// The next frame of a stream; `None` once the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            let frame = self.read().await?;
            if matches!(frame.kind, HEADERS | DATA | RST_STREAM) {
                return Some(frame);
            }
        }
    }

    /// Waits for a PING.
    pub(crate) async fn ping(&mut self) {
        while self.read().await.expect("a PING").kind != PING {}
    }

    /// The number of requests that arrive before the node acknowledges the SETTINGS. They get no response.
    pub(crate) async fn requests_until_acknowledged(&mut self) -> usize {
        let mut requests = 0;
        while let Some(frame) = self.read().await {
            match frame.kind {
                SETTINGS if frame.flags & ACK != 0 => break,
                HEADERS => requests += 1,
                _ => {}
            }
        }
        requests
    }

    /// Closes the sending side and waits for the node to close as well.
    pub(crate) async fn close(&mut self) {
        let _ = self.stream.shutdown().await;
        while self.read().await.is_some() {}
    }

    /// The next request's head.
    pub(crate) async fn request(&mut self) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == HEADERS {
                return Some(frame);
            }
        }
    }

    /// Answers every request until the connection ends; returns the number of requests.
    pub(crate) async fn serve(&mut self) -> usize {
        let mut served = 0;
        while let Some(frame) = self.next().await {
            if frame.kind == RST_STREAM {
                continue;
            }
            if frame.ends() {
                self.answer(frame.stream, true).await;
                served += 1;
            }
        }
        served
    }
}

/// Starts a backend whose connections are handled by `serve`, including their SETTINGS; returns its address.
pub(crate) async fn backend<F: Future<Output = ()> + Send>(
    serve: impl Fn(Peer) -> F + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let serve = Arc::clone(&serve);
            tokio::spawn(async move {
                stream.set_nodelay(true).unwrap();
                let mut preface = [0; 24];
                if stream.read_exact(&mut preface).await.is_ok() {
                    serve(Peer { stream, number, answers_pings: true, pings: 0 }).await;
                }
            });
        }
    });
    address
}

/// A node with such backends.
pub(crate) struct Stage {
    _control: FakeControlPlane,
    pub(crate) node: Node,
}

impl Stage {
    pub(crate) async fn new(backends: &[SocketAddr]) -> Self {
        Self::with(backends, |_| {}).await
    }

    pub(crate) async fn with(backends: &[SocketAddr], change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.pools[0].protocol = Protocol::Http2;
        for (i, address) in backends.iter().enumerate() {
            let url = format!("http://{address}");
            config.pools[0].backends.push(Configured {
                id: format!("b{i}"),
                url,
                weight: 1,
                state: Default::default(),
            });
        }
        change(&mut config);
        let control = FakeControlPlane::start(config).await;
        let node = Node::start(&control.url()).await;
        node.ready().await;
        Self { _control: control, node }
    }

    pub(crate) async fn client(&self) -> TcpStream {
        let stream = TcpStream::connect(self.node.http).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// The response to one request, up to the end of the connection, which the request asks for.
    pub(crate) async fn ask(&self, request: &str) -> String {
        let mut stream = self.client().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        let _ = within(stream.read_to_end(&mut said)).await;
        String::from_utf8_lossy(&said).into_owned()
    }

    /// The status of one request.
    pub(crate) async fn status(&self, request: &str) -> u16 {
        let said = self.ask(request).await;
        said.get(9..12).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{request}: {said:?}"))
    }

    /// A counter of the node; 0 if it does not exist with these labels.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let metrics = self.node.ask("/metrics").await.body;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in:\n{metrics}"))
    }

    /// Failed attempts by this owner.
    pub(crate) async fn failed(&self, owner: &str) -> u64 {
        let metric = format!("weir_node_pool_attempts_failed_total{{pool=\"default\",owner=\"{owner}\"}}");
        self.metric(&metric).await
    }

    /// Asserts that no backend is ejected and the retry budget is unchanged.
    pub(crate) async fn holds_nothing_against_backends(&self) {
        assert_eq!(self.failed("backend").await, 0);
        for name in ["pool_retries_paid", "pool_retries_refused"] {
            assert_eq!(
                self.metric(&format!("weir_node_{name}_total{{pool=\"default\"}}")).await,
                0,
                "{name}"
            );
        }
        let metrics = self.node.ask("/metrics").await.body;
        let ejections = metrics.lines().filter(|line| line.starts_with("weir_node_backend_ejections_total"));
        assert!(ejections.into_iter().all(|line| line.ends_with(" 0")), "{metrics}");
    }
}

pub(crate) const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
pub(crate) const POST: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
