//! The mock's sockets: accepts, serves HTTP/1.1 on each connection, puts the mock's name into each answer, stops.
//!
//! Nagle's algorithm is off, because small answers must leave at once: the mock stands behind load tests.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Router,
    body::Body,
    http::{HeaderName, HeaderValue, Request, Response, StatusCode},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use crate::{Config, Faults, Shop, books::Books, faults::Gate, problem, routes, tls};

/// What runs when the mock is told to stop may take this long.
const GRACE: Duration = Duration::from_secs(2);
/// How long a client may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Out of file descriptors, the next attempt to accept waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const X_BACKEND: HeaderName = HeaderName::from_static("x-backend");

/// A mock that runs; dropped, it stops at once.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    /// Accepts nothing new, lets running requests finish within two seconds, ends.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        let _ = (&mut self.task).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.task.abort();
    }
}

/// Tells that the mock is to stop.
#[derive(Clone)]
pub(crate) struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// Waits until the mock is told to stop.
    pub(crate) async fn told(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// Starts a mock without faults.
///
/// # Errors
/// The address cannot be bound, or the name cannot stand in a header.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    start_with_faults(config, Faults::default()).await
}

/// Starts a mock with simulated capacity and errors.
///
/// # Errors
/// As [`start`], or a fault is out of its range.
pub async fn start_with_faults(config: Config, faults: Faults) -> anyhow::Result<Running> {
    faults.check().context("wrong faults")?;
    let tls = tls::acceptor(&config)?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {} (--listen)", config.listen))?;
    let address = listener.local_addr()?;
    let name = config.name.unwrap_or_else(|| format!("mock-{}", address.port()));
    let header = HeaderValue::from_str(&name)
        .with_context(|| format!("the name {name:?} cannot stand in a header"))?;
    let (stop, stopping) = watch::channel(false);
    let stopping = Stopping(stopping);
    let shop = Arc::new(Shop {
        name: name.clone(),
        books: Books::seeded(),
        healthy: AtomicBool::new(true),
        faults: Gate::new(faults),
        stopping: stopping.clone(),
    });
    let scheme = if tls.is_some() { "https" } else { "http" };
    tracing::info!(name, %address, scheme, "mock listening");
    let service = Service { routes: routes(Arc::clone(&shop)), shop, header };
    let task = tokio::spawn(serve(listener, tls, service, stopping));
    Ok(Running { address, scheme, stop, task })
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, service: Service, mut stopping: Stopping) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.told() => break,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(admitted(stream, tls.clone(), service.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    // What still runs after that is aborted with the set.
    let _ = tokio::time::timeout(GRACE, ended).await;
}

async fn admitted(stream: TcpStream, tls: Option<TlsAcceptor>, service: Service) {
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return connection(stream, service).await };
    match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => connection(stream, service).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: Service) {
    let mut stopping = service.shop.stopping.clone();
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(
                TokioIo::new(stream),
                service_fn(move |request| service.clone().answer(request))
            )
            .with_upgrades()
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.told() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

#[derive(Clone)]
struct Service {
    routes: Router,
    shop: Arc<Shop>,
    header: HeaderValue,
}

impl Service {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        // Health and the faults themselves are always answered, however loaded the mock plays.
        let exempt = request.uri().path().starts_with("/health") || request.uri().path() == "/faults";
        let admitted = if exempt { Ok(None) } else { self.shop.faults.enter().await };
        let mut response = match admitted {
            // The place is held until the head of the answer is ready.
            Ok(_place) => self.routes.oneshot(request.map(Body::new)).await?,
            Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "an error on demand"),
        };
        response.headers_mut().insert(X_BACKEND, self.header);
        Ok(response)
    }
}
