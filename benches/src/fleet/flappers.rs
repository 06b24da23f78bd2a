//! Backends whose health changes with each probe, or stays the same.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// Backends on loopback.
pub struct Flappers {
    /// One address per backend.
    pub addresses: Vec<SocketAddr>,
    /// Whether the health changes with each probe.
    pub flapping: Arc<AtomicBool>,
}

impl Flappers {
    /// Starts `count` backends.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(count: usize) -> anyhow::Result<Self> {
        let flapping = Arc::new(AtomicBool::new(false));
        let mut addresses = Vec::with_capacity(count);
        for _ in 0..count {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            addresses.push(listener.local_addr()?);
            tokio::spawn(serve(listener, Arc::clone(&flapping)));
        }
        Ok(Self { addresses, flapping })
    }
}

async fn serve(listener: TcpListener, flapping: Arc<AtomicBool>) {
    let mut is_well = true;
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut head = [0; 1024];
        // The head of a probe fits into one read.
        let _ = stream.read(&mut head).await;
        is_well = !flapping.load(Relaxed) || !is_well;
        let status = if is_well { "200 OK" } else { "503 Service Unavailable" };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}
