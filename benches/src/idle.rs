//! Idle connections after one request: memory of a proxy per connection.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::task::JoinSet;

use crate::{CONNECTIONS, measure, open_loop::Connection};

/// Interval between memory samples.
const GLANCE: Duration = Duration::from_millis(250);

/// Number of connections, and how long the proxy may take to become idle.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Number of connections.
    pub connections: u32,
    /// Minimum wait before memory is sampled: some proxies release buffers of idle connections after a while.
    pub rest: Duration,
    /// Maximum wait.
    pub patience: Duration,
}

/// Growth of the proxy's memory in bytes, divided by the number of connections. Kernel memory of sockets is not
/// included; it is the same for all proxies.
///
/// # Errors
/// A connection or a request failed.
pub fn bytes_per_connection(pid: u32, address: SocketAddr, path: &str, plan: Plan) -> anyhow::Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let settled = || async {
        let begun = Instant::now();
        let mut seen = vec![measure::memory(pid)?];
        loop {
            tokio::time::sleep(GLANCE).await;
            seen.push(measure::memory(pid)?);
            let rested = begun.elapsed() >= plan.rest && at_rest(&seen);
            if rested || begun.elapsed() >= plan.patience {
                return anyhow::Ok(seen[seen.len() - 1]);
            }
        }
    };
    runtime.block_on(async {
        let before = settled().await?;
        let held = open(address, path, plan.connections).await?;
        let after = settled().await?;
        drop(held);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
        let grown = after as f64 - before as f64;
        Ok(grown / f64::from(plan.connections))
    })
}

/// Opens connections with the same concurrency as the other loads.
async fn open(address: SocketAddr, path: &str, count: u32) -> anyhow::Result<Vec<Connection>> {
    let mut opening = JoinSet::new();
    for first in 0..CONNECTIONS.min(count) {
        let path = path.to_owned();
        opening.spawn(async move {
            let mut held = Vec::new();
            for _ in (first..count).step_by(CONNECTIONS as usize) {
                let mut connection = Connection::open(address, &path).await?;
                connection.exchange().await?;
                held.push(connection);
            }
            anyhow::Ok(held)
        });
    }
    let mut held = Vec::new();
    while let Some(opened) = opening.join_next().await {
        held.extend(opened?.with_context(|| format!("{} connections", count))?);
    }
    Ok(held)
}

/// Whether the last four samples are equal within 0.5 %.
fn at_rest(seen: &[u64]) -> bool {
    let Some(last) = seen.last_chunk::<4>() else { return false };
    let (least, most) = (last.iter().min().unwrap_or(&0), last.iter().max().unwrap_or(&0));
    most - least <= most / 200
}

#[cfg(test)]
mod tests {
    use super::at_rest;

    #[test]
    fn memory_is_stable_when_samples_stay_equal() {
        assert!(!at_rest(&[1000, 1000, 1000]));
        assert!(at_rest(&[5000, 1000, 1001, 1000, 1000]));
        assert!(!at_rest(&[1000, 1000, 1000, 900]));
    }
}
