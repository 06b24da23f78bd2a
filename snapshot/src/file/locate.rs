//! Finds the values that paths name in a [tree](super::tree), in time linear in the paths: a text with 200,000
//! problems has 200,000 paths to find in mappings with as many keys.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    ptr,
};

use super::tree::{Entry, Location, Node, Tree};

/// Mappings with fewer keys are searched linearly.
const SMALL: usize = 16;

/// Finds locations in one tree.
pub(super) struct Locator<'a> {
    root: &'a Node,
    /// Hash indexes of large mappings, by the mapping's address.
    indexes: HashMap<*const Entry, HashMap<u64, Vec<usize>>>,
    /// Initial value of all hashes. A key may contain a dot, so each prefix of a path that ends at a dot may be a
    /// key. The hash of a prefix extends that of the next shorter one.
    seed: u64,
}

impl<'a> Locator<'a> {
    pub(super) fn new(root: &'a Node) -> Self {
        Self { root, indexes: HashMap::new(), seed: RandomState::new().hash_one(0) }
    }

    /// The location of the value at `path`, or of the nearest value that contains it. With `of_key` the location of
    /// its key.
    pub(super) fn find(&mut self, path: &str, of_key: bool) -> Location {
        let mut node = self.root;
        let mut location = node.location;
        let mut rest = path;
        while !rest.is_empty() {
            let step = match &node.value {
                Tree::Leaf(_) => None,
                Tree::List(items) => rest.strip_prefix('[').and_then(|rest| {
                    let (index, rest) = rest.split_once(']')?;
                    Some((items.get(index.parse::<usize>().ok()?)?, None, rest))
                }),
                Tree::Mapping(entries) => {
                    let rest = rest.strip_prefix('.').unwrap_or(rest);
                    let entry = self.entry(entries, rest);
                    entry.map(|entry| (&entry.value, Some(entry.location), &rest[entry.key.len()..]))
                }
            };
            let Some((next, key, left)) = step else { break };
            location = key.filter(|_| of_key).unwrap_or(next.location);
            (node, rest) = (next, left);
        }
        location
    }

    /// The first entry whose key is a prefix of the path.
    fn entry(&mut self, entries: &'a [Entry], rest: &str) -> Option<&'a Entry> {
        let begins = |entry: &&Entry| {
            rest.strip_prefix(entry.key.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if entries.len() < SMALL {
            return entries.iter().find(begins);
        }
        let seed = self.seed;
        let index = self.indexes.entry(ptr::from_ref(entries.first()?)).or_insert_with(|| {
            let mut index: HashMap<u64, Vec<usize>> = HashMap::with_capacity(entries.len());
            for (i, entry) in entries.iter().enumerate() {
                let same = index.entry(entry.key.bytes().fold(seed, hash)).or_default();
                // Of equal keys the first one counts.
                if same.last().is_none_or(|last| entries[*last].key != entry.key) {
                    same.push(i);
                }
            }
            index
        });
        let mut candidates = Vec::new();
        let mut prefix = seed;
        for byte in rest.bytes() {
            if matches!(byte, b'.' | b'[') {
                candidates.extend(index.get(&prefix).into_iter().flatten());
            }
            prefix = hash(prefix, byte);
        }
        candidates.extend(index.get(&prefix).into_iter().flatten());
        candidates.sort_unstable();
        candidates.into_iter().map(|i: &usize| &entries[*i]).find(begins)
    }
}

/// FNV-1a.
fn hash(state: u64, byte: u8) -> u64 {
    (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, path: &str, of_key: bool) -> u64 {
        let root = Node::read(text).unwrap();
        let mut problem = crate::Problem::new("", "");
        Locator::new(&root).find(path, of_key).mark(&mut problem);
        problem.line.unwrap_or_default()
    }

    #[test]
    fn small_and_large_mappings_give_the_same_locations() {
        for more in [0, 100] {
            let filler: String = (0..more).map(|i| format!("k{i}: 1\n")).collect();
            let text = format!("{filler}a: 1\na.b: 2\na.b.c: {{ d: 3 }}\n\"x[0]\": 4\nlist:\n- q: 5\n");
            for (path, at) in
                [("a", 1), ("x[0]", 4), ("list[0].q", 6), ("list", 6), ("list[0].none", 6), ("none", 1)]
            {
                let at = if path == "none" { at } else { at + more };
                assert_eq!(line(&text, path, false), at, "{path} behind {more}");
            }
            // The first matching key wins, because a leaf contains no further keys.
            assert_eq!(line(&text, "a.b.c.d", true), 1 + more);
            assert_eq!(line(&text, "list", true), 5 + more);
        }
    }
}
