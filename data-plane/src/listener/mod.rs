//! Listening sockets, and the loop that accepts connections.

mod http1;
mod http1_response;
mod http2;
mod http2_response;
mod stream_tasks;
pub(crate) mod waiting;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::net::{TcpListener, TcpStream};

use crate::{
    wire::{buffer::Buffers, descriptors, stream::Stream, timer::Timer},
    worker::{OpenConnection, Worker},
};

/// Connections that the kernel queues until they are accepted.
const BACKLOG: i32 = 4096;

/// How long accepting pauses when the process is out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Time that idle connections have to close when others need room.
const ROOM: Duration = Duration::from_millis(10);

/// Minimum time between two log messages about pauses.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Most open client connections of one worker.
const MAX_CONNECTIONS: usize = 500_000;

/// Checks that no other process listens on an address. Workers share a port, and the kernel would silently give another
/// process that shares it a part of the connections.
///
/// # Errors
/// Another process listens, or the address cannot be bound.
pub(crate) fn ensure_free(address: SocketAddr) -> io::Result<()> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM.cloexec(),
        Some(socket2::Protocol::TCP),
    )?;
    // Connections of an ended process must not prevent the bind.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

/// Opens one worker's listening socket; the kernel spreads connections over all sockets of the address.
///
/// # Errors
/// The address cannot be bound.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM.nonblocking().cloexec(),
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit it, so small writes are sent at once without a system call for each connection.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// One worker's listening socket, for HTTP or for HTTPS.
pub(crate) struct ListenerSocket {
    pub(crate) socket: std::net::TcpListener,
    /// TLS settings; `None` for cleartext.
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
}

/// Logs that accepting is paused, but not each time.
#[derive(Default)]
struct Pauses {
    logged: Option<Instant>,
}

impl Pauses {
    #[cold]
    fn begin(&mut self, reason: &str) {
        if self.logged.is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL) {
            self.logged = Some(Instant::now());
            tracing::warn!(reason, "accepting paused");
        }
    }
}

/// Accepts connections until the worker drains, then those that the kernel has queued, and closes the socket.
pub(crate) async fn accept(listening: ListenerSocket, worker: Rc<Worker>) {
    let ListenerSocket { socket, tls } = listening;
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "listening socket cannot be used");
            return;
        }
    };
    let mut paused = Pauses::default();
    let mut drain = worker.drain.subscribe();
    loop {
        if worker.connections.get() >= MAX_CONNECTIONS || descriptors::is_full_of_clients() {
            if *drain.borrow() {
                break;
            }
            // Idle client connections are closed to make room. If no connection is idle, accepting waits until one
            // ends.
            if worker.make_room() {
                tokio::time::sleep(ROOM).await;
            } else {
                paused.begin("as many clients are connected as the limit of open files allows");
                tokio::time::sleep(PAUSE).await;
            }
            continue;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = drain.wait_for(|draining| *draining) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                admit(&worker, stream, peer, tls.as_ref());
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                paused.begin(&error.to_string());
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    while let std::task::Poll::Ready(Ok((stream, peer))) = listener.poll_accept(&mut cx) {
        admit(&worker, stream, peer, tls.as_ref());
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn admit(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, tls: Option<&Arc<rustls::ServerConfig>>) {
    let address = peer.ip().to_canonical();
    let limit =
        worker.view().map_or(0, |view| view.active.snapshot.settings.downstream.max_connections_per_ip);
    let Some(open) = worker.connection(address, limit) else {
        // The address has too many connections: closed at once, without a task.
        return;
    };
    let worker = Rc::clone(worker);
    match tls {
        None => tokio::task::spawn_local(serve(worker, stream, address, open)),
        Some(config) => {
            tokio::task::spawn_local(serve_tls(worker, stream, address, open, Arc::clone(config)))
        }
    };
}

async fn serve(worker: Rc<Worker>, stream: TcpStream, address: IpAddr, _open: OpenConnection) {
    let timer = worker.timers.timer();
    http1::serve(worker, Stream::accepted(stream), timer, address).await;
}

/// The state of a handshake is large and short-lived, so it is boxed.
fn handshake(
    stream: TcpStream,
    config: Arc<rustls::ServerConfig>,
    buffers: Rc<Buffers>,
    timer: &Timer,
    within: Duration,
) -> Pin<Box<impl Future<Output = io::Result<Stream>> + use<'_>>> {
    Box::pin(Stream::accepted(stream).accept_tls(config, buffers, timer, within))
}

async fn serve_tls(
    worker: Rc<Worker>,
    stream: TcpStream,
    address: IpAddr,
    _open: OpenConnection,
    config: Arc<rustls::ServerConfig>,
) {
    let timer = worker.timers.timer();
    let Some(view) = worker.view() else { return };
    let within = view.active.snapshot.settings.downstream.tls_handshake_timeout.0;
    drop(view);
    match handshake(stream, config, Rc::clone(&worker.buffers), &timer, within).await {
        Ok(stream) => {
            worker.counters.handshake(stream.is_resumed());
            http1::serve(worker, stream, timer, address).await;
        }
        Err(error) => {
            worker.counters.failed_handshake();
            tracing::debug!(client = %address, %error, "TLS handshake failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_accepted_sends_small_writes_at_once() {
        let listener = TcpListener::from_std(bind("127.0.0.1:0".parse().unwrap()).unwrap()).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(listener.accept().await.unwrap().0.nodelay().unwrap());
    }
}
