//! Routing, rewriting and redirects, with the real program and real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, outside test functions")]

#[path = "../support/mod.rs"]
#[allow(unused_imports, reason = "each test program uses its own part of it")]
mod support;

mod aliases;
mod answers;
mod asking;
mod cases;
mod headers;
mod paths;
mod provenance;
mod refused;
mod secure;
mod servers;
mod targets;
