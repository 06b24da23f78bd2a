//! The node's memory during and after a part of the run.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::Serialize;

use crate::{Part, flow::Seen, weir::Weir};

const GLANCE: Duration = Duration::from_millis(200);

/// Time for the node to release the resources of closed connections, including their timeouts.
const PATIENCE: Duration = Duration::from_secs(60);

/// Growth that does not indicate a leak: kept buffers, and the allocator's slack.
const SLACK: u64 = 24 << 20;

/// Resident set size in bytes.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Memory {
    pub(crate) before: u64,
    pub(crate) peak: u64,
    pub(crate) after: u64,
    /// Whether memory was still growing at the end: the last third grew beyond the second.
    pub(crate) grows: bool,
}

/// Samples the memory of a process.
pub(crate) struct Observer {
    pid: u32,
    cpu: Duration,
    before: u64,
    glances: tokio::task::JoinHandle<()>,
    seen: std::sync::Arc<std::sync::Mutex<Vec<u64>>>,
}

impl Observer {
    pub(crate) fn start(pid: u32) -> Self {
        let seen = std::sync::Arc::<std::sync::Mutex<Vec<u64>>>::default();
        let into = std::sync::Arc::clone(&seen);
        let glances = tokio::spawn(async move {
            loop {
                if let Ok(now) = resident(pid) {
                    into.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(now);
                }
                tokio::time::sleep(GLANCE).await;
            }
        });
        let (cpu, before) = (cpu_time(pid).unwrap_or_default(), resident(pid).unwrap_or_default());
        Self { pid, cpu, before, glances, seen }
    }

    /// Waits until the node has no connections left, and returns the result.
    pub(crate) async fn end(
        self,
        weir: &Weir,
        name: &str,
        flow: Seen,
        counts: Vec<(&'static str, u64)>,
    ) -> anyhow::Result<Part> {
        self.glances.abort();
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let cpu = cpu_time(self.pid).context("the node has ended")?.saturating_sub(self.cpu);
        let mut failures = Vec::new();
        let begun = Instant::now();
        let left = loop {
            let left = weir.metric("weir_node_connections")?;
            if left == 0 || begun.elapsed() > PATIENCE {
                break left;
            }
            tokio::time::sleep(GLANCE).await;
        };
        if left > 0 {
            failures.push(format!("{left} connections are left after {PATIENCE:?}"));
        }
        if weir.log().contains("panicked") {
            failures.push("a panic in the log".to_owned());
        }
        let third = |part: usize| seen.chunks(seen.len().div_ceil(3).max(1)).nth(part).unwrap_or_default();
        let most = |part: &[u64]| part.iter().copied().max().unwrap_or_default();
        let memory = Memory {
            before: self.before,
            peak: most(&seen),
            after: resident(self.pid)?,
            grows: most(third(2)) > most(third(1)) + SLACK,
        };
        Ok(Part { name: name.to_owned(), flow, memory, cpu_seconds: cpu.as_secs_f64(), counts, failures })
    }
}

fn resident(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the node has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no memory")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, after_name) = stat.rsplit_once(") ").context("no name")?;
    let ticks = after_name.split(' ').skip(11).take(2).map(str::parse::<u64>);
    // The kernel counts in ticks of 10 ms.
    Ok(Duration::from_millis(10 * ticks.sum::<Result<u64, _>>()?))
}
