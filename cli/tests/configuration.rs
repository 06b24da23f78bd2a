//! Tests of `weir check`, `diff`, `apply`, `revisions` and `rollback` against a scripted control plane.

// The lint does not recognize helper functions as test code.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::Write as _,
    process::{Output, Stdio},
    thread::JoinHandle,
};

use serde_json::{Value, json};
use support::{answer_all, command, http};

const CONFIG: &str = "pools:\n- name: books\nroutes:\n- name: default\n  pool: books\n";

/// Starts a scripted control plane that sends the answers in order and returns the requests.
fn script(answers: Vec<(u16, Value)>) -> (String, JoinHandle<Vec<String>>) {
    let answers =
        answers.into_iter().map(|(status, body)| http(&format!("{status} Said"), &body.to_string()));
    answer_all(answers.collect())
}

/// Runs `weir` with `input` on standard input.
fn weir(arguments: &[&str], input: &str) -> Output {
    let mut command = command(arguments);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn difference() -> Value {
    json!([
        {
            "action": "change", "kind": "pool", "name": "books", "text": "pool \"books\": strategy random → round_robin",
            "fields": [{ "path": "strategy", "before": "random", "after": "round_robin" }],
            "before": {}, "after": {},
        },
        {
            "action": "add", "kind": "route", "name": "r", "text": "route \"r\" added",
            "before": null, "after": { "place": 1, "spec": { "name": "r", "pool": "books" } },
        },
        {
            "action": "remove", "kind": "backend", "name": "b1",
            "text": "backend b1 http://a:1 removed from pool \"books\"", "before": { "url": "http://a:1" }, "after": null,
        },
        { "action": "move", "kind": "route", "name": "s", "text": "", "before": {}, "after": {} },
    ])
}

#[test]
fn diff_tells_as_diff_does() {
    let answer = |diff: Value| {
        vec![(200, json!({ "revision": 7, "changes": ["some"], "warnings": [], "diff": diff }))]
    };
    let (url, asked) = script(answer(difference()));
    let output = weir(&["--admin", &url, "diff", "-f", "-"], CONFIG);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout),
        "~ pool \"books\"\n\
         ~     strategy random → round_robin\n\
         + route \"r\" added\n\
         +     pool \"books\"\n\
         - backend b1 http://a:1 removed from pool \"books\"\n\
         ~ the order of 1 routes\n"
    );
    assert!(asked.join().unwrap()[0].starts_with("PUT /config?dry_run=true "));

    let (url, asked) = script(answer(json!([])));
    let output = weir(&["--admin", &url, "diff", "-f", "-"], CONFIG);
    asked.join().unwrap();
    assert_eq!(
        (output.status.code(), text(&output.stdout).as_str()),
        (Some(0), "nothing differs from revision 7\n")
    );

    let (url, asked) = script(answer(difference()));
    let output = weir(&["--admin", &url, "--output", "json", "diff", "-f", "-"], CONFIG);
    asked.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["diff"], difference());

    for arguments in
        [&["diff", "-f", "no-such-file"][..], &["--admin", "http://127.0.0.1:1", "diff", "-f", "-"]]
    {
        assert_eq!(weir(arguments, CONFIG).status.code(), Some(2), "{arguments:?}");
    }
}

fn node(id: &str, active: u64, rejected: u64) -> Value {
    let rejection = match rejected {
        0 => json!([]),
        _ => json!([{ "path": "backend \"b1\".url", "message": "cannot be resolved" }]),
    };
    let mut node = support::node(id);
    node["active_revision"] = active.into();
    node["rejected_revision"] = rejected.into();
    node["rejection"] = rejection;
    node
}

#[test]
fn apply_waits_for_every_node_and_tells_of_each() {
    let nodes = |list: Value| (200, json!({ "items": list }));
    let mut away = node("away", 1, 0);
    away["connected"] = false.into();
    let (url, asked) = script(vec![
        (200, json!({ "revision": 7, "changes": ["route \"r\" added"], "warnings": [] })),
        nodes(json!([node("one", 6, 0), node("two", 6, 0), away])),
        nodes(json!([node("one", 7, 0), node("two", 6, 0), away])),
        nodes(json!([node("one", 7, 0), node("two", 8, 0), away])),
    ]);
    let output = weir(&["--admin", &url, "apply", "-f", "-", "--wait", "5s", "--if-revision", "6"], CONFIG);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout),
        "route \"r\" added\nrevision 7\nnode one runs revision 7\nnode two runs revision 7\n"
    );
    let asked = asked.join().unwrap();
    assert!(asked[0].contains("\r\nif-match: \"6\"\r\n"), "{}", asked[0]);

    let (url, asked) = script(vec![
        (200, json!({ "revision": 7, "changes": [], "warnings": [] })),
        nodes(json!([node("one", 6, 7), node("two", 7, 0)])),
    ]);
    let output = weir(&["--admin", &url, "apply", "-f", "-", "--wait"], CONFIG);
    asked.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.contains("node one rejected it: backend \"b1\".url: cannot be resolved"), "{told}");
    assert!(!told.contains("two"), "{told}");

    let (url, _) = script(vec![
        (200, json!({ "revision": 7, "changes": [], "warnings": [] })),
        nodes(json!([node("one", 6, 0)])),
    ]);
    let output = weir(&["--admin", &url, "--output", "json", "apply", "-f", "-", "--wait", "0s"], CONFIG);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("node one still runs revision 6"), "{}", text(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["active"], &told["nodes"]["pending"]), (&json!(false), &json!(["one"])));
}

