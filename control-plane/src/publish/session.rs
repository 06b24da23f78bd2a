//! Decides what to send to a node next. A small state machine that is given the time: at most one unacknowledged push,
//! newer revisions coalesce meanwhile, a burst of changes is debounced, and a rejected revision is never sent again.

use std::time::Duration;

use tokio::time::Instant;

use super::history::Version;

/// Minimum interval between two pushes to a node.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// State of one stream. Small, because there are a thousand.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// The version that the node uses, if a difference to it can be sent.
    active: Option<Version>,
    in_flight: Option<Sent>,
    rejected: Option<Version>,
    /// The node could not apply a delta, so the next push is complete.
    wants_whole: bool,
    next_push: Option<Instant>,
    /// The version of health that was sent; `None` if none was sent.
    pub(super) health: Option<u64>,
}

/// A push that is not yet answered.
#[derive(Debug)]
struct Sent {
    version: Version,
    is_whole: bool,
    at: Instant,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Send the difference from a version; `None` means the complete revision.
    Send(Option<Version>),
    /// Check again at this time.
    Wait(Instant),
    Nothing,
}

/// The node answered a push that is not open.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotSent;

impl Session {
    /// `active` is a known version that the node uses; `rejected` is the last revision that this boot of it rejected.
    pub(super) fn new(active: Option<Version>, rejected: Option<Version>) -> Self {
        Self { active, rejected, ..Self::default() }
    }

    /// Decides from the current revision and the time.
    pub(super) fn next(&self, current: Version, now: Instant) -> Next {
        let is_known = self.active == Some(current) || self.rejected == Some(current);
        if self.in_flight.is_some() || is_known {
            return Next::Nothing;
        }
        if let Some(at) = self.next_push.filter(|at| *at > now) {
            return Next::Wait(at);
        }
        Next::Send(self.active.filter(|_| !self.wants_whole))
    }

    /// Records a push.
    pub(super) fn sent(&mut self, version: Version, is_whole: bool, now: Instant) {
        self.next_push = Some(now + DEBOUNCE);
        self.in_flight = Some(Sent { version, is_whole, at: now });
    }

    /// Returns the open push and when it was sent.
    pub(super) fn open(&self) -> Option<(u64, Instant)> {
        self.in_flight.as_ref().map(|sent| (sent.version.revision, sent.at))
    }

    /// Whether the node has a configuration, or one was sent.
    pub(super) fn has_begun(&self) -> bool {
        self.in_flight.is_some() || self.active.is_some() || self.rejected.is_some()
    }

    /// Records that the node uses the revision.
    pub(super) fn acknowledged(&mut self, revision: u64, hash: &str) -> Result<(), NotSent> {
        let sent = self
            .in_flight
            .take_if(|sent| sent.version.revision == revision && sent.version.hash.to_string() == hash);
        let sent = sent.ok_or(NotSent)?;
        self.active = Some(sent.version);
        self.wants_whole = false;
        Ok(())
    }

    /// Records that the node rejected the revision. A delta that did not match (`is_hash`) is repeated as a complete
    /// push; any other rejection is final and is returned.
    pub(super) fn rejected(&mut self, revision: u64, is_hash: bool) -> Result<Option<Version>, NotSent> {
        let sent = self.in_flight.take_if(|sent| sent.version.revision == revision).ok_or(NotSent)?;
        if is_hash && !sent.is_whole {
            self.wants_whole = true;
            self.next_push = None;
            return Ok(None);
        }
        self.rejected = Some(sent.version);
        Ok(Some(sent.version))
    }
}

#[cfg(test)]
mod tests {
    use weir_snapshot::resource::{ContentHash, Key, Kind};

    use super::*;

    fn version(revision: u64) -> Version {
        let mut hash = ContentHash::default();
        hash.add(&Key { kind: Kind::Backend, name: "b1".into() }, &revision.to_string());
        Version { revision, hash }
    }

    fn hash(revision: u64) -> String {
        version(revision).hash.to_string()
    }

    /// Sends what is due, as the service does. Returns the base revision.
    fn send(session: &mut Session, to: u64, now: Instant) -> Option<u64> {
        let Next::Send(from) = session.next(version(to), now) else { panic!("nothing is due") };
        session.sent(version(to), from.is_none(), now);
        from.map(|from| from.revision)
    }

    #[test]
    fn one_push_is_open_and_newer_ones_coalesce() {
        let now = Instant::now();
        let mut session = Session::new(None, None);
        assert_eq!(send(&mut session, 1, now), None);
        assert_eq!(session.next(version(2), now + DEBOUNCE), Next::Nothing);
        assert_eq!(session.acknowledged(2, &hash(2)), Err(NotSent));
        assert_eq!(session.acknowledged(1, &hash(2)), Err(NotSent));
        assert_eq!(session.open(), Some((1, now)));
        assert_eq!(session.acknowledged(1, &hash(1)), Ok(()));
        assert_eq!(session.acknowledged(1, &hash(1)), Err(NotSent), "it was already answered");
        assert_eq!(session.next(version(3), now), Next::Wait(now + DEBOUNCE));
        assert_eq!(send(&mut session, 3, now + DEBOUNCE), Some(1));
    }

    #[test]
    fn the_first_change_is_sent_at_once_and_the_next_one_waits() {
        let (now, late) = (Instant::now(), Instant::now() + Duration::from_secs(60));
        let mut session = Session::new(Some(version(1)), None);
        assert_eq!(send(&mut session, 2, now), Some(1));
        session.acknowledged(2, &hash(2)).unwrap();
        assert_eq!(session.next(version(3), now), Next::Wait(now + DEBOUNCE));
        assert_eq!(send(&mut session, 3, late), Some(2), "at once again after a pause");
    }

    #[test]
    fn a_rejected_revision_is_never_sent_again() {
        let now = Instant::now();
        let mut session = Session::new(Some(version(1)), None);
        assert_eq!(session.next(version(1), now), Next::Nothing, "the node already uses it");
        assert_eq!(send(&mut session, 2, now), Some(1));
        let rejected = session.rejected(2, false).unwrap();
        assert_eq!(session.next(version(2), now + DEBOUNCE), Next::Nothing);
        assert_eq!(send(&mut session, 3, now + DEBOUNCE), Some(1));
        // The same boot of the node on a new stream.
        let session = Session::new(Some(version(1)), rejected);
        assert_eq!(session.next(version(2), now), Next::Nothing);
    }

    #[test]
    fn a_delta_that_does_not_match_is_repeated_complete_and_then_final() {
        let now = Instant::now();
        let mut session = Session::new(Some(version(1)), None);
        assert_eq!(send(&mut session, 2, now), Some(1));
        assert_eq!(session.rejected(2, true), Ok(None));
        assert_eq!(send(&mut session, 2, now), None);
        assert!(session.rejected(2, true).unwrap().is_some());
        assert_eq!(session.next(version(2), now + DEBOUNCE), Next::Nothing);
    }
}
