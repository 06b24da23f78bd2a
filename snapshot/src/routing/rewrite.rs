//! Another path in the place of a request's.

use super::path::{PathFault, PathPattern, each_reading, is_unambiguous, plain};

/// How a path is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRewrite {
    /// What is in the place of the prefix `from`.
    Prefix {
        /// What must be there; a path without it stays as it is.
        from: PathPattern,
        /// Empty, or begins with a slash and does not end with one.
        to: Box<str>,
    },
    /// Another path for all; it may have a query of its own.
    Whole(Box<str>),
}

impl PathRewrite {
    /// The prefix that clients see, and the one in its place, as parts of a URL without a slash at their ends. `None`:
    /// the whole path is another one.
    pub(crate) fn prefixes(&self) -> Option<(String, String)> {
        let Self::Prefix { from, to } = self else { return None };
        let from: &[u8] = match from {
            PathPattern::Prefix(prefix) | PathPattern::Exact(prefix) => prefix,
            PathPattern::Any => b"",
        };
        let mut outer = String::with_capacity(from.len());
        for byte in from {
            // RFC 3986, 3.3; a percent sign is an escape already.
            if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(byte) {
                outer.push(char::from(*byte));
            } else {
                outer.push_str(&format!("%{byte:02X}"));
            }
        }
        Some((outer, to.to_string()))
    }

    /// The target (path and query) in the place of the request's; `None`: it stays as it is.
    ///
    /// # Errors
    /// A path that has the prefix in one reading and not in another: what would be left of it is anyone's guess.
    pub fn apply(&self, target: &[u8]) -> Result<Option<Vec<u8>>, PathFault> {
        let end = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
        let (path, query) = target.split_at(end);
        match self {
            Self::Whole(whole) => {
                let query = if whole.contains('?') { &[][..] } else { query };
                Ok(Some([whole.as_bytes(), query].concat()))
            }
            Self::Prefix { from, to } => {
                let Some(rest) = behind(from, path)? else { return Ok(None) };
                let slash: &[u8] = if to.is_empty() && rest.is_empty() { b"/" } else { b"" };
                Ok(Some([to.as_bytes(), slash, rest, query].concat()))
            }
        }
    }
}

/// What of a path as it was sent is behind a prefix; `None`: it does not begin with it.
fn behind<'a>(prefix: &PathPattern, path: &'a [u8]) -> Result<Option<&'a [u8]>, PathFault> {
    let read = plain(path)?;
    let begins = prefix.takes(&read);
    if !is_unambiguous(&read) {
        let mut agree = true;
        each_reading(&read, |reading| {
            agree = prefix.takes(reading) == begins;
            agree
        })?;
        if !agree {
            return Err(PathFault::Ambiguous);
        }
    }
    if !begins || !path.starts_with(b"/") {
        return Ok(None);
    }
    let segments = match prefix {
        PathPattern::Prefix(prefix) => prefix.iter().filter(|byte| **byte == b'/').count(),
        PathPattern::Exact(_) | PathPattern::Any => 0,
    };
    // A prefix has no escaped slash, so that its segments are those of the path as it was sent.
    let mut slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    Ok(Some(&path[slashes.nth(segments).unwrap_or(path.len())..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(from: &str, to: &str) -> PathRewrite {
        PathRewrite::Prefix { from: PathPattern::parse(from, false).unwrap(), to: to.into() }
    }

    fn applied(rewrite: &PathRewrite, target: &str) -> Option<String> {
        rewrite.apply(target.as_bytes()).unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_prefix_goes_up_to_the_border_of_a_segment() {
        for (from, to, target, expected) in [
            ("/v1", "", "/v1/books?q=/v1", Some("/books?q=/v1")),
            ("/v1", "", "/v1", Some("/")),
            ("/v1", "", "/v1?a", Some("/?a")),
            ("/v1", "", "/v1/", Some("/")),
            ("/v1", "", "/v1x", None),
            ("/v1", "", "/v2/v1", None),
            ("/v1/a", "", "/v1/a/b/c", Some("/b/c")),
            ("/v1", "/api", "/v1/books", Some("/api/books")),
            ("/v1", "/api", "/v1", Some("/api")),
            ("/", "/api", "/books", Some("/api/books")),
            ("/", "/api", "/", Some("/api/")),
            // What is left is left as it was sent.
            ("/v1", "", "/%76%31/a%2Fb%20c", Some("/a%2Fb%20c")),
            ("/v1", "", "/v1//x/../y", Some("//x/../y")),
            ("/a%20b", "", "/a%20b/c", Some("/c")),
            ("/v1", "", "*", None),
        ] {
            assert_eq!(applied(&prefix(from, to), target).as_deref(), expected, "{from} {target}");
        }
        assert_eq!(applied(&PathRewrite::Whole("/x".into()), "/a?b").as_deref(), Some("/x?b"));
        assert_eq!(applied(&PathRewrite::Whole("/x?y".into()), "/a?b").as_deref(), Some("/x?y"));
    }

    #[test]
    fn prefixes_are_parts_of_urls() {
        let of = |from, to| prefix(from, to).prefixes().unwrap();
        assert_eq!(of("/a%20b/%63", ""), ("/a%20b/c".into(), String::new()));
        assert_eq!(of("/caf%C3%A9%2525", "/x"), ("/caf%C3%A9%2525".into(), "/x".into()));
        assert_eq!(of("/", "/x"), (String::new(), "/x".into()));
        assert_eq!(PathRewrite::Whole("/x".into()).prefixes(), None);
    }

    #[test]
    fn a_prefix_that_only_some_servers_see_is_refused() {
        for path in ["/v1/../x", "/x/../v1/y", "//v1/x", "/v1%2Fx", "/v1;a/x"] {
            assert_eq!(prefix("/v1", "").apply(path.as_bytes()), Err(PathFault::Ambiguous), "{path}");
        }
        assert_eq!(prefix("/v1", "").apply(b"/v1/%zz"), Err(PathFault::Escape));
    }

    proptest! {
        #[test]
        fn what_is_left_is_a_path_that_was_sent(path in "(/(v1|a|%76%31|\\.\\.?|b%2Fc|d;e|))*(/|\\?x)?") {
            let path = format!("/{}", path.trim_start_matches('/'));
            if let Ok(Some(left)) = prefix("/v1", "").apply(path.as_bytes()) {
                prop_assert!(left.starts_with(b"/"));
                let left = String::from_utf8(left).unwrap();
                prop_assert!(path.ends_with(left.as_str()) || path.ends_with(&left[1..]), "{} {}", path, left);
            }
        }
    }
}
