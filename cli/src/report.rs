//! `weir report`: traffic by hour, by day or in sum.

use std::time::Duration;

use hyper::Method;
use serde_json::Value;

use crate::{
    arguments::{Format, Output, Report, ReportKind},
    client::{Call, Client, ClientError, encode},
    output::{cell, items, print, print_json, rows_table},
};

pub(crate) async fn run(client: &Client, output: Output, report: Report) -> Result<(), ClientError> {
    let format = report.format.unwrap_or(match output {
        Output::Table => Format::Table,
        Output::Json => Format::Json,
    });
    let kind = match report.kind {
        ReportKind::Hourly => "hourly",
        ReportKind::Daily => "daily",
        ReportKind::Summary => "summary",
    };
    let (accept, wire) = match format {
        Format::Csv => ("text/csv", "csv"),
        Format::Table | Format::Json => ("application/json", "json"),
    };
    let mut path = format!("/reports/{kind}?format={wire}");
    for (name, value) in [
        ("from", &report.from),
        ("to", &report.to),
        ("route", &report.route),
        ("pool", &report.pool),
        ("backend", &report.backend),
        ("tz", &report.tz),
    ] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encode(value)));
        }
    }
    let call = Call { method: Method::GET, path: &path, body: None, accept, patience: Duration::ZERO };
    let text = client.call(call).await?;
    match (format, report.kind) {
        (Format::Csv, _) => print(&text),
        (Format::Json, _) => print_json(&client.parse(&text)?),
        (Format::Table, ReportKind::Summary) => print_summary(&client.parse(&text)?),
        (Format::Table, _) => print_periods(&client.parse(&text)?),
    }
    Ok(())
}

const FIELDS: [(&str, &str); 8] = [
    ("bytes in", "bytes_in"),
    ("bytes out", "bytes_out"),
    ("p50 ms", "latency_ms.p50"),
    ("p90 ms", "latency_ms.p90"),
    ("p99 ms", "latency_ms.p99"),
    ("max ms", "latency_ms.max"),
    ("retries", "retries"),
    ("complete", "complete"),
];

fn print_periods(report: &Value) {
    let periods = report.get("periods").map_or(&[][..], items);
    let mut headings = vec!["start".to_owned(), "requests".to_owned(), "status".to_owned()];
    headings.extend(FIELDS.map(|(heading, _)| heading.to_owned()));
    let row = |period: &Value| {
        let mut row = vec![cell(period, "start"), cell(period, "requests"), statuses(period)];
        row.extend(FIELDS.map(|(_, field)| number(period, field)));
        row
    };
    let total: u64 = periods.iter().filter_map(|period| period.get("requests")?.as_u64()).sum();
    print(&format!("{}\n\ntotal {total} requests", rows_table(headings, periods.iter().map(row))));
}

fn print_summary(summary: &Value) {
    let mut rows = vec![
        vec!["from".to_owned(), cell(summary, "from")],
        vec!["to".to_owned(), cell(summary, "to")],
        vec!["requests".to_owned(), cell(summary, "requests")],
        vec!["status".to_owned(), statuses(summary)],
    ];
    rows.extend(FIELDS.map(|(heading, field)| vec![heading.to_owned(), number(summary, field)]));
    for name in ["peak", "lowest"] {
        if let Some(period) = summary.get(name).filter(|period| period.is_object()) {
            rows.push(vec![
                name.to_owned(),
                format!("{} requests, {}", cell(period, "requests"), cell(period, "start")),
            ]);
        }
    }
    print(&rows_table(vec!["summary".to_owned(), String::new()], rows));
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

fn number(item: &Value, field: &str) -> String {
    match item.pointer(&format!("/{}", field.replace('.', "/"))) {
        Some(Value::Number(number)) if number.is_f64() => {
            format!("{:.2}", number.as_f64().unwrap_or_default())
        }
        _ => cell(item, field),
    }
}
