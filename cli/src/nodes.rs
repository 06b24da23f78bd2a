//! `weir nodes`: lists nodes with the revision that each one runs and its lag, and manages which nodes may join.

use std::time::Duration;

use weir_admin_api::{Id, ListQuery, Node, NodeState, operations};
use weir_snapshot::units::HumanDuration;

use crate::{
    arguments::{NodesVerb, Noun, Output, Watch},
    client::Client,
    each::{Done, each},
    output::{Cell, Column, Safe, Table, Tone, count, print_answer, print_one, tell, watch, word},
};

const COLUMNS: [Column<Node>; 12] = [
    Column::new("id", |node| node.id.as_str().into()),
    Column::new("state", state),
    Column::new("revision", |node| known(node.active_revision > 0, node.active_revision.to_string())),
    Column::new("lag", |node| lag(node).into()),
    Column::wide("version", |node| Some(node.version.as_str()).into()),
    Column::new("address", |node| Some(node.address.as_str()).into()),
    Column::text("labels", |node| Some(labels(node).as_str()).into()),
    Column::wide("since", |node| Some(node.since.as_str()).into()),
    Column::new("connections", |node| known(node.connected, node.connections.to_string())),
    Column::new("in flight", |node| known(node.connected, node.active_requests.to_string())),
    Column::new("requests", |node| match node.connected {
        true => Cell::number(count(node.requests), node.requests),
        false => Cell::missing(),
    }),
    Column::wide("notes", |node| Some(notes(node).join("; ").as_str()).into()),
];

fn known(is_known: bool, text: String) -> Cell {
    if is_known { text.into() } else { Cell::missing() }
}

fn state(node: &Node) -> Cell {
    let cell = Cell::from(word(&node.state));
    match node.state {
        NodeState::Active => cell.good(),
        NodeState::Behind | NodeState::Away => cell.warning(),
        NodeState::Rejected | NodeState::Revoked => cell.bad(),
    }
}

pub(crate) async fn run(client: &Client, output: Output, noun: Noun<Watch, NodesVerb>) -> anyhow::Result<()> {
    let (ids, what) = match noun.verb.unwrap_or(NodesVerb::List(noun.list)) {
        NodesVerb::List(Watch { watch: every }) => {
            let show = async || -> anyhow::Result<()> {
                let nodes = client.ask(&operations::LIST_NODES, &(), &ListQuery::default()).await?;
                Ok(print_answer(output, &nodes, |nodes| table(&nodes.items, output))?)
            };
            return watch(every, output, show).await;
        }
        NodesVerb::Get { id } => {
            let answer = client.ask(&operations::GET_NODE, &Id { id }, &()).await?;
            return print_one(output, &answer, &COLUMNS);
        }
        NodesVerb::Revoke(nodes) => (nodes.ids, Change::Revoke),
        NodesVerb::Allow(nodes) => (nodes.ids, Change::Allow),
        NodesVerb::Exclude(nodes) => (nodes.ids, Change::Exclude),
        NodesVerb::Include(nodes) => (nodes.ids, Change::Include),
    };
    each(output, &ids, async |id| change(client, what, id).await).await
}

#[derive(Clone, Copy)]
enum Change {
    Revoke,
    Allow,
    Exclude,
    Include,
}

async fn change(client: &Client, change: Change, id: &str) -> anyhow::Result<Done> {
    let node = Id { id: id.to_owned() };
    let (value, said) = match change {
        Change::Revoke => {
            let answer = client.ask(&operations::REVOKE_NODE, &node, &()).await?;
            if !answer.read()?.known {
                tell!("no node with this id was ever connected; if one comes, it is rejected");
            }
            (answer.json()?, "is revoked".to_owned())
        }
        Change::Allow => {
            let answer = client.ask(&operations::ALLOW_NODE, &node, &()).await?;
            let said = match answer.read()?.permit_expires {
                None => "may join again".to_owned(),
                Some(until) => {
                    format!("is not revoked; until {until} one more process may join under this id")
                }
            };
            (answer.json()?, said)
        }
        Change::Exclude => {
            let answer = client.ask(&operations::EXCLUDE_NODE, &node, &()).await?;
            (answer.json()?, "is left out of reports from now on".to_owned())
        }
        Change::Include => {
            let answer = client.ask(&operations::INCLUDE_NODE, &node, &()).await?;
            (answer.json()?, "is counted again from now on".to_owned())
        }
    };
    Ok(Done::new(value, format!("node {id} {said}")))
}

/// Table of nodes. Unless the output is wide, problems of a node follow on separate lines.
pub(crate) fn table(nodes: &[Node], output: Output) -> Safe {
    let mut text = Table::of(&COLUMNS, nodes, output).render(output);
    if output != Output::Wide {
        for node in nodes {
            for note in notes(node) {
                text.push(&Safe::toned(&format!("{}: {note}", node.id), Tone::Warning));
            }
        }
    }
    text
}

