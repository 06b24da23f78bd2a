//! Runs the program `weir` against scripted control planes.

// Not every test program uses all helpers, and the lint does not recognize helper functions as test code.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    process::{Command, Output},
    thread::JoinHandle,
};

use serde_json::{Value, json};

/// A `weir` command without the environment variables and contexts of the user running the test.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WEIR_") {
            command.env_remove(name);
        }
    }
    command.env("XDG_CONFIG_HOME", "/nonexistent");
    command.args(arguments);
    command
}

pub(crate) fn weir(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits for a connection with a timeout, so that a failing test ends.
fn accept(listener: &TcpListener) -> std::net::TcpStream {
    let (send, accepted) = std::sync::mpsc::channel();
    let listener = listener.try_clone().unwrap();
    std::thread::spawn(move || drop(send.send(listener.accept())));
    accepted.recv_timeout(std::time::Duration::from_secs(30)).unwrap().unwrap().0
}

/// Answers one request with this text and returns the request.
pub(crate) fn answer_once(answer: String) -> (String, JoinHandle<String>) {
    let (url, asked) = answer_all(vec![answer]);
    (url, std::thread::spawn(move || asked.join().unwrap().remove(0)))
}

/// Answers one request with each of these texts and returns the requests with their bodies.
pub(crate) fn answer_all(answers: Vec<String>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (url, answer_on(listener, answers))
}

/// Like [`answer_all`], on an existing listener.
pub(crate) fn answer_on(listener: TcpListener, answers: Vec<String>) -> JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let one = |answer: String| {
            let mut stream = accept(&listener);
            let asked = read_request(&mut stream);
            let _ = stream.write_all(answer.as_bytes());
            asked
        };
        answers.into_iter().map(one).collect()
    })
}

fn read_request(stream: &mut std::net::TcpStream) -> String {
    let (mut asked, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&asked).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_lowercase();
            let length = length.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        // A TLS handshake does not end with an empty line.
        if asked.first() == Some(&0x16) {
            return text;
        }
        match stream.read(&mut buffer).unwrap() {
            0 => return text,
            n => asked.extend_from_slice(&buffer[..n]),
        }
    }
}

