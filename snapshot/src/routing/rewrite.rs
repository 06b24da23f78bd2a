//! Path rewriting.

use super::{
    path::{PathFault, PathPattern, is_unambiguous, plain},
    readings::each_reading,
};

/// A rewrite of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRewrite {
    /// Replaces the prefix `from` by `to`.
    Prefix {
        /// The prefix; paths without it stay unchanged.
        from: PathPattern,
        /// Empty, or with a leading and without a trailing slash.
        to: Box<str>,
    },
    /// Replaces the whole path; may contain a query.
    Whole(Box<str>),
}

impl PathRewrite {
    /// The prefix that clients see and its replacement, as parts of a URL without trailing slashes. `None` if the
    /// whole path is replaced.
    pub(crate) fn prefixes(&self) -> Option<(String, String)> {
        let Self::Prefix { from, to } = self else { return None };
        let from: &[u8] = match from {
            PathPattern::Prefix(prefix) | PathPattern::Exact(prefix) => prefix,
            PathPattern::Any => b"",
        };
        let mut outer = String::with_capacity(from.len());
        for byte in from {
            // RFC 3986 section 3.3; a percent sign already starts an escape.
            if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(byte) {
                outer.push(char::from(*byte));
            } else {
                outer.push_str(&format!("%{byte:02X}"));
            }
        }
        Some((outer, to.to_string()))
    }

    /// Returns the new target (path and query), or `None` if it stays unchanged.
    ///
    /// # Errors
    /// A path that has the prefix in one reading and not in another, so that servers would disagree about the rest;
    /// or a rest that some servers read as a host and another path.
    pub fn apply(&self, target: &[u8]) -> Result<Option<Vec<u8>>, PathFault> {
        let end = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
        let (path, query) = target.split_at(end);
        match self {
            Self::Whole(whole) => {
                let query = if whole.contains('?') { &[][..] } else { query };
                Ok(Some([whole.as_bytes(), query].concat()))
            }
            Self::Prefix { from, to } => {
                let Some((rest, is_unambiguous)) = behind(from, path)? else { return Ok(None) };
                let slash: &[u8] = if to.is_empty() && rest.is_empty() { b"/" } else { b"" };
                let mut target = [to.as_bytes(), slash, rest].concat();
                if !is_unambiguous {
                    check_rewritten(&target)?;
                }
                target.extend_from_slice(query);
                Ok(Some(target))
            }
        }
    }
}

/// Whether every reading of a rewritten path is one that the route was chosen for.
///
/// The readings of `/app//x/admin` are `/app//x/admin` and `/app/x/admin`, but the rest without `/app` can also be
/// read as `/admin` on the host `x`. A host is the only thing that a server can see in the rest and not in the whole:
/// all other steps work segment by segment, and readings that leave the prefix are rejected by [`behind`].
///
/// # Errors
/// A reading starts with two slashes, or there are too many readings.
pub(crate) fn check_rewritten(path: &[u8]) -> Result<(), PathFault> {
    let read = plain(path)?;
    if is_unambiguous(&read) {
        return Ok(());
    }
    let mut has_host = false;
    each_reading(&read, |reading| {
        has_host = reading.starts_with(b"//");
        !has_host
    })?;
    if has_host { Err(PathFault::RewrittenToHost) } else { Ok(()) }
}

/// The part of a path, as it was sent, after a prefix, and whether the whole path has only one reading; `None` if the
/// path does not start with the prefix.
fn behind<'a>(prefix: &PathPattern, path: &'a [u8]) -> Result<Option<(&'a [u8], bool)>, PathFault> {
    let read = plain(path)?;
    let begins = prefix.takes(&read);
    let is_unambiguous = is_unambiguous(&read);
    if !is_unambiguous {
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
    // A prefix has no escaped slash, so its segments are those of the path as it was sent.
    let mut slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    Ok(Some((&path[slashes.nth(segments).unwrap_or(path.len())..], is_unambiguous)))
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
    fn a_prefix_matches_whole_segments() {
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
            // The rest stays as it was sent.
            ("/v1", "", "/%76%31/a%2Fb%20c", Some("/a%2Fb%20c")),
            ("/v1", "", "/v1/x//y/../z", Some("/x//y/../z")),
            ("/v1", "/api", "/v1//x/y", Some("/api//x/y")),
            ("/", "/api", "//x/y", Some("/api//x/y")),
            ("/v1", "", "/v1/a?//x", Some("/a?//x")),
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
    fn a_prefix_that_only_some_servers_see_is_rejected() {
        for path in ["/v1/../x", "/x/../v1/y", "//v1/x", "/v1%2Fx", "/v1;a/x"] {
            assert_eq!(prefix("/v1", "").apply(path.as_bytes()), Err(PathFault::Ambiguous), "{path}");
        }
        assert_eq!(prefix("/v1", "").apply(b"/v1/%zz"), Err(PathFault::Escape));
    }

    #[test]
    fn a_rewritten_path_that_some_servers_read_as_a_host_is_rejected() {
        for path in [
            "/v1//x/admin",
            "/v1/\\x/admin",
            "/v1//u@x/admin",
            "/v1///x/admin",
            "/v1/%2Fx/admin",
            "/v1/%5cx/admin",
            "/v1/.//x/admin",
            "/v1/a/..//x/admin",
            "/v1/;a/x/admin",
            "/v1/./%2fx/admin",
            "/%76%31//x/admin",
            "/v1//",
            "/v1//?x",
            "/v1/a/..;/%2fx",
        ] {
            let found = prefix("/v1", "").apply(path.as_bytes());
            assert_eq!(found, Err(PathFault::RewrittenToHost), "{path}");
        }
        // The text that `replace_prefix` puts before it can have the same effect.
        assert_eq!(prefix("/v1", "/a/..").apply(b"/v1//x"), Err(PathFault::RewrittenToHost));
        assert_eq!(prefix("/", "").apply(b"//x/admin"), Err(PathFault::RewrittenToHost));
    }

    proptest! {
        #[test]
        fn the_rest_is_part_of_the_path_that_was_sent(path in "(/(v1|a|%76%31|\\.\\.?|b%2Fc|d;e|))*(/|\\?x)?") {
            let path = format!("/{}", path.trim_start_matches('/'));
            if let Ok(Some(left)) = prefix("/v1", "").apply(path.as_bytes()) {
                prop_assert!(left.starts_with(b"/") && !left.starts_with(b"//"));
                let left = String::from_utf8(left).unwrap();
                prop_assert!(path.ends_with(left.as_str()) || path.ends_with(&left[1..]), "{} {}", path, left);
            }
        }
    }
}
