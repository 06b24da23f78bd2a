//! The numbers of labels or segments that occur in patterns; other numbers need no lookup.

/// A set of small numbers. Of the numbers from [`LAST`](Counts::LAST) on it stores only the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    bits: u64,
    most: u16,
}

impl Counts {
    const LAST: usize = 63;

    pub(super) fn add(&mut self, count: usize) {
        self.bits |= 1 << count.min(Self::LAST);
        self.most = self.most.max(u16::try_from(count).unwrap_or(u16::MAX));
    }

    /// Whether the set may contain this number.
    pub(super) fn may_have(self, count: usize) -> bool {
        self.bits & (1 << count.min(Self::LAST)) != 0 && count <= self.most()
    }

    /// The greatest number; 0 if the set is empty.
    pub(super) fn most(self) -> usize {
        self.most.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_numbers_are_contained() {
        let mut counts = Counts::default();
        assert!(!counts.may_have(0) && counts.most() == 0);
        [0, 3, 70, 90].into_iter().for_each(|count| counts.add(count));
        let there: Vec<usize> = (0..100).filter(|count| counts.may_have(*count)).collect();
        assert_eq!((&there[..3], there.last(), counts.most()), (&[0, 3, 63][..], Some(&90), 90));
    }
}
