//! Tests of `weir` without a control plane.

// The lint does not recognize helper functions as test code.
#![allow(clippy::unwrap_used)]

mod support;

use std::{io::Write as _, net::TcpListener};

use support::{answer_once, command, http, list, stderr, stdout, weir};

/// A pipe without a reader.
fn nobody() -> std::io::PipeWriter {
    std::io::pipe().unwrap().1
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
        "routes[1].jwt.jwks.keys[1]: warning: the key has an unknown type (kty \"AKP\"",
        "routes[1]: warning: route \"default\" uses cookie \"sid\", and so does route \"shop\" of the same host",
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
fn there_is_a_completion_script_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = weir(&["completions", shell]);
        assert!(output.status.success());
        // The script calls this program for completions.
        assert!(stdout(&output).contains("COMPLETE") && stdout(&output).contains("weir"), "{shell}");
    }
}

#[test]
fn dev_has_a_flag_of_its_own_for_the_admin_port() {
    let output = weir(&["dev", "--admin", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--admin-listen"), "{}", stderr(&output));
}

#[test]
fn an_answer_that_is_no_control_planes_is_an_error() {
    let (url, asked) = answer_once(http("404 Not Found", "no such page"));
    let output = weir(&["--admin", &url, "status"]);
    asked.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("404 Not Found came back") && text.contains("admin port"), "{text}");
}

#[test]
fn a_reader_that_has_left_is_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("many.yaml");
    std::fs::write(&file, format!("pools:\n{}", "- { colour: red }\n".repeat(3000))).unwrap();
    let name = file.to_str().unwrap();
    for (arguments, status) in [(&["schema"][..], 0), (&["check", name], 1)] {
        let ended = command(arguments).stdout(nobody()).stderr(nobody()).status().unwrap();
        assert_eq!(ended.code(), Some(status), "{arguments:?}");
    }
}

#[test]
fn a_watch_ends_when_its_reader_has_left() {
    let (url, asked) = answer_once(http("200 OK", r#"{"items":[]}"#));
    let watch = ["--admin", &url, "nodes", "--watch", "100ms"];
    let ended = command(&watch).stdout(nobody()).status().unwrap();
    // It ends after the first answer, not because the second request fails.
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
    let mut backend = support::backend("b1");
    backend["url"] = "http://127.0.0.1:8082".into();
    backend["pool"] = "default".into();
    let body = &list(backend).to_string();
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
        let mut command = command(&["hash-password"]);
        command.stdin(std::process::Stdio::piped());
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

#[test]
fn the_wrong_scheme_is_named() {
    let (url, asked) = answer_once("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".into());
    let output = weir(&["--admin", &url.replace("http://", "https://"), "status"]);
    drop(asked);
    let text = stderr(&output);
    assert!(text.contains("does not speak TLS") && text.contains("http:// in --admin"), "{text}");
    assert!(!text.contains("corrupt"), "{text}");
    // A TLS server answers HTTP with an alert.
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
