//! The control plane: it stores the configuration, checks it, streams it to the nodes, probes the backends, and
//! keeps the statistics.
//!
//! Dependencies go one way: `store` ← `publish`, `health`, `stats` ← `app` ← `api`. The planes share nothing but
//! the wire contract and the checked configuration.

pub mod api;
pub mod app;
mod config;
pub mod current;
pub mod health;
pub mod publish;
mod serve;
pub mod stats;
pub mod store;

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub use self::config::Config;
use self::{
    app::{App, AppError, Author, Parts},
    health::Health,
    publish::{Publisher, Registry},
    stats::Stats,
    store::Store,
};

/// How long running calls may take once the control plane was asked to stop.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// A control plane that runs.
pub struct Running {
    /// Where operators reach it.
    pub admin: SocketAddr,
    /// Where nodes reach it.
    pub nodes: SocketAddr,
    app: App,
    stop: CancellationToken,
    servers: JoinSet<anyhow::Result<()>>,
    stats: Stats,
    store: Store,
}

/// Opens the database, applies the file where one is given, and serves.
///
/// # Errors
/// An address cannot be bound, the database cannot be used, or the file is wrong.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    config.check()?;
    // First of all: who finds a port taken has not touched the database.
    let admin_listener = bind("--admin", config.admin).await?;
    let nodes_listener = bind("--nodes", config.nodes).await?;
    let store = Store::open(&config.database).await?;
    let (current, next_backend) = app::load(&store).await?;
    let stop = CancellationToken::new();
    let stats = Stats::start(store.clone(), config.retention());
    let health = Health::start(current.subscribe(), stop.clone());
    let registry = Registry::new(store.nodes_seen().await?);
    let publisher = Publisher {
        current: current.subscribe(),
        health: health.clone(),
        registry: registry.clone(),
        store: store.clone(),
        stats: stats.clone(),
        key: store.session_key().await?,
        stop: stop.clone(),
    };
    let file = config.config.clone();
    let parts = Parts {
        store: store.clone(),
        current,
        next_backend,
        health,
        stats: stats.clone(),
        registry,
        file: file.clone(),
    };
    let app = App::new(parts);
    if let Some(path) = file {
        let author = Author { actor: "control-plane".into(), source: "file" };
        let applied = app.reload(&author).await;
        applied.map_err(explain).with_context(|| format!("--config {} is refused", path.display()))?;
    }

    let (admin, nodes) = (admin_listener.local_addr()?, nodes_listener.local_addr()?);
    let mut servers = JoinSet::new();
    servers.spawn(serve::admin(admin_listener, app.clone(), stop.clone()));
    servers.spawn(serve::nodes(nodes_listener, publisher, stop.clone()));
    tracing::info!(%admin, %nodes, revision = app.current().revision, "control plane started");
    Ok(Running { admin, nodes, app, stop, servers, stats, store })
}

async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} ({flag})"))
}

/// Every mistake on a line of its own.
fn explain(error: AppError) -> anyhow::Error {
    match error {
        AppError::Invalid(problems) => {
            let lines: Vec<String> = problems.0.iter().map(|problem| format!("  {problem}")).collect();
            anyhow::anyhow!("\n{}", lines.join("\n"))
        }
        error => error.into(),
    }
}

impl Running {
    /// Reads the configuration file again, as `POST /config/reload` does.
    pub async fn reload(&self) {
        let author = Author { actor: "SIGHUP".into(), source: "file" };
        match self.app.reload(&author).await {
            Ok(Some(applied)) => tracing::info!(revision = applied.revision, "configuration file read again"),
            Ok(None) => tracing::warn!("there is no configuration file to read again (--config)"),
            Err(error) => tracing::error!(%error, "configuration file refused, nothing changed"),
        }
    }

    /// Returns when a server has ended on its own, which only a failure makes it do.
    pub async fn stopped(&mut self) {
        match self.servers.join_next().await {
            Some(Ok(Err(error))) => tracing::error!(%error, "server ended"),
            Some(Err(error)) => tracing::error!(%error, "server ended"),
            Some(Ok(Ok(()))) | None => {}
        }
    }

    /// Ends every stream, lets running calls finish within a deadline, and closes the database.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        let servers = async { while self.servers.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN, servers).await.is_err() {
            tracing::warn!("some calls did not end in time and are cut");
        }
        self.servers.shutdown().await;
        self.stats.stop().await;
        self.store.close().await;
    }
}
