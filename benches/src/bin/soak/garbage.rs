//! Meaningless bytes at a given rate: some from the first byte on, some after a valid beginning.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt as _, task::JoinSet};

use crate::crowd;

/// Concurrent connections.
const AT_ONCE: usize = 48;

/// Bytes per write, and the maximum per connection.
const PIECE: usize = 16 << 10;
const MOST: usize = 512 << 10;

/// Valid beginnings that precede garbage.
const BEGINNINGS: [&[u8]; 8] = [
    b"",
    b"GET / HTTP/1.1\r\nHost: soak\r\n",
    b"GET /",
    b"POST /health HTTP/1.1\r\nHost: soak\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: soak\r\nContent-Length: 100000\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\x40\0\x01\x01\0\0\0\x01",
    b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03",
];

/// What was sent.
pub(crate) struct Thrown {
    /// Bytes accepted by the kernel.
    pub(crate) bytes: u64,
    pub(crate) connections: u64,
}

/// Sends `rate` bytes per second from its own thread, so that the measurement does not wait for it.
pub(crate) async fn throw(address: SocketAddr, rate: u64, duration: Duration) -> anyhow::Result<Thrown> {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("garbage".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        // The receiver is gone if the run was aborted.
        let _ = tell.send(runtime.map(|runtime| runtime.block_on(throw_here(address, rate, duration))));
    })?;
    Ok(told.await??)
}

async fn throw_here(address: SocketAddr, rate: u64, duration: Duration) -> Thrown {
    let begun = Instant::now();
    let (bytes, connections) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    // Generated once; a piece starts anywhere in it.
    let mut random = vec![0; 1 << 20];
    fastrand::Rng::with_seed(1).fill(&mut random);
    let random: Arc<[u8]> = random.into();
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (bytes, connections) = (Arc::clone(&bytes), Arc::clone(&connections));
        let random = Arc::clone(&random);
        tasks.spawn(async move {
            while begun.elapsed() < duration {
                let number = connections.fetch_add(1, Relaxed);
                let at = usize::try_from(number).unwrap_or_default();
                let Ok(mut stream) = crowd::connect(address, at).await else { continue };
                let beginning = BEGINNINGS[at % BEGINNINGS.len()];
                if stream.write_all(beginning).await.is_err() {
                    continue;
                }
                let mut left = MOST;
                while left > 0 && begun.elapsed() < duration {
                    // Never faster than the rate.
                    let due = Duration::from_secs_f64(seconds(bytes.load(Relaxed), rate));
                    tokio::time::sleep_until((begun + due).into()).await;
                    let from = fastrand::usize(..random.len() - PIECE);
                    let piece = stream.write_all(&random[from..from + PIECE]);
                    let written = tokio::time::timeout(Duration::from_secs(2), piece).await;
                    if !matches!(written, Ok(Ok(()))) {
                        break;
                    }
                    bytes.fetch_add(PIECE as u64, Relaxed);
                    left -= PIECE;
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    Thrown { bytes: bytes.load(Relaxed), connections: connections.load(Relaxed) }
}

fn seconds(bytes: u64, rate: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    let seconds = bytes as f64 / rate.max(1) as f64;
    seconds
}
