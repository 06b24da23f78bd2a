//! Checks the targets, rewrites and redirects of routes.

use std::collections::HashMap;

use super::{filters::own_header, resilience::check_sticky};
use crate::{
    config,
    problem::Problems,
    routing::{HostPattern, Match, PathFault, PathPattern, PathRewrite, check_rewritten},
    snapshot::{Redirect, Rewrite, Share, Split, Target, UrlMap, Weight},
    suggestion,
};

/// Pool indexes by name.
pub(super) type Pools<'a> = HashMap<&'a str, usize>;

/// Compiles the target of a route; `None` if it is invalid.
pub(super) fn target(
    route: &config::Route,
    matches: &Match,
    pools: &Pools<'_>,
    path: &str,
    problems: &mut Problems,
) -> Option<Target> {
    let config::Route { name, pool, split, redirect, .. } = route;
    let given = [("pool", !pool.is_empty()), ("split", !split.is_empty()), ("redirect", redirect.is_some())];
    let mut given = given.iter().filter(|(_, given)| *given).map(|(field, _)| *field);
    let Some(first) = given.next() else {
        problems.add(path, format!("route {name:?} has no target: set pool, split or redirect"));
        return None;
    };
    for other in given {
        problems.add(format!("{path}.{other}"), format!("{first} and {other} are mutually exclusive"));
    }
    if route.split_sticky.is_some() && first != "split" {
        problems.add(format!("{path}.split_sticky"), "split_sticky is only allowed with split");
    }
    match first {
        "pool" => match pools.get(pool.as_str()) {
            Some(pool) => Some(Target::Pool(*pool)),
            None => {
                let hint = suggestion::hint(pool, pools.keys().copied(), problems.0.len());
                problems.add(format!("{path}.pool"), format!("route {name:?}: unknown pool {pool:?}{hint}"));
                None
            }
        },
        "split" => check_split(route, pools, path, problems).map(Target::Split),
        _ => {
            let meaningless = [
                ("rewrite", route.rewrite != config::Rewrite::default()),
                ("fallback", route.fallback.is_some()),
                ("request_headers", route.request_headers != config::HeaderEdits::default()),
            ];
            for (field, _) in meaningless.iter().filter(|(_, given)| *given) {
                problems.add(
                    format!("{path}.{field}"),
                    format!("{field} is not allowed with redirect: no request goes to a backend"),
                );
            }
            let redirect = redirect.as_ref()?;
            Some(Target::Redirect(check_redirect(redirect, matches, &format!("{path}.redirect"), problems)))
        }
    }
}

fn check_split(
    route: &config::Route,
    pools: &Pools<'_>,
    path: &str,
    problems: &mut Problems,
) -> Option<Split> {
    let mut shares: Vec<Share> = Vec::with_capacity(route.split.len());
    let mut total = 0;
    for (i, share) in route.split.iter().enumerate() {
        let path = format!("{path}.split[{i}]");
        let config::Share { pool, weight } = share;
        if *weight > Weight::MAX {
            problems.add(
                format!("{path}.weight"),
                format!("weight {weight} is out of bounds (0 to {}; 0: no requests)", Weight::MAX),
            );
        }
        total += (*weight).min(Weight::MAX);
        match pools.get(pool.as_str()) {
            None => {
                let hint = suggestion::hint(pool, pools.keys().copied(), problems.0.len());
                let message = format!("route {:?}: unknown pool {pool:?}{hint}", route.name);
                problems.add(format!("{path}.pool"), message);
            }
            Some(pool) if shares.iter().any(|one| one.pool == *pool) => {
                problems.add(format!("{path}.pool"), format!("duplicate pool {:?}", share.pool));
            }
            Some(pool) => shares.push(Share { pool: *pool, weight: *weight }),
        }
    }
    if total == 0 {
        problems.add(format!("{path}.split"), "all weights are 0: no pool would get requests");
    }
    if shares.len() > 1000 {
        problems.add(format!("{path}.split"), format!("{} pools are too many (at most 1000)", shares.len()));
    }
    let sticky = route.split_sticky.as_ref();
    let sticky = sticky.map(|sticky| {
        // Pool names start with a letter or digit, so no pool's cookie has this name.
        let default = format!("weir_split-{}", route.name);
        let given = (sticky.cookie.as_deref(), sticky.ttl);
        check_sticky(given, default, &format!("{path}.split_sticky"), problems)
    });
    (shares.len() == route.split.len() && total > 0).then_some(Split { shares, total, sticky })
}

