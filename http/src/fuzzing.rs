//! Functions for fuzzers: each takes bytes from the wire and panics if an invariant is broken.
//!
//! Crashes are not the only defects. Accepted input is read a second time by the [`witness`], which knows the grammar
//! and not the parser. Written output is read back: one head, one Host, one framing, no field of the former hop, and
//! the same meaning to the next reader. The module exists only in tests and under `cargo fuzz`;
//! docs/evidence/fuzzing.md says how to run it.

mod chunked;
mod exchange;
mod http2;
#[cfg(test)]
mod replay;
mod request;
mod response;
mod witness;

/// A request's head, and all that may follow it.
pub fn request_head(input: &[u8]) {
    request::head(input);
}

/// An answer: head, interim heads, body.
pub fn response(input: &[u8]) {
    response::answer(input);
}

/// A chunked body.
pub fn chunked(input: &[u8]) {
    chunked::body(input);
}

/// A trailer section.
pub fn trailers(input: &[u8]) {
    chunked::trailers(input);
}

/// Requests with their bodies, one behind the other.
pub fn exchange(input: &[u8]) {
    exchange::exchange(input);
}

/// A request of HTTP/2 on its way through the parser of HTTP/1.
pub fn http2_head(input: &[u8]) {
    http2::head(input);
}

/// A function with its target's name.
#[cfg(test)]
type Target = (&'static str, fn(&[u8]));

#[cfg(test)]
const TARGETS: [Target; 6] = [
    ("request_head", request_head),
    ("response", response),
    ("chunked", chunked),
    ("trailers", trailers),
    ("exchange", exchange),
    ("http2_head", http2_head),
];

/// Where to cut an input: everywhere while it is short, else here and there and around its end. Where exactly depends
/// on its bytes, so that many inputs together are cut everywhere.
fn cuts(input: &[u8]) -> impl Iterator<Item = usize> {
    let step = (input.len() / 48).max(1);
    let first =
        input.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into())) % step;
    (first..input.len()).step_by(step).chain(input.len().saturating_sub(4)..=input.len())
}

/// Bytes for a panic's message.
fn show(bytes: &[u8]) -> String {
    bytes.get(..400).unwrap_or(bytes).escape_ascii().to_string()
}
