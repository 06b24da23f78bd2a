//! A strict reader of HTTP/1 messages, written apart from the product's: what a suite checks must not be read by the
//! code under test. It understands what a good peer sends and calls everything else bad.

/// The writer of a message, which decides how its end is found (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Answer { to_head: bool },
}

/// How the end of the body was marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length,
    Chunked,
    Close,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// In order.
    Closed,
    /// By a reset.
    Reset,
    /// Not at all, within the patience of a test.
    StillOpen,
}

/// One message. Text is Latin-1, so that every byte has its character.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) line: String,
    /// Names in lower case: their case is free.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) framing: Framing,
    /// 1xx answers that came before.
    pub(crate) interims: Vec<Message>,
}

/// The message at the start of some bytes.
pub(crate) enum Parse {
    Partial,
    Whole(Message, usize),
    Bad(String),
}

pub(crate) fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        self.line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|field| field.0 == name).map(|field| field.1.as_str()).collect()
    }

    /// The members of the field as a list, over all its lines.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let values = self.values(name).join(",");
        values
            .split(',')
            .map(|member| member.trim().to_ascii_lowercase())
            .filter(|member| !member.is_empty())
            .collect()
    }
}

/// Reads the first message of `input`; `ended` when nothing follows any more.
pub(crate) fn parse(input: &[u8], side: Side, ended: Option<End>) -> Parse {
    let Some(head_end) = find(input, b"\r\n\r\n") else { return Parse::Partial };
    let head = text(&input[..head_end]);
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default().to_owned();
    let fields = match lines.map(field).collect::<Result<Vec<_>, _>>() {
        Ok(fields) => fields,
        Err(why) => return Parse::Bad(why),
    };
    let mut message = Message {
        line,
        fields,
        body: Vec::new(),
        trailers: Vec::new(),
        framing: Framing::None,
        interims: Vec::new(),
    };
    let start = head_end + 4;
    let rest = &input[start..];
    let codings = message.values("transfer-encoding");
    let lengths = message.values("content-length");
    if lengths.len() > 1 || codings.len() > 1 || !lengths.is_empty() && !codings.is_empty() {
        return Parse::Bad(format!("framed in more than one way: {head:?}"));
    }
    let bodiless = match side {
        Side::Request => false,
        Side::Answer { to_head } => to_head || matches!(message.status(), 100..=199 | 204 | 304),
    };
    if bodiless {
        return Parse::Whole(message, start);
    }
    if let Some(coding) = codings.first() {
        if !coding.eq_ignore_ascii_case("chunked") {
            return Parse::Bad(format!("transfer coding {coding:?}"));
        }
        message.framing = Framing::Chunked;
        return chunked(message, rest, start);
    }
    if let Some(length) = lengths.first() {
        let Ok(length) = length.parse::<usize>() else { return Parse::Bad(format!("length {length:?}")) };
        message.framing = Framing::Length;
        if rest.len() < length {
            return Parse::Partial;
        }
        message.body = rest[..length].to_vec();
        return Parse::Whole(message, start + length);
    }
    if side == Side::Request {
        return Parse::Whole(message, start);
    }
    message.framing = Framing::Close;
    message.body = rest.to_vec();
    match ended {
        Some(End::Closed) => Parse::Whole(message, input.len()),
        _ => Parse::Partial,
    }
}

fn chunked(mut message: Message, rest: &[u8], start: usize) -> Parse {
    let mut at = 0;
    loop {
        let Some(line_end) = find(&rest[at..], b"\r\n") else { return Parse::Partial };
        let line = text(&rest[at..at + line_end]);
        let digits = line.split(';').next().unwrap_or_default();
        let Ok(size) = usize::from_str_radix(digits, 16) else {
            return Parse::Bad(format!("chunk size {line:?}"));
        };
        at += line_end + 2;
        if size == 0 {
            break;
        }
        let Some(data) = rest.get(at..at + size) else { return Parse::Partial };
        message.body.extend_from_slice(data);
        match rest.get(at + size..at + size + 2) {
            None => return Parse::Partial,
            Some(b"\r\n") => at += size + 2,
            Some(other) => return Parse::Bad(format!("{other:?} after a chunk")),
        }
    }
    loop {
        let Some(line_end) = find(&rest[at..], b"\r\n") else { return Parse::Partial };
        let line = text(&rest[at..at + line_end]);
        at += line_end + 2;
        if line.is_empty() {
            return Parse::Whole(message, start + at);
        }
        match field(&line) {
            Ok(field) => message.trailers.push(field),
            Err(why) => return Parse::Bad(why),
        }
    }
}

fn field(line: &str) -> Result<(String, String), String> {
    let (name, value) = line.split_once(':').ok_or_else(|| format!("no field: {line:?}"))?;
    if name.is_empty() || name.contains([' ', '\t']) || value.contains(['\r', '\n', '\0']) {
        return Err(format!("no field: {line:?}"));
    }
    Ok((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()))
}

pub(crate) fn find(input: &[u8], what: &[u8]) -> Option<usize> {
    input.windows(what.len()).position(|window| window == what)
}
