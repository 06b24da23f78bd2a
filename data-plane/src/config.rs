//! The node's flags and environment.

use std::{
    ffi::OsStr,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tonic::transport::Endpoint;
use weir_process::FormerName;
use weir_snapshot::{BackendUrl, Host, backend_address::OwnPort, units::HumanDuration};

/// A node of a Weir fleet: it proxies requests, as the control plane configures it.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "data-plane", version)]
pub struct Arguments {
    /// Settings of the node.
    #[command(flatten)]
    pub config: Config,
    /// Format of the log on standard error.
    #[arg(long, env = "WEIR_LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub log_format: String,
    /// Allows core dumps and debuggers of the same user. The memory of this process holds private keys.
    #[arg(long, env = "WEIR_ALLOW_CORE_DUMPS")]
    pub allow_core_dumps: bool,
}

impl Arguments {
    /// Former names of environment variables. `WEIR_TOKEN_FILE` belongs to `weir` now, so it is accepted unless the file
    /// holds a token of the admin API.
    pub const FORMER_NAMES: &[FormerName] = &[
        FormerName { argument: "http", name: "WEIR_HTTP", accepts: is_address, is_shared: false },
        FormerName { argument: "https", name: "WEIR_HTTPS", accepts: is_address, is_shared: false },
        FormerName { argument: "status", name: "WEIR_STATUS", accepts: is_address, is_shared: false },
        FormerName {
            argument: "token_file",
            name: "WEIR_TOKEN_FILE",
            accepts: may_hold_join_token,
            is_shared: true,
        },
    ];
}

fn is_address(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.parse::<SocketAddr>().is_ok())
}

/// A file that is not there may be written later.
fn may_hold_join_token(file: &OsStr) -> bool {
    match std::fs::read_to_string(file) {
        Ok(text) => text.trim().is_empty() || text.trim().starts_with(weir_proto::JOIN_PREFIX),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// How a node is started. Every flag has an environment variable.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Port for nodes of the control plane: https://HOST:PORT with a join token; unix:PATH, its local socket, for the same user on
    /// the same machine; or http://HOST:PORT on loopback, while the control plane has neither a token nor a private key.
    #[arg(long, env = "WEIR_CONTROL_PLANE", default_value = "http://127.0.0.1:8090", value_name = "URL")]
    pub control_plane: String,
    /// Address for HTTP requests of clients; port 0 takes a free one.
    #[arg(long, env = "WEIR_HTTP_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDR")]
    pub http: SocketAddr,
    /// Address for HTTPS requests of clients (HTTP/1.1 and HTTP/2); port 0 takes a free one.
    #[arg(long, env = "WEIR_HTTPS_LISTEN", value_name = "ADDR")]
    pub https: Option<SocketAddr>,
    /// Certificate for --https with its chain, as PEM: for clients that ask for no host of the configured certificates.
    #[arg(long, env = "WEIR_TLS_CERT", value_name = "FILE", requires = "tls_key", requires = "https")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of --tls-cert, as PEM.
    #[arg(long, env = "WEIR_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Address of the status port (/healthz, /readyz, /metrics).
    #[arg(long, env = "WEIR_STATUS_LISTEN", default_value = "127.0.0.1:8091", value_name = "ADDR")]
    pub status: SocketAddr,
    /// Host name under which the status port is reached, beside addresses and localhost; several are separated by commas. On a
    /// loopback address other names are rejected; beyond loopback only when some are given.
    #[arg(long, env = "WEIR_STATUS_HOST", value_name = "NAME", value_delimiter = ',')]
    pub status_host: Vec<String>,
    /// Number of worker threads [default: one for each core].
    #[arg(long, env = "WEIR_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Id of the node in the fleet [default: host name and port].
    #[arg(long, env = "WEIR_NODE_ID", value_name = "ID")]
    pub node_id: Option<String>,
    /// Label of the node, as name=value; can be repeated, or be one list with commas.
    #[arg(long = "label", env = "WEIR_LABELS", value_name = "NAME=VALUE", value_delimiter = ',', value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// File with the join token (weir node-tokens create). It is read again at each attempt, so it may be written later.
    #[arg(long, visible_alias = "join-token-file", env = "WEIR_JOIN_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The join token itself. Other users may see a flag, so prefer the variable.
    #[arg(long, env = "WEIR_NODE_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub node_token: Option<String>,
    /// Folder in which the node keeps its configuration, so that it can start while the control plane is away.
    #[arg(long, env = "WEIR_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Time for running requests to finish after the node is asked to stop.
    #[arg(long, env = "WEIR_DRAIN_TIMEOUT", default_value = "30s", value_name = "DURATION")]
    pub drain_timeout: HumanDuration,
    /// Allows a status port beyond loopback, and a control plane on another machine without TLS.
    #[arg(long, env = "WEIR_INSECURE")]
    pub insecure: bool,
}

impl Default for Config {
    /// A node on free loopback ports.
    fn default() -> Self {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            control_plane: "http://127.0.0.1:8090".into(),
            http: free,
            https: None,
            tls_cert: None,
            tls_key: None,
            status: free,
            status_host: Vec::new(),
            workers: None,
            node_id: None,
            labels: Vec::new(),
            token_file: None,
            node_token: None,
            state_dir: None,
            drain_timeout: HumanDuration(Duration::from_secs(30)),
            insecure: false,
        }
    }
}

