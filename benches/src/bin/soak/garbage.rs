//! Bytes that mean nothing, as fast as wanted: some of them from the first one, some behind a beginning that a parser
//! follows for a while.

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

/// How many connections throw at once.
const AT_ONCE: usize = 48;

/// What is written at once, and at most on one connection.
const PIECE: usize = 16 << 10;
const MOST: usize = 512 << 10;

/// What garbage hides behind.
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

/// What was thrown.
pub(crate) struct Thrown {
    /// Bytes that the kernel took.
    pub(crate) bytes: u64,
    pub(crate) connections: u64,
}

/// Throws `rate` bytes a second, from a thread of its own: who measures must not wait for who throws.
pub(crate) async fn throw(address: SocketAddr, rate: u64, duration: Duration) -> anyhow::Result<Thrown> {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("garbage".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        // Nobody listens any more where the run was given up.
        let _ = tell.send(runtime.map(|runtime| runtime.block_on(throw_here(address, rate, duration))));
    })?;
    Ok(told.await??)
}

async fn throw_here(address: SocketAddr, rate: u64, duration: Duration) -> Thrown {
    let begun = Instant::now();
    let (bytes, connections) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    // Made once: a piece begins anywhere in it.
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
                    // Nobody is ahead of the rate.
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
