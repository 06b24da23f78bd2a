//! Signals: only SIGTERM and SIGINT stop a program, and they stop it gracefully.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use e2e::{Fleet, Program, eventually, get};

const LONG: Duration = Duration::from_secs(30);

/// Signals that end a process by default and do not report a fault of the program itself.
const SIGNALS: [&str; 13] = [
    "HUP", "USR1", "USR2", "PIPE", "ALRM", "STKFLT", "XCPU", "XFSZ", "VTALRM", "PROF", "POLL", "PWR", "RTMIN",
];

/// Sends each signal, waits until each is logged, and stops the program.
async fn survives(program: &mut Program, url: &str, path: &str, stop: &str) {
    for signal in SIGNALS {
        program.signal(signal).unwrap();
    }
    // The last real-time signal has no portable name.
    program.signal("64").unwrap();
    // All signals except SIGHUP and SIGPIPE, plus the last real-time one.
    let ignored = SIGNALS.len() - 2 + 1;
    eventually("each signal in the log", LONG, async || {
        let log = program.log();
        (log.matches("signal ignored").count() >= ignored && log.contains("to reload")).then_some(())
    })
    .await
    .unwrap_or_else(|error| panic!("{error}: {}", program.log()));
    assert_eq!(get(url, path).await.unwrap().status, 200, "{}", program.log());
    program.signal(stop).unwrap();
    assert!(program.ended(LONG).await.unwrap(), "{}", program.log());
    assert!(!program.log().contains("panicked"), "{}", program.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_signal_ends_a_program() {
    let mut fleet = Fleet::start(1, 1).await.unwrap();
    let (http, admin) = (fleet.http(0).unwrap(), fleet.admin().to_owned());
    for _ in 0..5 {
        assert_eq!(get(&http, "/books").await.unwrap().status, 200);
    }
    survives(&mut fleet.nodes[0], &http, "/books", "TERM").await;
    assert!(fleet.nodes[0].log().contains("draining"), "{}", fleet.nodes[0].log());
    // The counts are complete: five requests, and one after the signals.
    let counted = async || {
        let day = get(&admin, "/reports/summary").await.ok()?.json().ok()?;
        (day.pointer("/requests")?.as_u64()? == 6).then_some(())
    };
    eventually("six requests in the report", LONG, counted).await.unwrap();
    survives(fleet.control_plane.as_mut().unwrap(), &admin, "/healthz", "INT").await;
    let mock = fleet.mocks[0].address("listening").unwrap();
    survives(&mut fleet.mocks[0], &mock, "/books", "TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weir_dev_without_a_terminal_survives_them_too() {
    let any = "127.0.0.1:0";
    let ports =
        ["--http", any, "--status", any, "--admin-listen", any, "--nodes-listen", any, "--backend", any];
    let mut dev = Program::start("weir", &[&["dev", "--backends", "0"][..], &ports].concat()).unwrap();
    let admin = dev.address("admin").unwrap();
    survives(&mut dev, &admin, "/healthz", "TERM").await;
}
