//! The table of who keeps which rule, on the terminal and in the documentation.

use std::fmt::Write as _;

use crate::{
    Played,
    case::{Case, Level, Version},
    known,
    target::{Listener, Target},
};

/// A program, its version, and how each case went at each listener.
pub(crate) type Column = (Target, String, [Played; Listener::ALL.len()]);

/// The pages: what the client speaks in their cases, their name, what stands before the table, and whose sums.
const PAGES: [(Version, &str, &str, &[Listener]); 2] = [
    (Version::Http1, "conformance.md", include_str!("report.md"), &[Listener::Http1, Listener::Http1Tls]),
    (Version::Http2, "conformance-http2.md", include_str!("report-http2.md"), &Listener::ALL),
];

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
        _ if all == 0 => "–".to_owned(),
        [] => "yes".to_owned(),
        broken if broken.len() == all => "**no**".to_owned(),
        // A case belongs to one version, so TLS says which it is.
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

/// Writes the pages in `docs/evidence/`. None replaces one that shows more programs.
pub(crate) fn write(cases: &[Case], columns: &[Column]) -> anyhow::Result<()> {
    for (version, name, introduction, listeners) in PAGES {
        let path = format!("{}/../docs/evidence/{name}", env!("CARGO_MANIFEST_DIR"));
        let shown = |page: &str| {
            let head = page.lines().find(|line| line.starts_with("| rules |"));
            head.map_or(0, |head| head.matches('|').count())
        };
        let page = page(cases, columns, version, introduction, listeners)?;
        if std::fs::read_to_string(&path).is_ok_and(|before| shown(&before) > shown(&page)) {
            println!("docs/evidence/{name} shows more programs than are here, and stays as it is");
            continue;
        }
        std::fs::write(path, page)?;
    }
    Ok(())
}

/// Whether the pages show each case, and of Weir what is known: that it holds, or not.
pub(crate) fn check(cases: &[Case]) -> anyhow::Result<()> {
    for (version, name, introduction, _) in PAGES {
        let page =
            std::fs::read_to_string(format!("{}/../docs/evidence/{name}", env!("CARGO_MANIFEST_DIR")))?;
        anyhow::ensure!(
            page.starts_with(introduction),
            "docs/evidence/{name} begins otherwise: WEIR_UPDATE=1"
        );
        let levels = [Level::Must, Level::Should, Level::Own].map(|one| format!(" | {} |", level(one)));
        let shown: Vec<&str> =
            page.lines().filter(|line| levels.iter().any(|level| line.contains(level.as_str()))).collect();
        let cases: Vec<&Case> = cases.iter().filter(|case| case.version == version).collect();
        anyhow::ensure!(
            shown.len() == cases.len(),
            "docs/evidence/{name} has {} rows: WEIR_UPDATE=1",
            shown.len()
        );
        for (case, shown) in cases.into_iter().zip(shown) {
            let holds = known::why(case.group, &case.name).is_none();
            let expected = format!("{} {} |", row(case), if holds { "yes" } else { "**no**" });
            anyhow::ensure!(
                shown.starts_with(&expected),
                "docs/evidence/{name}: {shown} is not {expected}: WEIR_UPDATE=1"
            );
        }
    }
    Ok(())
}

/// The beginning of a case's row.
fn row(case: &Case) -> String {
    format!("| {} | {} | {} |", case.name.replace('|', "\\|"), case.rfc, level(case.level))
}

fn page(
    cases: &[Case],
    columns: &[Column],
    version: Version,
    introduction: &str,
    listeners: &[Listener],
) -> anyhow::Result<String> {
    let mut page = introduction.to_owned();
    page.push_str("\n## Sums\n\n| rules |");
    for (target, version, _) in columns {
        write!(page, " {} {version} |", target.name())?;
    }
    page.push_str("\n|---|");
    page.push_str(&"---|".repeat(columns.len()));
    for listener in listeners {
        sums(&mut page, cases, columns, *listener)?;
    }
    let mut group = "";
    for (at, case) in cases.iter().enumerate().filter(|(_, case)| case.version == version) {
        if case.group != group {
            group = case.group;
            write!(page, "\n\n## {group}\n\n| rule | RFC | level |")?;
            for (target, _, _) in columns {
                write!(page, " {} |", target.name())?;
            }
            write!(page, "\n|---|---|---|{}", "---|".repeat(columns.len()))?;
        }
        write!(page, "\n{}", row(case))?;
        for (_, _, played) in columns {
            write!(page, " {} |", mark(played, at))?;
        }
    }
    page.push('\n');
    Ok(page)
}

/// How many rules hold at a listener.
fn sums(page: &mut String, cases: &[Case], columns: &[Column], listener: Listener) -> anyhow::Result<()> {
    let Some(at) = Listener::ALL.iter().position(|one| *one == listener) else { return Ok(()) };
    let of = |wanted: Option<Level>| -> Vec<usize> {
        let counts = |case: &Case| {
            wanted.is_none_or(|level| case.level == level) && case.listeners().contains(&listener)
        };
        (0..cases.len()).filter(|case| counts(&cases[*case])).collect()
    };
    for wanted in [Some(Level::Must), Some(Level::Should), Some(Level::Own), None] {
        let of_level = of(wanted);
        let (name, bold) = (wanted.map_or("all", level), if wanted.is_none() { "**" } else { "" });
        write!(page, "\n| {bold}{}: {name} ({}){bold} |", listener.name(), of_level.len())?;
        for (_, _, played) in columns {
            let results = || of_level.iter().filter_map(|case| played[at][*case].as_ref());
            match results().count() {
                0 => page.push_str(" – |"),
                _ => write!(page, " {bold}{}{bold} |", results().filter(|result| result.is_ok()).count())?,
            }
        }
    }
    Ok(())
}
