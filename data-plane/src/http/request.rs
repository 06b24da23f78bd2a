//! Request heads: RFC 9112 sections 3, 5 and 6, RFC 9110 section 7.2, and every reading that two servers do not share
//! refused.

use std::mem::MaybeUninit;

use super::{
    BodyFraming, Field, Known, Limits, MAX_FIELDS, PROBE, Parsed, Range, USUAL_FIELDS, Version, authority,
    fields::{self, Fault},
    has_end, list, range_in, slice,
};

/// No method of any registry comes near it.
const MAX_METHOD: usize = 64;

/// Why a request is refused; the connection is closed after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("malformed request: {0}")]
    BadRequest(&'static str),
    #[error("request target too long")]
    UriTooLong,
    #[error("request head too large")]
    HeadTooLarge,
    #[error("not implemented: {0}")]
    NotImplemented(&'static str),
    #[error("HTTP version not supported")]
    VersionNotSupported,
}

impl RequestError {
    /// The status that answers it.
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::UriTooLong => 414,
            Self::HeadTooLarge => 431,
            Self::NotImplemented(_) => 501,
            Self::VersionNotSupported => 505,
        }
    }

    /// The status' name.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "Bad Request",
            Self::UriTooLong => "URI Too Long",
            Self::HeadTooLarge => "Request Header Fields Too Large",
            Self::NotImplemented(_) => "Not Implemented",
            Self::VersionNotSupported => "HTTP Version Not Supported",
        }
    }
}

impl From<Fault> for RequestError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed(what) => Self::BadRequest(what),
            Fault::Coding => Self::NotImplemented("transfer coding"),
        }
    }
}

/// The four forms of a request target (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Origin,
    Absolute,
    Authority,
    Asterisk,
}

/// One request head. Ranges refer to `buf`, which holds the head's bytes, and behind them what was set later.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub buf: Vec<u8>,
    pub method: Range,
    /// The target as it was sent.
    pub target: Range,
    /// Path and query: of origin-form the whole, of absolute-form what follows the authority, possibly empty.
    pub origin: Range,
    pub form: Form,
    /// The authority that the request is for: of an absolute-form target, or else of Host.
    pub host: Option<Range>,
    /// Host is written from `host`, not from the field that came.
    pub(super) own_host: bool,
    pub version: Version,
    pub fields: Vec<Field>,
    pub framing: BodyFraming,
    /// The client wants to go on with the connection after this exchange.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends its body.
    pub expect_continue: bool,
    /// Connection nominates Upgrade, and the field is there.
    pub upgrade: bool,
    /// The client takes trailers.
    pub te_trailers: bool,
}

