//! Shows the rollout of a revision: a line for each node that runs it, and at the end the nodes that do not.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::bail;
use serde_json::{Value, json};
use weir_admin_api::{ListQuery, Node, Problem, operations};
use weir_snapshot::units::HumanDuration;

use crate::{
    arguments::Output,
    client::Client,
    output::{Bar, print, shown, tell},
};

const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// State of the rollout on the connected nodes.
#[derive(Default)]
pub(crate) struct Outcome {
    revision: u64,
    waited: HumanDuration,
    active: Vec<String>,
    /// Nodes with the revision that they run instead.
    pending: Vec<(String, u64)>,
    /// Nodes with the reasons.
    rejected: Vec<(String, Vec<Problem>)>,
}

/// Watches the nodes for at most `wait`, until each one runs the revision or has rejected it.
pub(crate) async fn follow(
    client: &Client,
    output: Output,
    revision: u64,
    wait: HumanDuration,
) -> anyhow::Result<Outcome> {
    let begun = Instant::now();
    let mut printed = BTreeSet::new();
    let mut bar: Option<Bar> = None;
    loop {
        let nodes = client.ask(&operations::LIST_NODES, &(), &ListQuery::default()).await?.read()?.items;
        let outcome = look(&nodes, revision, wait);
        if output.is_for_people() {
            let mut said = Vec::new();
            for node in &outcome.active {
                if printed.insert(node.clone()) {
                    said.push(format!("node {} runs revision {revision}", shown(node)));
                }
            }
            for (node, problems) in &outcome.rejected {
                if printed.insert(node.clone()) {
                    said.push(format!("node {} rejected revision {revision}", shown(node)));
                    said.extend(problems.iter().map(|problem| format!("  {}", shown(&problem.to_string()))));
                }
            }
            let write = || said.iter().for_each(|line| print(line));
            match &bar {
                Some(bar) => bar.aside(write),
                None => write(),
            }
        }
        if outcome.pending.is_empty() || begun.elapsed() >= wait.0 {
            return Ok(outcome);
        }
        if begun.elapsed() > Duration::from_secs(1) {
            let total = (outcome.active.len() + outcome.rejected.len() + outcome.pending.len()) as u64;
            let template = "{bar:30} {pos}/{len} nodes run the revision, {elapsed}";
            bar.get_or_insert_with(|| Bar::new(total, template))
                .set(outcome.active.len() as u64, String::new());
        }
        tokio::time::sleep(LOOK_AGAIN.min(wait.0.saturating_sub(begun.elapsed()))).await;
    }
}

fn look(nodes: &[Node], revision: u64, waited: HumanDuration) -> Outcome {
    let mut outcome = Outcome { revision, waited, ..Outcome::default() };
    for node in nodes.iter().filter(|node| node.connected) {
        let id = node.id.clone();
        if node.active_revision >= revision {
            outcome.active.push(id);
        } else if node.rejected_revision >= revision {
            outcome.rejected.push((id, node.rejection.clone()));
        } else {
            outcome.pending.push((id, node.active_revision));
        }
    }
    outcome
}

impl Outcome {
    pub(crate) fn is_complete(&self) -> bool {
        self.pending.is_empty() && self.rejected.is_empty()
    }

    pub(crate) fn json(&self) -> Value {
        let pending: Vec<&String> = self.pending.iter().map(|(id, _)| id).collect();
        let rejected: Vec<Value> =
            self.rejected.iter().map(|(id, problems)| json!({ "node": id, "problems": problems })).collect();
        json!({ "active": self.active, "pending": pending, "rejected": rejected })
    }

    /// Returns an error that names the nodes that do not run the revision.
    pub(crate) fn result(&self) -> anyhow::Result<()> {
        let Self { revision, waited, active, pending, rejected } = self;
        if self.is_complete() {
            if active.is_empty() {
                tell!(
                    "no node is connected: revision {revision} is stored, and nodes get it when they connect"
                );
            }
            return Ok(());
        }
        let mut missing = Vec::new();
        for (id, problems) in rejected {
            let problems: Vec<String> =
                problems.iter().map(|problem| shown(&problem.to_string()).into_owned()).collect();
            missing.push(format!("node {id} rejected it: {}", problems.join("; ")));
        }
        for (id, runs) in pending {
            missing.push(format!("node {id} still runs revision {runs} after {waited}"));
        }
        bail!("revision {revision} is stored, but not active on all nodes\n  {}", missing.join("\n  "))
    }
}
