//! Whether a period's counts are all there.
//!
//! The rule: a node is accounted for from the making of a boot's first batch to the making of its last, as long as
//! no sequence between is missing; batches are numbered and repeated until acknowledged, so what is contiguous is
//! all. Missing are: the time around a sequence that has not come, a stretch in which the node dropped counts, more
//! than a minute between one boot and the next, and the hour after a node's last batch (whether it left or was cut
//! off cannot be told; after an hour it is taken to have left). A node is not expected before its first batch.
//!
//! A period is complete when it is over, at least one node was accounted for in some of it, and nothing of it is
//! missing. So an outage is incomplete, never quiet.

use crate::store::stats::{Lost, Run};

/// Silence between two boots of a node that counts as a restart.
const RESTART_MS: i64 = 60_000;
/// A node gathers the counts of its workers each second, so a batch may lack what ended just before it was made.
const GATHER_MS: i64 = 5_000;
/// How long a silent node is expected to come back.
const EXPECTED_MS: i64 = 60 * 60_000;
/// Nodes send a batch at least every ten seconds; so much silence up to now says nothing yet.
const LAG_MS: i64 = 60_000;

/// What is known of the time that batches account for. Stretches are half open, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    covered: Vec<(i64, i64)>,
    missing: Vec<(i64, i64)>,
}

impl Coverage {
    /// From all runs of sequences, ordered by node, boot and sequence, and all stretches in which counts were lost.
    pub(crate) fn new(runs: &[Run], lost: &[Lost]) -> Self {
        let mut coverage = Self::default();
        for stretch in lost {
            coverage.miss(stretch.from_ms, stretch.through_ms);
        }
        for node in runs.chunk_by(|a, b| a.node == b.node) {
            let mut boots: Vec<(i64, i64)> = Vec::new();
            for boot in node.chunk_by(|a, b| a.boot == b.boot) {
                if let Some(run) = boot.first().filter(|run| run.first > 1) {
                    coverage.miss(run.from_ms, run.from_ms);
                }
                for (before, after) in boot.iter().zip(&boot[1..]) {
                    coverage.miss(before.through_ms, after.from_ms);
                }
                coverage.covered.extend(boot.iter().map(|run| (run.from_ms, run.through_ms + 1)));
                let from = boot.iter().map(|run| run.from_ms).min().unwrap_or(0);
                boots.push((from, boot.iter().map(|run| run.through_ms).max().unwrap_or(from)));
            }
            boots.sort_unstable();
            let mut through = i64::MAX;
            for (boot_from, boot_through) in boots {
                if boot_from.saturating_sub(through) > RESTART_MS {
                    coverage.miss(through, boot_from);
                }
                through = if through == i64::MAX { boot_through } else { through.max(boot_through) };
            }
            coverage.miss(through - GATHER_MS, through.saturating_add(EXPECTED_MS));
        }
        coverage
    }

    fn miss(&mut self, from: i64, to: i64) {
        self.missing.push((from, to.max(from.saturating_add(1))));
    }

    /// Whether the counts of a period are all there and will not change.
    pub(crate) fn is_complete(&self, from_ms: i64, to_ms: i64, now_ms: i64) -> bool {
        to_ms <= now_ms && self.is_whole(from_ms, to_ms)
    }

    /// Whether all counts from a time to now are there, as far as they can be: nodes lag by some seconds.
    pub(crate) fn is_current(&self, from_ms: i64, now_ms: i64) -> bool {
        self.is_whole(from_ms, (now_ms - LAG_MS).max(from_ms + 1))
    }

    fn is_whole(&self, from_ms: i64, to_ms: i64) -> bool {
        let meets = |&(from, to): &(i64, i64)| from < to_ms && to > from_ms;
        self.covered.iter().any(meets) && !self.missing.iter().any(meets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 60 * 60_000;

    fn run(boot: &str, first: i64, last: i64, from_ms: i64, through_ms: i64) -> Run {
        Run { node: "n".into(), boot: boot.into(), first, last, from_ms, through_ms }
    }

    #[test]
    fn a_reported_hour_is_complete_once_it_is_over_and_a_later_batch_came() {
        let coverage = Coverage::new(&[run("a", 1, 9, 0, HOUR + GATHER_MS)], &[]);
        assert!(coverage.is_complete(0, HOUR, HOUR));
        assert!(!coverage.is_complete(0, HOUR, HOUR - 1));
        assert!(!Coverage::new(&[run("a", 1, 9, 0, HOUR)], &[]).is_complete(0, HOUR, HOUR));
    }

    #[test]
    fn a_missing_sequence_makes_its_hour_incomplete_and_no_other() {
        let runs = [run("a", 1, 9, 0, HOUR + 5), run("a", 11, 20, HOUR + 7, 3 * HOUR)];
        let coverage = Coverage::new(&runs, &[]);
        assert!(coverage.is_complete(0, HOUR, 9 * HOUR));
        assert!(!coverage.is_complete(HOUR, 2 * HOUR, 9 * HOUR));
        assert!(coverage.is_complete(2 * HOUR, 3 * HOUR - GATHER_MS, 9 * HOUR));
    }

    #[test]
    fn an_outage_between_boots_is_incomplete_but_a_restart_is_not() {
        let outage = [run("a", 1, 9, 0, HOUR), run("b", 1, 9, 2 * HOUR, 3 * HOUR)];
        assert!(!Coverage::new(&outage, &[]).is_complete(HOUR, 2 * HOUR, 9 * HOUR));
        let restart = [run("a", 1, 9, 0, HOUR), run("b", 1, 9, HOUR + 30_000, 3 * HOUR)];
        assert!(Coverage::new(&restart, &[]).is_complete(HOUR, 2 * HOUR, 9 * HOUR));
    }

    #[test]
    fn time_in_which_nobody_reported_is_incomplete() {
        let coverage = Coverage::new(&[run("a", 1, 9, 10 * HOUR, 11 * HOUR)], &[]);
        assert!(!coverage.is_complete(0, HOUR, 20 * HOUR));
        assert!(!coverage.is_complete(11 * HOUR, 12 * HOUR, 20 * HOUR));
        assert!(!coverage.is_complete(14 * HOUR, 15 * HOUR, 20 * HOUR));
    }

    #[test]
    fn lost_counts_make_their_time_incomplete() {
        let lost = [Lost { from_ms: 5, through_ms: 5 }];
        assert!(!Coverage::new(&[run("a", 1, 9, 0, 2 * HOUR)], &lost).is_complete(0, HOUR, 9 * HOUR));
    }
}
