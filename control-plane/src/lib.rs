//! The control plane: it stores the configuration, validates it, streams it to the nodes, checks the health of
//! backends, and keeps the statistics.
//!
//! Dependencies go one way: `store` ← `secrets` ← `access`, `health`, `stats` ← `publish` ← `app` ← `api` ← `serve`. The
//! planes share nothing but the wire contract and the checked configuration.

// The description of REST is one large literal.
#![recursion_limit = "256"]

pub mod access;
pub mod api;
pub mod app;
mod config;
mod connections;
pub mod core_dumps;
pub mod current;
pub mod expiry;
pub mod health;
mod private_file;
pub mod publish;
pub mod secrets;
mod serve;
pub mod stats;
pub mod store;
pub mod time;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{net::TcpListener, sync::Mutex, task::JoinSet};
use tokio_util::sync::CancellationToken;
use weir_snapshot::backend_address::OwnPort;

pub use self::config::{Arguments, Config};
use self::{
    access::{Access, nodes::NodeAccess},
    api::access::{Gate, Hosts},
    app::{App, AppError, Author, ConfigFile, Parts},
    health::Health,
    publish::{Cleartext, Publisher, Registry, Rule, Sources},
    secrets::{MasterKey, Secrets, Vault},
    serve::{AdminTls, NodesGate},
    stats::Stats,
    store::{Lock, Store},
};

/// How long running calls may take at shutdown.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// A running control plane.
pub struct Running {
    /// Address of the admin port.
    pub admin: SocketAddr,
    /// Scheme of the admin port: `http` or `https`.
    pub admin_scheme: &'static str,
    /// Address of the nodes' port.
    pub nodes: SocketAddr,
    /// Scheme of the nodes' port: `https`, or `http` if it accepts connections with and without TLS.
    pub nodes_scheme: &'static str,
    /// The value of `--control-plane` with which nodes reach the local socket, if it is open.
    pub nodes_socket: Option<String>,
    app: App,
    router: axum::Router,
    stop: CancellationToken,
    servers: JoinSet<anyhow::Result<()>>,
    stats: Stats,
    registry: Registry,
    store: Store,
    tls: Option<AdminTls>,
    /// Keeps other control planes away from the database.
    _lock: Lock,
}

