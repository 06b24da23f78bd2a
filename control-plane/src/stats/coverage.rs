//! Decides whether the counts of a period are complete.
//!
//! A node is accounted for from the first batch of a boot to its last, as long as no sequence number in between is
//! missing: batches are numbered and repeated until acknowledged, so a contiguous sequence is complete. These times
//! count as missing:
//!
//! - the time around a sequence number that has not arrived;
//! - a stretch in which the node dropped counts;
//! - the time from the last batch of a boot to the next boot, because a killed process loses the counts it had not
//!   sent;
//! - the hour after a node's last batch: it is unknown whether the node was cut off. After an hour it is no longer
//!   expected.
//!
//! A node that shuts down gracefully says so in its last batch, and nothing is missing after that. A node is not
//! expected before its first batch.
//!
//! One rule ([`Coverage::state`]) applies to minutes, hours, days, summaries and rankings. A range is complete if it is
//! over, at least one node was accounted for in a part of it, and nothing of it is missing. So an outage is incomplete,
//! and never looks like a quiet time. A range that reaches up to now is open: it is never complete, and it becomes
//! partial as soon as a part of it is known to be missing. A node that has been silent for less than [`LAG_MS`] may
//! still deliver: until then, a range that has ended is open and not partial.

use std::collections::BTreeMap;

use weir_admin_api::{Completeness, ReportingNodes};

use crate::store::stats::{Lost, Run};

/// A node gathers the counts of its workers once per second, so a batch may lack requests that completed just before it
/// was made.
const GATHER_MS: i64 = 5_000;
const MINUTE_MS: i64 = 60_000;
/// How long a silent node is expected to return.
const EXPECTED_MS: i64 = 60 * 60_000;
/// Nodes send a batch at least every 10 s. A node that has been silent for less than this time is expected to deliver.
const LAG_MS: i64 = 60_000;

/// Half-open stretches of time, in milliseconds. They are sorted, and no two of them touch.
#[derive(Debug, Default)]
struct Stretches(Vec<(i64, i64)>);

impl Stretches {
    fn new(mut stretches: Vec<(i64, i64)>) -> Self {
        stretches.sort_unstable();
        let mut joined: Vec<(i64, i64)> = Vec::with_capacity(stretches.len());
        for (from, to) in stretches {
            match joined.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => joined.push((from, to)),
            }
        }
        Self(joined)
    }

    fn meet(&self, from: i64, to: i64) -> bool {
        let first = self.0.partition_point(|stretch| stretch.1 <= from);
        self.0.get(first).is_some_and(|stretch| stretch.0 < to)
    }
}

/// The coverage of one node.
#[derive(Debug, Default)]
struct OfNode {
    covered: Stretches,
    missing: Stretches,
    /// When the node's last batch was made; `None` if the node shut down gracefully.
    last_ms: Option<i64>,
    /// Times in which the node was absent without having announced it.
    absent: Stretches,
}

/// The time that batches account for, by node.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    nodes: Vec<OfNode>,
}

#[derive(Default)]
struct Building {
    covered: Vec<(i64, i64)>,
    missing: Vec<(i64, i64)>,
    absent: Vec<(i64, i64)>,
    last_ms: Option<i64>,
}

impl Building {
    fn miss(&mut self, from: i64, to: i64) {
        self.missing.push((from, to.max(from.saturating_add(1))));
    }

    fn boots(&mut self, runs: &[Run]) {
        let mut boots: Vec<(i64, i64, bool)> = Vec::new();
        for boot in runs.chunk_by(|a, b| a.boot == b.boot) {
            if let Some(run) = boot.first().filter(|run| run.first > 1) {
                self.miss(run.from_ms, run.from_ms);
            }
            for (before, after) in boot.iter().zip(&boot[1..]) {
                self.miss(before.through_ms, after.from_ms);
            }
            self.covered.extend(boot.iter().map(|run| (run.from_ms, run.through_ms + 1)));
            let from = boot.iter().map(|run| run.from_ms).min().unwrap_or(0);
            let through = boot.iter().map(|run| run.through_ms).max().unwrap_or(from);
            boots.push((from, through, boot.iter().any(|run| run.left)));
        }
        boots.sort_unstable();
        let mut before: Option<(i64, bool)> = None;
        for (from, through, left) in boots {
            if let Some((earlier, false)) = before
                && earlier < through
            {
                self.miss(earlier - GATHER_MS, from.max(earlier + 1));
                if earlier < from {
                    self.absent.push((earlier, from));
                }
            }
            before = Some(match before {
                Some((earlier, earlier_left)) if earlier > through => (earlier, earlier_left),
                _ => (through, left),
            });
        }
        if let Some((through, false)) = before {
            self.last_ms = Some(through);
            self.absent.push((through + 1, i64::MAX));
        }
    }
}

