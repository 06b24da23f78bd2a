//! From a revision to the nodes: who is connected, what each runs, and what it gets next.
//!
//! Protobuf stops here (`service`, `wire`); what is decided (`session`) knows neither streams nor time. Nothing of what
//! a change costs depends on nodes × backends: a difference is made once (`history`) and encoded once (`frames`), and a
//! node's task only hands the shared bytes to its connection (`server`).

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
