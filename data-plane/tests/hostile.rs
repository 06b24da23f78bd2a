//! Clients and backends at their worst, against the real program: whoever leaves, stalls, floods or lies, the node
//! serves the others, and when all of them have gone, nothing of them is left.

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