#[test]
fn a_refusal_names_the_revision_that_is_current() {
    let detail = "the configuration has changed: revision 9 is current, not 6; look at it and try again";
    let problem = json!({ "title": "Precondition Failed", "status": 412, "detail": detail, "revision": 9 });
    for arguments in [&["apply", "-f", "-"][..], &["rollback", "3"], &["reload"]] {
        let (url, asked) = script(vec![(412, problem.clone())]);
        let all = [&["--admin", &url], arguments, &["--if-revision", "6"]].concat();
        let output = weir(&all, CONFIG);
        assert!(asked.join().unwrap()[0].contains("if-match: \"6\""), "{arguments:?}");
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("revision 9 is current"), "{}", text(&output.stderr));
    }
}

#[test]
fn a_revision_is_shown_with_its_whole_difference() {
    let revision = json!({
        "revision": 5, "time": "2026-11-21T12:00:00Z", "actor": "ann", "source": "rest", "changes": [], "diff": difference(),
    });
    let (url, asked) = script(vec![(200, revision)]);
    let output = weir(&["--admin", &url, "revisions", "5"], "");
    assert!(asked.join().unwrap()[0].starts_with("GET /revisions/5 "));
    let told = text(&output.stdout);
    assert!(
        told.starts_with("revision 5, 2026-11-21T12:00:00Z by ann through rest\n~ pool \"books\"\n"),
        "{told}"
    );
}

#[test]
fn check_is_for_programs_too_and_reads_standard_input() {
    let output =
        weir(&["check", "-"], "pools:\n- name: books\n  stratgy: random\nroutes:\n- name: r\n  pool: boks\n");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stdout),
        "-:3:3: pools[0].stratgy: unknown key; did you mean strategy?\n\
         -:6:9: routes[0].pool: route \"r\": unknown pool \"boks\"; did you mean \"books\"?\n"
    );
    assert_eq!(text(&output.stderr), "error: -: 2 problems\n");

    let output = weir(&["--output", "json", "check", "-"], "pools: 5\n");
    assert_eq!(output.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let problem = json!({ "path": "pools", "message": "pools must be a list", "line": 1, "column": 8 });
    assert_eq!((&told["good"], &told["problems"]), (&json!(false), &json!([problem])));
    let told: Value =
        serde_json::from_slice(&weir(&["--output", "json", "check", "-"], CONFIG).stdout).unwrap();
    assert_eq!((&told["good"], &told["routes"], &told["problems"]), (&json!(true), &json!(1), &json!([])));

    let schema: Value = serde_json::from_slice(&weir(&["schema"], "").stdout).unwrap();
    assert_eq!(schema["title"], "Weir configuration");
}

#[test]
fn the_status_shows_drift_and_a_reload_names_what_the_file_replaced() {
    let status = |file: Value| {
        json!({
            "revision": 9, "backends": [], "nodes": [], "pools": [], "routes": [], "certificates": [], "config_file": file,
        })
    };
    let file = |drift: Value, count: u64| {
        json!({ "path": "weir.yaml", "authoritative": false, "applied": "2026-11-21T12:00:00Z", "revision": 7,
            "drift": drift, "drift_count": count })
    };
    for (answer, shown) in [
        (
            status(file(json!(["backend b1 http://a:1: state active → draining"]), 3)),
            "revision 9\nconfiguration file weir.yaml: 3 differences since it was applied 2026-11-21T12:00:00Z\n  \
             backend b1 http://a:1: state active → draining\n  and 2 more\n",
        ),
        (
            status(file(json!([]), 0)),
            "configuration file weir.yaml: no differences (applied 2026-11-21T12:00:00Z)\n",
        ),
    ] {
        let (url, asked) = script(vec![(200, answer)]);
        let output = weir(&["--admin", &url, "status"], "");
        asked.join().unwrap();
        assert!(text(&output.stdout).contains(shown), "{}", text(&output.stdout));
    }
    let (url, asked) = script(vec![(
        200,
        json!({ "revision": 10, "changes": ["backend b1 http://a:1: weight 7 → 3"],
            "warnings": [], "replaced": ["pools[web].backends[http://a:1].weight: 7 → 3"] }),
    )]);
    let output = weir(&["--admin", &url, "reload"], "");
    asked.join().unwrap();
    assert_eq!(text(&output.stdout), "backend b1 http://a:1: weight 7 → 3\nrevision 10\n");
    let warned = "warning: the file replaced a live change: pools[web].backends[http://a:1].weight: 7 → 3";
    assert!(text(&output.stderr).contains(warned), "{}", text(&output.stderr));
}
