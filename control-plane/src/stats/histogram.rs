//! Latency histograms as they are sent and stored: HdrHistogram, V2 serialization, two significant digits.
//!
//! Two digits limit the error of every percentile to 1 %, at a few hundred bytes each. Histograms are only ever merged,
//! never averaged. The encoding is read slot by slot directly into the sum: a report over a year merges thousands of
//! histograms, and an object for each would cost more than all other work. The input comes from the network, so it is
//! validated before anything is allocated or added.

/// Significant digits of every histogram.
const DIGITS: u32 = 2;
/// Slots per power of two (two digits need 200).
const SLOTS: usize = 256;
const HALF: usize = SLOTS / 2;
/// Slots that cover every 64-bit value.
const MAX_SLOTS: usize = (64 - 8 + 1) * HALF + HALF;
/// The cookie of V2, uncompressed, with a word size of 8.
const COOKIE: u32 = 0x1c84_9303 | 0x10;
/// Cookie, payload length, offset, digits, lowest, highest, ratio.
const HEADER: usize = 40;

/// Why bytes are not a valid histogram of this kind.
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
    /// One stored histogram, with nothing else added: most periods of a report are the sum of a single one. `counts` is
    /// empty in this case.
    alone: Option<Alone>,
}

/// The quantiles of [`Latencies::percentiles`].
const SHARES: [f64; 3] = [0.5, 0.9, 0.99];

/// A histogram as it is stored, with its precomputed values.
#[derive(Debug, Clone)]
struct Alone {
    bytes: Vec<u8>,
    len: u64,
    percentiles: [u64; 3],
}

impl Alone {
    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut sums: Vec<(usize, u64)> = Vec::with_capacity(bytes.len().saturating_sub(HEADER));
        let mut len = 0u64;
        let mut overflow = false;
        each(bytes, |slot, count| {
            let sum = len.checked_add(count);
            overflow |= sum.is_none();
            len = sum.unwrap_or(u64::MAX);
            sums.push((slot, len));
        })?;
        if overflow {
            return Err(Malformed::Payload);
        }
        let percentiles = ranks(len).map(|rank| {
            let place = sums.partition_point(|(_, sum)| *sum < rank);
            sums.get(place).map_or(0, |(slot, _)| upper_edge(*slot))
        });
        Ok(Self { bytes: bytes.to_vec(), len, percentiles })
    }
}

impl Latencies {
    /// Adds an encoded histogram; empty bytes are an empty histogram. A malformed histogram adds nothing.
    pub(crate) fn add_encoded(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        check(bytes)?;
        self.open();
        each(bytes, |slot, count| self.add_slot(slot, count))
    }

    /// Same as [`add_encoded`](Self::add_encoded), for stored bytes: they stay encoded until another histogram is
    /// added.
    ///
    /// # Errors
    /// The bytes are malformed. The part read before the error stays added, so the sum must not be used.
    pub(crate) fn add_stored(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.counts.is_empty() && self.alone.is_none() {
            self.alone = Some(Alone::read(bytes)?);
            return Ok(());
        }
        self.open();
        each(bytes, |slot, count| self.add_slot(slot, count))
    }

    /// Decodes a single stored histogram, before another one is added.
    fn open(&mut self) {
        if let Some(alone) = self.alone.take() {
            // It was validated when it was added.
            let _ = each(&alone.bytes, |slot, count| self.add_slot(slot, count));
        }
    }

