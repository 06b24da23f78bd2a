//! From a revision to the nodes: who is connected, what each runs, and what it gets next.
//!
//! Protobuf stops here (`service`, `wire`); what is decided (`session`) knows neither streams nor time.

mod fleet_size;
mod registry;
mod service;
mod session;
mod wire;
mod work;

pub use registry::{Node, Registry};
pub use service::Publisher;
pub use work::{BackendWork, Breaker, PoolWork, Refused, Work};
