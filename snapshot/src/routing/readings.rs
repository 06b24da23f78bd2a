//! The readings of a request's path: the ways in which servers interpret it.
//!
//! A routing decision (which clients may pass, which backend responds) must hold for the backend's interpretation of
//! the path, and servers do not agree: one takes `/a/../b` literally, another as `/b`. `//` is one slash for some and
//! two for others. `%2F` is a slash for servers that decode first. `..;` is `..` for servers that know parameters.
//! `//x/b` is `/b` for servers that resolve the target as a URL reference (RFC 3986 section 4.2) and take `x` for a
//! host. An application that decodes a path and parses the result as a URL reads `/%09b` as `/b`, and `/b%3Fx` as
//! `/b`. The path is forwarded unchanged, so a request is routed only if **all** readings match the same route, and
//! is rejected otherwise.
//!
//! docs/reference/routing.md lists the servers whose readings are covered, and the readings that are not.

use super::path::{PathFault, is_control};

/// A path with more readings is rejected.
const MAX_READINGS: usize = 64;

/// Limit on the bytes read to find the readings of one path. A path of 200 bytes can have all its readings, one of 16
/// KiB only a few: a request must not cost more than a fraction of a millisecond.
const MAX_WORK: usize = 64 << 10;

/// A step that a server may apply to a path before using it. A server may apply any of these steps, and the next
/// server in the chain again; the order matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Takes `%2F` for `/`.
    DecodeSlashes,
    /// Takes `\` and `%5C` for `/`.
    TurnBackslashes,
    /// Takes several slashes for one.
    MergeSlashes,
    /// Removes `.` and `..`.
    ResolveDots,
    /// Removes `;` and the text after it in a segment.
    DropParameters,
    /// Removes control characters and trailing blanks (the URL standard, `urllib.parse`, `trim` in many languages).
    DropControls,
    /// Takes `?` or `#` for the end of the path.
    CutQuery,
    /// Takes the text after two slashes for a host, which may be empty (RFC 3986 section 3.2; `java.net.URI`,
    /// `urllib.parse`).
    DropHost,
    /// Takes the text after two or more slashes for a host (the URL standard of browsers, also in Node).
    DropHostAfterSlashes,
}

/// Calls `look` with every reading of a path returned by [`plain`](super::path::plain), the literal one first, until
/// `look` returns false.
///
/// # Errors
/// A reading goes above the root, or there are too many readings.
pub(crate) fn each_reading(path: &[u8], mut look: impl FnMut(&[u8]) -> bool) -> Result<(), PathFault> {
    let steps = Step::possible(path);
    let mut readings = vec![path.to_vec()];
    let (mut at, mut work) = (0, 0);
    while let Some(reading) = readings.get(at) {
        if !look(reading) {
            return Ok(());
        }
        for step in steps.iter().flatten() {
            let Some(reading) = readings.get(at) else { break };
            if !step.applies(reading) {
                continue;
            }
            work += reading.len();
            if work > MAX_WORK {
                return Err(PathFault::TooManyReadings);
            }
            let mut next = Vec::with_capacity(reading.len());
            step.take(reading, &mut next)?;
            if readings.contains(&next) {
                continue;
            }
            if readings.len() == MAX_READINGS {
                return Err(PathFault::TooManyReadings);
            }
            readings.push(next);
        }
        at += 1;
    }
    Ok(())
}

