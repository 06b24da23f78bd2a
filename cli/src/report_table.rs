//! Reports as tables for people.

use serde_json::Value;

use crate::{
    output::{cell, items, rows_table},
    sparkline::sparkline,
};

/// A sparkline is as wide as a terminal that nobody made wider.
const WIDTH: usize = 72;

const FIELDS: [(&str, &str); 8] = [
    ("bytes in", "bytes_in"),
    ("bytes out", "bytes_out"),
    ("p50 ms", "latency_ms.p50"),
    ("p90 ms", "latency_ms.p90"),
    ("p99 ms", "latency_ms.p99"),
    ("max ms", "latency_ms.max"),
    ("backend p99", "upstream_ms.p99"),
    ("retries", "retries"),
];

pub(crate) fn periods(report: &Value) -> String {
    let periods = report.get("periods").map_or(&[][..], items);
    let mut headings = vec!["start".to_owned(), "requests".to_owned(), "status".to_owned()];
    headings.extend(FIELDS.map(|(heading, _)| heading.to_owned()));
    headings.extend(["rejected", "cut", "streams", "complete", "nodes"].map(str::to_owned));
    let row = |period: &Value| {
        let mut row = vec![cell(period, "start"), requests(period), statuses(period)];
        row.extend(FIELDS.map(|(_, field)| number(period, field)));
        row.extend([rejected(period), cut(period), streams(period)]);
        row.push(match cell(period, "state").as_str() {
            "complete" => "yes".to_owned(),
            "-" => cell(period, "complete"),
            state => state.to_owned(),
        });
        row.push(format!("{}/{}", cell(period, "nodes.reported"), cell(period, "nodes.expected")));
        row
    };
    let total: u64 = periods.iter().filter_map(|period| period.get("requests")?.as_u64()).sum();
    let known = |period: &Value| match cell(period, "state").as_str() {
        "gap" | "none" => None,
        _ => period.get("requests")?.as_u64(),
    };
    let values: Vec<Option<u64>> = periods.iter().map(known).collect();
    let mut text = rows_table(headings, periods.iter().map(row));
    if values.len() > 2 {
        text.push_str(&format!("\n\n{}", sparkline(&values, WIDTH)));
    }
    text.push_str(&format!("\n\ntotal {total} requests"));
    if report.get("exact") == Some(&Value::Bool(false)) {
        text.push_str(
            "\nsome periods begin with whole hours or days of UTC: finer counts are no longer kept",
        );
    }
    text
}

/// What nobody reported has no number.
fn requests(period: &Value) -> String {
    match cell(period, "state").as_str() {
        "gap" => "-".to_owned(),
        _ => cell(period, "requests"),
    }
}

pub(crate) fn summary(summary: &Value) -> String {
    let before = summary.get("before").filter(|before| before.is_object());
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut push = |heading: &str, value: &dyn Fn(&Value) -> String, change: Option<String>| {
        let mut row = vec![heading.to_owned(), value(summary)];
        if let Some(before) = before {
            row.extend([value(before), change.unwrap_or_default()]);
        }
        rows.push(row);
    };
    for name in ["from", "to"] {
        push(name, &|value| cell(value, name), None);
    }
    push("requests", &|value| cell(value, "requests"), change(summary, "requests"));
    push("status", &statuses, None);
    for (heading, field) in FIELDS {
        push(heading, &|value| number(value, field), change(summary, field));
    }
    push("rejected", &rejected, None);
    push("cut", &cut, None);
    push("streams", &streams, None);
    let complete = |value: &Value| match (cell(value, "complete").as_str(), cell(value, "state").as_str()) {
        ("no", state) if state != "-" => format!("no ({state})"),
        (complete, _) => complete.to_owned(),
    };
    push("complete", &complete, None);
    for name in ["peak", "lowest"] {
        if summary.get(name).is_some_and(Value::is_object) {
            let hour = |value: &Value| match value.get(name) {
                Some(hour) => format!("{} requests, {}", cell(hour, "requests"), cell(hour, "start")),
                None => String::new(),
            };
            push(name, &hour, None);
        }
    }
    if summary.get("gaps").and_then(Value::as_u64).unwrap_or(0) > 0 {
        push(
            "gaps",
            &|value| value.get("gaps").map_or_else(String::new, |gaps| format!("{gaps} hours")),
            None,
        );
    }
    let mut headings = vec!["summary".to_owned(), String::new()];
    if before.is_some() {
        headings.extend(["before".to_owned(), "change".to_owned()]);
    }
    rows_table(headings, rows)
}

