//! Tests of output: a failed write is an error, and no text that `weir` shows can control the terminal.

// The lint does not recognize helper functions as test code.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::Write as _,
    process::{Command, Output},
};

use support::{answer, answer_all, answer_once, command, http, stderr, stdout, weir};

/// A pipe without a reader.
fn nobody() -> std::io::PipeWriter {
    std::io::pipe().unwrap().1
}

/// A file on which every write fails, as on a full disk.
fn full() -> std::fs::File {
    std::fs::File::options().write(true).open("/dev/full").unwrap()
}

/// Commands that need no control plane.
const OFFLINE: [&[&str]; 7] = [
    &["schema"],
    &["completions", "bash"],
    &["completions", "zsh"],
    &["hash-password"],
    &["--help"],
    &["--version"],
    &["report", "--help"],
];

/// Commands that send one request to the control plane.
const ONLINE: [&[&str]; 43] = [
    &["status"],
    &["nodes"],
    &["nodes", "--watch", "100ms"],
    &["nodes", "exclude", "a"],
    &["backends", "list"],
    &["backends", "add", "http://a:1"],
    &["backends", "remove", "a"],
    &["backends", "drain", "a"],
    &["backends", "check", "a"],
    &["pools"],
    &["routes"],
    &["strategy", "a", "random"],
    &["certs", "list"],
    &["certs", "remove", "a"],
    &["export"],
    &["reload"],
    &["revisions"],
    &["revisions", "1"],
    &["rollback", "1"],
    &["token", "list"],
    &["token", "revoke", "a"],
    &["node-token", "list"],
    &["node-token", "revoke", "1"],
    &["audit"],
    &["explain", "GET", "http://a/"],
    &["report", "hourly"],
    &["report", "summary"],
    &["report", "hourly", "--format", "csv"],
    &["report", "hourly", "--watch", "100ms"],
    &["diff", "-f", "-"],
    &["backends"],
    &["backends", "get", "a"],
    &["backends", "set", "a", "weight=3"],
    &["pools", "delete", "a"],
    &["pools", "get", "a"],
    &["routes", "delete", "a"],
    &["nodes", "get", "a"],
    &["nodes", "allow", "a"],
    &["certs", "get", "a"],
    &["tokens", "get", "a"],
    &["node-tokens", "get", "1"],
    &["audit", "get", "1"],
    &["reports", "top"],
];

#[test]
fn output_that_cannot_be_written_is_an_error_of_every_command() {
    let said = |output: Output, arguments: &[&str], status: i32| {
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
        assert!(text.contains("cannot write to standard output"), "{arguments:?}: {text}");
        assert!(!text.contains("panicked"), "{arguments:?}: {text}");
    };
    let run = |arguments: &[&str], out: std::fs::File| {
        let mut command = command(arguments);
        command.stdin(std::process::Stdio::piped()).stdout(out).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Used as a password or as a configuration.
        let _ = child.stdin.take().unwrap().write_all(b"{}\n");
        child.wait_with_output().unwrap()
    };
    for arguments in OFFLINE {
        said(run(arguments, full()), arguments, 1);
    }
    // Standard output is open for reading only.
    said(run(&["schema"], std::fs::File::open("/dev/null").unwrap()), &["schema"], 1);
    for arguments in ONLINE {
        for more in [&[][..], &["--output", "json"]] {
            let (url, asked) = answer_once(http("200 OK", &answer(arguments, "a").to_string()));
            let all = [&["--admin", &url], more, arguments].concat();
            said(run(&all, full()), &all, if arguments[0] == "diff" { 2 } else { 1 });
            asked.join().unwrap();
        }
    }
    // An incomplete backup is an error, whatever the reason.
    let (url, asked) = answer_once(http("200 OK", "{}"));
    let output = command(&["--admin", &url, "export"]).stdout(nobody()).output().unwrap();
    assert!(output.status.code() == Some(1) && stderr(&output).contains("incomplete"), "{output:?}");
    asked.join().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    std::fs::write(&file, "pools: [{ name: p }]\n").unwrap();
    said(run(&["check", file.to_str().unwrap()], full()), &["check"], 1);
    // A tail ends at the first request that it cannot write.
    let event = "event: request\ndata: {\"path\":\"/\"}\n\n".repeat(3);
    let (url, asked) = answer_once(http("200 OK", &event));
    said(run(&["--admin", &url, "-o", "json", "tail"], full()), &["tail"], 1);
    asked.join().unwrap();
}

