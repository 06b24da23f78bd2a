//! Any path against a fixed set of routes.

use std::{collections::BTreeSet, sync::OnceLock};

use crate::{
    Snapshot,
    config::WebScheme,
    file,
    routing::{Match, PathPattern, PathRewrite, Request, scan},
};

const ROUTES: &str = r#"
pools: [{ name: p }]
routes:
  - { name: default, pool: p }
  - { name: public, match: { path: /public }, pool: p }
  - { name: private, match: { path: /private }, pool: p }
  - { name: private-a, match: { path: /private/a }, pool: p }
  - { name: private-exact, match: { path_exact: /private/ }, pool: p }
  - { name: a, match: { path: /a }, pool: p }
  - { name: a-b, match: { path: /a/b }, pool: p }
  - { name: a-b-c, match: { path: /a/b/c }, pool: p }
  - { name: a-b-post, match: { path: /a/b, methods: [POST] }, pool: p }
  - { name: a-exact, match: { path_exact: /a/b/a }, pool: p }
  - { name: b, match: { path: "/b%20b" }, pool: p }
  - { name: dots, match: { path: /a/... }, pool: p }
  - { name: few, match: { hosts: [few.example] }, pool: p }
  - { name: few-a, match: { hosts: [few.example], path: /a }, pool: p }
  - { name: few-a-b, match: { hosts: [few.example], path_exact: /a/b }, pool: p }
  - { name: few-private, match: { hosts: ["*.example"], path: /private }, pool: p }
  - { name: below, match: { hosts: ["*.few.example"], path: /public }, pool: p }
"#;

/// Limit on the readings of one path that are checked.
const MOST: usize = 512;

struct TestRequest<'a> {
    host: &'static str,
    method: &'static [u8],
    path: &'a [u8],
}

impl Request for TestRequest<'_> {
    fn host(&self) -> Option<&[u8]> {
        Some(self.host.as_bytes())
    }

    fn path(&self) -> &[u8] {
        self.path
    }

    fn method(&self) -> &[u8] {
        self.method
    }

    fn scheme(&self) -> WebScheme {
        WebScheme::Http
    }

    fn any_header(&self, _: &str, _: impl Fn(&[u8]) -> bool) -> bool {
        false
    }
}

/// Prefixes that are stripped.
const STRIPPED: [&str; 5] = ["/public", "/private", "/a", "/a/b", "/a/..."];

/// The input is a host and a method, one byte each, and a path. The router must find what the definition says. If the
/// request is routed, no reading of its path by a server may belong to another route, with or without a prefix.
pub fn paths(input: &[u8]) {
    static READY: OnceLock<Option<(Snapshot, Vec<Match>)>> = OnceLock::new();
    let ready = READY.get_or_init(|| {
        let (_, snapshot) = file::parse(ROUTES).ok()?;
        let matches = snapshot.routes.iter().map(|route| route.matches.clone()).collect();
        Some((snapshot, matches))
    });
    let Some((snapshot, matches)) = ready else { panic!("the routes are invalid") };
    let [host, method, path @ ..] = input else { return };
    let hosts = ["any.test", "few.example", "WWW.few.example.", "a.b.example:80", ""];
    let methods = [&b"GET"[..], b"POST"];
    let asked = TestRequest {
        host: hosts[usize::from(*host) % hosts.len()],
        method: methods[usize::from(*method) % methods.len()],
        path: path.split(|byte| *byte == b'?').next().unwrap_or_default(),
    };
    let found = snapshot.router.find(&asked);
    // If there are several reasons to reject a path, the search stops at the first.
    assert_eq!(found.ok(), scan::scan(matches, &asked).ok(), "{found:?}");
    let Ok(found) = found else { return };
    for reading in readings(asked.path) {
        let belongs = scan::one(matches, &asked, &reading);
        assert_eq!(belongs, found, "it can be read as {}", String::from_utf8_lossy(&reading));
    }
    for prefix in STRIPPED {
        let Ok(from) = PathPattern::parse(prefix, false) else { panic!("{prefix} is invalid") };
        let strip = PathRewrite::Prefix { from, to: "".into() };
        // `/a` becomes `/`, as `/a/` does, which may have another route.
        let is_whole = decoded(asked.path) == prefix.as_bytes();
        let Some(left) = strip.apply(asked.path).ok().flatten().filter(|_| !is_whole) else { continue };
        for reading in readings(&left) {
            let whole = [prefix.as_bytes(), &reading].concat();
            let belongs = scan::one(matches, &asked, &whole);
            let reading = String::from_utf8_lossy(&reading);
            assert_eq!(belongs, found, "without {prefix} it can be read as {reading}");
        }
    }
}

