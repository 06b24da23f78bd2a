//! HTTP/1 as bytes: strict parsers, framing and writers, used by the listener (requests in, answers out) and by
//! the upstream client (requests out, answers in).
//!
//! Pure logic: it knows no socket, no clock, no configuration and no route. httparse finds the fields; everything
//! that httparse tolerates and two peers could read differently is refused here (request smuggling, RFC 9112
//! section 11.2), so that what leaves a writer has exactly one reading. A head is one buffer with ranges into it:
//! reused from message to message, nothing is allocated once it has grown.
#![allow(dead_code, reason = "what filters of routes will use is written and tested with the rest")]

pub(crate) mod chunked;
pub(crate) mod fields;
pub(crate) mod framing;
mod grpc;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod translate;
pub(crate) mod write;

#[cfg(test)]
mod request_tests;
#[cfg(test)]
mod response_tests;
#[cfg(test)]
mod write_tests;

pub(crate) use weir_snapshot::authority;

#[allow(unused_imports)]
pub(crate) use self::{
    chunked::{ChunkError, Decoder, MAX_TRAILERS, Step, push_chunk_head, push_last_chunk},
    fields::{Field, Known, push as push_field},
    framing::{BodyDecoder, BodyFraming, ResponseFraming, Truncated},
    grpc::GrpcMessages,
    request::{RequestError, RequestHead, cookie_pairs, parse_request},
    response::{ResponseError, ResponseHead, parse_response},
    translate::read_trailers,
    write::{Forwarded, max_forwards, write_request, write_response},
};

/// A start and an end in the buffer of a head.
pub(crate) type Range = (u32, u32);

/// The versions that the wire may carry here; every other one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    Http10,
    Http11,
    /// Translated from HTTP/2: for all but `Via` the same as HTTP/1.1.
    Http2,
}

/// What a head may measure before it is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of the whole head, its last empty line included.
    pub max_head: usize,
    /// Field lines; more than [`MAX_FIELDS`] are never accepted.
    pub max_fields: usize,
    /// Bytes of the request target.
    pub max_target: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_head: 64 * 1024, max_fields: 128, max_target: 16 * 1024 }
    }
}

/// The most field lines that any configuration can allow.
pub(crate) const MAX_FIELDS: usize = 1024;

/// Field lines for which the parser's table is on the stack without a second thought.
const USUAL_FIELDS: usize = 256;

/// Above this size a head without its end is not parsed again for every byte that arrives: only its first part is
/// looked at, so that a head sent byte by byte costs a search and not a parse each time.
const PROBE: usize = 2048;

/// What a parser found at the start of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// So far nothing is wrong, and the head's end has not arrived.
    Partial,
    /// A whole head; the body starts at `consumed`.
    Complete { consumed: usize },
}

fn slice(buf: &[u8], range: Range) -> &[u8] {
    buf.get(range.0 as usize..range.1 as usize).unwrap_or_default()
}

/// Where `part`, a slice of `whole`, lies in it.
fn range_in(whole: &[u8], part: &[u8]) -> Range {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    debug_assert!(start + part.len() <= whole.len(), "not a part of the input");
    (start as u32, (start + part.len()) as u32)
}

/// Whether the head's end is in `input`; `\n\r\n` ends every head that could still be accepted.
fn has_end(input: &[u8], max_head: usize) -> bool {
    memchr::memmem::find(&input[..input.len().min(max_head)], b"\n\r\n").is_some()
}

/// `tchar` of RFC 9110 section 5.6.2.
const fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// A byte that a field value may hold: visible, space, tab, or obs-text (RFC 9110 section 5.5).
const fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The members of a comma-separated list, without the empty ones (RFC 9110 section 5.6.1).
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim_ows).filter(|member| !member.is_empty())
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}
