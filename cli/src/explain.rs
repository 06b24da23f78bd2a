//! `weir explain METHOD URL`: where a request would go, and why not elsewhere.

use serde_json::Value;

use crate::{
    arguments::{Explain, Output},
    client::{Client, encode},
    output::{Column, cell, items, print, print_json, shown, table, tell},
};

const BACKENDS: [Column; 5] = [
    ("backend", "id"),
    ("url", "url"),
    ("weight", "weight"),
    ("could be picked", "may"),
    ("because", "because"),
];

pub(crate) async fn run(client: &Client, output: Output, about: Explain) -> anyhow::Result<()> {
    let Explain { method, url, headers, client: address, all } = about;
    let url = with_scheme(url);
    let mut path = format!("/explain?method={}&url={}", encode(&method), encode(&url));
    for header in headers {
        path.push_str(&format!("&header={}", encode(&header)));
    }
    if let Some(address) = address {
        path.push_str(&format!("&client={}", encode(&address)));
    }
    let told = client.get(&path).await?;
    match output {
        Output::Json => print_json(&told),
        Output::Table => print(&text(&told, all)),
    }
    Ok(())
}

/// The URL, with `http://` where it begins with a host, as curl reads it.
fn with_scheme(url: String) -> String {
    let begin = url.split_once("://").map_or("/", |(scheme, _)| scheme);
    if url.is_empty() || url.starts_with('/') || !begin.contains(['/', '?', '#']) {
        return url;
    }
    tell!("the URL has no scheme: reading it as http://{url}");
    format!("http://{url}")
}

fn text(told: &Value, all: bool) -> String {
    let list = |name: &str| told.get(name).map_or(&[][..], items);
    let mut lines = vec![match told.get("route").and_then(Value::as_str) {
        Some(route) => format!("route {} (revision {})", shown(route), cell(told, "revision")),
        None => format!("no route (revision {})", cell(told, "revision")),
    }];
    for filter in list("filters") {
        let says = cell(filter, "says");
        lines.push(format!("  {} {says}: {}", cell(filter, "filter"), cell(filter, "detail")));
    }
    if let Some(rewritten) = told.get("rewritten").and_then(Value::as_str) {
        lines.push(format!("  asks the backend for {}", shown(rewritten)));
    }
    for change in list("changes") {
        lines.push(format!("  {}", shown(change.as_str().unwrap_or_default())));
    }
    if let Some(answer) = told.get("answer").and_then(Value::as_str) {
        lines.push(format!("the node answers {}", shown(answer)));
    }
    for pool in list("pools") {
        let (name, strategy) = (cell(pool, "pool"), cell(pool, "strategy"));
        lines.push(format!("pool {name}, {strategy}: {}", cell(pool, "because")));
        for line in table(&BACKENDS, pool.get("backends").map_or(&[][..], items)).lines() {
            lines.push(format!("  {line}"));
        }
    }
    let passed = list("passed");
    let shown = if all { passed.len() } else { 5 };
    if !passed.is_empty() {
        lines.push("other routes".to_owned());
    }
    for route in passed.iter().take(shown) {
        lines.push(format!("  {}: {}", cell(route, "route"), cell(route, "because")));
    }
    let more = told.get("more").and_then(Value::as_u64).unwrap_or_default();
    let more = more + passed.len().saturating_sub(shown) as u64;
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    lines.join("\n")
}
