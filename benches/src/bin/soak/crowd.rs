//! Idle connections, and connections that send slowly on purpose.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

use crate::flow;

/// Time between two fields of a slow request head.
const PAUSE: Duration = Duration::from_secs(1);

/// Connections that are opened at the same time.
const AT_ONCE: usize = 100;

/// Opens a connection from one of many loopback addresses, so that ports do not run out.
pub(crate) async fn connect(to: SocketAddr, number: usize) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let last = u8::try_from(number % 60 + 2).unwrap_or(2);
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)))?;
    socket.connect(to).await
}

/// All idle and slow connections.
pub(crate) struct Crowd {
    idle: Vec<TcpStream>,
    slow: JoinSet<()>,
    cut: Arc<AtomicU64>,
}

/// The connections at the end of the run.
pub(crate) struct Left {
    /// Idle connections that the node closed.
    pub(crate) lost: u64,
    /// Slow connections that the node closed.
    pub(crate) cut: u64,
}

impl Crowd {
    /// Opens all connections; each idle one makes one request first.
    pub(crate) async fn gather(address: SocketAddr, idle: usize, slow: usize) -> anyhow::Result<Self> {
        let mut opening: JoinSet<anyhow::Result<TcpStream>> = JoinSet::new();
        let mut opened = Vec::with_capacity(idle);
        for number in 0..idle {
            if opening.len() == AT_ONCE
                && let Some(stream) = opening.join_next().await
            {
                opened.push(stream??);
            }
            opening.spawn(async move {
                let stream = connect(address, number).await?;
                flow::exchange(address, Some(stream)).await
            });
        }
        while let Some(stream) = opening.join_next().await {
            opened.push(stream??);
        }
        let cut = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for number in 0..slow {
            let cut = Arc::clone(&cut);
            tasks.spawn(async move {
                loop {
                    if let Ok(stream) = connect(address, number).await {
                        drip(stream).await;
                        cut.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        Ok(Self { idle: opened, slow: tasks, cut })
    }

    /// Checks whether the idle connections are still open, and closes all connections.
    pub(crate) async fn leave(mut self) -> Left {
        self.slow.shutdown().await;
        let would_block = |error: std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
        let is_lost = |stream: &&TcpStream| !stream.try_read(&mut [0; 1]).is_err_and(would_block);
        let lost = self.idle.iter().filter(is_lost).count() as u64;
        Left { lost, cut: self.cut.load(Relaxed) }
    }
}

/// Sends a request head field by field until the node closes the connection.
async fn drip(mut stream: TcpStream) {
    if stream.write_all(b"GET /health HTTP/1.1\r\nHost: soak\r\n").await.is_err() {
        return;
    }
    let mut buffer = [0; 1024];
    loop {
        match tokio::time::timeout(PAUSE, stream.read(&mut buffer)).await {
            Ok(Ok(1..)) => {}
            Ok(_) => return,
            Err(_) if stream.write_all(b"X-Slow: very\r\n").await.is_err() => return,
            Err(_) => {}
        }
    }
}
