//! The labels of requests, besides status and host: their fields in a row, and their filters in a query.

use weir_proto::v1;

use super::query::Query;
use crate::store::stats::Dimension;

const COUNT: usize = Dimension::LABELS.len();

/// The labels of a row, in the order of [`Dimension::LABELS`].
pub(super) fn of_row(row: &mut v1::TrafficRow) -> [&mut String; COUNT] {
    [&mut row.route, &mut row.pool, &mut row.backend, &mut row.method]
}

/// The labels that a query gives, in the order of [`Dimension::LABELS`].
pub(super) fn of_query(query: &Query) -> impl Iterator<Item = (Dimension, &str)> {
    let values: [&Option<String>; COUNT] = [&query.route, &query.pool, &query.backend, &query.method];
    let given = |value: &'_ Option<String>| value.as_deref().is_some_and(|value| !value.is_empty());
    Dimension::LABELS
        .into_iter()
        .zip(values)
        .filter(move |(_, value)| given(value))
        .filter_map(|(dimension, value)| Some((dimension, value.as_deref()?)))
}
