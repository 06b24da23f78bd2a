//! Runs the real programs on free ports and uses them like a user.
//!
//! A [`Program`] is a child process that prints its addresses; dropping it kills it. Each test has its own world:
//! port 0, temporary folders, and [`eventually`] instead of sleeps.

mod client;
mod fleet;
mod load;
pub mod played;
mod program;

pub use self::{
    client::{Answer, get, send},
    fleet::{Fleet, mock},
    load::{Load, Totals},
    program::{Program, path},
};

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// Waits at most `within` until `condition` returns a value.
///
/// # Errors
/// The deadline passed; the error names `what` was expected.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    within: Duration,
    mut condition: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return Ok(value);
        }
        anyhow::ensure!(begun.elapsed() < within, "{what} did not happen within {within:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
