//! The table of who keeps which rule, on the terminal and in the documentation.

use std::fmt::Write as _;

use crate::{
    Played,
    case::{Case, Level},
    target::{Listener, Target},
};

/// A program, its version, and how each case went at each listener.
pub(crate) type Column = (Target, String, [Played; Listener::ALL.len()]);

/// What stands before the table.
const INTRODUCTION: &str = include_str!("report.md");

fn level(level: Level) -> &'static str {
    match level {
        Level::Must => "must",
        Level::Should => "should",
        Level::Own => "own",
    }
}

/// The listeners at which the case was played, and those where its rule is broken.
fn listeners(played: &[Played], at: usize) -> (usize, Vec<Listener>) {
    let results =
        || played.iter().zip(Listener::ALL).filter_map(|(results, kind)| Some((kind, results[at].as_ref()?)));
    (results().count(), results().filter(|(_, result)| result.is_err()).map(|(kind, _)| kind).collect())
}

fn mark(played: &[Played], at: usize) -> String {
    let (all, broken) = listeners(played, at);
    match broken.as_slice() {
        [] => "yes".to_owned(),
        broken if broken.len() == all => "**no**".to_owned(),
        // Which is which goes by TLS: a case is of one version.
        [one, ..] if one.is_tls() => "**no** over TLS".to_owned(),
        _ => "**no** in clear text".to_owned(),
    }
}

/// Says in words what each program breaks.
pub(crate) fn print(cases: &[Case], columns: &[Column]) {
    for (target, version, played) in columns {
        for (listener, results) in Listener::ALL.iter().zip(played) {
            for (case, result) in cases.iter().zip(results) {
                if let Some(Err(why)) = result {
                    println!(
                        "{} | {} | {} | {} [{}, {}]: {why}",
                        target.name(),
                        listener.name(),
                        case.group,
                        case.name,
                        case.rfc,
                        level(case.level)
                    );
                }
            }
            println!(
                "{} {version}, {}: {} of {} hold",
                target.name(),
                listener.name(),
                results.iter().flatten().filter(|result| result.is_ok()).count(),
                results.iter().flatten().count()
            );
        }
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
    for (at, listener) in Listener::ALL.iter().enumerate() {
        let mut all = vec![0; columns.len()];
        let mut count = 0;
        for wanted in [Level::Must, Level::Should, Level::Own] {
            let of_level: Vec<usize> = (0..cases.len())
                .filter(|case| cases[*case].level == wanted && cases[*case].listeners().contains(listener))
                .collect();
            count += of_level.len();
            write!(page, "\n| {}: {} ({}) |", listener.name(), level(wanted), of_level.len())?;
            for ((_, _, played), all) in columns.iter().zip(&mut all) {
                let hold = of_level.iter().filter(|case| matches!(played[at][**case], Some(Ok(())))).count();
                *all += hold;
                write!(page, " {hold} |")?;
            }
        }
        write!(page, "\n| **{}: all ({count})** |", listener.name())?;
        for all in all {
            write!(page, " **{all}** |")?;
        }
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
        for (_, _, played) in columns {
            write!(page, " {} |", mark(played, at))?;
        }
    }
    page.push('\n');
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/conformance.md"), page)?;
    Ok(())
}
