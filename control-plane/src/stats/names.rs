//! Checks names in reports: a name that no route, pool or backend has or had is an error, rather than a report of
//! zeros.
//!
//! A name is known if the configuration has it, if a stored revision has it, or if requests were counted under it.
//! Counts per day are kept forever, so deleted resources can be reported as long as they have counts.

use weir_snapshot::Problems;

use super::fold::OTHER;
use crate::store::{Store, StoreError, stats::Dimension};

/// The most names that an error message lists.
const LISTED: usize = 8;

/// The methods that nodes count separately.
pub(super) const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "OTHER"];

/// Adds a problem if nothing has or had this name. An empty name counts as absent.
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

/// Adds a problem if requests are not counted under this method.
pub(super) fn check_method(problems: &mut Problems, method: &str) {
    if !METHODS.contains(&method) {
        let known = METHODS.join(", ");
        problems.add("method", format!("requests are not counted under {method:?} (known: {known})"));
    }
}
