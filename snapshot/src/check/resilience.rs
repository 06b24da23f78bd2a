//! Checks a pool's resilience settings and the fallbacks of routes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{duration, head_size, within};
use crate::{
    config::{self, HashOn, Strategy},
    headers::is_token,
    problem::Problems,
    snapshot::{Breaker, Fallback, Limits, Resilience, Retry, Sticky},
    units::{Fraction, HumanDuration},
};

/// Default of `drain_timeout`.
const DRAIN: Duration = Duration::from_secs(300);

/// Largest body of a fixed response, in bytes.
const MAX_BODY: usize = 64 << 10;

pub(super) fn pool(pool: &config::Pool, path: &str, problems: &mut Problems) -> Resilience {
    let slow_start = duration(pool.slow_start, Duration::ZERO, format!("{path}.slow_start"), problems);
    let drain_timeout = pool.drain_timeout.map_or(DRAIN, |timeout| {
        duration(timeout, Duration::ZERO, format!("{path}.drain_timeout"), problems)
    });
    Resilience {
        hash_on: hash_on(pool, &format!("{path}.hash_on"), problems),
        sticky: pool.sticky.as_ref().map(|sticky| {
            check_sticky(
                (sticky.cookie.as_deref(), sticky.ttl),
                format!("weir-{}", pool.name),
                &format!("{path}.sticky"),
                problems,
            )
        }),
        slow_start,
        drain_timeout,
        breaker: breaker(&pool.breaker, &format!("{path}.breaker"), problems),
        retry: retry(&pool.retry, &format!("{path}.retry"), problems),
        limits: limits(&pool.limits, &format!("{path}.limits"), problems),
        panic: panic(pool.panic, &format!("{path}.panic"), problems),
    }
}

pub(super) fn token(name: &str, what: &str, path: String, problems: &mut Problems) {
    if !is_token(name) {
        let message = format!(
            "{name:?} is not a valid {what} name (1 to 100 letters, digits and !#$%&'*+-.^_`|~; RFC 9110)"
        );
        problems.add(path, message);
    }
}

fn hash_on(pool: &config::Pool, path: &str, problems: &mut Problems) -> HashOn {
    let Some(hash_on) = &pool.hash_on else {
        return HashOn::default();
    };
    if pool.strategy != Strategy::ConsistentHash {
        let message = format!(
            "hash_on is not allowed with strategy {} (only with consistent_hash; ip_hash always hashes the client address)",
            pool.strategy
        );
        problems.add(path, message);
    }
    match hash_on {
        HashOn::Header(name) => token(name, "header", format!("{path}.header"), problems),
        HashOn::Cookie(name) => token(name, "cookie", format!("{path}.cookie"), problems),
        HashOn::ClientIp | HashOn::Path => {}
    }
    hash_on.clone()
}

pub(super) fn check_sticky(
    (cookie, ttl): (Option<&str>, HumanDuration),
    default: String,
    path: &str,
    problems: &mut Problems,
) -> Sticky {
    if let Some(cookie) = cookie {
        token(cookie, "cookie", format!("{path}.cookie"), problems);
    }
    let ttl = duration(ttl, Duration::from_secs(1), format!("{path}.ttl"), problems);
    Sticky { cookie: cookie.map_or_else(|| default.into(), Arc::from), ttl }
}

fn breaker(breaker: &config::Breaker, path: &str, problems: &mut Problems) -> Option<Breaker> {
    let config::Breaker { consecutive_failures, min_requests, .. } = *breaker;
    within(consecutive_failures, (1, 100_000), path, "consecutive_failures", problems);
    within(min_requests, (1, 1_000_000), path, "min_requests", problems);
    let hint = "; to disable ejection, set enabled: false";
    for (field, share) in [("error_rate", breaker.error_rate), ("max_ejected", breaker.max_ejected)] {
        if share.is_zero() {
            problems.add(
                format!("{path}.{field}"),
                format!("{field} 0 is out of bounds (more than 0, up to 1){hint}"),
            );
        }
    }
    let checked = Breaker {
        consecutive_failures,
        error_rate: breaker.error_rate.get(),
        window: duration(breaker.window, Duration::from_secs(1), format!("{path}.window"), problems),
        min_requests,
        open_for: duration(
            breaker.open_for,
            Duration::from_millis(100),
            format!("{path}.open_for"),
            problems,
        ),
        max_ejected: breaker.max_ejected.get(),
    };
    if breaker.window.0 > Duration::from_secs(3600) {
        problems.add(format!("{path}.window"), format!("{} is out of bounds (1s to 1h)", breaker.window));
    }
    breaker.enabled.then_some(checked)
}