pub(crate) fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// A 200 response with the `ETag` of a revision.
pub(crate) fn ok(revision: u64, body: &Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\netag: \"{revision}\"\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

pub(crate) fn list(item: Value) -> Value {
    json!({ "items": [item] })
}

/// A backend with the same text in every field.
pub(crate) fn backend(text: &str) -> Value {
    json!({
        "id": text, "url": text, "pool": text, "weight": 1, "state": "active", "alive": true, "health": "up",
        "active_connections": 0, "last_check": text, "breaker": "closed", "ejected_by": [text], "ejections": 0,
        "sessions": 0,
    })
}

/// A connected node with the same text in every field.
pub(crate) fn node(text: &str) -> Value {
    json!({
        "id": text, "version": text, "address": text, "workers": 1, "labels": { text: text }, "connected": true,
        "since": text, "state": "active", "active_revision": 1, "lag_revisions": 0, "lag_ms": 0, "connections": 0,
        "active_requests": 0, "requests": 1, "dropped_rows": 0, "forgotten_clients": 0, "rejected_revision": 3,
        "clock_offset_ms": null, "excluded": false, "rejection": [{ "path": text, "message": text }],
        "last_error": { "time": text, "text": text },
    })
}

fn certificate(text: &str) -> Value {
    json!({
        "name": text, "hosts": [text], "not_before": text, "not_after": text, "days_left": 1, "seconds_left": 1,
        "state": "good", "subject": text, "issuer": text, "fingerprint": text,
    })
}

fn measures(text: &str) -> Value {
    let latency = json!({ "p50": 0.4, "p90": 1.0, "p99": 2.0, "max": 1234.0 });
    let _ = text;
    json!({
        "requests": 3, "status": { "200": 3 }, "bytes_in": 0, "bytes_out": 3_650_722_201_u64, "latency_ms": latency,
        "upstream_ms": latency, "retries": 0, "streams": 0, "stream_ms": latency,
        "refused": { "ip_filter": 0, "method": 0, "auth": 2, "rate_limit": 0, "breaker": 0, "no_room": 0, "no_backend": 0 },
        "cut": { "client": 1, "backend": 0, "node": 0 },
    })
}

fn with(mut value: Value, more: Value) -> Value {
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    value
}

fn difference(text: &str) -> Value {
    json!({
        "action": "change", "kind": "route", "name": text, "text": text, "before": {}, "after": {},
        "fields": [{ "path": text, "before": text, "after": text }],
    })
}

fn applied(text: &str) -> Value {
    json!({
        "revision": 1, "changes": [text], "replaced": [text], "diff": [difference(text)],
        "warnings": [{ "path": text, "message": text }],
    })
}

/// Returns the control plane's answer to a command, with the same text in every field.
pub(crate) fn answer(arguments: &[&str], text: &str) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().filter(|word| !word.starts_with('-')).collect();
    let arguments: Vec<&str> = match arguments.as_slice() {
        ["reports", "get", kind] => vec!["reports", *kind],
        _ => arguments,
    };
    match arguments.as_slice() {
        ["status", ..] => json!({
            "revision": 1, "backends": [backend(text)], "nodes": [node(text)], "pools": [],
            "routes": [{ "name": text, "refused": { "ip_filter": 1, "method": 0, "rate_limit": 0, "auth": 0 } }],
            "certificates": [certificate(text)],
            "config_file": {
                "path": text, "authoritative": false, "applied": text, "revision": 1, "drift": [text], "drift_count": 3,
            },
        }),
        ["nodes", "exclude" | "include", _] => json!({ "id": text, "excluded": true }),
        ["nodes" | "node", "revoke", _] => json!({ "id": text, "revoked": true, "known": false }),
        ["nodes" | "node", "allow", _] => json!({ "id": text, "revoked": false, "permit_expires": text }),
        ["nodes", "get", _] => node(text),
        ["nodes" | "node", ..] => list(node(text)),
        ["backends" | "backend", "check", _] => json!({ "ok": true, "detail": text, "latency_ms": 0.5 }),
        ["backends" | "backend", "remove" | "delete", _] => json!({ "revision": 1 }),
        ["backends" | "backend"] | ["backends", "list" | "ls", ..] => list(backend(text)),
        ["backends" | "backend", ..] => backend(text),
        ["pools" | "pool", "delete", _] | ["routes" | "route", "delete", _] => json!({ "revision": 1 }),
        ["pools" | "pool"] | ["pools", "list"] => list(json!({ "name": text })),
        ["routes" | "route"] | ["routes", "list"] => {
            list(json!({ "name": text, "pool": text, "match": { "hosts": [text] } }))
        }
        ["pools", ..] => json!({ "name": text, "strategy": "random" }),
        ["strategy", ..] => json!({ "revision": 1, "pool": text, "strategy": "random" }),
        ["certs", "remove" | "delete", _] => json!({ "revision": 1 }),
        ["certs" | "cert"] | ["certs", "list"] => list(certificate(text)),
        ["certs", ..] => with(certificate(text), json!({ "cert": text })),
        ["apply" | "diff" | "reload" | "rollback", ..] => applied(text),
        ["revisions", "1"] | ["revisions", "get", "1"] => {
            with(revision(text), json!({ "diff": [difference(text)] }))
        }
        ["revisions", ..] => list(revision(text)),
        ["token" | "tokens", "revoke" | "delete", _] => json!({ "name": text, "state": "revoked" }),
        ["tokens", "get", _] => token(text),
        ["token" | "tokens", ..] => list(token(text)),
        ["node-token" | "node-tokens", "revoke" | "delete", _] => json!({ "id": 1, "state": "revoked" }),
        ["node-tokens", "get", _] => node_token(text),
        ["node-token" | "node-tokens", ..] => list(node_token(text)),
        ["audit", ..] => list(json!({
            "id": 1, "time": text, "actor": text, "role": text, "source": text, "action": text, "outcome": "ok",
            "detail": text, "revision": 1, "times": 1,
        })),
        ["explain", ..] => json!({
            "revision": 1, "route": text, "rewritten": text, "changes": [text], "answer": text, "more": 1,
            "filters": [{ "filter": text, "says": "passes", "detail": text }],
            "passed": [{ "route": text, "because": text }],
            "pools": [{
                "pool": text, "because": text, "strategy": "random", "panic": [],
                "backends": [{ "id": text, "url": text, "weight": 1, "may": true, "because": [text] }],
            }],
        }),
        ["report" | "reports", "summary", ..] => with(
            measures(text),
            json!({
                "from": text, "to": text, "peak": { "start": text, "requests": 1 }, "lowest": null, "complete": true,
                "state": "complete", "gaps": 0, "nodes": { "expected": 1, "reported": 1 },
            }),
        ),
        ["report" | "reports", "top", ..] => json!({
            "from": text, "to": text, "by": text, "sort": text, "requests": 1, "names": 1, "complete": true,
            "state": "complete", "items": [with(measures(text), json!({ "name": text, "share": 1.0, "errors": 0 }))],
        }),
        ["report" | "reports", ..] => {
            let period = json!({
                "start": text, "complete": true, "state": "complete", "nodes": { "expected": 1, "reported": 1 },
            });
            json!({ "from": text, "to": text, "exact": true, "periods": [with(measures(text), period)] })
        }
        _ => json!({}),
    }
}

fn revision(text: &str) -> Value {
    json!({ "revision": 1, "time": text, "actor": text, "source": text, "changes": [text] })
}

fn token(text: &str) -> Value {
    json!({
        "name": text, "role": "admin", "state": "active", "created": text, "created_by": text, "expires": text,
        "last_used": text,
    })
}

fn node_token(text: &str) -> Value {
    json!({
        "id": 1, "state": "active", "created": text, "created_by": text, "expires": text, "uses_left": null, "used": 0,
        "node_ids": [text],
    })
}
