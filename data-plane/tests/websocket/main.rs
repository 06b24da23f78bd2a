//! WebSocket, with the real program and third-party implementations on both ends: tungstenite and Python's
//! `websockets`; over HTTP/1.1, over TLS, and over HTTP/2 on either side (RFC 8441).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, outside test functions")]

#[path = "../support/mod.rs"]
#[allow(unused_imports, reason = "each test program uses its own part of it")]
mod support;

mod ends;
mod life;
mod messages;
mod offers;
mod python;
