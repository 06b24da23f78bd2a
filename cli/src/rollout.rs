//! A revision on its way to the nodes: a line a node as it becomes active, and who is missing at the end.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::bail;
use serde_json::{Value, json};
use weir_snapshot::{Problem, units::HumanDuration};

use crate::{
    arguments::Output,
    client::Client,
    output::{cell, items, print, shown, tell},
};

const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How far the connected nodes have come.
#[derive(Default)]
pub(crate) struct Outcome {
    revision: u64,
    waited: HumanDuration,
    active: Vec<String>,
    /// With what they run instead.
    pending: Vec<(String, u64)>,
    /// With what they found wrong.
    rejected: Vec<(String, Vec<Problem>)>,
}

/// Watches the nodes until each runs the revision or has refused it, at most `wait`.
pub(crate) async fn follow(
    client: &Client,
    output: Output,
    revision: u64,
    wait: HumanDuration,
) -> anyhow::Result<Outcome> {
    let begun = Instant::now();
    let mut told = BTreeSet::new();
    loop {
        let outcome = look(&client.get("/nodes").await?, revision, wait);
        if output == Output::Table {
            for node in &outcome.active {
                if told.insert(node.clone()) {
                    print(&format!("node {node} runs revision {revision}"));
                }
            }
            for (node, problems) in &outcome.rejected {
                if told.insert(node.clone()) {
                    print(&format!("node {node} refused revision {revision}"));
                    problems.iter().for_each(|problem| print(&format!("  {}", shown(&problem.to_string()))));
                }
            }
        }
        if outcome.pending.is_empty() || begun.elapsed() >= wait.0 {
            return Ok(outcome);
        }
        tokio::time::sleep(LOOK_AGAIN.min(wait.0.saturating_sub(begun.elapsed()))).await;
    }
}

fn look(nodes: &Value, revision: u64, waited: HumanDuration) -> Outcome {
    let mut outcome = Outcome { revision, waited, ..Outcome::default() };
    for node in items(nodes).iter().filter(|node| node.get("connected") == Some(&Value::Bool(true))) {
        let number = |field: &str| node.get(field).and_then(Value::as_u64).unwrap_or_default();
        let id = cell(node, "id");
        if number("active_revision") >= revision {
            outcome.active.push(id);
        } else if number("rejected_revision") >= revision {
            let problems = node.get("rejection").cloned().unwrap_or_default();
            outcome.rejected.push((id, serde_json::from_value(problems).unwrap_or_default()));
        } else {
            outcome.pending.push((id, number("active_revision")));
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

    /// An error that names the nodes unless all run it.
    pub(crate) fn result(&self) -> anyhow::Result<()> {
        let Self { revision, waited, active, pending, rejected } = self;
        if self.is_complete() {
            // Who reads JSON has read it there.
            if active.is_empty() {
                tell!("no node is connected: revision {revision} is stored and waits for them");
            }
            return Ok(());
        }
        let mut missing = Vec::new();
        for (id, problems) in rejected {
            let problems: Vec<String> =
                problems.iter().map(|problem| shown(&problem.to_string()).into_owned()).collect();
            missing.push(format!("node {id} refused it: {}", problems.join("; ")));
        }
        for (id, runs) in pending {
            missing.push(format!("node {id} still runs revision {runs} after {waited}"));
        }
        bail!("revision {revision} is stored, but not active on all nodes\n  {}", missing.join("\n  "))
    }
}
