//! Checks a declarative [`Config`] and turns it into a [`Snapshot`]; reports all problems at once.

mod cookies;
mod filters;
mod headers;
mod keep_alive;
mod pool;
mod resilience;
mod routing;
mod target;
mod tls;

use std::{collections::HashMap, sync::Arc, time::Duration};

use rustc_hash::FxHashSet;

use crate::{
    config::{self, Config},
    headers::Side,
    problem::Problems,
    routing::Router,
    snapshot::{Fallback, Route, RouteOverrides, Snapshot},
    units::{ByteSize, HumanDuration},
};

use self::pool::check_pool;
pub use self::tls::{chain, warnings};

/// The longest duration that any field accepts.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// Checks the whole configuration: values, uniqueness and references.
///
/// # Errors
/// All problems, each with its path.
pub fn check(config: &Config) -> Result<Snapshot, Problems> {
    let mut problems = Problems::default();
    downstream(&config.settings.downstream, &mut problems);
    let ip_filter = config.settings.ip_filter.as_ref();
    let ip_filter = ip_filter.map(|filter| filters::ip(filter, "settings.ip_filter", &mut problems));
    let mut warnings = Vec::new();
    let trusted_proxies = routing::trusted(&config.settings.trusted_proxies, &mut warnings, &mut problems);

    let mut pool_by_name = HashMap::new();
    let mut pools = Vec::with_capacity(config.pools.len());
    for (i, pool) in config.pools.iter().enumerate() {
        let path = format!("pools[{i}]");
        name(&pool.name, &path, &mut problems);
        if pool_by_name.insert(pool.name.as_str(), i).is_some() {
            problems.add(format!("{path}.name"), format!("duplicate pool name {:?}", pool.name));
        }
        if let Some(pool) = check_pool(pool, &path, &mut problems) {
            pools.push(pool);
        }
    }

    let mut fallbacks = resilience::fallbacks(config, &pool_by_name, &mut problems);
    let mut routes = Vec::with_capacity(config.routes.len());
    let mut route_names = HashMap::new();
    for (i, route) in config.routes.iter().enumerate() {
        let path = format!("routes[{i}]");
        name(&route.name, &path, &mut problems);
        if route_names.insert(route.name.as_str(), i).is_some() {
            problems.add(format!("{path}.name"), format!("duplicate route name {:?}", route.name));
        }
        if let Some(mut checked) =
            check_route(route, &pool_by_name, fallbacks[i].take(), &path, &mut problems)
        {
            checked.filters =
                filters::route(route, ip_filter.as_ref(), &path, (&mut problems, &mut warnings));
            checked.guard = headers::guard(route.underscore_headers, &checked).map(Arc::new);
            routes.push(checked);
        }
    }

    let mut ids = FxHashSet::default();
    for (i, pool) in config.pools.iter().enumerate() {
        for (j, backend) in pool.backends.iter().enumerate() {
            if !backend.id.is_empty() && !ids.insert(backend.id.as_str()) {
                problems.add(
                    format!("pools[{i}].backends[{j}].id"),
                    format!("duplicate backend id {:?}", backend.id),
                );
            }
        }
    }

    warnings.extend(cookies::assign(&mut routes, &pools));
    let router = Router::new(routes.iter().map(|route| &route.matches));
    warnings.extend(routing::warnings(&routes));
    let certificates = tls::certificates(config, &mut problems);
    warnings.extend(tls::lasting_warnings(&certificates, &pools));
    let settings = config.settings.clone();
    let snapshot = Snapshot { settings, trusted_proxies, pools, routes, router, warnings, certificates };
    problems.into_result(snapshot)
}

/// Checks the name of the object at `path`. Names appear in URLs, logs and metrics.
fn name(name: &str, path: &str, problems: &mut Problems) {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty()
        || name.len() > 100
        || !name.bytes().all(fine)
        || !name.as_bytes()[0].is_ascii_alphanumeric()
    {
        problems.add(
            format!("{path}.name"),
            format!("{name:?} is not a valid name (1 to 100 letters, digits, '-', '_' and '.', starting with a letter or digit)"),
        );
    }
}

fn duration(value: HumanDuration, least: Duration, path: String, problems: &mut Problems) -> Duration {
    if value.0 < least || value.0 > LONGEST {
        let least = HumanDuration(least);
        problems.add(path, format!("{value} is out of bounds ({least} to 365d)"));
    }
    value.0
}

fn within(value: u32, (least, most): (u32, u32), path: &str, field: &str, problems: &mut Problems) {
    if !(least..=most).contains(&value) {
        problems
            .add(format!("{path}.{field}"), format!("{field} {value} is out of bounds ({least} to {most})"));
    }
}