/// Opens the database, applies the configuration file if one is given, and serves.
///
/// # Errors
/// An address cannot be bound, the database cannot be used, or the file is invalid.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    config.check()?;
    let tls = config.admin_tls()?;
    // Ports are bound first, so that a control plane whose port is in use does not touch the database.
    let admin_listener = bind("--admin", config.admin).await?;
    let nodes_listener = bind("--nodes", config.nodes).await?;
    let lock = Lock::take(&config.database).await?;
    let store = Store::open(&config.database).await?.marked_in(&lock);
    let master = MasterKey { file: config.secrets_key_file.clone(), database: store.path().to_owned() };
    let is_sealed = store.fleet_ca().await?.is_some() || store.has_secrets().await?;
    let vault = Vault::new(&*master.find(is_sealed)?)?;
    let node_access = NodeAccess::open(store.clone(), &vault, config.node_certificates.0).await?;
    let access = Access::open(store.clone(), node_access.clone()).await?;
    let (current, next_backend) = app::load(&store).await?;
    let stop = CancellationToken::new();
    let secrets = Secrets::open(store.clone(), &master, stop.clone()).await?;
    let session_key = secrets.session_key().await?;
    let stats = Stats::start(store.clone(), config.retention());
    let own_ports: Arc<[OwnPort]> = Arc::new([
        OwnPort::new(admin_listener.local_addr()?, "the admin port"),
        OwnPort::new(nodes_listener.local_addr()?, "the port for nodes"),
    ]);
    let keys = Arc::new(secrets.clone());
    let health = Health::start(current.subscribe(), keys, Arc::clone(&own_ports), stop.clone());
    tokio::spawn(expiry::watch(current.subscribe(), stop.clone()));
    let registry = Registry::new(store.nodes_seen().await?);
    let newest = Arc::clone(&current.borrow());
    let history = app::history(&store, &newest).await?;
    let publisher = Publisher::new(Sources {
        current: current.subscribe(),
        history: history.clone(),
        health: health.clone(),
        registry: registry.clone(),
        stats: stats.clone(),
        key: session_key,
        ack_timeout: config.ack_timeout.0,
        // Nodes that the gate admits use TLS, or connect without it where that is allowed.
        secrets: Some(secrets.clone()),
        nodes: node_access.clone(),
        store: store.clone(),
        stop: stop.clone(),
    });
    tokio::spawn(publish::keep(registry.clone(), store.clone(), config.forget_nodes.0, stop.clone()));
    let file = match config.config.clone() {
        Some(path) => Some(ConfigFile::new(path, config.config_authoritative, store.config_file().await?)),
        None => None,
    };
    let parts = Parts {
        store: store.clone(),
        current,
        next_backend: Mutex::new(next_backend),
        health,
        stats: stats.clone(),
        registry: registry.clone(),
        history,
        secrets,
        file,
        access: access.clone(),
        keep_revisions: config.keep_revisions,
        own_ports,
    };
    let app = App::new(parts);
    if let Some(path) = &config.config {
        let author = Author { actor: "control-plane".into(), source: "file" };
        let read = app.read_file(&author).await;
        read.map_err(explain).with_context(|| format!("--config {} is rejected", path.display()))?;
    }

    if config.is_guarded() {
        access.demand();
    }
    if access.is_needed() || config.token_file.is_some() {
        access.first_token(config.token_file.as_deref()).await?;
    }
    let hosts = Hosts::new(config.admin.ip().is_loopback(), &config.admin_host);
    let ports = serve::ports();
    let gate = Gate { access: access.clone(), hosts, limits: ports.limits.clone() };

    let (admin, nodes) = (admin_listener.local_addr()?, nodes_listener.local_addr()?);
    let mut servers = JoinSet::new();
    let router = serve::admin_router(app.clone(), gate, ports.clone()).await?;
    servers.spawn(serve::admin(
        admin_listener,
        tls.clone(),
        router.clone(),
        ports.admin.clone(),
        stop.clone(),
    ));
    if let Some(file) = &config.join_token_file {
        node_access
            .leave_token(file)
            .await
            .with_context(|| format!("--join-token-file {}", file.display()))?;
    }
    let socket = config.local_socket(store.path()).await?;
    let nodes_socket = socket.as_ref().map(serve::LocalSocket::url);
    let cleartext = Cleartext::new(
        config.cleartext(),
        access.clone(),
        node_access.clone(),
        app.watch(),
        nodes_socket.as_deref(),
    );
    let nodes_gate =
        NodesGate { access: access.clone(), nodes: node_access, registry: registry.clone(), cleartext };
    servers.spawn(serve::nodes(nodes_listener, socket, publisher, nodes_gate, ports.nodes, stop.clone()));
    if let Some(watch) = tls.clone().map(|tls| tls.watch(stop.clone())) {
        servers.spawn(async move {
            watch.await;
            Ok(())
        });
    } else if !admin.ip().is_loopback() {
        tracing::warn!(%admin, "tokens are sent over the network unencrypted: the admin port has no TLS (--admin-tls-cert)");
    }
    let nodes_scheme = if config.cleartext() == Rule::Never { "https" } else { "http" };
    let admin_scheme = if tls.is_some() { "https" } else { "http" };
    let keeper = access.keep(stop.clone());
    servers.spawn(async move {
        keeper.await;
        Ok(())
    });
    tracing::info!(%admin, %nodes, socket = nodes_socket.as_deref().unwrap_or("none"), revision = app.current().revision, "control plane started");
    Ok(Running {
        admin,
        admin_scheme,
        nodes,
        nodes_scheme,
        nodes_socket,
        app,
        router,
        stop,
        servers,
        stats,
        registry,
        store,
        tls,
        _lock: lock,
    })
}

async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} ({flag})"))
}

/// One problem per line.
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
    /// The router of the admin port without the port, for tests that control how long a call is awaited.
    pub fn router(&self) -> axum::Router {
        self.router.clone()
    }

    /// Reloads the configuration file and the admin port's certificate, as `POST /config/reload` does.
    pub async fn reload(&self) {
        if let Some(tls) = &self.tls {
            tls.reload();
        }
        let author = Author { actor: "SIGHUP".into(), source: "file" };
        // All other results are already in the log.
        if let Ok(None) = self.app.reload(&author).await {
            tracing::warn!("there is no configuration file to reload (--config)");
        }
    }

    /// Returns when a server ends before shutdown, which only happens on failure.
    pub async fn stopped(&mut self) {
        match self.servers.join_next().await {
            Some(Ok(Err(error))) => tracing::error!(%error, "server ended"),
            Some(Err(error)) => tracing::error!(%error, "server ended"),
            Some(Ok(Ok(()))) | None => {}
        }
    }

    /// Closes every stream, lets running calls finish within a deadline, and closes the database.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        let servers = async { while self.servers.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN, servers).await.is_err() {
            tracing::warn!("some calls did not finish in time and are aborted");
        }
        self.servers.shutdown().await;
        self.stats.stop().await;
        publish::save(&self.registry, &self.store).await;
        self.store.close().await;
    }
}
