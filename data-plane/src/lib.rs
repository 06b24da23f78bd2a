//! The data plane: a stateless node that carries traffic.
//!
//! A control thread talks to the control plane, activates snapshots and reports counts; worker threads carry the
//! requests. Where to look: a request passes `listener/http1.rs` (the connection), `proxy.rs` (route and filters),
//! `proxy/attempts.rs` (backends and retries) and `upstream/http1.rs` (the backend's connection). `fleet.rs` and `pool/`
//! have the state that outlives a snapshot. ARCHITECTURE.md lists the modules from bottom to top.

mod answer;
mod cache_padded;
mod client;
mod client_limits;
mod config;
mod connections;
mod control;
pub mod core_dumps;
mod edit;
mod enroll;
mod failure;
mod filter;
mod fleet;
mod hash;
mod identity;
mod listener;
mod origin;
mod pool;
mod proxy;
mod stats;
mod status;
mod upstream;
mod url_map;
mod wire;
mod worker;
mod workers;

#[cfg(test)]
mod wire_tests;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;

pub use self::config::{Arguments, Config};
use self::{
    fleet::Fleet,
    identity::Identity,
    stats::Reporter,
    status::StatusHosts,
    wire::{
        descriptors,
        tls::{self, OwnCertificate},
    },
    workers::{Https, Workers},
};

/// A node that runs.
pub struct Running {
    /// Address for HTTP.
    pub http: SocketAddr,
    /// Address for HTTPS.
    pub https: Option<SocketAddr>,
    /// Address of the status port.
    pub status: SocketAddr,
    state: Arc<control::State>,
    tasks: tokio::task::JoinSet<()>,
    drain_timeout: Duration,
    certificate: Option<OwnCertificate>,
}

/// Starts a node: it accepts traffic once the control plane has sent a snapshot.
///
/// # Errors
/// An address cannot be bound, or a flag's value is wrong.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    config.check()?;
    let membership = enroll::Membership::new(&config)?;
    let channel = control::channel(&config, &membership)?;
    if let Some(folder) = &config.state_dir {
        control::keep::prepare(folder)?;
    }
    let (rows, inbox) = stats::channel();
    let (tap, events) = stats::tap();
    let watched = Arc::clone(&tap);
    let tls = tls::TlsState::default();
    let https = Https::new(&config, &tls.tickets)?;
    let certificate = https.as_ref().and_then(|https| {
        OwnCertificate::of_flags(config.tls_cert.as_deref(), config.tls_key.as_deref(), &https.certificates)
    });
    let addresses = match &https {
        None => format!("{} (--http)", config.http),
        Some(https) => format!("{} (--http) or {} (--https)", config.http, https.address),
    };
    let recorder = move || stats::recorder(rows.clone(), Arc::clone(&watched));
    let serves_https = https.is_some();
    let workers = Workers::start(config.worker_count(), config.http, https, recorder)
        .with_context(|| format!("cannot listen on {addresses}"))?;
    let status_listener = tokio::net::TcpListener::bind(config.status)
        .await
        .with_context(|| format!("cannot listen on {} (--status)", config.status))?;
    let division = descriptors::divide(config.worker_count());
    let (http, https, status) = (workers.http, workers.https, status_listener.local_addr()?);
    let identity = Identity::new(&config, http);
    let reporter = Reporter::start(channel.clone(), &identity, inbox);
    let (node_id, boot_id) = (identity.node_id.clone(), identity.boot_id.clone());
    let own = config.own_ports(http, https, status);
    let fleet = Fleet::of_https(serves_https, tls, own);
    let state = Arc::new(control::State::new(
        fleet,
        workers,
        reporter,
        tap,
        membership.clone(),
        identity,
        config.state_dir.clone(),
    ));
    let mut tasks = tokio::task::JoinSet::new();
    if let Some(keeper) = &state.keeper {
        control::keep::restore(&state, keeper.folder()).await;
        tasks.spawn(control::keeper::run(Arc::clone(&state)));
    }
    tasks.spawn(membership.keep(config.control_plane.clone(), node_id, boot_id));
    tasks.spawn(control::run(Arc::clone(&state), channel, events));
    tasks.spawn(control::resolve::run(Arc::clone(&state)));
    let hosts = StatusHosts::new(status.ip().is_loopback(), &config.status_host);
    tasks.spawn(status::serve(status_listener, hosts, Arc::clone(&state), division.status));
    let timed = Arc::clone(&state);
    tasks.spawn(async move { timed.fleet.run_ticks().await });
    Ok(Running { http, https, status, state, tasks, drain_timeout: config.drain_timeout.0, certificate })
}

impl Running {
    /// Reads the files of the flags again: the certificate of `--tls-cert`. An invalid file is logged, and the
    /// certificate in use stays. Connected clients are not affected.
    pub fn reload(&self) {
        match &self.certificate {
            Some(certificate) => certificate.reload(),
            None => weir_process::no_files(),
        }
    }

    /// Accepts nothing new, lets running requests finish within the drain deadline, delivers the last counts, ends.
    pub async fn shutdown(mut self) {
        self.state.set_draining();
        self.state.workers.drain(self.drain_timeout).await;
        self.state.reporter.finish().await;
        self.tasks.shutdown().await;
        control::keeper::before_end(&self.state).await;
    }
}
