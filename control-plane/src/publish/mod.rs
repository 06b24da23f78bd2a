//! Publishes revisions to nodes: which nodes are connected, their revision, and what they receive next.
//!
//! Only `service` and `wire` know protobuf. The decisions in `session` depend on neither streams nor clocks. The cost of a
//! change never depends on nodes × backends: a difference is computed once (`history`) and encoded once (`frames`), and
//! a node's task only passes the shared bytes to its connection (`server`).

mod bounds;
mod cleartext;
mod fleet_size;
mod frames;
mod gate;
mod history;
mod identity;
mod memory;
mod registry;
mod secrets;
mod server;
mod service;
mod session;
mod stream;
mod wire;
mod work;

pub(crate) use self::memory::{keep, save};
pub use self::{
    cleartext::{Cleartext, Rule},
    history::{History, MOST_STEPS, Version},
    identity::NodeIdentity,
    registry::{CLOCK_OFF_MS, Node, NodeError, Registry},
    server::Server,
    service::{Publisher, Sources},
    work::{BackendSum, Breaker, PoolSum, PoolSums, RouteSum, Sums},
};
