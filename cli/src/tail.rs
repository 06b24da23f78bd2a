//! `weir tail`: requests of all nodes as they end.

use serde_json::Value;

use crate::{
    arguments::{Output, Tail},
    client::{Client, ClientError, encode},
    output::{cell, failure, print, print_json_text, tell},
};

pub(crate) async fn run(client: &Client, output: Output, tail: Tail) -> Result<(), ClientError> {
    let mut path = "/reports/tail".to_owned();
    let mut separator = '?';
    for (name, value) in [
        ("route", &tail.route),
        ("pool", &tail.pool),
        ("backend", &tail.backend),
        ("host", &tail.host),
        ("method", &tail.method),
        ("path", &tail.path),
        ("status", &tail.status),
        ("min_latency", &tail.min_latency),
        ("client", &tail.client),
        ("outcome", &tail.outcome),
    ] {
        if let Some(value) = value {
            path.push_str(&format!("{separator}{name}={}", encode(value)));
            separator = '&';
        }
    }
    let mut left = tail.count.unwrap_or(u64::MAX);
    let mut event = String::new();
    client
        .lines(&path, |line| {
            if let Some(name) = line.strip_prefix("event:") {
                name.trim().clone_into(&mut event);
            } else if let Some(data) = line.strip_prefix("data:") {
                let shown = match event.as_str() {
                    "request" => {
                        left = left.saturating_sub(1);
                        show(output, data.trim())
                    }
                    "dropped" => {
                        tell!("{} requests were left out: too many at once", data.trim());
                        true
                    }
                    _ => true,
                };
                return shown && left > 0;
            }
            true
        })
        .await
}

/// Shows one request; whether the next one can be shown too.
fn show(output: Output, data: &str) -> bool {
    match output {
        Output::Json => print_json_text(data),
        Output::Table => {
            let event: Value = serde_json::from_str(data).unwrap_or_default();
            let number = |name: &str| event.get(name).and_then(Value::as_f64);
            let upstream = number("upstream_ms").map_or("-".to_owned(), |ms| format!("{ms:.1}"));
            // Most requests are answers that were sent to their end.
            let word = |name: &str, usual: &str| match cell(&event, name).replace('_', " ") {
                word if word == "-" || word == usual => String::new(),
                word => word,
            };
            let kind = Some(word("kind", "answer")).filter(|kind| !kind.is_empty());
            let kind = kind.map_or_else(String::new, |kind| format!(" {kind}"));
            let cut = Some(word("outcome", "finished")).filter(|cut| !cut.is_empty());
            let cut = cut.map_or_else(String::new, |cut| format!("  {cut}"));
            print(&format!(
                "{} {} {:>9.1} ms{kind} ({upstream} backend)  {} {}{}  {} {}  {} {}{cut}",
                cell(&event, "time"),
                cell(&event, "status"),
                number("duration_ms").or(number("latency_ms")).unwrap_or_default(),
                cell(&event, "method"),
                cell(&event, "host"),
                cell(&event, "path"),
                cell(&event, "route"),
                cell(&event, "backend"),
                cell(&event, "client"),
                cell(&event, "node"),
            ));
        }
    }
    failure().is_none()
}
