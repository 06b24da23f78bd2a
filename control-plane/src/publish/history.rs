//! What changed from revision to revision, as far back as a node may be behind and still be sent a difference.
//!
//! Only names are kept, no earlier configuration: what a piece is now, the newest revision knows. So a node that is
//! behind costs nothing, however many there are and however far apart they are. After a restart the last steps are
//! read from the database, and a node that comes back with what it had is sent the difference all the same.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use weir_snapshot::{
    diff::Change,
    resource::{ContentHash, Key},
};

use crate::current::Current;

/// Steps that are kept.
pub const MOST_STEPS: u32 = 512;

/// Names that are kept over all steps.
const MOST_NAMES: usize = 100_000;

/// A revision, and what it holds. The hash is part of it: a database that was put back from a copy numbers anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Its number.
    pub revision: u64,
    /// Over its content.
    pub hash: ContentHash,
}

impl Version {
    pub(super) fn of(current: &Current) -> Self {
        Self { revision: current.revision, hash: current.hash }
    }
}

/// One revision to the next.
#[derive(Debug)]
struct Step {
    before: Version,
    /// When the later one came, milliseconds since the Unix epoch.
    time_ms: i64,
    /// What it touched, and whether that was there before.
    touched: Vec<(Key, bool)>,
}

/// The last steps. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct History {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    steps: VecDeque<Step>,
    names: usize,
}

impl History {
    /// From the steps that led to the current revision, newest first, as they are stored.
    pub fn load(current: &Current, steps: impl IntoIterator<Item = (u64, i64, Vec<Change>)>) -> Self {
        let history = Self::default();
        let (mut hash, mut expected) = (current.hash, current.revision);
        let mut inner = history.lock();
        for (revision, time_ms, changes) in steps {
            // The first revision came from nothing, and a gap cannot be passed.
            if revision != expected || revision <= 1 || inner.names >= MOST_NAMES {
                break;
            }
            for Change { key, before, after } in &changes {
                after.iter().for_each(|spec| hash.remove(key, spec));
                before.iter().for_each(|spec| hash.add(key, spec));
            }
            expected = revision - 1;
            let touched = touched(&changes);
            inner.names += touched.len();
            inner.steps.push_front(Step { before: Version { revision: expected, hash }, time_ms, touched });
        }
        drop(inner);
        history
    }

    /// A revision came after another. Told before the revision is current.
    pub fn push(&self, before: Version, time_ms: i64, changes: &[Change]) {
        let mut inner = self.lock();
        let touched = touched(changes);
        inner.names += touched.len();
        inner.steps.push_back(Step { before, time_ms, touched });
        while inner.steps.len() > MOST_STEPS as usize || inner.names > MOST_NAMES {
            let Some(oldest) = inner.steps.pop_front() else { break };
            inner.names -= oldest.touched.len();
        }
    }

    /// What a node says that it runs, if that is a version that there was.
    pub(super) fn find(&self, revision: u64, hash: &str) -> Option<Version> {
        let inner = self.lock();
        let step = inner.steps.iter().find(|step| step.before.revision == revision)?;
        (step.before.hash.to_string() == hash).then_some(step.before)
    }

    /// The names that differ between two versions, and whether each was there in the first. `None`: not known any more.
    pub(super) fn between(&self, from: Version, to: Version) -> Option<BTreeMap<Key, bool>> {
        let inner = self.lock();
        let begin = inner.steps.iter().position(|step| step.before == from)?;
        let steps = inner.steps.iter().skip(begin).take_while(|step| step.before.revision < to.revision);
        let mut names = BTreeMap::new();
        for (key, was_there) in steps.flat_map(|step| &step.touched) {
            // Whether it was there is said by the first step that touched it.
            names.entry(key.clone()).or_insert(*was_there);
        }
        Some(names)
    }

