//! The control plane in a large fleet: one process simulates the nodes over real gRPC streams on loopback, against a
//! real control plane in its own process.
//!
//! Simulated nodes are cheap, so that a thousand of them fit beside the measured process. They read messages,
//! acknowledge them with the hash in the message, and assemble and hash the whole content only in a sample. The work
//! of a real node (parse, check, warm, swap) is not part of these figures.

pub mod calls;
pub mod flappers;
pub mod played;
pub mod plot;
pub mod process;
pub mod scenario;
