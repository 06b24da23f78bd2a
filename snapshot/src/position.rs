//! Positions of pools, routes and backends in their lists, as numbers that stay the same when neighbours are added or
//! removed.
//!
//! The order of the file is kept, so each resource stores its position. If that were its index, removing one backend
//! would change all backends after it, and the message to the nodes. So positions have gaps, and a new order keeps as
//! many old positions as possible.

use std::{collections::BTreeMap, sync::Arc};

use rustc_hash::FxHashMap;

use crate::resource::{Key, Kind, Resources};

/// Gap between two neighbours of a new list.
const STEP: i64 = 16;

/// Positions beyond this value are not kept.
const FARTHEST: u64 = 1 << 60;

/// The position of each resource that has one. Unchanged parts are shared with the previous value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Positions(BTreeMap<Kind, Arc<FxHashMap<String, i64>>>);

impl Positions {
    /// Collects the positions stored in resources. Unreadable resources have none, nor do those so far out that no
    /// further resource would fit after them; they get new positions later.
    pub fn of(resources: &Resources) -> Self {
        #[derive(serde::Deserialize)]
        struct Positioned {
            #[serde(rename = "place")]
            position: i64,
        }
        let mut positions = Self::default();
        for (Key { kind, name }, spec) in resources.iter().filter(|(key, _)| key.kind != Kind::Settings) {
            match serde_json::from_str(spec) {
                Ok(Positioned { position }) if position.unsigned_abs() <= FARTHEST => {
                    positions.set(*kind, name, position)
                }
                _ => {}
            }
        }
        positions
    }

    pub(crate) fn get(&self, kind: Kind, name: &str) -> Option<i64> {
        self.0.get(&kind)?.get(name).copied()
    }

    pub(crate) fn set(&mut self, kind: Kind, name: &str, position: i64) {
        if self.get(kind, name) != Some(position) {
            Arc::make_mut(self.0.entry(kind).or_default()).insert(name.to_owned(), position);
        }
    }

    pub(crate) fn remove(&mut self, kind: Kind, name: &str) {
        let Some(positions) = self.0.get_mut(&kind) else { return };
        Arc::make_mut(positions).remove(name);
        if positions.is_empty() {
            self.0.remove(&kind);
        }
    }

    /// Assigns positions to a list in this order and keeps old positions where possible.
    pub(crate) fn arrange<'a>(&self, kind: Kind, order: impl IntoIterator<Item = &'a str>) -> Vec<i64> {
        let old: Vec<Option<i64>> = order.into_iter().map(|name| self.get(kind, name)).collect();
        // Usually nothing has moved.
        if old.iter().all(Option::is_some) && old.is_sorted_by(|a, b| a < b) {
            return old.into_iter().flatten().collect();
        }
        fill(&rising(&old))
    }
}

/// Keeps the longest increasing subsequence of positions and drops the others.
fn rising(old: &[Option<i64>]) -> Vec<Option<i64>> {
    // By length: the index at which the best subsequence of that length ends, the one with the smallest end.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = vec![None; old.len()];
    for (index, position) in old.iter().enumerate() {
        let Some(position) = position else { continue };
        let length = ends.partition_point(|end| old[*end].is_some_and(|end| end < *position));
        before[index] = length.checked_sub(1).map(|shorter| ends[shorter]);
        if length == ends.len() {
            ends.push(index);
        } else {
            ends[length] = index;
        }
    }
    let mut kept = vec![None; old.len()];
    let mut at = ends.last().copied();
    while let Some(index) = at {
        kept[index] = old[index];
        at = before[index];
    }
    kept
}

/// Assigns a position to each item without one, between its neighbours if there is room; otherwise the following
/// items move.
fn fill(kept: &[Option<i64>]) -> Vec<i64> {
    let mut positions: Vec<i64> = Vec::with_capacity(kept.len());
    let mut at = 0;
    while at < kept.len() {
        let last = positions.last().copied();
        if let Some(position) = kept[at].filter(|position| last.is_none_or(|last| last < *position)) {
            positions.push(position);
            at += 1;
            continue;
        }
        // A run of items without positions, up to the next item with a usable one.
        let usable =
            |position: &Option<i64>| position.is_some_and(|position| last.is_none_or(|last| last < position));
        let end = kept[at..].iter().position(usable).map_or(kept.len(), |found| at + found);
        let count = i64::try_from(end - at).unwrap_or(i64::MAX);
        let next = kept.get(end).copied().flatten();
        match (last, next) {
            (None, None) => positions.extend((0..count).map(|n| n * STEP)),
            (Some(last), None) => positions.extend((1..=count).map(|n| last.saturating_add(n * STEP))),
            (None, Some(next)) => {
                positions.extend((0..count).map(|n| next.saturating_sub((count - n) * STEP)))
            }
            (Some(last), Some(next)) => {
                let step = (next - last) / (count + 1);
                positions.extend((1..=count).map(|n| last + n * step.max(1)));
            }
        }
        at = end;
    }
    positions
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Backends with these numbers at these positions.
    fn positions(order: &[u32], at: &[i64]) -> Positions {
        let mut positions = Positions::default();
        order.iter().zip(at).for_each(|(n, at)| positions.set(Kind::Backend, &format!("b{n}"), *at));
        positions
    }

    fn arrange(before: &Positions, order: &[u32]) -> Vec<i64> {
        let names: Vec<String> = order.iter().map(|n| format!("b{n}")).collect();
        before.arrange(Kind::Backend, names.iter().map(String::as_str))
    }

    #[test]
    fn unmoved_items_keep_their_position() {
        let before = positions(&[1, 2, 3, 4], &[0, 16, 32, 48]);
        assert_eq!(arrange(&before, &[1, 3, 4]), [0, 32, 48], "one was removed");
        assert_eq!(arrange(&before, &[1, 2, 3, 4, 5]), [0, 16, 32, 48, 64], "one was added");
        assert_eq!(arrange(&before, &[1, 5, 2, 3, 4]), [0, 8, 16, 32, 48], "one came between");
        assert_eq!(arrange(&before, &[4, 1, 2, 3]), [-16, 0, 16, 32], "one moved to the front");
        assert_eq!(arrange(&before, &[2, 3, 4, 1]), [16, 32, 48, 64], "one moved to the end");
    }

    #[test]
    fn without_a_gap_the_following_items_move() {
        let before = positions(&[1, 2, 3], &[0, 1, 90]);
        assert_eq!(arrange(&before, &[1, 8, 9, 2, 3]), [0, 1, 2, 46, 90]);
    }

    proptest! {
        #[test]
        fn positions_always_increase(
            before in prop::collection::hash_map(0..40u32, -50..50i64, 0..40),
            order in Just((0..40u32).collect::<Vec<_>>()).prop_shuffle(),
            length in 0..40usize,
        ) {
            let (names, positions): (Vec<u32>, Vec<i64>) = before.into_iter().unzip();
            let order = &order[..length];
            let arranged = arrange(&super::tests::positions(&names, &positions), order);
            prop_assert_eq!(arranged.len(), order.len());
            prop_assert!(arranged.is_sorted_by(|a, b| a < b), "{:?}", arranged);
        }
    }
}