/// All readings of a path by servers: every step, in every order and number. A second implementation that shares no
/// code with the router.
fn readings(path: &[u8]) -> BTreeSet<Vec<u8>> {
    let mut all = BTreeSet::new();
    let mut open = vec![decoded(path)];
    while let Some(path) = open.pop() {
        if all.len() < MOST && all.insert(path.clone()) {
            open.extend(steps(&path));
        }
    }
    all
}

/// Every server decodes the escapes of ordinary bytes.
fn decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < path.len() {
        let digits = path.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| path[at] == b'%') {
            Some(byte) if !b"/\\%".contains(&byte) => out.push(byte),
            Some(byte) => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            None => {
                out.push(path[at]);
                at += 1;
                continue;
            }
        }
        at += 3;
    }
    out
}

fn steps(path: &[u8]) -> Vec<Vec<u8>> {
    let mut steps: Vec<Vec<u8>> = [(&b"%2F"[..], &b"/"[..]), (b"%5C", b"\\"), (b"\\", b"/"), (b"//", b"/")]
        .iter()
        .map(|(from, to)| replaced(path, from, to))
        .collect();
    // The text after a semicolon is a parameter of the segment (RFC 3986 section 3.3).
    let bare = path.split(|byte| *byte == b'/');
    let bare: Vec<&[u8]> =
        bare.map(|segment| segment.split(|byte| *byte == b';').next().unwrap_or_default()).collect();
    steps.push(bare.join(&b'/'));
    if path.starts_with(b"/") {
        steps.push(resolved(path));
    }
    // The URL standard and `urllib.parse`, given a decoded path.
    let without: Vec<u8> = path.iter().copied().filter(|byte| !byte.is_ascii_control()).collect();
    steps.push(without.trim_ascii_end().to_vec());
    steps.push(path.split(|byte| b"?#".contains(byte)).next().unwrap_or_default().to_vec());
    if path.starts_with(b"//") {
        // Two slashes start a host, which ends at the next slash (RFC 3986 section 3.2). The URL standard skips all
        // slashes before it.
        let segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').skip(2).collect();
        let named = segments.iter().position(|segment| !segment.is_empty()).unwrap_or(segments.len() - 1);
        steps.extend([0, named].map(|host| [b"/", segments[host + 1..].join(&b'/').as_slice()].concat()));
    }
    steps
}

/// RFC 3986 section 5.2.4.
fn resolved(path: &[u8]) -> Vec<u8> {
    let segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').skip(1).collect();
    let mut left: Vec<&[u8]> = Vec::new();
    for (at, segment) in segments.iter().enumerate() {
        let is_last = at + 1 == segments.len();
        match *segment {
            b"." | b".." => {
                if *segment == b".." {
                    left.pop();
                }
                if is_last {
                    left.push(b"");
                }
            }
            segment => left.push(segment),
        }
    }
    [b"/", left.join(&b'/').as_slice()].concat()
}

fn replaced(path: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = path;
    while let Some(first) = rest.first() {
        match rest.strip_prefix(from) {
            Some(behind) => {
                out.extend_from_slice(to);
                rest = behind;
            }
            None => {
                out.push(*first);
                rest = &rest[1..];
            }
        }
    }
    out
}
