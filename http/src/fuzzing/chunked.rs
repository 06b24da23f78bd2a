//! Chunked bodies and their trailers: the same in however many pieces they arrive.

use super::{
    show,
    witness::{self, Line},
};
use crate::{
    ChunkError, Decoder, Step, push_chunk_head, push_last_chunk,
    translate::{push_trailers, read_trailers},
};

/// The result of a decoder.
#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    data: Vec<u8>,
    trailers: Vec<u8>,
    /// Bytes used, where the body has ended.
    ended: Option<usize>,
}

/// Fields that must not be trailers (RFC 9110 section 6.5.1): framing, routing, the hop's own, and description of
/// content.
const NEVER: [&str; 17] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "host",
    "keep-alive",
    "proxy-authorization",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-real-ip",
];

pub(super) fn body(input: &[u8]) {
    let whole = decode(input, usize::MAX);
    for piece in [1, 2, 3, 7, 64] {
        assert_eq!(decode(input, piece), whole, "in pieces of {piece}");
    }
    let Ok(decoded) = whole else { return };
    match decoded.ended {
        None => assert!(
            decoded.trailers.is_empty() && witness::chunked(input).is_none(),
            "waits for more of a whole body"
        ),
        Some(used) => {
            let Some((data, trailers, length)) = witness::chunked(input) else {
                panic!("accepted without an end: {}", show(input));
            };
            assert_eq!((&data, length), (&decoded.data, used));
            check_trailers(&decoded.trailers, &trailers);
            again(&decoded);
        }
    }
}

/// The input as a trailer section.
pub(super) fn trailers(input: &[u8]) {
    body(&[b"0\r\n", input, b"\r\n"].concat());
    body(&[b"1\r\nx\r\n0;a=\"b\"\r\nA: b\r\n", input].concat());
}

fn decode(input: &[u8], piece: usize) -> Result<Decoded, ChunkError> {
    let mut decoder = Decoder::new();
    let mut data = Vec::new();
    let mut used = 0;
    // Bytes that the decoder leaves come again with the next, as from a connection's buffer.
    for arrived in (0..=input.len()).step_by(piece.min(input.len()).max(1)).chain([input.len()]) {
        loop {
            let rest = &input[used.min(arrived)..arrived];
            match decoder.decode(rest)? {
                Step::NeedMore { consumed } => {
                    assert_eq!(consumed, rest.len(), "waits with framing left");
                    used += consumed;
                    break;
                }
                Step::Data { start, end, consumed } => {
                    assert!(start < end && end <= consumed && consumed <= rest.len(), "an empty piece");
                    data.extend_from_slice(&rest[start..end]);
                    used += consumed;
                }
                Step::Done { consumed } => {
                    used += consumed;
                    assert!(decoder.is_done());
                    let trailers = decoder.trailers().to_vec();
                    return Ok(Decoded { data, trailers, ended: Some(used) });
                }
            }
        }
    }
    assert_eq!(used, input.len());
    assert!(!decoder.is_done() && decoder.trailers().is_empty());
    Ok(Decoded { data, trailers: Vec::new(), ended: None })
}

/// Checks that the forwarded trailers are a part of those that were sent, in order, without forbidden fields, and fit
/// into HTTP/2.
fn check_trailers(kept: &[u8], came: &[Line<'_>]) {
    let mut came = came.iter();
    for line in witness::plain_lines(kept) {
        assert!(came.any(|other| *other == line), "a trailer that did not come: {}", show(line.0));
        assert!(!NEVER.iter().any(|name| witness::is(&line, name)), "trailer {}", show(line.0));
    }
    // Through HTTP/2 they lose their case and the order among names, and nothing else.
    let mut back = Vec::new();
    push_trailers(&mut back, &read_trailers(kept));
    let sorted = |lines: &[u8]| {
        let lines = witness::plain_lines(lines).into_iter();
        let mut lines: Vec<_> =
            lines.map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec())).collect();
        lines.sort_by(|one, other| one.0.cmp(&other.0));
        lines
    };
    assert_eq!(sorted(&back), sorted(kept));
}

/// Written again, it is the same body.
fn again(decoded: &Decoded) {
    let mut out = Vec::new();
    for piece in decoded.data.chunks(decoded.data.len().div_ceil(3).max(1)) {
        push_chunk_head(&mut out, piece.len());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    push_last_chunk(&mut out, &decoded.trailers);
    let again = decode(&out, usize::MAX);
    let (data, trailers) = (decoded.data.clone(), decoded.trailers.clone());
    assert_eq!(again, Ok(Decoded { data, trailers, ended: Some(out.len()) }));
}
