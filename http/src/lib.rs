//! HTTP/1 messages as bytes: strict parsers, framing and writers, without I/O.
//!
//! The crate knows no socket, no clock, no configuration and no route. [httparse] finds the fields. Everything that
//! httparse tolerates and that two peers could read differently is rejected here (request smuggling, RFC 9112 section
//! 11.2), so that the output of a writer has exactly one reading. A head is one buffer with ranges into it. It is
//! reused from message to message; nothing is allocated once it has grown.
//!
//! - [`parse_request`] and [`parse_response`] read heads into [`RequestHead`] and [`ResponseHead`].
//! - [`BodyDecoder`] reads bodies, whatever their framing.
//! - [`write_request`] and [`write_response`] write what a proxy forwards.
//! - [`translate`] converts between HTTP/2's header maps and HTTP/1 heads.
//!
//! [httparse]: https://docs.rs/httparse

pub mod aliases;
pub mod authority;
mod chunked;
mod cookies;
mod edit;
mod field_kind;
mod fields;
mod framing;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod grpc;
mod request;
mod response;
pub mod translate;
mod write;

#[cfg(test)]
mod request_tests;
#[cfg(test)]
mod response_tests;
#[cfg(test)]
mod write_tests;

pub use self::{
    chunked::{ChunkError, Decoder, MAX_TRAILERS, Step, push_chunk_head, push_last_chunk},
    cookies::{CookieNames, CookiePair, cookie_pairs},
    edit::{Destination, RequestEdit},
    field_kind::FieldKind,
    fields::{Field, FieldError, push as push_field},
    framing::{BodyDecoder, BodyFraming, ResponseFraming, Truncated},
    grpc::GrpcMessages,
    request::{RequestError, RequestHead, TargetForm, parse_request},
    response::{ResponseError, ResponseHead, parse_response},
    translate::read_trailers,
    write::{Forwarded, max_forwards, write_request, write_response},
};

/// Start and end of a part of a head's buffer, in bytes.
pub type Range = (u32, u32);

/// The HTTP versions that are supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// Translated from HTTP/2; the same as HTTP/1.1 except in `Via`.
    Http2,
}

/// Limits of a head. A larger one is rejected.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
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
pub const MAX_FIELDS: usize = 1024;

/// Up to this number of field lines the parser uses the smaller of its two tables on the stack.
const USUAL_FIELDS: usize = 256;

/// An incomplete head larger than this is not parsed again for every byte that arrives: only its first part is
/// checked, so that a head sent byte by byte costs a search and not a parse each time.
const PROBE: usize = 2048;

/// Result of a parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The end of the head has not arrived, and nothing is wrong so far.
    Partial,
    /// The whole head was read.
    Complete {
        /// Length of the head in bytes; the body starts here.
        consumed: usize,
    },
}

#[inline]
fn slice(buf: &[u8], range: Range) -> &[u8] {
    buf.get(range.0 as usize..range.1 as usize).unwrap_or_default()
}

/// The range of `part` in `whole`, of which it is a slice.
fn range_in(whole: &[u8], part: &[u8]) -> Range {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    debug_assert!(start + part.len() <= whole.len(), "not a part of the input");
    (start as u32, (start + part.len()) as u32)
}

/// Whether `input` has the end of the head. Every acceptable head ends with `\n\r\n`.
fn has_end(input: &[u8], max_head: usize) -> bool {
    memchr::memmem::find(&input[..input.len().min(max_head)], b"\n\r\n").is_some()
}

/// `tchar` of RFC 9110 section 5.6.2.
#[inline]
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

/// Whether a field value may contain the byte: visible, space, tab, or obs-text (RFC 9110 section 5.5).
#[inline]
const fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[inline]
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
#[inline]
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim_ows).filter(|member| !member.is_empty())
}

#[inline]
fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}