fn retry(retry: &config::Retry, path: &str, problems: &mut Problems) -> Retry {
    if !(1..=10).contains(&retry.attempts) {
        let message = format!(
            "attempts {} is out of bounds (1 to 10, including the first attempt; 1: no retries)",
            retry.attempts
        );
        problems.add(format!("{path}.attempts"), message);
    }
    let per_attempt = retry
        .per_attempt
        .map(|limit| duration(limit, Duration::from_millis(10), format!("{path}.per_attempt"), problems));
    for (i, on) in retry.on.iter().enumerate() {
        if retry.on[..i].contains(on) {
            problems.add(format!("{path}.on[{i}]"), "duplicate entry");
        }
    }
    Retry::new(retry.attempts, retry.budget.millionths(), per_attempt, &retry.on)
}

fn limits(limits: &config::Limits, path: &str, problems: &mut Problems) -> Limits {
    let config::Limits { max_connections, max_pending, max_response_head, max_response_headers } = *limits;
    within(max_connections, (1, 1_000_000), path, "max_connections", problems);
    within(max_pending, (0, 1_000_000), path, "max_pending", problems);
    within(max_response_headers, (1, 1024), path, "max_response_headers", problems);
    head_size(max_response_head, format!("{path}.max_response_head"), problems);
    Limits {
        max_connections,
        max_pending,
        max_response_head: usize::try_from(max_response_head.0).unwrap_or(usize::MAX),
        max_response_headers: max_response_headers as usize,
    }
}

fn panic(panic: config::Panic, path: &str, problems: &mut Problems) -> Option<Fraction> {
    let config::Panic::Threshold(threshold) = panic else { return None };
    if threshold.is_zero() {
        problems.add(
            format!("{path}.threshold"),
            "threshold 0 is out of bounds (more than 0, up to 1); to never use backends that are down, set panic: off",
        );
    }
    Some(threshold)
}

/// Returns the fallbacks in the order of the routes. An invalid fallback becomes a problem and `None`.
pub(super) fn fallbacks(
    config: &config::Config,
    pools: &HashMap<&str, usize>,
    problems: &mut Problems,
) -> Vec<Option<Fallback>> {
    config
        .routes
        .iter()
        .enumerate()
        .map(|(i, route)| {
            let given = route.fallback.as_ref()?;
            fallback(given, &route.pool, pools, &format!("routes[{i}].fallback"), problems)
        })
        .collect()
}

