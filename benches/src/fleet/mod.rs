//! The control plane at fleet scale: one process plays the nodes over real gRPC streams on loopback, against a real
//! control plane in a process of its own.
//!
//! Played nodes are cheap, so that a thousand fit beside what is measured: they read what they are sent, acknowledge it
//! with the hash that it names, and put together and hash the whole content only in a sample. What a real node does
//! with a revision (parse, check, warm, swap) is not in these figures.

pub mod calls;
pub mod flappers;
pub mod played;
pub mod plot;
pub mod process;
pub mod scenario;
