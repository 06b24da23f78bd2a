//! The table of cases, over both protocols.

use std::fmt::Write as _;

use crate::asking::{Got, Stage};

struct Case {
    line: usize,
    expected: String,
    method: String,
    host: String,
    target: String,
    fields: Vec<(String, String)>,
}

fn cases() -> Vec<Case> {
    let lines = include_str!("cases.txt").lines().enumerate();
    let is_case = |(_, line): &(usize, &str)| !line.trim().is_empty() && !line.starts_with('#');
    lines
        .filter(is_case)
        .map(|(at, line)| {
            let mut parts = line.split(" | ");
            let words: Vec<&str> = parts.next().unwrap().split_whitespace().collect();
            let [expected, method, host, target] = words[..] else { panic!("line {}: {line}", at + 1) };
            let field = |part: &str| {
                let (name, value) = part.split_once(": ").unwrap();
                (name.to_owned(), value.to_owned())
            };
            Case {
                line: at + 1,
                expected: expected.into(),
                method: method.into(),
                host: host.into(),
                target: target.into(),
                fields: parts.map(field).collect(),
            }
        })
        .collect()
}

/// The table's routes, each of which sends its name to the backend.
fn routes() -> String {
    let text = include_str!("routes.yaml");
    let tells = "request_headers: { set: { x-route: \"{route}\" } }, response_headers: { set: { x-route: \"{route}\" } }";
    text.replace("pool: default }", &format!("pool: default, {tells} }}"))
}

impl Case {
    /// The mistake in a response.
    fn fault(&self, got: &Got) -> Option<String> {
        let found = match got.all("x-route")[..] {
            [route] => route.to_owned(),
            _ => got.status.to_string(),
        };
        if found != self.expected {
            return Some(format!("expected {}, got {found}", self.expected));
        }
        if got.status != 200 || self.method == "HEAD" {
            return None;
        }
        // The matched path is forwarded byte by byte.
        let line = format!("{} {} HTTP/1.1", self.method, self.target);
        if got.asked() != line || got.seen("x-route") != [&*self.expected] || got.seen("host").len() != 1 {
            return Some(format!("the backend saw {:?}", got.body));
        }
        None
    }

    fn tell(&self, fault: &str) -> String {
        let Self { line, method, host, target, fields, .. } = self;
        format!("line {line}: {method} {host} {target} {fields:?}: {fault}\n")
    }
}

#[tokio::test]
async fn the_table_over_http1() {
    let cases = cases();
    assert!(cases.len() >= 200, "{}", cases.len());
    let stage = Stage::start(&routes()).await;
    let mut client = stage.http1().await;
    let mut faults = String::new();
    for case in &cases {
        let mut request = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", case.method, case.target, case.host);
        for (name, value) in &case.fields {
            write!(request, "{name}: {value}\r\n").unwrap();
        }
        let got = client.ask(&format!("{request}\r\n")).await;
        faults.extend(case.fault(&got).map(|fault| case.tell(&fault)));
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[tokio::test]
async fn the_table_over_http2() {
    let stage = Stage::start(&routes()).await;
    let mut client = stage.http2().await;
    let mut faults = String::new();
    for case in &cases() {
        let fields: Vec<(String, String)> =
            case.fields.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
        let got = client.ask(&case.method, &case.host, &case.target, &fields).await;
        faults.extend(case.fault(&got).map(|fault| case.tell(&fault)));
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[tokio::test]
async fn requests_without_a_matching_route_get_404() {
    let stage =
        Stage::start("pools: [{ name: p }]\nroutes: [{ name: a, match: { hosts: [a] }, pool: p }]").await;
    assert_eq!(stage.get("a", "/x", "").await.status, 200);
    let got = stage.get("b", "/x", "").await;
    assert_eq!(got.status, 404);
    assert!(got.body.contains("no route matches this request"), "{got:?}");
    let by_http2 = stage.http2().await.ask("GET", "b", "/x", &[]).await;
    assert_eq!(by_http2.status, 404);
    // HTTP/1.0 does not need a host.
    assert_eq!(stage.raw("GET / HTTP/1.0\r\n\r\n").await.status, 404);
}
