//! What one node gets next. A small state machine that is told the time: at most one un-acknowledged push, newer
//! revisions coalesce meanwhile, a burst of edits is debounced, and a rejected revision is never sent again.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use weir_snapshot::resource::Kind;

use super::registry::Rejected;
use crate::{current::Current, health};

/// Two pushes to a node are at least so far apart.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// What is known of the node behind one stream.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// What the node runs, when it is known here.
    active: Option<Arc<Current>>,
    /// What was sent and not yet answered, and whether it was sent whole.
    in_flight: Option<(Arc<Current>, bool)>,
    rejected: Option<Rejected>,
    /// The node could not apply a delta: what comes next comes whole.
    wants_whole: bool,
    next_push: Option<Instant>,
    /// What the node was told of the backends' health; `None`: nothing yet.
    health: Option<health::States>,
}

/// What to send now.
#[derive(Debug)]
pub(super) enum Push {
    /// The whole revision.
    Whole(Arc<Current>),
    /// The difference from the first to the second.
    Delta(Arc<Current>, Arc<Current>),
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Next {
    Send(Push),
    /// Ask again then.
    Wait(Instant),
    Nothing,
}

/// The node's answer is to nothing that is open.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotSent;

impl Session {
    /// The node said what it runs; `rejected` is the last revision that this boot of it refused.
    pub(super) fn new(revision: u64, hash: &str, current: &Arc<Current>, rejected: Option<Rejected>) -> Self {
        let is_current = revision == current.revision && hash == current.hash.to_string();
        Self { active: is_current.then(|| Arc::clone(current)), rejected, ..Self::default() }
    }

    /// What follows from the current revision and the time.
    pub(super) fn next(&mut self, current: &Arc<Current>, now: Instant) -> Next {
        let runs_it = self.active.as_ref().is_some_and(|active| is_same(active, current));
        let refused = self.rejected.as_ref().is_some_and(|rejected| rejected.is(current));
        if self.in_flight.is_some() || runs_it || refused {
            return Next::Nothing;
        }
        if let Some(at) = self.next_push.filter(|at| *at > now) {
            return Next::Wait(at);
        }
        self.next_push = Some(now + DEBOUNCE);
        let from = self.active.clone().filter(|_| !self.wants_whole);
        self.in_flight = Some((Arc::clone(current), from.is_none()));
        Next::Send(match from {
            Some(from) => Push::Delta(from, Arc::clone(current)),
            None => Push::Whole(Arc::clone(current)),
        })
    }

    /// The node runs the revision.
    pub(super) fn acknowledged(&mut self, revision: u64, hash: &str) -> Result<(), NotSent> {
        match self.in_flight.take() {
            Some((sent, _)) if sent.revision == revision && sent.hash.to_string() == hash => {
                self.active = Some(sent);
                self.wants_whole = false;
                // A node may have forgotten what it was told of backends that it did not know yet.
                self.health = None;
                Ok(())
            }
            other => {
                self.in_flight = other;
                Err(NotSent)
            }
        }
    }

    /// The node refused the revision. A delta that did not fit (`is_hash`) comes again, whole; anything else is
    /// final, and is returned to be remembered.
    pub(super) fn rejected(&mut self, revision: u64, is_hash: bool) -> Result<Option<Rejected>, NotSent> {
        match self.in_flight.take() {
            Some((sent, was_whole)) if sent.revision == revision => {
                if is_hash && !was_whole {
                    self.wants_whole = true;
                    self.next_push = None;
                    return Ok(None);
                }
                let rejected = Rejected { revision, hash: sent.hash };
                self.rejected = Some(rejected);
                Ok(Some(rejected))
            }
            other => {
                self.in_flight = other;
                Err(NotSent)
            }
        }
    }

    /// What to tell the node of the backends' health: whether that is all of it, and the backends. `None`: nothing
    /// new. Only backends of what was sent last are told of; the node does not know the others.
    pub(super) fn health(&mut self, states: &health::States) -> Option<(bool, health::States)> {
        let sent = self.in_flight.as_ref().map(|(sent, _)| sent);
        let runs = self.active.as_ref();
        if sent.is_none() && runs.is_none() && self.rejected.is_none() {
            return None;
        }
        let knows = |id: &str| {
            let key = weir_snapshot::resource::Key { kind: Kind::Backend, name: id.to_owned() };
            // After a refusal it is not known here what the node runs: an unknown backend does it no harm.
            (sent.is_none() && runs.is_none())
                || [sent, runs].into_iter().flatten().any(|current| current.resources.contains_key(&key))
        };
        let now: health::States =
            states.iter().filter(|(id, _)| knows(id)).map(|(id, state)| (id.clone(), *state)).collect();
        let told = self.health.replace(now.clone());
        let Some(told) = told else { return Some((true, now)) };
        let mut differs: health::States = now
            .iter()
            .filter(|(id, state)| told.get(*id) != Some(*state))
            .map(|(id, state)| (id.clone(), *state))
            .collect();
        let forgotten = told.keys().filter(|id| !now.contains_key(*id) && knows(id));
        differs.extend(forgotten.map(|id| (id.clone(), health::State::Unknown)));
        (!differs.is_empty()).then_some((false, differs))
    }
}

fn is_same(one: &Current, other: &Current) -> bool {
    one.revision == other.revision && one.hash == other.hash
}

#[cfg(test)]
mod tests {
    use weir_snapshot::Config;