impl Config {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.status.ip().is_loopback() || self.insecure,
            "--status {} is reachable from other machines and shows metrics to anyone; use a loopback address or say --insecure",
            self.status
        );
        let host = host(&self.control_plane);
        anyhow::ensure!(
            !self.control_plane.starts_with("http://")
                || self.insecure
                || host.is_none_or(|host| is_here(&host)),
            "--control-plane {} is on another machine, and anyone between could be it: say https:// and give a join token \
             (--token-file), or --insecure where the network is trusted",
            self.control_plane
        );
        if let Some(id) = &self.node_id {
            let fine = |c: char| c.is_ascii_graphic();
            anyhow::ensure!(
                (1..=100).contains(&id.len()) && id.chars().all(fine),
                "--node-id {id:?} is not a name: 1 to 100 visible ASCII characters"
            );
        }
        for (at, (name, _)) in self.labels.iter().enumerate() {
            let is_new = self.labels[..at].iter().all(|(other, _)| other != name);
            anyhow::ensure!(is_new, "--label {name} is given twice");
        }
        anyhow::ensure!(
            self.labels.len() <= 32,
            "--label is given {} times, 32 are the most",
            self.labels.len()
        );
        Ok(())
    }

    /// The ports that this node knows to be the fleet's: its own and, where its address is given, the control plane's.
    pub(crate) fn own_ports(
        &self,
        http: SocketAddr,
        https: Option<SocketAddr>,
        status: SocketAddr,
    ) -> Arc<[OwnPort]> {
        let mut own =
            vec![OwnPort::new(http, "a node's HTTP port"), OwnPort::new(status, "a node's status port")];
        own.extend(https.map(|https| OwnPort::new(https, "a node's HTTPS port")));
        let url = self.control_plane.parse::<BackendUrl>().ok();
        let addresses = url.map(|url| match &url.host {
            Host::Address(address) => vec![SocketAddr::new(*address, url.port)],
            Host::Name(name) if name == "localhost" => {
                vec![(Ipv4Addr::LOCALHOST, url.port).into(), (Ipv6Addr::LOCALHOST, url.port).into()]
            }
            Host::Name(_) => Vec::new(),
        });
        let nodes = |address| OwnPort::new(address, "the control plane's port for nodes");
        own.extend(addresses.into_iter().flatten().map(nodes));
        own.into()
    }

    pub(crate) fn worker_count(&self) -> usize {
        self.workers.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
    }

    /// The name in the fleet, once the port is known.
    pub(crate) fn node_id(&self, http: SocketAddr) -> String {
        self.node_id.clone().unwrap_or_else(|| format!("{}-{}", host_name(), http.port()))
    }
}

/// The host in the control plane's address.
fn host(control_plane: &str) -> Option<String> {
    endpoint(control_plane)?.uri().host().map(str::to_owned)
}

/// The control plane's address. Which protocol is spoken there the connector knows, so here it is always HTTP's.
pub(crate) fn endpoint(control_plane: &str) -> Option<Endpoint> {
    if let Some(path) = socket(control_plane) {
        // The connector knows where to connect; HTTP wants a name all the same.
        return (!path.is_empty()).then(|| Endpoint::from_static("http://localhost:8090"));
    }
    let rest = control_plane.strip_prefix("https://").or_else(|| control_plane.strip_prefix("http://"))?;
    let endpoint = Endpoint::from_shared(format!("http://{rest}")).ok()?;
    endpoint.uri().port().is_some().then_some(endpoint)
}

/// The path in the address of a local socket, `unix:PATH` or `unix://PATH`.
pub(crate) fn socket(control_plane: &str) -> Option<&str> {
    let path = control_plane.strip_prefix("unix:")?;
    Some(path.strip_prefix("//").unwrap_or(path))
}

/// A label as it is typed.
fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write name=value")?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if name.is_empty() || name.len() > 63 || !name.chars().all(fits) {
        return Err(format!("{name:?} is not a label's name: 1 to 63 of a-z, A-Z, 0-9, - _ . /"));
    }
    if value.len() > 128 || value.chars().any(char::is_control) {
        return Err(format!("the value of {name} is longer than 128 bytes or holds control characters"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Whether a host is this machine's loopback.
fn is_here(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

fn host_name() -> String {
    let kernel = PathBuf::from("/proc/sys/kernel/hostname");
    let name = std::fs::read_to_string(kernel).unwrap_or_default();
    match name.trim() {
        "" => "node".to_owned(),
        name => name.to_owned(),
    }
}
