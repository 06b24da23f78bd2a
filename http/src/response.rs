//! Parser of response heads (RFC 9112 sections 4 and 6.3). An ambiguous response is as dangerous as an ambiguous request:
//! it is rejected, and the connection is not used again.

use std::{mem::MaybeUninit, time::Duration};

use super::{
    Field, FieldKind, Limits, MAX_FIELDS, PROBE, Parsed, Range, ResponseFraming, USUAL_FIELDS, Version,
    fields::{self, FieldError},
    has_end, slice,
};

/// A response is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The text says what is malformed.
    #[error("malformed answer: {0}")]
    Malformed(&'static str),
    /// The head exceeds [`Limits::max_head`] or [`Limits::max_fields`].
    #[error("answer head too large")]
    HeadTooLarge,
    /// A transfer coding other than `chunked`.
    #[error("answer with a transfer coding that is not implemented")]
    Coding,
}

impl From<FieldError> for ResponseError {
    fn from(fault: FieldError) -> Self {
        match fault {
            FieldError::Malformed(what) => Self::Malformed(what),
            FieldError::Coding => Self::Coding,
        }
    }
}

/// One response head.
#[derive(Debug)]
pub struct ResponseHead {
    /// The bytes of the head, followed by fields that were added later. All ranges refer to it.
    pub buf: Vec<u8>,
    /// The status code, 100 to 599.
    pub status: u16,
    /// The reason phrase, possibly empty.
    pub reason: Range,
    /// The version of the status line.
    pub version: Version,
    /// The field lines, in order.
    pub fields: Vec<Field>,
    /// How the end of the body is found.
    pub framing: ResponseFraming,
    /// The value of Content-Length, also where no body follows (HEAD, 304).
    pub content_length: Option<u64>,
    /// The connection can be used again once this response has ended.
    pub keep_alive: bool,
    /// How long the server keeps an idle connection open, if it says so (`Keep-Alive: timeout=N`).
    pub kept_for: Option<Duration>,
    /// The connection switches to another protocol (101).
    pub upgrade: bool,
    /// The response has a Date.
    pub date: bool,
    /// This proxy does not add itself to `Via`.
    pub hides_via: bool,
}

impl Default for ResponseHead {
    fn default() -> Self {
        Self::new()
    }
}

impl ResponseHead {
    /// A head without any memory.
    pub const fn new() -> Self {
        Self {
            buf: Vec::new(),
            status: 0,
            reason: (0, 0),
            version: Version::Http11,
            fields: Vec::new(),
            framing: ResponseFraming::None,
            content_length: None,
            keep_alive: false,
            kept_for: None,
            upgrade: false,
            date: false,
            hides_via: false,
        }
    }

    /// Clears the head and keeps its memory.
    pub fn clear(&mut self) {
        let (mut buf, mut fields) = (std::mem::take(&mut self.buf), std::mem::take(&mut self.fields));
        buf.clear();
        fields.clear();
        *self = Self { buf, fields, ..Self::new() };
    }

    /// Whether another head follows this one: 1xx except 101.
    #[inline]
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// The reason phrase.
    #[inline]
    pub fn reason(&self) -> &[u8] {
        slice(&self.buf, self.reason)
    }

    /// The name of a field of this head.
    #[inline]
    pub fn name(&self, field: &Field) -> &[u8] {
        slice(&self.buf, field.name)
    }

    /// The value of a field of this head.
    #[inline]
    pub fn value(&self, field: &Field) -> &[u8] {
        slice(&self.buf, field.value)
    }

    /// The value of the first field of this kind.
    #[inline]
    pub fn get(&self, kind: FieldKind) -> Option<&[u8]> {
        self.fields.iter().find(|field| field.kind == kind).map(|field| self.value(field))
    }

    /// The value of the first field of this name, in any case.
    #[inline]
    pub fn get_named(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|field| self.name(field).eq_ignore_ascii_case(name))
            .map(|field| self.value(field))
    }

    /// Whether the body is a stream of server-sent events.
    pub fn is_event_stream(&self) -> bool {
        self.has_media_type(b"text/event-stream")
    }

    /// Whether the body consists of gRPC messages.
    pub fn is_grpc(&self) -> bool {
        self.has_media_type(b"application/grpc")
    }

    fn has_media_type(&self, start: &[u8]) -> bool {
        let content_type = self.get_named(b"content-type").and_then(|value| value.get(..start.len()));
        content_type.is_some_and(|found| found.eq_ignore_ascii_case(start))
    }

    /// Adds a field. Returns false, and adds nothing, if the name or the value is invalid.
    #[inline]
    pub fn add(&mut self, name: &[u8], value: &[u8]) -> bool {
        let valid = fields::is_valid(name, value);
        if valid {
            let field = fields::append(&mut self.buf, name, value);
            self.date |= field.kind == FieldKind::Date;
            self.fields.push(field);
        }
        valid
    }

    /// Replaces the value of the field with index `at`. Returns false, and changes nothing, if the value is invalid.
    pub fn set_value(&mut self, at: usize, value: &[u8]) -> bool {
        let Some(field) = self.fields.get(at).copied() else { return false };
        let name = slice(&self.buf, field.name).to_vec();
        let valid = fields::is_valid(&name, value);
        if valid {
            self.fields[at] = fields::append(&mut self.buf, &name, value);
        }
        valid
    }

    /// Removes the fields of this name, in any case.
    pub fn remove(&mut self, name: &[u8]) {
        let Self { buf, fields, .. } = self;
        fields.retain(|field| !slice(buf, field.name).eq_ignore_ascii_case(name));
        self.date = self.fields.iter().any(|field| field.kind == FieldKind::Date);
    }
}

