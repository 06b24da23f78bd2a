//! Connections that did one request and wait for the next: what a proxy keeps in memory for each.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::task::JoinSet;

use crate::{CONNECTIONS, measure, open_loop::Connection};

/// Memory is read this often.
const GLANCE: Duration = Duration::from_millis(250);

/// How many connections, and how long their proxy may take to come to rest.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Connections.
    pub connections: u32,
    /// At least this long they wait before memory is read: some proxies put idle connections away after a while.
    pub rest: Duration,
    /// At most this long.
    pub patience: Duration,
}

/// The bytes that a proxy's processes grew by, divided by connections. What the kernel holds for a socket is not among
/// them; it is the same for everybody.
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

/// As many at a time as the other loads have.
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

/// Four glances in a row saw the same, but for one part in 200.
fn at_rest(seen: &[u64]) -> bool {
    let Some(last) = seen.last_chunk::<4>() else { return false };
    let (least, most) = (last.iter().min().unwrap_or(&0), last.iter().max().unwrap_or(&0));
    most - least <= most / 200
}

#[cfg(test)]
mod tests {
    use super::at_rest;

    #[test]
    fn memory_is_at_rest_when_it_no_longer_moves() {
        assert!(!at_rest(&[1000, 1000, 1000]));
        assert!(at_rest(&[5000, 1000, 1001, 1000, 1000]));
        assert!(!at_rest(&[1000, 1000, 1000, 900]));
    }
}
