//! Session cookies of each host: which cookies are not forwarded to backends, and which overwrite each other.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use weir_http::CookieNames;

use crate::{
    problem::Problem,
    routing::HostPattern,
    snapshot::{Fallback, Pool, Route, Target},
};

/// The owner of a cookie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    Pool(usize),
    Split(usize),
    /// The application, which sets a token that a filter reads.
    Token,
}

/// Sets each route's [`Route::session_cookies`]. Warns if two owners use the same cookie name on one host: a client
/// keeps one value per name, so they overwrite each other.
pub(super) fn assign(routes: &mut [Route], pools: &[Pool]) -> Vec<Problem> {
    let mut by_host: FxHashMap<HostPattern, FxHashMap<Arc<str>, (Writer, usize)>> = FxHashMap::default();
    let mut warnings = Vec::new();
    for (at, route) in routes.iter().enumerate() {
        let written = written(route, at, pools);
        for host in route.matches.hosts.iter().filter(|_| !written.is_empty()) {
            let names = by_host.entry(host.clone()).or_default();
            for (name, writer) in &written {
                let (first, by) = *names.entry(Arc::clone(name)).or_insert((*writer, at));
                let is_session = |writer| writer != Writer::Token;
                if first != *writer && (is_session(first) || is_session(*writer)) {
                    let other = match by {
                        by if by == at => "another part of the route".to_owned(),
                        by => format!("route {:?} of the same host", routes[by].name),
                    };
                    let message = format!(
                        "route {:?} uses cookie {name:?}, and so does {other}: they overwrite each other; set another name in sticky.cookie or split_sticky.cookie",
                        route.name
                    );
                    warnings.push(Problem::new(format!("routes[{at}]"), message));
                    // Warn once per route and cookie.
                    names.insert(Arc::clone(name), (*writer, at));
                }
            }
        }
    }
    let sessions = |names: FxHashMap<Arc<str>, (Writer, usize)>| {
        let sessions = names.into_iter().filter(|(_, (writer, _))| *writer != Writer::Token);
        Arc::new(sessions.map(|(name, _)| name).collect::<CookieNames>())
    };
    let by_host: FxHashMap<HostPattern, Arc<CookieNames>> = by_host
        .into_iter()
        .map(|(host, names)| (host, sessions(names)))
        .filter(|(_, names)| !names.is_empty())
        .collect();
    if !by_host.is_empty() {
        for route in routes {
            let hosts = route.matches.hosts.iter().filter(|host| **host != HostPattern::Any);
            let found = hosts.chain([&HostPattern::Any]).filter_map(|host| by_host.get(host).cloned());
            route.session_cookies = found.collect();
        }
    }
    warnings.dedup();
    warnings
}

/// The cookies that the route's responses may set or that its filters read.
fn written(route: &Route, at: usize, pools: &[Pool]) -> Vec<(Arc<str>, Writer)> {
    let fallback = match route.fallback {
        Some(Fallback::Pool(pool)) => Some(pool),
        _ => None,
    };
    let pools = route.target.pools().chain(fallback).filter_map(|pool| {
        let sticky = pools.get(pool)?.resilience.sticky.as_ref()?;
        Some((Arc::clone(&sticky.cookie), Writer::Pool(pool)))
    });
    let split = match &route.target {
        Target::Split(split) => split.sticky.as_ref(),
        _ => None,
    };
    let split = split.map(|sticky| (Arc::clone(&sticky.cookie), Writer::Split(at)));
    let token = route.filters.as_ref().and_then(|filters| filters.jwt.as_ref()?.cookie.clone());
    pools.chain(split).chain(token.map(|cookie| (cookie, Writer::Token))).collect()
}

#[cfg(test)]
mod tests {
    use crate::file;

    const POOLS: &str = "pools: [{ name: a, sticky: {} }, { name: b, sticky: {} }, { name: c, sticky: { cookie: sid } }, { name: d, sticky: { cookie: sid } }, { name: e }]\n";

    fn routes(text: &str) -> (Vec<Vec<String>>, Vec<String>) {
        let (_, snapshot) = file::parse(&format!("{POOLS}routes: [{text}]\n")).unwrap();
        let names = |route: &crate::snapshot::Route| {
            let mut names: Vec<String> =
                route.session_cookies.iter().flat_map(|set| set.iter().map(str::to_owned)).collect();
            names.sort();
            names
        };
        let warnings = snapshot.warnings.iter().map(ToString::to_string).collect();
        (snapshot.routes.iter().map(names).collect(), warnings)
    }

    #[test]
    fn each_pool_has_its_own_cookie() {
        let (names, warnings) = routes(
            "{ name: x, match: { path: /x }, pool: a }, { name: why, match: { path: /y }, pool: b }, \
             { name: z, match: { hosts: [h], path: /z }, split: [{ pool: a }, { pool: e }], split_sticky: {} }, \
             { name: o, match: { hosts: [o] }, pool: e }",
        );
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(names[0], ["weir-a", "weir-b"]);
        assert_eq!(names[1], ["weir-a", "weir-b"]);
        assert_eq!(names[2], ["weir-a", "weir-a", "weir-b", "weir_split-z"]);
        assert_eq!(names[3], ["weir-a", "weir-b"]);
    }

    #[test]
    fn a_cookie_name_shared_by_two_pools_of_a_host_is_warned_of() {
        for (text, warned) in [
            ("{ name: x, match: { path: /x }, pool: c }, { name: why, pool: d }", true),
            (
                "{ name: x, match: { hosts: [h], path: /x }, pool: c }, { name: why, match: { hosts: [g, h] }, pool: d }",
                true,
            ),
            ("{ name: x, pool: c, fallback: { pool: d } }", true),
            ("{ name: x, split: [{ pool: c }, { pool: d }] }", true),
            ("{ name: x, split: [{ pool: c }, { pool: e }], split_sticky: { cookie: sid } }", true),
            (
                "{ name: x, match: { hosts: [h] }, pool: c }, { name: why, match: { hosts: [g] }, pool: d }",
                false,
            ),
            ("{ name: x, match: { path: /x }, pool: c }, { name: why, pool: c }", false),
        ] {
            let (_, warnings) = routes(text);
            assert_eq!(warnings.len(), usize::from(warned), "{text}: {warnings:?}");
            assert!(
                warnings
                    .iter()
                    .all(|warning| warning.contains("\"sid\"") && warning.contains("sticky.cookie"))
            );
        }
    }
}
