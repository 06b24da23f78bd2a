//! The control plane's flags and environment.

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
    /// Format of the log on standard error.
    #[arg(long, env = "WEIR_LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub log_format: String,
    /// Allows core dumps and debuggers of the same user. The memory of this process holds private keys.
    #[arg(long, env = "WEIR_ALLOW_CORE_DUMPS")]
    pub allow_core_dumps: bool,
}

impl Arguments {
    /// Former names of environment variables. `WEIR_ADMIN` and `WEIR_TOKEN_FILE` belong to `weir` now, so they are
    /// accepted only where `weir` cannot use the value: an address without a scheme, a file that is still to be written.
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

/// How a control plane is started. Every flag has an environment variable.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Where everything is stored, as sqlite:PATH; made when it is missing.
    #[arg(long, env = "WEIR_DATABASE", default_value = "sqlite:weir.db", value_name = "URL")]
    pub database: String,
    /// Where REST and gRPC for operators are served; port 0: a free one.
    #[arg(long, env = "WEIR_ADMIN_LISTEN", default_value = "127.0.0.1:8081", value_name = "ADDR")]
    pub admin: SocketAddr,
    /// Where nodes connect.
    #[arg(long, env = "WEIR_NODES_LISTEN", default_value = "127.0.0.1:8090", value_name = "ADDR")]
    pub nodes: SocketAddr,
    /// A configuration file. At start, on SIGHUP and on POST /config/reload, what has changed in it since it was last
    /// applied is applied; changes made by API or dashboard stay.
    #[arg(long, env = "WEIR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Makes the whole configuration file current at each start and reload, and undoes changes made by API or dashboard.
    #[arg(long, env = "WEIR_CONFIG_AUTHORITATIVE", requires = "config")]
    pub config_authoritative: bool,
    /// A file with the key that private keys are encrypted with in the database: 32 bytes as base64 or hexadecimal.
    /// Else WEIR_SECRETS_KEY holds the key; else one is made beside the database.
    #[arg(long, env = "WEIR_SECRETS_KEY_FILE", value_name = "FILE")]
    pub secrets_key_file: Option<PathBuf>,
    /// How long counts by minute are kept; hours of time zones with half hours need them.
    #[arg(long, env = "WEIR_KEEP_MINUTES", default_value = "35d", value_name = "DURATION")]
    pub keep_minutes: HumanDuration,
    /// How long counts by hour are kept; days are kept for ever.
    #[arg(long, env = "WEIR_KEEP_HOURS", default_value = "400d", value_name = "DURATION")]
    pub keep_hours: HumanDuration,
    /// The admin port's certificate with its chain, as PEM: it is https then. Read again when it changes.
    #[arg(long, env = "WEIR_ADMIN_TLS_CERT", value_name = "FILE", requires = "admin_tls_key")]
    pub admin_tls_cert: Option<PathBuf>,
    /// The certificate's private key, as PEM.
    #[arg(long, env = "WEIR_ADMIN_TLS_KEY", value_name = "FILE", requires = "admin_tls_cert")]
    pub admin_tls_key: Option<PathBuf>,
    /// A further name under which the admin port may be asked for; several are separated by commas.
    #[arg(long, env = "WEIR_ADMIN_HOST", value_name = "NAME", value_delimiter = ',')]
    pub admin_host: Vec<String>,
    /// Where an admin's token is written when there is none yet; only its owner can read the file.
    #[arg(long, env = "WEIR_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A node that has been away for so long is forgotten; what it reported stays.
    #[arg(long, env = "WEIR_FORGET_NODES", default_value = "24h", value_name = "DURATION")]
    pub forget_nodes: HumanDuration,
    /// A node that neither acknowledges nor refuses a revision for so long has its stream ended, and is shown as lagging.
    #[arg(long, env = "WEIR_ACK_TIMEOUT", default_value = "30s", value_name = "DURATION")]
    pub ack_timeout: HumanDuration,
    /// How many revisions of the configuration are kept to look at and to go back to.
    #[arg(long, env = "WEIR_KEEP_REVISIONS", default_value_t = 1000, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub keep_revisions: u64,
    /// Where a join token for nodes is left, good until it is revoked; only its owner can read the file.
    #[arg(long, env = "WEIR_JOIN_TOKEN_FILE", value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,
    /// How long nodes' certificates are good; each is replaced after half of its time.
    #[arg(long, env = "WEIR_NODE_CERTIFICATES", default_value = "7d", value_name = "DURATION")]
    pub node_certificates: HumanDuration,
    /// A Unix socket for nodes on this machine that run as the same user or as root: they need no join token. Nodes use it as
    /// --control-plane unix:PATH. off: none. [default: beside the database, with .sock after its name]
    #[arg(long, env = "WEIR_NODES_SOCKET", value_name = "PATH")]
    pub nodes_socket: Option<PathBuf>,
    /// Takes nodes over TLS alone, also on loopback, and opens no local socket unless --nodes-socket names it.
    #[arg(long, env = "WEIR_NODES_TLS")]
    pub nodes_tls: bool,
    /// Lets the admin port be open beyond loopback until a token is made, and nodes connect in the clear: beyond loopback,
    /// and on loopback also once there is a token or a private key.
    #[arg(long, env = "WEIR_INSECURE")]
    pub insecure: bool,
}

impl Default for Config {
    /// A control plane on free loopback ports.
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
            "--node-certificates {} is too short: a node could not replace one in time",
            self.node_certificates
        );
        for (flag, address) in [("--admin", self.admin), ("--nodes", self.nodes)] {
            if self.insecure && !address.ip().is_loopback() {
                tracing::warn!(flag, %address, "open to the network (--insecure)");
            }
        }
        if self.insecure && self.nodes.ip().is_loopback() && !self.nodes_tls {
            tracing::warn!(
                address = %self.nodes,
                "any process of this machine can connect as a node, and gets keys and configuration (--insecure)"
            );
        }
        for (flag, time) in [("--forget-nodes", self.forget_nodes), ("--ack-timeout", self.ack_timeout)] {
            anyhow::ensure!(!time.0.is_zero(), "{flag} is zero; say how long, such as 30s");
        }
        let least = HumanDuration(Retention::LEAST);
        for (flag, kept) in [("--keep-minutes", self.keep_minutes), ("--keep-hours", self.keep_hours)] {
            anyhow::ensure!(
                kept >= least,
                "{flag} {kept} is too short: counts may come a day late, so it is {least} at least"
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

    /// What the admin port speaks TLS with, if it does.
    pub(crate) fn admin_tls(&self) -> anyhow::Result<Option<AdminTls>> {
        match (&self.admin_tls_cert, &self.admin_tls_key) {
            (Some(certificate), Some(key)) => AdminTls::open(certificate.clone(), key.clone()).map(Some),
            (None, None) => Ok(None),
            _ => anyhow::bail!("--admin-tls-cert and --admin-tls-key go together"),
        }
    }

    /// Where nodes may come in the clear.
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

    /// Opens the local socket, where there is to be one.
    ///
    /// # Errors
    /// A path that was given cannot be used. Where none was, that is only logged.
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
                        tracing::warn!(%socket, error, "no local socket for nodes (--nodes-socket)");
                        Ok(None)
                    }
                }
            }
        }
    }

    /// Whether the admin port needs a token from the first start on.
    pub(crate) fn is_guarded(&self) -> bool {
        !self.admin.ip().is_loopback() && !self.insecure
    }

    pub(crate) fn retention(&self) -> Retention {
        Retention { minutes: self.keep_minutes.0, hours: self.keep_hours.0 }
    }
}