impl Default for RequestHead {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestHead {
    pub(crate) const fn new() -> Self {
        Self {
            buf: Vec::new(),
            method: (0, 0),
            target: (0, 0),
            origin: (0, 0),
            form: Form::Origin,
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

    /// Forgets the request and keeps the memory.
    pub(crate) fn clear(&mut self) {
        let (mut buf, mut fields) = (std::mem::take(&mut self.buf), std::mem::take(&mut self.fields));
        buf.clear();
        fields.clear();
        *self = Self { buf, fields, ..Self::new() };
    }

    pub(crate) fn method(&self) -> &[u8] {
        slice(&self.buf, self.method)
    }

    pub(crate) fn target(&self) -> &[u8] {
        slice(&self.buf, self.target)
    }

    /// Path and query as they go to the backend, `*` for the server as a whole.
    pub(crate) fn path_and_query(&self) -> &[u8] {
        match slice(&self.buf, self.origin) {
            [] => b"/",
            origin => origin,
        }
    }

    /// The target without its query; of absolute-form the path, `/` when there is none.
    pub(crate) fn path(&self) -> &[u8] {
        let origin = slice(&self.buf, self.origin);
        match &origin[..memchr::memchr(b'?', origin).unwrap_or(origin.len())] {
            [] => b"/",
            path => path,
        }
    }

    /// What follows the first `?` of the target.
    pub(crate) fn query(&self) -> Option<&[u8]> {
        let origin = slice(&self.buf, self.origin);
        memchr::memchr(b'?', origin).map(|at| &origin[at + 1..])
    }

    /// The authority that the request is for, its port included.
    pub(crate) fn host(&self) -> Option<&[u8]> {
        self.host.map(|range| slice(&self.buf, range))
    }

    pub(crate) fn name(&self, field: &Field) -> &[u8] {
        slice(&self.buf, field.name)
    }

    pub(crate) fn value(&self, field: &Field) -> &[u8] {
        slice(&self.buf, field.value)
    }

    /// The value of the first field of this kind.
    pub(crate) fn get(&self, known: Known) -> Option<&[u8]> {
        self.fields.iter().find(|field| field.known == known).map(|field| self.value(field))
    }

    /// The values of all the fields of this kind, in order.
    pub(crate) fn all(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().filter(move |field| field.known == known).map(|field| self.value(field))
    }

    /// The value of the first field of this name, in any case.
    pub(crate) fn get_named(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|field| self.name(field).eq_ignore_ascii_case(name))
            .map(|field| self.value(field))
    }

    /// Whether sending it twice means the same as once (RFC 9110 section 9.2.2).
    pub(crate) fn is_idempotent(&self) -> bool {
        matches!(self.method(), b"GET" | b"HEAD" | b"PUT" | b"DELETE" | b"OPTIONS" | b"TRACE")
    }

    /// Whether the body is messages of gRPC.
    pub(crate) fn is_grpc(&self) -> bool {
        const NAME: &[u8] = b"application/grpc";
        !self.framing.is_empty()
            && self
                .get_named(b"content-type")
                .and_then(|value| value.get(..NAME.len()))
                .is_some_and(|found| found.eq_ignore_ascii_case(NAME))
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method() == b"HEAD"
    }

    pub(crate) fn is_connect(&self) -> bool {
        self.method() == b"CONNECT"
    }

    pub(crate) fn is_trace(&self) -> bool {
        self.method() == b"TRACE"
    }

    pub(crate) fn is_options(&self) -> bool {
        self.method() == b"OPTIONS"
    }

    /// Adds a field; answers false, and adds nothing, where it could not stand in a head.
    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) -> bool {
        let valid = fields::is_valid(name, value);
        if valid {
            let field = fields::append(&mut self.buf, name, value);
            self.fields.push(field);
        }
        valid
    }

    /// Removes the fields of this name, in any case.
    pub(crate) fn remove(&mut self, name: &[u8]) {
        let Self { buf, fields, .. } = self;
        fields.retain(|field| !slice(buf, field.name).eq_ignore_ascii_case(name));
    }

    /// The request's cookies as names and values, without the blanks around them: some servers accept blanks before
    /// the `=` as well.
    pub(crate) fn cookies(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.all(Known::Cookie).flat_map(cookie_pairs).map(|(name, value, _)| (name, value))
    }

    /// Keeps only the cookies that `keep` accepts by name, value and the pair of both as it stands.
    pub(crate) fn retain_cookies(&mut self, mut keep: impl FnMut((&[u8], &[u8], &[u8])) -> bool) {
        let mut rest = Vec::new();
        for cookie in self.all(Known::Cookie).flat_map(cookie_pairs) {
            let (.., pair) = cookie;
            if keep(cookie) {
                rest.extend_from_slice(if rest.is_empty() { b"" } else { b"; " });
                rest.extend_from_slice(pair);
            }
        }
        self.fields.retain(|field| field.known != Known::Cookie);
        if !rest.is_empty() {
            self.add(b"Cookie", &rest);
        }
    }

    /// Puts another path and query in the place of the target's; false where it does not start with `/` or holds a
    /// byte that no target may hold.
    pub(crate) fn set_path_and_query(&mut self, origin: &[u8]) -> bool {
        let valid = origin.first() == Some(&b'/') && origin.iter().copied().all(is_target_byte);
        if valid {
            let start = self.buf.len() as u32;
            self.buf.extend_from_slice(origin);
            self.origin = (start, self.buf.len() as u32);
            self.form = Form::Origin;
        }
        valid
    }

