//! Nodes: connection state, revision in use, and clock offset.

use std::time::Duration;

use maud::{Markup, html};
use weir_admin_api::{Node, NodeState};
use weir_snapshot::units::HumanDuration;

use super::{
    format::{count, time},
    layout::{badge, empty, start_a_node},
};
use crate::{app::App, publish::CLOCK_OFF_MS};

pub(super) fn page(app: &App) -> Markup {
    let (nodes, revision) = (app.nodes(), app.current().revision);
    if nodes.is_empty() {
        return empty(
            "No node was ever connected",
            &html! {
                (start_a_node())
            },
        );
    }
    html! {
        section class="card" aria-label="Nodes" {
            header { h2 { (nodes.len()) @if nodes.len() == 1 { " node" } @else { " nodes" } } p { "revision " (revision) " is current" } }
            div class="scroll" {
                table class="stack" {
                    thead {
                        tr {
                            th scope="col" { "Node" } th scope="col" { "State" } th scope="col" { "Runs" }
                            th scope="col" class="n" { "Connections" } th scope="col" class="n" { "Requests" }
                            th scope="col" class="n" { "Clock" } th scope="col" class="n" { "Lost rows" }
                            th scope="col" { "Since" } th scope="col" { "Version" }
                        }
                    }
                    tbody { @for node in &nodes { (row(node, revision)) } }
                }
            }
        }
    }
}

fn row(node: &Node, revision: u64) -> Markup {
    let off = node.clock_offset_ms;
    html! {
        tr {
            th scope="row" {
                (node.id) " " span class="soft mono" { (node.address) }
                @for (name, value) in &node.labels { " " span class="soft mono" { (name) "=" (value) } }
            }
            td data-label="State" {
                @if node.connected { (badge("ok", "connected")) }
                @else if node.state == NodeState::Revoked { (badge("", "revoked")) }
                @else { (badge("bad", "away")) }
                @if node.excluded { " " (badge("warn", "not counted")) }
            }
            td data-label="Runs" {
                @if node.rejected_revision > 0 {
                    (badge("bad", &format!("refused {}", node.rejected_revision)))
                } @else if node.active_revision == revision {
                    (badge("ok", &revision.to_string()))
                } @else {
                    (badge("warn", &node.active_revision.to_string()))
                    " " span class="soft" { (behind(node)) }
                }
            }
            td class="n" data-label="Connections" { (count(node.connections)) }
            td class="n" data-label="Requests" { (count(node.requests)) }
            td class="n" data-label="Clock" {
                @match off {
                    None => "–",
                    Some(ms) if ms.abs() > CLOCK_OFF_MS => (badge("warn", &format!("{ms:+} ms"))),
                    Some(ms) => { (format!("{ms:+} ms")) }
                }
            }
            td class="n" data-label="Lost rows" { (count(node.dropped_rows)) }
            td class="soft" data-label="Since" { (time(&node.since)) }
            td class="soft" data-label="Version" { (node.version) }
        }
        @for problem in &node.rejection {
            tr { td colspan="9" { strong { (problem.path) } " " (problem.message) } }
        }
        @if let Some(error) = &node.last_error {
            tr { td colspan="9" { strong { (time(&error.time)) } " " (error.text) } }
        }
    }
}

/// How far the node lags, in words.
fn behind(node: &Node) -> String {
    let seconds = HumanDuration(Duration::from_secs(node.lag_ms / 1000));
    format!("{} behind, {seconds}", node.lag_revisions)
}
