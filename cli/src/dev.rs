//! `weir dev`: a whole fleet in one process, to try Weir in a minute.
//!
//! The components are the same as in the separate programs, and they communicate over real sockets. The configuration
//! is written through the admin API, as a user would do it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use weir_admin_api::{ApplyQuery, Config, Node, operations};
use weir_process::{FormerName, FormerNames, Signals};
use weir_snapshot::{config::HealthCheck, units::HumanDuration};

use crate::{
    client::{Call, Client},
    connection::Connection,
    output::{Waiting, print, tell},
};

/// Longest time until the whole fleet is ready.
const START_DEADLINE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Time that running requests have to complete when the fleet stops.
const DRAIN: Duration = Duration::from_secs(5);
/// Distance between the ports of one node and those of the next.
const NODE_STEP: u16 = 100;

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Number of data-plane nodes; the ports of each further one are 100 above, or the next that are free.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=50))]
    nodes: u16,
    /// Number of mock backends, on the port of --backend and those after it.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(0..=200))]
    backends: u16,
    /// The control plane's database [default: a new one that is deleted at the end].
    #[arg(long, env = "WEIR_DATABASE")]
    database: Option<String>,
    /// Address of the first node for HTTP requests.
    #[arg(long, env = "WEIR_HTTP_LISTEN", default_value = "0.0.0.0:8080")]
    http: SocketAddr,
    /// Address of the first node for HTTPS requests, with a temporary certificate for localhost [without a value:
    /// 127.0.0.1:8443].
    #[arg(long, env = "WEIR_HTTPS_LISTEN", value_name = "ADDR", num_args = 0..=1, default_missing_value = "127.0.0.1:8443")]
    https: Option<SocketAddr>,
    /// Address of the first node's status port.
    #[arg(long, env = "WEIR_STATUS_LISTEN", default_value = "127.0.0.1:8091")]
    status: SocketAddr,
    /// Address of the control plane's admin API.
    #[arg(long, env = "WEIR_ADMIN_LISTEN", default_value = "127.0.0.1:8081")]
    admin_listen: SocketAddr,
    /// Address of the control plane's port for nodes.
    #[arg(long, env = "WEIR_NODES_LISTEN", default_value = "127.0.0.1:8090")]
    nodes_listen: SocketAddr,
    /// Address of the first mock backend.
    #[arg(long, env = "WEIR_MOCK_LISTEN", default_value = "127.0.0.1:8082")]
    backend: SocketAddr,
    /// Worker threads of each node [default: one for each core].
    #[arg(long, env = "WEIR_WORKERS")]
    workers: Option<u16>,
    /// Format of the log on standard error.
    #[arg(long, env = "WEIR_LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    log_format: String,
    /// Allows core dumps and debuggers of the same user. The memory of this process holds private keys.
    #[arg(long, env = "WEIR_ALLOW_CORE_DUMPS")]
    allow_core_dumps: bool,
}

impl Dev {
    /// Former names of environment variables.
    pub(crate) const FORMER_NAMES: &[FormerName] = &[
        FormerName { argument: "http", name: "WEIR_HTTP", accepts: is_address, is_shared: false },
        FormerName { argument: "https", name: "WEIR_HTTPS", accepts: is_address, is_shared: false },
        FormerName { argument: "status", name: "WEIR_STATUS", accepts: is_address, is_shared: false },
    ];
}

fn is_address(value: &std::ffi::OsStr) -> bool {
    value.to_str().is_some_and(|text| text.parse::<SocketAddr>().is_ok())
}

/// Running components, in start order.
struct Fleet {
    control_plane: control_plane::Running,
    mocks: Vec<backend_mock::Running>,
    nodes: Vec<data_plane::Running>,
}

/// Runs the fleet. The token is needed if the database already has tokens.
pub(crate) async fn run(dev: Dev, token: Option<String>, former: &FormerNames) -> anyhow::Result<()> {
    weir_process::init_log(&dev.log_format, "warn");
    former.log();
    if !dev.allow_core_dumps
        && let Err(error) = control_plane::core_dumps::forbid()
    {
        tell!("core dumps, which would hold private keys, cannot be forbidden: {error}");
    }
    let mut signals = Signals::handle().context("cannot handle signals")?;
    check_ports(&dev).await?;

    let folder = tempfile::tempdir().context("cannot make a folder for the database")?;
    let database =
        dev.database.clone().unwrap_or_else(|| format!("sqlite:{}", folder.path().join("weir.db").display()));
    let waiting = Waiting::new("starting".to_owned());
    let fleet = tokio::select! {
        fleet = start(&dev, database, folder.path(), token) => fleet?,
        () = signals.stop_or_hangup() => return Ok(()),
    };
    drop(waiting);
    show(&fleet);

    signals.stop_or_hangup().await;
    // Nodes stop first: they send their last statistics to the control plane and complete requests to the mocks.
    for node in fleet.nodes {
        node.shutdown().await;
    }
    for mock in fleet.mocks {
        mock.shutdown().await;
    }
    fleet.control_plane.shutdown().await;
    Ok(())
}

