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

/// The state of one backend. The first probe decides at once; afterwards it takes `rise` good or `fall` failed
/// probes in a row.
#[derive(Debug)]
pub(super) struct Judge {
    state: State,
    is_first: bool,
    /// Probes in a row that speak against the state.
    against: u32,
}

impl Judge {
    /// Nothing was probed yet; until then the state is the given one.
    pub(super) fn new(state: State) -> Self {
        Self { state, is_first: true, against: 0 }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Counts one probe, and gives the new state when it changed.
    pub(super) fn judge(&mut self, ok: bool, rise: u32, fall: u32) -> Option<State> {
        let is_first = std::mem::take(&mut self.is_first);
        let (found, needed) = if ok { (State::Up, rise) } else { (State::Down, fall) };
        if found == self.state {
            self.against = 0;
            return None;
        }
        self.against += 1;
        if !is_first && self.against < needed {
            return None;
        }
        self.against = 0;
        self.state = found;
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_probe_decides_and_then_rise_and_fall() {
        let mut judge = Judge::new(State::Unknown);
        assert_eq!(judge.judge(false, 2, 3), Some(State::Down));
        assert_eq!(judge.judge(true, 2, 3), None);
        assert_eq!(judge.judge(false, 2, 3), None, "the streak is broken");
        assert_eq!(judge.judge(true, 2, 3), None);
        assert_eq!(judge.judge(true, 2, 3), Some(State::Up));
        for _ in 0..2 {
            assert_eq!(judge.judge(false, 2, 3), None);
        }
        assert_eq!(judge.judge(false, 2, 3), Some(State::Down));
    }
}
