//! All rules, group by group.

mod answer;
mod bounds;
mod chunks;
mod connection;
mod failure;
mod framing;
mod h2_connection;
mod h2_exchange;
mod h2_fields;
mod h2_floods;
mod h2_flow;
mod h2_streams;
mod head;
mod hop;
mod lies;
mod request;
mod request_body;
mod request_fields;
mod stream;
mod upgrade;

use crate::case::Case;

/// Every case, in the order of the documentation.
pub(crate) fn all() -> Vec<Case> {
    [
        request::table(),
        request_fields::table(),
        hop::table(),
        request_body::table(),
        answer::table(),
        stream::table(),
        connection::table(),
        framing::table(),
        head::table(),
        chunks::table(),
        lies::table(),
        bounds::table(),
        failure::table(),
        upgrade::table(),
        h2_connection::table(),
        h2_streams::table(),
        h2_fields::table(),
        h2_exchange::table(),
        h2_flow::table(),
        h2_floods::table(),
    ]
    .into_iter()
    .flat_map(|table| table.cases)
    .collect()
}
