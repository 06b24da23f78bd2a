//! Runs the real programs on free ports and talks to them as a user would.
//!
//! A [`Program`] is a child process whose addresses are read from what it prints; dropping it kills it. Tests own
//! their world: port 0, temporary folders, and [`eventually`] in place of sleeping.

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

/// Waits until `condition` gives a value, at most `within`.
///
/// # Errors
/// The deadline passed; the error names `what` was awaited.
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
