//! Requests that Weir refused itself, by why.

use serde::{Deserialize, Serialize};
use weir_proto::v1;

/// Requests that Weir refused itself, by why; each under one of them at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Rejected {
    /// The client's address is not allowed.
    pub ip_filter: u64,
    /// The method is not allowed.
    pub method: u64,
    /// No credentials, or wrong ones.
    pub auth: u64,
    /// More than the rate allows.
    pub rate_limit: u64,
    /// An attempt failed, and the backends that were left to try were ejected by their breakers.
    pub breaker: u64,
    /// No backend had room in time.
    pub no_room: u64,
    /// There was no backend, or none took a connection.
    pub no_backend: u64,
}

impl Rejected {
    /// What a node said of a row.
    pub(crate) fn of(row: &v1::TrafficRow) -> Self {
        let Some(v1::Rejected { ip_filter, method, auth, rate_limit, breaker, no_room, no_backend }) =
            row.rejected
        else {
            return Self::default();
        };
        Self { ip_filter, method, auth, rate_limit, breaker, no_room, no_backend }
    }

    /// Each with its name, in a fixed order.
    pub fn each(&self) -> [(&'static str, u64); 7] {
        let Self { ip_filter, method, auth, rate_limit, breaker, no_room, no_backend } = *self;
        [
            ("ip_filter", ip_filter),
            ("method", method),
            ("auth", auth),
            ("rate_limit", rate_limit),
            ("breaker", breaker),
            ("no_room", no_room),
            ("no_backend", no_backend),
        ]
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.each().iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Adds those of other requests.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self { ip_filter, method, auth, rate_limit, breaker, no_room, no_backend } = other;
        for (sum, count) in [
            (&mut self.ip_filter, ip_filter),
            (&mut self.method, method),
            (&mut self.auth, auth),
            (&mut self.rate_limit, rate_limit),
            (&mut self.breaker, breaker),
            (&mut self.no_room, no_room),
            (&mut self.no_backend, no_backend),
        ] {
            *sum = sum.saturating_add(*count);
        }
    }
}
