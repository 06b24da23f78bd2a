//! Clients that connect before the node has a configuration. The kernel queues them while the node starts. If no
//! configuration arrives for a while, they get a 503, so that they can try another node.

use std::{rc::Rc, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::PAUSE;
use crate::{
    answer::{Local, Media},
    wire::descriptors,
    worker::Worker,
};

/// How long clients are kept, in which most nodes have got what they need.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How long a client has for its request.
const DEADLINE: Duration = Duration::from_secs(5);

/// How many are answered at once by one worker.
const MOST: usize = 256;

/// The longest head that is read before the answer.
const MOST_READ: usize = 64 << 10;

/// Answers 503 to whoever comes to a socket, and closes; where clients speak TLS, for which there may be no certificate, it
/// closes alone. Ends when it is dropped.
pub(crate) async fn reject_until_configured(
    socket: std::net::TcpListener,
    in_clear: bool,
    worker: Rc<Worker>,
) {
    tokio::time::sleep(PATIENCE).await;
    let Ok(listener) = TcpListener::from_std(socket) else { return };
    if in_clear {
        tracing::warn!("no configuration yet: clients get a 503");
    }
    let permits = Arc::new(Semaphore::new(MOST));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let Some(descriptor) = descriptors::client() else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        match listener.accept().await {
            Ok((stream, _)) if in_clear => {
                let worker = Rc::clone(&worker);
                tokio::task::spawn_local(async move {
                    // A client that is too slow gets no response.
                    let _ = tokio::time::timeout(DEADLINE, refuse(stream, &worker)).await;
                    drop((permit, descriptor));
                });
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Reads the head first: a connection that is closed with something unread is reset, and the answer may be lost with it.
async fn refuse(mut stream: TcpStream, worker: &Worker) -> std::io::Result<()> {
    let mut head = Vec::with_capacity(1024);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < MOST_READ {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    let request_id = format!("{:016x}", fastrand::u64(..));
    let mut answer = Vec::new();
    Local::NO_CONFIGURATION.write(&mut answer, &worker.date(), false, false, Media::Problem, &request_id);
    stream.write_all(&answer).await?;
    stream.shutdown().await?;
    // Until the client has closed too.
    while stream.read(&mut [0; 4096]).await? > 0 {}
    Ok(())
}
