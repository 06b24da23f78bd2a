//! Flags and environment variables of the control plane.

use std::{
    ffi::OsStr,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use weir_process::FormerName;
use weir_snapshot::units::HumanDuration;

use crate::{
    publish::Rule,
    serve::{AdminTls, LocalSocket},
    stats::Retention,
};

/// The control plane of a Weir fleet: configuration, health checks, reports, and the admin API.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "control-plane", version)]
pub struct Arguments {
    /// Settings of the control plane.
    #[command(flatten)]
    pub config: Config,
    /// Log format on standard error.
    #[arg(long, env = "WEIR_LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub log_format: String,
    /// Allows core dumps, and debuggers of the same user. The memory of this process contains private keys.
    #[arg(long, env = "WEIR_ALLOW_CORE_DUMPS")]
    pub allow_core_dumps: bool,
}

impl Arguments {
    /// Former names of environment variables. `WEIR_ADMIN` and `WEIR_TOKEN_FILE` now belong to `weir`, so they are
    /// accepted only where `weir` cannot use the value: an address without a scheme, or a file that does not exist yet.
    pub const FORMER_NAMES: &[FormerName] = &[
        FormerName { argument: "admin", name: "WEIR_ADMIN", accepts: is_address, is_shared: false },
        FormerName { argument: "nodes", name: "WEIR_NODES", accepts: is_address, is_shared: false },
        FormerName {
            argument: "token_file",
            name: "WEIR_TOKEN_FILE",
            accepts: |file| is_unwritten(Path::new(file)),
            is_shared: true,
        },
    ];
}

fn is_address(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.parse::<SocketAddr>().is_ok())
}

fn is_unwritten(file: &Path) -> bool {
    std::fs::metadata(file)
        .map_or_else(|error| error.kind() == std::io::ErrorKind::NotFound, |file| file.len() == 0)
}

/// Settings of a control plane. Every flag has an environment variable.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Database, as sqlite:PATH; created if it is missing.
    #[arg(long, env = "WEIR_DATABASE", default_value = "sqlite:weir.db", value_name = "URL")]
    pub database: String,
    /// Address of the admin port, which serves REST, gRPC and the dashboard; port 0 chooses a free port.
    #[arg(long, env = "WEIR_ADMIN_LISTEN", default_value = "127.0.0.1:8081", value_name = "ADDR")]
    pub admin: SocketAddr,
    /// Address of the nodes' port, to which nodes connect; port 0 chooses a free port.
    #[arg(long, env = "WEIR_NODES_LISTEN", default_value = "127.0.0.1:8090", value_name = "ADDR")]
    pub nodes: SocketAddr,
    /// Configuration file. At start, on SIGHUP and on POST /config/reload, its changes since it was last applied are
    /// applied; changes made through the API or the dashboard are kept.
    #[arg(long, env = "WEIR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Applies the whole configuration file at each start and reload, and undoes changes made through the API or the
    /// dashboard.
    #[arg(long, env = "WEIR_CONFIG_AUTHORITATIVE", requires = "config")]
    pub config_authoritative: bool,
    /// File with the key that encrypts private keys in the database: 32 bytes as base64 or hexadecimal.
    /// Without it, WEIR_SECRETS_KEY holds the key; otherwise a key file is created next to the database.
    #[arg(long, env = "WEIR_SECRETS_KEY_FILE", value_name = "FILE")]
    pub secrets_key_file: Option<PathBuf>,
    /// How long counts per minute are kept; hourly reports in time zones with half-hour offsets need them.
    #[arg(long, env = "WEIR_KEEP_MINUTES", default_value = "35d", value_name = "DURATION")]
    pub keep_minutes: HumanDuration,
    /// How long counts per hour are kept; counts per day are kept forever.
    #[arg(long, env = "WEIR_KEEP_HOURS", default_value = "400d", value_name = "DURATION")]
    pub keep_hours: HumanDuration,
    /// Certificate chain of the admin port, as PEM; enables HTTPS. Reloaded when the file changes.
    #[arg(long, env = "WEIR_ADMIN_TLS_CERT", value_name = "FILE", requires = "admin_tls_key")]
    pub admin_tls_cert: Option<PathBuf>,
    /// Private key of the admin port's certificate, as PEM.
    #[arg(long, env = "WEIR_ADMIN_TLS_KEY", value_name = "FILE", requires = "admin_tls_cert")]
    pub admin_tls_key: Option<PathBuf>,
    /// Additional host name that requests to the admin port may use; separate several with commas.
    #[arg(long, env = "WEIR_ADMIN_HOST", value_name = "NAME", value_delimiter = ',')]
    pub admin_host: Vec<String>,
    /// File to which an admin token is written if there is none yet; only its owner can read the file.
    #[arg(long, env = "WEIR_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Time after which a disconnected node is forgotten; its reported statistics are kept.
    #[arg(long, env = "WEIR_FORGET_NODES", default_value = "24h", value_name = "DURATION")]
    pub forget_nodes: HumanDuration,
    /// Time within which a node must acknowledge or reject a revision; otherwise its stream is closed and it is shown as
    /// lagging.
    #[arg(long, env = "WEIR_ACK_TIMEOUT", default_value = "30s", value_name = "DURATION")]
    pub ack_timeout: HumanDuration,
    /// Number of configuration revisions kept for inspection and rollback.
    #[arg(long, env = "WEIR_KEEP_REVISIONS", default_value_t = 1000, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub keep_revisions: u64,
    /// File to which a join token for nodes is written, valid until it is revoked; only its owner can read the file.
    #[arg(long, env = "WEIR_JOIN_TOKEN_FILE", value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,
    /// Validity of nodes' certificates; each certificate is renewed after half of this time.
    #[arg(long, env = "WEIR_NODE_CERTIFICATES", default_value = "7d", value_name = "DURATION")]
    pub node_certificates: HumanDuration,
    /// Unix socket for nodes on this machine that run as the same user or as root: they need no join token. Nodes
    /// connect with --control-plane unix:PATH. "off" disables it. [default: the database's path with .sock appended]
    #[arg(long, env = "WEIR_NODES_SOCKET", value_name = "PATH")]
    pub nodes_socket: Option<PathBuf>,
    /// Accepts nodes over TLS only, also on loopback, and opens no local socket unless --nodes-socket is given.
    #[arg(long, env = "WEIR_NODES_TLS")]
    pub nodes_tls: bool,
    /// Allows the admin port to be open beyond loopback until a token is created, and nodes to connect without TLS:
    /// beyond loopback, and on loopback even when there is a token or a private key.
    #[arg(long, env = "WEIR_INSECURE")]
    pub insecure: bool,
}