/// Compiles the one of `strip_prefix`, `replace_prefix` and `path` that is set.
fn path_rewrite(
    (strip, replace, whole): (Option<&String>, Option<&String>, Option<&String>),
    matches: &Match,
    path: &str,
    problems: &mut Problems,
) -> Option<PathRewrite> {
    let given = [("strip_prefix", strip), ("replace_prefix", replace), ("path", whole)];
    let mut given = given.iter().filter_map(|(field, text)| Some((*field, (*text)?)));
    let (field, text) = given.next()?;
    for (other, _) in given {
        problems.add(format!("{path}.{other}"), format!("{field} and {other} are mutually exclusive"));
    }
    let place = format!("{path}.{field}");
    match field {
        "strip_prefix" => match PathPattern::parse(text, false) {
            Ok(PathPattern::Any) => {
                problems.add(place, "/ cannot be stripped: expected a prefix such as /v1");
                None
            }
            Ok(from) => {
                if matches!(&matches.path, PathPattern::Prefix(own) if !from.may_meet(own)) {
                    let said =
                        format!("strip_prefix {text:?} never applies: the route matches {}", matches.path);
                    problems.add(place, said);
                }
                Some(PathRewrite::Prefix { from, to: "".into() })
            }
            Err(error) => {
                problems.add(place, error);
                None
            }
        },
        "replace_prefix" => {
            if matches!(matches.path, PathPattern::Exact(_)) {
                problems.add(place, "replace_prefix is not allowed with match.path_exact; use path");
                return None;
            }
            is_target(text, false, place, problems).then(|| PathRewrite::Prefix {
                from: matches.path.clone(),
                to: text.strip_suffix('/').unwrap_or(text).into(),
            })
        }
        _ => is_target(text, true, place, problems).then(|| PathRewrite::Whole(text.as_str().into())),
    }
}

fn is_target(text: &str, query: bool, path: String, problems: &mut Problems) -> bool {
    let wrong = if !text.starts_with('/') {
        "is not a valid path: it must start with /"
    } else if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        "has invalid characters: only visible ASCII is allowed, and no fragment"
    } else if text.contains(['{', '}']) {
        "has braces: variables are only allowed in headers"
    } else if text.contains('?') && !query {
        "has a query, which a prefix cannot have"
    } else if text.len() > 1024 {
        "is too long (at most 1024 bytes)"
    } else if leads_to_host(text, query) {
        "starts with two slashes for some servers, which read the next segment as a host"
    } else {
        return true;
    };
    problems.add(path, format!("{text:?} {wrong}"));
    false
}

/// Whether some servers read a host in this target, or in the result of this `replace_prefix`.
fn leads_to_host(text: &str, is_whole: bool) -> bool {
    let path = text.split('?').next().unwrap_or_default();
    let path =
        if is_whole { path.to_owned() } else { format!("{}/x", path.strip_suffix('/').unwrap_or(path)) };
    check_rewritten(path.as_bytes()) == Err(PathFault::RewrittenToHost)
}

/// Compiles the rewrite of a route.
pub(super) fn rewrite(
    rewrite: &config::Rewrite,
    matches: &Match,
    path: &str,
    problems: &mut Problems,
) -> Rewrite {
    let config::Rewrite { strip_prefix, replace_prefix, path: whole, host, map_answers, prefix_header } =
        rewrite;
    let paths = (strip_prefix.as_ref(), replace_prefix.as_ref(), whole.as_ref());
    let checked = path_rewrite(paths, matches, path, problems);
    let host = host.as_ref().filter(|host| {
        let fine = is_authority(host);
        if !fine {
            problems.add(
                format!("{path}.host"),
                format!(
                    "{host:?} is not a host (expected for example books.internal or books.internal:8080)"
                ),
            );
        }
        fine
    });
    let prefixes = checked.as_ref().and_then(PathRewrite::prefixes);
    if *map_answers && whole.is_some() {
        let message =
            "map_answers is not allowed with path: the backend's URLs cannot be mapped back to client paths";
        problems.add(format!("{path}.map_answers"), message);
    }
    if let Some(name) = prefix_header {
        let place = format!("{path}.prefix_header");
        if strip_prefix.is_none() && replace_prefix.is_none() {
            problems.add(place, "prefix_header is only allowed with strip_prefix or replace_prefix");
        } else {
            own_header(name, place, problems);
        }
    }
    Rewrite {
        path: checked,
        host: host.map(|host| host.as_str().into()),
        map: map_answers.then(|| match &prefixes {
            Some((outer, inner)) => UrlMap { outer: outer.as_str().into(), inner: inner.as_str().into() },
            None => UrlMap::default(),
        }),
        prefix: prefixes.map(|(outer, _)| outer).filter(|outer| !outer.is_empty()).map(Into::into),
        prefix_header: prefix_header.as_ref().map(|name| name.to_ascii_lowercase().into()),
    }
}

/// Whether the text is a host with an optional port.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rfind(':') {
        Some(colon) if !text.ends_with(']') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    };
    let port_is_fine = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    port_is_fine && host.contains(':') == host.starts_with('[') && is_host(host)
}

