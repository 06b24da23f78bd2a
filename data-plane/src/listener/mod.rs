//! The clients' side: listening sockets, and the loop that accepts.

pub(crate) mod http1;
mod http2;
mod request_body;

use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use tokio::net::{TcpListener, TcpStream};

pub(crate) use self::request_body::{BodyFailure, RequestBody};
use crate::worker::{OpenConnection, Worker};

/// How many connections the kernel holds until they are accepted.
const BACKLOG: i32 = 4096;

/// How long accepting pauses when the process is out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// The most open client connections of one worker.
const MAX_CONNECTIONS: usize = 500_000;

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
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until the worker drains; then takes what the kernel has already queued, and closes the socket.
pub(crate) async fn accept(listener: std::net::TcpListener, worker: Rc<Worker>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "listening socket cannot be used");
            return;
        }
    };
    let mut paused = false;
    loop {
        if worker.connections.get() >= MAX_CONNECTIONS {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = worker.drain.notified() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                paused = false;
                admit(&worker, stream, peer);
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                if !paused {
                    tracing::warn!(%error, "accepting pauses");
                }
                paused = true;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    while let std::task::Poll::Ready(Ok((stream, peer))) = listener.poll_accept(&mut cx) {
        admit(&worker, stream, peer);
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn admit(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let address = peer.ip().to_canonical();
    let limit =
        worker.view().map_or(0, |view| view.active.snapshot.settings.downstream.max_connections_per_ip);
    let Some(open) = worker.connection(address, limit) else {
        // Over the limit for this address: closed at once, without a task.
        return;
    };
    tokio::task::spawn_local(serve(Rc::clone(worker), stream, address, open));
}

async fn serve(worker: Rc<Worker>, stream: TcpStream, address: std::net::IpAddr, _open: OpenConnection) {
    http1::serve(worker, stream, address).await;
}
