//! CPU time and memory of a process and all its descendants, from /proc.

use std::{fs, time::Duration};

use anyhow::Context as _;

/// Unit of the times in /proc/PID/stat, which is constant on Linux.
const TICKS_PER_SECOND: u64 = 100;

/// User and system time of a process and its descendants so far, over all threads.
///
/// # Errors
/// The process has ended, or there is no /proc.
pub fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let ticks: u64 = family(pid)?.iter().map(|(_, stat)| stat.ticks).sum();
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// Memory of a process and its descendants in bytes; shared pages count once.
///
/// # Errors
/// A process has ended, or belongs to another user.
pub fn memory(pid: u32) -> anyhow::Result<u64> {
    let each = family(pid)?.into_iter().map(|(pid, _)| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
            .with_context(|| format!("the memory of process {pid}"))?;
        proportional_set(&text).with_context(|| format!("/proc/{pid}/smaps_rollup is not as expected"))
    });
    each.sum()
}

/// A process and its descendants.
///
/// # Errors
/// The process has ended, or there is no /proc.
pub fn processes(pid: u32) -> anyhow::Result<Vec<u32>> {
    Ok(family(pid)?.into_iter().map(|(pid, _)| pid).collect())
}

fn family(pid: u32) -> anyhow::Result<Vec<(u32, Stat)>> {
    let root = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} has ended"))?;
    let root = Stat::parse(&root).with_context(|| format!("/proc/{pid}/stat is not as expected"))?;
    let all: Vec<(u32, Stat)> = fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| {
            Some((pid, Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?))
        })
        .collect();
    let mut family = vec![(pid, root)];
    let mut visited = 0;
    while let Some((parent, _)) = family.get(visited).copied() {
        family.extend(all.iter().filter(|(_, stat)| stat.parent == parent));
        visited += 1;
    }
    Ok(family)
}

fn proportional_set(text: &str) -> Option<u64> {
    let kilobytes = text.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim().strip_suffix(" kB")?;
    Some(kilobytes.parse::<u64>().ok()? * 1024)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    ticks: u64,
}

impl Stat {
    /// The program's name, in parentheses, may contain any character; from field 3 on all fields are numbers.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self { parent: u32::try_from(field(4)?).ok()?, ticks: field(14)? + field(15)? })
    }
}

/// The median; for an even number of values the mean of the two middle ones, for none 0.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => 0.0,
        (count, middle) if count % 2 == 1 => values[middle],
        (_, middle) => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_parsed_after_any_program_name() {
        let line = "77 (a) b (c) S 5 77 77 0 -1 4194560 1 2 3 4 120 30 0 0 20 0 1 0 1 2 3";
        assert_eq!(Stat::parse(line), Some(Stat { parent: 5, ticks: 150 }));
    }

    #[test]
    fn this_process_has_a_cpu_time_and_memory() {
        assert!(cpu_time(std::process::id()).is_ok());
        assert!(cpu_time(u32::MAX).is_err());
        assert!(memory(std::process::id()).unwrap() > 0);
    }

    #[test]
    fn memory_is_the_proportional_set() {
        assert_eq!(
            proportional_set("a-b ---p [rollup]\nRss:   9 kB\nPss:     12 kB\nPss_Dirty: 3 kB\n"),
            Some(12_288)
        );
        assert_eq!(proportional_set(""), None);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median([4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median([]).abs() < f64::EPSILON);
    }
}