fn downstream(settings: &config::Downstream, problems: &mut Problems) {
    let path = |field: &str| format!("settings.downstream.{field}");
    let least = Duration::from_millis(100);
    duration(settings.header_timeout, least, path("header_timeout"), problems);
    duration(settings.idle_timeout, least, path("idle_timeout"), problems);
    duration(settings.tls_handshake_timeout, least, path("tls_handshake_timeout"), problems);
    duration(settings.body_timeout, Duration::ZERO, path("body_timeout"), problems);
    duration(settings.send_timeout, Duration::ZERO, path("send_timeout"), problems);
    duration(settings.min_body_rate_grace, Duration::from_secs(1), path("min_body_rate_grace"), problems);
    body_rate(settings.min_body_rate, path("min_body_rate"), problems);
    head_size(settings.max_head, path("max_head"), problems);
    if !(1..=1024).contains(&settings.max_headers) {
        problems.add(path("max_headers"), format!("{} is out of bounds (1 to 1024)", settings.max_headers));
    }
    let streams = settings.max_concurrent_streams;
    within(streams, (1, 10_000), "settings.downstream", "max_concurrent_streams", problems);
}

/// Checks the size limit for a message head.
fn head_size(size: ByteSize, path: String, problems: &mut Problems) {
    if !(1 << 10..=1 << 20).contains(&size.0) {
        problems.add(path, format!("{size} is out of bounds (1KiB to 1MiB)"));
    }
}

/// Checks the minimum rate of a body. Higher rates would cut off clients on slow lines.
fn body_rate(rate: ByteSize, path: String, problems: &mut Problems) -> u64 {
    if rate.0 > 1 << 20 {
        problems.add(path, format!("{rate} is out of bounds (0 to 1MiB per second)"));
    }
    rate.0
}

fn route_overrides(route: &config::Route, path: &str, problems: &mut Problems) -> RouteOverrides {
    let config::RouteTimeouts { request: _, response, response_body, request_body, send } = route.timeouts;
    let mut check = |given: Option<HumanDuration>, least, field: &str| {
        given.map(|given| duration(given, least, format!("{path}.timeouts.{field}"), problems))
    };
    RouteOverrides {
        response: check(response, Duration::from_millis(1), "response"),
        response_body: check(response_body, Duration::ZERO, "response_body"),
        request_body: check(request_body, Duration::ZERO, "request_body"),
        send: check(send, Duration::ZERO, "send"),
        min_body_rate: route
            .limits
            .min_body_rate
            .map(|rate| body_rate(rate, format!("{path}.limits.min_body_rate"), problems)),
    }
}

