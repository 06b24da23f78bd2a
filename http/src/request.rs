//! Parser of request heads (RFC 9112 sections 3, 5 and 6, RFC 9110 section 7.2). A head that two servers could read
//! differently is rejected.

use std::mem::MaybeUninit;

use super::{
    BodyFraming, Field, FieldKind, Limits, MAX_FIELDS, PROBE, Parsed, Range, USUAL_FIELDS, Version,
    authority,
    cookies::{CookiePair, cookie_pairs},
    fields::{self, FieldError},
    has_end, list, range_in, slice,
};

/// Longest method, far longer than any registered one.
const MAX_METHOD: usize = 64;

/// A request is rejected. The server closes the connection after its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The text says what is malformed.
    #[error("malformed request: {0}")]
    BadRequest(&'static str),
    /// The target exceeds [`Limits::max_target`].
    #[error("request target too long")]
    UriTooLong,
    /// The head exceeds [`Limits::max_head`] or [`Limits::max_fields`].
    #[error("request head too large")]
    HeadTooLarge,
    /// The text is `method` or `transfer coding`.
    #[error("not implemented: {0}")]
    NotImplemented(&'static str),
    /// A version other than HTTP/1.0 and HTTP/1.1.
    #[error("HTTP version not supported")]
    VersionNotSupported,
}

impl RequestError {
    /// The status of the response.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::UriTooLong => 414,
            Self::HeadTooLarge => 431,
            Self::NotImplemented(_) => 501,
            Self::VersionNotSupported => 505,
        }
    }

    /// The reason phrase of [`status`](Self::status).
    pub const fn reason(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "Bad Request",
            Self::UriTooLong => "URI Too Long",
            Self::HeadTooLarge => "Request Header Fields Too Large",
            Self::NotImplemented(_) => "Not Implemented",
            Self::VersionNotSupported => "HTTP Version Not Supported",
        }
    }
}

impl From<FieldError> for RequestError {
    fn from(fault: FieldError) -> Self {
        match fault {
            FieldError::Malformed(what) => Self::BadRequest(what),
            FieldError::Coding => Self::NotImplemented("transfer coding"),
        }
    }
}

/// The four forms of a request target (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`.
    Origin,
    /// `http://host/path?query`.
    Absolute,
    /// `host:port`, for CONNECT.
    Authority,
    /// `*`, for OPTIONS.
    Asterisk,
}

/// One request head.
#[derive(Debug)]
pub struct RequestHead {
    /// The bytes of the head, followed by fields that were added later. All ranges refer to it.
    pub buf: Vec<u8>,
    /// The method, case-sensitive.
    pub method: Range,
    /// The target as it was sent.
    pub target: Range,
    /// Path and query: the whole of origin-form, or the part of absolute-form after the authority, possibly empty.
    pub origin: Range,
    /// The form of the target.
    pub form: TargetForm,
    /// The authority: that of an absolute-form target, or else that of Host.
    pub host: Option<Range>,
    /// Host is written from `host`, not from the field that was sent.
    pub(crate) own_host: bool,
    /// The version of the request line.
    pub version: Version,
    /// The field lines, in order.
    pub fields: Vec<Field>,
    /// How the end of the body is found.
    pub framing: BodyFraming,
    /// The client wants to keep the connection open after this request.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends its body.
    pub expect_continue: bool,
    /// The client offers an upgrade: Connection names Upgrade, and the field exists.
    pub upgrade: bool,
    /// The client accepts trailers.
    pub te_trailers: bool,
}

impl Default for RequestHead {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestHead {
    /// A head without any memory.
    pub const fn new() -> Self {
        Self {
            buf: Vec::new(),
            method: (0, 0),
            target: (0, 0),
            origin: (0, 0),
            form: TargetForm::Origin,
            host: None,
            own_host: false,
            version: Version::Http11,
            fields: Vec::new(),
            framing: BodyFraming::None,
            keep_alive: false,
            expect_continue: false,
            upgrade: false,
            te_trailers: false,
        }
    }

    /// Clears the head and keeps its memory.
    pub fn clear(&mut self) {
        let (mut buf, mut fields) = (std::mem::take(&mut self.buf), std::mem::take(&mut self.fields));
        buf.clear();
        fields.clear();
        *self = Self { buf, fields, ..Self::new() };
    }

    /// The method.
    #[inline]
    pub fn method(&self) -> &[u8] {
        slice(&self.buf, self.method)
    }

    /// The target as it was sent.
    #[inline]
    pub fn target(&self) -> &[u8] {
        slice(&self.buf, self.target)
    }

