//! gRPC through the real program: tonic's client and tonic's server, HTTP/2 on both sides, in clear text and over TLS
//! towards the client.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, outside test functions")]

#[path = "../support/mod.rs"]
#[allow(unused_imports, reason = "each test program uses its own part of it")]
mod support;

mod calls;
mod ends;
mod failures;
mod python;