#[test]
fn a_token_that_cannot_be_shown_is_revoked() {
    for (create, revoke, made) in [
        (
            &["token", "create", "ci", "--role", "admin"][..],
            "/tokens/ci",
            r#"{"name":"ci","role":"admin","state":"active","created":"","created_by":"","expires":null,"last_used":null,
                "token":"weir_x"}"#,
        ),
        (
            &["node-token", "create"],
            "/node-tokens/7",
            r#"{"id":7,"state":"active","created":"","created_by":"","expires":null,"uses_left":null,"used":0,
                "node_ids":[],"token":"weir_x"}"#,
        ),
    ] {
        for more in [&[][..], &["--output", "json"]] {
            // If the reader has closed the pipe, the token is lost as well.
            for out in [full().into(), std::process::Stdio::from(nobody())] {
                let answers = vec![http("201 Created", made), http("200 OK", "{}")];
                let (url, asked) = answer_all(answers);
                let output =
                    command(&[&["--admin", &url], more, create].concat()).stdout(out).output().unwrap();
                let (asked, text) = (asked.join().unwrap(), stderr(&output));
                assert_eq!(output.status.code(), Some(1), "{text}");
                assert!(asked[1].starts_with(&format!("DELETE {revoke} ")), "{asked:?}");
                assert!(text.contains("could not be written") && text.contains("is revoked"), "{text}");
                assert!(!text.contains("shown only") && !text.contains("weir_x"), "{text}");
            }
            let (url, asked) =
                answer_all(vec![http("201 Created", made), http("403 Forbidden", r#"{"title":"no"}"#)]);
            let output =
                command(&[&["--admin", &url], more, create].concat()).stdout(full()).output().unwrap();
            asked.join().unwrap();
            let text = stderr(&output);
            let command =
                if create[0] == "token" { "weir tokens delete ci" } else { "weir node-tokens revoke 7" };
            assert!(text.contains(command) && !text.contains("is revoked"), "{text}");
        }
        // No token is created if standard output is closed: no server listens at this address.
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            r#"exec "$0" "$@" >&-"#,
            env!("CARGO_BIN_EXE_weir"),
            "--admin",
            "http://127.0.0.1:1",
        ]);
        let output = shell.args(create).env("XDG_CONFIG_HOME", "/nonexistent").output().unwrap();
        assert!(!output.status.success() && stderr(&output).contains("is closed"), "{}", stderr(&output));
        let (url, asked) = answer_all(vec![http("201 Created", made)]);
        let output = weir(&[&["--admin", &url], create].concat());
        asked.join().unwrap();
        assert_eq!((stdout(&output).as_str(), output.status.code()), ("weir_x\n", Some(0)));
        assert!(stderr(&output).contains("it is shown only this once"), "{}", stderr(&output));
    }
}

/// Characters from a client, node or backend that could control a terminal, written as JSON escapes. Output shows them
/// in the same form.
const HOSTILE: &str = r"\u001b]52;c;aGk=\u0007\u009b2J\u202edcba\u2066\u200b\u007f\r\nforged\u2028";

#[test]
fn nothing_that_is_shown_steers_a_terminal() {
    let hostile: String = serde_json::from_str(&format!("\"{HOSTILE}\"")).unwrap();
    let safe = |output: &Output, what: &[&str]| {
        let all = format!("{}{}", stdout(output), stderr(output));
        for line in all.lines() {
            assert!(weir_snapshot::is_visible(line), "{what:?}: {line:?}");
            assert!(!line.starts_with("forged"), "{what:?}: {all}");
        }
        all
    };
    let mut shown = 0;
    for arguments in ONLINE.iter().filter(|arguments| !arguments.contains(&"--watch")) {
        for more in [&[][..], &["--output", "wide"], &["--output", "json"], &["--output", "yaml"]] {
            // These commands write the server's text to a file byte for byte; see `print_exact`.
            if arguments.contains(&"csv") || (*arguments == ["export"] && more != ["--output", "json"]) {
                continue;
            }
            let all = answer(arguments, &hostile);
            let (url, asked) = answer_once(http("200 OK", &all.to_string()));
            let arguments = [&["--admin", &url], more, arguments].concat();
            let output = weir(&arguments);
            asked.join().unwrap();
            let text = safe(&output, &arguments);
            shown += usize::from(text.contains(r"u{202e}") || text.contains(r"\u202e"));
            if more.contains(&"json") && output.status.success() {
                let value: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
                let is_entry = arguments.contains(&"audit") && arguments.contains(&"get");
                let all = if is_entry { &all["items"][0] } else { &all };
                assert_eq!(value, *all, "escapes change nothing");
            }
            if !more.is_empty() {
                continue;
            }
            let problem = serde_json::json!({
                "title": hostile, "detail": hostile, "errors": [{ "path": hostile, "message": hostile }, hostile],
            });
            for body in [problem.to_string(), hostile.clone(), "{\"title\":\"\u{202e}\"}".into()] {
                let (url, asked) = answer_once(http("422 Unprocessable Entity", &body));
                let mut again = arguments.clone();
                again[1] = &url;
                safe(&weir(&again), &again);
                asked.join().unwrap();
            }
        }
    }
    assert!(shown > 40, "{shown}");
    let event = format!(
        "event: request\ndata: {}\n\n",
        serde_json::json!({
            "time": hostile, "status": 200, "method": hostile, "host": hostile, "path": hostile, "route": hostile,
            "backend": hostile, "client": hostile, "node": hostile, "kind": "tunnel", "outcome": "cut_by_client",
            "pool": hostile, "latency_ms": null, "duration_ms": 1.0, "head_ms": null, "upstream_ms": 0.5, "bytes_in": 0,
            "bytes_out": 0, "retries": 0, "request_id": hostile,
        })
    );
    for more in [&[][..], &["--output", "json"]] {
        let (url, asked) =
            answer_once(http("200 OK", &format!("{event}event: dropped\ndata: \u{202e}\u{1b}[2J\n\n")));
        let arguments = [&["--admin", &url], more, &["tail"]].concat();
        let text = safe(&weir(&arguments), &arguments);
        assert!(text.contains("202e"), "{text}");
        asked.join().unwrap();
    }
}
