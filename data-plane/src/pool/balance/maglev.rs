//! `ip_hash` and `consistent_hash`: a table by Maglev (Eisenbud and others, NSDI 2016).
//!
//! Every backend has a preferred order of the table's entries, and they take turns in choosing, in proportion to their
//! weights; a key's hash names an entry. Backends are known by their URLs and take turns in an order that follows
//! from these, so that every node comes to the same table. Why Maglev and how large: decision 004.
//!
//! An unavailable backend keeps its entries. Its keys go to other backends, each chosen by further hashes of the key,
//! and return with it. All other keys stay.

use std::sync::Arc;

use crate::hash::{hash, mix};

/// The entries of a table: a prime, as Maglev needs it, so large that with up to a hundred backends the removal of one
/// of N moves little more than 1/N of the keys. One size for all: another size would be another table, and move
/// every key.
const SIZE: usize = 262_147;

/// Number of entries that are tried for a key before all backends are.
const TRIES: u64 = 32;

/// The entries of a table. Immutable and shared: a new snapshot with the same backends uses it again.
#[derive(Debug)]
pub(crate) struct Table {
    /// URL, weight and index of its backends.
    made_of: Vec<(String, u32, usize)>,
    entries: Box<[u32]>,
    /// Everyone in it, for when none of a key's entries may be used.
    members: Box<[u32]>,
}

impl Table {
    /// A table over backends: URL, weight and member.
    pub(crate) fn new(mut active: Vec<(String, u32, usize)>) -> Self {
        active.sort_unstable();
        let entries = fill(&active);
        let members = active.iter().map(|(.., member)| *member as u32).collect();
        Self { made_of: active, entries, members }
    }

    /// Whether the table is built of these backends.
    pub(crate) fn is_of(&self, active: &[(String, u32, usize)]) -> bool {
        self.made_of.len() == active.len()
            && active.iter().all(|entry| self.made_of.binary_search(entry).is_ok())
    }
}

fn fill(active: &[(String, u32, usize)]) -> Box<[u32]> {
    const FREE: u32 = u32::MAX;
    let Some(heaviest) = active.iter().map(|(_, weight, _)| u64::from(*weight)).max() else {
        return Box::default();
    };
    struct Chooser {
        next: usize,
        step: usize,
        weight: u64,
        /// Turns that it has saved, in units of the heaviest weight.
        saved: u64,
        member: u32,
    }
    let mut choosers: Vec<Chooser> = active
        .iter()
        .map(|(url, weight, member)| {
            let hash = hash(url.as_bytes());
            Chooser {
                next: (hash % SIZE as u64) as usize,
                step: (mix(hash ^ 0x9e37_79b9_7f4a_7c15) % (SIZE as u64 - 1)) as usize + 1,
                weight: u64::from(*weight),
                saved: 0,
                member: *member as u32,
            }
        })
        .collect();
    let mut entries = vec![FREE; SIZE].into_boxed_slice();
    let mut free = SIZE;
    loop {
        for chooser in &mut choosers {
            chooser.saved += chooser.weight;
            if chooser.saved < heaviest {
                continue;
            }
            chooser.saved -= heaviest;
            // The size is prime: the steps lead to every entry, and one is free.
            while entries[chooser.next] != FREE {
                chooser.next = (chooser.next + chooser.step) % SIZE;
            }
            entries[chooser.next] = chooser.member;
            free -= 1;
            if free == 0 {
                return entries;
            }
        }
    }
}

/// Goes by the hash of a key.
pub(crate) struct Maglev(pub(crate) Arc<Table>);

impl Maglev {
    pub(crate) fn pick(&self, key: u64, may: impl Fn(usize) -> bool) -> Option<usize> {
        let Table { entries, members, .. } = &*self.0;
        if entries.is_empty() {
            return None;
        }
        for tries in 0..TRIES {
            let hash = if tries == 0 { key } else { mix(key.wrapping_add(tries)) };
            // The high bits of the product: a fair entry without a division.
            let entry = ((u128::from(hash) * entries.len() as u128) >> 64) as usize;
            let member = entries[entry] as usize;
            if may(member) {
                return Some(member);
            }
        }
        let start = (key % members.len() as u64) as usize;
        members[start..].iter().chain(&members[..start]).map(|m| *m as usize).find(|member| may(*member))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn table(urls: &[(String, u32)]) -> Maglev {
        let active = urls.iter().enumerate().map(|(i, (url, weight))| (url.clone(), *weight, i)).collect();
        Maglev(Arc::new(Table::new(active)))
    }

    fn owner<'a>(maglev: &Maglev, urls: &'a [(String, u32)], key: u64) -> &'a str {
        &urls[maglev.pick(mix(key), |_| true).unwrap()].0
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn one_that_goes_moves_little_more_than_its_own_keys(n in 2_usize..60, gone in any::<prop::sample::Index>(), salt in any::<u16>()) {
            let before: Vec<(String, u32)> = (0..n).map(|i| (format!("http://10.0.{salt}.{i}:80"), 1)).collect();
            let mut after = before.clone();
            after.remove(gone.index(n));
            let (old, new) = (table(&before), table(&after));
            // Every entry, not some keys: a sample's noise is as large as what is measured.
            let entries = old.0.entries.iter().zip(&new.0.entries);
            let moved = entries.filter(|(old, new)| before[**old as usize].0 != after[**new as usize].0).count();
            let share = moved as f64 / SIZE as f64 * n as f64;
            // 1 is the least there can be; the rest is Maglev's price for even shares.
            prop_assert!(share < 1.25, "{share:.3}/N of the keys moved, N = {n}");
        }

        #[test]
        fn the_order_of_the_configuration_does_not_matter(n in 1_usize..40, turn in 0_usize..40) {
            let urls: Vec<(String, u32)> = (0..n).map(|i| (format!("http://b{i}:80"), 1 + i as u32 % 3)).collect();
            let mut turned = urls.clone();
            turned.rotate_left(turn % n);
            let (one, other) = (table(&urls), table(&turned));
            for key in 0..500 {
                prop_assert_eq!(owner(&one, &urls, key), owner(&other, &turned, key));
            }
        }
    }

    #[test]
    fn the_keys_of_the_dead_are_spread_and_the_others_stay() {
        let urls: Vec<(String, u32)> = (0..10).map(|i| (format!("http://b{i}:80"), 1)).collect();
        let maglev = table(&urls);
        let mut spread = BTreeMap::<usize, u32>::new();
        for key in (0..100_000).map(mix) {
            let before = maglev.pick(key, |_| true).unwrap();
            let after = maglev.pick(key, |member| member != 3).unwrap();
            if before == 3 {
                *spread.entry(after).or_default() += 1;
            } else {
                assert_eq!(before, after);
            }
        }
        assert_eq!(spread.len(), 9);
        assert!(spread.values().all(|count| (800..1500).contains(count)), "{spread:?}");
    }

    #[test]
    fn the_hash_is_the_same_everywhere() {
        assert_eq!(hash(b""), 0xefd0_1f60_ba99_2926);
        assert_eq!(hash(b"10.0.0.1"), hash(b"10.0.0.1"));
        assert_ne!(hash(b"10.0.0.1"), hash(b"10.0.0.2"));
    }
}