fn is_host(text: &str) -> bool {
    matches!(HostPattern::parse(text), Ok(HostPattern::Exact(_)))
}

fn check_redirect(
    redirect: &config::Redirect,
    matches: &Match,
    path: &str,
    problems: &mut Problems,
) -> Redirect {
    let config::Redirect { scheme, host, port, path: whole, strip_prefix, replace_prefix, status } = redirect;
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        problems.add(
            format!("{path}.status"),
            format!("status {status} is not a redirect (known: 301, 302, 303, 307, 308)"),
        );
    }
    if let Some(host) = host
        && (!is_host(host) || host.contains(':') && !host.starts_with('['))
    {
        problems.add(
            format!("{path}.host"),
            format!("{host:?} is not a host (expected for example www.example.com; the port goes into port)"),
        );
    }
    if *port == Some(0) {
        problems.add(format!("{path}.port"), "port 0 is out of bounds (1 to 65535)");
    }
    let paths = (strip_prefix.as_ref(), replace_prefix.as_ref(), whole.as_ref());
    let rewrite = path_rewrite(paths, matches, path, problems);
    let stays = host.is_none() && port.is_none() && paths == (None, None, None);
    if stays && scheme.is_none() {
        problems.add(
            path,
            "the redirect changes nothing: set scheme, host, port, path, strip_prefix or replace_prefix",
        );
    } else if stays && *scheme == matches.conditions.scheme {
        problems.add(format!("{path}.scheme"), "redirects to the requested URL: match.scheme is the same");
    }
    Redirect {
        scheme: *scheme,
        host: host.as_ref().map(|host| host.as_str().into()),
        port: *port,
        path: rewrite,
        status: *status,
    }
}

/// The scheme that a redirect implies: a redirect that only changes the scheme matches only requests with the other
/// scheme. Requests that already have the right scheme may use another route of the same host and path.
pub(super) fn implied_scheme(route: &config::Route) -> Option<config::WebScheme> {
    let redirect = route.redirect.as_ref()?;
    let config::Redirect {
        host: None, port: None, path: None, strip_prefix: None, replace_prefix: None, ..
    } = redirect
    else {
        return None;
    };
    Some(match redirect.scheme? {
        config::WebScheme::Http => config::WebScheme::Https,
        config::WebScheme::Https => config::WebScheme::Http,
    })
}

#[cfg(test)]
mod tests {
    use crate::{Target, check::tests::refused, config::WebScheme, file};

    fn file_of(route: &str) -> String {
        format!("pools: [{{ name: p }}, {{ name: q }}]\nroutes:\n  - {{ name: r, {route} }}\n")
    }