fn check_route(
    route: &config::Route,
    pools: &target::Pools<'_>,
    fallback: Option<Fallback>,
    path: &str,
    problems: &mut Problems,
) -> Option<Route> {
    let least = Duration::from_millis(1);
    let request_timeout = route
        .timeouts
        .request
        .map(|timeout| duration(timeout, least, format!("{path}.timeouts.request"), problems));
    let max_body = route.limits.max_body.map_or(u64::MAX, |size| size.0);
    let overrides = route_overrides(route, path, problems);
    let mut matches = routing::matches(&route.matches, &format!("{path}.match"), problems);
    let target = target::target(route, &matches, pools, path, problems);
    if matches.conditions.scheme.is_none() {
        matches.conditions.scheme = target::implied_scheme(route);
    }
    // Most of thousands of routes leave most fields empty. Formatting paths for them would cost more than the checks.
    let rewrite = match &route.rewrite {
        edits if *edits == config::Rewrite::default() => Default::default(),
        edits => target::rewrite(edits, &matches, &format!("{path}.rewrite"), problems),
    };
    let mut rules = |edits: &config::HeaderEdits, side, field: &str| match edits {
        edits if *edits == config::HeaderEdits::default() => None,
        edits => headers::rules(edits, side, &format!("{path}.{field}"), problems),
    };
    let request_headers = rules(&route.request_headers, Side::Request, "request_headers");
    let response_headers = rules(&route.response_headers, Side::Response, "response_headers");
    let hsts = route.hsts.as_ref();
    let hsts = hsts.and_then(|hsts| tls::hsts(Some(hsts), &format!("{path}.hsts"), problems));
    let name = route.name.as_str().into();
    let target = target?;
    Some(Route {
        name,
        matches,
        target,
        rewrite,
        request_headers,
        response_headers,
        fallback,
        max_body,
        request_timeout,
        overrides,
        filters: None,
        guard: None,
        session_cookies: Vec::new(),
        hsts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Backend, Pool, Route},
        file,
    };

    /// Asserts that a file is rejected with this problem at this path and line.
    pub(super) fn refused(text: &str, path: &str, says: &str, line: u32) {
        let told = file::parse(text).expect_err(text).to_string();
        assert!(told.contains(path) && told.contains(says), "{text}\n{path}, {says}: {told}");
        assert!(told.contains(&format!("line {line}")), "{text}\nline {line}: {told}");
    }

    fn backend(url: &str, weight: u32) -> Backend {
        Backend { id: String::new(), url: url.into(), weight, state: Default::default() }
    }

    #[test]
    fn the_default_configuration_is_valid() {
        let snapshot = check(&Config::default()).unwrap();
        let pool = snapshot.routes[0].target.pools().next().unwrap();
        assert_eq!(&*snapshot.pools[pool].name, "default");
        assert_eq!(snapshot.router.only(), Some(0));
    }

    #[test]
    fn limits_out_of_bounds_are_reported_with_their_path() {
        for (text, path, says) in [
            ("settings: { downstream: { send_timeout: 366d } }", "send_timeout", "0s to 365d"),
            (
                "settings: { downstream: { max_concurrent_streams: 0 } }",
                "max_concurrent_streams",
                "1 to 10000",
            ),
            ("settings: { downstream: { min_body_rate: 2MiB } }", "min_body_rate", "0 to 1MiB"),
            ("settings: { downstream: { min_body_rate_grace: 0s } }", "min_body_rate_grace", "1s to 365d"),
            ("settings: { downstream: { max_head: 100 } }", "max_head", "1KiB to 1MiB"),
            (
                "pools: [{ name: p, limits: { max_response_head: 2MiB } }]",
                "max_response_head",
                "1KiB to 1MiB",
            ),
            (
                "pools: [{ name: p, limits: { max_response_headers: 0 } }]",
                "max_response_headers",
                "1 to 1024",
            ),
            ("pools: [{ name: p, timeouts: { response_body: 366d } }]", "response_body", "0s to 365d"),
        ] {
            refused(&format!("{text}\n"), path, says, 1);
        }
    }

    #[test]
    fn a_route_may_override_the_timeouts_of_its_pool_and_disable_them() {
        let text = "
pools: [{ name: p, timeouts: { response_body: 0s } }]
routes:
  - { name: r, pool: p, timeouts: { response: 2m, response_body: 0s, request_body: 0s, send: 1h }, limits: { min_body_rate: 0 } }
";
        let (config, snapshot) = file::parse(text).unwrap();
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let overrides = RouteOverrides {
            response: seconds(120),
            response_body: seconds(0),
            request_body: seconds(0),
            send: seconds(3600),
            min_body_rate: Some(0),
        };
        assert_eq!(snapshot.routes[0].overrides, overrides);
        assert_eq!(snapshot.pools[0].timeouts.response_body, Duration::ZERO);
        assert!(snapshot.pools[0].timeouts.response >= Duration::from_secs(60), "long polls take 60 s");
        assert_eq!(file::parse(&file::to_yaml(&config)).unwrap().0, config);
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let config = Config {
            settings: Default::default(),
            pools: vec![
                Pool {
                    name: "a b".into(),
                    backends: vec![
                        backend("127.0.0.1:1", 0),
                        backend("http://x:1", 1),
                        backend("http://X:1/", 1001),
                    ],
                    ..Default::default()
                },
                Pool {
                    name: "a b".into(),
                    health_check: config::HealthCheck {
                        interval: "50ms".parse().unwrap(),
                        rise: 0,
                        expect_status: "ok".into(),
                        ..Default::default()
                    },
                    ..Default::default()
                },
            ],
            certificates: vec![],
            routes: vec![Route {
                name: "r".into(),
                pool: "nowhere".into(),
                timeouts: config::RouteTimeouts {
                    request: Some("0s".parse().unwrap()),
                    response: Some("0s".parse().unwrap()),
                    response_body: Some("366d".parse().unwrap()),
                    request_body: Some("366d".parse().unwrap()),
                    send: Some("366d".parse().unwrap()),
                },
                limits: config::RouteLimits { min_body_rate: Some(ByteSize(2 << 20)), ..Default::default() },
                ..Default::default()
            }],
        };
        let problems = check(&config).unwrap_err();
        let paths: Vec<&str> = problems.0.iter().map(|problem| problem.path.as_str()).collect();
        for path in [
            "pools[0].name",
            "pools[0].backends[0].weight",
            "pools[0].backends[0].url",
            "pools[0].backends[2].url",
            "pools[0].backends[2].weight",
            "pools[1].name",
            "pools[1].health_check.interval",
            "pools[1].health_check.rise",
            "pools[1].health_check.expect_status",
            "routes[0].pool",
            "routes[0].timeouts.request",
            "routes[0].timeouts.response",
            "routes[0].timeouts.response_body",
            "routes[0].timeouts.request_body",
            "routes[0].timeouts.send",
            "routes[0].limits.min_body_rate",
        ] {
            assert!(paths.contains(&path), "{path} is missing from {problems}");
        }
    }
}
