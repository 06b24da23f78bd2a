//! Path patterns of routes, and decoding of request paths. [`readings`](super::readings) has the other ways in which
//! servers read a path.

use std::{borrow::Cow, fmt};

use super::counts::Counts;

/// A path pattern, in the form that [`plain`] returns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathPattern {
    /// Exactly this path.
    Exact(Box<[u8]>),
    /// Every path that starts with these segments; without a trailing slash.
    Prefix(Box<[u8]>),
    /// Any path.
    Any,
}

/// Why a request's path is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// A malformed escape.
    #[error("the path has a malformed escape")]
    Escape,
    /// `%00`.
    #[error("the path has an escaped NUL")]
    Nul,
    /// More `..` than segments before them.
    #[error("the path goes above its root")]
    AboveRoot,
    /// Readings that match different routes.
    #[error("servers can read the path in ways that match different routes")]
    Ambiguous,
    /// More readings than are checked.
    #[error("servers can read the path in too many ways")]
    TooManyReadings,
    /// A rewritten path that some servers read as a host and a path.
    #[error("the rewritten path starts with two slashes, which some servers read as a host")]
    RewrittenToHost,
}

impl PathFault {
    /// The message for a response.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Escape => "the path has a malformed escape",
            Self::Nul => "the path has an escaped NUL",
            Self::AboveRoot => "the path goes above its root",
            Self::Ambiguous => "servers can read the path in ways that match different routes",
            Self::TooManyReadings => "servers can read the path in too many ways",
            Self::RewrittenToHost => {
                "the rewritten path starts with two slashes, which some servers read as a host"
            }
        }
    }
}

impl PathPattern {
    /// Parses a prefix or an exact path; the error says what is wrong.
    pub(crate) fn parse(text: &str, exact: bool) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("{text:?} {why}"));
        if !text.starts_with('/') {
            return wrong("is not a valid path: it must start with /");
        }
        if text.len() > 1024 {
            return Err(format!("a path of {} bytes is too long (at most 1024)", text.len()));
        }
        if text.contains(['?', '#']) {
            return wrong("has a query or a fragment, which are not matched");
        }
        if text.contains('*') && !exact {
            return wrong("has a *; a path is already a prefix and matches whole segments");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return wrong("has blanks or bytes other than visible ASCII; percent-encode them");
        }
        let path = match plain(text.as_bytes()) {
            Ok(path) => path,
            Err(fault) => return Err(format!("{text:?} cannot match: {fault}")),
        };
        if !is_unambiguous(&path) {
            return wrong(
                "has empty segments, dot segments, parameters (;), a backslash, an escaped slash, ?, # or control character, or a trailing blank, which servers interpret differently",
            );
        }
        if exact {
            return Ok(Self::Exact(path.into()));
        }
        Ok(match path.strip_suffix(b"/").unwrap_or(&path) {
            b"" => Self::Any,
            prefix => Self::Prefix(prefix.into()),
        })
    }

    /// How specific the pattern is; the greatest goes first.
    pub(super) fn rank(&self) -> (u8, usize) {
        match self {
            Self::Exact(_) => (2, 0),
            Self::Prefix(prefix) => (1, prefix.len()),
            Self::Any => (0, 0),
        }
    }

    /// Whether a path can start with both this prefix and another one.
    pub(crate) fn may_meet(&self, other: &[u8]) -> bool {
        match self {
            Self::Prefix(own) => self.takes(other) || Self::Prefix(other.into()).takes(own),
            Self::Exact(own) => Self::Prefix(other.into()).takes(own),
            Self::Any => true,
        }
    }

    /// Whether the pattern matches one reading of a path.
    pub(super) fn takes(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(whole) => takes(whole, true, path),
            Self::Prefix(prefix) => takes(prefix, false, path),
            Self::Any => true,
        }
    }
}

/// Whether a path equals `own` or, unless `is_exact`, continues it with another segment. The empty prefix matches
/// every path.
pub(super) fn takes(own: &[u8], is_exact: bool, path: &[u8]) -> bool {
    match path.strip_prefix(own) {
        Some(rest) => rest.is_empty() || !is_exact && (own.is_empty() || rest.starts_with(b"/")),
        None => false,
    }
}

/// The number of segments of a prefix.
pub(super) fn depth(prefix: &[u8]) -> usize {
    prefix.iter().filter(|byte| **byte == b'/').count()
}

/// All prefixes of a path that end at a segment, the longest first, limited to the numbers of segments that patterns
/// have.
pub(super) fn prefixes(path: &[u8], depths: Counts) -> impl Iterator<Item = &[u8]> {
    // Forwards to the end of the last segment that any pattern has, then backwards from there.
    let (mut end, mut depth) = (0, 0);
    while depth < depths.most() && path.get(end) == Some(&b'/') {
        let rest = &path[end + 1..];
        end = rest.iter().position(|byte| *byte == b'/').map_or(path.len(), |slash| end + 1 + slash);
        depth += 1;
    }
    let mut left = Some((depth, &path[..end]));
    std::iter::from_fn(move || {
        let (depth, prefix) = left?;
        let shorter = prefix.iter().rposition(|byte| *byte == b'/');
        left = shorter.map(|slash| (depth - 1, &prefix[..slash]));
        Some((depth, prefix))
    })
    .filter(move |(depth, _)| depths.may_have(*depth))
    .map(|(_, prefix)| prefix)
}