    use super::*;

    fn revision(revision: u64) -> Arc<Current> {
        let mut config = Config::default();
        config.pools[0].backends.push(weir_snapshot::config::Backend {
            id: "b1".into(),
            url: "http://a:1".into(),
            weight: u32::try_from(revision).unwrap(),
            state: Default::default(),
        });
        Arc::new(Current::new(revision, config).unwrap())
    }

    fn sent(next: Next) -> (Option<u64>, u64) {
        match next {
            Next::Send(Push::Whole(to)) => (None, to.revision),
            Next::Send(Push::Delta(from, to)) => (Some(from.revision), to.revision),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_push_is_open_and_newer_ones_coalesce() {
        let now = Instant::now();
        let (one, two, three) = (revision(1), revision(2), revision(3));
        let mut session = Session::new(0, "", &one, None);
        assert_eq!(sent(session.next(&one, now)), (None, 1));
        assert!(matches!(session.next(&two, now + DEBOUNCE), Next::Nothing));
        assert_eq!(session.acknowledged(2, &two.hash.to_string()), Err(NotSent));
        assert_eq!(session.acknowledged(1, &one.hash.to_string()), Ok(()));
        assert!(matches!(session.next(&three, now), Next::Wait(at) if at == now + DEBOUNCE));
        assert_eq!(sent(session.next(&three, now + DEBOUNCE)), (Some(1), 3));
    }

    #[test]
    fn a_rejected_revision_is_never_sent_again() {
        let now = Instant::now();
        let (one, two, three) = (revision(1), revision(2), revision(3));
        let mut session = Session::new(1, &one.hash.to_string(), &one, None);
        assert!(matches!(session.next(&one, now), Next::Nothing), "it runs it");
        assert_eq!(sent(session.next(&two, now)), (Some(1), 2));
        let rejected = session.rejected(2, false).unwrap();
        assert!(matches!(session.next(&two, now + DEBOUNCE), Next::Nothing));
        assert_eq!(sent(session.next(&three, now + DEBOUNCE)), (Some(1), 3));
        // The same boot of the node on a new stream.
        let mut session = Session::new(1, &one.hash.to_string(), &two, rejected);
        assert!(matches!(session.next(&two, now), Next::Nothing));
    }

    #[test]
    fn a_delta_that_does_not_fit_comes_again_whole_and_then_is_final() {
        let now = Instant::now();
        let (one, two) = (revision(1), revision(2));
        let mut session = Session::new(1, &one.hash.to_string(), &one, None);
        assert_eq!(sent(session.next(&two, now)), (Some(1), 2));
        assert_eq!(session.rejected(2, true), Ok(None));
        assert_eq!(sent(session.next(&two, now)), (None, 2));
        assert!(session.rejected(2, true).unwrap().is_some());
        assert!(matches!(session.next(&two, now + DEBOUNCE), Next::Nothing));
    }

    #[test]
    fn health_is_told_whole_and_then_by_difference() {
        use health::State::{Down, Unknown, Up};
        let now = Instant::now();
        let one = revision(1);
        let states = |list: &[(&str, health::State)]| {
            list.iter().map(|(id, state)| ((*id).to_owned(), *state)).collect()
        };
        let mut session = Session::new(0, "", &one, None);
        assert_eq!(session.health(&states(&[("b1", Up)])), None, "it knows no backend yet");
        sent(session.next(&one, now));
        assert_eq!(session.health(&states(&[("b1", Up), ("b9", Up)])), Some((true, states(&[("b1", Up)]))));
        assert_eq!(session.health(&states(&[("b1", Up)])), None);
        assert_eq!(session.health(&states(&[("b1", Down)])), Some((false, states(&[("b1", Down)]))));
        assert_eq!(session.health(&states(&[])), Some((false, states(&[("b1", Unknown)]))));
    }
}
