//! Reports as CSV (RFC 4180): one row a period or name. The statuses that occur are columns at the end.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use crate::stats::{Cut, Latency, Rejected, Report, Summary, Top};

const COUNTS: &str = "requests,bytes_in,bytes_out,retries,p50_ms,p90_ms,p99_ms,max_ms";

/// What every row has.
struct Row<'a> {
    numbers: [u64; 4],
    latency: Latency,
    upstream: Latency,
    rejected: Rejected,
    cut: Cut,
    streams: u64,
    durations: Latency,
    status: &'a BTreeMap<u16, u64>,
}

impl Row<'_> {
    fn push_counts(&self, text: &mut String) {
        let [requests, bytes_in, bytes_out, retries] = self.numbers;
        let Latency { p50, p90, p99, max } = self.latency;
        let _ = write!(text, "{requests},{bytes_in},{bytes_out},{retries},{p50},{p90},{p99},{max}");
    }

    fn push_rest(&self, text: &mut String, statuses: &[u16]) {
        let Latency { p50, p90, p99, max } = self.upstream;
        let _ = write!(text, ",{p50},{p90},{p99},{max}");
        for (_, count) in self.rejected.each() {
            let _ = write!(text, ",{count}");
        }
        for (_, count) in self.cut.each() {
            let _ = write!(text, ",{count}");
        }
        let Latency { p50, p90, p99, max } = self.durations;
        let _ = write!(text, ",{},{p50},{p90},{p99},{max}", self.streams);
        for status in statuses {
            let _ = write!(text, ",{}", self.status.get(status).copied().unwrap_or(0));
        }
        text.push('\n');
    }
}

fn push_last_names(text: &mut String, statuses: &[u16]) {
    text.push_str(",upstream_p50_ms,upstream_p90_ms,upstream_p99_ms,upstream_max_ms");
    for (name, _) in Rejected::default().each() {
        let _ = write!(text, ",rejected_{name}");
    }
    for (name, _) in Cut::default().each() {
        let _ = write!(text, ",cut_by_{name}");
    }
    text.push_str(",streams,stream_p50_ms,stream_p90_ms,stream_p99_ms,stream_max_ms");
    for status in statuses {
        let _ = write!(text, ",status_{status}");
    }
    text.push('\n');
}

fn statuses<'a>(all: impl Iterator<Item = &'a BTreeMap<u16, u64>>) -> Vec<u16> {
    let mut statuses: Vec<u16> = all.flat_map(|status| status.keys().copied()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    statuses
}

pub(super) fn report(report: &Report) -> String {
    let statuses = statuses(report.periods.iter().map(|period| &period.status));
    let mut text = format!("start,{COUNTS},complete,state,nodes_expected,nodes_reported");
    push_last_names(&mut text, &statuses);
    for period in &report.periods {
        let row = Row {
            numbers: [period.requests, period.bytes_in, period.bytes_out, period.retries],
            latency: period.latency_ms,
            upstream: period.upstream_ms,
            rejected: period.rejected,
            cut: period.cut,
            streams: period.streams,
            durations: period.stream_ms,
            status: &period.status,
        };
        let _ = write!(text, "{},", period.start);
        row.push_counts(&mut text);
        let (nodes, state) = (period.nodes, period.state.name());
        let _ = write!(text, ",{},{state},{},{}", period.complete, nodes.expected, nodes.reported);
        row.push_rest(&mut text, &statuses);
    }
    text
}

pub(super) fn summary(summary: &Summary) -> String {
    let statuses: Vec<u16> = summary.status.keys().copied().collect();
    let mut text =
        format!("from,to,{COUNTS},complete,peak_start,peak_requests,lowest_start,lowest_requests,gaps");
    push_last_names(&mut text, &statuses);
    let mut row = |from: &str, to: &str, row: Row<'_>, complete: bool, more: &str| {
        let _ = write!(text, "{from},{to},");
        row.push_counts(&mut text);
        let _ = write!(text, ",{complete}{more}");
        row.push_rest(&mut text, &statuses);
    };
    let mut more = String::new();
    for hour in [&summary.peak, &summary.lowest] {
        let _ = match hour {
            Some(hour) => write!(more, ",{},{}", hour.start, hour.requests),
            None => write!(more, ",,"),
        };
    }
    let _ = write!(more, ",{}", summary.gaps);
    let numbers = [summary.requests, summary.bytes_in, summary.bytes_out, summary.retries];
    let (latency, upstream) = (summary.latency_ms, summary.upstream_ms);
    let (rejected, status) = (summary.rejected, &summary.status);
    let (cut, streams, durations) = (summary.cut, summary.streams, summary.stream_ms);
    let whole = Row { numbers, latency, upstream, rejected, cut, streams, durations, status };
    row(&summary.from, &summary.to, whole, summary.complete, &more);
    if let Some(before) = &summary.before {
        let numbers = [before.requests, before.bytes_in, before.bytes_out, before.retries];
        let (latency, upstream) = (before.latency_ms, before.upstream_ms);
        let (rejected, status) = (before.rejected, &before.status);
        let (cut, streams, durations) = (before.cut, before.streams, before.stream_ms);
        let earlier = Row { numbers, latency, upstream, rejected, cut, streams, durations, status };
        row(&before.from, &before.to, earlier, before.complete, ",,,,,");
    }
    text
}

pub(super) fn top(top: &Top) -> String {
    let statuses = statuses(top.items.iter().map(|item| &item.status));
    let mut text = format!("{},url,share,errors,{COUNTS}", top.by);
    push_last_names(&mut text, &statuses);
    for item in &top.items {
        let url = item.url.as_deref().unwrap_or_default();
        let _ = write!(text, "{},{},{},{},", field(&item.name), field(url), item.share, item.errors);
        let row = Row {
            numbers: [item.requests, item.bytes_in, item.bytes_out, item.retries],
            latency: item.latency_ms,
            upstream: item.upstream_ms,
            rejected: item.rejected,
            cut: item.cut,
            streams: item.streams,
            durations: item.stream_ms,
            status: &item.status,
        };
        row.push_counts(&mut text);
        row.push_rest(&mut text, &statuses);
    }
    text
}

/// A text as a field. Hosts are written by whoever sends a request: a spreadsheet must not take one for a formula.
fn field(text: &str) -> Cow<'_, str> {
    let text = match text.starts_with(['=', '+', '-', '@']) {
        true => Cow::from(format!("'{text}")),
        false => Cow::from(text),
    };
    if text.contains([',', '"', '\n', '\r']) {
        return Cow::from(format!("\"{}\"", text.replace('"', "\"\"")));
    }
    text
}
