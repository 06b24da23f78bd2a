//! Checks the header edits of routes.

use std::{collections::BTreeMap, sync::Arc};

use weir_http::aliases::{AliasPolicy, HeaderGuard};

use crate::{
    config,
    headers::{HeaderRules, Line, Side, is_token, value},
    problem::Problems,
    snapshot::Route,
};

/// Hop-by-hop headers (RFC 9110 section 7.6.1) and headers that frame a message.
const OF_THE_HOP: [&str; 13] = [
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "sec-websocket-accept",
    "sec-websocket-key",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Upper bound on edits per route: bounds the cost of a request.
const MOST: usize = 64;

/// The request headers that a route vouches for: those that its filters, rules and rewrite set or remove, and those
/// in its match.
pub(super) fn guard(policy: config::UnderscoreHeaders, route: &Route) -> Option<HeaderGuard> {
    let add = |names: &mut Vec<Box<str>>, name: &str| {
        // A name of only letters and digits has no alias.
        if name.bytes().any(|byte| !byte.is_ascii_alphanumeric()) {
            names.push(name.to_ascii_lowercase().into());
        }
    };
    let (mut vouched, mut others) = (Vec::new(), Vec::new());
    if let Some(filters) = &route.filters {
        filters.basic_auth.iter().for_each(|auth| add(&mut vouched, &auth.user_header));
        if let Some(jwt) = &filters.jwt {
            add(&mut vouched, &jwt.header);
            jwt.claims_to_headers.iter().for_each(|(_, header)| add(&mut vouched, header));
        }
    }
    if let Some(rules) = &route.request_headers {
        rules.removed.iter().for_each(|name| add(&mut others, name));
        rules.lines.iter().for_each(|line| add(&mut others, &line.name));
    }
    route.rewrite.prefix_header.iter().for_each(|name| add(&mut others, name));
    route.matches.conditions.headers.iter().for_each(|condition| add(&mut others, &condition.name));
    let policy = match policy {
        config::UnderscoreHeaders::DropAliases => AliasPolicy::DropAliases,
        config::UnderscoreHeaders::Drop => AliasPolicy::DropUnderscores,
        config::UnderscoreHeaders::Pass => AliasPolicy::Pass,
    };
    HeaderGuard::new(vouched, others, policy)
}

/// Compiles the edits, or returns `None` for an empty list.
pub(super) fn rules(
    edits: &config::HeaderEdits,
    side: Side,
    path: &str,
    problems: &mut Problems,
) -> Option<Arc<HeaderRules>> {
    let mut rules = HeaderRules::default();
    if edits.set.len() + edits.add.len() + edits.remove.len() > MOST {
        // Stop here: each name is compared with all others.
        problems.add(path, format!("more than {MOST} header changes"));
        return None;
    }
    for (i, name) in edits.remove.iter().enumerate() {
        let path = format!("{path}.remove[{i}]");
        let lower = checked(name, side, &path, problems);
        let is_same = |(other, _): (&String, &String)| other.eq_ignore_ascii_case(name);
        if edits.set.iter().any(is_same) {
            problems.add(
                path,
                format!("header {lower:?} is both set and removed: set already replaces existing fields"),
            );
        } else if rules.removes(lower.as_bytes()) {
            problems.add(path, format!("duplicate header {lower:?}"));
        } else {
            rules.removed.push(lower);
        }
    }
    for (field, lines, replaces) in [("set", &edits.set, true), ("add", &edits.add, false)] {
        written(&mut rules, lines, replaces, (side, &format!("{path}.{field}")), problems);
    }
    (!rules.is_empty()).then(|| Arc::new(rules))
}

fn written(
    rules: &mut HeaderRules,
    lines: &BTreeMap<String, String>,
    replaces: bool,
    (side, path): (Side, &str),
    problems: &mut Problems,
) {
    for (name, text) in lines {
        let path = format!("{path}.{name}");
        let lower = checked(name, side, &path, problems);
        if replaces && rules.removes(lower.as_bytes()) {
            problems
                .add(path.clone(), format!("duplicate header {lower:?} (header names are case-insensitive)"));
        }
        match value(text, side) {
            Ok(pieces) => {
                if replaces {
                    rules.removed.push(lower);
                }
                rules.lines.push(Line { name: name.as_str().into(), value: pieces });
            }
            Err(error) => problems.add(path, error),
        }
    }
}

/// Checks a header name and returns it in lower case.
fn checked(name: &str, side: Side, path: &str, problems: &mut Problems) -> Box<str> {
    let lower = name.to_ascii_lowercase();
    let wrong = match lower.as_str() {
        _ if !is_token(name) => "is not a valid header name",
        "host" if side == Side::Request => "cannot be changed here; use rewrite.host",
        "expect" if side == Side::Request => "is handled by Weir and cannot be changed",
        "date" if side == Side::Response => {
            "is set by the server that creates the response and cannot be changed"
        }
        own if OF_THE_HOP.contains(&own) => "belongs to one connection; Weir sets it itself",
        _ => "",
    };
    if !wrong.is_empty() {
        problems.add(path, format!("{name:?} {wrong}"));
    }
    lower.into()
}

#[cfg(test)]
mod tests {
    use crate::{check::tests::refused, file};

    fn file_of(route: &str) -> String {
        format!("pools: [{{ name: p }}]\nroutes:\n  - {{ name: r, pool: p, {route} }}\n")
    }

    #[test]
    fn problems_are_reported_with_their_path_and_line() {
        for (headers, path, says) in [
            (
                "request_headers: { set: { \"a b\": x } }",
                "request_headers.set.a b",
                "not a valid header name",
            ),
            (
                "request_headers: { set: { \"a\\r\\nb\": x } }",
                "request_headers.set.a",
                "not a valid header name",
            ),
            (
                "request_headers: { set: { a: \"x\\r\\nb: y\" } }",
                "request_headers.set.a",
                "control characters",
            ),
            (
                "request_headers: { add: { a: \"{nothing}\" } }",
                "request_headers.add.a",
                "unknown variable {nothing}",
            ),
            (
                "request_headers: { add: { a: \"{status}\" } }",
                "request_headers.add.a",
                "only available in responses",
            ),
            ("request_headers: { set: { Host: a } }", "request_headers.set.Host", "rewrite.host"),
            ("request_headers: { remove: [Connection] }", "request_headers.remove[0]", "one connection"),
            (
                "response_headers: { set: { transfer-encoding: x } }",
                "response_headers.set.transfer-encoding",
                "one connection",
            ),
            (
                "response_headers: { add: { Content-Length: \"0\" } }",
                "response_headers.add.Content-Length",
                "one connection",
            ),
            ("response_headers: { remove: [date] }", "response_headers.remove[0]", "set by the server"),
            ("response_headers: { set: { a: x, A: z } }", "response_headers.set.a", "duplicate header"),
            (
                "response_headers: { set: { a: x }, remove: [A] }",
                "response_headers.remove[0]",
                "set and removed",
            ),
            ("response_headers: { remove: [a, A] }", "response_headers.remove[1]", "duplicate header"),
            ("response_headers: { set: { a: \"\" } }", "response_headers.set.a", "use remove"),
            ("response_headers: { unset: [a] }", "response_headers.unset", "unknown key"),
        ] {
            refused(&file_of(headers), &format!("routes[0].{path}"), says, 3);
        }
    }

    #[test]
    fn set_replaces_existing_fields_and_add_keeps_them() {
        let text =
            "request_headers: { set: { X-Env: prod }, add: { x-more: \"{client_ip}\" }, remove: [x-debug] }";
        let (_, snapshot) = file::parse(&file_of(text)).unwrap();
        let rules = snapshot.routes[0].request_headers.as_ref().unwrap();
        assert!(rules.removes(b"x-env") && rules.removes(b"X-DEBUG") && !rules.removes(b"x-more"));
        let names: Vec<&str> = rules.lines.iter().map(|line| &*line.name).collect();
        assert_eq!(names, ["X-Env", "x-more"]);
        assert!(snapshot.routes[0].response_headers.is_none());
    }

    #[test]
    fn trusted_proxies_are_networks() {
        let text = |list: &str| format!("settings:\n  trusted_proxies: {list}\n");
        let (config, snapshot) = file::parse(&text("[10.0.0.0/8, \"::1\"]")).unwrap();
        assert!(
            snapshot.trusted_proxies.contains("10.1.2.3".parse().unwrap()) && snapshot.warnings.is_empty()
        );
        assert_eq!(file::parse(&file::to_yaml(&config)).unwrap().0, config);
        let said = file::parse(&text("[10.0.0.0/8, internal, 10.0.0.0/40]")).unwrap_err().to_string();
        assert!(
            said.contains("line 2, column ")
                && said.contains(": settings.trusted_proxies[1]")
                && said.contains("trusted_proxies[2]"),
            "{said}"
        );
        let (_, snapshot) = file::parse(&text("[10.0.0.1/8, 0.0.0.0/0]")).unwrap();
        let warnings: Vec<String> = snapshot.warnings.iter().map(ToString::to_string).collect();
        assert!(
            warnings[0].contains("it means 10.0.0.0/8") && warnings[1].contains("trusts every client"),
            "{warnings:?}"
        );
    }
}
