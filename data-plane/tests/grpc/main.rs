//! gRPC with the real program: tonic client and tonic server, HTTP/2 on both sides, cleartext and TLS towards the
//! client.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, outside test functions")]

#[path = "../support/mod.rs"]
#[allow(unused_imports, reason = "each test program uses its own part of it")]
mod support;

mod calls;
mod ends;
mod failures;
mod python;
