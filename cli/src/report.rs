//! `weir report`: traffic by minute, hour or day, in sum, or who has the most of it.

use crate::{
    arguments::{Format, Output, Report, ReportKind},
    client::{Call, Client, ClientError, encode},
    output::{print, print_exact, print_json, watch},
    report_table,
};

pub(crate) async fn run(client: &Client, output: Output, report: Report) -> Result<(), ClientError> {
    let format = report.format.unwrap_or(match output {
        Output::Table => Format::Table,
        Output::Json => Format::Json,
    });
    let path = path(&report, format);
    let show = async || show(client, &report, format, &path).await;
    match report.watch {
        None => show().await,
        Some(every) => watch(every, format == Format::Table, show).await,
    }
}

async fn show(client: &Client, report: &Report, format: Format, path: &str) -> Result<(), ClientError> {
    let accept = if format == Format::Csv { "text/csv" } else { "application/json" };
    let call = Call { path, accept, ..Call::default() };
    let text = client.call(call).await?;
    match (format, report.kind) {
        (Format::Csv, _) => print_exact(&text),
        (Format::Json, _) => print_json(&client.parse(&text)?),
        (Format::Table, ReportKind::Summary) => print(&report_table::summary(&client.parse(&text)?)),
        (Format::Table, ReportKind::Top) => print(&report_table::top(&client.parse(&text)?)),
        (Format::Table, _) => print(&report_table::periods(&client.parse(&text)?)),
    }
    Ok(())
}

fn path(report: &Report, format: Format) -> String {
    let kind = match report.kind {
        ReportKind::Minutely => "minutely",
        ReportKind::Hourly => "hourly",
        ReportKind::Daily => "daily",
        ReportKind::Summary => "summary",
        ReportKind::Top => "top",
    };
    let wire = if format == Format::Csv { "csv" } else { "json" };
    let limit = report.limit.map(|limit| limit.to_string());
    let compare = report.compare.then(|| "true".to_owned());
    let mut path = format!("/reports/{kind}?format={wire}");
    for (name, value) in [
        ("from", &report.from),
        ("to", &report.to),
        ("route", &report.route),
        ("pool", &report.pool),
        ("backend", &report.backend),
        ("method", &report.method),
        ("host", &report.host),
        ("tz", &report.tz),
        ("by", &report.by),
        ("sort", &report.sort),
        ("limit", &limit),
        ("compare", &compare),
    ] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encode(value)));
        }
    }
    path
}
