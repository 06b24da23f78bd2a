//! Reports as CSV (RFC 4180): one row per period or name. The status codes that occur are columns at the end.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use weir_admin_api::{Cut, Latency, Measures, RefusalReason, Report, Summary, Top};

const COUNTS: &str = "requests,bytes_in,bytes_out,retries,p50_ms,p90_ms,p99_ms,max_ms";

/// Approximate size in bytes of a period's measures as JSON.
const MEASURES_BYTES: usize = 480;

/// A report that can be written as CSV.
pub(super) trait Csv {
    /// The report as CSV, with a header line.
    fn csv(&self) -> String;

    /// Approximate size of the report as JSON, in bytes.
    fn json_bytes(&self) -> usize;
}

impl Csv for Report {
    fn csv(&self) -> String {
        report(self)
    }

    fn json_bytes(&self) -> usize {
        MEASURES_BYTES * (self.periods.len() + 1)
    }
}

impl Csv for Summary {
    fn csv(&self) -> String {
        summary(self)
    }

    fn json_bytes(&self) -> usize {
        2 * MEASURES_BYTES
    }
}

impl Csv for Top {
    fn csv(&self) -> String {
        top(self)
    }

    fn json_bytes(&self) -> usize {
        MEASURES_BYTES * (self.items.len() + 1)
    }
}

/// The measures of a row.
struct Row<'a>(&'a Measures);

impl Row<'_> {
    fn push_counts(&self, text: &mut String) {
        let Measures { requests, bytes_in, bytes_out, retries, latency_ms, .. } = self.0;
        let Latency { p50, p90, p99, max } = latency_ms;
        let _ = write!(text, "{requests},{bytes_in},{bytes_out},{retries},{p50},{p90},{p99},{max}");
    }

    fn push_rest(&self, text: &mut String, statuses: &[u16]) {
        let Measures { upstream_ms, refused, cut, streams, stream_ms, status, .. } = self.0;
        let Latency { p50, p90, p99, max } = upstream_ms;
        let _ = write!(text, ",{p50},{p90},{p99},{max}");
        for count in refused.each().map(|(_, count)| count).chain(cut.each().map(|(_, count)| count)) {
            let _ = write!(text, ",{count}");
        }
        let Latency { p50, p90, p99, max } = stream_ms;
        let _ = write!(text, ",{streams},{p50},{p90},{p99},{max}");
        for code in statuses {
            let _ = write!(text, ",{}", status.get(code).copied().unwrap_or(0));
        }
        text.push('\n');
    }
}

fn push_last_names(text: &mut String, statuses: &[u16]) {
    text.push_str(",upstream_p50_ms,upstream_p90_ms,upstream_p99_ms,upstream_max_ms");
    for reason in RefusalReason::ALL {
        let _ = write!(text, ",refused_{reason}");
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
    let statuses = statuses(report.periods.iter().map(|period| &period.measures.status));
    let mut text = format!("start,{COUNTS},complete,state,nodes_expected,nodes_reported");
    push_last_names(&mut text, &statuses);
    for period in &report.periods {
        let row = Row(&period.measures);
        let _ = write!(text, "{},", period.start);
        row.push_counts(&mut text);
        let (nodes, state) = (period.nodes, period.state);
        let _ = write!(text, ",{},{state},{},{}", period.complete, nodes.expected, nodes.reported);
        row.push_rest(&mut text, &statuses);
    }
    text
}

pub(super) fn summary(summary: &Summary) -> String {
    let statuses: Vec<u16> = summary.measures.status.keys().copied().collect();
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
    let whole = Row(&summary.measures);
    row(&summary.from, &summary.to, whole, summary.complete, &more);
    if let Some(before) = &summary.before {
        let earlier = Row(&before.measures);
        row(&before.from, &before.to, earlier, before.complete, ",,,,,");
    }
    text
}

pub(super) fn top(top: &Top) -> String {
    let statuses = statuses(top.items.iter().map(|item| &item.measures.status));
    let mut text = format!("{},url,share,errors,{COUNTS}", top.by);
    push_last_names(&mut text, &statuses);
    for item in &top.items {
        let url = item.url.as_deref().unwrap_or_default();
        let _ = write!(text, "{},{},{},{},", field(&item.name), field(url), item.share, item.errors);
        let row = Row(&item.measures);
        row.push_counts(&mut text);
        row.push_rest(&mut text, &statuses);
    }
    text
}

/// Encodes a text as a field. Clients choose the host names, so a text that a spreadsheet would read as a formula is
/// escaped.
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