/// How a number changed from as much time before.
#[allow(clippy::cast_precision_loss, reason = "a percentage of large numbers is still one")]
fn change(summary: &Value, field: &str) -> Option<String> {
    let pointer = format!("/{}", field.replace('.', "/"));
    let now = summary.pointer(&pointer)?.as_f64()?;
    let before = summary.get("before")?.pointer(&pointer)?.as_f64()?;
    if before == 0.0 {
        return Some(if now == 0.0 { "=".to_owned() } else { "new".to_owned() });
    }
    Some(format!("{:+.1} %", (now - before) / before * 100.0))
}

pub(crate) fn top(top: &Value) -> String {
    let by = cell(top, "by");
    let mut headings = vec![by.clone(), "requests".to_owned(), "share".to_owned(), "errors".to_owned()];
    headings.extend(FIELDS.map(|(heading, _)| heading.to_owned()));
    headings.extend(["rejected", "cut", "streams"].map(str::to_owned));
    let row = |item: &Value| {
        let name = match (cell(item, "name"), item.get("url")) {
            (name, Some(Value::String(url))) => format!("{name} {url}"),
            (name, _) => name,
        };
        let share = item.get("share").and_then(Value::as_f64).unwrap_or(0.0) * 100.0;
        let mut row = vec![name, cell(item, "requests"), format!("{share:.1} %"), cell(item, "errors")];
        row.extend(FIELDS.map(|(_, field)| number(item, field)));
        row.extend([rejected(item), cut(item), streams(item)]);
        row
    };
    let items = items(top);
    let mut text = rows_table(headings, items.iter().map(row));
    let (names, requests) = (cell(top, "names"), cell(top, "requests"));
    text.push_str(&format!("\n\n{} of {names} by {}, {requests} requests", items.len(), cell(top, "sort")));
    text
}

fn statuses(period: &Value) -> String {
    let Some(Value::Object(statuses)) = period.get("status") else {
        return "-".to_owned();
    };
    if statuses.is_empty() {
        return "-".to_owned();
    }
    statuses.iter().map(|(status, count)| format!("{status}: {count}")).collect::<Vec<_>>().join(", ")
}

/// Why Weir refused requests itself, where it did.
fn rejected(item: &Value) -> String {
    counted(item, "rejected")
}

/// Which side cut answers, where one did.
fn cut(item: &Value) -> String {
    counted(item, "cut")
}

/// Tunnels and streams, and how long they lasted.
fn streams(item: &Value) -> String {
    match item.get("streams").and_then(Value::as_u64) {
        None | Some(0) => "-".to_owned(),
        Some(streams) => {
            format!(
                "{streams} (p50 {} ms, max {} ms)",
                number(item, "stream_ms.p50"),
                number(item, "stream_ms.max")
            )
        }
    }
}

fn counted(item: &Value, name: &str) -> String {
    let Some(Value::Object(reasons)) = item.get(name) else { return "-".to_owned() };
    let counted = reasons.iter().filter(|(_, count)| count.as_u64().is_some_and(|count| count > 0));
    let said: Vec<String> =
        counted.map(|(reason, count)| format!("{}: {count}", reason.replace('_', " "))).collect();
    if said.is_empty() { "-".to_owned() } else { said.join(", ") }
}

fn number(item: &Value, field: &str) -> String {
    match item.pointer(&format!("/{}", field.replace('.', "/"))) {
        Some(Value::Number(number)) if number.is_f64() => {
            format!("{:.2}", number.as_f64().unwrap_or_default())
        }
        _ => cell(item, field),
    }
}
