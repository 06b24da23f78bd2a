//! The chunked transfer coding (RFC 9112 section 7.1): a strict decoder that takes its input in any pieces, and the
//! few bytes that encoding needs.
//!
//! Servers disagree most easily about chunk lines, so the decoder tolerates nothing: hexadecimal digits without blanks,
//! only CRLF as line end, well-formed extensions (dropped, because they belong to one hop), trailers checked as fields.

use super::{
    field_kind::{FieldKind, kind_of},
    is_tchar, is_value_byte, trim_ows,
};

/// Bytes of extensions in one chunk line, and how much larger than the data all of them together may be.
const MAX_EXTENSION: u32 = 4 * 1024;
const MAX_EXTENSIONS_OVER_DATA: u64 = 16 * 1024;
/// Bytes of all trailer lines, including those that are dropped.
pub const MAX_TRAILERS: usize = 16 * 1024;
/// Digits of the largest 64-bit size.
const MAX_DIGITS: u8 = 16;

/// A chunked body is malformed; the text says how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed chunked body: {0}")]
pub struct ChunkError(pub &'static str);

/// Result of a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The input had only framing and is used up.
    NeedMore {
        /// The length of the input.
        consumed: usize,
    },
    /// `start..end` of the input is data of the body.
    Data {
        /// First byte of the data.
        start: usize,
        /// End of the data.
        end: usize,
        /// The next call takes the input from here.
        consumed: usize,
    },
    /// The body and its trailers have ended.
    Done {
        /// The next message starts here.
        consumed: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    ExtensionStart,
    ExtensionName,
    ExtensionNameEnd,
    ExtensionValueStart,
    ExtensionToken,
    ExtensionQuoted,
    ExtensionEscape,
    ExtensionValueEnd,
    ExtensionEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailer,
    TrailerLf,
    Done,
}

/// Decodes one chunked body.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    digits: u8,
    /// Bytes of the current chunk that are still to come.
    remaining: u64,
    /// Bytes of extensions in this line, and over the whole body together with its data.
    extension: u32,
    extensions: u64,
    data: u64,
    /// Accepted trailer lines, followed (from `line`) by the incomplete one.
    trailers: Vec<u8>,
    line: usize,
    trailer_bytes: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder at the start of a body.
    pub const fn new() -> Self {
        Self {
            state: State::Size,
            digits: 0,
            remaining: 0,
            extension: 0,
            extensions: 0,
            data: 0,
            trailers: Vec::new(),
            line: 0,
            trailer_bytes: 0,
        }
    }

    /// Splits the next part off `input`, which continues at the last call's `consumed`. After an error the decoder must
    /// not be used again.
    ///
    /// # Errors
    /// The input is malformed or exceeds a limit.
    pub fn decode(&mut self, input: &[u8]) -> Result<Step, ChunkError> {
        let mut at = 0;
        loop {
            if self.state == State::Done {
                return Ok(Step::Done { consumed: at });
            }
            if at == input.len() {
                return Ok(Step::NeedMore { consumed: at });
            }
            if self.state == State::Data {
                let take = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(input.len() - at);
                let end = at + take;
                self.remaining -= take as u64;
                self.data = self.data.saturating_add(take as u64);
                let mut consumed = end;
                if self.remaining == 0 {
                    self.state = State::DataCr;
                    // Usually the line end has arrived too, which saves the caller a call.
                    if input[end..].starts_with(b"\r\n") {
                        consumed += 2;
                        self.next_size();
                    }
                }
                return Ok(Step::Data { start: at, end, consumed });
            }
            self.framing(input[at])?;
            at += 1;
        }
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailers, once the body has ended: lines `Name: value\r\n`, without fields that must not be trailers.
    pub fn trailers(&self) -> &[u8] {
        if self.is_done() { &self.trailers } else { &[] }
    }

    fn next_size(&mut self) {
        self.state = State::Size;
        self.digits = 0;
        self.extension = 0;
    }

    fn framing(&mut self, byte: u8) -> Result<(), ChunkError> {
        if matches!(
            self.state,
            State::ExtensionStart
                | State::ExtensionName
                | State::ExtensionNameEnd
                | State::ExtensionValueStart
                | State::ExtensionToken
                | State::ExtensionQuoted
                | State::ExtensionEscape
                | State::ExtensionValueEnd
                | State::ExtensionEnd
        ) {
            self.extension += 1;
            self.extensions += 1;
            if self.extension > MAX_EXTENSION || self.extensions > MAX_EXTENSIONS_OVER_DATA + self.data {
                return Err(ChunkError("chunk extensions too large"));
            }
        }
        self.state = match (self.state, byte) {
            (State::Size, _) if byte.is_ascii_hexdigit() => {
                if self.digits == MAX_DIGITS {
                    return Err(ChunkError("chunk size too long"));
                }
                let digit = match byte {
                    b'0'..=b'9' => byte - b'0',
                    _ => (byte | 0x20) - b'a' + 10,
                };
                self.remaining = if self.digits == 0 { 0 } else { self.remaining << 4 } | u64::from(digit);
                self.digits += 1;
                // Peers count with 64 bits at most, and one that overflows would read a different body.
                if self.remaining > i64::MAX as u64 {
                    return Err(ChunkError("chunk size too large"));
                }
                State::Size
            }
            (State::Size, b'\r') if self.digits > 0 => State::SizeLf,
            (State::Size, b';') if self.digits > 0 => State::ExtensionStart,
            (State::Size, _) => return Err(ChunkError("invalid chunk size")),

            (State::ExtensionStart, b' ' | b'\t') => State::ExtensionStart,
            (State::ExtensionStart | State::ExtensionName, _) if is_tchar(byte) => State::ExtensionName,
            (State::ExtensionName | State::ExtensionNameEnd, b'=') => State::ExtensionValueStart,
            (State::ExtensionName | State::ExtensionNameEnd, b' ' | b'\t') => State::ExtensionNameEnd,
            (State::ExtensionName | State::ExtensionNameEnd, b';') => State::ExtensionStart,
            (State::ExtensionName, b'\r') => State::SizeLf,
            (State::ExtensionValueStart, b' ' | b'\t') => State::ExtensionValueStart,
            (State::ExtensionValueStart, b'"') => State::ExtensionQuoted,
            (State::ExtensionValueStart | State::ExtensionToken, _) if is_tchar(byte) => {
                State::ExtensionToken
            }
            (State::ExtensionQuoted, b'"') => State::ExtensionValueEnd,
            (State::ExtensionQuoted, b'\\') => State::ExtensionEscape,
            (State::ExtensionQuoted | State::ExtensionEscape, _) if is_value_byte(byte) => {
                State::ExtensionQuoted
            }
            (State::ExtensionToken | State::ExtensionValueEnd | State::ExtensionEnd, b';') => {
                State::ExtensionStart
            }
            (State::ExtensionToken | State::ExtensionValueEnd, b'\r') => State::SizeLf,
            (State::ExtensionToken | State::ExtensionValueEnd | State::ExtensionEnd, b' ' | b'\t') => {
                State::ExtensionEnd
            }

            (State::SizeLf, b'\n') if self.remaining == 0 => State::Trailer,
            (State::SizeLf, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.next_size();
                State::Size
            }
            (State::SizeLf | State::DataCr | State::DataLf, _) => return Err(ChunkError("line end missing")),

            (State::Trailer, b'\r') => State::TrailerLf,
            (State::Trailer, _) => {
                self.trailer_bytes += 1;
                if self.trailer_bytes > MAX_TRAILERS {
                    return Err(ChunkError("trailers too large"));
                }
                if !is_value_byte(byte) {
                    return Err(ChunkError("invalid byte in a trailer"));
                }
                self.trailers.push(byte);
                State::Trailer
            }
            (State::TrailerLf, b'\n') => self.end_trailer()?,
            (State::TrailerLf, _) => return Err(ChunkError("line end missing")),
            _ => return Err(ChunkError("invalid chunk extension")),
        };
        Ok(())
    }

    /// Checks the line that has just ended, and keeps it in its canonical form or drops it.
    fn end_trailer(&mut self) -> Result<State, ChunkError> {
        if self.trailers.len() == self.line {
            return Ok(State::Done);
        }
        let line = self.trailers.split_off(self.line);
        let colon = memchr::memchr(b':', &line).ok_or(ChunkError("trailer without a colon"))?;
        let (name, value) = (&line[..colon], trim_ows(&line[colon + 1..]));
        if name.is_empty() || !name.iter().copied().all(is_tchar) {
            return Err(ChunkError("invalid trailer name"));
        }
        if is_trailer(name) {
            self.trailers.extend_from_slice(name);
            self.trailers.extend_from_slice(b": ");
            self.trailers.extend_from_slice(value);
            self.trailers.extend_from_slice(b"\r\n");
        }
        self.line = self.trailers.len();
        Ok(State::Trailer)
    }
}

/// Whether a field may be a trailer: not when it frames, routes, modifies or authenticates the message, or describes
/// its content (RFC 9110 section 6.5.1).
pub(crate) fn is_trailer(name: &[u8]) -> bool {
    const FORBIDDEN: [&[u8]; 13] = [
        b"age",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"expires",
        b"location",
        b"pragma",
        b"range",
        b"retry-after",
        b"vary",
        b"warning",
        b"www-authenticate",
    ];
    kind_of(name) == FieldKind::Other
        && !FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden))
}