async fn start(dev: &Dev, database: String, folder: &Path, token: Option<String>) -> anyhow::Result<Fleet> {
    let config = control_plane::Config {
        database,
        admin: dev.admin_listen,
        nodes: dev.nodes_listen,
        // With the socket, the nodes stay connected when a token or a certificate is created.
        nodes_socket: Some(folder.join("nodes.sock")),
        ..control_plane::Config::default()
    };
    let control_plane = control_plane::start(config).await.context("the control plane did not start")?;

    let mut mocks = Vec::new();
    for i in 0..dev.backends {
        let config =
            backend_mock::Config { listen: shifted(dev.backend, i)?, ..backend_mock::Config::default() };
        mocks.push(backend_mock::start(config).await.context("a mock backend did not start")?);
    }
    let client =
        Client::new(&Connection { admin: format!("http://{}", control_plane.admin), token, ca: None })?;
    configure(&client, &mocks).await.context("the configuration was not taken")?;

    let certificate = if dev.https.is_some() { Some(throw_away_certificate(folder)?) } else { None };
    let mut nodes = Vec::new();
    let socket =
        control_plane.nodes_socket.clone().context("the control plane opened no socket for nodes")?;
    let mut next = 0;
    for i in 0..dev.nodes {
        let (http, status) = if i == 0 { (dev.http, dev.status) } else { free_ports(dev, &mut next).await? };
        let config = data_plane::Config {
            control_plane: socket.clone(),
            http,
            https: dev.https.filter(|_| i == 0),
            tls_cert: certificate.as_ref().map(|(certificate, _)| certificate.clone()),
            tls_key: certificate.as_ref().map(|(_, key)| key.clone()),
            status,
            workers: dev.workers,
            node_id: Some(format!("node-{}", i + 1)),
            drain_timeout: HumanDuration(DRAIN),
            ..data_plane::Config::default()
        };
        nodes.push(data_plane::start(config).await.context("a node did not start")?);
    }
    let fleet = Fleet { control_plane, mocks, nodes };
    ready(&client, &fleet).await?;
    Ok(fleet)
}

/// Creates a certificate for this run only. Returns the paths of the certificate and the key.
fn throw_away_certificate(folder: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let made = rcgen::generate_simple_self_signed(names).context("cannot make a certificate")?;
    let (certificate, key) = (folder.join("dev.crt"), folder.join("dev.key"));
    // Only the user can read the folder.
    fs::write(&certificate, made.cert.pem()).context("cannot write the certificate")?;
    fs::write(&key, made.signing_key.serialize_pem()).context("cannot write the certificate's key")?;
    Ok((certificate, key))
}

/// Adds the mocks to the pool `default`. All other configuration in an existing database stays unchanged.
async fn configure(client: &Client, mocks: &[backend_mock::Running]) -> anyhow::Result<()> {
    let mut config: Config = client.ask(&operations::GET_CONFIG, &(), &()).await?.read()?;
    let mut pool = match config.pools.iter().position(|pool| pool.name == "default") {
        Some(at) => config.pools.remove(at),
        None => serde_json::from_value(json!({ "name": "default" })).context("a pool")?,
    };
    if pool.health_check == HealthCheck::default() {
        // A short interval, so that changes show at once.
        let quick = json!({"type": "http", "path": "/health", "interval": "1s", "timeout": "500ms", "rise": 1, "fall": 2});
        pool.health_check = serde_json::from_value(quick).context("a health check")?;
    }
    for mock in mocks {
        let url = format!("http://{}", mock.address);
        if !pool.backends.iter().any(|backend| backend.url == url) {
            pool.backends.push(serde_json::from_value(json!({ "url": url })).context("a backend")?);
        }
    }
    config.pools.insert(0, pool);
    if !config.routes.iter().any(|route| route.name == "default") {
        let route = json!({ "name": "default", "pool": "default" });
        config.routes.push(serde_json::from_value(route).context("a route")?);
    }
    let call = Call::of(&operations::APPLY_CONFIG, &(), &ApplyQuery::default()).json(&config);
    client.call(call).await?;
    Ok(())
}

