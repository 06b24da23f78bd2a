//! Names that changed from revision to revision, as far back as differences can be sent to nodes.
//!
//! Only names are kept, not earlier configurations: the newest revision contains the current values. So nodes that are
//! behind cost no memory, however many and however far behind. After a restart the last steps are read from the
//! database, so a node that reconnects can still receive a difference.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use weir_snapshot::{
    diff::Change,
    resource::{ContentHash, Key},
};

use crate::current::Current;

/// Number of steps kept.
pub const MOST_STEPS: u32 = 512;

/// Maximum number of names over all steps.
const MAX_NAMES: usize = 100_000;

/// A revision and its content. The hash is included because a database restored from a copy reuses numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Revision number.
    pub revision: u64,
    /// Hash of the content.
    pub hash: ContentHash,
}

impl Version {
    pub(super) fn of(current: &Current) -> Self {
        Self { revision: current.revision, hash: current.hash }
    }
}

/// The change from one revision to the next.
#[derive(Debug)]
struct Step {
    before: Version,
    /// When the later revision was created, milliseconds since the Unix epoch.
    time_ms: i64,
    /// Changed keys, and whether each existed before.
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
    /// Loads the stored steps that led to the current revision, newest first.
    pub fn load(current: &Current, steps: impl IntoIterator<Item = (u64, i64, Vec<Change>)>) -> Self {
        let history = Self::default();
        let (mut hash, mut expected) = (current.hash, current.revision);
        let mut inner = history.lock();
        for (revision, time_ms, changes) in steps {
            // The first revision has no predecessor, and steps before a gap are useless.
            if revision != expected || revision <= 1 || inner.names >= MAX_NAMES {
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

    /// Adds a step. Called before the new revision becomes current.
    pub fn push(&self, before: Version, time_ms: i64, changes: &[Change]) {
        let mut inner = self.lock();
        let touched = touched(changes);
        inner.names += touched.len();
        inner.steps.push_back(Step { before, time_ms, touched });
        while inner.steps.len() > MOST_STEPS as usize || inner.names > MAX_NAMES {
            let Some(oldest) = inner.steps.pop_front() else { break };
            inner.names -= oldest.touched.len();
        }
    }

    /// Returns the version that a node reports as active, if it is known.
    pub(super) fn find(&self, revision: u64, hash: &str) -> Option<Version> {
        let inner = self.lock();
        let step = inner.steps.iter().find(|step| step.before.revision == revision)?;
        (step.before.hash.to_string() == hash).then_some(step.before)
    }

    /// Returns the keys that differ between two versions, and whether each existed in the first. `None` when that is
    /// not known.
    pub(super) fn between(&self, from: Version, to: Version) -> Option<BTreeMap<Key, bool>> {
        let inner = self.lock();
        let begin = inner.steps.iter().position(|step| step.before == from)?;
        let steps = inner.steps.iter().skip(begin).take_while(|step| step.before.revision < to.revision);
        let mut names = BTreeMap::new();
        for (key, existed) in steps.flat_map(|step| &step.touched) {
            // The first step that touched the key tells whether it existed.
            names.entry(key.clone()).or_insert(*existed);
        }
        Some(names)
    }

    /// When the next revision was created: since then nodes with this revision have been behind.
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

    /// Revision number, time and changes.
    type Stored = (u64, i64, Vec<Change>);

    /// A series of revisions with their history, and their steps as they would be stored.
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
    fn an_updated_hash_equals_the_hash_of_the_whole() {
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
        assert_eq!(history.between(other, at(5)), None, "the number is known, the content differs");
        assert_eq!(history.passed_ms(2), Some(30));
        assert_eq!(history.passed_ms(5), None);
    }

    #[test]
    fn stored_steps_give_the_same_history() {
        let (revisions, pushed, stored) = chain();
        let read = History::load(&revisions[4], stored);
        for from in &revisions[..4] {
            let (from, to) = (Version::of(from), Version::of(&revisions[4]));
            assert_eq!(read.between(from, to), pushed.between(from, to));
            assert_eq!(read.find(from.revision, &from.hash.to_string()), Some(from));
        }
        let (revisions, _, mut stored) = chain();
        stored.remove(1);
        let read = History::load(&revisions[4], stored);
        assert_eq!(read.find(3, &revisions[2].hash.to_string()), None, "steps before a gap are ignored");
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
