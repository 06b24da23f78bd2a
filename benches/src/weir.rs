//! Weir as shipped: a control plane that stays connected, and a node with default settings.

use std::{fs, net::SocketAddr, path::Path};

use crate::{
    OTHER_CORE,
    peer::{Listeners, Peer, Plan, Running},
    process::{Process, free_addresses, on},
};

/// Size of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Number of pools, one of which gets the traffic.
    pub pools: u16,
    /// Number of backends in that pool.
    pub backends: u16,
    /// Number of routes. The last one gets the traffic: it matches what no other route matches, which is the longest
    /// lookup.
    pub routes: u16,
}

/// A configuration with one pool of two backends.
#[must_use]
pub fn configuration(backends: &[SocketAddr; 2]) -> String {
    sized(backends, Size { pools: 1, backends: 2, routes: 1 })
}

/// A configuration of this size. Pools without traffic have one backend each that is not probed, because probes would
/// be a load of their own.
#[must_use]
pub fn sized(backends: &[SocketAddr], size: Size) -> String {
    let urls = |count: usize| -> Vec<String> {
        backends.iter().take(count).map(|address| format!("{{ url: \"http://{address}\" }}")).collect()
    };
    let mut text =
        format!("pools:\n  - name: default\n    backends: [{}]\n", urls(size.backends.into()).join(", "));
    let other = urls(1).join("");
    for pool in 1..size.pools {
        text.push_str(&format!(
            "  - {{ name: pool-{pool}, health_check: {{ type: none }}, backends: [{other}] }}\n"
        ));
    }
    text.push_str("routes:\n");
    for route in 1..size.routes {
        let pool =
            if size.pools > 1 { format!("pool-{}", 1 + route % (size.pools - 1)) } else { "default".into() };
        text.push_str(&format!(
            "  - {{ name: route-{route}, match: {{ hosts: [host-{route}.example], path: /path-{route} }}, pool: {pool} }}\n"
        ));
    }
    text + "  - { name: default, pool: default }\n"
}

/// Starts a control plane with this configuration, and a node.
///
/// # Errors
/// A program is missing, or the control plane does not start.
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
        // One port serves both protocols.
        listeners: Listeners { http, http2: http, https },
        pid: node.pid(),
        processes: vec![control_plane, node],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_has_the_requested_size() {
        let backends: Vec<SocketAddr> =
            (1..=5).map(|last| SocketAddr::from(([127, 1, 0, last], 80))).collect();
        let text = sized(&backends, Size { pools: 4, backends: 5, routes: 3 });
        assert_eq!(text.matches("name: pool-").count(), 3);
        assert_eq!(text.matches("url:").count(), 5 + 3);
        assert_eq!(text.matches("name: route-").count(), 2);
        assert!(text.ends_with("  - { name: default, pool: default }\n"));
    }
}