    /// Path and query, or `*` of asterisk-form.
    #[inline]
    pub fn path_and_query(&self) -> &[u8] {
        match slice(&self.buf, self.origin) {
            [] => b"/",
            origin => origin,
        }
    }

    /// The path without the query; `/` where an absolute-form target has none.
    #[inline]
    pub fn path(&self) -> &[u8] {
        let origin = slice(&self.buf, self.origin);
        match &origin[..memchr::memchr(b'?', origin).unwrap_or(origin.len())] {
            [] => b"/",
            path => path,
        }
    }

    /// The part of the target after the first `?`.
    #[inline]
    pub fn query(&self) -> Option<&[u8]> {
        let origin = slice(&self.buf, self.origin);
        memchr::memchr(b'?', origin).map(|at| &origin[at + 1..])
    }

    /// The authority that the request is for, with its port.
    #[inline]
    pub fn host(&self) -> Option<&[u8]> {
        self.host.map(|range| slice(&self.buf, range))
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

    /// The values of all the fields of this kind, in order.
    #[inline]
    pub fn all(&self, kind: FieldKind) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().filter(move |field| field.kind == kind).map(|field| self.value(field))
    }

    /// The value of the first field of this name, in any case.
    #[inline]
    pub fn get_named(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|field| self.name(field).eq_ignore_ascii_case(name))
            .map(|field| self.value(field))
    }

    /// Whether the method is idempotent (RFC 9110 section 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        matches!(self.method(), b"GET" | b"HEAD" | b"PUT" | b"DELETE" | b"OPTIONS" | b"TRACE")
    }

    /// Whether the body consists of gRPC messages.
    pub fn is_grpc(&self) -> bool {
        const NAME: &[u8] = b"application/grpc";
        !self.framing.is_empty()
            && self
                .get_named(b"content-type")
                .and_then(|value| value.get(..NAME.len()))
                .is_some_and(|found| found.eq_ignore_ascii_case(NAME))
    }

    /// Whether the method is HEAD.
    #[inline]
    pub fn is_head(&self) -> bool {
        self.method() == b"HEAD"
    }

    /// Whether the method is TRACE.
    #[inline]
    pub fn is_trace(&self) -> bool {
        self.method() == b"TRACE"
    }

    /// Whether the method is OPTIONS.
    #[inline]
    pub fn is_options(&self) -> bool {
        self.method() == b"OPTIONS"
    }

    /// Whether a reverse proxy forwards a request with this method. It does not forward CONNECT, TRACE (RFC 9110
    /// section 9.3.8), and OPTIONS with `Max-Forwards: 0` (section 7.6.2).
    pub fn is_forwardable(&self) -> bool {
        match self.method() {
            b"CONNECT" | b"TRACE" => false,
            b"OPTIONS" => crate::max_forwards(self) != Some(0),
            _ => true,
        }
    }

    /// Adds a field. Returns false, and adds nothing, if the name or the value is invalid.
    #[inline]
    pub fn add(&mut self, name: &[u8], value: &[u8]) -> bool {
        let valid = fields::is_valid(name, value);
        if valid {
            let field = fields::append(&mut self.buf, name, value);
            self.fields.push(field);
        }
        valid
    }

    /// Removes the fields of this name, in any case.
    pub fn remove(&mut self, name: &[u8]) {
        let Self { buf, fields, .. } = self;
        fields.retain(|field| !slice(buf, field.name).eq_ignore_ascii_case(name));
    }

    /// The request's cookies.
    pub fn cookies(&self) -> impl Iterator<Item = CookiePair<'_>> {
        self.all(FieldKind::Cookie).flat_map(cookie_pairs)
    }

    /// The values of all cookies of a name, in order (RFC 6265 section 4.2). Browsers send several of one name where
    /// their paths or domains differ, the more specific path first.
    pub fn cookie_values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.cookies().filter_map(move |cookie| (cookie.name == name.as_bytes()).then_some(cookie.value))
    }

    /// Keeps only the cookies that `keep` accepts.
    pub fn retain_cookies(&mut self, mut keep: impl FnMut(CookiePair<'_>) -> bool) {
        let mut rest = Vec::new();
        for cookie in self.cookies() {
            if keep(cookie) {
                rest.extend_from_slice(if rest.is_empty() { b"" } else { b"; " });
                rest.extend_from_slice(cookie.raw);
            }
        }
        self.fields.retain(|field| field.kind != FieldKind::Cookie);
        if !rest.is_empty() {
            self.add(b"Cookie", &rest);
        }
    }
}

