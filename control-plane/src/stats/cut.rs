//! Requests whose answer was cut before its end, by side.

use serde::{Deserialize, Serialize};
use weir_proto::v1;

/// Requests whose answer was cut before its end, by side; each under one of them at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Cut {
    /// The client left, or stopped reading, before the answer had ended; also before it had begun (status 499).
    pub client: u64,
    /// The backend broke off or stalled in the middle of its answer.
    pub backend: u64,
    /// Weir ended it: the route's request timeout or a tunnel's idle timeout passed, or the node stopped.
    pub node: u64,
}

impl Cut {
    /// The cuts of a row that a node sent.
    pub(crate) fn of(row: &v1::TrafficRow) -> Self {
        let v1::Cut { client, backend, node } = row.cut.unwrap_or_default();
        Self { client, backend, node }
    }

    /// Each with its name, in a fixed order.
    pub fn each(&self) -> [(&'static str, u64); 3] {
        let Self { client, backend, node } = *self;
        [("client", client), ("backend", backend), ("node", node)]
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.each().iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Adds those of other requests.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self { client, backend, node } = other;
        for (sum, count) in [(&mut self.client, client), (&mut self.backend, backend), (&mut self.node, node)]
        {
            *sum = sum.saturating_add(*count);
        }
    }
}