impl Step {
    /// The steps that can change this path or any of its readings. No step adds what another one removes, except
    /// slashes.
    fn possible(path: &[u8]) -> [Option<Self>; 9] {
        let has = |escape: &[u8]| path.windows(3).any(|three| three == escape);
        // A dot segment follows a slash in any spelling: `/`, `\`, `%2F` or `%5C`. A control character may be between
        // them.
        let may_follow = |byte: u8| matches!(byte, b'/' | b'\\' | b'F' | b'C') || is_control(byte);
        let may_be_dots = |pair: &[u8]| pair[1] == b'.' && may_follow(pair[0]);
        let has_blanks = path.iter().any(|byte| is_control(*byte) || *byte == b' ');
        let when = |possible: bool, step| possible.then_some(step);
        [
            when(has(b"%2F"), Self::DecodeSlashes),
            when(path.contains(&b'\\') || has(b"%5C"), Self::TurnBackslashes),
            Some(Self::MergeSlashes),
            when(path.windows(2).any(may_be_dots), Self::ResolveDots),
            when(path.contains(&b';'), Self::DropParameters),
            when(has_blanks, Self::DropControls),
            when(path.iter().any(|byte| matches!(byte, b'?' | b'#')), Self::CutQuery),
            Some(Self::DropHost),
            Some(Self::DropHostAfterSlashes),
        ]
    }

    fn applies(self, reading: &[u8]) -> bool {
        match self {
            Self::DropHost | Self::DropHostAfterSlashes => reading.starts_with(b"//"),
            _ => true,
        }
    }

    fn take(self, path: &[u8], into: &mut Vec<u8>) -> Result<(), PathFault> {
        let host = match self {
            Self::DropHost => path.get(2..),
            Self::DropHostAfterSlashes => path.iter().position(|byte| *byte != b'/').map(|at| &path[at..]),
            Self::DropControls => {
                into.extend(path.iter().filter(|byte| !is_control(**byte)));
                into.truncate(into.trim_ascii_end().len());
                return Ok(());
            }
            Self::CutQuery => {
                into.extend(path.iter().take_while(|byte| !matches!(byte, b'?' | b'#')));
                return Ok(());
            }
            _ => return self.take_bytes(path, into),
        };
        let host = host.unwrap_or_default();
        match host.iter().position(|byte| *byte == b'/') {
            Some(slash) => into.extend_from_slice(&host[slash..]),
            None => into.push(b'/'),
        }
        Ok(())
    }

    fn take_bytes(self, path: &[u8], into: &mut Vec<u8>) -> Result<(), PathFault> {
        let (mut at, mut drops) = (0, false);
        while let Some(byte) = path.get(at) {
            let (byte, length) = match (byte, path.get(at + 1..at + 3)) {
                (b'%', Some(b"2F")) if self == Self::DecodeSlashes => (b'/', 3),
                (b'%', Some(b"5C")) if self == Self::TurnBackslashes => (b'/', 3),
                (b'\\', _) if self == Self::TurnBackslashes => (b'/', 1),
                (byte, _) => (*byte, 1),
            };
            at += length;
            drops = byte != b'/' && (drops || byte == b';' && self == Self::DropParameters);
            if drops {
                continue;
            }
            if byte == b'/' && self == Self::ResolveDots {
                resolve(into, false)?;
            }
            if !(byte == b'/' && self == Self::MergeSlashes && into.last() == Some(&b'/')) {
                into.push(byte);
            }
        }
        if self == Self::ResolveDots { resolve(into, true) } else { Ok(()) }
    }
}