    /// When the revision after this one came: since then who runs this one is behind.
    pub fn passed_ms(&self, revision: u64) -> Option<i64> {
        let inner = self.lock();
        let passed = inner.steps.iter().find(|step| step.before.revision >= revision);
        passed.map(|step| step.time_ms)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn touched(changes: &[Change]) -> Vec<(Key, bool)> {
    changes.iter().map(|change| (change.key.clone(), change.before.is_some())).collect()
}

#[cfg(test)]
mod tests {
    use weir_snapshot::{Config, config::Backend, resource::Kind};

    use super::*;

    fn with(backends: &[(&str, u32)]) -> Config {
        let mut config = Config::default();
        config.pools[0].backends = backends
            .iter()
            .map(|(id, weight)| Backend {
                id: (*id).into(),
                url: format!("http://{id}:1"),
                weight: *weight,
                state: Default::default(),
            })
            .collect();
        config
    }

    fn key(id: &str) -> Key {
        Key { kind: Kind::Backend, name: id.into() }
    }

    /// A revision's number, its time, and what it changed.
    type Stored = (u64, i64, Vec<Change>);

    /// A chain of revisions, told as they are made, and their differences as they would be stored.
    fn chain() -> (Vec<Current>, History, Vec<Stored>) {
        let history = History::default();
        let mut revisions = vec![Current::new(1, with(&[("b1", 1)])).unwrap()];
        let mut stored = Vec::new();
        for backends in [&[("b1", 2)][..], &[("b1", 2), ("b2", 1)], &[("b2", 1)], &[("b2", 5)]] {
            let before = revisions.last().unwrap();
            let (after, changes) = before.next(with(backends)).unwrap();
            history.push(Version::of(before), after.revision.cast_signed() * 10, &changes);
            stored.insert(0, (after.revision, after.revision.cast_signed() * 10, changes));
            revisions.push(after);
        }
        (revisions, history, stored)
    }

    #[test]
    fn a_hash_that_is_kept_up_to_date_is_that_of_the_whole() {
        for revision in chain().0 {
            assert_eq!(revision.hash, ContentHash::of(&revision.resources));
        }
    }

    #[test]
    fn names_of_several_steps_are_joined() {
        let (revisions, history, _) = chain();
        let at = |n: usize| Version::of(&revisions[n - 1]);
        let names = history.between(at(1), at(5)).unwrap();
        assert_eq!(names, BTreeMap::from([(key("b1"), true), (key("b2"), false)]));
        assert_eq!(history.between(at(2), at(3)).unwrap(), BTreeMap::from([(key("b2"), false)]));
        let other = Version { revision: 2, hash: ContentHash::default() };
        assert_eq!(history.between(other, at(5)), None, "the number is known, the content is not");
        assert_eq!(history.passed_ms(2), Some(30));
        assert_eq!(history.passed_ms(5), None);
    }

    #[test]
    fn what_is_stored_makes_the_same_history() {
        let (revisions, told, stored) = chain();
        let read = History::load(&revisions[4], stored);
        for from in &revisions[..4] {
            let (from, to) = (Version::of(from), Version::of(&revisions[4]));
            assert_eq!(read.between(from, to), told.between(from, to));
            assert_eq!(read.find(from.revision, &from.hash.to_string()), Some(from));
        }
        let (revisions, _, mut stored) = chain();
        stored.remove(1);
        let read = History::load(&revisions[4], stored);
        assert_eq!(read.find(3, &revisions[2].hash.to_string()), None, "a gap is not passed");
    }

    #[test]
    fn only_the_last_steps_are_kept() {
        let history = History::default();
        for revision in 1..=u64::from(MOST_STEPS) + 3 {
            history.push(Version { revision, hash: ContentHash::default() }, 0, &[]);
        }
        assert_eq!(history.lock().steps.len(), MOST_STEPS as usize);
        assert_eq!(history.find(3, &ContentHash::default().to_string()), None);
        assert!(history.find(4, &ContentHash::default().to_string()).is_some());
    }
}
