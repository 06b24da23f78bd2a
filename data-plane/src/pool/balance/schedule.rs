//! `round_robin` and `random`: both draw from a table in which every backend stands as often as its weight says.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use fastrand::Rng;

use crate::cache_padded::CachePadded;

/// The longest table; above it weights are scaled down together.
const LONGEST: u64 = 1 << 16;

/// How often a draw that hit a backend out of use is repeated before the table is searched in order.
const DRAWS: usize = 16;

/// Members by weight, evenly interleaved: the position of the k-th of w occurrences is (2k + 1) / 2w of the length.
pub(super) fn table(active: impl Iterator<Item = (usize, u32)>) -> Box<[u32]> {
    let active: Vec<(usize, u64)> = active.map(|(member, weight)| (member, u64::from(weight))).collect();
    let divisor = active.iter().fold(0, |divisor, (_, weight)| gcd(divisor, *weight)).max(1);
    let total: u64 = active.iter().map(|(_, weight)| weight / divisor).sum();
    let scale = |weight: u64| {
        if total > LONGEST { (weight / divisor * LONGEST / total).max(1) } else { weight / divisor }
    };
    let mut entries: Vec<(u64, u32)> = active
        .iter()
        .flat_map(|(member, weight)| {
            let weight = scale(*weight);
            (0..weight).map(move |k| (((2 * k + 1) << 32) / (2 * weight), *member as u32))
        })
        .collect();
    entries.sort_unstable();
    entries.into_iter().map(|(_, member)| member).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// An entry in the table drawn by chance, whose member may be picked. Drawing again when a backend is out of use
/// spreads its share evenly over the others; going on to the next in the table would give it all to one.
fn draw(table: &[u32], rng: &mut Rng, may: impl Fn(usize) -> bool) -> Option<usize> {
    if table.is_empty() {
        return None;
    }
    for _ in 0..DRAWS {
        let entry = rng.usize(..table.len());
        if may(table[entry] as usize) {
            return Some(entry);
        }
    }
    let start = rng.usize(..table.len());
    (start..table.len()).chain(0..start).find(|entry| may(table[*entry] as usize))
}

/// Two members drawn by chance from different entries: each unit of weight has the same chance, so that a choice
/// between the two that treats units alike keeps to the weights. The second is `None` when there is no other entry.
pub(super) fn draw_two(
    table: &[u32],
    rng: &mut Rng,
    may: impl Fn(usize) -> bool,
) -> Option<(usize, Option<usize>)> {
    let first = draw(table, rng, &may)?;
    let one = table[first] as usize;
    for _ in 0..DRAWS {
        let second = rng.usize(..table.len());
        if second != first && may(table[second] as usize) {
            return Some((one, Some(table[second] as usize)));
        }
    }
    Some((one, None))
}

/// In turn. The cursor is the node's, not the worker's: with one request at a time (a person with curl) the order
/// is strict whichever worker accepts.
pub(crate) struct RoundRobin {
    table: Box<[u32]>,
    cursor: Arc<CachePadded<AtomicUsize>>,
}

impl RoundRobin {
    pub(crate) fn new(
        active: impl Iterator<Item = (usize, u32)>,
        cursor: Arc<CachePadded<AtomicUsize>>,
    ) -> Self {
        Self { table: table(active), cursor }
    }

    pub(crate) fn pick(&self, rng: &mut Rng, may: impl Fn(usize) -> bool) -> Option<usize> {
        if self.table.is_empty() {
            return None;
        }
        let turn = self.cursor.0.fetch_add(1, Relaxed) % self.table.len();
        let member = self.table[turn] as usize;
        if may(member) {
            return Some(member);
        }
        draw(&self.table, rng, may).map(|entry| self.table[entry] as usize)
    }
}

/// By chance.
pub(crate) struct Random {
    table: Box<[u32]>,
}

impl Random {
    pub(crate) fn new(active: impl Iterator<Item = (usize, u32)>) -> Self {
        Self { table: table(active) }
    }

    pub(crate) fn pick(&self, rng: &mut Rng, may: impl Fn(usize) -> bool) -> Option<usize> {
        draw(&self.table, rng, may).map(|entry| self.table[entry] as usize)
    }
}