impl Coverage {
    /// Computes the coverage from the runs of sequence numbers, ordered by node, boot and sequence, and the stretches
    /// in which counts were lost.
    pub(crate) fn new(runs: &[Run], lost: &[Lost]) -> Self {
        let mut nodes: BTreeMap<&str, Building> = BTreeMap::new();
        for stretch in lost {
            nodes.entry(&stretch.node).or_default().miss(stretch.from_ms, stretch.through_ms);
        }
        for node in runs.chunk_by(|a, b| a.node == b.node) {
            let Some(first) = node.first() else { continue };
            nodes.entry(&first.node).or_default().boots(node);
        }
        let built = |node: Building| OfNode {
            covered: Stretches::new(node.covered),
            missing: Stretches::new(node.missing),
            last_ms: node.last_ms,
            absent: Stretches::new(node.absent),
        };
        Self { nodes: nodes.into_values().map(built).collect() }
    }

    /// The nodes that reported a period.
    pub(crate) fn nodes(&self, from_ms: i64, to_ms: i64) -> ReportingNodes {
        let mut nodes = ReportingNodes::default();
        for node in &self.nodes {
            let covered = node.covered.meet(from_ms, to_ms);
            let missing = node.missing.meet(from_ms, to_ms) || node.is_awaited(from_ms, to_ms);
            nodes.expected += u32::from(covered || missing);
            nodes.reported += u32::from(covered && !missing);
        }
        nodes
    }

    /// The completeness of a period.
    pub(crate) fn state(&self, from_ms: i64, to_ms: i64, now_ms: i64) -> Completeness {
        let any = |holds: &dyn Fn(&OfNode) -> bool| self.nodes.iter().any(holds);
        let is_covered = any(&|node| node.covered.meet(from_ms, to_ms));
        let is_silent = |node: &OfNode| node.last_ms.is_some_and(|last| now_ms.saturating_sub(last) > LAG_MS);
        let is_missing = any(&|node| {
            node.missing.meet(from_ms, to_ms) || is_silent(node) && node.is_awaited(from_ms, to_ms)
        });
        let is_awaited = any(&|node| !is_silent(node) && node.is_awaited(from_ms, to_ms));
        match is_covered {
            true if is_missing => Completeness::Partial,
            _ if to_ms > now_ms || is_awaited => Completeness::Open,
            true => Completeness::Complete,
            false if is_missing || any(&|node| node.absent.meet(from_ms, to_ms)) => Completeness::Gap,
            false => Completeness::None,
        }
    }

    /// The completeness of a range that is counted in whole minutes; `is_current` means that it reaches up to now.
    pub(crate) fn state_of_range(
        &self,
        from_ms: i64,
        to_ms: i64,
        is_current: bool,
        now_ms: i64,
    ) -> Completeness {
        // The minute in which the range ends belongs to it as a whole.
        let to_ms = to_ms.saturating_add(i64::from(is_current) + MINUTE_MS - 1);
        self.state(from_ms, to_ms - to_ms.rem_euclid(MINUTE_MS), now_ms)
    }
}