/// Lag of a node: `2 revisions, 1m 5s`.
fn lag(node: &Node) -> String {
    let (revisions, ms) = (node.lag_revisions, node.lag_ms);
    if revisions == 0 {
        return "-".into();
    }
    // The longer the lag, the coarser its unit.
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

fn labels(node: &Node) -> String {
    let pairs: Vec<String> = node.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(",")
}

/// Notes on problems and unusual states of a node.
fn notes(node: &Node) -> Vec<String> {
    let forgotten = node.forgotten_clients;
    let forgotten = (forgotten > 0)
        .then(|| format!("its table of rate limits was full: {forgotten} clients were dropped"));
    let excluded = node.excluded.then(|| "its counts are left out of reports".to_owned());
    error(node).into_iter().chain(forgotten).chain(clock(node)).chain(excluded).collect()
}

/// Clock difference above which a warning is shown. The control plane uses the same limit.
const CLOCK_OFF_MS: u64 = 1_000;

/// Warning about a clock difference: `its clock is 400s ahead of the control plane's`.
fn clock(node: &Node) -> Option<String> {
    let off = node.clock_offset_ms.filter(|ms| ms.unsigned_abs() > CLOCK_OFF_MS)?;
    let ms = off.unsigned_abs();
    let way = if off > 0 { "ahead of" } else { "behind" };
    let off = HumanDuration(Duration::from_millis(if ms < 10_000 { ms } else { ms - ms % 1_000 }));
    Some(format!("its clock is {off} {way} the control plane's"))
}

/// Reason why the node rejected a revision, or else its last error.
fn error(node: &Node) -> Option<String> {
    if node.rejected_revision > 0 {
        let problems: Vec<String> = node.rejection.iter().map(ToString::to_string).collect();
        return Some(format!("rejected revision {}: {}", node.rejected_revision, problems.join("; ")));
    }
    node.last_error.as_ref().map(|error| format!("{} ({})", error.text, error.time))
}

#[cfg(test)]
mod tests {
    use weir_admin_api::{NodeError, Problem};

    use super::*;

    fn node(id: &str) -> Node {
        Node {
            id: id.into(),
            version: "0.1.0".into(),
            address: "127.0.0.1:8080".into(),
            workers: 2,
            labels: [].into(),
            connected: true,
            since: "2026-11-21T11:00:00Z".into(),
            state: NodeState::Active,
            active_revision: 5,
            lag_revisions: 0,
            lag_ms: 0,
            connections: 5,
            active_requests: 2,
            requests: 1_234_567,
            dropped_rows: 0,
            forgotten_clients: 0,
            rejected_revision: 0,
            clock_offset_ms: None,
            excluded: false,
            rejection: Vec::new(),
            last_error: None,
        }
    }

    fn nodes() -> [Node; 4] {
        let error = NodeError { text: "was silent".into(), time: "2026-11-21T12:00:00Z".into() };
        [
            Node {
                state: NodeState::Behind,
                connected: false,
                lag_revisions: 2,
                lag_ms: 65_432,
                labels: [("zone".into(), "west".into()), ("tier".into(), "edge".into())].into(),
                last_error: Some(error),
                forgotten_clients: 7,
                clock_offset_ms: Some(400_123),
                ..node("a")
            },
            Node {
                state: NodeState::Rejected,
                lag_revisions: 1,
                lag_ms: 250,
                rejected_revision: 5,
                rejection: vec![Problem::new("pools[0]", "no")],
                ..node("b")
            },
            Node { clock_offset_ms: Some(-1_500), ..node("c") },
            Node { clock_offset_ms: Some(900), excluded: true, ..node("d") },
        ]
    }

    #[test]
    fn a_table_says_what_is_wrong_and_since_when() {
        let table = table(&nodes(), Output::Table);
        let table = table.as_str();
        for part in [
            "2 revisions, 65s",
            "tier=edge,zone=west",
            "\na: was silent (2026-11-21T12:00:00Z)",
            "\na: its table of rate limits was full: 7 clients were dropped",
            "1 revision, 250ms",
            "\nb: rejected revision 5: pools[0]: no",
            "\na: its clock is 400s ahead of the control plane's",
            "\nd: its counts are left out of reports",
            "\nc: its clock is 1500ms behind the control plane's",
            "1.2 M",
        ] {
            assert!(table.contains(part), "{part} is missing in\n{table}");
        }
        assert_eq!(table.matches("clock").count(), 2, "a second or less is no reason to warn:\n{table}");
        let away = table.lines().find(|line| line.starts_with("a ")).unwrap();
        assert!(
            away.trim_end().ends_with("-            -          -"),
            "numbers of a node that is away: {away}"
        );
    }

    #[test]
    fn a_wide_table_has_it_all_in_columns() {
        let table = table(&nodes(), Output::Wide);
        let table = table.as_str();
        assert_eq!(table.lines().count(), 5, "{table}");
        for part in ["1234567", "2026-11-21T11:00:00Z", "rejected revision 5: pools[0]: no", "0.1.0"] {
            assert!(table.contains(part), "{part} is missing in\n{table}");
        }
    }
}
