//! The table of who keeps which rule, on the terminal and in the documentation.

use std::fmt::Write as _;

use crate::{
    case::{Case, Level},
    target::Target,
};

/// A program, its version, and what broke each case.
pub(crate) type Column = (Target, String, Vec<Option<String>>);

/// What stands before the table.
const INTRODUCTION: &str = include_str!("report.md");

fn level(level: Level) -> &'static str {
    match level {
        Level::Must => "must",
        Level::Should => "should",
        Level::Own => "own",
    }
}

fn mark(result: &Option<String>) -> &'static str {
    if result.is_none() { "yes" } else { "**no**" }
}

/// Says in words what each program breaks.
pub(crate) fn print(cases: &[Case], columns: &[Column]) {
    for (target, version, results) in columns {
        for (case, why) in
            cases.iter().zip(results).filter_map(|(case, result)| Some((case, result.as_ref()?)))
        {
            println!(
                "{} | {} | {} [{}, {}]: {why}",
                target.name(),
                case.group,
                case.name,
                case.rfc,
                level(case.level)
            );
        }
        println!(
            "{} {version}: {} of {} hold",
            target.name(),
            results.iter().filter(|r| r.is_none()).count(),
            cases.len()
        );
    }
}

/// Writes `docs/conformance.md`.
pub(crate) fn write(cases: &[Case], columns: &[Column]) -> anyhow::Result<()> {
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n## Sums\n\n| rules |");
    for (target, version, _) in columns {
        write!(page, " {} {version} |", target.name())?;
    }
    page.push_str("\n|---|");
    page.push_str(&"---|".repeat(columns.len()));
    for wanted in [Level::Must, Level::Should, Level::Own] {
        let of_level: Vec<usize> = (0..cases.len()).filter(|at| cases[*at].level == wanted).collect();
        write!(page, "\n| {} ({}) |", level(wanted), of_level.len())?;
        for (_, _, results) in columns {
            write!(page, " {} |", of_level.iter().filter(|at| results[**at].is_none()).count())?;
        }
    }
    write!(page, "\n| **all ({})** |", cases.len())?;
    for (_, _, results) in columns {
        write!(page, " **{}** |", results.iter().filter(|result| result.is_none()).count())?;
    }
    let mut group = "";
    for (at, case) in cases.iter().enumerate() {
        if case.group != group {
            group = case.group;
            write!(page, "\n\n## {group}\n\n| rule | RFC | level |")?;
            for (target, _, _) in columns {
                write!(page, " {} |", target.name())?;
            }
            write!(page, "\n|---|---|---|{}", "---|".repeat(columns.len()))?;
        }
        write!(page, "\n| {} | {} | {} |", case.name.replace('|', "\\|"), case.rfc, level(case.level))?;
        for (_, _, results) in columns {
            write!(page, " {} |", mark(&results[at]))?;
        }
    }
    page.push('\n');
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/conformance.md"), page)?;
    Ok(())
}