/// Parses a request head at the start of `input` into `head`, whose content is meaningful only after
/// [`Parsed::Complete`]. Its former content is always lost.
///
/// # Errors
/// The head is malformed, too large, or not supported.
pub fn parse_request(input: &[u8], limits: &Limits, head: &mut RequestHead) -> Result<Parsed, RequestError> {
    head.clear();
    if input.len() > PROBE && !has_end(input, limits.max_head) {
        // The fields are not complete, but an error at the start is reported at once.
        return match parse_fields(&input[..PROBE], limits, head) {
            Ok(Parsed::Partial) => partial(input, limits),
            Ok(Parsed::Complete { .. }) => Err(RequestError::BadRequest("line ends without CR")),
            Err(error) => Err(error),
        };
    }
    match parse_fields(input, limits, head)? {
        Parsed::Partial => partial(input, limits),
        complete => Ok(complete),
    }
}

/// Parses with the smallest table on the stack that is large enough.
fn parse_fields(input: &[u8], limits: &Limits, head: &mut RequestHead) -> Result<Parsed, RequestError> {
    if limits.max_fields <= USUAL_FIELDS {
        let mut table = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
        parse(input, limits, head, &mut table[..limits.max_fields])
    } else {
        let mut table = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        parse(input, limits, head, &mut table[..limits.max_fields.min(MAX_FIELDS)])
    }
}

/// Whether an incomplete head can still become a valid one.
fn partial(input: &[u8], limits: &Limits) -> Result<Parsed, RequestError> {
    let line = input.strip_prefix(b"\r\n").unwrap_or(input);
    let open = memchr::memchr(b'\n', &line[..line.len().min(limits.max_target + MAX_METHOD + 16)]).is_none();
    if line.len() > MAX_METHOD && memchr::memchr(b' ', &line[..=MAX_METHOD]).is_none() {
        return Err(RequestError::NotImplemented("method"));
    }
    if open && line.len() >= limits.max_target + MAX_METHOD + 16 {
        return Err(RequestError::UriTooLong);
    }
    if input.len() >= limits.max_head {
        return Err(if open { RequestError::UriTooLong } else { RequestError::HeadTooLarge });
    }
    Ok(Parsed::Partial)
}

fn parse<'a>(
    input: &'a [u8],
    limits: &Limits,
    head: &mut RequestHead,
    table: &mut [MaybeUninit<httparse::Header<'a>>],
) -> Result<Parsed, RequestError> {
    let mut request = httparse::Request::new(&mut []);
    let consumed = match request.parse_with_uninit_headers(input, table) {
        Ok(httparse::Status::Complete(consumed)) => consumed,
        Ok(httparse::Status::Partial) => return Ok(Parsed::Partial),
        Err(error) => return Err(refusal(error, input)),
    };
    if consumed > limits.max_head {
        return Err(RequestError::HeadTooLarge);
    }
    let bytes = &input[..consumed];
    let method = range_in(bytes, request.method.unwrap_or_default().as_bytes());
    let target = range_in(bytes, request.path.unwrap_or_default().as_bytes());
    // At most one empty line before a request is ignored (RFC 9112 section 2.2).
    if !(method.0 == 0 || method.0 == 2 && bytes.starts_with(b"\r\n")) {
        return Err(RequestError::BadRequest("empty lines before the request"));
    }
    if (method.1 - method.0) as usize > MAX_METHOD {
        return Err(RequestError::NotImplemented("method"));
    }
    if (target.1 - target.0) as usize > limits.max_target {
        return Err(RequestError::UriTooLong);
    }
    // Method, space, target, space, version, CRLF: nothing in between.
    let line_end = target.1 as usize + " HTTP/1.1".len();
    if target.0 != method.1 + 1 || !bytes.get(line_end..).is_some_and(|rest| rest.starts_with(b"\r\n")) {
        return Err(RequestError::BadRequest("invalid request line"));
    }
    head.version = if request.version == Some(0) { Version::Http10 } else { Version::Http11 };
    head.method = method;
    head.target = target;
    let summary = fields::scan(bytes, request.headers, &mut head.fields)?;
    head.buf.extend_from_slice(bytes);

    let http11 = head.version == Version::Http11;
    if summary.chunked && !http11 {
        // RFC 9112 section 6.1: the framing of such a message is faulty.
        return Err(RequestError::BadRequest("Transfer-Encoding in HTTP/1.0"));
    }
    head.framing = match summary.content_length {
        _ if summary.chunked => BodyFraming::Chunked,
        Some(length) => BodyFraming::Length(length),
        None => BodyFraming::None,
    };
    match summary.host {
        _ if summary.hosts > 1 => return Err(RequestError::BadRequest("several Host fields")),
        None if http11 => return Err(RequestError::BadRequest("Host is missing")),
        Some(host) if !authority::is_valid(slice(bytes, host)) => {
            return Err(RequestError::BadRequest("invalid Host"));
        }
        host => head.host = host,
    }
    target_form(head)?;
    head.keep_alive = !summary.close && (http11 || summary.keep_alive);
    head.te_trailers = http11 && summary.te_trailers;
    head.upgrade = http11 && summary.upgrade && summary.upgrade_option && !offers_h2c(head);
    if summary.expects > 0 {
        expect(head);
    }
    Ok(Parsed::Complete { consumed })
}

