//! Framing of bodies (RFC 9112 section 6), and a decoder for every framing.

use super::chunked::{ChunkError, Decoder, Step};

/// Framing of a request's body (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// No body.
    None,
    /// Content-Length, in bytes.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
}

impl BodyFraming {
    /// Whether no bytes of a body follow the head.
    #[inline]
    pub fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

/// Framing of a response's body (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// No body.
    None,
    /// Content-Length, in bytes.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
    /// The body ends with the connection.
    UntilClose,
}

impl ResponseFraming {
    /// Whether no bytes of a body follow the head.
    #[inline]
    pub fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

/// The connection ended before the body did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection closed before the end of the body")]
pub struct Truncated;

/// Reads one body from a connection's bytes.
#[derive(Debug)]
pub enum BodyDecoder {
    /// No body.
    None,
    /// Number of bytes that are still to come.
    Length(u64),
    /// The chunked transfer coding.
    Chunked(Decoder),
    /// The body ends with the connection.
    UntilClose,
}

impl BodyDecoder {
    /// Splits the next part of the body off `input`. After the end, every call returns [`Step::Done`] and consumes
    /// nothing.
    ///
    /// # Errors
    /// A chunked body is malformed.
    #[inline]
    pub fn decode(&mut self, input: &[u8]) -> Result<Step, ChunkError> {
        Ok(match self {
            Self::None | Self::Length(0) => Step::Done { consumed: 0 },
            Self::Chunked(decoder) => return decoder.decode(input),
            _ if input.is_empty() => Step::NeedMore { consumed: 0 },
            Self::Length(remaining) => {
                let end = usize::try_from(*remaining).unwrap_or(usize::MAX).min(input.len());
                *remaining -= end as u64;
                Step::Data { start: 0, end, consumed: end }
            }
            Self::UntilClose => Step::Data { start: 0, end: input.len(), consumed: input.len() },
        })
    }

    /// Checks that the body may end with the connection.
    ///
    /// # Errors
    /// The body has not ended.
    pub fn on_eof(&self) -> Result<(), Truncated> {
        if self.is_done() || matches!(self, Self::UntilClose) { Ok(()) } else { Err(Truncated) }
    }

    /// Whether the body has ended by its framing; never true for a body that ends with the connection.
    #[inline]
    pub fn is_done(&self) -> bool {
        match self {
            Self::None => true,
            Self::Length(remaining) => *remaining == 0,
            Self::Chunked(decoder) => decoder.is_done(),
            Self::UntilClose => false,
        }
    }

    /// The trailers of a chunked body that has ended, as lines `Name: value\r\n`.
    pub fn trailers(&self) -> &[u8] {
        match self {
            Self::Chunked(decoder) => decoder.trailers(),
            _ => &[],
        }
    }
}

impl From<BodyFraming> for BodyDecoder {
    fn from(framing: BodyFraming) -> Self {
        match framing {
            BodyFraming::None => Self::None,
            BodyFraming::Length(length) => Self::Length(length),
            BodyFraming::Chunked => Self::Chunked(Decoder::new()),
        }
    }
}

impl From<ResponseFraming> for BodyDecoder {
    fn from(framing: ResponseFraming) -> Self {
        match framing {
            ResponseFraming::None => Self::None,
            ResponseFraming::Length(length) => Self::Length(length),
            ResponseFraming::Chunked => Self::Chunked(Decoder::new()),
            ResponseFraming::UntilClose => Self::UntilClose,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_ends_the_body_and_leaves_what_follows() {
        let mut body = BodyDecoder::from(BodyFraming::Length(5));
        assert_eq!(body.decode(b"ab"), Ok(Step::Data { start: 0, end: 2, consumed: 2 }));
        assert_eq!(body.on_eof(), Err(Truncated));
        assert_eq!(body.decode(b""), Ok(Step::NeedMore { consumed: 0 }));
        assert_eq!(body.decode(b"cdeGET /"), Ok(Step::Data { start: 0, end: 3, consumed: 3 }));
        assert!(body.is_done());
        assert_eq!(body.decode(b"GET /"), Ok(Step::Done { consumed: 0 }));
        assert_eq!(body.on_eof(), Ok(()));
    }

    #[test]
    fn only_the_end_of_the_connection_ends_a_close_delimited_body() {
        let mut body = BodyDecoder::from(ResponseFraming::UntilClose);
        assert_eq!(body.decode(b"ab"), Ok(Step::Data { start: 0, end: 2, consumed: 2 }));
        assert!(!body.is_done());
        assert_eq!(body.on_eof(), Ok(()));
    }

    #[test]
    fn a_chunked_body_cut_anywhere_is_truncated() {
        let whole = b"3\r\nabc\r\n0\r\n\r\n";
        for cut in 0..whole.len() {
            let mut body = BodyDecoder::from(BodyFraming::Chunked);
            let mut rest = &whole[..cut];
            loop {
                match body.decode(rest) {
                    Ok(Step::Data { consumed, .. }) => rest = &rest[consumed..],
                    Ok(Step::NeedMore { consumed }) => {
                        assert_eq!(consumed, rest.len());
                        break;
                    }
                    other => panic!("cut at {cut}: {other:?}"),
                }
            }
            assert_eq!(body.on_eof(), Err(Truncated), "cut at {cut}");
        }
    }
}
