//! Requests that a node refused itself, by reason.

use std::collections::HashMap;

use weir_snapshot::{RefusalCounts, RefusalReason};

/// The refusals of a row. Most rows have none, and so have no more than a null pointer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusals(Option<Box<RefusalCounts>>);

impl Refusals {
    /// Counts one.
    #[cold]
    pub(crate) fn count(&mut self, reason: RefusalReason) {
        self.0.get_or_insert_default().count(reason);
    }

    /// Adds those of other requests.
    pub(crate) fn merge(&mut self, other: &Self) {
        if let Some(other) = &other.0 {
            self.0.get_or_insert_default().add(other);
        }
    }

    /// As they are sent.
    pub(crate) fn to_wire(&self) -> HashMap<String, u64> {
        self.0.as_ref().map(|counts| counts.to_names()).unwrap_or_default()
    }

    /// As they were packed by this process.
    pub(crate) fn from_wire(refused: &HashMap<String, u64>) -> Option<Self> {
        let counts = RefusalCounts::from_names(refused).ok()?;
        Some(Self((counts.total() > 0).then(|| Box::new(counts))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_sums_and_rows_without_refusals_stay_empty() {
        let mut sum = Refusals::default();
        sum.merge(&Refusals::from_wire(&sum.to_wire()).unwrap());
        assert!(sum.0.is_none());
        for (times, reason) in (1..).zip(RefusalReason::ALL) {
            let mut some = Refusals::default();
            (0..times).for_each(|_| some.count(*reason));
            sum.merge(&Refusals::from_wire(&some.to_wire()).unwrap());
        }
        for (times, reason) in (1..).zip(RefusalReason::ALL) {
            assert_eq!(sum.to_wire()[reason.name()], times);
        }
    }
}
