//! Published health, by version, so that a node that is behind receives only the difference.

use std::{collections::VecDeque, sync::Arc};

use super::{State, States};

/// Number of versions kept: at ten per second, the last few seconds.
const STEPS: usize = 64;

/// The published health and its recent changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PublishedHealth {
    /// Increases by one with each change.
    pub version: u64,
    /// State of each backend that is up or down.
    pub states: States,
    /// Whether the first probes since the start are complete. Until then an unknown state means nothing: nodes keep the
    /// states that they received from the previous process.
    pub is_settled: bool,
    /// Changes of the last versions, newest last.
    steps: VecDeque<Arc<States>>,
}

impl PublishedHealth {
    /// Returns the next version with these states; `None` if nothing changed. Once settled, it stays settled.
    pub(super) fn next(&self, states: States, is_settled: bool) -> Option<Self> {
        let new = states.iter().filter(|(id, state)| self.states.get(*id) != Some(*state));
        let gone = self.states.keys().filter(|id| !states.contains_key(*id));
        let mut step: States = new.map(|(id, state)| (id.clone(), *state)).collect();
        step.extend(gone.map(|id| (id.clone(), State::Unknown)));
        if is_settled && !self.is_settled {
            // Without steps, every node receives all states.
            return Some(Self { version: self.version + 1, states, is_settled, steps: VecDeque::new() });
        }
        if step.is_empty() {
            return None;
        }
        let mut steps = self.steps.clone();
        if steps.len() == STEPS {
            steps.pop_front();
        }
        steps.push_back(Arc::new(step));
        Some(Self { version: self.version + 1, states, is_settled: self.is_settled, steps })
    }

    /// Returns the changes since a version; `None` if the version is too old.
    pub fn since(&self, version: u64) -> Option<States> {
        let behind = usize::try_from(self.version.checked_sub(version)?).ok()?;
        let first = self.steps.len().checked_sub(behind)?;
        let mut changed = States::new();
        for step in self.steps.iter().skip(first) {
            changed.extend(step.iter().map(|(id, state)| (id.clone(), *state)));
        }
        Some(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Down, Unknown, Up};

    fn settled() -> PublishedHealth {
        PublishedHealth { is_settled: true, ..PublishedHealth::default() }
    }

    fn states(list: &[(&str, State)]) -> States {
        list.iter().map(|(id, state)| ((*id).to_owned(), *state)).collect()
    }

    #[test]
    fn a_node_that_is_behind_receives_the_latest_changed_states() {
        let first = settled().next(states(&[("a", Up), ("b", Up)]), true).unwrap();
        assert_eq!(first.next(states(&[("a", Up), ("b", Up)]), true), None);
        let second = first.next(states(&[("a", Down), ("b", Up)]), true).unwrap();
        let third = second.next(states(&[("a", Up), ("c", Up)]), true).unwrap();
        assert_eq!(third.version, 3);
        assert_eq!(third.since(3), Some(states(&[])));
        assert_eq!(third.since(2), Some(states(&[("a", Up), ("b", Unknown), ("c", Up)])));
        assert_eq!(third.since(1), Some(states(&[("a", Up), ("b", Unknown), ("c", Up)])));
        assert_eq!(third.since(0), Some(states(&[("a", Up), ("b", Unknown), ("c", Up)])));
        assert_eq!(third.since(4), None);
    }

    #[test]
    fn a_node_that_is_far_behind_receives_all_states() {
        let flap = |published: PublishedHealth, n: usize| {
            published.next(states(&[("a", [Up, Down][n % 2])]), true).unwrap()
        };
        let published = (0..STEPS + 5).fold(settled(), flap);
        assert_eq!(published.since(4), None);
        assert_eq!(published.since(5).map(|changed| changed.len()), Some(1));
    }

    #[test]
    fn every_node_receives_all_states_when_they_settle() {
        let starting = PublishedHealth::default().next(states(&[("a", Up)]), false).unwrap();
        assert!(!starting.is_settled);
        assert_eq!(starting.since(0), Some(states(&[("a", Up)])));
        let settled = starting.next(states(&[("a", Up)]), true).unwrap();
        assert!(settled.is_settled, "settling is a change even if no state changed");
        assert_eq!((settled.since(0), settled.since(starting.version)), (None, None));
        assert_eq!(settled.next(states(&[("a", Up)]), true), None);
        assert!(settled.next(states(&[]), false).unwrap().is_settled);
    }
}