    /// Puts another host in the place of the client's; false where it is none.
    pub(crate) fn set_host(&mut self, host: &[u8]) -> bool {
        let valid = authority::is_valid(host);
        if valid {
            let start = self.buf.len() as u32;
            self.buf.extend_from_slice(host);
            self.host = Some((start, self.buf.len() as u32));
            self.own_host = true;
        }
        valid
    }
}

/// The pairs of a Cookie field: name, value, and both as they stand.
pub(crate) fn cookie_pairs(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8], &[u8])> {
    line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()).map(|pair| {
        match memchr::memchr(b'=', pair) {
            Some(at) => (pair[..at].trim_ascii_end(), pair[at + 1..].trim_ascii_start(), pair),
            None => (&pair[..0], pair, pair),
        }
    })
}

/// Tries to parse a whole request head at the start of `input`. `head` is meaningful only after
/// [`Parsed::Complete`]; its former content is lost in any case.
pub(crate) fn parse_request(
    input: &[u8],
    limits: &Limits,
    head: &mut RequestHead,
) -> Result<Parsed, RequestError> {
    head.clear();
    if input.len() > PROBE && !has_end(input, limits.max_head) {
        // The fields may be anything yet, but what is wrong at the start is answered at once.
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

/// Chooses the size of httparse's table.
fn parse_fields(input: &[u8], limits: &Limits, head: &mut RequestHead) -> Result<Parsed, RequestError> {
    if limits.max_fields <= USUAL_FIELDS {
        let mut table = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
        parse(input, limits, head, &mut table[..limits.max_fields])
    } else {
        let mut table = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        parse(input, limits, head, &mut table[..limits.max_fields.min(MAX_FIELDS)])
    }
}

/// Whether what has no end yet may still get one.
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
    // One empty line before a request is forgiven (RFC 9112 section 2.2), and no more.
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
        // RFC 9112 section 6.1: whoever sends it does not know what it means.
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
        head.form = Form::Authority;
        head.origin = (head.target.1, head.target.1);
        return Ok(());
    }
    match target {
        [b'/', ..] => {
            head.form = Form::Origin;
            head.origin = head.target;
        }
        b"*" if method == b"OPTIONS" => {
            head.form = Form::Asterisk;
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
            head.form = Form::Absolute;
            head.host = Some((start, start + length as u32));
            head.own_host = true;
            head.origin = (start + length as u32, head.target.1);
        }
    }
    Ok(())
}

/// An offer to switch to HTTP/2 in clear text is not passed on: the backend would take it, and what follows would
/// no longer be seen (RFC 9113 section 3.1 made it obsolete).
fn offers_h2c(head: &RequestHead) -> bool {
    head.all(Known::Upgrade).any(|value| {
        list(value).any(|protocol| {
            let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
            name.eq_ignore_ascii_case(b"h2c") || name.eq_ignore_ascii_case(b"h2")
        })
    })
}

/// `100-continue` counts only where a body will follow, and never in HTTP/1.0 (RFC 9110 section 10.1.1); elsewhere the
/// field is not forwarded, so that no backend waits for what nobody sends.
fn expect(head: &mut RequestHead) {
    let waits = head.version == Version::Http11 && !head.framing.is_empty();
    let is_continue = head.all(Known::Expect).any(|value| value.eq_ignore_ascii_case(b"100-continue"));
    head.expect_continue = waits && is_continue;
    if !waits {
        for field in &mut head.fields {
            field.hop |= field.known == Known::Expect;
        }
    }
}

/// Visible ASCII without the fragment's mark: what a target may hold on the wire, more than the URI grammar's set
/// because clients do send `|`, `{` and their like, and no server reads them in two ways.
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

/// Whether the request line ends with a well-formed version, which then is one that is not spoken here.
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
