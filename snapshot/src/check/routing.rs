//! Checks which requests routes match, and warns of routes that match none.

use std::collections::BTreeMap;

use crate::{
    config::{self, HeaderMatch},
    headers::is_token,
    networks::{self, Networks},
    problem::{Problem, Problems},
    routing::{Conditions, HeaderCondition, HostPattern, Match, PathPattern, Wanted, overlaps},
    snapshot::Route,
};

/// Compiles the match conditions of one route.
pub(super) fn matches(matches: &config::Match, path: &str, problems: &mut Problems) -> Match {
    let config::Match { hosts, path: prefix, path_exact, methods, scheme, headers } = matches;
    let path_pattern = match (prefix, path_exact) {
        (Some(_), Some(_)) => {
            problems.add(format!("{path}.path_exact"), "path and path_exact are mutually exclusive");
            PathPattern::Any
        }
        (Some(prefix), None) => pattern(prefix, false, format!("{path}.path"), problems),
        (None, Some(exact)) => pattern(exact, true, format!("{path}.path_exact"), problems),
        (None, None) => PathPattern::Any,
    };
    Match {
        hosts: check_hosts(hosts, path, problems),
        path: path_pattern,
        conditions: Conditions {
            methods: check_methods(methods, path, problems),
            scheme: *scheme,
            headers: check_headers(headers, path, problems),
        },
    }
}

fn pattern(text: &str, exact: bool, path: String, problems: &mut Problems) -> PathPattern {
    PathPattern::parse(text, exact).unwrap_or_else(|error| {
        problems.add(path, error);
        PathPattern::Any
    })
}

fn check_hosts(hosts: &[String], path: &str, problems: &mut Problems) -> Vec<HostPattern> {
    let mut patterns = Vec::with_capacity(hosts.len().max(1));
    for (i, host) in hosts.iter().enumerate() {
        let path = format!("{path}.hosts[{i}]");
        match HostPattern::parse(host) {
            Ok(pattern) if patterns.contains(&pattern) => {
                problems.add(path, format!("duplicate host {pattern}"));
            }
            Ok(pattern) => patterns.push(pattern),
            Err(error) => problems.add(path, error),
        }
    }
    if hosts.is_empty() {
        patterns.push(HostPattern::Any);
    }
    patterns
}

fn check_methods(methods: &[String], path: &str, problems: &mut Problems) -> Vec<Box<str>> {
    let mut checked: Vec<Box<str>> = Vec::with_capacity(methods.len());
    for (i, method) in methods.iter().enumerate() {
        let path = format!("{path}.methods[{i}]");
        if checked.iter().any(|one| **one == **method) {
            problems.add(path, format!("duplicate method {method:?}"));
        } else if !is_token(method) {
            problems.add(path, format!("{method:?} is not a method (expected for example GET)"));
        } else if method.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let upper = method.to_ascii_uppercase();
            problems.add(path, format!("methods are case-sensitive: write {upper:?} instead of {method:?}"));
        } else if matches!(method.as_str(), "CONNECT" | "TRACE") {
            problems.add(path, format!("{method} is never forwarded, so this never matches"));
        } else {
            checked.push(method.as_str().into());
        }
    }
    checked
}

fn check_headers(
    headers: &BTreeMap<String, HeaderMatch>,
    path: &str,
    problems: &mut Problems,
) -> Vec<HeaderCondition> {
    let mut checked: Vec<HeaderCondition> = Vec::with_capacity(headers.len());
    for (name, wanted) in headers {
        let path = format!("{path}.headers.{name}");
        let lower = name.to_ascii_lowercase();
        if !is_token(name) {
            problems.add(path, format!("{name:?} is not a valid header name"));
            continue;
        }
        if lower == "host" {
            problems.add(path, "use match.hosts to match the host");
            continue;
        }
        if checked.iter().any(|one| *one.name == *lower) {
            problems.add(path, format!("duplicate header {lower:?} (header names are case-insensitive)"));
            continue;
        }
        let wanted = match wanted {
            HeaderMatch::Exact(value) => {
                if value.trim() != value
                    || !value.bytes().all(|byte| byte == b'\t' || byte >= b' ' && byte != 0x7f)
                {
                    problems.add(path, format!("{value:?} is not a valid header value"));
                }
                Wanted::Value(value.as_str().into())
            }
            HeaderMatch::Present(true) => Wanted::Present,
            HeaderMatch::Present(false) => Wanted::Absent,
        };
        checked.push(HeaderCondition { name: lower.into(), wanted });
    }
    checked.sort_by(|a, b| a.name.cmp(&b.name));
    checked
}

/// Parses the trusted proxies.
pub(super) fn trusted(texts: &[String], warnings: &mut Vec<Problem>, problems: &mut Problems) -> Networks {
    let mut found = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let path = format!("settings.trusted_proxies[{i}]");
        match networks::parse(text) {
            Ok(network) => {
                if network.trunc() != network {
                    let message = format!("{text} has host bits set: it means {}", network.trunc());
                    warnings.push(Problem::new(path.clone(), message));
                }
                if network.prefix_len() == 0 {
                    let message = format!("{text} trusts every client: any client can forge its address");
                    warnings.push(Problem::new(path, message));
                }
                found.push(network);
            }
            Err(error) => problems.add(path, error),
        }
    }
    Networks::new(found)
}

