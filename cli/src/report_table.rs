//! Formats reports as tables for people.

use serde::Serialize;
use serde_json::Value;
use weir_admin_api::{Completeness, Latency, Measures, Period, Report, Summary, Top, TopItem};

use crate::{
    arguments::Output,
    output::{Cell, Column, Safe, Table, bytes, count, milliseconds, share},
    sparkline::sparkline,
};

/// Width of a sparkline in characters. It fits into a terminal of the usual size.
const WIDTH: usize = 72;

/// Formats one measure.
type Format = fn(&Measures) -> Cell;

/// The measures as rows of a summary. Periods and rankings show the same measures as columns.
const MEASURES: [(&str, Format); 11] = [
    ("bytes in", |measures| Cell::number(bytes(measures.bytes_in), measures.bytes_in)),
    ("bytes out", |measures| Cell::number(bytes(measures.bytes_out), measures.bytes_out)),
    ("p50 ms", |measures| latency(measures, |latency| latency.p50)),
    ("p90 ms", |measures| latency(measures, |latency| latency.p90)),
    ("p99 ms", |measures| latency(measures, |latency| latency.p99)),
    ("max ms", |measures| latency(measures, |latency| latency.max)),
    ("backend p99 ms", |measures| known_ms(measures.upstream_ms.p99)),
    ("retries", |measures| measures.retries.to_string().into()),
    ("refused", |measures| reasons(&measures.refused)),
    ("cut", |measures| reasons(&measures.cut)),
    ("streams", streams),
];

const PERIODS: [Column<Period>; 16] = [
    Column::new("start", |period| period.start.as_str().into()),
    Column::new("requests", |period| match period.state {
        // A period that no node reported has no number.
        Completeness::Gap => Cell::missing(),
        _ => Cell::number(count(period.measures.requests), period.measures.requests),
    }),
    Column::text("status", |period| statuses(&period.measures)),
    Column::wide("bytes in", |period| number(period, period.measures.bytes_in, bytes)),
    Column::new("bytes out", |period| number(period, period.measures.bytes_out, bytes)),
    Column::new("p50 ms", |period| latency(&period.measures, |latency| latency.p50)),
    Column::wide("p90 ms", |period| latency(&period.measures, |latency| latency.p90)),
    Column::new("p99 ms", |period| latency(&period.measures, |latency| latency.p99)),
    Column::new("max ms", |period| latency(&period.measures, |latency| latency.max)),
    Column::wide("backend p99 ms", |period| known_ms(period.measures.upstream_ms.p99)),
    Column::new("retries", |period| number(period, period.measures.retries, count)),
    Column::text("refused", |period| reasons(&period.measures.refused)),
    Column::wide("cut", |period| reasons(&period.measures.cut)),
    Column::wide("streams", |period| streams(&period.measures)),
    Column::new("complete", |period| complete(period.state)),
    Column::wide("nodes", |period| format!("{}/{}", period.nodes.reported, period.nodes.expected).into()),
];

const TOP: [Column<TopItem>; 14] = [
    Column::new("", |item| match &item.url {
        Some(url) => format!("{} {url}", item.name).into(),
        None => Some(item.name.as_str()).into(),
    }),
    Column::new("requests", |item| Cell::number(count(item.measures.requests), item.measures.requests)),
    Column::new("share", |item| share(item.share).into()),
    Column::new("errors", |item| Cell::number(count(item.errors), item.errors)),
    Column::wide("bytes in", |item| Cell::number(bytes(item.measures.bytes_in), item.measures.bytes_in)),
    Column::new("bytes out", |item| Cell::number(bytes(item.measures.bytes_out), item.measures.bytes_out)),
    Column::new("p50 ms", |item| latency(&item.measures, |latency| latency.p50)),
    Column::wide("p90 ms", |item| latency(&item.measures, |latency| latency.p90)),
    Column::new("p99 ms", |item| latency(&item.measures, |latency| latency.p99)),
    Column::new("max ms", |item| latency(&item.measures, |latency| latency.max)),
    Column::wide("backend p99 ms", |item| known_ms(item.measures.upstream_ms.p99)),
    Column::new("retries", |item| Cell::number(count(item.measures.retries), item.measures.retries)),
    Column::text("refused", |item| reasons(&item.measures.refused)),
    Column::wide("cut", |item| reasons(&item.measures.cut)),
];

pub(crate) fn periods(report: &Report, output: Output) -> Safe {
    let mut text = Table::of(&PERIODS, &report.periods, output).render(output);
    let known = |period: &Period| match period.state {
        Completeness::Gap | Completeness::None => None,
        _ => Some(period.measures.requests),
    };
    let values: Vec<Option<u64>> = report.periods.iter().map(known).collect();
    if values.len() > 2 {
        text.gap();
        text.push_text(&sparkline(&values, WIDTH));
    }
    let total: u64 = report.periods.iter().map(|period| period.measures.requests).sum();
    text.gap();
    text.push_text(&format!("total {total} requests"));
    if !report.exact {
        text.push_text("some periods begin with whole hours or days of UTC: finer counts are no longer kept");
    }
    text
}

