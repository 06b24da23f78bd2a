//! Requests at a fixed rate, sent on schedule whatever the node does. Latency counts from the scheduled time, so a
//! node that stalls is charged for all requests that it delays.

use std::{
    cell::RefCell,
    io::{Read as _, Write as _},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Timeout of a response.
const PATIENCE: Duration = Duration::from_secs(10);

/// Results of the requests.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Seen {
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) first_failure: Option<String>,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

#[derive(Default)]
struct Shared {
    unused: Vec<TcpStream>,
    times: Vec<Duration>,
    failed: u64,
    first_failure: Option<String>,
}

/// Sends `rate` requests per second, each on its own connection, which is reused.
pub(crate) async fn run(address: SocketAddr, rate: u32, duration: Duration) -> Seen {
    let shared = Rc::new(RefCell::new(Shared::default()));
    let local = tokio::task::LocalSet::new();
    let begun = Instant::now();
    let count = u64::from(rate) * duration.as_secs();
    local
        .run_until(async {
            let mut running = tokio::task::JoinSet::new();
            for i in 0..count {
                let due = begun + Duration::from_secs(1) * u32::try_from(i).unwrap_or(u32::MAX) / rate;
                tokio::time::sleep_until(due.into()).await;
                let shared = Rc::clone(&shared);
                running.spawn_local(async move {
                    let unused = shared.borrow_mut().unused.pop();
                    let outcome = tokio::time::timeout(PATIENCE, exchange(address, unused)).await;
                    let mut shared = shared.borrow_mut();
                    match outcome.context("no response in time").flatten() {
                        Ok(stream) => {
                            shared.unused.push(stream);
                            shared.times.push(due.elapsed());
                        }
                        Err(error) => {
                            shared.failed += 1;
                            shared.first_failure.get_or_insert_with(|| format!("{error:#}"));
                        }
                    }
                });
                while running.try_join_next().is_some() {}
            }
            while running.join_next().await.is_some() {}
        })
        .await;
    let Shared { mut times, failed, first_failure, .. } = std::mem::take(&mut *shared.borrow_mut());
    times.sort_unstable();
    let at = |part: f64| {
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let index = (times.len() as f64 * part) as usize;
        times.get(index.min(times.len().saturating_sub(1))).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    let answered = times.len() as u64;
    Seen { answered, failed, first_failure, p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1.0) }
}

/// Sends one request on an open or a new connection; returns the connection.
pub(crate) async fn exchange(address: SocketAddr, stream: Option<TcpStream>) -> anyhow::Result<TcpStream> {
    let mut stream = match stream {
        Some(stream) => stream,
        None => TcpStream::connect(address).await.context("cannot connect")?,
    };
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: soak\r\n\r\n").await.context("cannot send")?;
    let mut said = Vec::with_capacity(512);
    loop {
        let read = stream.read_buf(&mut said).await.context("cannot read")?;
        anyhow::ensure!(read > 0, "closed after {:?}", String::from_utf8_lossy(&said));
        if is_whole(&said)? {
            return Ok(stream);
        }
    }
}

/// Whether the response is complete; an error if it is not a success.
fn is_whole(said: &[u8]) -> anyhow::Result<bool> {
    let text = String::from_utf8_lossy(said);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ok(false) };
    anyhow::ensure!(head.starts_with("HTTP/1.1 200 "), "answered {head:?}");
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().ok())?
    });
    let length = length.context("a response without a length")?;
    anyhow::ensure!(body.len() <= length, "bytes after the response: {text:?}");
    Ok(body.len() == length)
}

/// The body of one blocking GET.
pub(crate) fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    anyhow::ensure!(said.starts_with("HTTP/1.1 200 "), "{path}: {said}");
    Ok(said.split_once("\r\n\r\n").context("no head")?.1.to_owned())
}
