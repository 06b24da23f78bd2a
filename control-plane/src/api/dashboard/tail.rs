//! Requests as they complete. The script fills the table; without scripts, the page names the equivalent command.

use maud::{Markup, html};

use super::page_query::{self, PageQuery};
use crate::app::App;

/// Outcomes by their API names, with their display names.
const OUTCOMES: [(&str, &str); 5] = [
    ("finished", "finished"),
    ("cut", "cut"),
    ("cut_by_client", "cut by client"),
    ("cut_by_backend", "cut by backend"),
    ("cut_by_node", "cut by node"),
];

pub(super) fn page(app: &App, params: &PageQuery) -> Markup {
    let current = app.current();
    let filters = page_query::encode(params);
    let watched = format!("?{}", filters.trim_start_matches('&'));
    html! {
        form class="card fields" method="get" action="/ui/tail" aria-label="Which requests" {
            label {
                "Route"
                select name="route" data-submit {
                    option value="" { "all" }
                    @for route in &current.config.routes {
                        option value=(route.name) selected[route.name == params.route] { (route.name) }
                    }
                }
            }
            label { "Status" input class="short" name="status" value=(params.status) placeholder="5xx"; }
            label { "At least" input class="short" name="min_latency" value=(params.min_latency) placeholder="200ms"; }
            label {
                "Outcome"
                select name="outcome" data-submit {
                    option value="" { "all" }
                    @for (value, text) in OUTCOMES {
                        option value=(value) selected[value == params.outcome] { (text) }
                    }
                }
            }
            label { "Host" input name="host" value=(params.host) placeholder="shop.example"; }
            label { "Path" input name="path" value=(params.path) placeholder="/api"; }
            label { "Client" input name="client" value=(params.client) placeholder="10.0.0.0/8"; }
            button class="primary" { "Watch" }
        }
        section class="card" aria-label="Requests" {
            header { h2 { "Requests" } div class="actions" { span id="tail-note" class="soft" role="status" { "waiting for the first request" } button id="tail-pause" hidden { "Pause" } } }
            noscript { p { "This page needs its script. The command line shows the same: " code { "weir tail" } } }
            div class="scroll" {
                table class="stack" id="tail" data-query=(watched) {
                    thead {
                        tr {
                            @for name in ["Time", "Status", "Outcome", "Latency", "Request", "Route", "Backend", "Client", "Node"] {
                                th scope="col" class=[(name == "Latency").then_some("n")] { (name) }
                            }
                        }
                    }
                    tbody {}
                }
            }
            p class="note" id="tail-empty" { "Requests stand here as they end, newest first. Send one through a node, or ask for fewer conditions." }
        }
    }
}
