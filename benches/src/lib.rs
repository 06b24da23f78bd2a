//! Weir measured beside its peers, always in one run on one machine.
//!
//! The figure that counts is CPU time per request of the proxy's own processes: unlike requests per second it does not
//! depend on how fast the load generator and the backends are, and it is what a fleet pays for. The proxy has one core
//! to itself; load and backends share another one. Rounds are interleaved, so that a slow minute of the machine meets
//! everybody, and medians are reported. `docs/evidence/benchmarks.md` holds the method and the figures of a full run.

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

/// The core that the proxy under test has to itself.
pub const PROXY_CORE: &str = "0";
/// The core of the load generator, the backends and Weir's control plane.
pub const OTHER_CORE: &str = "1";
/// Both, for what is to float between them.
pub const BOTH_CORES: &str = "0,1";
/// Connections of every load but idle ones.
pub const CONNECTIONS: u32 = 64;

/// What a load generator saw in one run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Answers that arrived.
    pub requests: u64,
    /// Answers per second.
    pub requests_per_second: f64,
    /// Half of the answers took less, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 answers took less, in milliseconds.
    pub p99_ms: f64,
}
