//! Requests that Weir refused itself, by reason: as nodes report them, and their sums.

use weir_admin_api::Rejected;
use weir_proto::v1;

/// The counts of a row that a node sent.
pub(crate) fn of(row: &v1::TrafficRow) -> Rejected {
    let v1::Rejected { ip_filter, method, auth, rate_limit, breaker, no_room, no_backend } =
        row.rejected.unwrap_or_default();
    Rejected { ip_filter, method, auth, rate_limit, breaker, no_room, no_backend }
}

/// Adds those of other requests.
pub(crate) fn add(sums: &mut Rejected, other: &Rejected) {
    let Rejected { ip_filter, method, auth, rate_limit, breaker, no_room, no_backend } = other;
    for (sum, count) in [
        (&mut sums.ip_filter, ip_filter),
        (&mut sums.method, method),
        (&mut sums.auth, auth),
        (&mut sums.rate_limit, rate_limit),
        (&mut sums.breaker, breaker),
        (&mut sums.no_room, no_room),
        (&mut sums.no_backend, no_backend),
    ] {
        *sum = sum.saturating_add(*count);
    }
}