/// Parses a response head at the start of `input` into `head`, which is meaningful only after [`Parsed::Complete`].
/// Interim responses (1xx) are parsed one at a time.
///
/// # Errors
/// The head is malformed, too large, or not supported.
pub fn parse_response(
    input: &[u8],
    limits: &Limits,
    request_method_is_head: bool,
    head: &mut ResponseHead,
) -> Result<Parsed, ResponseError> {
    head.clear();
    if input.first().is_some_and(|byte| *byte != b'H') {
        return Err(ResponseError::Malformed("invalid status line"));
    }
    let whole = input.len() <= PROBE || has_end(input, limits.max_head);
    let seen = if whole { input } else { &input[..PROBE] };
    let parsed = if limits.max_fields <= USUAL_FIELDS {
        let mut table = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
        parse(seen, limits, request_method_is_head, head, &mut table[..limits.max_fields])?
    } else {
        let mut table = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        parse(seen, limits, request_method_is_head, head, &mut table[..limits.max_fields.min(MAX_FIELDS)])?
    };
    match parsed {
        Parsed::Partial if input.len() >= limits.max_head => Err(ResponseError::HeadTooLarge),
        Parsed::Complete { .. } if !whole => Err(ResponseError::Malformed("line ends without CR")),
        parsed => Ok(parsed),
    }
}

fn parse<'a>(
    input: &'a [u8],
    limits: &Limits,
    request_method_is_head: bool,
    head: &mut ResponseHead,
    table: &mut [MaybeUninit<httparse::Header<'a>>],
) -> Result<Parsed, ResponseError> {
    let mut response = httparse::Response::new(&mut []);
    let found =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, input, table);
    let consumed = match found {
        Ok(httparse::Status::Complete(consumed)) => consumed,
        Ok(httparse::Status::Partial) => return Ok(Parsed::Partial),
        Err(error) => return Err(refusal(error)),
    };
    if consumed > limits.max_head {
        return Err(ResponseError::HeadTooLarge);
    }
    let bytes = &input[..consumed];
    head.version = if response.version == Some(0) { Version::Http10 } else { Version::Http11 };
    head.status = response.code.unwrap_or_default();
    if !(100..=599).contains(&head.status) {
        return Err(ResponseError::Malformed("invalid status"));
    }
    // The reason may be missing, and with it the space before it (RFC 9112 section 4).
    let code_end = "HTTP/1.1 200".len();
    let line_end = memchr::memchr(b'\r', bytes).unwrap_or(0);
    match bytes.get(code_end..line_end) {
        Some([]) => head.reason = (code_end as u32, code_end as u32),
        Some([b' ', ..]) => head.reason = (code_end as u32 + 1, line_end as u32),
        _ => return Err(ResponseError::Malformed("invalid status line")),
    }
    if bytes.get(line_end + 1) != Some(&b'\n') {
        return Err(ResponseError::Malformed("invalid line end"));
    }
    let summary = fields::scan(bytes, response.headers, &mut head.fields)?;
    head.buf.extend_from_slice(bytes);
    head.date = summary.date;
    head.content_length = summary.content_length;
    head.kept_for = summary.kept_for;
    head.upgrade = head.status == 101;

    let http11 = head.version == Version::Http11;
    if summary.chunked && !http11 {
        return Err(ResponseError::Malformed("Transfer-Encoding in HTTP/1.0"));
    }
    if head.upgrade && !(http11 && summary.upgrade) {
        return Err(ResponseError::Malformed("101 without Upgrade"));
    }
    head.keep_alive = !summary.close && (http11 || summary.keep_alive) && !head.upgrade;
    let never_has_content = head.status < 200 || head.status == 204;
    if never_has_content && summary.chunked {
        return Err(ResponseError::Malformed("Transfer-Encoding where no content can be"));
    }
    head.framing = if never_has_content || head.status == 304 || request_method_is_head {
        // A length there announces nothing that follows; where it must not be, what follows cannot be trusted.
        head.keep_alive &= !(never_has_content && summary.content_length.is_some_and(|length| length > 0));
        ResponseFraming::None
    } else if summary.chunked {
        ResponseFraming::Chunked
    } else if let Some(length) = summary.content_length {
        ResponseFraming::Length(length)
    } else {
        head.keep_alive = false;
        ResponseFraming::UntilClose
    };
    Ok(Parsed::Complete { consumed })
}

fn refusal(error: httparse::Error) -> ResponseError {
    match error {
        httparse::Error::TooManyHeaders => ResponseError::HeadTooLarge,
        httparse::Error::HeaderName => ResponseError::Malformed("invalid field name"),
        httparse::Error::HeaderValue => ResponseError::Malformed("invalid field value"),
        httparse::Error::NewLine => ResponseError::Malformed("invalid line end"),
        httparse::Error::Version => ResponseError::Malformed("invalid version"),
        httparse::Error::Status => ResponseError::Malformed("invalid status line"),
        httparse::Error::Token => ResponseError::Malformed("invalid status line"),
    }
}
