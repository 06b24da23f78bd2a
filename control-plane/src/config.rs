//! The control plane's flags and environment.

use std::{net::SocketAddr, path::PathBuf};

use weir_snapshot::units::HumanDuration;

use crate::stats::Retention;

/// How a control plane is started. Every flag has an environment variable.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Where everything is stored, as sqlite:PATH; made when it is missing.
    #[arg(long, env = "WEIR_DATABASE", default_value = "sqlite:weir.db", value_name = "URL")]
    pub database: String,
    /// Where REST and gRPC for operators are served; port 0: a free one.
    #[arg(long, env = "WEIR_ADMIN", default_value = "127.0.0.1:8081", value_name = "ADDR")]
    pub admin: SocketAddr,
    /// Where nodes connect.
    #[arg(long, env = "WEIR_NODES", default_value = "127.0.0.1:8090", value_name = "ADDR")]
    pub nodes: SocketAddr,
    /// A configuration that is applied at start when it differs from what is stored.
    #[arg(long, env = "WEIR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How long counts by minute are kept; hours of time zones with half hours need them.
    #[arg(long, env = "WEIR_KEEP_MINUTES", default_value = "35d", value_name = "DURATION")]
    pub keep_minutes: HumanDuration,
    /// How long counts by hour are kept; days are kept for ever.
    #[arg(long, env = "WEIR_KEEP_HOURS", default_value = "400d", value_name = "DURATION")]
    pub keep_hours: HumanDuration,
    /// Allows addresses beyond loopback although there is neither a token nor TLS.
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
            keep_minutes: HumanDuration(minutes),
            keep_hours: HumanDuration(hours),
            insecure: false,
        }
    }
}

impl Config {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        for (flag, address) in [("--admin", self.admin), ("--nodes", self.nodes)] {
            anyhow::ensure!(
                address.ip().is_loopback() || self.insecure,
                "{flag} {address} is reachable from other machines, and anyone there could change the fleet; \
                 use a loopback address, or say --insecure where the network is trusted"
            );
            if !address.ip().is_loopback() {
                tracing::warn!(flag, %address, "open to the network without token or TLS (--insecure)");
            }
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

    pub(crate) fn retention(&self) -> Retention {
        Retention { minutes: self.keep_minutes.0, hours: self.keep_hours.0 }
    }
}
