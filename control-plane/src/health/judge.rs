//! From single probes to a state: rise and fall.

/// What the health checker thinks of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum State {
    /// Not yet probed, or not probed at all: used as if it were up.
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

impl State {
    /// As the API names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// So many probes after a change come at the fast interval: by then a server that restarts is there again, or stays away.
const FAST_PROBES: u32 = 10;

/// Consecutive probes with the same result.
#[derive(Debug)]
struct Streak {
    passed: bool,
    probes: u32,
}

/// The state of one backend: it takes `rise` good or `fall` failed probes in a row to change it, also for the first one.
#[derive(Debug)]
pub(super) struct Judge {
    state: State,
    streak: Streak,
    /// Probes since the state changed, or since the backend was added.
    since_change: u32,
}

impl Judge {
    /// Nothing was probed yet; until then the state is the given one.
    pub(super) fn new(state: State) -> Self {
        Self { state, streak: Streak { passed: true, probes: 0 }, since_change: 0 }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Whether the next probe comes at the fast interval: the backend is new, its state has changed lately, or it may be
    /// coming back. An established backend that fails is probed at the ordinary one, so that a short failure is not
    /// taken for its end.
    pub(super) fn is_fast(&self) -> bool {
        let comes_back = self.state == State::Down && self.streak.passed && self.streak.probes > 0;
        self.state == State::Unknown || self.since_change < FAST_PROBES || comes_back
    }

    /// Counts one probe, and gives the new state when it changed.
    pub(super) fn judge(&mut self, ok: bool, rise: u32, fall: u32) -> Option<State> {
        self.since_change = self.since_change.saturating_add(1);
        let before = if self.streak.passed == ok { self.streak.probes } else { 0 };
        self.streak = Streak { passed: ok, probes: before.saturating_add(1) };
        let (found, needed) = if ok { (State::Up, rise) } else { (State::Down, fall) };
        if found == self.state || self.streak.probes < needed {
            return None;
        }
        self.state = found;
        self.since_change = 0;
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rise_and_fall_count_from_the_first_probe_on() {
        let mut judge = Judge::new(State::Unknown);
        assert_eq!(judge.judge(false, 2, 3), None, "one probe does not decide alone");
        assert_eq!(judge.judge(false, 2, 3), None);
        assert_eq!(judge.judge(false, 2, 3), Some(State::Down));
        assert_eq!(judge.judge(true, 2, 3), None);
        assert_eq!(judge.judge(false, 2, 3), None, "the streak is broken");
        assert_eq!(judge.judge(true, 2, 3), None);
        assert_eq!(judge.judge(true, 2, 3), Some(State::Up));
        for _ in 0..2 {
            assert_eq!(judge.judge(false, 2, 3), None);
        }
        assert_eq!(judge.judge(false, 2, 3), Some(State::Down));
        let mut judge = Judge::new(State::Unknown);
        assert_eq!((judge.judge(false, 2, 3), judge.judge(true, 2, 3)), (None, None));
        assert_eq!(judge.judge(true, 2, 3), Some(State::Up));
        // Another check of a backend that is known counts anew.
        let mut judge = Judge::new(State::Up);
        assert_eq!((judge.judge(false, 2, 3), judge.judge(false, 2, 3)), (None, None));
        assert_eq!(judge.judge(false, 1, 1), Some(State::Down));
    }

    #[test]
    fn probes_are_fast_after_a_change_and_while_a_backend_comes_back() {
        let mut judge = Judge::new(State::Unknown);
        let fast = |judge: &mut Judge, ok: bool, probes: u32| {
            (0..probes).map(|_| (judge.judge(ok, 2, 3), judge.is_fast()).1).collect::<Vec<_>>()
        };
        assert!(judge.is_fast(), "it is new");
        let found = fast(&mut judge, true, 2 + FAST_PROBES);
        assert_eq!(found.iter().filter(|fast| !**fast).count(), 1, "{found:?}");
        assert!(!judge.is_fast(), "it is established");
        assert_eq!(fast(&mut judge, false, 2), [false; 2], "a failure alone changes nothing");
        assert_eq!(fast(&mut judge, false, 1), [true], "it went down");
        assert!(!fast(&mut judge, false, FAST_PROBES).pop().unwrap(), "it stays down");
        assert_eq!(fast(&mut judge, true, 1), [true], "it comes back");
        assert_eq!(fast(&mut judge, false, 1), [false]);
        assert_eq!(fast(&mut judge, true, 2), [true; 2]);
        assert_eq!(judge.state(), State::Up);
    }
}
