//! Latency histograms as they travel and are stored: HdrHistogram, V2 serialization, two significant digits.
//!
//! Two digits bound the error of every percentile to 1 %, at a few hundred bytes each. Histograms are only ever
//! merged; nothing here averages. The encoding is read slot by slot straight into the sum: a report over a year
//! merges thousands, and a histogram object for each would cost more than all the rest. What is read comes from the
//! network, so nothing is allocated or added before it was checked.

/// Significant digits of every histogram.
const DIGITS: u32 = 2;
/// Values of one power of two are told apart by so many slots (two digits ask for 200).
const SLOTS: usize = 256;
const HALF: usize = SLOTS / 2;
/// Slots that cover every 64-bit value.
const MAX_SLOTS: usize = (64 - 8 + 1) * HALF + HALF;
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

/// Merged latencies, in microseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latencies {
    /// The slot of the first count.
    first: usize,
    counts: Vec<u64>,
    /// One stored histogram to which nothing was added, as it is stored: most periods of a report are the sum of one, and
    /// are told from its bytes. Then there are no counts.
    alone: Vec<u8>,
    /// How many values it counts.
    alone_len: u64,
}

impl Latencies {
    /// Adds an encoded histogram; empty bytes are an empty one. Nothing is added when it is malformed.
    pub(crate) fn add_encoded(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        check(bytes)?;
        self.open();
        each(bytes, |slot, count| self.add_slot(slot, count))
    }

    /// As [`add_encoded`](Self::add_encoded), of what is stored: it stays as it is until something is added to it.
    pub(crate) fn add_stored(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if bytes.is_empty() {
            return Ok(());
        }
        if !self.counts.is_empty() || !self.alone.is_empty() {
            return self.add_encoded(bytes);
        }
        self.alone_len = check(bytes)?;
        self.alone = bytes.to_vec();
        Ok(())
    }

    /// What was alone is so no more.
    fn open(&mut self) {
        if !self.alone.is_empty() {
            let bytes = std::mem::take(&mut self.alone);
            // It was checked when it came.
            let _ = each(&bytes, |slot, count| self.add_slot(slot, count));
        }
    }

    /// Adds another sum.
    pub(crate) fn add(&mut self, other: &Self) {
        self.open();
        for (i, count) in other.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.add_slot(other.first + i, *count);
        }
        let _ = each(&other.alone, |slot, count| self.add_slot(slot, count));
    }

    fn add_slot(&mut self, slot: usize, count: u64) {
        if self.counts.is_empty() {
            self.first = slot;
        } else if slot < self.first {
            let missing = self.first - slot;
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = slot;
        }
        let place = slot - self.first;
        if place >= self.counts.len() {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] = self.counts[place].saturating_add(count);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        if !self.alone.is_empty() {
            return self.alone_len;
        }
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The values that these shares of all (ascending, within 0 to 1) do not exceed: the upper edges of their slots;
    /// 0 when there are none.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(crate) fn quantiles<const N: usize>(&self, shares: [f64; N]) -> [u64; N] {
        let total = self.len();
        let ranks = shares.map(|share| ((share * total as f64).ceil() as u64).clamp(1, total.max(1)));
        let mut ranked = Ranked { ranks, found: [0; N], at: 0, sum: 0 };
        if self.alone.is_empty() {
            for (i, count) in self.counts.iter().enumerate() {
                ranked.count(self.first + i, *count);
            }
        } else {
            let _ = each(&self.alone, |slot, count| ranked.count(slot, count));
        }
        ranked.found
    }

    /// Writes it in the form in which it is read.
    pub(crate) fn encode(&self) -> Vec<u8> {
        if !self.alone.is_empty() {
            return self.alone.clone();
        }
        let mut payload = Vec::with_capacity(self.counts.len() + 8);
        let mut zeros = self.first as u64;
        for count in &self.counts {
            if *count == 0 {
                zeros += 1;
                continue;
            }
            if zeros > 0 {
                // A run of empty slots is its length, negative.
                push(&mut payload, zeros * 2 - 1);
                zeros = 0;
            }
            push(&mut payload, count.min(&(1 << 61)) * 2);
        }
        let highest = upper_edge((self.first + self.counts.len()).max(SLOTS));
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        bytes.extend(COOKIE.to_be_bytes());
        bytes.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(0u32.to_be_bytes());
        bytes.extend(DIGITS.to_be_bytes());
        bytes.extend(1u64.to_be_bytes());
        bytes.extend(highest.to_be_bytes());
        bytes.extend(1f64.to_be_bytes());
        bytes.extend(payload);
        bytes
    }
}

/// Values by their ranks, found while slots are counted in order.
struct Ranked<const N: usize> {
    /// Ascending.
    ranks: [u64; N],
    found: [u64; N],
    /// How many were found.
    at: usize,
    /// Values so far.
    sum: u64,
}

impl<const N: usize> Ranked<N> {
    fn count(&mut self, slot: usize, count: u64) {
        self.sum = self.sum.saturating_add(count);
        while self.at < N && self.ranks[self.at] <= self.sum {
            self.found[self.at] = upper_edge(slot);
            self.at += 1;
        }
    }
}

/// Checks encoded bytes and answers how many values they count.
pub(crate) fn check(bytes: &[u8]) -> Result<u64, Malformed> {
    let mut total = 0u64;
    let mut overflow = false;
    each(bytes, |_, count| match total.checked_add(count) {
        Some(sum) => total = sum,
        None => overflow = true,
    })?;
    if overflow { Err(Malformed::Payload) } else { Ok(total) }
}

