//! A hash table that a search touches as little of as can be: one flat array of fingerprints and places, never changed once
//! it is made.
//!
//! With thousands of routes, what a search costs is the memory that it must fetch. A slot is eight bytes, so that those
//! of 5,000 keys lie in 128 KiB, and a key that is not there is seen without a look at any other memory.

use std::hash::{BuildHasher as _, Hasher as _};

use foldhash::fast::FixedState;

/// Finds places by the hashes of their keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Table {
    /// A power of two of them, at least half of them vacant; or none at all.
    slots: Box<[Slot]>,
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    fingerprint: u32,
    place: u32,
}

/// What is found.
pub(super) struct Key<'a> {
    pub(super) place: u32,
    /// Keys of the same text are told apart by it.
    pub(super) scope: u32,
    pub(super) text: &'a [u8],
}

const VACANT: Slot = Slot { fingerprint: 0, place: u32::MAX };

impl Table {
    /// Slots that a search looks at, one behind the other, at most.
    ///
    /// Whoever writes a configuration can choose keys that fall together under one seed, but not under many.
    const LONGEST: usize = 32;
    const SEEDS: u64 = 64;

    /// Of keys of which no two are the same.
    pub(super) fn new(keys: &[Key<'_>]) -> Self {
        if keys.is_empty() {
            return Self::default();
        }
        let mut slots = vec![VACANT; (keys.len() * 2).next_power_of_two()];
        let mut seed = 0;
        while !fill(&mut slots, seed, keys) && seed < Self::SEEDS {
            seed += 1;
        }
        Self { slots: slots.into(), seed }
    }

    /// The place of a key in its scope: the first of those that may be it which `is` it.
    #[inline]
    pub(super) fn find(&self, scope: u32, key: &[u8], is: impl Fn(usize) -> bool) -> Option<usize> {
        let last = self.slots.len().checked_sub(1)?;
        let hash = hash(self.seed, scope, key);
        let mut at = hash as usize & last;
        // There is a vacant one.
        loop {
            let slot = self.slots[at];
            if slot.place == VACANT.place {
                return None;
            }
            if slot.fingerprint == fingerprint(hash) && is(slot.place as usize) {
                return Some(slot.place as usize);
            }
            at = (at + 1) & last;
        }
    }
}

/// Whether every key has a slot that is quickly found.
fn fill(slots: &mut [Slot], seed: u64, keys: &[Key<'_>]) -> bool {
    slots.fill(VACANT);
    let last = slots.len() - 1;
    let mut longest = 0;
    for key in keys {
        let hash = hash(seed, key.scope, key.text);
        let mut length = 1;
        let mut at = hash as usize & last;
        while slots[at] != VACANT {
            at = (at + 1) & last;
            length += 1;
        }
        slots[at] = Slot { fingerprint: fingerprint(hash), place: key.place };
        longest = longest.max(length);
    }
    longest <= Table::LONGEST
}

/// The other half of the hash than the one that says where a search begins.
fn fingerprint(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[inline]
fn hash(seed: u64, scope: u32, key: &[u8]) -> u64 {
    let mut hasher = FixedState::with_seed(seed ^ u64::from(scope) << 32).build_hasher();
    hasher.write(key);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(keys: &[(u32, Vec<u8>)]) -> Table {
        let keys = (0..).zip(keys).map(|(place, (scope, text))| Key { place, scope: *scope, text });
        Table::new(&keys.collect::<Vec<_>>())
    }

    #[test]
    fn every_key_is_found_in_its_scope_alone() {
        let keys: Vec<(u32, Vec<u8>)> =
            (0..5000).map(|n| (n % 7, format!("key-{}", n / 7).into_bytes())).collect();
        let table = table(&keys);
        let find = |scope, key: &[u8]| table.find(scope, key, |place| keys[place] == (scope, key.to_vec()));
        for (place, (scope, key)) in keys.iter().enumerate() {
            assert_eq!(find(*scope, key), Some(place));
            assert_eq!(find(scope + 7, key), None);
        }
        assert_eq!(find(0, b"key"), None);
        assert_eq!(find(0, b""), None);
    }

    #[test]
    fn an_empty_table_finds_nothing() {
        assert_eq!(table(&[]).find(0, b"", |_| true), None);
        assert_eq!(table(&[(0, Vec::new())]).find(0, b"", |_| true), Some(0));
    }

    #[test]
    fn keys_that_fall_together_are_told_apart_by_another_seed() {
        // What somebody finds who looks for keys of one slot under the first seed.
        let same = |key: &Vec<u8>| hash(0, 0, key) & 0x3ff == 0;
        let keys: Vec<(u32, Vec<u8>)> = (0_u32..)
            .map(|n| n.to_string().into_bytes())
            .filter(same)
            .take(512)
            .map(|key| (0, key))
            .collect();
        let made = table(&keys);
        assert_ne!(made.seed, 0);
        assert!((0..512).all(|place| made.find(0, &keys[place].1, |found| found == place) == Some(place)));
    }
}
