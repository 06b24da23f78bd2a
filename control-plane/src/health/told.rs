//! What was told of the backends' health, version by version, so that whoever is behind is told the difference.

use std::{collections::VecDeque, sync::Arc};

use super::{State, States};

/// Steps that are kept: at ten a second, some seconds of them.
const STEPS: usize = 64;

/// What is known now, and what changed lately.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// Grows by one with each change.
    pub version: u64,
    /// The state of each backend that is up or down.
    pub states: States,
    /// Whether the first probes since the start are done. Before that an unknown state is no news: nodes keep what they
    /// were told by the process before this one.
    pub is_settled: bool,
    /// What the last versions changed, the newest last.
    steps: VecDeque<Arc<States>>,
}

impl Told {
    /// What comes after this when the states are these; `None`: they are the same. Once settled, it stays so.
    pub(super) fn next(&self, states: States, is_settled: bool) -> Option<Self> {
        let new = states.iter().filter(|(id, state)| self.states.get(*id) != Some(*state));
        let gone = self.states.keys().filter(|id| !states.contains_key(*id));
        let mut step: States = new.map(|(id, state)| (id.clone(), *state)).collect();
        step.extend(gone.map(|id| (id.clone(), State::Unknown)));
        if is_settled && !self.is_settled {
            // Without steps, every node is sent the whole.
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

    /// What changed since a version; `None`: that is too long ago.
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

    fn settled() -> Told {
        Told { is_settled: true, ..Told::default() }
    }

    fn states(list: &[(&str, State)]) -> States {
        list.iter().map(|(id, state)| ((*id).to_owned(), *state)).collect()
    }

    #[test]
    fn who_is_behind_is_told_the_last_state_of_what_changed() {
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
    fn who_is_far_behind_has_to_be_told_everything() {
        let flap = |told: Told, n: usize| told.next(states(&[("a", [Up, Down][n % 2])]), true).unwrap();
        let told = (0..STEPS + 5).fold(settled(), flap);
        assert_eq!(told.since(4), None);
        assert_eq!(told.since(5).map(|changed| changed.len()), Some(1));
    }

    #[test]
    fn when_it_settles_everyone_is_sent_the_whole() {
        let starting = Told::default().next(states(&[("a", Up)]), false).unwrap();
        assert!(!starting.is_settled);
        assert_eq!(starting.since(0), Some(states(&[("a", Up)])));
        let settled = starting.next(states(&[("a", Up)]), true).unwrap();
        assert!(settled.is_settled, "that is news although no state has changed");
        assert_eq!((settled.since(0), settled.since(starting.version)), (None, None));
        assert_eq!(settled.next(states(&[("a", Up)]), true), None);
        assert!(settled.next(states(&[]), false).unwrap().is_settled);
    }
}