/// Removes a dot segment at the end of the text so far, up to its own slash.
fn resolve(read: &mut Vec<u8>, at_end: bool) -> Result<(), PathFault> {
    let slash = read.iter().rposition(|byte| *byte == b'/');
    let Some(slash) = slash else { return Ok(()) };
    let keep = match &read[slash + 1..] {
        b"." => slash,
        b".." => read[..slash].iter().rposition(|byte| *byte == b'/').ok_or(PathFault::AboveRoot)?,
        _ => return Ok(()),
    };
    // `/a/.` is `/a/`; `/a/./b` gets its slash with the next segment.
    read.truncate(keep + usize::from(at_end));
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::routing::path::{is_simple, is_unambiguous, plain};

    fn readings(path: &str) -> Result<Vec<String>, PathFault> {
        let plain = plain(path.as_bytes())?;
        let mut all = Vec::new();
        each_reading(&plain, |read| {
            all.push(String::from_utf8_lossy(read).into_owned());
            true
        })?;
        all.sort();
        all.dedup();
        Ok(all)
    }

    #[test]
    fn the_readings_of_a_path_are_those_of_known_servers() {
        for (path, expected) in [
            ("/a/b", &["/a/b"][..]),
            ("/a/../b", &["/a/../b", "/b"]),
            ("/a/./b", &["/a/./b", "/a/b"]),
            ("/a/b/..", &["/a/", "/a/b/.."]),
            ("/a/.", &["/a/", "/a/."]),
            ("/x//a", &["/x/a", "/x//a"]),
            ("/a%2Fb", &["/a%2Fb", "/a/b"]),
            ("/a\\b", &["/a/b", "/a\\b"]),
            ("/a/..%2fb", &["/a/..%2Fb", "/a/../b", "/b"]),
            // A server that merges slashes first goes one level higher than one that does not.
            ("/a//../b", &["/a/../b", "/a//../b", "/a/b", "/b"]),
            ("/a/..;x=1/b", &["/a/../b", "/a/..;x=1/b", "/b"]),
            ("/a/...", &["/a/..."]),
            ("/.well-known/x", &["/.well-known/x"]),
            // The text after two slashes may be a host.
            ("//a", &["/", "//a", "/a"]),
            ("//x/a", &["//x/a", "/a", "/x/a"]),
            ("//u@x:1/a", &["//u@x:1/a", "/a", "/u@x:1/a"]),
            ("///x/a", &["///x/a", "/a", "/x/a"]),
            ("/\\x/a", &["//x/a", "/\\x/a", "/a", "/x/a"]),
            ("/%2Fx/a", &["/%2Fx/a", "//x/a", "/a", "/x/a"]),
            // An application may decode the path and parse the result as a URL.
            ("/a%0a", &["/a", "/a\n"]),
            ("/%09a%7F/b", &["/\ta\u{7f}/b", "/a/b"]),
            ("/a%20", &["/a", "/a "]),
            ("/a%20/b", &["/a /b"]),
            ("/a%3Fb", &["/a", "/a?b"]),
            ("/a%23%20", &["/a", "/a#", "/a# "]),
            ("/a/.%09./b", &["/a/.\t./b", "/a/../b", "/b"]),
            ("/a/%0d../b", &["/a/\r../b", "/a/../b", "/b"]),
            ("/%09/x/a", &["/\t/x/a", "//x/a", "/a", "/x/a"]),
        ] {
            let mut expected = expected.to_vec();
            expected.sort_unstable();
            assert_eq!(readings(path).unwrap(), expected, "{path}");
        }
        for path in
            ["/..", "/../a", "/a/../../b", "/%2e%2e/a", "/..%2Fa", "/..\\a", "/a/..%5c..%5Cb", "//x/.."]
        {
            assert_eq!(readings(path), Err(PathFault::AboveRoot), "{path}");
        }
    }

    /// Paths that Node's `new URL(target, base)`, its `url.parse`, `java.net.URI` or `urllib.parse` read as `/admin`,
    /// some of them behind a proxy that decodes, merges or resolves first.
    #[test]
    fn a_host_in_a_path_is_found_in_every_spelling() {
        for path in [
            "//x/admin",
            "/\\x/admin",
            "//u@x/admin",
            "///x/admin",
            "//x:80/admin",
            "//[::1]/admin",
            "//%78/admin",
            "/\\/x/admin",
            "/\\\\x\\admin",
            "/%2Fx/admin",
            "/%2F%2fx%2Fadmin",
            "/%5Cx/admin",
            "/%5c%5Cx%5cadmin",
            "/.//x/admin",
            "/./\\x/admin",
            "/a/..//x/admin",
            "/a/..%2f%2fx/admin",
            "/%2e//x/admin",
            "/;a//x/admin",
            "/.;a//x/admin",
            "//x;/admin",
            "//x/./admin",
            "//x//admin",
            "//x//y/admin",
            "//./admin",
            "//;/admin",
            "//x/%61dmin",
            "//x/a/../admin",
            "/a/..;b//x/admin",
            "//x;y@z/admin",
            "//\\x/admin",
            "////x/admin",
            "/%09/x/admin",
            "/%0d%0a/x/ad%09min",
            "//x/admin%20",
            "/%1f\\x/admin%3F",
            "//x/%01./admin",
        ] {
            assert!(readings(path).unwrap().iter().any(|read| read == "/admin"), "{path}");
        }
    }

    #[test]
    fn a_path_with_too_many_readings_is_rejected() {
        let path = "/a/b/c/d/../..%5C;%2F%2F%5C.%2F%5C//a//a";
        assert_eq!(readings(path), Err(PathFault::TooManyReadings));
    }

    #[test]
    fn a_long_path_costs_no_more_than_a_short_one() {
        for piece in
            ["/a;b%2Fc%5Cd//e/./f/../g", "\\", "%2F", ";/", "/./", "//a", "/a/..//b;c\\d%5c", "/a/../%2F"]
        {
            let path = piece.repeat((16 << 10) / piece.len());
            let path = plain(path.as_bytes()).unwrap();
            // The work stays within the limit; steps beyond it are not started.
            let (mut read, mut count) = (0, 0);
            let result = each_reading(&path, |reading| {
                read += reading.len();
                count += 1;
                true
            });
            assert!(read <= MAX_WORK + 2 * path.len() && count <= MAX_READINGS, "{piece}: {read} {count}");
            assert!(
                result.is_ok() || matches!(result, Err(PathFault::TooManyReadings | PathFault::AboveRoot))
            );
        }
        // Long paths with one ambiguity are routed.
        for path in [format!("/{}//a", "a".repeat(16 << 10)), format!("/x/../{}", "a/".repeat(4 << 10))] {
            assert_eq!(readings(&path).map(|all| all.len()), Ok(2), "{}", &path[..8]);
        }
    }

    proptest! {
        #[test]
        fn an_unambiguous_path_has_one_reading(path in "(/|;|\\.|a|%2[fF]|%2e|%5[cC]|\\\\|%41|%09|%20|%3f){0,12}") {
            let path = format!("/{path}");
            let plain = plain(path.as_bytes()).unwrap();
            if is_simple(path.as_bytes()) {
                prop_assert_eq!(plain.as_ref(), path.as_bytes());
                prop_assert!(is_unambiguous(&plain));
            }
            match readings(&path) {
                Ok(all) if is_unambiguous(&plain) => {
                    prop_assert_eq!(all, [String::from_utf8_lossy(&plain).into_owned()]);
                }
                Ok(_) => {}
                Err(_) => prop_assert!(!is_unambiguous(&plain), "{}", path),
            }
        }

        #[test]
        fn skipped_steps_change_nothing(path in "(/|;|\\.|a|%2[fF]|%2e|%5[cC]|\\\\|F|C|%0a|%20|%23){0,12}") {
            let plain = plain(path.as_bytes()).unwrap().into_owned();
            let possible = Step::possible(&plain);
            each_reading(&plain, |reading| {
                for step in [
                    Step::DecodeSlashes,
                    Step::TurnBackslashes,
                    Step::ResolveDots,
                    Step::DropParameters,
                    Step::DropControls,
                    Step::CutQuery,
                ] {
                    let mut next = Vec::new();
                    if !possible.contains(&Some(step)) && step.take(reading, &mut next).is_ok() {
                        assert_eq!(next, reading, "{step:?} of {path}");
                    }
                }
                true
            }).ok();
        }

        #[test]
        fn no_path_causes_a_panic(path in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(plain) = plain(&path) {
                let _ = each_reading(&plain, |_| true);
            }
        }
    }
}
