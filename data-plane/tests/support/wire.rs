//! A node with every kind of listener, and clients of each kind.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf},
    net::TcpStream,
};
use weir_snapshot::{Config, config::Backend};

use super::{FakeControlPlane, Node, tls::Identity};

/// Kind of listener and protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Http1,
    Http1Tls,
    H2c,
    H2,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Http1, Self::Http1Tls, Self::H2c, Self::H2];
    pub const HTTP1: [Self; 2] = [Self::Http1, Self::Http1Tls];
    pub const HTTP2: [Self; 2] = [Self::H2c, Self::H2];

    pub fn is_http2(self) -> bool {
        Self::HTTP2.contains(&self)
    }
}

/// A bidirectional byte stream.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub type BoxIo = Box<dyn Io>;

/// A node with backends.
pub struct Wire {
    pub control: FakeControlPlane,
    pub node: Node,
    pub identity: Identity,
}

impl Wire {
    pub async fn start(config: Config) -> Self {
        Self::start_with(config, &[]).await
    }

    pub async fn start_with(config: Config, flags: &[&str]) -> Self {
        let identity = Identity::new();
        let control = FakeControlPlane::start(config).await;
        let tls = identity.flags();
        let flags: Vec<&str> = tls.iter().map(String::as_str).chain(flags.iter().copied()).collect();
        let node = Node::start_with(&control.url(), &flags).await;
        node.ready().await;
        Self { control, node, identity }
    }

    /// Opens a connection for the protocol of this kind.
    pub async fn connect(&self, kind: Kind) -> BoxIo {
        let https = || self.node.https.expect("a node with --https");
        match kind {
            Kind::Http1 | Kind::H2c => {
                let stream = TcpStream::connect(self.node.http).await.unwrap();
                stream.set_nodelay(true).unwrap();
                Box::new(stream)
            }
            Kind::Http1Tls => Box::new(self.identity.connect(https(), "http/1.1").await.unwrap()),
            Kind::H2 => Box::new(self.identity.connect(https(), "h2").await.unwrap()),
        }
    }

    /// An HTTP/2 client of the h2 library.
    pub async fn h2(&self, kind: Kind) -> h2::client::SendRequest<Bytes> {
        let io = self.connect(kind).await;
        let (client, connection) = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(8 << 20)
            .handshake(io)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }
}

/// The configuration of one pool with these backends.
pub fn config(urls: &[String]) -> Config {
    let mut config = Config::default();
    config.pools[0].backends = urls
        .iter()
        .enumerate()
        .map(|(n, url)| Backend {
            id: format!("b{}", n + 1),
            url: url.clone(),
            weight: 1,
            state: Default::default(),
        })
        .collect();
    config
}

/// An HTTP/2 stream as a bidirectional byte stream.
pub fn tunnel(mut send: h2::SendStream<Bytes>, mut receive: h2::RecvStream) -> DuplexStream {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (mut from, mut to) = tokio::io::split(far);
    tokio::spawn(async move {
        let mut buffer = vec![0; 1 << 15];
        loop {
            let Ok(read) = from.read(&mut buffer).await else { return };
            if read == 0 {
                let _ = send.send_data(Bytes::new(), true);
                return;
            }
            let mut rest = Bytes::copy_from_slice(&buffer[..read]);
            while !rest.is_empty() {
                send.reserve_capacity(rest.len());
                let Some(Ok(room)) = std::future::poll_fn(|cx| send.poll_capacity(cx)).await else { return };
                let piece = rest.split_to(room.min(rest.len()));
                if send.send_data(piece, false).is_err() {
                    return;
                }
            }
        }
    });
    tokio::spawn(async move {
        while let Some(Ok(bytes)) = receive.data().await {
            if to.write_all(&bytes).await.is_err() {
                return;
            }
            let _ = receive.flow_control().release_capacity(bytes.len());
        }
        let _ = to.shutdown().await;
    });
    near
}

/// Bytes that passed through a connection.
#[derive(Default)]
pub struct Record {
    pub read: Vec<u8>,
    pub written: Vec<u8>,
}

/// A connection that records its bytes.
pub struct Recorder {
    io: BoxIo,
    record: Arc<Mutex<Record>>,
}

impl Recorder {
    pub fn new(io: BoxIo) -> (Self, Arc<Mutex<Record>>) {
        let record = Arc::default();
        (Self { io, record: Arc::clone(&record) }, record)
    }
}

impl AsyncRead for Recorder {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        self.record.lock().unwrap().read.extend_from_slice(&buf.filled()[before..]);
        polled
    }
}

impl AsyncWrite for Recorder {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = &polled {
            self.record.lock().unwrap().written.extend_from_slice(&bytes[..*written]);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
