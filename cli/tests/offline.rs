//! What `weir` does without a control plane.

// The lint does not see that a test's helper is part of a test.
#![allow(clippy::unwrap_used)]

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    process::{Command, Output},
};

fn weir(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    for name in ["WEIR_ADMIN", "WEIR_TOKEN", "WEIR_OUTPUT"] {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

/// A pipe that nobody reads.
fn nobody() -> std::io::PipeWriter {
    std::io::pipe().unwrap().1
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits for a connection, not for ever: a test that fails has to end.
fn accept(listener: &TcpListener) -> std::net::TcpStream {
    let (send, accepted) = std::sync::mpsc::channel();
    let listener = listener.try_clone().unwrap();
    std::thread::spawn(move || drop(send.send(listener.accept())));
    accepted.recv_timeout(std::time::Duration::from_secs(30)).unwrap().unwrap().0
}

/// Answers one request with these bytes, and gives back what was asked.
fn answer_once(answer: String) -> (String, std::thread::JoinHandle<String>) {
    let (url, asked) = answer_all(vec![answer]);
    (url, std::thread::spawn(move || asked.join().unwrap().remove(0)))
}

/// Answers a request with each of these, and gives back what was asked.
fn answer_all(answers: Vec<String>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let one = |answer: String| {
            let mut stream = accept(&listener);
            let mut asked = Vec::new();
            let mut buffer = [0; 4096];
            while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
                let n = stream.read(&mut buffer).unwrap();
                if n == 0 {
                    break;
                }
                asked.extend_from_slice(&buffer[..n]);
                // A TLS handshake has no such end.
                if asked[0] == 0x16 {
                    break;
                }
            }
            let _ = stream.write_all(answer.as_bytes());
            String::from_utf8_lossy(&asked).into_owned()
        };
        answers.into_iter().map(one).collect()
    });
    (url, asked)
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

#[test]
fn check_prints_every_problem_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    let name = file.to_str().unwrap();
    std::fs::write(&file, "pools:\n  - name: books\n    strategy: fastest\n    colour: red\n").unwrap();
    let output = weir(&["check", name]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(text.contains(&format!("{name}:3:15: pools[0].strategy: ")), "{text}");
    assert!(text.contains(&format!("{name}:4:5: pools[0].colour: unknown key")), "{text}");

    std::fs::write(&file, "pools:\n  - name: books\nroutes:\n  - name: default\n    pool: books\n").unwrap();
    let output = weir(&["check", name]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("1 pool, 0 backends, 1 route"));
}

#[test]
fn check_warns_of_ignored_keys_and_shared_cookies() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    let text = r#"
pools:
  - { name: books, sticky: { cookie: sid } }
  - { name: shop, sticky: { cookie: sid } }
routes:
  - name: shop
    match: { path: /shop }
    pool: shop
  - name: default
    pool: books
    jwt:
      issuer: i
      audience: [a]
      algorithms: [EdDSA]
      jwks:
        keys:
          - { kty: OKP, crv: Ed25519, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo }
          - { kty: AKP, alg: ML-DSA-44, pub: AA }
"#;
    std::fs::write(&file, text).unwrap();
    let output = weir(&["check", file.to_str().unwrap()]);
    let told = format!("{}{}", stdout(&output), stderr(&output));
    assert!(output.status.success(), "{told}");
    for warning in [
        "routes[1].jwt.jwks.keys[1]: warning: the key is of an unknown type (kty \"AKP\"",
        "routes[1]: warning: route \"default\" uses cookie \"sid\", as route \"shop\" of the same host does",
    ] {
        assert!(told.contains(warning), "{told}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let output = weir(&["check", "no-such-file.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no-such-file.yaml"));
}

#[test]
fn wrong_arguments_are_refused() {
    for arguments in [
        &["backends", "add"][..],
        &["report", "weekly"],
        &["rollback", "x"],
        &["apply", "-f", "x", "--wait", "soon"],
        &["load", "http://127.0.0.1:1", "--rps", "0"],
        &["--output", "xml", "status"],
    ] {
        assert_eq!(weir(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let output = weir(&["--admin", "localhost", "status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--admin"));
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = weir(&["completions", shell]);
        assert!(output.status.success());
        assert!(stdout(&output).contains("backends"));
    }
}

#[test]
fn dev_is_told_where_to_listen_by_its_own_flag() {
    let output = weir(&["dev", "--admin", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--admin-listen"), "{}", stderr(&output));
}

#[test]
fn whoever_answers_otherwise_than_a_control_plane_is_named_so() {
    let (url, asked) = answer_once(http("404 Not Found", "no such page"));
    let output = weir(&["--admin", &url, "status"]);
    asked.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("404 Not Found came back") && text.contains("admin port"), "{text}");
}

#[test]
fn that_nobody_reads_is_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("many.yaml");
    std::fs::write(&file, format!("pools:\n{}", "- { colour: red }\n".repeat(3000))).unwrap();
    let name = file.to_str().unwrap();
    for (arguments, status) in [(&["completions", "bash"][..], 0), (&["check", name], 1)] {
        let ended = command(arguments).stdout(nobody()).stderr(nobody()).status().unwrap();
        assert_eq!(ended.code(), Some(status), "{arguments:?}");
    }
}

#[test]
fn a_watch_ends_when_its_reader_has_left() {
    let (url, asked) = answer_once(http("200 OK", r#"{"items":[]}"#));
    let watch = ["--admin", &url, "nodes", "--watch", "100ms"];
    let ended = command(&watch).stdout(nobody()).status().unwrap();
    // After the first answer, not by the failure of the second question.
    assert_eq!(ended.code(), Some(0));
    asked.join().unwrap();
}

#[test]
fn the_help_names_every_strategy() {
    let help = stdout(&weir(&["strategy", "--help"]));
    for (_, name) in weir_snapshot::config::Strategy::ALL {
        assert!(help.contains(name), "{name}: {help}");
    }
}

#[test]
fn an_unreachable_control_plane_is_named() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let output = weir(&["--admin", &format!("http://127.0.0.1:{port}"), "status"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains(&format!("not reachable at http://127.0.0.1:{port}")), "{text}");
    assert!(text.contains("weir dev"), "{text}");
}

#[test]
fn every_problem_of_a_refusal_is_printed() {
    let body = r#"{"title":"invalid","status":422,"detail":"x","errors":[{"path":"url","message":"no scheme"},{"path":"weight","message":"is 0"}]}"#;
    let (url, asked) = answer_once(http("422 Unprocessable Entity", body));
    let output = weir(&["--admin", &url, "--token", "secret", "backends", "add", "x", "--weight", "7"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("url: no scheme") && text.contains("weight: is 0"), "{text}");
    let asked = asked.join().unwrap();
    assert!(asked.starts_with("POST /backends HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("authorization: Bearer secret\r\n"), "{asked}");
}

#[test]
fn lists_are_tables_for_people_and_json_for_scripts() {
    let body = r#"{"items":[{"id":"b1","url":"http://127.0.0.1:8082","pool":"default","weight":1,"state":"active","alive":true}]}"#;
    let (url, asked) = answer_once(http("200 OK", body));
    let text = stdout(&weir(&["--admin", &url, "backends", "list"]));
    asked.join().unwrap();
    assert!(text.starts_with("id  url                    pool"), "{text}");
    assert!(text.contains("b1  http://127.0.0.1:8082  default"), "{text}");

    let (url, asked) = answer_once(http("200 OK", body));
    let text = stdout(&weir(&["--admin", &url, "--output", "json", "backends", "list"]));
    asked.join().unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["items"][0]["id"], "b1");
}

#[test]
fn dev_names_a_port_that_is_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let free = "127.0.0.1:0";
    let output = weir(&[
        "dev",
        "--admin-listen",
        &address.to_string(),
        "--nodes-listen",
        free,
        "--http",
        free,
        "--status",
        free,
        "--backend",
        free,
    ]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains(&format!("port {} is not free", address.port())), "{text}");
}

#[test]
fn a_password_is_hashed_as_basic_auth_takes_it() {
    let hash = |typed: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.arg("hash-password").stdin(std::process::Stdio::piped());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = hash("secret\n");
    let hashed = stdout(&output).trim().to_owned();
    assert!(hashed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hashed}");
    assert_ne!(stdout(&hash("secret\n")).trim(), hashed, "each has its own salt");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    let text = format!(
        "pools: [{{ name: p }}]\nroutes: [{{ name: r, pool: p, basic_auth: {{ users: {{ anna: \"{hashed}\" }} }} }}]\n"
    );
    std::fs::write(&file, text).unwrap();
    let output = weir(&["check", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stdout(&output));
    assert!(!hash("\n").status.success() && stderr(&hash("")).contains("the password is empty"));
}

/// A file that takes nothing, as a full disk does.
fn full() -> std::fs::File {
    std::fs::File::options().write(true).open("/dev/full").unwrap()
}

/// Fits every question for a list, a report or an object.
const ANYTHING: &str = r#"{"items":[{"id":"a","name":"a"}],"revision":1,"nodes":[],"backends":[],"periods":[],
    "token":"weir_x","diff":[],"changes":[],"ok":true,"known":true}"#;

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

/// Commands that ask a control plane once.
const ONLINE: [&[&str]; 30] = [
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
        // A password, or a configuration.
        let _ = child.stdin.take().unwrap().write_all(b"{}\n");
        child.wait_with_output().unwrap()
    };
    for arguments in OFFLINE {
        said(run(arguments, full()), arguments, 1);
    }
    // Standard output that is open for reading only.
    said(run(&["schema"], std::fs::File::open("/dev/null").unwrap()), &["schema"], 1);
    for arguments in ONLINE {
        for more in [&[][..], &["--output", "json"]] {
            let (url, asked) = answer_once(http("200 OK", ANYTHING));
            let all = [&["--admin", &url], more, arguments].concat();
            said(run(&all, full()), &all, if arguments[0] == "diff" { 2 } else { 1 });
            asked.join().unwrap();
        }
    }
    // A part of a backup is none, whatever the reason.
    let (url, asked) = answer_once(http("200 OK", ANYTHING));
    let output = command(&["--admin", &url, "export"]).stdout(nobody()).output().unwrap();
    assert!(output.status.code() == Some(1) && stderr(&output).contains("incomplete"), "{output:?}");
    asked.join().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    std::fs::write(&file, "pools: [{ name: p }]\n").unwrap();
    said(run(&["check", file.to_str().unwrap()], full()), &["check"], 1);
    // A tail ends with the first request that it cannot show.
    let event = "event: request\ndata: {\"path\":\"/\"}\n\n".repeat(3);
    let (url, asked) = answer_once(http("200 OK", &event));
    said(run(&["--admin", &url, "tail"], full()), &["tail"], 1);
    asked.join().unwrap();
}

#[test]
fn a_token_that_cannot_be_shown_is_revoked() {
    for (create, revoke, made) in [
        (
            &["token", "create", "ci", "--role", "admin"][..],
            "/tokens/ci",
            r#"{"name":"ci","role":"admin","token":"weir_x"}"#,
        ),
        (&["node-token", "create"], "/node-tokens/7", r#"{"id":7,"token":"weir_x"}"#),
    ] {
        for more in [&[][..], &["--output", "json"]] {
            // The reader of a pipe that has left has no token either.
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
                if create[0] == "token" { "weir token revoke ci" } else { "weir node-token revoke 7" };
            assert!(text.contains(command) && !text.contains("is revoked"), "{text}");
        }
        // Nothing is made where standard output is closed: nothing listens at this address.
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            r#"exec "$0" "$@" >&-"#,
            env!("CARGO_BIN_EXE_weir"),
            "--admin",
            "http://127.0.0.1:1",
        ]);
        let output = shell.args(create).env_remove("WEIR_TOKEN").output().unwrap();
        assert!(!output.status.success() && stderr(&output).contains("is closed"), "{}", stderr(&output));
        let (url, asked) = answer_all(vec![http("201 Created", made)]);
        let output = weir(&[&["--admin", &url], create].concat());
        asked.join().unwrap();
        assert_eq!((stdout(&output).as_str(), output.status.code()), ("weir_x\n", Some(0)));
        assert!(stderr(&output).contains("it is shown only this once"), "{}", stderr(&output));
    }
}

/// What bytes of a client, a node or a backend do to a terminal, as JSON writes them and as they are shown.
const HOSTILE: &str = r"\u001b]52;c;aGk=\u0007\u009b2J\u202edcba\u2066\u200b\u007f\r\nforged\u2028";

#[test]
fn nothing_that_is_shown_steers_a_terminal() {
    let hostile: String = serde_json::from_str(&format!("\"{HOSTILE}\"")).unwrap();
    let object = serde_json::json!({
        "id": hostile, "name": hostile, "url": hostile, "pool": hostile, "state": hostile, "version": hostile,
        "address": hostile, "labels": { hostile.clone(): hostile }, "since": hostile, "strategy": hostile,
        "last_error": { "text": hostile, "time": hostile }, "last_check": { "at": hostile }, "role": hostile,
        "rejected_revision": 3, "rejection": [{ "path": hostile, "message": hostile }], "detail": hostile,
        "action": hostile, "actor": hostile, "start": hostile, "status": { hostile.clone(): 3 }, "requests": 1,
        "cut": { hostile.clone(): 1 }, "hosts": [hostile], "issuer": hostile, "changes": [hostile], "time": hostile,
        "kind": hostile, "connected": true,
    });
    let all = serde_json::json!({
        "items": [object], "nodes": [object], "backends": [object], "routes": [object], "certificates": [object],
        "periods": [object], "revision": 1, "route": hostile, "rewritten": hostile, "answer": hostile, "by": hostile,
        "filters": [{ "filter": hostile, "says": hostile, "detail": hostile }], "id": hostile, "sort": hostile,
        "pools": [{ "pool": hostile, "strategy": hostile, "because": hostile, "backends": [object] }],
        "passed": [{ "route": hostile, "because": hostile }], "time": hostile, "actor": hostile, "peak": object,
        "diff": [{ "action": "change", "kind": "route", "name": hostile, "text": hostile, "fields": [hostile] }],
        "changes": [hostile], "replaced": [hostile], "from": hostile, "to": hostile, "detail": hostile, "pool": hostile,
        "config_file": { "path": hostile, "applied": hostile, "drift_count": 1, "drift": [hostile] }, "ok": true,
        "hosts": [hostile], "not_after": hostile, "state": hostile, "weight": hostile, "file": hostile,
    });
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
        for more in [&[][..], &["--output", "json"]] {
            // The text of these is the server's own and goes to a file byte for byte; see `print_exact`.
            if arguments.contains(&"csv") || (*arguments == ["export"] && more.is_empty()) {
                continue;
            }
            let (url, asked) = answer_once(http("200 OK", &all.to_string()));
            let arguments = [&["--admin", &url], more, arguments].concat();
            let output = weir(&arguments);
            asked.join().unwrap();
            let text = safe(&output, &arguments);
            shown += usize::from(text.contains(r"u{202e}") || text.contains(r"\u202e"));
            if !more.is_empty() && output.status.success() {
                let value: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
                assert_eq!(value, all, "escapes change nothing");
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
            "backend": hostile, "client": hostile, "node": hostile, "kind": hostile, "outcome": hostile,
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

#[test]
fn the_wrong_scheme_is_named() {
    let (url, asked) = answer_once("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".into());
    let output = weir(&["--admin", &url.replace("http://", "https://"), "status"]);
    drop(asked);
    let text = stderr(&output);
    assert!(text.contains("does not speak TLS") && text.contains("http:// in --admin"), "{text}");
    assert!(!text.contains("corrupt"), "{text}");
    // What a TLS server says to HTTP: an alert.
    let (url, asked) = answer_once("\u{15}\u{3}\u{3}\0\u{2}\u{2}\u{32}".into());
    let output = weir(&["--admin", &url, "status"]);
    asked.join().unwrap();
    assert!(stderr(&output).contains("write https:// in --admin"), "{}", stderr(&output));
}

#[test]
fn a_mistake_shows_no_stack_trace() {
    for arguments in
        [&["check", "no-such-file"][..], &["--admin", "x", "status"], &["dev", "--admin", "http://a:1"]]
    {
        let output = command(arguments).env("RUST_BACKTRACE", "1").output().unwrap();
        let text = stderr(&output);
        assert!(!output.status.success() && text.starts_with("error: "), "{text}");
        assert!(!text.contains("backtrace") && !text.contains("Caused by"), "{text}");
    }
}
