//! A hash table with minimal memory access: one flat, immutable array of fingerprints and indexes.
//!
//! With thousands of routes, the cost of a lookup is the memory that it fetches. A slot has eight bytes, so the slots
//! of 5,000 keys take 128 KiB, and an absent key is detected without reading any other memory.

use std::hash::{BuildHasher as _, Hasher as _};

use foldhash::fast::FixedState;

/// Finds indexes by the hashes of their keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Table {
    /// A power of two, at least half of them vacant; or empty.
    slots: Box<[Slot]>,
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    fingerprint: u32,
    place: u32,
}

/// A key and its index.
pub(super) struct Key<'a> {
    pub(super) place: u32,
    /// Distinguishes keys with the same text.
    pub(super) scope: u32,
    pub(super) text: &'a [u8],
}

const VACANT: Slot = Slot { fingerprint: 0, place: u32::MAX };

impl Table {
    /// Maximum number of consecutive slots that a lookup reads.
    ///
    /// Someone who writes a configuration can choose keys that collide under one seed, but not under many.
    const LONGEST: usize = 32;
    const SEEDS: u64 = 64;

    /// Builds a table; the keys must be distinct.
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

    /// Returns the index of a key in its scope: the first candidate that `is` confirms.
    #[inline]
    pub(super) fn find(&self, scope: u32, key: &[u8], is: impl Fn(usize) -> bool) -> Option<usize> {
        let last = self.slots.len().checked_sub(1)?;
        let hash = hash(self.seed, scope, key);
        let mut at = hash as usize & last;
        // Ends because there is always a vacant slot.
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

/// Whether every key has got a slot within [`LONGEST`] of its hash.
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

/// The half of the hash that does not determine the first slot.
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
    fn every_key_is_found_only_in_its_scope() {
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
    fn colliding_keys_are_separated_by_another_seed() {
        // Keys that an attacker would find when searching for collisions under the first seed.
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
