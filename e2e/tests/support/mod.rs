//! Backends and clients with behaviour that the mocks and the usual client do not have.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    body_bytes: AtomicU64,
}

/// A backend with fixed behaviour that counts its requests.
pub(crate) struct Origin {
    address: std::net::SocketAddr,
    counts: Arc<Counts>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Origin {
    /// Answers every request with this status.
    pub(crate) fn answering(status: u16) -> Self {
        Self::start(Some(status))
    }

    /// Closes the connection after reading a request.
    pub(crate) fn breaking() -> Self {
        Self::start(None)
    }

    fn start(status: Option<u16>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let counts = Arc::<Counts>::default();
        let counting = Arc::clone(&counts);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, status, Arc::clone(&counting)));
            }
        });
        Self { address, counts, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests received, including their bodies.
    pub(crate) fn requests(&self) -> u64 {
        self.counts.requests.load(Relaxed)
    }

    /// Bytes of the received bodies.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.counts.body_bytes.load(Relaxed)
    }
}

async fn serve(mut stream: TcpStream, status: Option<u16>, counts: Arc<Counts>) {
    let mut input = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = input.windows(4).position(|part| part == b"\r\n\r\n") {
                break String::from_utf8_lossy(&input.drain(..end + 4).collect::<Vec<_>>())
                    .to_ascii_lowercase();
            }
            if stream.read_buf(&mut input).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .map_or(0, |length| length.trim().parse().unwrap());
        while input.len() < length {
            if stream.read_buf(&mut input).await.unwrap_or(0) == 0 {
                return;
            }
        }
        input.drain(..length);
        counts.requests.fetch_add(1, Relaxed);
        counts.body_bytes.fetch_add(length as u64, Relaxed);
        let Some(status) = status else { return };
        let answer = format!("HTTP/1.1 {status} Status\r\nContent-Length: 2\r\n\r\nok");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Sets the simulated faults of a mock.
pub(crate) async fn set_faults(mock: &str, faults: &str) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(mock).await?;
    let length = faults.len();
    let request = format!(
        "PUT /faults HTTP/1.1\r\nHost: {mock}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{faults}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    anyhow::ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

/// A client that keeps its session cookie.
#[derive(Debug, Default)]
pub(crate) struct Visitor {
    /// `name=value`.
    pub(crate) cookie: Option<String>,
}

impl Visitor {
    /// Sends a GET; returns the status and the mock that answered.
    pub(crate) async fn get(&mut self, address: &str, path: &str) -> anyhow::Result<(u16, String)> {
        let exchange = async {
            let stream = TcpStream::connect(address).await?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            let connection = tokio::spawn(connection);
            let mut request = Request::get(path).header("host", address).header("connection", "close");
            if let Some(cookie) = &self.cookie {
                request = request.header("cookie", cookie);
            }
            let (parts, body) = sender.send_request(request.body(Empty::<Bytes>::new())?).await?.into_parts();
            body.collect().await?;
            connection.abort();
            if let Some(cookie) = parts.headers.get("set-cookie") {
                self.cookie = cookie.to_str()?.split(';').next().map(str::to_owned);
            }
            let backend = parts.headers.get("x-backend").and_then(|name| name.to_str().ok());
            Ok((parts.status.as_u16(), backend.unwrap_or_default().to_owned()))
        };
        tokio::time::timeout(Duration::from_secs(30), exchange).await?
    }
}