fn fallback(
    fallback: &config::Fallback,
    own: &str,
    pools: &HashMap<&str, usize>,
    path: &str,
    problems: &mut Problems,
) -> Option<Fallback> {
    match fallback {
        config::Fallback { pool: Some(name), status: None, body: None } => {
            // Pools have no fallbacks, so only a fallback to the route's own pool forms a loop.
            if name == own {
                problems.add(
                    format!("{path}.pool"),
                    format!("pool {name:?} falls back to itself; set another pool"),
                );
                return None;
            }
            let found = pools.get(name.as_str()).copied();
            if found.is_none() {
                problems.add(format!("{path}.pool"), format!("unknown pool {name:?}"));
            }
            found.map(Fallback::Pool)
        }
        config::Fallback { pool: None, status: Some(status), body } => {
            if !(200..=599).contains(status) || matches!(status, 204 | 205 | 304) && body.is_some() {
                problems.add(
                    format!("{path}.status"),
                    format!("status {status} is not allowed in a fixed response (200 to 599; with a body not 204, 205 or 304)"),
                );
            }
            let body = body.as_deref().unwrap_or_default();
            if body.len() > MAX_BODY {
                problems.add(
                    format!("{path}.body"),
                    format!("{} bytes are too many (at most 64KiB)", body.len()),
                );
            }
            Some(Fallback::Response { status: *status, body: Arc::from(body) })
        }
        _ => {
            problems.add(path, "expected either { pool } or { status, body }");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        check,
        check::tests::refused,
        config::{
            Breaker, Config, Fallback, HashOn, HealthCheck, HealthCheckKind, Limits, Pool, Retry, Route,
            Sticky, Strategy,
        },
        file,
        units::{ByteSize, Fraction},
    };

    fn problems(pool: Pool) -> String {
        let config = Config {
            settings: Default::default(),
            pools: vec![Pool { name: "p".into(), ..pool }],
            routes: vec![],
            certificates: vec![],
        };
        check(&config).unwrap_err().to_string()
    }

    #[test]
    fn contradicting_settings_are_reported() {
        let hash_on = Some(HashOn::Path);
        let said = problems(Pool { hash_on, strategy: Strategy::IpHash, ..Pool::default() });
        assert!(said.contains("pools[0].hash_on: hash_on is not allowed with strategy ip_hash"), "{said}");
        let hash_on = Some(HashOn::Header("x y".into()));
        let said = problems(Pool { hash_on, strategy: Strategy::ConsistentHash, ..Pool::default() });
        assert!(said.contains("pools[0].hash_on.header: \"x y\" is not a valid header name"), "{said}");
        let sticky = Some(Sticky { cookie: Some("a;b".into()), ttl: "0s".parse().unwrap() });
        let said = problems(Pool { sticky, ..Pool::default() });
        assert!(said.contains("pools[0].sticky.cookie") && said.contains("pools[0].sticky.ttl"), "{said}");
        let breaker = Breaker {
            consecutive_failures: 0,
            error_rate: Fraction::from_percent(0),
            window: "0s".parse().unwrap(),
            min_requests: 0,
            open_for: "0s".parse().unwrap(),
            max_ejected: Fraction::from_percent(0),
            ..Breaker::default()
        };
        let retry = Retry { attempts: 0, per_attempt: "0s".parse().ok(), ..Retry::default() };
        let limits = Limits {
            max_connections: 0,
            max_pending: u32::MAX,
            max_response_head: ByteSize(1023),
            max_response_headers: 1025,
        };
        let said = problems(Pool { breaker, retry, limits, ..Pool::default() });
        for field in [
            "breaker.consecutive_failures",
            "breaker.error_rate",
            "breaker.window",
            "breaker.min_requests",
            "breaker.open_for",
            "breaker.max_ejected",
            "retry.attempts",
            "retry.per_attempt",
            "limits.max_connections",
            "limits.max_pending",
            "limits.max_response_head",
            "limits.max_response_headers",
        ] {
            assert!(said.contains(&format!("pools[0].{field}: ")), "{field}: {said}");
        }
    }

    #[test]
    fn probes_reject_fields_of_other_probe_types() {
        let check = HealthCheck {
            kind: HealthCheckKind::Tcp,
            expect_body: Some("ok".into()),
            host: Some("a b".into()),
            service: Some("s".into()),
            ..Default::default()
        };
        let said = problems(Pool { health_check: check, ..Pool::default() });
        for field in ["expect_body", "host", "service"] {
            assert!(said.contains(&format!("pools[0].health_check.{field}: ")), "{field}: {said}");
        }
    }

    #[test]
    fn panic_mode_has_a_threshold_or_is_off() {
        for (text, threshold) in [
            ("", Some(100)),
            ("panic: off", None),
            ("panic: 'off'", None),
            ("panic: { threshold: 1.0 }", Some(100)),
            ("panic: { threshold: 0.5 }", Some(50)),
        ] {
            let (config, snapshot) = file::parse(&format!("pools:\n  - name: p\n    {text}\n")).unwrap();
            assert_eq!(snapshot.pools[0].resilience.panic, threshold.map(Fraction::from_percent), "{text}");
            assert_eq!(file::parse(&file::to_yaml(&config)).unwrap().0, config, "{text}");
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(file::parse(&json).unwrap().0, config, "{json}");
        }
    }

    #[test]
    fn the_fast_interval_is_at_most_the_interval() {
        let millis = |text: &str| {
            let (_, snapshot) =
                file::parse(&format!("pools:\n  - name: p\n    health_check: {text}\n")).unwrap();
            snapshot.pools[0].health_check.fast_interval.as_millis()
        };
        assert_eq!(millis("{}"), 1000);
        assert_eq!(millis("{ interval: 5m }"), 1000);
        assert_eq!(millis("{ interval: 300ms }"), 300);
        assert_eq!(millis("{ interval: 5s, fast_interval: 5s }"), 5000);
        assert_eq!(millis("{ fast_interval: 100ms }"), 100);
    }

    #[test]
    fn a_fallback_differs_from_the_pool_of_the_route() {
        let with = |fallback: Fallback| {
            let pool = |name: &str| Pool { name: name.into(), ..Pool::default() };
            let route =
                Route { name: "r".into(), pool: "p".into(), fallback: Some(fallback), ..Route::default() };
            check(&Config { pools: vec![pool("p"), pool("q")], routes: vec![route], ..Config::default() })
        };
        let pool = |name: &str| Fallback { pool: Some(name.into()), ..Fallback::default() };
        let answer =
            |status| Fallback { status: Some(status), body: Some("x".into()), ..Fallback::default() };
        assert_eq!(with(pool("q")).unwrap().routes[0].fallback, Some(crate::Fallback::Pool(1)));
        with(answer(503)).unwrap();
        for (wrong, says) in [
            (pool("p"), "falls back to itself"),
            (pool("nowhere"), "unknown pool \"nowhere\""),
            (answer(99), "routes[0].fallback.status"),
            (answer(204), "routes[0].fallback.status"),
            (Fallback::default(), "either { pool } or { status, body }"),
            (Fallback { pool: Some("q".into()), ..answer(503) }, "either { pool } or { status, body }"),
        ] {
            let said = with(wrong).unwrap_err().to_string();
            assert!(said.contains(says), "{said}");
        }
    }

    #[test]
    fn the_example_of_the_design_round_trips() {
        let text = r#"
pools:
  - name: books
    strategy: consistent_hash
    hash_on: { header: x-user }
    sticky: { cookie: weir, ttl: 1h }
    slow_start: 30s
    health_check: { type: grpc, interval: 10s, service: books.v1.Books, host: books.internal }
    breaker: { enabled: true, consecutive_failures: 5, error_rate: 0.5, window: 10s, min_requests: 20, open_for: 10s, max_ejected: 0.5 }
    retry: { attempts: 3, on: [connect_failure, reset, 502, 503, 504], budget: 0.2 }
    limits: { max_connections: 1024, max_pending: 1024 }
    backends:
      - { url: "http://127.0.0.1:8082" }
  - { name: other, strategy: consistent_hash, hash_on: path, retry: { on: [reset, 429], budget: 0.35, per_attempt: 250ms } }
routes:
  - { name: default, pool: books, fallback: { pool: other } }
"#;
        let (config, snapshot) = file::parse(text).unwrap();
        assert_eq!(config.pools[0].breaker, Breaker::default());
        assert_eq!(config.pools[0].retry, Retry::default());
        assert_eq!(config.pools[0].limits, Limits::default());
        assert_eq!(snapshot.pools[0].resilience.hash_on, HashOn::Header("x-user".into()));
        assert!(snapshot.pools[1].resilience.retry.on_status(429));
        let yaml = file::to_yaml(&config);
        assert_eq!(file::parse(&yaml).unwrap().0, config, "{yaml}");
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(file::parse(&json).unwrap().0, config, "{json}");
    }

    #[test]
    fn problems_name_the_known_values() {
        for (pool, says) in [
            ("strategy: fastest", "round_robin"),
            ("hash_on: colour", "client_ip"),
            ("hash_on: { header: a, cookie: b }", "pools[0].hash_on"),
            ("retry: { on: [oops] }", "connect_failure"),
            ("retry: { on: [200] }", "statuses from 400 to 599"),
            ("retry: { budget: 2 }", "2 is not a share from 0 to 1"),
            ("breaker: { error_rate: -0.5 }", "-0.5 is not a share from 0 to 1"),
            ("breaker: { error_rate: lots }", "a share from 0 to 1"),
            ("limits: { max_connections: -1 }", "pools[0].limits.max_connections"),
            ("breaker: { open: 5s }", "unknown key"),
            ("panic: { threshold: 0 }", "pools[0].panic.threshold: threshold 0 is out of bounds"),
            ("panic: { threshold: 1.5 }", "1.5 is not a share from 0 to 1"),
            ("panic: { threshold: off }", "a share from 0 to 1"),
            ("panic: on", "off, or { threshold: 1.0 }"),
            ("panic: never", "off, or { threshold: 1.0 }"),
            ("panic: { treshold: 1 }", "threshold"),
            (
                "health_check: { fast_interval: 50ms }",
                "pools[0].health_check.fast_interval: 50ms is out of bounds",
            ),
            ("health_check: { fast_interval: 11s }", "fast_interval 11s is longer than interval 10s"),
            ("health_check: { fast_interval: soon }", "pools[0].health_check.fast_interval"),
        ] {
            refused(&format!("pools:\n  - name: p\n    {pool}\n"), "", says, 3);
        }
    }
}
