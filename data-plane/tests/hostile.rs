//! Hostile clients and backends, with the real program: whether they leave, stall, flood or send invalid data, the
//! node serves other clients, and releases all resources afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, outside test functions")]

#[allow(unused_imports, reason = "each test program uses its own part of it")]
mod support;

mod hostile {
    mod backend;
    mod closing;
    mod descriptors;
    mod flood;
    mod heads;
    mod interim;
    mod leave;
    mod slow;
    mod stage;
    mod starve;
}
