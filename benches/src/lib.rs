//! Benchmarks of Weir and other proxies, always in the same run on the same machine.
//!
//! The main figure is CPU time per request of the proxy's own processes. Unlike requests per second it does not
//! depend on the speed of the load generator and the backends, and it is what a fleet costs. The proxy has one core
//! to itself; load and backends share another one. Rounds are interleaved, so that a slow minute of the machine
//! affects all proxies, and medians are reported. `docs/evidence/benchmarks.md` describes the method and has the
//! figures of a full run.

pub mod backend;
pub mod certificate;
pub mod fleet;
pub mod h2load;
pub mod idle;
pub mod matching;
pub mod measure;
pub mod open_loop;
pub mod peer;
pub mod picture;
pub mod plot;
pub mod process;
pub mod programs;
pub mod report;
pub mod run;
pub mod scale;
pub mod syscalls;
pub mod traffic;
pub mod weir;
pub mod workload;
pub mod wrk;

use serde::{Deserialize, Serialize};

/// The core reserved for the proxy under test.
pub const PROXY_CORE: &str = "0";
/// The core of the load generator, the backends and Weir's control plane.
pub const OTHER_CORE: &str = "1";
/// Both cores, for processes that may move between them.
pub const BOTH_CORES: &str = "0,1";
/// Number of connections of each load except idle ones.
pub const CONNECTIONS: u32 = 64;

/// Results of one run, measured by the load generator.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Responses received.
    pub requests: u64,
    /// Responses per second.
    pub requests_per_second: f64,
    /// Median latency in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile of the latency in milliseconds.
    pub p99_ms: f64,
}