/// Appends the line that starts a chunk of `length` bytes; the data and CRLF follow it. `length` is never 0, which
/// would end the body.
pub fn push_chunk_head(out: &mut Vec<u8>, length: usize) {
    debug_assert!(length > 0, "an empty chunk ends the body");
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut shift = (usize::BITS - length.leading_zeros()).div_ceil(4) * 4;
    while shift > 0 {
        shift -= 4;
        out.push(DIGITS[(length >> shift) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the last chunk with `trailers`, lines as [`Decoder::trailers`] gives them.
pub fn push_last_chunk(out: &mut Vec<u8>, trailers: &[u8]) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Decoded = (Vec<u8>, Vec<u8>, usize);

    /// Body, trailers and bytes used, with the input arriving in pieces cut at `cuts`.
    fn decode(input: &[u8], cuts: &[usize]) -> Result<Option<Decoded>, ChunkError> {
        let mut decoder = Decoder::new();
        let (mut body, mut used) = (Vec::new(), 0);
        for end in cuts.iter().copied().chain([input.len()]) {
            loop {
                let piece = &input[used..end];
                match decoder.decode(piece)? {
                    Step::NeedMore { consumed } => {
                        assert_eq!(consumed, piece.len());
                        used += consumed;
                        break;
                    }
                    Step::Data { start, end, consumed } => {
                        assert!(start < end && end <= consumed && consumed <= piece.len());
                        body.extend_from_slice(&piece[start..end]);
                        used += consumed;
                    }
                    Step::Done { consumed } => {
                        return Ok(Some((body, decoder.trailers().to_vec(), used + consumed)));
                    }
                }
            }
        }
        Ok(None)
    }

    #[test]
    fn well_formed_bodies_decode_at_every_split() {
        let cases: &[(&str, &str, &str)] = &[
            ("0\r\n\r\n", "", ""),
            ("000\r\n\r\n", "", ""),
            ("3\r\nabc\r\n0\r\n\r\n", "abc", ""),
            ("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789", ""),
            ("0000000000000003\r\nabc\r\n0\r\n\r\n", "abc", ""),
            ("3;a\r\nabc\r\n0;b=c\r\n\r\n", "abc", ""),
            ("3;a=\"x\\\"; \\\\y\";b\r\nabc\r\n0\r\n\r\n", "abc", ""),
            ("3; a = b ; c\r\nabc\r\n0\r\n\r\n", "abc", ""),
            ("3\r\n\r\n\r\r\n0\r\n\r\n", "\r\n\r", ""),
            ("0\r\nX-Sum: 1\r\ny:\t2 \r\n\r\n", "", "X-Sum: 1\r\ny: 2\r\n"),
            ("0\r\nContent-Length: 1\r\nhost: a\r\nTransfer-Encoding: x\r\nE:\r\n\r\n", "", "E: \r\n"),
        ];
        for (input, body, trailers) in cases {
            let followed = format!("{input}GET / HTTP/1.1\r\n");
            let want = Ok(Some((body.as_bytes().to_vec(), trailers.as_bytes().to_vec(), input.len())));
            assert_eq!(decode(followed.as_bytes(), &[]), want, "{input:?}");
            for cut in 0..input.len() {
                assert_eq!(decode(followed.as_bytes(), &[cut]), want, "{input:?} cut at {cut}");
                assert_eq!(decode(&input.as_bytes()[..cut], &[]), Ok(None), "{input:?} ends at {cut}");
            }
            let all: Vec<usize> = (0..followed.len()).collect();
            assert_eq!(decode(followed.as_bytes(), &all), want, "{input:?} byte by byte");
        }
    }

    #[test]
    fn whatever_could_be_read_in_two_ways_is_refused() {
        let long_extension = format!("1;{}\r\na\r\n0\r\n\r\n", "a".repeat(5000));
        let long_trailer = format!("0\r\na: {}\r\n\r\n", "b".repeat(17_000));
        let many_extensions = format!("{}0\r\n\r\n", format!("1;{}\r\na\r\n", "a".repeat(1000)).repeat(30));
        for input in [
            // RFC 9112 7.1: 1*HEXDIG and CRLF, nothing else.
            "\r\n",
            "\n",
            " 3\r\nabc\r\n",
            "\t3\r\n",
            "3 \r\nabc\r\n",
            "3\t\r\n",
            "3\nabc\r\n0\r\n\r\n",
            "3\rabc",
            "+3\r\n",
            "-3\r\n",
            "0x3\r\nabc\r\n",
            "x\r\n",
            "3_0\r\n",
            "3,\r\n",
            "g\r\n",
            "\x003\r\n",
            ";a\r\n",
            "3\0\r\n",
            "00000000000000003\r\n",
            "ffffffffffffffff\r\n",
            "8000000000000000\r\n",
            "10000000000000003\r\n",
            // Data ends with CRLF where its size says.
            "3\r\nabcd\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "3\r\nabc\r0\r\n\r\n",
            "3\r\nabc0\r\n\r\n",
            "3\r\nabc\r\n\r\n",
            // 7.1.1: extensions.
            "3;\r\n",
            "3;\n",
            "3;a\n",
            "3;=b\r\n",
            "3;a=\r\n",
            "3;a=\"b\r\n",
            "3;a=\"b\n\"\r\n",
            "3;a=b\"c\"\r\n",
            "3 ;a\r\n",
            "3;a b\r\n",
            "3;a\0\r\n",
            "3;a=\"\\\r\n\"",
            "3;a \r\n",
            "3;a\rb",
            "3;;a\r\n",
            "3;a=b =c\r\n",
            "3;a=b c\r\n",
            "3;a=b \r\n",
            &long_extension,
            &many_extensions,
            // 7.1.2: trailers are fields.
            "0\r\n\n",
            "0\r\nA: b\n\r\n",
            "0\r\n A: b\r\n\r\n",
            "0\r\nA : b\r\n\r\n",
            "0\r\nA\r\n\r\n",
            "0\r\n: b\r\n\r\n",
            "0\r\nA: b\r\n c\r\n\r\n",
            "0\r\nA: \0\r\n\r\n",
            "0\r\nA: b\rc\r\n\r\n",
            "0\r\nA: b\r\n\rx",
            "0\r\nA\u{e9}: b\r\n\r\n",
            &long_trailer,
        ] {
            assert!(decode(input.as_bytes(), &[]).is_err(), "{input:?}");
            let all: Vec<usize> = (0..input.len()).collect();
            assert!(decode(input.as_bytes(), &all).is_err(), "{input:?} byte by byte");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_the_same_at_any_split(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..8),
            mut cuts in proptest::collection::vec(0_usize..3000, 0..6),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                push_chunk_head(&mut wire, chunk.len());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            push_last_chunk(&mut wire, b"A: b\r\n");
            let length = wire.len();
            wire.extend_from_slice(b"next");
            cuts.retain(|cut| *cut < length);
            cuts.sort_unstable();
            prop_assert_eq!(decode(&wire, &cuts), Ok(Some((chunks.concat(), b"A: b\r\n".to_vec(), length))));
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_splits_change_nothing(
            bytes in proptest::collection::vec(prop_oneof![
                any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'3'), Just(b';'), Just(b'"'), Just(b':'),
            ], 0..60),
            cut in 0_usize..60,
        ) {
            let whole = decode(&bytes, &[]);
            prop_assert_eq!(whole, decode(&bytes, &[cut.min(bytes.len())]));
        }
    }
}
