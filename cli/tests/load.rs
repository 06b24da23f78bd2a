//! Tests of `weir load` against mock backends.

// The lint does not recognize helper functions as test code.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

use serde_json::Value;

fn weir(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["--output", "json", "load"])
        .args(arguments)
        .output()
        .unwrap()
}

fn with_mock(test: impl FnOnce(String)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = backend_mock::Config {
        listen: ([127, 0, 0, 1], 0).into(),
        name: Some("one".into()),
        ..backend_mock::Config::default()
    };
    let mock = runtime.block_on(backend_mock::start(config)).unwrap();
    test(format!("http://{}", mock.address));
    runtime.block_on(mock.shutdown());
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_number_of_requests_is_exact() {
    with_mock(|url| {
        let books = format!("{url}/books");
        for how in [&["--connections", "7"], &["--rps", "5000"]] {
            let output = weir(&[&[books.as_str(), "--requests", "500"], &how[..]].concat());
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let tally = json(&output);
            assert_eq!((tally["sent"].as_u64(), tally["ok"].as_u64()), (Some(500), Some(500)), "{tally}");
            assert_eq!(tally["status"]["200"], 500);
            assert_eq!(tally["backends"]["one"], 500);
        }
    });
}

#[test]
fn a_fixed_rate_is_kept() {
    with_mock(|url| {
        let tally = json(&weir(&[&url, "--rps", "200", "--duration", "500ms"]));
        assert_eq!(tally["sent"], 100, "{tally}");
        // More requests than it can send in this time: the last ones are sent late, but none is skipped.
        let tally = json(&weir(&[&url, "--rps", "20000", "--duration", "100ms"]));
        assert_eq!(tally["sent"], 2000, "{tally}");
    });
}

#[test]
fn the_scenario_books_reads_and_writes() {
    with_mock(|url| {
        let output = weir(&["books", "--target", &url, "--requests", "200", "--connections", "4"]);
        let tally = json(&output);
        assert!(output.status.success(), "{tally}");
        assert_eq!(tally["status"]["201"], 20, "{tally}");
    });
}

#[test]
fn failures_are_counted_and_told() {
    with_mock(|url| {
        let output = weir(&[&format!("{url}/status/503"), "--requests", "10"]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(json(&output)["failed"], 10);
    });
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let output = weir(&[&format!("http://127.0.0.1:{port}/"), "--requests", "3"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json(&output)["failed"], 3);
}