impl OfNode {
    /// Returns true if the node's next batch would account for a part of a period.
    fn is_awaited(&self, from_ms: i64, to_ms: i64) -> bool {
        self.last_ms.is_some_and(|last| {
            last.saturating_sub(GATHER_MS) < to_ms && from_ms < last.saturating_add(EXPECTED_MS)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 60 * 60_000;

    fn run(boot: &str, first: i64, last: i64, from_ms: i64, through_ms: i64) -> Run {
        Run { node: "n".into(), boot: boot.into(), first, last, from_ms, through_ms, left: false }
    }

    fn state(runs: &[Run], hour: i64) -> Completeness {
        Coverage::new(runs, &[]).state(hour * HOUR, (hour + 1) * HOUR, 90 * HOUR)
    }

    #[test]
    fn a_reported_hour_is_complete_once_it_is_over_and_a_later_batch_came() {
        let coverage = Coverage::new(&[run("a", 1, 9, 0, HOUR + GATHER_MS)], &[]);
        assert_eq!(coverage.state(0, HOUR, HOUR), Completeness::Complete);
        assert_eq!(coverage.state(0, HOUR, HOUR - 1), Completeness::Open);
        assert_eq!(state(&[run("a", 1, 9, 0, HOUR)], 0), Completeness::Partial);
    }

    #[test]
    fn a_missing_sequence_makes_its_hour_partial_and_no_other() {
        let runs = [run("a", 1, 9, 0, HOUR + 5), run("a", 11, 20, HOUR + 7, 3 * HOUR)];
        assert_eq!([0, 1].map(|hour| state(&runs, hour)), [Completeness::Complete, Completeness::Partial]);
        let coverage = Coverage::new(&runs, &[]);
        assert_eq!(coverage.state(2 * HOUR, 3 * HOUR - GATHER_MS, 9 * HOUR), Completeness::Complete);
    }

    #[test]
    fn an_outage_between_boots_is_a_gap_and_a_kill_is_told_but_a_restart_is_neither() {
        let outage = [run("a", 1, 9, 0, HOUR / 2), run("b", 1, 9, 3 * HOUR + 1, 4 * HOUR)];
        assert_eq!([0, 1, 2, 3].map(|hour| state(&outage, hour)), {
            use Completeness::*;
            [Partial, Gap, Gap, Partial]
        });
        let killed = [run("a", 1, 9, 0, HOUR + 9_000), run("b", 1, 9, HOUR + 10_000, 3 * HOUR)];
        assert_eq!([0, 1, 2].map(|hour| state(&killed, hour)), {
            use Completeness::*;
            [Complete, Partial, Partial]
        });
        let restarted = [Run { left: true, ..killed[0].clone() }, killed[1].clone()];
        assert_eq!(
            [0, 1].map(|hour| state(&restarted, hour)),
            [Completeness::Complete, Completeness::Complete]
        );
    }

    #[test]
    fn a_node_that_leaves_on_purpose_is_not_missed_and_its_absence_is_no_gap() {
        let left = Run { left: true, ..run("a", 1, 9, 0, HOUR / 2) };
        let back = run("b", 1, 9, 3 * HOUR, 5 * HOUR);
        assert_eq!([0, 1, 2, 3].map(|hour| state(&[left.clone(), back.clone()], hour)), {
            use Completeness::*;
            [Complete, None, None, Complete]
        });
        assert_eq!(state(&[left], 7), Completeness::None);
    }

    #[test]
    fn time_in_which_nobody_reported_is_a_gap_but_before_the_first_node_there_was_none() {
        let runs = [run("a", 1, 9, 10 * HOUR, 11 * HOUR)];
        assert_eq!([0, 9, 11, 14].map(|hour| state(&runs, hour)), {
            use Completeness::*;
            [None, None, Partial, Gap]
        });
    }

    #[test]
    fn lost_counts_make_their_time_partial() {
        let lost = [Lost { node: "n".into(), from_ms: 5, through_ms: 5 }];
        let coverage = Coverage::new(&[run("a", 1, 9, 0, 2 * HOUR)], &lost);
        assert_eq!(coverage.state(0, HOUR, 9 * HOUR), Completeness::Partial);
        assert_eq!(coverage.nodes(0, HOUR), ReportingNodes { expected: 1, reported: 0 });
    }

    #[test]
    fn a_range_that_is_not_over_is_open_until_something_of_it_is_missing() {
        const MINUTE: i64 = 60_000;
        let now = 10 * MINUTE + 30_000;
        let alive = |from_ms| run("a", 1, 9, from_ms, now - 1_000);
        let state = |runs: &[Run]| {
            let coverage = Coverage::new(runs, &[]);
            let minute = coverage.state(9 * MINUTE, 10 * MINUTE, now);
            let open = coverage.state(10 * MINUTE, 11 * MINUTE, now);
            // From minute 5 to now, and the same to the end of minute 9.
            let current = coverage.state_of_range(5 * MINUTE, now, true, now);
            let over = coverage.state_of_range(5 * MINUTE, 10 * MINUTE, false, now);
            [minute, open, current, over]
        };
        use Completeness::*;
        assert_eq!(state(&[alive(0)]), [Complete, Open, Open, Complete]);
        // Killed at 9:30 and restarted at once: minute 9 is partial, and so is every range that includes it.
        let killed = run("b", 1, 9, 0, 9 * MINUTE + 30_000);
        assert_eq!(state(&[alive(9 * MINUTE + 31_000), killed.clone()]), [Partial, Open, Partial, Partial]);
        // Killed at 9:30 and not restarted: the node may still deliver. After a minute of silence the time is missing.
        assert_eq!(state(std::slice::from_ref(&killed)), [Open, Open, Open, Open]);
        let later = Coverage::new(&[killed], &[]);
        let after = now + 2_000;
        assert_eq!(later.state(9 * MINUTE, 10 * MINUTE, after), Partial);
        assert_eq!(later.state_of_range(5 * MINUTE, after, true, after), Partial);
    }

    #[test]
    fn a_minute_that_has_just_ended_is_not_called_partial_before_its_last_batch_can_have_come() {
        let live = [run("a", 1, 9, 0, HOUR - 500)];
        let coverage = Coverage::new(&live, &[]);
        assert_eq!(coverage.state(0, HOUR, HOUR + 100), Completeness::Open);
        assert_eq!(coverage.state(0, HOUR, HOUR + LAG_MS), Completeness::Partial);
    }

    /// The completeness of a summary always follows from the completeness of its minutes.
    #[test]
    fn a_range_is_complete_exactly_when_its_minutes_are() {
        const MINUTE: i64 = 60_000;
        let now = 20 * MINUTE + 20_000;
        let mut seed = 1u64;
        let mut next = |below: i64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            i64::try_from(seed >> 33).unwrap() % below
        };
        for _ in 0..2_000 {
            let mut runs = Vec::new();
            for boot in ["a", "b", "c"] {
                let from_ms = next(now);
                let through_ms = from_ms + next(now - from_ms);
                let left = next(2) == 0;
                runs.push(Run { left, ..run(boot, 1 + next(2), 9, from_ms, through_ms) });
            }
            let coverage = Coverage::new(&runs, &[]);
            let from = next(20);
            let to = from + 1 + next(20 - from);
            let range = coverage.state_of_range(from * MINUTE, to * MINUTE, false, now);
            let minutes: Vec<Completeness> = (from..to)
                .map(|minute| coverage.state(minute * MINUTE, (minute + 1) * MINUTE, now))
                .collect();
            // A minute without any node (none) does not make the others less complete.
            if range == Completeness::Complete {
                assert!(
                    minutes.iter().all(|one| [Completeness::Complete, Completeness::None].contains(one)),
                    "{runs:?} {minutes:?}"
                );
            }
            if minutes.iter().all(|one| *one == Completeness::Complete) {
                assert_eq!(range, Completeness::Complete, "{runs:?}");
            }
            if minutes.contains(&Completeness::Partial) {
                assert_eq!(range, Completeness::Partial, "{runs:?} {minutes:?}");
            }
        }
    }

    #[test]
    fn each_node_is_counted_for_itself() {
        let other = Run { node: "m".into(), ..run("x", 1, 9, 0, HOUR / 2) };
        let coverage = Coverage::new(&[other, run("a", 1, 9, 0, 5 * HOUR)], &[]);
        assert_eq!(coverage.nodes(0, HOUR), ReportingNodes { expected: 2, reported: 1 });
        assert_eq!(coverage.nodes(3 * HOUR, 4 * HOUR), ReportingNodes { expected: 1, reported: 1 });
    }
}
