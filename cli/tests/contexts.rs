//! Tests of `weir login` and contexts.

// The lint does not recognize helper functions as test code.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use support::{answer, answer_once, http, stderr, stdout};

/// A user with a separate config folder.
struct User {
    folder: tempfile::TempDir,
}

impl User {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("weir/contexts.yaml")
    }

    fn weir(&self, arguments: &[&str], variables: &[(&str, &str)], input: &str) -> Output {
        let mut command = support::command(arguments);
        command.env("XDG_CONFIG_HOME", self.folder.path()).envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Logs in to a control plane that accepts the login. Returns its address and the request that it received.
    fn log_in(&self, name: &str, more: &[&str], input: &str) -> (String, String) {
        let (url, asked) = answer_once(http("200 OK", &answer(&["status"], "a").to_string()));
        let output = self.weir(&[&["login", name, "--admin", &url], more].concat(), &[], input);
        assert!(output.status.success(), "{}", stderr(&output));
        (url, asked.join().unwrap())
    }

    /// Returns the request that a command sends to the control plane at `admin`.
    fn asks(&self, arguments: &[&str], variables: &[(&str, &str)], admin: &str) -> String {
        let listener = std::net::TcpListener::bind(admin.trim_start_matches("http://")).unwrap();
        let asked = support::answer_on(listener, vec![http("200 OK", r#"{"items":[]}"#)]);
        let output = self.weir(arguments, variables, "");
        assert!(output.status.success(), "{}", stderr(&output));
        asked.join().unwrap().remove(0)
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_login_is_checked_stored_for_its_user_alone_and_used() {
    let user = User::new();
    let token_file = user.folder.path().join("token");
    std::fs::write(&token_file, "weir_secret\n").unwrap();
    let (url, asked) = user.log_in("prod", &["--token-file", token_file.to_str().unwrap()], "");
    assert!(asked.starts_with("GET /status ") && asked.contains("Bearer weir_secret"), "{asked}");
    assert_eq!((mode(&user.file()), mode(user.file().parent().unwrap())), (0o600, 0o700));
    let asked = user.asks(&["backends"], &[], &url);
    assert!(asked.contains("authorization: Bearer weir_secret\r\n"), "{asked}");

    // A second context, with the token from standard input; it becomes the current one.
    let (test, _) = user.log_in("test", &[], "weir_other\n");
    let asked = user.asks(&["backends"], &[], &test);
    assert!(asked.contains("Bearer weir_other"), "{asked}");
    for (arguments, variables) in [
        (&["--context", "prod", "backends"][..], &[][..]),
        (&["backends"], &[("WEIR_CONTEXT", "prod")]),
        // The command line takes precedence over the environment.
        (
            &["--context", "prod", "backends"],
            &[("WEIR_ADMIN", "http://127.0.0.1:1"), ("WEIR_TOKEN", "other")],
        ),
    ] {
        let asked = user.asks(arguments, variables, &url);
        assert!(asked.contains("Bearer weir_secret"), "{asked}");
    }
    // The environment takes precedence over a context, and the context's token is only sent to its own address.
    let (other, asked) = answer_once(http("200 OK", r#"{"items":[]}"#));
    let output = user.weir(&["backends"], &[("WEIR_ADMIN", &other), ("WEIR_CONTEXT", "prod")], "");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!asked.join().unwrap().contains("authorization"));

    let shown = stdout(&user.weir(&["contexts"], &[], ""));
    assert!(shown.contains("prod") && shown.contains(&test) && !shown.contains("weir_"), "{shown}");
    assert!(user.weir(&["context", "use", "prod"], &[], "").status.success());
    let current = stdout(&user.weir(&["context", "show"], &[], ""));
    assert!(current.contains("prod") && current.contains(&url) && !current.contains("secret"), "{current}");
    assert!(user.weir(&["logout"], &[], "").status.success());
    assert!(!std::fs::read_to_string(user.file()).unwrap().contains("weir_secret"));
}

#[test]
fn a_login_that_is_refused_stores_nothing() {
    let user = User::new();
    let (url, asked) = answer_once(http(
        "401 Unauthorized",
        r#"{"title":"Unauthorized","detail":"the token is not valid"}"#,
    ));
    let output = user.weir(&["login", "--admin", &url, "--token", "wrong"], &[], "");
    asked.join().unwrap();
    assert!(output.status.code() == Some(1) && stderr(&output).contains("not valid"), "{output:?}");
    assert!(!user.file().exists());
    let output = user.weir(&["login", "a b", "--admin", &url], &[], "");
    assert!(!output.status.success() && stderr(&output).contains("a name is 1 to 64"), "{output:?}");
}

#[test]
fn a_context_that_is_not_there_is_a_clear_error_and_nothing_changes() {
    let user = User::new();
    let output = user.weir(&["--context", "prod", "backends"], &[], "");
    assert!(
        !output.status.success() && stderr(&output).contains("weir login prod --admin URL"),
        "{output:?}"
    );
    user.log_in("prod", &[], "");
    user.log_in("test", &[], "");
    let before = std::fs::read(user.file()).unwrap();
    for (arguments, variables) in [
        (&["--context", "prdo", "backends"][..], &[][..]),
        (&["backends"], &[("WEIR_CONTEXT", "prdo")]),
        (&["contexts", "use", "prdo"], &[]),
        (&["contexts", "get", "prdo"], &[]),
        (&["contexts", "delete", "test", "prdo"], &[]),
        (&["logout", "prdo"], &[]),
    ] {
        let output = user.weir(arguments, variables, "");
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        let says = "unknown context \"prdo\" (known: prod, test); did you mean \"prod\"?";
        assert!(text.contains(says), "{arguments:?}: {text}");
        assert_eq!(std::fs::read(user.file()).unwrap(), before, "{arguments:?}");
    }
}

#[test]
fn a_file_that_others_can_read_gets_a_warning() {
    let user = User::new();
    let (url, _) = user.log_in("prod", &[], "weir_secret\n");
    std::fs::set_permissions(user.file(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = user.weir(&["contexts"], &[], "");
    assert!(output.status.success() && stderr(&output).contains("mode 0644"), "{output:?}");
    assert!(stdout(&output).contains(&url) && !stderr(&output).contains("secret"));
    // Rewriting the file makes it readable only by its owner.
    user.weir(&["contexts", "use", "prod"], &[], "");
    assert_eq!(mode(&user.file()), 0o600);
}

#[test]
fn a_broken_file_matters_only_where_it_is_used() {
    let user = User::new();
    std::fs::create_dir_all(user.file().parent().unwrap()).unwrap();
    std::fs::write(user.file(), "contexts: [weir_secret]\n").unwrap();
    let output = user.weir(&["backends"], &[], "");
    let text = stderr(&output);
    assert!(!output.status.success() && text.contains("contexts.yaml") && !text.contains("secret"), "{text}");
    let (url, asked) = answer_once(http("200 OK", r#"{"items":[]}"#));
    assert!(user.weir(&["--admin", &url, "backends"], &[], "").status.success());
    asked.join().unwrap();
}
