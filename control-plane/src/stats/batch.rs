//! Validates batches. A batch is validated as a whole: if it fails, nothing of it is stored.
//!
//! A batch is rejected only for errors that sending it again cannot fix, so the node may drop and count it. A wrong
//! clock is not such an error: times are corrected to the control plane's clock, and the period is marked. The limits
//! on labels, rows and numbers keep one faulty node from filling the store or overflowing a sum.

use prost::Message as _;
use weir_proto::{FORMAT, v1};
use weir_snapshot::{RefusalCounts, UnknownReason};

use super::{counts, cut, fold::OTHER, histogram, labels};
use crate::store::stats::{Dimension, Late, NewBatch};

/// The most rows in one batch.
pub(crate) const MAX_ROWS: usize = 50_000;
/// The most bytes in a node id, boot id, route, pool or backend.
pub(crate) const MAX_LABEL: usize = 256;
/// The greatest age of a minute: a node buffers a day of batches while the control plane is unreachable. Older rows are
/// dropped from their batch and counted; the rest of the batch is valid.
pub(crate) const MAX_AGE_MS: i64 = 25 * 60 * MINUTE_MS;
/// The greatest age of a batch. A batch that was delayed by a long outage still proves that its node was running.
const MAX_SENT_AGE_MS: i64 = 30 * 24 * 60 * MINUTE_MS;
/// The greatest difference between a node's clock and the control plane's before the node's times are corrected.
pub(crate) const MAX_AHEAD_MS: i64 = 5 * MINUTE_MS;
/// The greatest value of a counter in a row: sums of rows stay far from overflow, and exact in JSON.
const MAX_COUNT: u64 = 1 << 53;

/// A minute in milliseconds.
pub(crate) const MINUTE_MS: i64 = 60_000;