pub(crate) fn summary(summary: &Summary, output: Output) -> Safe {
    let before = summary.before.as_ref();
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    let mut push = |heading: &str, now: Cell, earlier: Option<Cell>, change: Option<String>| {
        let mut row = vec![Cell::from(heading), now];
        if before.is_some() {
            row.extend([earlier.unwrap_or_else(|| "".into()), change.unwrap_or_default().into()]);
        }
        rows.push(row);
    };
    let earlier = |cell: fn(&Measures) -> Cell| before.map(|before| cell(&before.measures));
    push("from", summary.from.as_str().into(), before.map(|before| before.from.as_str().into()), None);
    push("to", summary.to.as_str().into(), before.map(|before| before.to.as_str().into()), None);
    let requests = |measures: &Measures| measures.requests.to_string().into();
    push("requests", requests(&summary.measures), before.map(|before| requests(&before.measures)), {
        before.map(|before| change(summary.measures.requests as f64, before.measures.requests as f64))
    });
    push("status", exact_statuses(&summary.measures), earlier(exact_statuses), None);
    for (heading, cell) in MEASURES {
        let changed = before.and_then(|before| {
            let value = plain_number(heading)?;
            Some(change(value(&summary.measures), value(&before.measures)))
        });
        push(heading, cell(&summary.measures), earlier(cell), changed);
    }
    let whole = |is_complete: bool, state: Option<Completeness>| -> Cell {
        match (is_complete, state) {
            (true, _) => Cell::from("yes").good(),
            (false, Some(state)) => Cell::from(format!("no ({})", crate::output::word(&state))).warning(),
            (false, None) => Cell::from("no").warning(),
        }
    };
    push(
        "complete",
        whole(summary.complete, Some(summary.state)),
        before.map(|before| whole(before.complete, None)),
        None,
    );
    for (name, hour) in [("peak", &summary.peak), ("lowest", &summary.lowest)] {
        if let Some(hour) = hour {
            push(name, format!("{} requests, {}", hour.requests, hour.start).into(), None, None);
        }
    }
    if summary.gaps > 0 {
        push("gaps", Cell::from(format!("{} hours", summary.gaps)).warning(), None, None);
    }
    let mut headings = vec!["summary".to_owned(), String::new()];
    if before.is_some() {
        headings.extend(["before".to_owned(), "change".to_owned()]);
    }
    Table::rows(headings, rows).render(output)
}

/// The rows of a summary that can be compared with another period.
#[allow(clippy::cast_precision_loss, reason = "a percentage of large numbers is still one")]
fn plain_number(heading: &str) -> Option<fn(&Measures) -> f64> {
    Some(match heading {
        "bytes in" => |measures| measures.bytes_in as f64,
        "bytes out" => |measures| measures.bytes_out as f64,
        "p50 ms" => |measures| measures.latency_ms.p50,
        "p90 ms" => |measures| measures.latency_ms.p90,
        "p99 ms" => |measures| measures.latency_ms.p99,
        "max ms" => |measures| measures.latency_ms.max,
        "backend p99 ms" => |measures| measures.upstream_ms.p99,
        "retries" => |measures| measures.retries as f64,
        _ => return None,
    })
}

/// How a number changed.
fn change(now: f64, before: f64) -> String {
    if before == 0.0 {
        return if now == 0.0 { "=".to_owned() } else { "new".to_owned() };
    }
    format!("{:+.1} %", (now - before) / before * 100.0)
}

pub(crate) fn top(top: &Top, output: Output) -> Safe {
    let mut table = Table::of(&TOP, &top.items, output);
    table.name_first_column(&top.by);
    let mut text = table.render(output);
    text.gap();
    let count = top.items.len();
    let sort = crate::output::shown(&top.sort);
    text.push_text(&format!("{count} of {} by {sort}, {} requests", top.names, top.requests));
    text
}

fn complete(state: Completeness) -> Cell {
    let word = crate::output::word(&state);
    match state {
        Completeness::Complete => "yes".into(),
        Completeness::Open | Completeness::None => word.into(),
        Completeness::Partial => Cell::from(word).warning(),
        Completeness::Gap => Cell::from(word).bad(),
    }
}

fn number(period: &Period, number: u64, human: fn(u64) -> String) -> Cell {
    match period.state {
        Completeness::Gap => Cell::missing(),
        _ => Cell::number(human(number), number),
    }
}

/// Without requests there is no latency.
fn latency(measures: &Measures, of: fn(&Latency) -> f64) -> Cell {
    if measures.requests == 0 { Cell::missing() } else { known_ms(of(&measures.latency_ms)) }
}

/// The value is 0 if nothing was measured.
fn known_ms(ms: f64) -> Cell {
    if ms == 0.0 { Cell::missing() } else { Cell::number(milliseconds(ms), ms) }
}

fn statuses(measures: &Measures) -> Cell {
    let counts: Vec<String> =
        measures.status.iter().map(|(status, number)| format!("{status}: {}", count(*number))).collect();
    let exact: Vec<String> =
        measures.status.iter().map(|(status, number)| format!("{status}: {number}")).collect();
    if counts.is_empty() { Cell::missing() } else { Cell::number(counts.join(", "), exact.join(", ")) }
}

/// A summary shows exact counts, without a unit such as `k`.
fn exact_statuses(measures: &Measures) -> Cell {
    let counts: Vec<String> =
        measures.status.iter().map(|(status, number)| format!("{status}: {number}")).collect();
    Some(counts.join(", ").as_str()).into()
}

/// Tunnels and streams, and how long they lasted.
fn streams(measures: &Measures) -> Cell {
    let Measures { streams, stream_ms, .. } = measures;
    match streams {
        0 => Cell::missing(),
        _ => format!(
            "{streams} (p50 {} ms, max {} ms)",
            milliseconds(stream_ms.p50),
            milliseconds(stream_ms.max)
        )
        .into(),
    }
}

/// Counts by reason, without those that are 0.
pub(crate) fn reasons(counts: &impl Serialize) -> Cell {
    let Ok(Value::Object(counts)) = serde_json::to_value(counts) else { return Cell::missing() };
    let said: Vec<String> = counts
        .iter()
        .filter(|(_, count)| count.as_u64().is_some_and(|count| count > 0))
        .map(|(reason, count)| format!("{}: {count}", reason.replace('_', " ")))
        .collect();
    Some(said.join(", ").as_str()).into()
}