    #[test]
    fn problems_are_reported_with_their_path_and_line() {
        for (route, path, says) in [
            ("match: { path: /a }", "", "set pool, split or redirect"),
            ("pool: p, split: [{ pool: q }]", ".split", "mutually exclusive"),
            ("pool: p, redirect: { scheme: https }", ".redirect", "mutually exclusive"),
            ("pool: nowhere", ".pool", "unknown pool \"nowhere\""),
            ("split: [{ pool: p }, { pool: nowhere }]", ".split[1].pool", "unknown pool \"nowhere\""),
            ("split: [{ pool: p }, { pool: p }]", ".split[1].pool", "duplicate"),
            ("split: [{ pool: p, weight: 1001 }]", ".split[0].weight", "0 to 1000"),
            ("split: [{ pool: p, weight: 0 }]", ".split", "no pool would get"),
            ("pool: p, split_sticky: {}", ".split_sticky", "only allowed with split"),
            (
                "split: [{ pool: p }], split_sticky: { cookie: \"a b\" }",
                ".split_sticky.cookie",
                "not a valid cookie name",
            ),
            ("pool: p, rewrite: { strip_prefix: v1 }", ".rewrite.strip_prefix", "must start with /"),
            ("pool: p, rewrite: { strip_prefix: / }", ".rewrite.strip_prefix", "cannot be stripped"),
            (
                "pool: p, match: { path: /a }, rewrite: { strip_prefix: /b }",
                ".rewrite.strip_prefix",
                "never applies",
            ),
            ("pool: p, rewrite: { strip_prefix: /a, path: /b }", ".rewrite.path", "mutually exclusive"),
            (
                "pool: p, match: { path_exact: /a }, rewrite: { replace_prefix: /b }",
                ".rewrite.replace_prefix",
                "use path",
            ),
            ("pool: p, rewrite: { replace_prefix: \"/b?c\" }", ".rewrite.replace_prefix", "query"),
            ("pool: p, rewrite: { replace_prefix: //x }", ".rewrite.replace_prefix", "two slashes"),
            ("pool: p, rewrite: { replace_prefix: /.// }", ".rewrite.replace_prefix", "two slashes"),
            ("pool: p, rewrite: { path: '/\\x/admin?y' }", ".rewrite.path", "two slashes"),
            ("pool: p, rewrite: { path: /a/..//x }", ".rewrite.path", "two slashes"),
            ("pool: p, rewrite: { path: \"/a b\" }", ".rewrite.path", "visible ASCII"),
            ("pool: p, rewrite: { path: \"/a/{host}\" }", ".rewrite.path", "only allowed in headers"),
            ("pool: p, rewrite: { path: \"/a\\r\\nX: y\" }", ".rewrite.path", "visible ASCII"),
            ("pool: p, rewrite: { host: \"a\\r\\nX: y\" }", ".rewrite.host", "not a host"),
            ("pool: p, rewrite: { host: \"http://a\" }", ".rewrite.host", "not a host"),
            ("pool: p, rewrite: { host: \"*.a\" }", ".rewrite.host", "not a host"),
            ("pool: p, rewrite: { host: \"a:0\" }", ".rewrite.host", "not a host"),
            (
                "pool: p, rewrite: { path: /a, map_answers: true }",
                ".rewrite.map_answers",
                "not allowed with path",
            ),
            (
                "pool: p, rewrite: { prefix_header: x-a }",
                ".rewrite.prefix_header",
                "only allowed with strip_prefix",
            ),
            (
                "pool: p, rewrite: { strip_prefix: /a, prefix_header: \"a b\" }",
                ".rewrite.prefix_header",
                "not a valid header name",
            ),
            (
                "pool: p, rewrite: { strip_prefix: /a, prefix_header: X_Real_IP }",
                ".rewrite.prefix_header",
                "managed by Weir",
            ),
            ("pool: p, rewrite: { strip_prefix: /a, map_answers: 1 }", ".rewrite.map_answers", "boolean"),
            ("pool: p, underscore_headers: keep", ".underscore_headers", "pass"),
            ("redirect: {}", ".redirect", "changes nothing"),
            ("redirect: { scheme: https }, match: { scheme: https }", ".redirect.scheme", "requested URL"),
            ("redirect: { scheme: https, status: 200 }", ".redirect.status", "308"),
            ("redirect: { host: \"a:80\" }", ".redirect.host", "goes into port"),
            ("redirect: { port: 0 }", ".redirect.port", "port 0"),
            ("redirect: { host: a }, rewrite: { host: b }", ".rewrite", "not allowed with redirect"),
            ("redirect: { host: a }, fallback: { status: 503 }", ".fallback", "not allowed with redirect"),
            (
                "redirect: { host: a }, request_headers: { remove: [x] }",
                ".request_headers",
                "not allowed with redirect",
            ),
        ] {
            refused(&file_of(route), &format!("routes[0]{path}: "), says, 3);
        }
    }

    #[test]
    fn targets_round_trip_through_yaml_and_are_described() {
        for (route, told) in [
            ("pool: p", "p"),
            (
                "split: [{ pool: p, weight: 90 }, { pool: q, weight: 10 }], split_sticky: { cookie: c, ttl: 5m }",
                "p 90, q 10",
            ),
            ("redirect: { scheme: https, port: 8443, status: 301 }", "→ 301 https:// :8443"),
            ("redirect: { host: www.a, strip_prefix: /x }, match: { path: /x }", "→ 308 www.a without /x"),
            ("pool: p, rewrite: { strip_prefix: /v1, host: \"a:80\" }, match: { path: /v1/a }", "p"),
            ("pool: p, rewrite: { replace_prefix: /, host: \"[::1]:80\" }, match: { path: /a }", "p"),
        ] {
            let (config, _) = file::parse(&file_of(route)).expect(route);
            assert_eq!(config.routes[0].target(), told, "{route}");
            let yaml = file::to_yaml(&config);
            assert_eq!(file::parse(&yaml).unwrap().0, config, "{yaml}");
            let resources = crate::resource::to_resources(&config);
            assert_eq!(crate::resource::from_resources(&resources).unwrap().routes, config.routes);
        }
    }

    #[test]
    fn a_scheme_redirect_matches_only_requests_with_the_other_scheme() {
        let text = "
pools: [{ name: p }]
routes:
  - { name: secure, match: { hosts: [a] }, redirect: { scheme: https } }
  - { name: site, match: { hosts: [a] }, pool: p }
";
        let (_, snapshot) = file::parse(text).unwrap();
        assert_eq!(snapshot.warnings, []);
        assert_eq!(snapshot.routes[0].matches.conditions.scheme, Some(WebScheme::Http));
        assert!(matches!(snapshot.routes[0].target, Target::Redirect(_)));
    }
}
