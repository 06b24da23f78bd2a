//! The admin port's connections: accepted up to a bound, each with a deadline for what it has to say first.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::api::access::Peer;

/// Connections at a time. A person and a script have one or two each.
const MOST: usize = 1024;

/// A request's head comes within this, and a TLS handshake is done within it.
const GREETING: Duration = Duration::from_secs(10);

/// The largest head of a request.
const MAX_HEAD: usize = 64 << 10;

/// Serves until `stop`, then lets running calls finish.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    router: Router,
    stop: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(MOST));
    let graceful = GracefulShutdown::new();
    loop {
        let (stream, place) = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            () = stop.cancelled() => break,
        };
        let Ok(address) = stream.peer_addr() else { continue };
        let (router, watcher) = (router.clone(), graceful.watcher());
        let tls = tls.as_ref().map(|tls| TlsAcceptor::from(Arc::clone(&tls.borrow())));
        tokio::spawn(async move {
            let _place = place;
            let Some(tls) = tls else {
                return connection(stream, Peer { address, tls: false }, router, watcher).await;
            };
            match tokio::time::timeout(GREETING, tls.accept(stream)).await {
                Ok(Ok(stream)) => connection(stream, Peer { address, tls: true }, router, watcher).await,
                Ok(Err(error)) => tracing::debug!(%error, peer = %address, "no TLS on the admin port"),
                Err(_) => tracing::debug!(peer = %address, "no TLS on the admin port in time"),
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> (TcpStream, Option<tokio::sync::OwnedSemaphorePermit>) {
    loop {
        // Never closed, so it is always given.
        let place = Arc::clone(room).acquire_owned().await.ok();
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are small, and somebody waits for them.
                let _ = stream.set_nodelay(true);
                return (stream, place);
            }
            Err(error) => {
                // Mostly no more file descriptors; those who hold them go away in time.
                tracing::warn!(%error, "no connection can be accepted on the admin port");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection<S>(stream: S, peer: Peer, router: Router, watcher: hyper_util::server::graceful::Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let router = router.clone();
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let Ok::<_, Infallible>(answer) = router.oneshot(request).await;
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(GREETING).max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .max_concurrent_streams(256)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(GREETING);
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, peer = %peer.address, "connection to the admin port ended");
    }
}
