//! The mock's sockets: accepts connections, serves HTTP/1.1, adds the mock's name to each response, shuts down.
//!
//! Nagle's algorithm is off so that small responses are sent at once: load tests use the mock.

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

/// Time for running requests to finish when the mock stops.
const GRACE: Duration = Duration::from_secs(2);
/// Time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause before the next accept when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const X_BACKEND: HeaderName = HeaderName::from_static("x-backend");

/// A running mock. Dropping it stops the mock at once.
#[derive(Debug)]
pub struct Running {
    /// Address that it listens on.
    pub address: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    /// Stops accepting connections and gives running requests 2 s to finish.
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

/// Signals that the mock is stopping.
#[derive(Clone)]
pub(crate) struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// Waits until the mock is stopping.
    pub(crate) async fn stopped(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// Starts a mock without faults.
///
/// # Errors
/// The address cannot be bound, or the name is not a valid header value.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    start_with_faults(config, Faults::default()).await
}

/// Starts a mock with simulated capacity and errors.
///
/// # Errors
/// As [`start`], or a fault setting is out of bounds.
pub async fn start_with_faults(config: Config, faults: Faults) -> anyhow::Result<Running> {
    faults.check().context("invalid faults")?;
    let tls = tls::acceptor(&config)?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {} (--listen)", config.listen))?;
    let address = listener.local_addr()?;
    let name = config.name.unwrap_or_else(|| format!("mock-{}", address.port()));
    let header = HeaderValue::from_str(&name)
        .with_context(|| format!("the name {name:?} is not a valid header value"))?;
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
            () = stopping.stopped() => break,
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
    // Tasks that still run after that are aborted when the set is dropped.
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
        () = stopping.stopped() => {
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
        // Health checks and the fault settings are always answered, whatever the simulated load.
        let exempt = request.uri().path().starts_with("/health") || request.uri().path() == "/faults";
        let admitted = if exempt { Ok(None) } else { self.shop.faults.enter().await };
        let mut response = match admitted {
            // The permit is held until the response head is ready.
            Ok(_place) => self.routes.oneshot(request.map(Body::new)).await?,
            Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "a simulated error"),
        };
        response.headers_mut().insert(X_BACKEND, self.header);
        Ok(response)
    }
}