/// Waits until every node runs the current revision and reports that it is ready.
async fn ready(client: &Client, fleet: &Fleet) -> anyhow::Result<()> {
    let deadline = Instant::now() + START_DEADLINE;
    loop {
        let status = client.ask(&operations::GET_STATUS, &(), &()).await?.read()?;
        let runs = |node: &&Node| node.active_revision >= status.revision;
        let nodes_run = status.nodes.iter().filter(runs).count() >= fleet.nodes.len();
        let mut all_ready = true;
        for node in &fleet.nodes {
            all_ready = all_ready && is_ready(node.status).await;
        }
        if nodes_run && all_ready {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let status = serde_json::to_string(&status).unwrap_or_default();
            bail!("the nodes were not ready within {} s; status: {status}", START_DEADLINE.as_secs());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn is_ready(status: SocketAddr) -> bool {
    let connection = Connection { admin: format!("http://{status}"), token: None, ca: None };
    let Ok(client) = Client::new(&connection) else { return false };
    let call = Call::of(&operations::GET_READINESS, &(), &()).accept("*/*");
    client.call(call).await.is_ok()
}

/// Reports a port that is already in use, before anything starts.
async fn check_ports(dev: &Dev) -> anyhow::Result<()> {
    let mut wanted = vec![
        ("the admin API (--admin-listen)", dev.admin_listen),
        ("the nodes' port (--nodes-listen)", dev.nodes_listen),
        ("the proxy (--http)", dev.http),
        ("the node's status (--status)", dev.status),
    ];
    if let Some(https) = dev.https {
        wanted.push(("the proxy's HTTPS (--https)", https));
    }
    for i in 0..dev.backends {
        wanted.push(("a mock backend (--backend)", shifted(dev.backend, i)?));
    }
    for (what, address) in wanted {
        if let Err(error) = TcpListener::bind(address).await {
            bail!("port {} is not free: {what} cannot listen on {address}: {error}", address.port());
        }
    }
    Ok(())
}

/// Returns the ports of an additional node: goes up in steps of 100 until both ports are free.
async fn free_ports(dev: &Dev, next: &mut u16) -> anyhow::Result<(SocketAddr, SocketAddr)> {
    loop {
        *next += NODE_STEP;
        let (http, status) = (shifted(dev.http, *next)?, shifted(dev.status, *next)?);
        if dev.http.port() == 0 || is_free(http).await && is_free(status).await {
            return Ok((http, status));
        }
    }
}

async fn is_free(address: SocketAddr) -> bool {
    TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, address.port())).await.is_err()
        && TcpListener::bind(address).await.is_ok()
}

/// Adds an offset to the port of an address; port 0 stays 0.
fn shifted(address: SocketAddr, by: u16) -> anyhow::Result<SocketAddr> {
    let port = match address.port() {
        0 => 0,
        port => port.checked_add(by).with_context(|| format!("there are no ports left above {address}"))?,
    };
    Ok(SocketAddr::new(address.ip(), port))
}

fn show(fleet: &Fleet) {
    let admin = fleet.control_plane.admin;
    let mut text = String::from("Weir is ready.\n\n");
    for node in &fleet.nodes {
        text.push_str(&format!("  proxy    http://{}   status http://{}\n", node.http, node.status));
        if let Some(https) = node.https {
            text.push_str(&format!("  proxy    https://{https} (throw-away certificate: curl -k)\n"));
        }
    }
    text.push_str(&format!(
        "  admin    http://{admin}\n  nodes    https://{} (join with a token: weir node-tokens create)\n",
        fleet.control_plane.nodes
    ));
    for mock in &fleet.mocks {
        text.push_str(&format!("  backend  http://{}\n", mock.address));
    }
    let proxy = fleet.nodes.first().map_or(0, |node| node.http.port());
    let another = fleet.mocks.last().map_or(8085, |mock| mock.address.port().saturating_add(1));
    let flag = if admin.port() == 8081 { String::new() } else { format!(" --admin http://{admin}") };
    text.push_str(&format!(
        "\nTry:\n  curl -i http://127.0.0.1:{proxy}/books\n  \
         curl -X POST http://{admin}/backends -H 'content-type: application/json' \
         -d '{{\"url\":\"http://127.0.0.1:{another}\"}}'\n  \
         weir{flag} reports hourly\n\nCtrl-C stops everything.\n"
    ));
    // If this cannot be written, the fleet still runs.
    print(&text);
}
