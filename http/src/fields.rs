//! Header fields as ranges in their head's buffer.
//!
//! Order and case are kept. The rules that requests and responses share are here: line ends, the fields that Connection
//! names, and that a message has at most one length.

use std::time::Duration;

use super::{
    Range,
    field_kind::{FieldKind, kind_of},
    list, slice,
};

/// Most options in Connection fields; each of them is compared with each field.
const MAX_OPTIONS: usize = 32;

/// One field line.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The name as it was sent.
    pub name: Range,
    /// The value without the blanks around it.
    pub value: Range,
    /// The field's meaning for a proxy.
    pub kind: FieldKind,
    /// The field belongs to this hop, by its meaning or because Connection names it (RFC 9110 section 7.6.1). It is not
    /// forwarded unchanged.
    pub hop: bool,
    /// The field's bytes are exactly `Name: value\r\n`, so that it can be copied together with its neighbours.
    pub plain: bool,
}

/// Error in the fields of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldError {
    /// The text says what is malformed.
    Malformed(&'static str),
    /// A transfer coding that is registered but not implemented.
    Coding,
}

/// Facts from all fields of a head.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) host: Option<Range>,
    pub(crate) hosts: u32,
    pub(crate) content_length: Option<u64>,
    pub(crate) chunked: bool,
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    /// Idle timeout that the Keep-Alive field announces.
    pub(crate) kept_for: Option<Duration>,
    pub(crate) upgrade: bool,
    pub(crate) upgrade_option: bool,
    pub(crate) te_trailers: bool,
    pub(crate) date: bool,
    pub(crate) expects: u32,
}

