//! Compiled header edits: names and values that are valid in a message, with variables resolved.

use std::fmt;

/// A property of a request that a value can contain by name: `{client_ip}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// The client address, as reported by trusted proxies.
    ClientIp,
    /// The address of the connection's peer.
    PeerIp,
    /// The requested host with its port.
    Host,
    /// `http` or `https`.
    Scheme,
    /// The request's method.
    Method,
    /// The requested path.
    Path,
    /// The query without the `?`.
    Query,
    /// Path and query.
    Uri,
    /// The request id.
    RequestId,
    /// Name of the route.
    Route,
    /// The first value of a request header; the name is in lower case.
    Header(Box<str>),
    /// The pool that responded; only in responses.
    Pool,
    /// Id of the backend that responded; only in responses.
    Backend,
    /// The status code; only in responses.
    Status,
}

impl Variable {
    const PLAIN: [(&'static str, Self, bool); 13] = [
        ("client_ip", Self::ClientIp, true),
        ("peer_ip", Self::PeerIp, true),
        ("host", Self::Host, true),
        ("scheme", Self::Scheme, true),
        ("method", Self::Method, true),
        ("path", Self::Path, true),
        ("query", Self::Query, true),
        ("uri", Self::Uri, true),
        ("request_id", Self::RequestId, true),
        ("route", Self::Route, true),
        ("pool", Self::Pool, false),
        ("backend", Self::Backend, false),
        ("status", Self::Status, false),
    ];

    fn parse(name: &str, side: Side) -> Result<Self, String> {
        if let Some(header) = name.strip_prefix("header:") {
            return if is_token(header) {
                Ok(Self::Header(header.to_ascii_lowercase().into()))
            } else {
                Err(format!("{header:?} in {{{name}}} is not a valid header name"))
            };
        }
        let known = |in_request: bool| side == Side::Response || in_request;
        match Self::PLAIN.iter().find(|(own, ..)| *own == name) {
            Some((_, variable, in_request)) if known(*in_request) => Ok(variable.clone()),
            Some(_) => Err(format!("{{{name}}} is only available in responses")),
            None => {
                let names: Vec<&str> = Self::PLAIN
                    .iter()
                    .filter(|(.., in_request)| known(*in_request))
                    .map(|(name, ..)| *name)
                    .collect();
                Err(format!(
                    "unknown variable {{{name}}} (known: {}, header:NAME; a literal brace is {{{{ or }}}})",
                    names.join(", ")
                ))
            }
        }
    }
}

/// The kind of message that is edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}

/// A piece of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Literal text.
    Text(Box<str>),
    /// A variable.
    Variable(Variable),
}

/// A header field to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The name as spelled in the configuration.
    pub name: Box<str>,
    /// The pieces of the value. If the value is empty at run time, the field is not sent.
    pub value: Vec<Piece>,
}

/// Compiled edits of a message's header fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderRules {
    /// Names of fields to drop, in lower case.
    pub removed: Vec<Box<str>>,
    /// Fields to append after the others.
    pub lines: Vec<Line>,
}

impl HeaderRules {
    /// Whether fields of this name, in any case, are dropped.
    pub fn removes(&self, name: &[u8]) -> bool {
        self.removed.iter().any(|own| own.len() == name.len() && own.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.lines.is_empty()
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Variable(Variable::Header(name)) => write!(f, "{{header:{name}}}"),
            Self::Variable(variable) => {
                let name =
                    Variable::PLAIN.iter().find(|(_, own, _)| own == variable).map_or("", |(name, ..)| name);
                write!(f, "{{{name}}}")
            }
        }
    }
}

/// Whether the text is a token (RFC 9110 section 5.6.2), the syntax of field names.
pub(crate) fn is_token(name: &str) -> bool {
    let is_tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    (1..=100).contains(&name.len()) && name.bytes().all(is_tchar)
}

/// Parses a value: text with variables as `{name}`; `{{` and `}}` are literal braces.
pub(crate) fn value(text: &str, side: Side) -> Result<Vec<Piece>, String> {
    // RFC 9110 section 5.5, without obs-text.
    if text.trim_matches([' ', '\t']) != text || text.chars().any(|c| c != '\t' && c.is_control()) {
        return Err(format!(
            "{text:?} is not a valid header value: no control characters, no leading or trailing blanks"
        ));
    }
    if text.is_empty() {
        return Err("a header cannot be set to an empty value; to delete it, use remove".to_owned());
    }
    if text.len() > 8192 {
        return Err(format!("a value of {} bytes is too long (at most 8192)", text.len()));
    }
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        plain.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix(brace) {
            plain.push_str(brace);
            rest = tail;
            continue;
        }
        let name = match rest.split_once('}') {
            Some((name, tail)) if brace == "{" => {
                rest = tail;
                name
            }
            _ => return Err(format!("{text:?} has a single {brace}; a literal brace is {{{{ or }}}}")),
        };
        let variable = Variable::parse(name, side)?;
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
        }
        pieces.push(Piece::Variable(variable));
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain.into()));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_consists_of_text_and_variables() {
        let shown = |text: &str| {
            value(text, Side::Response)
                .map(|pieces| pieces.iter().map(|p| format!("<{p}>")).collect::<String>())
        };
        for (text, expected) in [
            ("prod", "<prod>"),
            ("{client_ip}", "<{client_ip}>"),
            ("a {host}:{scheme} b", "<a ><{host}><:><{scheme}>< b>"),
            ("{{\"a\":1}}", "<{\"a\":1}>"),
            ("{header:X-User}", "<{header:x-user}>"),
            ("{pool}/{backend}", "<{pool}></><{backend}>"),
            ("caf\u{e9}", "<caf\u{e9}>"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(expected), "{text}");
        }
        for (text, says) in [
            ("", "use remove"),
            (" a", "blanks"),
            ("a\r\nx: y", "control"),
            ("a\nb", "control"),
            ("a\0b", "control"),
            ("{colour}", "unknown variable {colour} (known: client_ip"),
            ("{\"a\":1}", "unknown variable"),
            ("{header:a b}", "not a valid header name"),
            ("{host", "single {"),
            ("host}", "single }"),
            ("{}", "unknown variable {}"),
        ] {
            let error = shown(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(value("{status}", Side::Request).unwrap_err().contains("only available in responses"));
    }
}
