//! Packs many rows of counts into one value. The database's thread copies each column of each row separately and wakes
//! the reader for it; for a report over a year, that would cost more than finding the rows.
//!
//! A value is a JSON array of the rows' numbers, a zero byte, and the histograms of all rows: first those of latency,
//! then those of backend latency, then those of streams.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;

use super::{Result, StoreError, StoredCounts, StoredSum};

/// The numbers of a row, in the order of [`columns`].
#[derive(Deserialize)]
struct Numbers<'a>(
    #[serde(borrow)] Cow<'a, str>,
    i64,
    BTreeMap<u16, u64>,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    i64,
    usize,
    usize,
    usize,
);

/// The histogram lengths do not match the bytes.
#[derive(Debug, thiserror::Error)]
#[error("the packed counts have a wrong length")]
struct WrongLength;

/// SQL expression that packs rows of `sums` or `traffic`; NULL when there are none. `status` is an expression for one
/// row's requests by status, as JSON.
pub(super) fn columns(status: &str, label: &str) -> String {
    format!(
        "CAST(json_group_array(json_array({label}, start, {status}, requests, bytes_in, bytes_out, retries,
                 latency_max_us, upstream_max_us, refused, cut, stream_max_us, length(latency), length(upstream),
                 length(streams)))
             || x'00' || group_concat(latency, '') || group_concat(upstream, '') || group_concat(streams, '') AS BLOB)"
    )
}

/// Calls a function with the label, start and counts of each row.
pub(super) fn each(
    packed: &[u8],
    take: &mut impl FnMut(&str, i64, &StoredSum<'_>) -> Result<()>,
) -> Result<()> {
    let wrong_length = || StoreError::Broken("statistics row", WrongLength.to_string());
    let (numbers, histograms) = packed
        .iter()
        .position(|byte| *byte == 0)
        .and_then(|at| packed.split_at_checked(at))
        .ok_or_else(wrong_length)?;
    let rows: Vec<Numbers<'_>> = serde_json::from_slice(numbers)
        .map_err(|error| StoreError::Broken("statistics row", error.to_string()))?;
    let length =
        |of: fn(&Numbers<'_>) -> usize| rows.iter().fold(0usize, |sum, row| sum.saturating_add(of(row)));
    let histograms = histograms.get(1..).ok_or_else(wrong_length)?;
    let (mut latencies, rest) = histograms.split_at_checked(length(|row| row.12)).ok_or_else(wrong_length)?;
    let (mut upstreams, mut streams) =
        rest.split_at_checked(length(|row| row.13)).ok_or_else(wrong_length)?;
    for row in rows {
        let Numbers(
            label,
            start,
            status,
            requests,
            bytes_in,
            bytes_out,
            retries,
            ..,
            refused,
            cut,
            _,
            _,
            _,
            _,
        ) = row;
        let (latency, upstream, stream);
        (latency, latencies) = latencies.split_at_checked(row.12).ok_or_else(wrong_length)?;
        (upstream, upstreams) = upstreams.split_at_checked(row.13).ok_or_else(wrong_length)?;
        (stream, streams) = streams.split_at_checked(row.14).ok_or_else(wrong_length)?;
        let counts = StoredCounts {
            requests: requests.cast_unsigned(),
            bytes_in: bytes_in.cast_unsigned(),
            bytes_out: bytes_out.cast_unsigned(),
            retries: retries.cast_unsigned(),
            latency: Cow::Borrowed(latency),
            latency_max_us: row.7.cast_unsigned(),
            upstream: Cow::Borrowed(upstream),
            upstream_max_us: row.8.cast_unsigned(),
            refused,
            cut,
            streams: Cow::Borrowed(stream),
            stream_max_us: row.11.cast_unsigned(),
        };
        take(&label, start, &StoredSum { status, counts })?;
    }
    if latencies.is_empty() && upstreams.is_empty() && streams.is_empty() {
        Ok(())
    } else {
        Err(wrong_length())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROW: &str =
        r#"["a\u0000\"b",60,{"200":3,"404":1},4,5,6,7,8,9,"{\"auth\":1}","{\"node\":1}",7,2,1,1]"#;

    type PackedRow = (String, i64, Vec<u8>, Vec<u8>, Vec<u8>);

    fn rows(packed: &[u8]) -> Result<Vec<PackedRow>> {
        let mut rows = Vec::new();
        each(packed, &mut |label, start, sum: &StoredSum<'_>| {
            assert_eq!(sum.status, BTreeMap::from([(200, 3), (404, 1)]));
            assert_eq!(sum.counts.refused, r#"{"auth":1}"#);
            assert_eq!((&*sum.counts.cut, sum.counts.stream_max_us), (r#"{"node":1}"#, 7));
            let [latency, upstream, streams] =
                [&sum.counts.latency, &sum.counts.upstream, &sum.counts.streams].map(|bytes| bytes.to_vec());
            rows.push((label.to_owned(), start, latency, upstream, streams));
            Ok(())
        })?;
        Ok(rows)
    }

    #[test]
    fn each_row_keeps_its_own_histograms() {
        let packed =
            [format!("[{ROW},{ROW}]").as_bytes(), b"\0", b"\0\x01\x02\x03", b"\0\x05", b"\x08\x09"].concat();
        let row = |latency: [u8; 2], upstream: u8, stream: u8| {
            ("a\0\"b".to_owned(), 60, latency.to_vec(), vec![upstream], vec![stream])
        };
        assert_eq!(rows(&packed).unwrap(), [row([0, 1], 0, 8), row([2, 3], 5, 9)]);
        for length in 0..packed.len() {
            assert!(rows(&packed[..length]).is_err(), "{length}");
        }
        assert!(rows(&[&packed[..], b"x"].concat()).is_err());
    }

    proptest! {
        #[test]
        fn invalid_bytes_do_not_panic(numbers in "[0-9\\[\\]{},\"]{0,60}", tail in proptest::collection::vec(any::<u8>(), 0..30)) {
            let _ = each(&[numbers.as_bytes(), &tail].concat(), &mut |_, _, _: &StoredSum<'_>| Ok(()));
        }
    }
}
