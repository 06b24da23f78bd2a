//! Latency histograms as they travel and are stored: HdrHistogram, V2 serialization, two significant digits.
//!
//! Two digits bound the error of every percentile to 1 %, at a few hundred bytes each. Histograms are only ever
//! merged; nothing here averages.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2Serializer};

/// Significant digits of every histogram.
const DIGITS: u8 = 2;
/// The cookie of V2, uncompressed, with a word size of 8.
const COOKIE: u32 = 0x1c84_9303 | 0x10;
/// Cookie, payload length, offset, digits, lowest, highest, ratio.
const HEADER: usize = 40;

/// Why bytes are not a histogram of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("not an HdrHistogram in V2 serialization")]
    Cookie,
    #[error("{0} significant digits, not {DIGITS}")]
    Digits(u32),
    #[error("the payload's length is wrong")]
    Length,
    #[error("the payload is malformed")]
    Payload,
}

/// An empty histogram that grows as needed.
pub(crate) fn empty() -> Histogram<u64> {
    Histogram::new(DIGITS).unwrap_or_else(|_| unreachable!("two significant digits are valid"))
}

/// Reads a histogram. The header is checked before the decoder sees it, because the decoder allocates what the
/// header asks for.
pub(crate) fn decode(bytes: &[u8]) -> Result<Histogram<u64>, Malformed> {
    let word = |at: usize| {
        bytes
            .get(at..at + 4)
            .and_then(|slice| slice.try_into().ok())
            .map(u32::from_be_bytes)
            .ok_or(Malformed::Cookie)
    };
    if word(0)? != COOKIE || bytes.len() < HEADER {
        return Err(Malformed::Cookie);
    }
    if word(4)? as usize != bytes.len() - HEADER {
        return Err(Malformed::Length);
    }
    if word(12)? != u32::from(DIGITS) {
        return Err(Malformed::Digits(word(12)?));
    }
    // The decoder negates and adds numbers of the payload unchecked, which panics in builds with overflow checks.
    std::panic::catch_unwind(|| Deserializer::new().deserialize::<u64, _>(&mut &*bytes))
        .map_err(|_| Malformed::Payload)?
        .map_err(|_| Malformed::Payload)
}

/// Writes a histogram.
pub(crate) fn encode(histogram: &Histogram<u64>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    match V2Serializer::new().serialize(histogram, &mut bytes) {
        Ok(_) => bytes,
        // Writing to memory fails only for a count beyond i64, which the checks on rows exclude.
        Err(_) => Vec::new(),
    }
}

/// Adds `other` to `sum`.
pub(crate) fn merge(sum: &mut Histogram<u64>, other: &Histogram<u64>) {
    // Fails only where `sum` may not grow, and all sums come from `empty`.
    let _ = sum.add(other);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_histogram_survives_the_wire() {
        let mut histogram = empty();
        for value in [0, 1, 77, 1_000, 5_000_000] {
            histogram.record(value).unwrap();
        }
        assert_eq!(decode(&encode(&histogram)).unwrap(), histogram);
    }

    #[test]
    fn a_length_that_lies_is_refused_before_anything_is_allocated() {
        let mut bytes = encode(&empty());
        bytes[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(decode(&bytes), Err(Malformed::Length));
    }

    #[test]
    fn other_precision_is_refused() {
        let histogram = Histogram::<u64>::new(5).unwrap();
        assert_eq!(decode(&encode(&histogram)), Err(Malformed::Digits(5)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..200), whole: bool) {
            let mut bytes = encode(&empty());
            if whole {
                bytes = tail;
            } else {
                bytes.truncate(HEADER);
                bytes[4..8].copy_from_slice(&u32::try_from(tail.len()).unwrap().to_be_bytes());
                bytes.extend(tail);
            }
            let _ = decode(&bytes);
        }
    }
}
