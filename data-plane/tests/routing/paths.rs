//! A path is forwarded as it was sent, or the request is rejected: two servers never read it differently.

use std::collections::BTreeSet;

use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::{Config, TestRunner},
};

use crate::asking::Stage;

const FILE: &str = r#"
pools: [{ name: public }, { name: private }]
routes:
  - { name: private, match: { path: /private }, pool: private }
  - { name: public, match: { path: /public }, pool: public }
"#;

/// The readings of a path: everything that some server does with it, in every order and number.
fn readings(path: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::from([path.to_owned()]);
    loop {
        let next: BTreeSet<String> = all.iter().flat_map(|path| steps(path)).collect();
        let before = all.len();
        all.extend(next);
        if all.len() == before {
            return all;
        }
    }
}

fn steps(path: &str) -> Vec<String> {
    let mut steps: Vec<String> = [
        ("%2F", "/"),
        ("%2f", "/"),
        ("%5C", "\\"),
        ("%5c", "\\"),
        ("\\", "/"),
        ("%2e", "."),
        ("%2E", "."),
        ("%70", "p"),
        ("//", "/"),
    ]
    .iter()
    .map(|(from, to)| path.replace(from, to))
    .collect();
    // RFC 3986, 5.2.4.
    let mut resolved: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (at, segment) in segments.iter().enumerate() {
        let last = at + 1 == segments.len();
        match *segment {
            "." if last => resolved.push(""),
            "." => {}
            ".." => {
                resolved.pop();
                if last {
                    resolved.push("");
                }
            }
            segment => resolved.push(segment),
        }
    }
    steps.push(format!("/{}", resolved.join("/")));
    let bare: Vec<&str> =
        path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
    steps.push(bare.join("/"));
    if let Some(host) = path.strip_prefix("//") {
        // RFC 3986, 3.2, and the URL standard, which skips all slashes before a host.
        for host in [host, host.trim_start_matches('/')] {
            steps.push(host.find('/').map_or("/", |slash| &host[slash..]).to_owned());
        }
    }
    steps
}

const PATHS: &str = "(/|/|/|private|public|\\.|\\.\\.|%2[fF]|%2e%2E|%5[cC]|\\\\|;|;a=b|%70rivate|x){1,9}";

#[tokio::test]
async fn no_reading_of_what_a_pool_gets_belongs_to_another_one() {
    let stage = Stage::start(FILE).await;
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let paths = proptest::string::string_regex(PATHS).unwrap();
    let mut client = stage.http1().await;
    let mut by_status = std::collections::BTreeMap::<u16, usize>::new();
    for _ in 0..3000 {
        let path = format!("/{}", paths.new_tree(&mut runner).unwrap().current());
        let got = client.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        *by_status.entry(got.status).or_default() += 1;
        if got.status == 200 {
            assert_eq!(got.asked(), format!("GET {path} HTTP/1.1"), "it is forwarded as it came");
            let foreign = if got.backend() == "public" { "/private" } else { "/public" };
            for reading in readings(&path) {
                let is_foreign = reading
                    .strip_prefix(foreign)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                assert!(!is_foreign, "{path} went to {}, and can be read as {reading}", got.backend());
            }
        }
    }
    // The generator produces some of each.
    for status in [200, 400, 404] {
        assert!(by_status.get(&status).is_some_and(|count| *count > 50), "{by_status:?}");
    }
}

const STRIPPED: &str = r#"
pools: [{ name: app }, { name: replaced }, { name: open }, { name: protected }]
routes:
  - { name: open, pool: open }
  - { name: admin, match: { path: /private }, pool: protected }
  - { name: app, match: { path: /app }, pool: app, rewrite: { strip_prefix: /app } }
  - { name: app-admin, match: { path: /app/private }, pool: protected, rewrite: { strip_prefix: /app } }
  - { name: old, match: { path: /old }, pool: replaced, rewrite: { replace_prefix: / } }
  - { name: old-admin, match: { path: /old/private }, pool: protected }
"#;

#[tokio::test]
async fn no_reading_of_a_rewritten_path_belongs_to_another_route() {
    let stage = Stage::start(STRIPPED).await;
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let paths = proptest::string::string_regex(PATHS).unwrap();
    let fixed = [
        "//x/private",
        "/\\x/private",
        "//u@x/private",
        "/%2Fx/private",
        "/%5cx/private",
        "/.//x/private",
        "/a/..//x/private",
        "/;a/x/private",
        "///x/private",
    ];
    let mut client = stage.http1().await;
    let (mut passed, mut refused) = (0, 0);
    for n in 0..2000 {
        let rest = match fixed.get(n / 2) {
            Some(rest) => (*rest).to_owned(),
            None => format!("/{}", paths.new_tree(&mut runner).unwrap().current()),
        };
        let path = format!("{}{rest}", ["/app", "/old"][n % 2]);
        let got = client.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        if n / 2 < fixed.len() {
            assert_eq!(got.status, 400, "{path}");
        }
        if got.status != 200 {
            refused += 1;
            continue;
        }
        passed += 1;
        if got.backend() != "protected" {
            let asked = got.asked().split(' ').nth(1).unwrap();
            for reading in readings(asked) {
                let is_private = reading
                    .strip_prefix("/private")
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                assert!(!is_private, "{path} became {asked}, which can be read as {reading}");
            }
        }
    }
    assert!(passed > 200 && refused > 200, "{passed} {refused}");
}

#[tokio::test]
async fn where_no_route_asks_for_a_path_every_path_passes() {
    let stage = Stage::start("pools: [{ name: p }]\nroutes: [{ name: r, pool: p }]").await;
    for path in ["/../x", "/a/%2e%2e/b", "//a", "/%zz", "/a%2Fb", "/%00"] {
        let got = stage.get("a", path, "").await;
        assert_eq!((got.status, got.asked()), (200, format!("GET {path} HTTP/1.1").as_str()), "{path}");
    }
}