/// Sets the target's form, its path and query, and the authority that wins (RFC 9112 section 3.2).
fn target_form(head: &mut RequestHead) -> Result<(), RequestError> {
    const INVALID: RequestError = RequestError::BadRequest("invalid request target");
    let target = slice(&head.buf, head.target);
    if !target.iter().copied().all(is_target_byte) {
        return Err(INVALID);
    }
    let method = slice(&head.buf, head.method);
    if method == b"CONNECT" {
        if !authority::is_valid(target) || !authority::has_port(target) {
            return Err(INVALID);
        }
        head.form = TargetForm::Authority;
        head.origin = (head.target.1, head.target.1);
        return Ok(());
    }
    match target {
        [b'/', ..] => {
            head.form = TargetForm::Origin;
            head.origin = head.target;
        }
        b"*" if method == b"OPTIONS" => {
            head.form = TargetForm::Asterisk;
            head.origin = head.target;
        }
        _ => {
            let (scheme, port): (u32, &[u8]) = match target {
                _ if starts_with_ignoring_case(target, b"http://") => (7, b"80"),
                _ if starts_with_ignoring_case(target, b"https://") => (8, b"443"),
                _ => return Err(INVALID),
            };
            let rest = &target[scheme as usize..];
            let length = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
            let named = &rest[..length];
            if !authority::is_valid(named) {
                return Err(INVALID);
            }
            if head.host.is_some_and(|host| !authority::same(named, slice(&head.buf, host), port)) {
                return Err(RequestError::BadRequest("request target and Host disagree"));
            }
            let start = head.target.0 + scheme;
            head.form = TargetForm::Absolute;
            head.host = Some((start, start + length as u32));
            head.own_host = true;
            head.origin = (start + length as u32, head.target.1);
        }
    }
    Ok(())
}

/// Whether the client offers to switch to cleartext HTTP/2. The offer is not forwarded: after the backend's switch the
/// proxy would not see the requests (RFC 9113 section 3.1 made it obsolete).
fn offers_h2c(head: &RequestHead) -> bool {
    head.all(FieldKind::Upgrade).any(|value| {
        list(value).any(|protocol| {
            let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
            name.eq_ignore_ascii_case(b"h2c") || name.eq_ignore_ascii_case(b"h2")
        })
    })
}

/// Reads Expect. `100-continue` has a meaning only if a body follows, and never in HTTP/1.0 (RFC 9110 section 10.1.1).
/// Otherwise the field is not forwarded, so that no backend waits for a body that is never sent.
fn expect(head: &mut RequestHead) {
    let waits = head.version == Version::Http11 && !head.framing.is_empty();
    let is_continue = head.all(FieldKind::Expect).any(|value| value.eq_ignore_ascii_case(b"100-continue"));
    head.expect_continue = waits && is_continue;
    if !waits {
        for field in &mut head.fields {
            field.hop |= field.kind == FieldKind::Expect;
        }
    }
}

/// Whether a target may contain the byte: visible ASCII except `#`. This is more than the URI grammar allows, because
/// clients send `|`, `{` and similar characters, and all servers read them in the same way.
const fn is_target_byte(byte: u8) -> bool {
    byte > b' ' && byte < 0x7f && byte != b'#'
}

fn starts_with_ignoring_case(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn refusal(error: httparse::Error, input: &[u8]) -> RequestError {
    match error {
        httparse::Error::TooManyHeaders => RequestError::HeadTooLarge,
        httparse::Error::HeaderName => RequestError::BadRequest("invalid field name"),
        httparse::Error::HeaderValue => RequestError::BadRequest("invalid field value"),
        httparse::Error::NewLine => RequestError::BadRequest("invalid line end"),
        httparse::Error::Version if names_other_version(input) => RequestError::VersionNotSupported,
        _ => RequestError::BadRequest("invalid request line"),
    }
}

/// Whether the request line ends with a well-formed version, which then is an unsupported one.
fn names_other_version(input: &[u8]) -> bool {
    let line = input.strip_prefix(b"\r\n").unwrap_or(input);
    let line = &line[..memchr::memchr(b'\r', line).unwrap_or(line.len())];
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(_), Some(_), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}
