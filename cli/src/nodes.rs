//! `weir nodes`: who carries the traffic, what each runs, how far it is behind, and what went wrong with it.

use std::time::Duration;

use serde_json::Value;
use weir_snapshot::units::HumanDuration;

use crate::{
    arguments::Output,
    client::Client,
    output::{cell, items, print, print_json, rows_table, watch},
};

const HEADINGS: [&str; 12] = [
    "id",
    "state",
    "revision",
    "lag",
    "version",
    "address",
    "labels",
    "since",
    "connections",
    "in flight",
    "requests",
    "last error",
];

pub(crate) async fn run(client: &Client, output: Output, every: Option<HumanDuration>) -> anyhow::Result<()> {
    match every {
        None => show(client, output).await,
        Some(every) => watch(every, output == Output::Table, async || show(client, output).await).await,
    }
}

async fn show(client: &Client, output: Output) -> anyhow::Result<()> {
    let nodes = client.get("/nodes").await?;
    match output {
        Output::Json => print_json(&nodes),
        Output::Table => print(&table(items(&nodes))),
    }
    Ok(())
}

/// Nodes as people read them.
pub(crate) fn table(nodes: &[Value]) -> String {
    let row = |node: &Value| {
        vec![
            cell(node, "id"),
            cell(node, "state"),
            cell(node, "active_revision"),
            lag(node),
            cell(node, "version"),
            cell(node, "address"),
            labels(node),
            cell(node, "since"),
            cell(node, "connections"),
            cell(node, "active_requests"),
            cell(node, "requests"),
            trouble(node),
        ]
    };
    rows_table(HEADINGS.map(str::to_owned).to_vec(), nodes.iter().map(row))
}

fn number(node: &Value, field: &str) -> u64 {
    node.get(field).and_then(Value::as_u64).unwrap_or_default()
}

/// `2 revisions, 1m 5s`.
fn lag(node: &Value) -> String {
    let (revisions, ms) = (number(node, "lag_revisions"), number(node, "lag_ms"));
    if revisions == 0 {
        return "-".into();
    }
    // As people say it: the longer it is, the less a second matters.
    let unit_ms = match ms {
        0..1_000 => 1,
        1_000..600_000 => 1_000,
        600_000..86_400_000 => 60_000,
        _ => 3_600_000,
    };
    let ms = ms - ms % unit_ms;
    let unit = if revisions == 1 { "revision" } else { "revisions" };
    format!("{revisions} {unit}, {}", HumanDuration(Duration::from_millis(ms)))
}

fn labels(node: &Value) -> String {
    let labels = node.get("labels").and_then(Value::as_object);
    let pairs = labels.into_iter().flatten();
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={}", cell(value, ""))).collect();
    if pairs.is_empty() { "-".into() } else { pairs.join(",") }
}

/// What there is to know of it, if anything.
fn trouble(node: &Value) -> String {
    let forgotten = number(node, "forgotten_clients");
    let forgotten = (forgotten > 0).then(|| format!("rate limits had to forget {forgotten} clients"));
    let all: Vec<String> =
        error(node).into_iter().chain(forgotten).chain(clock(node)).chain(excluded(node)).collect();
    if all.is_empty() { "-".into() } else { all.join("; ") }
}

fn excluded(node: &Value) -> Option<String> {
    let is_excluded = node.get("excluded").and_then(Value::as_bool).unwrap_or_default();
    is_excluded.then(|| "its counts are left out of reports".to_owned())
}

/// A clock that differs by more than this is warned of, as the control plane does.
const CLOCK_OFF_MS: u64 = 1_000;

/// `its clock is 6m 40s ahead`.
fn clock(node: &Value) -> Option<String> {
    let off =
        node.get("clock_offset_ms").and_then(Value::as_i64).filter(|ms| ms.unsigned_abs() > CLOCK_OFF_MS)?;
    let ms = off.unsigned_abs();
    let way = if off > 0 { "ahead of" } else { "behind" };
    let off = HumanDuration(Duration::from_millis(if ms < 10_000 { ms } else { ms - ms % 1_000 }));
    Some(format!("its clock is {off} {way} the control plane's"))
}

/// Why it does not run what it should, or what was last wrong.
fn error(node: &Value) -> Option<String> {
    let rejected = number(node, "rejected_revision");
    if rejected > 0 {
        let problem = |problem: &Value| format!("{}: {}", cell(problem, "path"), cell(problem, "message"));
        let problems: Vec<String> =
            node.get("rejection").map_or(&[][..], items).iter().map(problem).collect();
        return Some(format!("refused revision {rejected}: {}", problems.join("; ")));
    }
    match node.get("last_error") {
        Some(error) if error.is_object() => {
            Some(format!("{} ({})", cell(error, "text"), cell(error, "time")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_says_what_is_wrong_and_since_when() {
        let nodes = [
            json!({ "id": "a", "state": "behind", "active_revision": 3, "lag_revisions": 2, "lag_ms": 65_432,
                "labels": { "zone": "west", "tier": "edge" }, "connections": 5, "active_requests": 2, "requests": 9,
                "last_error": { "text": "was silent", "time": "2026-11-21T12:00:00Z" },
                "forgotten_clients": 7, "clock_offset_ms": 400_123 }),
            json!({ "id": "b", "state": "rejected", "active_revision": 4, "lag_revisions": 1, "lag_ms": 250,
                "rejected_revision": 5, "rejection": [{ "path": "pools[0]", "message": "no" }] }),
            json!({ "id": "c", "state": "active", "active_revision": 5, "lag_revisions": 0, "last_error": null,
                "clock_offset_ms": -1_500 }),
            json!({ "id": "d", "state": "active", "clock_offset_ms": 900, "excluded": true }),
        ];
        let table = table(&nodes);
        for part in [
            "2 revisions, 65s",
            "tier=edge,zone=west",
            "was silent (2026-11-21T12:00:00Z); rate limits had to forget 7 clients",
            "1 revision, 250ms",
            "refused revision 5: pools[0]: no",
            "; its clock is 400s ahead of the control plane's",
            "its counts are left out of reports",
            "its clock is 1500ms behind the control plane's",
        ] {
            assert!(table.contains(part), "{part} is missing in\n{table}");
        }
        assert_eq!(table.matches("clock").count(), 2, "a second or less is no reason to warn:\n{table}");
    }
}
