//! HTTP/1 read a second time: the grammar and nothing else, written without a look at the parsers, slow and obvious.
//!
//! It reads accepted input and written output, and panics if a rule is broken. Bytes that it does not understand would
//! be an ambiguity that was forwarded.

use super::show;

/// A field line's name and value, blanks around the value left out.
pub(super) type Line<'a> = (&'a [u8], &'a [u8]);

/// A head's first line and its fields.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) start: &'a [u8],
    pub(super) fields: Vec<Line<'a>>,
    /// Bytes with the empty line at the end.
    pub(super) length: usize,
}

impl<'a> Head<'a> {
    /// The values of a name, in order.
    pub(super) fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
        self.fields.iter().filter(move |line| is(line, name)).map(|line| line.1)
    }

    /// The only value of a name.
    pub(super) fn one(&self, name: &str) -> &'a [u8] {
        let mut all = self.all(name);
        let (first, second) = (all.next(), all.next());
        assert!(second.is_none(), "{name} twice");
        let Some(value) = first else { panic!("no {name}") };
        value
    }

    /// The members of all lists of a name, in lower case.
    pub(super) fn members(&self, name: &str) -> Vec<Vec<u8>> {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(|member| trim(member).to_ascii_lowercase())
            .filter(|member| !member.is_empty())
            .collect()
    }

    /// How the body is framed: at most one field says it, and in one way.
    pub(super) fn framing(&self) -> Framing {
        let said: Vec<&Line<'_>> = self
            .fields
            .iter()
            .filter(|line| is(line, "content-length") || is(line, "transfer-encoding"))
            .collect();
        match said.as_slice() {
            [] => Framing::Unsaid,
            [line] if is(line, "transfer-encoding") => {
                assert!(line.1.eq_ignore_ascii_case(b"chunked"), "coding {}", show(line.1));
                Framing::Chunked
            }
            [line] => {
                assert!(line.1.iter().all(u8::is_ascii_digit), "length {}", show(line.1));
                let number = String::from_utf8_lossy(line.1).parse::<i64>();
                let Ok(length) = number else { panic!("length {}", show(line.1)) };
                Framing::Length(length.unsigned_abs())
            }
            several => panic!("{} fields frame the body", several.len()),
        }
    }
}

/// The body that a head announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Unsaid,
    Length(u64),
    Chunked,
}

/// Whether a line's name is this one, in any case.
pub(super) fn is(line: &Line<'_>, name: &str) -> bool {
    line.0.eq_ignore_ascii_case(name.as_bytes())
}

/// Reads the head at the start of `bytes`; what follows it is not looked at.
pub(super) fn head(bytes: &[u8]) -> Head<'_> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { panic!("no end: {}", show(bytes)) };
    let mut lines = split(&bytes[..end]).into_iter();
    let start = lines.next().unwrap_or_default();
    clean(start);
    let fields = lines
        .map(|line| {
            clean(line);
            let Some(colon) = line.iter().position(|byte| *byte == b':') else {
                panic!("no colon: {}", show(line));
            };
            token(&line[..colon]);
            (&line[..colon], trim(&line[colon + 1..]))
        })
        .collect();
    Head { start, fields, length: end + 4 }
}

/// The parts of a request line: method, target, whether it is HTTP/1.0.
pub(super) fn request_line(line: &[u8]) -> (&[u8], &[u8], bool) {
    let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = parts.as_slice() else { panic!("request line {}", show(line)) };
    token(method);
    assert!(!target.is_empty(), "no target");
    assert!(
        target.iter().all(|byte| (0x21..0x7f).contains(byte) && *byte != b'#'),
        "target {}",
        show(target)
    );
    assert!(matches!(*version, b"HTTP/1.0" | b"HTTP/1.1"), "version {}", show(version));
    (method, target, *version == b"HTTP/1.0")
}

/// The parts of a status line: status, reason, whether it is HTTP/1.0.
pub(super) fn status_line(line: &[u8]) -> (u16, &[u8], bool) {
    assert!(matches!(line.get(..9), Some(b"HTTP/1.0 " | b"HTTP/1.1 ")), "status line {}", show(line));
    let digits = line.get(9..12).unwrap_or_default();
    assert!(digits.len() == 3 && digits.iter().all(u8::is_ascii_digit), "status {}", show(line));
    let reason = match &line[12..] {
        [] => &[][..],
        [b' ', reason @ ..] => reason,
        other => panic!("reason {}", show(other)),
    };
    let status = digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    assert!((100..600).contains(&status), "status {status}");
    (status, reason, line[7] == b'0')
}

/// A chunked body at the start of the input: data, trailer lines, bytes used. `None` where it does not end.
pub(super) fn chunked(input: &[u8]) -> Option<(Vec<u8>, Vec<Line<'_>>, usize)> {
    let mut data = Vec::new();
    let mut at = 0;
    loop {
        let line = &input[at..at + find(&input[at..], b"\r\n")?];
        at += line.len() + 2;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        assert!((1..=16).contains(&digits), "chunk size {}", show(line));
        assert!(matches!(line.get(digits), None | Some(b';')), "chunk size {}", show(line));
        clean(line);
        let Ok(size) = u64::from_str_radix(&String::from_utf8_lossy(&line[..digits]), 16) else {
            panic!("chunk size {}", show(line));
        };
        assert!(i64::try_from(size).is_ok(), "a chunk that no peer can count: {}", show(line));
        if size == 0 {
            break;
        }
        let piece = input.get(at..at.checked_add(usize::try_from(size).ok()?)?)?;
        data.extend_from_slice(piece);
        at += piece.len();
        let end = input.get(at..at + 2)?;
        assert_eq!(end, b"\r\n", "after a chunk");
        at += 2;
    }
    let mut trailers = Vec::new();
    loop {
        let line = &input[at..at + find(&input[at..], b"\r\n")?];
        at += line.len() + 2;
        if line.is_empty() {
            return Some((data, trailers, at));
        }
        clean(line);
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            panic!("trailer {}", show(line));
        };
        token(&line[..colon]);
        trailers.push((&line[..colon], trim(&line[colon + 1..])));
    }
}

/// Lines as a decoder gives trailers: `Name: value\r\n`, each in its plain form.
pub(super) fn plain_lines(mut lines: &[u8]) -> Vec<Line<'_>> {
    let mut read = Vec::new();
    while !lines.is_empty() {
        let Some(end) = find(lines, b"\r\n") else { panic!("line end missing: {}", show(lines)) };
        let line = &lines[..end];
        clean(line);
        let Some(at) = find(line, b": ") else { panic!("trailer {}", show(line)) };
        token(&line[..at]);
        assert_eq!(trim(&line[at + 2..]), &line[at + 2..], "blanks around a value");
        read.push((&line[..at], &line[at + 2..]));
        lines = &lines[end + 2..];
    }
    read
}

/// Nothing below space but tab, and no DEL: in particular no bare CR or LF, and no NUL.
fn clean(line: &[u8]) {
    let control = |byte: &u8| *byte < b' ' && *byte != b'\t' || *byte == 0x7f;
    assert!(!line.iter().any(control), "control byte in {}", show(line));
}

fn token(name: &[u8]) {
    let in_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    assert!(!name.is_empty() && name.iter().all(in_token), "not a token: {}", show(name));
}

fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |at| at + 1);
    &value[start..end]
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn split(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut lines, mut rest) = (Vec::new(), bytes);
    while let Some(at) = find(rest, b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    lines
}
