//! One size of a fleet, and its measurements.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    flappers::Flappers,
    played::{Played, Seen},
    process::ControlPlane,
};
use crate::process::free_addresses;

/// Timeout of each step.
const PATIENCE: Duration = Duration::from_secs(120);

/// Size of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Simulated nodes.
    pub nodes: usize,
    /// Nodes that assemble and hash everything they receive.
    pub checking: usize,
    /// Backends in all pools.
    pub backends: usize,
    /// Pools.
    pub pools: usize,
    /// Routes, each for its own host.
    pub routes: usize,
}

/// Results.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Size of the fleet.
    pub size: Size,
    /// Time from the call that changes a weight to the acknowledgement of each node, in milliseconds: median over all
    /// nodes and changes.
    pub change_p50_ms: f64,
    /// The same: 99th percentile.
    pub change_p99_ms: f64,
    /// Time until all nodes use a change, in milliseconds: median of the changes.
    pub all_p50_ms: f64,
    /// Time until all nodes use a change, in milliseconds: 99th percentile.
    pub all_p99_ms: f64,
    /// Bytes sent to a node for a change, including HTTP/2 frame headers.
    pub bytes_per_change: u64,
    /// CPU time of the control plane per change, in milliseconds.
    pub cpu_per_change_ms: f64,
    /// Memory of the control plane after all changes, in MiB.
    pub memory_mib: u64,
    /// Peak memory until then, which includes sending the whole configuration to all nodes at the same time; in MiB.
    pub memory_peak_mib: u64,
    /// Time from the start until all nodes use the first revision, in seconds.
    pub first_s: f64,
    /// Health changes per second that the nodes received.
    pub flaps_per_second: f64,
    /// Part of a core that the control plane used meanwhile.
    pub flapping_cores: f64,
    /// The same while the same backends are probed and their health does not change.
    pub probing_cores: f64,
    /// Time from the start of a killed control plane until all nodes are back, in seconds.
    pub restart_s: f64,
    /// Peak memory of the new process until then, in MiB.
    pub restart_peak_mib: u64,
    /// Whole snapshots sent after the restart.
    pub restart_wholes: u64,
    /// Contents that were assembled and hashed, and how many of them were wrong.
    pub hashed: (u64, u64),
}

/// Amount of work.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Number of weight changes.
    pub changes: u32,
    /// Number of backends whose health changes once per second.
    pub flappers: usize,
    /// How long their health changes, and how long it does not, for comparison.
    pub flapping: Duration,
}

pub(super) fn configuration(size: Size, flappers: &[SocketAddr]) -> Value {
    let per_pool = size.backends.saturating_sub(flappers.len()).div_ceil(size.pools.max(1)).max(1);
    let mut next = 0_usize;
    let mut pools: Vec<Value> = (0..size.pools)
        .map(|pool| {
            let count = per_pool.min((size.backends - flappers.len()).saturating_sub(next)).max(1);
            let backends: Vec<Value> = (0..count)
                .map(|_| {
                    next += 1;
                    json!({ "url": format!("http://10.{}.{}.{}:80", next >> 16, (next >> 8) & 255, next & 255) })
                })
                .collect();
            // Probing ten thousand backends that do not exist would measure network timeouts.
            json!({ "name": format!("pool-{pool}"), "health_check": { "type": "none" }, "backends": backends })
        })
        .collect();
    let flapping: Vec<Value> =
        flappers.iter().map(|address| json!({ "url": format!("http://{address}") })).collect();
    let check = json!({ "type": "http", "path": "/", "interval": "1s", "rise": 1, "fall": 1, "expect_status": "200" });
    pools.push(json!({ "name": "default", "health_check": check, "backends": flapping }));
    let mut routes: Vec<Value> = (1..size.routes)
        .map(|n| {
            let pool = format!("pool-{}", n % size.pools.max(1));
            json!({ "name": format!("route-{n}"), "match": { "hosts": [format!("shop-{n}.example")] }, "pool": pool })
        })
        .collect();
    routes.push(json!({ "name": "default", "pool": "default" }));
    json!({ "pools": pools, "routes": routes })
}

/// One blocking call to the admin port.
pub(super) fn call(admin: SocketAddr, method: &str, path: &str, body: &str) -> anyhow::Result<Value> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {admin}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no response")?;
    anyhow::ensure!(head.starts_with("HTTP/1.1 20"), "{method} {path}: {head}\n{body}");
    Ok(serde_json::from_str(body).unwrap_or(Value::Null))
}

async fn ask(admin: SocketAddr, method: &'static str, path: String, body: String) -> anyhow::Result<Value> {
    tokio::task::spawn_blocking(move || call(admin, method, &path, &body)).await?
}

/// The value at this fraction of the sorted values.
#[must_use]
pub fn percentile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let at = (last as f64 * part).ceil() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