/// Fills `fields` from httparse's result for `head`, the whole head, and checks what httparse does not check.
pub(crate) fn scan(
    head: &[u8],
    found: &[httparse::Header<'_>],
    fields: &mut Vec<Field>,
) -> Result<Summary, FieldError> {
    // httparse accepts a bare LF as line end. LF can only be the last byte of a line, so checking before the start of
    // each name and at the end of the head finds them all.
    const BARE_LF: FieldError = FieldError::Malformed("line ends without CR");
    if !head.ends_with(b"\r\n\r\n") {
        return Err(BARE_LF);
    }
    fields.clear();
    fields.reserve(found.len());
    let mut summary = Summary::default();
    let mut encodings = 0_u32;
    let mut options = false;
    for header in found {
        let name = super::range_in(head, header.name.as_bytes());
        let start = name.0 as usize;
        if start < 2 || &head[start - 2..start] != b"\r\n" {
            return Err(BARE_LF);
        }
        if head.get(name.1 as usize) != Some(&b':') {
            return Err(FieldError::Malformed("field name is not followed by a colon"));
        }
        if let Some(previous) = fields.last_mut() {
            close_line(previous, head, start - 2);
        }
        let value = if header.value.is_empty() {
            (name.1 + 1, name.1 + 1)
        } else {
            super::range_in(head, header.value)
        };
        let kind = kind_of(header.name.as_bytes());
        match kind {
            FieldKind::Other => {}
            FieldKind::Host => {
                summary.hosts += 1;
                summary.host = Some(value);
            }
            FieldKind::ContentLength => {
                if summary.content_length.is_some() {
                    return Err(FieldError::Malformed("several Content-Length fields"));
                }
                summary.content_length = Some(length(header.value)?);
            }
            FieldKind::TransferEncoding => {
                encodings += 1;
                if encodings > 1 {
                    return Err(FieldError::Malformed("several Transfer-Encoding fields"));
                }
                coding(header.value)?;
                summary.chunked = true;
            }
            FieldKind::Connection => options |= summary.connection(header.value),
            FieldKind::KeepAlive => summary.kept_for = kept_for(header.value).or(summary.kept_for),
            FieldKind::Upgrade => summary.upgrade = true,
            FieldKind::Te => {
                summary.te_trailers |= list(header.value).any(|code| code.eq_ignore_ascii_case(b"trailers"));
            }
            FieldKind::Date => summary.date = true,
            FieldKind::Expect => summary.expects += 1,
            _ => {}
        }
        fields.push(Field { name, value, kind, hop: kind.is_hop(), plain: false });
    }
    if let Some(last) = fields.last_mut() {
        close_line(last, head, head.len() - 4);
    }
    if summary.chunked && summary.content_length.is_some() {
        return Err(FieldError::Malformed("Content-Length together with Transfer-Encoding"));
    }
    if encodings > 0 || summary.content_length.is_some() {
        no_tabs(head, fields)?;
    }
    if options {
        nominate(head, fields)?;
    }
    Ok(summary)
}

/// The `timeout` of a Keep-Alive field, in seconds (RFC 2068 section 19.7.1.1). A value that is not a number is ignored.
fn kept_for(value: &[u8]) -> Option<Duration> {
    let parameter = list(value).find_map(|parameter| {
        let (name, value) = parameter.split_at_checked("timeout".len())?;
        let value = value.trim_ascii_start().strip_prefix(b"=")?;
        name.eq_ignore_ascii_case(b"timeout").then(|| value.trim_ascii())
    })?;
    let digits = parameter.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(parameter);
    let seconds: u32 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(Duration::from_secs(u64::from(seconds)))
}

/// Completes a field once the end of its line is known.
fn close_line(field: &mut Field, head: &[u8], line_end: usize) {
    if field.value.0 == field.value.1 {
        // httparse gives an empty value no position.
        let from = (field.name.1 + 2).min(line_end as u32);
        field.value = (from, from);
    }
    field.plain = field.value.0 == field.name.1 + 2
        && head.get(field.name.1 as usize + 1) == Some(&b' ')
        && field.value.1 as usize == line_end;
}

/// Rejects a tab beside a framing field's value: the grammar allows it, but deployed servers disagree about it.
fn no_tabs(head: &[u8], fields: &[Field]) -> Result<(), FieldError> {
    for (at, field) in fields.iter().enumerate() {
        if matches!(field.kind, FieldKind::TransferEncoding | FieldKind::ContentLength) {
            let end = fields.get(at + 1).map_or(head.len() - 4, |next| next.name.0 as usize - 2);
            if memchr::memchr(b'\t', &head[field.name.1 as usize..end]).is_some() {
                return Err(FieldError::Malformed("tab beside the value of a framing field"));
            }
        }
    }
    Ok(())
}

impl Summary {
    /// Takes the usual options of a Connection field. Returns whether there are others, which name fields.
    fn connection(&mut self, value: &[u8]) -> bool {
        let mut others = false;
        for option in list(value) {
            if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade_option = true;
            } else if !option.eq_ignore_ascii_case(b"te") {
                others = true;
            }
        }
        others
    }
}

/// Marks the fields that Connection names.
fn nominate(head: &[u8], fields: &mut [Field]) -> Result<(), FieldError> {
    let mut seen = 0;
    for at in 0..fields.len() {
        if fields[at].kind != FieldKind::Connection {
            continue;
        }
        for option in list(slice(head, fields[at].value)) {
            seen += 1;
            if seen > MAX_OPTIONS {
                return Err(FieldError::Malformed("too many connection options"));
            }
            for field in fields.iter_mut() {
                if field.kind.can_be_nominated() && slice(head, field.name).eq_ignore_ascii_case(option) {
                    field.hop = true;
                }
            }
        }
    }
    Ok(())
}

/// Reads a Content-Length: only digits, up to the largest signed 64-bit number (RFC 9110 section 8.6). A list of equal
/// lengths, which the RFC permits, is rejected.
fn length(value: &[u8]) -> Result<u64, FieldError> {
    const INVALID: FieldError = FieldError::Malformed("invalid Content-Length");
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(INVALID);
    }
    let number = value.iter().fold(0_u64, |n, digit| n * 10 + u64::from(digit - b'0'));
    if number > i64::MAX as u64 { Err(INVALID) } else { Ok(number) }
}

