//! The control plane: it stores the configuration, checks it, streams it to the nodes, probes the backends, and
//! keeps the statistics.
//!
//! Dependencies go one way: `store` ← `publish`, `health`, `stats` ← `app` ← `api`. The planes share nothing but
//! the wire contract and the checked configuration.

pub mod api;
pub mod current;
pub mod health;
pub mod publish;
pub mod stats;
pub mod store;
