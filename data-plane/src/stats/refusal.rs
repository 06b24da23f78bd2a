//! Why a request was answered by Weir and not by a backend, as far as that is counted.

use weir_proto::v1;

/// Why Weir refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The client's address is not allowed.
    IpFilter,
    /// The method is not allowed.
    Method,
    /// No credentials, or wrong ones.
    Auth,
    /// More than the rate allows.
    RateLimit,
    /// An attempt failed, and the backends that were left to try were ejected by their breakers.
    Breaker,
    /// No backend had room in time.
    NoRoom,
    /// There was no backend, or none took a connection.
    NoBackend,
}

/// How many requests were refused, by why. Most rows have none, and so have no more than a null pointer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusals(Option<Box<v1::Rejected>>);

impl Refusals {
    /// Counts one.
    #[cold]
    pub(crate) fn count(&mut self, refusal: Refusal) {
        let rejected = self.0.get_or_insert_default();
        let count = match refusal {
            Refusal::IpFilter => &mut rejected.ip_filter,
            Refusal::Method => &mut rejected.method,
            Refusal::Auth => &mut rejected.auth,
            Refusal::RateLimit => &mut rejected.rate_limit,
            Refusal::Breaker => &mut rejected.breaker,
            Refusal::NoRoom => &mut rejected.no_room,
            Refusal::NoBackend => &mut rejected.no_backend,
        };
        *count += 1;
    }

    /// Adds those of other requests.
    pub(crate) fn merge(&mut self, other: &Self) {
        let Some(other) = &other.0 else { return };
        let sum = self.0.get_or_insert_default();
        let v1::Rejected { ip_filter, method, auth, rate_limit, breaker, no_room, no_backend } = **other;
        sum.ip_filter += ip_filter;
        sum.method += method;
        sum.auth += auth;
        sum.rate_limit += rate_limit;
        sum.breaker += breaker;
        sum.no_room += no_room;
        sum.no_backend += no_backend;
    }

    /// As they travel.
    pub(crate) fn to_wire(&self) -> Option<v1::Rejected> {
        self.0.as_deref().cloned()
    }

    /// As they have travelled.
    pub(crate) fn from_wire(rejected: Option<v1::Rejected>) -> Self {
        Self(rejected.map(Box::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_counted_by_itself_and_sums_are_sums() {
        let all = [
            Refusal::IpFilter,
            Refusal::Method,
            Refusal::Auth,
            Refusal::RateLimit,
            Refusal::Breaker,
            Refusal::NoRoom,
            Refusal::NoBackend,
        ];
        let mut sum = Refusals::default();
        assert!(sum.to_wire().is_none());
        for (i, refusal) in all.into_iter().enumerate() {
            let mut some = Refusals::default();
            (0..=i).for_each(|_| some.count(refusal));
            sum.merge(&Refusals::from_wire(some.to_wire()));
        }
        let v1::Rejected { ip_filter, method, auth, rate_limit, breaker, no_room, no_backend } =
            sum.to_wire().unwrap();
        assert_eq!(
            [ip_filter, method, auth, rate_limit, breaker, no_room, no_backend],
            [1, 2, 3, 4, 5, 6, 7]
        );
    }
}
