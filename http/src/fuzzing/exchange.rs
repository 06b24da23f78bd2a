//! A client's connection from its first byte: requests with their bodies, one behind the other, up to a backend.
//!
//! The witness reads the output. It must find as many requests as were accepted, each with its own body: another one
//! would be a smuggled request.

use super::{
    request::{accepted, forward},
    show,
    witness::{self, Framing},
};
use crate::{
    BodyDecoder, BodyFraming, Limits, Parsed, RequestHead, Step, parse_request, push_chunk_head,
    push_last_chunk,
};

/// A whole request on its way up.
#[derive(Debug, PartialEq, Eq)]
struct Passed {
    head: Vec<u8>,
    body: Vec<u8>,
    trailers: Vec<u8>,
}

/// How the connection stands when there is no more input.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Everything was taken; the next bytes may be anything.
    Open,
    /// A head or body was refused.
    Refused,
    /// The client asked for the end, or was answered by the proxy itself.
    Closed,
}

pub(super) fn exchange(input: &[u8]) {
    let mut upstream = Vec::new();
    let whole = connection(input, input.len().max(1), &mut upstream);
    for piece in [1, 3, 50] {
        let mut other = Vec::new();
        assert_eq!(connection(input, piece, &mut other), whole, "in pieces of {piece}");
        read_back(&other, &whole.0);
    }
    read_back(&upstream, &whole.0);
}

/// Takes the input in pieces, as a connection does; appends to `upstream` what backends get of whole requests.
fn connection(input: &[u8], piece: usize, upstream: &mut Vec<u8>) -> (Vec<Passed>, End) {
    let limits = Limits::default();
    let mut passed = Vec::new();
    let mut buffer: Vec<u8> = Vec::new();
    let mut head = RequestHead::new();
    let mut body: Option<(BodyDecoder, Vec<u8>, Passed)> = None;
    for arrived in input.chunks(piece) {
        buffer.extend_from_slice(arrived);
        loop {
            let Some((decoder, out, request)) = &mut body else {
                if buffer.is_empty() {
                    break;
                }
                match parse_request(&buffer, &limits, &mut head) {
                    Err(_) => return (passed, End::Refused),
                    Ok(Parsed::Partial) => break,
                    Ok(Parsed::Complete { consumed }) => {
                        accepted(&head, &buffer[..consumed], &limits);
                        buffer.drain(..consumed);
                    }
                }
                if !head.is_forwardable() {
                    return (passed, End::Closed);
                }
                let written = forward(&head, false);
                let request = Passed { head: written.clone(), body: Vec::new(), trailers: Vec::new() };
                body = Some((BodyDecoder::from(head.framing), written, request));
                continue;
            };
            let chunked = head.framing == BodyFraming::Chunked;
            match decoder.decode(&buffer) {
                Err(_) => return (passed, End::Refused),
                Ok(Step::NeedMore { consumed }) => {
                    buffer.drain(..consumed);
                    break;
                }
                Ok(Step::Data { start, end, consumed }) => {
                    request.body.extend_from_slice(&buffer[start..end]);
                    if chunked {
                        push_chunk_head(out, end - start);
                    }
                    out.extend_from_slice(&buffer[start..end]);
                    if chunked {
                        out.extend_from_slice(b"\r\n");
                    }
                    buffer.drain(..consumed);
                }
                Ok(Step::Done { consumed }) => {
                    buffer.drain(..consumed);
                    request.trailers.extend_from_slice(decoder.trailers());
                    if chunked {
                        push_last_chunk(out, decoder.trailers());
                    }
                    upstream.append(out);
                    passed.extend(body.take().map(|(_, _, request)| request));
                    if !head.keep_alive {
                        return (passed, End::Closed);
                    }
                }
            }
        }
    }
    (passed, End::Open)
}

/// Reads what a backend got, and finds what was sent, no more and no less.
fn read_back(mut upstream: &[u8], passed: &[Passed]) {
    for request in passed {
        let head = witness::head(upstream);
        assert_eq!(&upstream[..head.length], request.head);
        let framing = head.framing();
        upstream = &upstream[request.head.len()..];
        match framing {
            Framing::Unsaid => assert!(request.body.is_empty()),
            Framing::Length(length) => {
                assert_eq!(request.body.len() as u64, length);
                assert!(upstream.starts_with(&request.body));
                upstream = &upstream[request.body.len()..];
            }
            Framing::Chunked => {
                let Some((data, trailers, used)) = witness::chunked(upstream) else {
                    panic!("a body without its end: {}", show(upstream));
                };
                assert_eq!(data, request.body);
                assert_eq!(trailers, witness::plain_lines(&request.trailers));
                upstream = &upstream[used..];
            }
        }
    }
    assert!(upstream.is_empty(), "another request appears: {}", show(upstream));
}
