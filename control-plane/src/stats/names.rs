//! Names in reports: one that no route, pool or backend has or had is a mistake, not a report of zeros.
//!
//! A name is known when the configuration has it or had it in a revision that is kept, or when something was counted
//! under it: counts by day are kept for ever, so that what was removed can be reported as long as it has counts.

use weir_snapshot::Problems;

use super::fold::OTHER;
use crate::store::{Store, StoreError, stats::Dimension};

/// Names that a message lists.
const LISTED: usize = 8;

/// The methods under which nodes count.
pub(super) const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "OTHER"];

/// Adds a problem when nothing has or had this name. An empty name is none.
pub(super) async fn check(
    store: &Store,
    problems: &mut Problems,
    dimension: Dimension,
    name: &str,
) -> Result<(), StoreError> {
    if name.is_empty() || name == OTHER || store.has_name(dimension, name).await? {
        return Ok(());
    }
    let known = store.names(dimension).await?;
    let kind = dimension.name();
    let hint = match weir_snapshot::nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("; did you mean {near:?}?"),
        None if known.is_empty() => String::new(),
        None => {
            let listed = known.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if known.len() > LISTED { ", …" } else { "" };
            format!(" (known: {listed}{more})")
        }
    };
    problems.add(kind, format!("no {kind} is or was named {name:?}{hint}"));
    Ok(())
}

/// Adds a problem when requests are not counted under this method.
pub(super) fn check_method(problems: &mut Problems, method: &str) {
    if !METHODS.contains(&method) {
        let known = METHODS.join(", ");
        problems.add("method", format!("requests are not counted under {method:?} (known: {known})"));
    }
}