impl Default for Config {
    /// A control plane on free loopback ports, for tests and `weir dev`.
    fn default() -> Self {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let Retention { minutes, hours } = Retention::default();
        Self {
            database: "sqlite:weir.db".into(),
            admin: free,
            nodes: free,
            config: None,
            config_authoritative: false,
            secrets_key_file: None,
            keep_minutes: HumanDuration(minutes),
            keep_hours: HumanDuration(hours),
            admin_tls_cert: None,
            admin_tls_key: None,
            admin_host: Vec::new(),
            token_file: None,
            forget_nodes: HumanDuration(Duration::from_secs(24 * 60 * 60)),
            ack_timeout: HumanDuration(Duration::from_secs(30)),
            keep_revisions: 1000,
            join_token_file: None,
            node_certificates: HumanDuration(Duration::from_secs(7 * 24 * 3600)),
            nodes_socket: None,
            nodes_tls: false,
            insecure: false,
        }
    }
}

impl Config {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.node_certificates.0 >= Duration::from_secs(5),
            "--node-certificates {} is too short: a node could not renew its certificate in time (at least 5s)",
            self.node_certificates
        );
        for (flag, address) in [("--admin", self.admin), ("--nodes", self.nodes)] {
            if self.insecure && !address.ip().is_loopback() {
                tracing::warn!(flag, %address, "port is open to the network (--insecure)");
            }
        }
        if self.insecure && self.nodes.ip().is_loopback() && !self.nodes_tls {
            tracing::warn!(
                address = %self.nodes,
                "any process on this machine can connect as a node and receive keys and configuration (--insecure)"
            );
        }
        for (flag, time) in [("--forget-nodes", self.forget_nodes), ("--ack-timeout", self.ack_timeout)] {
            anyhow::ensure!(!time.0.is_zero(), "{flag} must be greater than zero, such as 30s");
        }
        let least = HumanDuration(Retention::LEAST);
        for (flag, kept) in [("--keep-minutes", self.keep_minutes), ("--keep-hours", self.keep_hours)] {
            anyhow::ensure!(
                kept >= least,
                "{flag} {kept} is too short: counts may arrive a day late, so the minimum is {least}"
            );
        }
        anyhow::ensure!(
            self.keep_hours >= self.keep_minutes,
            "--keep-hours {} is shorter than --keep-minutes {}",
            self.keep_hours,
            self.keep_minutes
        );
        Ok(())
    }

    /// TLS files of the admin port, if it uses TLS.
    pub(crate) fn admin_tls(&self) -> anyhow::Result<Option<AdminTls>> {
        match (&self.admin_tls_cert, &self.admin_tls_key) {
            (Some(certificate), Some(key)) => AdminTls::open(certificate.clone(), key.clone()).map(Some),
            (None, None) => Ok(None),
            _ => anyhow::bail!("--admin-tls-cert and --admin-tls-key must be given together"),
        }
    }

    /// When nodes may connect without TLS.
    pub(crate) fn cleartext(&self) -> Rule {
        if self.nodes_tls {
            Rule::Never
        } else if self.insecure {
            Rule::Always
        } else if self.nodes.ip().is_loopback() {
            Rule::WhileOpen
        } else {
            Rule::Never
        }
    }

    /// Opens the local socket, unless it is disabled.
    ///
    /// # Errors
    /// The path given by the operator cannot be used. If the default path cannot be used, that is only logged.
    pub(crate) async fn local_socket(&self, database: &Path) -> anyhow::Result<Option<LocalSocket>> {
        match &self.nodes_socket {
            Some(path) if path.as_os_str() == "off" => Ok(None),
            Some(path) => {
                let opened = LocalSocket::bind(path).await;
                opened.with_context(|| format!("--nodes-socket {}", path.display())).map(Some)
            }
            None if self.nodes_tls => Ok(None),
            None => {
                let mut path = database.as_os_str().to_owned();
                path.push(".sock");
                match LocalSocket::bind(Path::new(&path)).await {
                    Ok(socket) => Ok(Some(socket)),
                    Err(error) => {
                        let (socket, error) = (path.to_string_lossy(), format!("{error:#}"));
                        tracing::warn!(%socket, error, "cannot open the local socket for nodes (--nodes-socket)");
                        Ok(None)
                    }
                }
            }
        }
    }

    /// Whether the admin port requires a token from the first start on.
    pub(crate) fn is_guarded(&self) -> bool {
        !self.admin.ip().is_loopback() && !self.insecure
    }

    pub(crate) fn retention(&self) -> Retention {
        Retention { minutes: self.keep_minutes.0, hours: self.keep_hours.0 }
    }
}
