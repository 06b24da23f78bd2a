//! Derives a backend's state from single probes, with rise and fall thresholds.

/// Health of a backend as determined by probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum State {
    /// Not probed, or not yet: used as if it were up.
    #[default]
    Unknown,
    /// Probes succeed.
    Up,
    /// Probes fail.
    Down,
}

impl State {
    /// Name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// Number of probes at the fast interval after a change: a server that restarts is usually back by then.
const FAST_PROBES: u32 = 10;

/// Consecutive probes with the same result.
#[derive(Debug)]
struct Streak {
    passed: bool,
    probes: u32,
}

/// State of one backend. `rise` successful or `fall` failed probes in a row change it, also the first time.
#[derive(Debug)]
pub(super) struct Judge {
    state: State,
    streak: Streak,
    /// Number of probes since the state changed, or since the backend was added.
    since_change: u32,
}

impl Judge {
    /// Starts with a given state and no probes.
    pub(super) fn new(state: State) -> Self {
        Self { state, streak: Streak { passed: true, probes: 0 }, since_change: 0 }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Whether the next probe uses the fast interval: the backend is new, its state changed recently, or it may be
    /// recovering. A backend that was up for longer and fails is probed at the normal interval, so that a short failure
    /// does not count as down.
    pub(super) fn is_fast(&self) -> bool {
        let comes_back = self.state == State::Down && self.streak.passed && self.streak.probes > 0;
        self.state == State::Unknown || self.since_change < FAST_PROBES || comes_back
    }

    /// Counts one probe, and returns the new state if it changed.
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
        assert_eq!(judge.judge(false, 2, 3), None, "a single probe does not decide");
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
        // A different health check of a known backend starts counting again.
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
        assert!(judge.is_fast(), "the backend is new");
        let found = fast(&mut judge, true, 2 + FAST_PROBES);
        assert_eq!(found.iter().filter(|fast| !**fast).count(), 1, "{found:?}");
        assert!(!judge.is_fast(), "the backend was up for longer");
        assert_eq!(fast(&mut judge, false, 2), [false; 2], "a single failure changes nothing");
        assert_eq!(fast(&mut judge, false, 1), [true], "the backend went down");
        assert!(!fast(&mut judge, false, FAST_PROBES).pop().unwrap(), "the backend stays down");
        assert_eq!(fast(&mut judge, true, 1), [true], "the backend recovers");
        assert_eq!(fast(&mut judge, false, 1), [false]);
        assert_eq!(fast(&mut judge, true, 2), [true; 2]);
        assert_eq!(judge.state(), State::Up);
    }
}