/// Measures one size.
///
/// # Errors
/// A program did not start, or a node received unexpected content.
pub async fn measure(program: &Path, size: Size, effort: Effort) -> anyhow::Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let flappers = Flappers::start(effort.flappers.min(size.backends)).await?;
    let [admin, nodes] = free_addresses::<2>()?;
    let mut control_plane = ControlPlane::start(program, folder.path(), admin, nodes)?;
    let config = configuration(size, &flappers.addresses).to_string();
    let applied = ask(admin, "PUT", "/config".into(), config).await?;
    let mut revision = applied["revision"].as_u64().context("no revision")?;

    let seen = Seen::new(size.nodes);
    let mut playing = JoinSet::new();
    let begun = Instant::now();
    for index in 0..size.nodes {
        playing.spawn(Played::new(index, nodes, Arc::clone(&seen), index < size.checking).run());
    }
    seen.all_run(revision, begun, PATIENCE).await?;
    let first_s = begun.elapsed().as_secs_f64();
    seen.all_joined(1, PATIENCE).await?;
    // Messages that are still on their way belong to the start.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (_, memory_peak_mib) = control_plane.memory()?;

    let (bytes, cpu) = (seen.bytes.load(Relaxed), control_plane.cpu()?);
    let (mut each, mut all) = (Vec::new(), Vec::new());
    for n in 0..effort.changes {
        let since = Instant::now();
        // A different backend each time.
        let id = 1 + (n as usize * 37) % size.backends.saturating_sub(effort.flappers).max(1);
        let body = json!({ "weight": 2 + n % 900 }).to_string();
        let change = ask(admin, "PATCH", format!("/backends/b{id}"), body);
        revision += 1;
        let (changed, took) = tokio::join!(change, seen.all_run(revision, since, PATIENCE));
        changed?;
        let took = took?;
        all.push(took.iter().copied().fold(0.0, f64::max));
        each.extend(took);
        // One change at a time, as from a person or a pipeline; bursts are debounced.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    each.sort_by(f64::total_cmp);
    all.sort_by(f64::total_cmp);
    let changes = u64::from(effort.changes.max(1));
    let bytes_per_change = (seen.bytes.load(Relaxed) - bytes) / changes / size.nodes.max(1) as u64;
    let cpu_per_change_ms =
        (control_plane.cpu()? - cpu).as_secs_f64() * 1000.0 / f64::from(effort.changes.max(1));
    let (memory_mib, _) = control_plane.memory()?;

    let probing_cores = cores_over(&control_plane, effort.flapping).await?;
    flappers.flapping.store(true, Relaxed);
    // The first round of probes starts the changes.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let told = seen.flaps.load(Relaxed);
    let flapping_cores = cores_over(&control_plane, effort.flapping).await?;
    let told = (seen.flaps.load(Relaxed) - told) as f64 / size.nodes.max(1) as f64;
    let flaps_per_second = told / effort.flapping.as_secs_f64();
    flappers.flapping.store(false, Relaxed);

    let wholes = seen.wholes.load(Relaxed);
    let joined: u64 = seen.joined.iter().map(|joined| joined.load(Relaxed)).max().unwrap_or(0);
    seen.joined.iter().for_each(|node| node.store(joined, Relaxed));
    let begun = Instant::now();
    control_plane.restart()?;
    seen.all_joined(joined + 1, PATIENCE).await?;
    let restart_s = begun.elapsed().as_secs_f64();
    let restart_wholes = seen.wholes.load(Relaxed) - wholes;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (_, restart_peak_mib) = control_plane.memory()?;
    let listed = ask(admin, "GET", "/nodes".into(), String::new()).await?;
    let is_active = |node: &&Value| node["connected"] == true && node["active_revision"] == revision;
    let active = listed["items"].as_array().map_or(0, |nodes| nodes.iter().filter(is_active).count());
    anyhow::ensure!(active == size.nodes, "after the restart {active} of {} nodes are active", size.nodes);

    let hashed = (seen.hashed.load(Relaxed), seen.wrong.load(Relaxed));
    anyhow::ensure!(hashed.1 == 0, "{} of {} contents had a wrong hash", hashed.1, hashed.0);
    Ok(Outcome {
        size,
        change_p50_ms: percentile(&each, 0.5),
        change_p99_ms: percentile(&each, 0.99),
        all_p50_ms: percentile(&all, 0.5),
        all_p99_ms: percentile(&all, 0.99),
        bytes_per_change,
        cpu_per_change_ms,
        memory_mib,
        memory_peak_mib,
        first_s,
        flaps_per_second,
        flapping_cores,
        probing_cores,
        restart_s,
        restart_peak_mib,
        restart_wholes,
        hashed,
    })
}

async fn cores_over(control_plane: &ControlPlane, time: Duration) -> anyhow::Result<f64> {
    let (cpu, begun) = (control_plane.cpu()?, Instant::now());
    tokio::time::sleep(time).await;
    Ok((control_plane.cpu()? - cpu).as_secs_f64() / begun.elapsed().as_secs_f64())
}