/// The greatest value that falls into a slot.
fn upper_edge(slot: usize) -> u64 {
    if slot < SLOTS {
        return slot as u64;
    }
    let power = slot / HALF - 1;
    let lowest = ((slot % HALF + HALF) as u128) << power;
    u64::try_from(lowest + (1u128 << power) - 1).unwrap_or(u64::MAX)
}

/// Calls with each slot that is not empty, in order.
fn each(bytes: &[u8], mut take: impl FnMut(usize, u64)) -> Result<(), Malformed> {
    if bytes.is_empty() {
        return Ok(());
    }
    let word = |at: usize| {
        let word = bytes.get(at..at + 4).and_then(|slice| slice.try_into().ok());
        word.map(u32::from_be_bytes).ok_or(Malformed::Cookie)
    };
    if word(0)? != COOKIE || bytes.len() < HEADER || word(8)? != 0 || word(16)? != 0 || word(20)? != 1 {
        return Err(Malformed::Cookie);
    }
    if word(4)? as usize != bytes.len() - HEADER {
        return Err(Malformed::Length);
    }
    if word(12)? != DIGITS {
        return Err(Malformed::Digits(word(12)?));
    }
    let mut payload = &bytes[HEADER..];
    let mut slot = 0usize;
    while !payload.is_empty() {
        let number = pull(&mut payload)?;
        if number % 2 == 1 {
            let zeros = usize::try_from(number / 2).map_err(|_| Malformed::Payload)?;
            slot = slot.saturating_add(zeros).saturating_add(1);
        } else {
            if slot >= MAX_SLOTS {
                return Err(Malformed::Payload);
            }
            if number > 0 {
                take(slot, number / 2);
            }
            slot += 1;
        }
    }
    if slot > MAX_SLOTS { Err(Malformed::Payload) } else { Ok(()) }
}

/// Writes a number, seven bits a byte; a ninth byte has eight.
fn push(bytes: &mut Vec<u8>, mut number: u64) {
    for _ in 0..8 {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
    bytes.push((number & 0xff) as u8);
}

fn pull(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0u64;
    for i in 0..9 {
        let (&byte, rest) = bytes.split_first().ok_or(Malformed::Payload)?;
        *bytes = rest;
        if i == 8 {
            return Ok(number | u64::from(byte) << 56);
        }
        number |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use hdrhistogram::{
        Histogram,
        serialization::{Deserializer, Serializer as _, V2Serializer},
    };
    use proptest::prelude::*;

    use super::*;

    fn reference(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new(2).unwrap();
        values.iter().for_each(|value| histogram.record(*value).unwrap());
        histogram
    }

    fn encoded(histogram: &Histogram<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(histogram, &mut bytes).unwrap();
        bytes
    }

    fn ours(values: &[u64]) -> Latencies {
        let mut latencies = Latencies::default();
        latencies.add_encoded(&encoded(&reference(values))).unwrap();
        latencies
    }

    #[test]
    fn a_length_that_lies_is_refused() {
        let mut bytes = encoded(&reference(&[1]));
        bytes[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(check(&bytes), Err(Malformed::Length));
    }

    #[test]
    fn other_precision_is_refused() {
        assert_eq!(check(&encoded(&Histogram::<u64>::new(5).unwrap())), Err(Malformed::Digits(5)));
    }

    #[test]
    fn no_values_have_no_percentiles() {
        assert_eq!(Latencies::default().quantiles([0.5, 0.99]), [0, 0]);
    }

    proptest! {
        #[test]
        fn it_says_what_the_reference_says(
            one in proptest::collection::vec(0u64..1 << 41, 0..300),
            two in proptest::collection::vec(0u64..5_000, 1..300),
        ) {
            let mut both = reference(&one);
            both.add(reference(&two)).unwrap();
            let mut sum = ours(&one);
            sum.add(&ours(&two));
            prop_assert_eq!(sum.len(), both.len());
            let shares = [0.25, 0.5, 0.9, 0.99, 1.0];
            prop_assert_eq!(sum.quantiles(shares), shares.map(|share| both.value_at_quantile(share)));
            // One alone, and one that is joined, say the same as read and stored.
            let mut stored = Latencies::default();
            stored.add_stored(&encoded(&reference(&two))).unwrap();
            let alone = reference(&two);
            prop_assert_eq!(stored.quantiles(shares), shares.map(|share| alone.value_at_quantile(share)));
            prop_assert_eq!((stored.len(), check(&stored.encode())), (alone.len(), Ok(alone.len())));
            let mut into = ours(&one);
            into.add(&stored);
            stored.add_stored(&encoded(&reference(&one))).unwrap();
            for joined in [&into, &stored] {
                prop_assert_eq!(joined.len(), both.len());
                prop_assert_eq!(joined.quantiles(shares), sum.quantiles(shares));
                prop_assert_eq!(joined.encode(), sum.encode());
            }
            // Both ways over the wire.
            prop_assert_eq!(check(&sum.encode()), Ok(both.len()));
            let back: Histogram<u64> = Deserializer::new().deserialize(&mut &sum.encode()[..]).unwrap();
            let slots = |histogram: &Histogram<u64>| -> Vec<(u64, u64)> {
                let recorded = histogram.iter_recorded();
                recorded.map(|slot| (slot.value_iterated_to(), slot.count_at_value())).collect()
            };
            prop_assert_eq!(slots(&back), slots(&both));
        }

        #[test]
        fn no_bytes_make_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..200), whole: bool) {
            let mut bytes = Latencies::default().encode();
            if whole {
                bytes = tail;
            } else {
                bytes[4..8].copy_from_slice(&u32::try_from(tail.len()).unwrap().to_be_bytes());
                bytes.extend(tail);
            }
            let mut sum = Latencies::default();
            if sum.add_encoded(&bytes).is_ok() {
                prop_assert!(sum.counts.len() <= MAX_SLOTS);
            }
        }
    }
}