/// Checks a Transfer-Encoding: only `chunked` is accepted. Other registered codings before `chunked` are not implemented.
fn coding(value: &[u8]) -> Result<(), FieldError> {
    const CODINGS: [&[u8]; 5] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"];
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut members = list(value);
    let others_are_known = {
        let mut seen = false;
        let mut last: &[u8] = b"";
        let mut all = true;
        for member in members.by_ref() {
            if !last.is_empty() {
                seen = true;
                all &= CODINGS.iter().any(|coding| last.eq_ignore_ascii_case(coding));
            }
            last = member;
        }
        seen && all && last.eq_ignore_ascii_case(b"chunked")
    };
    Err(if others_are_known {
        FieldError::Coding
    } else {
        FieldError::Malformed("invalid Transfer-Encoding")
    })
}

/// Appends the line `name: value` to a head's buffer, after the bytes that were parsed, and returns the field.
pub(crate) fn append(buf: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Field {
    let start = buf.len() as u32;
    buf.extend_from_slice(name);
    buf.extend_from_slice(b": ");
    let middle = buf.len() as u32;
    buf.extend_from_slice(value);
    let end = buf.len() as u32;
    buf.extend_from_slice(b"\r\n");
    let kind = kind_of(name);
    Field { name: (start, middle - 2), value: (middle, end), kind, hop: kind.is_hop(), plain: true }
}

/// Whether `name` and `value` form a valid field line.
pub(crate) fn is_valid(name: &[u8], value: &[u8]) -> bool {
    !name.is_empty()
        && name.iter().copied().all(super::is_tchar)
        && value.iter().copied().all(super::is_value_byte)
        && super::trim_ows(value).len() == value.len()
}

/// Writes the fields that `keep` accepts; neighbours are copied together.
pub(crate) fn write(out: &mut Vec<u8>, buf: &[u8], fields: &[Field], mut keep: impl FnMut(&Field) -> bool) {
    let mut run: Range = (0, 0);
    for field in fields {
        if !keep(field) {
            continue;
        }
        if field.plain {
            if run.1 != field.name.0 {
                out.extend_from_slice(slice(buf, run));
                run.0 = field.name.0;
            }
            run.1 = field.value.1 + 2;
        } else {
            out.extend_from_slice(slice(buf, run));
            run = (0, 0);
            push(out, slice(buf, field.name), slice(buf, field.value));
        }
    }
    out.extend_from_slice(slice(buf, run));
}

/// Writes one field line.
pub fn push(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_digits_that_everyone_can_count() {
        assert_eq!(length(b"0"), Ok(0));
        assert_eq!(length(b"007"), Ok(7));
        assert_eq!(length(b"9223372036854775807"), Ok(i64::MAX as u64));
        for bad in [
            "",
            "+5",
            "-5",
            "5 5",
            "5, 5",
            "5,5",
            "0x5",
            "5.0",
            "1e3",
            "9223372036854775808",
            "18446744073709551617",
            "\u{663}",
        ] {
            assert!(length(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_transfer_coding_is_chunked_and_nothing_else() {
        assert_eq!(coding(b"Chunked"), Ok(()));
        assert_eq!(coding(b"gzip, chunked"), Err(FieldError::Coding));
        for bad in [
            "",
            "gzip",
            "identity",
            "chunked, chunked",
            "chunked,",
            ",chunked",
            "chunked, gzip",
            "xchunked",
            "chunkedx",
            "chunked;a=b",
            "\"chunked\"",
            "chunked chunked",
            "identity, chunked",
            "gzip, xchunked",
            "x, chunked",
        ] {
            assert!(matches!(coding(bad.as_bytes()), Err(FieldError::Malformed(_))), "{bad:?}");
        }
    }
}
