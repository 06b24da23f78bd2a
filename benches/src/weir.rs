//! Weir as it ships: a control plane that stays connected, and a node with every default.

use std::{fs, net::SocketAddr, path::Path};

use crate::{
    OTHER_CORE,
    peer::{Listeners, Peer, Plan, Running},
    process::{Process, free_addresses, on},
};

/// The configuration of a pool of two.
#[must_use]
pub fn configuration(backends: &[SocketAddr; 2]) -> String {
    let [first, second] = backends;
    format!(
        "pools:
  - name: default
    backends: [{{ url: \"http://{first}\" }}, {{ url: \"http://{second}\" }}]
routes:
  - {{ name: default, pool: default }}
"
    )
}

/// Starts a control plane with this configuration, and a node that takes it.
///
/// # Errors
/// A program is missing, or the control plane does not come up.
pub fn start(own: &Path, plan: Plan<'_>, configuration: &str) -> anyhow::Result<Running> {
    let [admin, nodes, http, https, status] = free_addresses::<5>()?;
    fs::write(own.join("weir.yaml"), configuration)?;
    let database = format!("sqlite:{}", own.join("weir.db").display());
    let mut command = on(OTHER_CORE, &plan.programs.join("control-plane"));
    command.args(["--admin", &admin.to_string(), "--nodes", &nodes.to_string()]);
    command.args(["--database", &database, "--config", "weir.yaml"]);
    let mut control_plane = Process::start(own, "control-plane", command)?;
    control_plane.wait_for_port(nodes)?;

    let mut command = on(plan.cores, &plan.programs.join("data-plane"));
    command.args(["--control-plane", &format!("http://{nodes}"), "--workers", &plan.workers.to_string()]);
    command.args([
        "--http",
        &http.to_string(),
        "--https",
        &https.to_string(),
        "--status",
        &status.to_string(),
    ]);
    command.arg("--tls-cert").arg(&plan.certificate.certificate);
    command.arg("--tls-key").arg(&plan.certificate.key);
    let node = Process::start(own, "data-plane", command)?;
    Ok(Running {
        peer: Peer::Weir,
        // One port takes both protocols.
        listeners: Listeners { http, http2: http, https },
        pid: node.pid(),
        processes: vec![control_plane, node],
    })
}
