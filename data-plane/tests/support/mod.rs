//! A scripted control plane in the test's own process, and a node as a real process beside it.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test program uses its own part of this")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, outside test functions")]

pub mod authority;
pub mod control_plane;
pub mod node;
pub mod origin;
pub mod tls;
pub mod wire;

use std::time::Duration;

pub use self::{
    control_plane::{FakeControlPlane, delta, snapshot},
    node::Node,
    origin::Origin,
};

/// The condition to wait for, within [`DEADLINE`].
///
/// # Panics
/// It does not come in time.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("in time")
}

/// The longest wait in a test.
pub const DEADLINE: Duration = Duration::from_secs(20);