/// Why a batch is rejected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidBatch {
    #[error("format: version {0} is unknown, this control plane speaks {FORMAT}")]
    Format(u32),
    #[error("{field}: empty")]
    Empty { field: &'static str },
    #[error("{field}: {length} bytes, the limit is {MAX_LABEL}")]
    Long { field: String, length: usize },
    #[error("{field}: has a control or format character")]
    Control { field: String },
    #[error("sequence: {0} is not within 1 to 2^53")]
    Sequence(u64),
    #[error("sent_at_ms: {0} is not within the last 30 days or the next 5 minutes")]
    SentAt(u64),
    #[error("rows: {0} rows, the limit is {MAX_ROWS}")]
    Rows(usize),
    #[error("rows[{row}].minute: {minute} is beyond the next 5 minutes")]
    Minute { row: usize, minute: u64 },
    #[error("rows[{row}].status: {status} is not within 100 to 599")]
    Status { row: usize, status: u32 },
    #[error("rows[{row}].requests: 0")]
    NoRequests { row: usize },
    #[error("rows[{row}].{field}: {value} is greater than 2^53")]
    Count { row: usize, field: &'static str, value: u64 },
    #[error("rows[{row}].latency: {source}")]
    Latency { row: usize, source: histogram::Malformed },
    #[error("rows[{row}].latency: counts {samples} samples with stream_duration, requests is {requests}")]
    Samples { row: usize, samples: u64, requests: u64 },
    #[error("rows[{row}].refused: {source}")]
    Reason { row: usize, source: UnknownReason },
    #[error("rows[{row}].refused: {refused} of {requests} requests")]
    Refused { row: usize, refused: u64, requests: u64 },
    #[error("rows[{row}].cut: {cut} of {requests} requests")]
    Cut { row: usize, cut: u64, requests: u64 },
    #[error("rows[{row}].upstream_latency: counts {samples} samples of {requests} requests")]
    Upstream { row: usize, samples: u64, requests: u64 },
}

/// Validates a batch and encodes it for the log.
pub(crate) fn check(mut batch: v1::ReportRequest, now_ms: i64) -> Result<NewBatch, InvalidBatch> {
    if batch.format != FORMAT {
        return Err(InvalidBatch::Format(batch.format));
    }
    for (field, value) in [("node_id", &batch.node_id), ("boot_id", &batch.boot_id)] {
        if value.is_empty() {
            return Err(InvalidBatch::Empty { field });
        }
        check_label(value, || field.to_owned())?;
        // These values are shown on terminals.
        if !weir_snapshot::is_visible(value) {
            return Err(InvalidBatch::Control { field: field.to_owned() });
        }
    }
    if batch.sequence == 0 || batch.sequence > MAX_COUNT {
        return Err(InvalidBatch::Sequence(batch.sequence));
    }
    let clock_off_ms = clock_off_ms(&batch, now_ms);
    let acceptable = now_ms - MAX_SENT_AGE_MS..=now_ms + MAX_AHEAD_MS;
    let sent_ms = match i64::try_from(batch.sent_at_ms) {
        Ok(0) => now_ms,
        Ok(sent) if acceptable.contains(&sent.saturating_sub(clock_off_ms)) => sent - clock_off_ms,
        _ => return Err(InvalidBatch::SentAt(batch.sent_at_ms)),
    };
    let count = batch.rows.len() + batch.hosts.len();
    if count > MAX_ROWS {
        return Err(InvalidBatch::Rows(count));
    }
    let mut from_ms = sent_ms;
    let mut late: Option<Late> = None;
    let mut rows = Vec::with_capacity(batch.rows.len());
    let mut moved: Option<(i64, i64)> = None;
    let is_moved = clock_off_ms != 0 || batch.restamped_rows > 0;
    for (row, mut counts) in std::mem::take(&mut batch.rows).into_iter().enumerate() {
        check_row(row, &mut counts)?;
        bound_method(&mut counts.method);
        let started_ms = started_ms(row, &mut counts, now_ms, clock_off_ms)?;
        if started_ms < now_ms - MAX_AGE_MS {
            let (from_ms, through_ms) = (started_ms, started_ms + MINUTE_MS);
            let late = late.get_or_insert(Late { rows: 0, from_ms, through_ms });
            late.rows += 1;
            (late.from_ms, late.through_ms) = (late.from_ms.min(from_ms), late.through_ms.max(through_ms));
            continue;
        }
        if is_moved {
            let (from_ms, through_ms) = moved.unwrap_or((started_ms, started_ms));
            moved = Some((from_ms.min(started_ms), through_ms.max(started_ms + MINUTE_MS)));
        }
        from_ms = from_ms.min(started_ms);
        rows.push(counts);
    }
    batch.rows = rows;
    for (row, counts) in batch.hosts.iter_mut().enumerate() {
        // Clients choose the hosts: a host with unprintable characters must not cost a node its counts.
        if !weir_snapshot::is_visible(&counts.host) {
            OTHER.clone_into(&mut counts.host);
        }
        check_row(row, counts)?;
        bound_method(&mut counts.method);
        started_ms(row, counts, now_ms, clock_off_ms)?;
    }
    batch.hosts.retain(|row| i64::try_from(row.minute).is_ok_and(|at| at * MINUTE_MS >= now_ms - MAX_AGE_MS));
    Ok(NewBatch {
        node: batch.node_id.clone(),
        boot: batch.boot_id.clone(),
        sequence: batch.sequence.cast_signed(),
        // Only the first batch of a boot accounts for time before it was made. For a later batch, that time belongs to
        // the batch before it.
        from_ms: if batch.sequence == 1 { from_ms } else { sent_ms },
        through_ms: sent_ms,
        lost: batch.dropped_rows > 0,
        left: batch.last,
        late,
        moved,
        batch: batch.encode_to_vec(),
    })
}

/// How far the node's clock is ahead of the control plane's, if the difference exceeds [`MAX_AHEAD_MS`], else 0. Times
/// in such a batch are corrected by this value: the counts are exact whatever the node's clock, only their minute is
/// uncertain.
fn clock_off_ms(batch: &v1::ReportRequest, now_ms: i64) -> i64 {
    let time = |ms: u64| i64::try_from(ms).ok().filter(|ms| *ms > 0).map(|ms| ms.saturating_sub(now_ms));
    let clock = time(batch.clock_ms).filter(|off| off.abs() > MAX_AHEAD_MS).unwrap_or(0);
    // A batch cannot have been made in the future. If the node does not send its clock, or if its clock was set back
    // while the batch was in transit, the batch is treated as just made.
    match time(batch.sent_at_ms) {
        Some(ahead) if ahead.saturating_sub(clock) > MAX_AHEAD_MS => ahead,
        _ => clock,
    }
}

/// The start of a row's minute, corrected by the offset of the node's clock. A row later than its own batch is
/// malformed.
fn started_ms(
    row: usize,
    counts: &mut v1::TrafficRow,
    now_ms: i64,
    clock_off_ms: i64,
) -> Result<i64, InvalidBatch> {
    let started_ms = i64::try_from(counts.minute)
        .ok()
        .and_then(|minute| minute.checked_mul(MINUTE_MS))
        .and_then(|started| started.checked_sub(clock_off_ms))
        .filter(|started| *started <= now_ms + MAX_AHEAD_MS)
        .ok_or(InvalidBatch::Minute { row, minute: counts.minute })?;
    let minute = started_ms.div_euclid(MINUTE_MS);
    counts.minute = u64::try_from(minute).unwrap_or_default();
    Ok(minute * MINUTE_MS)
}

fn check_row(row: usize, counts: &mut v1::TrafficRow) -> Result<(), InvalidBatch> {
    for (label, value) in Dimension::LABELS.into_iter().zip(labels::of_row(counts)) {
        check_label(value, || format!("rows[{row}].{}", label.name()))?;
    }
    check_label(&counts.host, || format!("rows[{row}].host"))?;
    if !(100..=599).contains(&counts.status) {
        return Err(InvalidBatch::Status { row, status: counts.status });
    }
    if counts.requests == 0 {
        return Err(InvalidBatch::NoRequests { row });
    }
    for (field, value) in [
        ("requests", counts.requests),
        ("bytes_in", counts.bytes_in),
        ("bytes_out", counts.bytes_out),
        ("retries", counts.retries),
        ("latency_max_us", counts.latency_max_us),
        ("upstream_max_us", counts.upstream_max_us),
        ("stream_max_us", counts.stream_max_us),
    ] {
        if value > MAX_COUNT {
            return Err(InvalidBatch::Count { row, field, value });
        }
    }
    let (samples, upstream) =
        counts::check_histograms(counts).map_err(|source| InvalidBatch::Latency { row, source })?;
    if samples != counts.requests {
        return Err(InvalidBatch::Samples { row, samples, requests: counts.requests });
    }
    let refused =
        RefusalCounts::from_names(&counts.refused).map_err(|source| InvalidBatch::Reason { row, source })?;
    let refused = refused.total();
    if refused > counts.requests {
        return Err(InvalidBatch::Refused { row, refused, requests: counts.requests });
    }
    let cut = cut::of(counts).total();
    if cut > counts.requests {
        return Err(InvalidBatch::Cut { row, cut, requests: counts.requests });
    }
    if upstream > counts.requests {
        return Err(InvalidBatch::Upstream { row, samples: upstream, requests: counts.requests });
    }
    Ok(())
}

/// Nodes count these methods separately. Any other name does not come from a regular node, and would take a row of the
/// period from another node's counts.
fn bound_method(method: &mut String) {
    const METHODS: [&str; 9] = ["", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "OTHER"];
    if !METHODS.contains(&method.as_str()) {
        "OTHER".clone_into(method);
    }
}

fn check_label(value: &str, field: impl Fn() -> String) -> Result<(), InvalidBatch> {
    if value.len() > MAX_LABEL {
        return Err(InvalidBatch::Long { field: field(), length: value.len() });
    }
    if value.chars().any(char::is_control) {
        return Err(InvalidBatch::Control { field: field() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hdrhistogram::{
        Histogram,
        serialization::{Serializer as _, V2Serializer},
    };

    use super::*;

    fn batch(method: &str) -> v1::ReportRequest {
        let mut histogram = Histogram::<u64>::new(2).unwrap();
        histogram.record(7).unwrap();
        let mut latency = Vec::new();
        V2Serializer::new().serialize(&histogram, &mut latency).unwrap();
        let row = v1::TrafficRow {
            minute: 1000,
            method: method.into(),
            status: 200,
            requests: 1,
            latency,
            ..Default::default()
        };
        v1::ReportRequest {
            format: FORMAT,
            node_id: "n".into(),
            boot_id: "b".into(),
            sequence: 1,
            rows: vec![row],
            ..Default::default()
        }
    }

    #[test]
    fn methods_that_no_node_tells_apart_are_one() {
        for (method, counted) in
            [("GET", "GET"), ("OTHER", "OTHER"), ("GET2", "OTHER"), ("\u{202e}X", "OTHER")]
        {
            let checked = check(batch(method), 1000 * MINUTE_MS).unwrap();
            let stored = v1::ReportRequest::decode(&*checked.batch).unwrap();
            assert_eq!(stored.rows[0].method, counted, "{method:?}");
        }
    }

    #[test]
    fn ids_that_a_terminal_could_act_on_are_refused() {
        for id in ["\u{1b}[2J", "a\u{202e}b", "\u{9b}", "a\u{200b}"] {
            let refused = check(v1::ReportRequest { boot_id: id.into(), ..batch("GET") }, 1000 * MINUTE_MS);
            assert_eq!(refused.err(), Some(InvalidBatch::Control { field: "boot_id".into() }), "{id:?}");
        }
    }
}