/// Returns a warning for each route that never matches, or never for one of its hosts.
pub(super) fn warnings(routes: &[Route]) -> Vec<Problem> {
    let all = overlaps(routes.iter().map(|route| &route.matches));
    let warning = |overlap: crate::routing::Overlap| {
        let (hidden, by) = (&routes[overlap.hidden].name, &routes[overlap.by].name);
        let message = match overlap.hosts.first() {
            None => {
                format!(
                    "route {hidden:?} never matches: route {by:?} comes first and matches the same requests"
                )
            }
            Some(host) => format!(
                "route {hidden:?} never matches for host {host}: route {by:?} comes first and matches the same requests"
            ),
        };
        Problem::new(format!("routes[{}].match", overlap.hidden), message)
    };
    all.into_iter().map(warning).collect()
}

#[cfg(test)]
mod tests {
    use crate::file;

    fn said(route: &str) -> String {
        let text =
            format!("pools: [{{ name: p }}]\nroutes:\n  - {{ name: r, pool: p, match: {{ {route} }} }}\n");
        file::parse(&text).unwrap_err().to_string()
    }

    #[test]
    fn problems_are_reported_with_their_path_and_line() {
        for (matches, path, says) in [
            (r#"hosts: ["a:80"]"#, "hosts[0]", "has a port"),
            ("hosts: [a, A]", "hosts[1]", "duplicate host a"),
            ("path: v1", "path", "must start with /"),
            ("path: /a//b", "path", "interpret differently"),
            ("path: /a/../b", "path", "interpret differently"),
            ("path: /a%2Fb", "path", "interpret differently"),
            ("path: /a%zz", "path", "malformed escape"),
            ("path: /a/*", "path", "already a prefix"),
            ("path: /a?b", "path", "query"),
            ("path_exact: /a b", "path_exact", "percent-encode"),
            ("path: /a, path_exact: /b", "path_exact", "mutually exclusive"),
            ("methods: [get]", "methods[0]", "write \"GET\""),
            ("methods: [GET, GET]", "methods[1]", "duplicate"),
            ("methods: [\"G T\"]", "methods[0]", "not a method"),
            ("methods: [TRACE]", "methods[0]", "never forwarded"),
            ("headers: { \"a b\": x }", "headers.a b", "not a valid header name"),
            ("headers: { x-a: \"1\", X-A: \"2\" }", "headers.x-a", "duplicate"),
            ("headers: { host: a }", "headers.host", "match.hosts"),
            ("headers: { x-a: \"a\\r\\nb\" }", "headers.x-a", "not a valid header value"),
            ("headers: { x-a: 1 }", "headers.x-a", "in quotes"),
            ("headers: { x-a: { presnt: true } }", "headers.x-a", "presnt"),
            ("host: a", "host", "unknown key"),
            ("scheme: ftp", "scheme", "https"),
        ] {
            let said = said(matches);
            assert!(said.contains(&format!("routes[0].match.{path}: ")), "{matches}: {said}");
            assert!(said.contains(says) && said.contains("line 3"), "{matches}: {said}");
        }
    }

    #[test]
    fn warnings_name_routes_that_never_match_and_their_lines() {
        let text = "
pools: [{ name: p }]
routes:
  - { name: one, match: { hosts: [a], path: /x }, pool: p }
  - { name: two, match: { hosts: [a, b], path: /x/ }, pool: p }
  - { name: three, match: { hosts: [b, a], path: /x }, pool: p }
  - { name: rest, pool: p }
  - { name: late, pool: p }
";
        let (config, snapshot) = file::parse(text).unwrap();
        let told: Vec<String> = snapshot.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "line 5, column 25: routes[1].match: route \"two\" never matches for host a: route \"one\" comes first and matches the same requests",
                "line 6, column 27: routes[2].match: route \"three\" never matches: route \"two\" comes first and matches the same requests",
                "line 8, column 5: routes[4].match: route \"late\" never matches: route \"rest\" comes first and matches the same requests",
            ]
        );
        let yaml = file::to_yaml(&config);
        assert_eq!(file::parse(&yaml).unwrap().0, config, "{yaml}");
    }

    #[test]
    fn a_match_round_trips_through_yaml() {
        let text = r#"
pools: [{ name: p }]
routes:
  - name: api
    match: { hosts: [api.example.com, "*.example.com"], path: /v1, methods: [GET, POST], headers: { x-canary: "1", x-a: { present: true }, x-b: { present: false } } }
    pool: p
"#;
        let (config, _) = file::parse(text).unwrap();
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(file::parse(&json).unwrap().0, config, "{json}");
        let resources = crate::resource::to_resources(&config);
        assert_eq!(crate::resource::from_resources(&resources).unwrap().routes, config.routes);
        assert_eq!(
            config.routes[0].matches.to_string(),
            "api.example.com, *.example.com · /v1* · GET, POST · x-a: * · no x-b · x-canary: 1"
        );
    }
}