    /// Adds another sum.
    pub(crate) fn add(&mut self, other: &Self) {
        self.open();
        for (i, count) in other.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.add_slot(other.first + i, *count);
        }
        if let Some(alone) = &other.alone {
            let _ = each(&alone.bytes, |slot, count| self.add_slot(slot, count));
        }
    }

    #[inline]
    fn add_slot(&mut self, slot: usize, count: u64) {
        if let Some(sum) = self.counts.get_mut(slot.wrapping_sub(self.first)) {
            *sum = sum.saturating_add(count);
        } else if count > 0 {
            self.grow(slot);
            self.add_slot(slot, count);
        }
    }

    /// Makes room for a slot and all other slots of its power of two: latencies lie close together.
    #[cold]
    fn grow(&mut self, slot: usize) {
        let from = slot - slot % HALF;
        if self.counts.is_empty() {
            self.first = from;
        } else if from < self.first {
            self.counts.splice(0..0, std::iter::repeat_n(0, self.first - from));
            self.first = from;
        }
        self.counts.resize(self.counts.len().max(from + HALF - self.first), 0);
    }

    /// The number of values.
    pub(crate) fn len(&self) -> u64 {
        if let Some(alone) = &self.alone {
            return alone.len;
        }
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The values that 50 %, 90 % and 99 % of all values do not exceed: the upper edges of their slots. All are 0 if
    /// the histogram is empty.
    pub(crate) fn percentiles(&self) -> [u64; 3] {
        if let Some(alone) = &self.alone {
            return alone.percentiles;
        }
        let ranks = ranks(self.len());
        let mut percentiles = [0; 3];
        let (mut found, mut sum) = (0, 0u64);
        for (i, count) in self.counts.iter().enumerate() {
            sum = sum.saturating_add(*count);
            while ranks.get(found).is_some_and(|rank| *rank <= sum) {
                percentiles[found] = upper_edge(self.first + i);
                found += 1;
            }
        }
        percentiles
    }

    /// Encodes the sum in the format that it is read from.
    pub(crate) fn encode(&self) -> Vec<u8> {
        if let Some(alone) = &self.alone {
            return alone.bytes.clone();
        }
        let mut payload = Vec::with_capacity(self.counts.len() + 8);
        let mut zeros = self.first as u64;
        for count in &self.counts {
            if *count == 0 {
                zeros += 1;
                continue;
            }
            if zeros > 0 {
                // A run of empty slots is encoded as its negative length.
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

/// The ranks of the percentiles among this many sorted values.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn ranks(len: u64) -> [u64; 3] {
    SHARES.map(|share| ((share * len as f64).ceil() as u64).clamp(1, len.max(1)))
}

/// Validates encoded bytes and returns the number of values that they count.
pub(crate) fn check(bytes: &[u8]) -> Result<u64, Malformed> {
    let mut total = 0u64;
    let mut overflow = false;
    each(bytes, |_, count| match total.checked_add(count) {
        Some(sum) => total = sum,
        None => overflow = true,
    })?;
    if overflow { Err(Malformed::Payload) } else { Ok(total) }
}

/// The greatest value of a slot.
fn upper_edge(slot: usize) -> u64 {
    if slot < SLOTS {
        return slot as u64;
    }
    let power = slot / HALF - 1;
    let lowest = ((slot % HALF + HALF) as u128) << power;
    u64::try_from(lowest + (1u128 << power) - 1).unwrap_or(u64::MAX)
}

/// Calls the closure for every slot that is not empty, and for some empty ones, in order.
#[inline]
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
    while let Some((&first, rest)) = payload.split_first() {
        // Nearly all numbers take one or two bytes.
        let number = match rest.split_first() {
            _ if first < 0x80 => {
                payload = rest;
                u64::from(first)
            }
            Some((&second, rest)) if second < 0x80 => {
                payload = rest;
                u64::from(first & 0x7f) | u64::from(second) << 7
            }
            _ => pull(&mut payload)?,
        };
        if slot >= MAX_SLOTS {
            return Err(Malformed::Payload);
        }
        // Runs of empty slots and counts alternate unpredictably: a branch would be mispredicted half of the time.
        let is_run = number & 1;
        take(slot, number / 2 * (1 - is_run));
        let run = usize::try_from(number / 2 * is_run).map_err(|_| Malformed::Payload)?;
        slot = slot.saturating_add(run).saturating_add(1);
    }
    if slot > MAX_SLOTS { Err(Malformed::Payload) } else { Ok(()) }
}

/// Writes a number with seven bits per byte; a ninth byte has eight.
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
        assert_eq!(Latencies::default().percentiles(), [0; 3]);
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
            prop_assert_eq!(sum.percentiles(), SHARES.map(|share| both.value_at_quantile(share)));
            // A single histogram and a merged one give the same results before and after storing.
            let mut stored = Latencies::default();
            stored.add_stored(&encoded(&reference(&two))).unwrap();
            let alone = reference(&two);
            prop_assert_eq!(stored.percentiles(), SHARES.map(|share| alone.value_at_quantile(share)));
            prop_assert_eq!((stored.len(), check(&stored.encode())), (alone.len(), Ok(alone.len())));
            let mut into = ours(&one);
            into.add(&stored);
            stored.add_stored(&encoded(&reference(&one))).unwrap();
            for joined in [&into, &stored] {
                prop_assert_eq!(joined.len(), both.len());
                prop_assert_eq!(joined.percentiles(), sum.percentiles());
                prop_assert_eq!(joined.encode(), sum.encode());
            }
            // Encoded and decoded in both ways.
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
