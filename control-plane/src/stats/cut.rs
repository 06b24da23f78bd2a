//! Requests whose response was interrupted, by the side that closed it: read from a node's rows, and summed.

use weir_admin_api::Cut;
use weir_proto::v1;

/// The counts in a row that a node sent.
pub(crate) fn of(row: &v1::TrafficRow) -> Cut {
    let v1::Cut { client, backend, node } = row.cut.unwrap_or_default();
    Cut { client, backend, node }
}

/// Adds the counts of other requests.
pub(crate) fn add(sums: &mut Cut, other: &Cut) {
    let Cut { client, backend, node } = other;
    for (sum, count) in [(&mut sums.client, client), (&mut sums.backend, backend), (&mut sums.node, node)] {
        *sum = sum.saturating_add(*count);
    }
}
