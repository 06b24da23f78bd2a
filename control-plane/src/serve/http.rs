//! Serves the admin port. The number of connections is [limited](crate::connections), and everything a client does has a
//! deadline: the TLS handshake, its first request, the head and the body of each request, reading the answer, and the next
//! request.

use std::{convert::Infallible, pin::pin, sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::Instant,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::body::{CallBody, TimedBody};
use crate::{
    api::access::Peer,
    connections::{Connection, ConnectionLimits, Connections},
};

/// An operator or a script has one or two connections, a browser six.
pub(super) const LIMITS: ConnectionLimits = ConnectionLimits { total: 1024, per_address: 256, reserved: 64 };

/// Time limit for a request's head, for the first head also counted from the connection's start, and for the TLS
/// handshake.
const GREETING: Duration = Duration::from_secs(10);

/// How long a connection without a call in flight stays open.
const IDLE: Duration = Duration::from_secs(60);

/// How long an answer waits for its client to read more. Authenticated clients get more time: they may have suspended a
/// page or piped a stream into a pager.
const STALL: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(300)];

/// Time for an idle connection to close gracefully.
const GOODBYE: Duration = Duration::from_secs(5);

/// Maximum size of a request's head.
const MAX_HEAD: usize = 64 << 10;

/// Serves until `stop`, then lets running calls finish.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    router: Router,
    connections: Connections,
    stop: CancellationToken,
) {
    let tasks = TaskTracker::new();
    loop {
        let stream = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            () = stop.cancelled() => break,
        };
        let Ok(address) = stream.peer_addr() else { continue };
        let (router, stop) = (router.clone(), stop.clone());
        let tls = tls.as_ref().map(|tls| TlsAcceptor::from(Arc::clone(&tls.borrow())));
        let admission = connections.admit(address.ip());
        tasks.spawn(async move {
            let state = Arc::clone(&admission.connection);
            let served = async move {
                let Some(tls) = tls else {
                    return connection(stream, Peer { address, tls: false }, router, state, stop).await;
                };
                match tokio::time::timeout(GREETING, tls.accept(stream)).await {
                    Ok(Ok(stream)) => connection(stream, Peer { address, tls: true }, router, state, stop).await,
                    Ok(Err(error)) => tracing::debug!(%error, peer = %address, "TLS handshake failed on the admin port"),
                    Err(_) => tracing::debug!(peer = %address, "TLS handshake timed out on the admin port"),
                }
            };
            tokio::select! {
                () = served => {}
                () = admission.closed() => tracing::debug!(peer = %address, "connection to the admin port closed to make room"),
            }
        });
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

async fn accept(listener: &TcpListener, connections: &Connections) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are small and latency matters.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => {
                // Usually the process has run out of file descriptors: close an unauthenticated connection.
                tracing::warn!(%error, "cannot accept connections on the admin port");
                connections.close_unauthenticated();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn connection<S>(stream: S, peer: Peer, router: Router, state: Arc<Connection>, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let calls = Arc::clone(&state);
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let (router, calls) = (router.clone(), Arc::clone(&calls));
        async move { Ok::<_, Infallible>(call(request, peer, router, &calls).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(GREETING).max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .max_concurrent_streams(128)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(GREETING);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut stopping = pin!(stop.cancelled());
    let mut expired = pin!(expired(&state));
    let mut ends = None;
    let mut is_stopping = false;
    loop {
        tokio::select! {
            served = connection.as_mut() => {
                if let Err(error) = served {
                    tracing::debug!(%error, peer = %peer.address, "connection to the admin port ended");
                }
                return;
            }
            () = stopping.as_mut(), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            end = expired.as_mut(), if ends.is_none() => match end {
                End::Idle => {
                    connection.as_mut().graceful_shutdown();
                    ends = Some(Instant::now() + GOODBYE);
                }
                End::Silent | End::Stalled => {
                    tracing::debug!(peer = %peer.address, ?end, "connection to the admin port closed");
                    return;
                }
            },
            () = tokio::time::sleep_until(ends.unwrap_or_else(Instant::now)), if ends.is_some() => {
                // A call that began in the meantime continues.
                if state.quiet().is_some() {
                    return;
                }
                ends = Some(Instant::now() + GOODBYE);
            }
        }
    }
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy)]
enum End {
    /// The first call did not arrive in time.
    Silent,
    /// No further call arrived in time.
    Idle,
    /// The client did not read the answer in time.
    Stalled,
}

/// Returns when the client misses a deadline.
async fn expired(connection: &Connection) -> End {
    loop {
        let now = Instant::now();
        let mut next = now + Duration::from_secs(5);
        let stall = STALL[usize::from(connection.is_authenticated())];
        if let Some((since, any)) = connection.quiet() {
            let (lasts, end) = if any { (IDLE, End::Idle) } else { (GREETING, End::Silent) };
            if now >= since + lasts {
                return end;
            }
            next = next.min(since + lasts);
        } else if let Some(since) = connection.stalled_since() {
            if now >= since + stall {
                return End::Stalled;
            }
            next = next.min(since + stall);
        }
        tokio::time::sleep_until(next).await;
    }
}

async fn call(
    request: hyper::Request<Incoming>,
    peer: Peer,
    router: Router,
    connection: &Arc<Connection>,
) -> Response {
    let call = connection.call();
    let content = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let is_grpc = content.starts_with(b"application/grpc");
    let (parts, body) = request.into_parts();
    let body = TimedBody::new(body, is_grpc);
    let is_late = Arc::clone(&body.is_late);
    let mut request = hyper::Request::from_parts(parts, Body::new(body));
    request.extensions_mut().insert(ConnectInfo(peer));
    request.extensions_mut().insert(Arc::clone(connection));
    let Ok::<_, Infallible>(mut answer) = router.oneshot(request).await;
    if is_late.load(Relaxed) && !is_grpc {
        answer = late();
    }
    answer.map(|body| Body::new(CallBody::new(body, call)))
}

fn late() -> Response {
    let status = StatusCode::REQUEST_TIMEOUT;
    let problem = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": "the body did not arrive in time",
        "problems": [],
    });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], problem.to_string()).into_response()
}
