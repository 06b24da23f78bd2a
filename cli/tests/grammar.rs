//! Tests of the grammar `weir NOUN VERB` and of all former spellings: the request that each one sends.

// The lint does not recognize helper functions as test code.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::{answer, answer_all, answer_once, backend, http, list, ok, stderr, stdout, weir};

/// Returns the request that a command sends: method and path, and the body.
fn asks(arguments: &[&str]) -> (String, String) {
    let (url, asked) = answer_once(http("200 OK", &answer(arguments, "a").to_string()));
    let output = weir(&[&["--admin", &url], arguments].concat());
    let asked = asked.join().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    let line = asked.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    (line, asked.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[test]
fn old_spellings_ask_the_same_as_the_new_ones() {
    for (old, new, line) in [
        (&["backends", "list"][..], &["backends"][..], "GET /backends"),
        (&["backend"], &["backends", "ls"], "GET /backends"),
        (&["backends", "remove", "b1"], &["backends", "delete", "b1"], "DELETE /backends/b1"),
        (&["backends", "remove", "http://a:1"], &["backends", "delete", "http://a:1"], "DELETE /backends"),
        (
            &["backends", "set-weight", "b1", "5"],
            &["backends", "set", "b1", "weight=5"],
            "PATCH /backends/b1",
        ),
        (&["backends", "drain", "b1"], &["backends", "set", "b1", "state=draining"], "PATCH /backends/b1"),
        (&["backends", "enable", "b1"], &["backends", "set", "b1", "state=active"], "PATCH /backends/b1"),
        (&["backends", "disable", "b1"], &["backends", "set", "b1", "state=disabled"], "PATCH /backends/b1"),
        (&["pools"], &["pools", "list"], "GET /pools"),
        (&["routes"], &["routes", "list"], "GET /routes"),
        (&["nodes"], &["nodes", "list"], "GET /nodes"),
        (&["node", "revoke", "a"], &["nodes", "revoke", "a"], "POST /nodes/a/revoke"),
        (&["node", "allow", "a"], &["nodes", "allow", "a"], "POST /nodes/a/allow"),
        (&["certs", "list"], &["certs"], "GET /certificates"),
        (&["certs", "remove", "a"], &["certs", "delete", "a"], "DELETE /certificates/a"),
        (&["token", "list"], &["tokens"], "GET /tokens"),
        (&["token", "revoke", "a"], &["tokens", "delete", "a"], "DELETE /tokens/a"),
        (&["node-token", "list"], &["node-tokens"], "GET /node-tokens"),
        (&["node-token", "revoke", "1"], &["node-tokens", "delete", "1"], "DELETE /node-tokens/1"),
        (&["revisions"], &["revisions", "list"], "GET /revisions?limit=20"),
        (&["revisions", "1"], &["revisions", "get", "1"], "GET /revisions/1"),
        (&["audit"], &["audit", "list"], "GET /audit?limit=50"),
        (&["audit", "--limit", "7"], &["audit", "list", "--limit", "7"], "GET /audit?limit=7"),
        (&["report", "hourly"], &["reports", "hourly"], "GET /reports/hourly?format=json"),
        (
            &["report", "--route", "r", "daily"],
            &["reports", "daily", "--route", "r"],
            "GET /reports/daily?format=json&route=r",
        ),
        (
            &["report", "summary"],
            &["reports", "get", "summary"],
            "GET /reports/summary?compare=false&format=json",
        ),
        (
            &["report", "top", "--by", "host"],
            &["reports", "top", "--by", "host"],
            "GET /reports/top?by=host&format=json",
        ),
        (
            &["report", "minutely", "--format", "csv"],
            &["reports", "minutely", "-o", "csv"],
            "GET /reports/minutely?format=csv",
        ),
    ] {
        let (old_asks, new_asks) = (asks(old), asks(new));
        assert_eq!(old_asks, new_asks, "{old:?} and {new:?}");
        assert_eq!(new_asks.0, line, "{new:?}");
    }
    assert_eq!(asks(&["strategy", "a", "random"]).0, "POST /strategy");
}

#[test]
fn several_backends_are_drained_at_once_or_none() {
    let (mut one, mut two) = (backend("b1"), backend("b2"));
    two["url"] = "http://127.0.0.1:9".into();
    one["state"] = "draining".into();
    let known = json!({ "items": [one, two] });
    let (url, asked) = answer_all(vec![ok(1, &known), ok(2, &backend("b1")), ok(3, &backend("b2"))]);
    let output = weir(&["--admin", &url, "backends", "drain", "b1", "http://127.0.0.1:9"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let asked = asked.join().unwrap();
    assert!(
        asked[1].starts_with("PATCH /backends/b1 ") && asked[2].starts_with("PATCH /backends/b2 "),
        "{asked:?}"
    );
    assert_eq!(stdout(&output).lines().count(), 2);

    let (url, asked) = answer_all(vec![ok(1, &known)]);
    let output = weir(&["--admin", &url, "backends", "drain", "b1", "b3x"]);
    asked.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("there is no backend b3x"), "{}", stderr(&output));

    // If one change fails, the others are still made, and the error names the one that failed.
    let (url, asked) =
        answer_all(vec![ok(1, &known), http("409 Conflict", r#"{"title":"no"}"#), ok(3, &backend("b2"))]);
    let output = weir(&["--admin", &url, "-o", "json", "backends", "drain", "b1", "b2"]);
    asked.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("b1: no (409)"), "{}", stderr(&output));
    assert_eq!(
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["items"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn fields_are_set_on_the_revision_that_was_read() {
    let pool = json!({ "name": "web", "strategy": "random", "backends": [{ "url": "http://a:1" }] });
    let (url, asked) = answer_all(vec![ok(7, &pool), ok(8, &pool)]);
    let set = [
        "pools",
        "set",
        "web",
        "strategy=least_connections",
        "health_check.interval=5s",
        "backends[0].weight=3",
    ];
    let output = weir(&[&["--admin", &url][..], &set].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let asked = asked.join().unwrap();
    assert!(asked[0].starts_with("GET /pools/web ") && asked[1].starts_with("PUT /pools/web "), "{asked:?}");
    assert!(asked[1].contains("\r\nif-match: \"7\"\r\n"), "{}", asked[1]);
    let body: Value = serde_json::from_str(asked[1].split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(
        body,
        json!({
            "name": "web", "strategy": "least_connections", "health_check": { "interval": "5s" },
            "backends": [{ "url": "http://a:1", "weight": 3 }],
        })
    );
    // Another user changed the configuration first: nothing is overwritten.
    let (url, asked) = answer_all(vec![
        ok(7, &pool),
        http(
            "412 Precondition Failed",
            r#"{"title":"Precondition Failed","detail":"revision 8 is current, not 7"}"#,
        ),
    ]);
    let output = weir(&["--admin", &url, "pools", "set", "web", "strategy=random"]);
    asked.join().unwrap();
    assert!(
        output.status.code() == Some(1) && stderr(&output).contains("revision 8 is current"),
        "{output:?}"
    );
}

#[test]
fn a_mistake_in_a_field_is_that_of_the_control_plane() {
    let pool = json!({ "name": "web" });
    let problem = json!({
        "title": "Unprocessable Content", "status": 422, "detail": "x",
        "problems": [{ "path": "pools[0].stratgy", "message": "unknown key; did you mean strategy?" }],
    });
    let (url, asked) =
        answer_all(vec![ok(7, &pool), http("422 Unprocessable Content", &problem.to_string())]);
    let output = weir(&["--admin", &url, "pools", "set", "web", "stratgy=random"]);
    asked.join().unwrap();
    assert!(
        stderr(&output).contains("pools[0].stratgy: unknown key; did you mean strategy?"),
        "{}",
        stderr(&output)
    );
    for (arguments, says) in [
        (&["pools", "set", "web"][..], "nothing to change"),
        (&["backends", "set", "b1", "weight"], "not FIELD=VALUE"),
    ] {
        let output = weir(&[&["--admin", "http://127.0.0.1:1"], arguments].concat());
        assert!(!output.status.success() && stderr(&output).contains(says), "{}", stderr(&output));
    }
}

#[test]
fn a_resource_is_added_once_and_replaced_by_a_file() {
    let known = list(json!({ "name": "web" }));
    let (url, asked) = answer_all(vec![ok(7, &known)]);
    let output = weir(&["--admin", &url, "pools", "add", "web"]);
    asked.join().unwrap();
    assert!(output.status.code() == Some(1) && stderr(&output).contains("weir pools set web"), "{output:?}");

    let (url, asked) =
        answer_all(vec![ok(7, &known), ok(8, &json!({ "name": "new", "pool": "web", "warnings": ["w"] }))]);
    let output = weir(&["--admin", &url, "routes", "add", "new", "pool=web", "match.path=/new"]);
    assert!(output.status.success() && stderr(&output).contains("warning: w"), "{output:?}");
    let asked = asked.join().unwrap();
    assert!(asked[1].starts_with("PUT /routes/new ") && asked[1].contains("if-match: \"7\""), "{}", asked[1]);
    assert!(asked[1].ends_with(r#"{"match":{"path":"/new"},"name":"new","pool":"web"}"#), "{}", asked[1]);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("route.yaml");
    std::fs::write(&file, "pool: web\nmatch: { path: /v1 }\n").unwrap();
    let (url, asked) = answer_all(vec![ok(8, &json!({ "name": "api" }))]);
    let output = weir(&["--admin", &url, "routes", "set", "api", "-f", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let asked = asked.join().unwrap().remove(0);
    assert!(asked.ends_with(r#"{"match":{"path":"/v1"},"name":"api","pool":"web"}"#), "{asked}");
}

#[test]
fn wrong_words_get_suggestions_and_usage_without_connection() {
    for (arguments, says) in [
        (&["backend5"][..], "'backends'"),
        (&["backends", "drian", "b1"], "'drain'"),
        (&["pools", "explode"], "known: list, get, add, set, delete"),
        (&["reports", "hurly"], "'hourly'"),
        (&["list", "backends"], "weir backends list"),
        (&["revisions", "lsit"], "did you mean \"list\"?"),
        (&["backends", "--pool", "a", "delete", "b1"], "flags follow the verb"),
        (&["-o", "xml", "status"], "possible values: table, wide, json, yaml, csv"),
        (&["backends", "add"], "Usage: weir backends add [OPTIONS] <URL>"),
    ] {
        let output = support::command(arguments).env("WEIR_ADMIN", "http://127.0.0.1:1").output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(says), "{arguments:?}: {text}");
        assert!(!text.contains("--admin") && !text.contains("--token"), "{text}");
    }
}

#[test]
fn every_format_is_there_for_every_command() {
    for arguments in
        [&["backends"][..], &["nodes"], &["backends", "drain", "a"], &["reports", "summary"], &["reload"]]
    {
        let run = |format: &str| {
            let (url, asked) = answer_once(http("200 OK", &answer(arguments, "a").to_string()));
            let output = weir(&[&["--admin", &url], arguments, &["-o", format]].concat());
            asked.join().unwrap();
            assert!(output.status.success(), "{arguments:?} -o {format}: {}", stderr(&output));
            stdout(&output)
        };
        let value = answer(arguments, "a");
        assert_eq!(serde_json::from_str::<Value>(&run("json")).unwrap(), value);
        assert_eq!(serde_saphyr::from_str::<Value>(&run("yaml")).unwrap(), value);
        for format in ["table", "wide"] {
            assert!(!run(format).is_empty());
        }
        assert!(run("table").lines().all(|line| line.chars().count() <= 120));
        if arguments[0] != "reports" {
            assert!(run("csv").lines().count() >= 2, "{arguments:?}");
        }
    }
    let (url, asked) = answer_once(http("200 OK", &answer(&["backends"], "a").to_string()));
    let csv = stdout(&weir(&["--admin", &url, "backends", "-o", "csv"]));
    asked.join().unwrap();
    assert!(
        csv.starts_with("active_connections,alive,breaker,") && csv.contains("\n0,true,closed,"),
        "{csv}"
    );
}

#[test]
fn tables_have_units_and_wide_ones_exact_numbers() {
    let run = |arguments: &[&str]| {
        let (url, asked) = answer_once(http("200 OK", &answer(arguments, "a").to_string()));
        let output = weir(&[&["--admin", &url], arguments].concat());
        asked.join().unwrap();
        stdout(&output)
    };
    let table = run(&["reports", "hourly"]);
    assert!(
        table.contains("3.4 GiB") && table.contains("auth: 2") && !table.contains("3650722201"),
        "{table}"
    );
    let (url, asked) = answer_once(http("200 OK", &answer(&["reports", "hourly"], "a").to_string()));
    let wide = stdout(&weir(&["--admin", &url, "reports", "hourly", "-o", "wide"]));
    asked.join().unwrap();
    assert!(wide.contains("3650722201") && wide.contains("client: 1"), "{wide}");
    // Without requests there is no latency.
    let mut empty = answer(&["reports", "hourly"], "a");
    empty["periods"][0]["requests"] = 0.into();
    let (url, asked) = answer_once(http("200 OK", &empty.to_string()));
    let table = stdout(&weir(&["--admin", &url, "reports", "hourly"]));
    asked.join().unwrap();
    assert!(!table.contains("0.40"), "{table}");
}

#[test]
fn colours_are_for_terminals_and_those_who_ask() {
    let run = |variables: &[(&str, &str)]| {
        let (url, asked) = answer_once(http("200 OK", &answer(&["backends"], "a").to_string()));
        let mut command = support::command(&["--admin", &url, "backends"]);
        command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").envs(variables.iter().copied());
        let output = command.output().unwrap();
        asked.join().unwrap();
        stdout(&output)
    };
    assert!(!run(&[]).contains('\u{1b}'), "a pipe");
    assert!(run(&[("CLICOLOR_FORCE", "1")]).contains("\u{1b}[32mup"));
    assert!(!run(&[("NO_COLOR", "1")]).contains('\u{1b}'));
}

#[test]
fn the_version_of_a_control_plane_is_shown_where_there_is_one() {
    let document = json!({ "openapi": "3.1.0", "info": { "title": "Weir", "version": "9.8.7" } });
    let (url, asked) = answer_once(http("200 OK", &document.to_string()));
    let output = weir(&["--admin", &url, "version"]);
    asked.join().unwrap();
    assert!(
        stdout(&output).contains("9.8.7") && stdout(&output).contains(env!("CARGO_PKG_VERSION")),
        "{output:?}"
    );
    let output = weir(&["--admin", "http://127.0.0.1:1", "version", "-o", "json"]);
    assert!(output.status.success() && stderr(&output).contains("not reachable"), "{output:?}");
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value, json!({ "client": env!("CARGO_PKG_VERSION"), "control_plane": null }));
}

#[test]
fn completions_know_what_the_control_plane_has_and_are_silent_without_it() {
    let complete = |admin: &str, words: &[&str]| {
        let index = (words.len() - 1).to_string();
        let mut command = support::command(&[&["--"][..], words].concat());
        command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", index).env("WEIR_ADMIN", admin);
        let output = command.env("_CLAP_IFS", "\n").output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        stdout(&output)
    };
    let (url, asked) = answer_once(http("200 OK", &answer(&["backends"], "b17").to_string()));
    let found = complete(&url, &["weir", "backends", "drain", "b"]);
    asked.join().unwrap();
    assert!(found.contains("b17"), "{found}");
    let away = "http://127.0.0.1:1";
    assert!(!complete(away, &["weir", "backends", "drain", "b"]).contains("b17"));
    for (words, says) in [
        (&["weir", "back"][..], "backends"),
        (&["weir", "backends", "dr"], "drain"),
        (&["weir", "pools", "set", "web", "strategy=l"], "strategy=least_connections"),
        (&["weir", "pools", "set", "web", "health_check.int"], "health_check.interval="),
        (&["weir", "strategy", "web", "ro"], "round_robin"),
    ] {
        let found = complete(away, words);
        assert!(found.contains(says), "{words:?}: {found}");
    }
}

#[test]
fn a_tail_that_ends_says_why() {
    let events = http("200 OK", "event: request\ndata: {}\n\n");
    let revoked = http("401 Unauthorized", r#"{"title":"Unauthorized","detail":"token \"ci\" was revoked"}"#);
    let (url, asked) = answer_all(vec![events.clone(), revoked.clone()]);
    let output = weir(&["--admin", &url, "-o", "json", "tail"]);
    asked.join().unwrap();
    assert!(output.status.code() == Some(1) && stderr(&output).contains("was revoked (401)"), "{output:?}");
    // The control plane closes the connection of a revoked token in the middle of an event.
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nevent: request\ndata: {}\n\n".to_owned();
    let (url, asked) = answer_all(vec![cut, revoked]);
    let output = weir(&["--admin", &url, "-o", "json", "tail"]);
    asked.join().unwrap();
    assert!(output.status.code() == Some(1) && stderr(&output).contains("was revoked (401)"), "{output:?}");
    let (url, asked) = answer_all(vec![events, ok(1, &json!({}))]);
    let output = weir(&["--admin", &url, "-o", "json", "tail"]);
    asked.join().unwrap();
    assert!(output.status.code() == Some(1) && stderr(&output).contains("ended the stream"), "{output:?}");
}