/// A fast check that a path has no escapes and only one reading.
pub(super) fn is_simple(path: &[u8]) -> bool {
    let plain = |byte: u8| {
        byte != b'%' && byte != b'\\' && byte != b';' && byte != b'#' && byte > b' ' && byte != 0x7f
    };
    let follows = |slash: u8, byte: u8| slash != b'/' || byte != b'/' && byte != b'.';
    let pairs = path.iter().zip(path.get(1..).unwrap_or_default());
    // Not `all`, which would not be vectorized.
    pairs.fold(path.first().is_none_or(|byte| plain(*byte)), |all, (before, byte)| {
        all & plain(*byte) & follows(*before, *byte)
    })
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => write!(f, "= {}", String::from_utf8_lossy(path)),
            Self::Prefix(path) => write!(f, "{}*", String::from_utf8_lossy(path)),
            Self::Any => f.write_str("*"),
        }
    }
}

/// Decodes the escapes of a path, except `%2F` and `%5C`, which would look like separators, and `%25`, which would
/// look like the start of an escape.
pub(crate) fn plain(path: &[u8]) -> Result<Cow<'_, [u8]>, PathFault> {
    let Some(first) = path.iter().position(|byte| *byte == b'%') else {
        return Ok(Cow::Borrowed(path));
    };
    let mut decoded = path[..first].to_vec();
    let mut rest = &path[first..];
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let [high, low, tail @ ..] = tail else { return Err(PathFault::Escape) };
        rest = tail;
        match (hex(*high), hex(*low)) {
            (Some(0), Some(0)) => return Err(PathFault::Nul),
            (Some(high), Some(low)) => match high << 4 | low {
                b'/' => decoded.extend_from_slice(b"%2F"),
                b'\\' => decoded.extend_from_slice(b"%5C"),
                b'%' => decoded.extend_from_slice(b"%25"),
                byte => decoded.push(byte),
            },
            _ => return Err(PathFault::Escape),
        }
    }
    Ok(Cow::Owned(decoded))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Whether every server reads a path returned by [`plain`] in the same way.
pub(crate) fn is_unambiguous(path: &[u8]) -> bool {
    let mut previous = 0;
    for (at, byte) in path.iter().enumerate() {
        match byte {
            b'\\' | b';' | b'?' | b'#' => return false,
            byte if is_control(*byte) => return false,
            b'/' if previous == b'/' => return false,
            b'.' if previous == b'/' && is_dots(&path[at..]) => return false,
            b'%' if matches!(path.get(at + 1..at + 3), Some(b"2F" | b"5C")) => return false,
            _ => {}
        }
        previous = *byte;
    }
    previous != b' '
}

/// Whether a byte is a control character, which some servers remove from a path.
pub(super) const fn is_control(byte: u8) -> bool {
    byte < b' ' || byte == 0x7f
}

/// Whether a dot segment starts here.
fn is_dots(rest: &[u8]) -> bool {
    matches!(
        rest,
        [b'.'] | [b'.', b'/' | b'\\' | b'%', ..] | [b'.', b'.'] | [b'.', b'.', b'/' | b'\\' | b'%', ..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_ordinary_bytes_are_decoded() {
        for (path, read) in [
            ("/a/b", "/a/b"),
            ("/%61%2d%5F%7e", "/a-_~"),
            ("/a%20b", "/a b"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%5cb", "/a%5Cb"),
            ("/a%252Fb", "/a%252Fb"),
            ("/%2e%2E/x", "/../x"),
            ("*", "*"),
        ] {
            assert_eq!(plain(path.as_bytes()).unwrap().as_ref(), read.as_bytes(), "{path}");
        }
        for (path, fault) in [
            ("/%", PathFault::Escape),
            ("/%2", PathFault::Escape),
            ("/%zz", PathFault::Escape),
            ("/%+1", PathFault::Escape),
            ("/%00", PathFault::Nul),
        ] {
            assert_eq!(plain(path.as_bytes()), Err(fault), "{path}");
        }
    }

    #[test]
    fn prefixes_come_longest_first_and_skip_depths_without_patterns() {
        let of = |path: &'static str, depths: &[usize]| -> Vec<&str> {
            let mut counts = Counts::default();
            depths.iter().for_each(|depth| counts.add(*depth));
            prefixes(path.as_bytes(), counts).map(|prefix| std::str::from_utf8(prefix).unwrap()).collect()
        };
        assert_eq!(of("/a/b/c", &[0, 1, 2, 3, 9]), ["/a/b/c", "/a/b", "/a", ""]);
        assert_eq!(of("/a/b/c", &[1, 3]), ["/a/b/c", "/a"]);
        assert_eq!(of("/a/b/c", &[0, 2]), ["/a/b", ""]);
        assert_eq!(of("/a/b/c", &[]), [] as [&str; 0]);
        assert_eq!(of("/a/", &[1, 2]), ["/a/", "/a"]);
        assert_eq!(of("//a", &[0, 1, 2]), ["//a", "/", ""]);
        assert_eq!(of("*", &[0, 1]), [""]);
        assert_eq!(of("", &[0, 1]), [""]);
    }
}
