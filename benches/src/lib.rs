//! Weir measured beside its peers, always in one run on one machine.
//!
//! The figure that counts is CPU time per request of the proxy's own processes: unlike requests per second it does not
//! depend on how fast the load generator and the backends are, and it is what a fleet pays for. The proxy has one core
//! to itself; load and backends share another one. Rounds are interleaved, so that a slow minute of the machine meets
//! everybody, and medians are reported.

pub mod backend;
pub mod load;
pub mod measure;
pub mod peer;
pub mod process;
pub mod report;
pub mod workload;

/// The core that the proxy under test has to itself.
pub const PROXY_CORE: &str = "0";
/// The core of the load generator, the backends and Weir's control plane.
pub const OTHER_CORE: &str = "1";
