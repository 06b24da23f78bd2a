//! An exported configuration reads back to the same configuration and fits the schema.

// The lint does not recognize helper functions of tests.
#![allow(clippy::unwrap_used)]

mod validate;

use proptest::prelude::*;
use weir_snapshot::{
    Config,
    config::{
        Backend, BackendState, Breaker, Downstream, Fallback, HashOn, HealthCheck, HealthCheckKind,
        KeepAlive, Limits, Pool, Protocol, Retry, RetryOn, Route, RouteLimits, RouteTimeouts, Settings,
        Sticky, Strategy as Picks, Timeouts,
    },
    diff::diff,
    file,
    resource::to_resources,
    schema,
    units::{ByteSize, Fraction, HumanDuration},
};

fn duration(least_ms: u64) -> impl Strategy<Value = HumanDuration> {
    (least_ms..10_000_000).prop_map(|ms| HumanDuration(std::time::Duration::from_millis(ms)))
}

/// Names that YAML could mistake for values of other types.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9._-]{0,8}",
        prop::sample::select(vec!["null", "true", "no", "on", "1", "0x10", "1e3", "12.5", "NaN", "0o7"])
            .prop_map(str::to_owned),
    ]
}

/// Texts that must be quoted, escaped or folded.
fn body() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>().prop_map(|text| text.chars().filter(|c| *c != '\u{feff}').take(100).collect()),
        prop::sample::select(vec![
            "",
            " ",
            "~",
            "null",
            "yes",
            "- a",
            "a: b",
            "# no comment",
            "{}",
            "[]",
            "line\nline\n",
            "\n\n x",
            "tab\there",
            "'\"",
            "trailing ",
            "%",
            "@",
            "`",
            "!tag",
            "&a",
            "*a",
            "|",
            ">",
            "...",
            "---",
            "1:30",
            "\u{85}\u{2028}",
        ])
        .prop_map(str::to_owned),
    ]
}

fn percent() -> impl Strategy<Value = Fraction> {
    (1u32..=100).prop_map(Fraction::from_percent)
}

fn health_check() -> impl Strategy<Value = HealthCheck> {
    let kinds = prop_oneof![
        (body(), prop::option::of("[a-z.]{1,9}")).prop_map(|(text, host)| HealthCheck {
            kind: HealthCheckKind::Http,
            path: "/health?a=1".into(),
            expect_status: "200-204, 304".into(),
            expect_body: (!text.is_empty()).then_some(text),
            host,
            ..HealthCheck::default()
        }),
        Just(HealthCheck::default()),
        Just(HealthCheck { kind: HealthCheckKind::None, ..HealthCheck::default() }),
        "[a-z.]{1,9}".prop_map(|service| HealthCheck {
            kind: HealthCheckKind::Grpc,
            service: Some(service),
            ..HealthCheck::default()
        }),
    ];
    (kinds, duration(100), any::<bool>(), duration(1), 1u32..1000, 1u32..1000).prop_map(
        |(kind, interval, is_fast, timeout, rise, fall)| {
            let fast_interval = is_fast.then_some(interval);
            HealthCheck { interval, fast_interval, timeout, rise, fall, ..kind }
        },
    )
}

fn retry() -> impl Strategy<Value = Retry> {
    let on = prop::collection::btree_set(400u16..600, 0..4);
    (1u32..=10, on, any::<bool>(), percent(), prop::option::of(duration(10))).prop_map(
        |(attempts, statuses, named, budget, per_attempt)| {
            let mut on: Vec<RetryOn> = statuses.into_iter().map(RetryOn::Status).collect();
            if named {
                on.extend([RetryOn::ConnectFailure, RetryOn::Reset, RetryOn::Timeout]);
            }
            Retry { attempts, on, budget, per_attempt }
        },
    )
}

fn pool(name: String) -> impl Strategy<Value = Pool> {
    let hash_on = prop_oneof![
        Just(HashOn::ClientIp),
        Just(HashOn::Path),
        "[a-z-]{1,9}".prop_map(HashOn::Header),
        "[a-z-]{1,9}".prop_map(HashOn::Cookie),
    ];
    let strategy = prop::sample::select(Picks::ALL.to_vec());
    let picking = (strategy, prop::option::of(hash_on)).prop_map(|((strategy, _), hash_on)| {
        (strategy, hash_on.filter(|_| strategy == Picks::ConsistentHash))
    });
    let sticky =
        (prop::option::of("[a-z]{1,9}"), duration(1000)).prop_map(|(cookie, ttl)| Sticky { cookie, ttl });
    let breaker = (any::<bool>(), 1u32..100_000, percent(), duration(100), percent()).prop_map(
        |(enabled, consecutive_failures, error_rate, open_for, max_ejected)| Breaker {
            enabled,
            consecutive_failures,
            error_rate,
            open_for,
            max_ejected,
            ..Breaker::default()
        },
    );
    let timeouts = (duration(1), duration(1), duration(1), duration(1), duration(1)).prop_map(
        |(connect, response, response_body, idle, tunnel)| Timeouts {
            connect,
            response,
            response_body,
            idle,
            tunnel,
        },
    );
    let keep_alive = (1000u64..3_600_000, 1000u64..3_600_000).prop_map(|(tcp, timeout)| {
        let [tcp, timeout] = [tcp, timeout].map(|ms| HumanDuration(std::time::Duration::from_millis(ms)));
        KeepAlive { tcp, timeout, ..KeepAlive::default() }
    });
    let limits = (1u32..1000, 0u32..1000, 1u64..=1024, 1u32..=1024).prop_map(
        |(max_connections, max_pending, head, max_response_headers)| Limits {
            max_connections,
            max_pending,
            max_response_head: ByteSize(head << 10),
            max_response_headers,
        },
    );
    let states =
        prop::sample::select(vec![BackendState::Active, BackendState::Draining, BackendState::Disabled]);
    let backends =
        prop::collection::btree_map("[a-z]{1,5}", (1u32..=1000, states), 0..5).prop_map(|backends| {
            let backend = |(host, (weight, state))| Backend {
                id: String::new(),
                url: format!("http://{host}:80"),
                weight,
                state,
            };
            backends.into_iter().map(backend).collect()
        });
    let protocol = prop::sample::select(vec![Protocol::Http1, Protocol::Http2]);
    let first =
        (picking, prop::option::of(sticky), duration(1), prop::option::of(duration(1)), health_check());
    let second = (breaker, retry(), timeouts, keep_alive, limits, protocol, backends);
    (first, second).prop_map(move |((picking, sticky, slow_start, drain_timeout, health_check), rest)| {
        let (breaker, retry, timeouts, keep_alive, limits, protocol, backends) = rest;
        Pool {
            name: name.clone(),
            strategy: picking.0,
            hash_on: picking.1,
            sticky,
            slow_start,
            drain_timeout,
            health_check,
            breaker,
            retry,
            timeouts,
            keep_alive,
            limits,
            protocol,
            backends,
            ..Pool::default()
        }
    })
}

fn config() -> impl Strategy<Value = Config> {
    let settings = (duration(100), 1u64..1000, 1u32..=1024, 0u32..9).prop_map(
        |(header_timeout, max_head, max_headers, max_connections_per_ip)| Settings {
            downstream: Downstream {
                header_timeout,
                max_head: ByteSize(max_head << 10),
                max_headers,
                max_connections_per_ip,
                ..Downstream::default()
            },
            ..Settings::default()
        },
    );
    let names = prop::collection::btree_set(name(), 1..4);
    let pools = names.prop_flat_map(|names| names.into_iter().map(pool).collect::<Vec<_>>());
    let route = (name(), any::<prop::sample::Index>(), 200u16..204, body(), 1u64..1 << 40, duration(1));
    (settings, pools, prop::option::of(route)).prop_map(|(settings, pools, route)| {
        let route = route.map(|(name, pool, status, body, max_body, request)| Route {
            name,
            pool: pools[pool.index(pools.len())].name.clone(),
            fallback: Some(Fallback { pool: None, status: Some(status), body: Some(body) }),
            limits: RouteLimits {
                max_body: Some(ByteSize(max_body)),
                min_body_rate: Some(ByteSize(max_body % (1 << 20))),
            },
            timeouts: RouteTimeouts {
                request: Some(request),
                response: Some(request),
                response_body: Some(request),
                request_body: Some(request),
                send: Some(request),
            },
            ..Route::default()
        });
        Config { settings, pools, routes: route.into_iter().collect(), ..Config::default() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn applying_an_exported_configuration_changes_nothing(config in config()) {
        let yaml = file::to_yaml(&config);
        let (again, _) = file::parse(&yaml).map_err(|problems| TestCaseError::fail(format!("{problems}\n{yaml}")))?;
        prop_assert_eq!(&again, &config, "{}", yaml);
        prop_assert!(diff(&to_resources(&config), &to_resources(&again)).is_empty());
        let json = serde_json::to_string_pretty(&config).unwrap();
        let (again, _) = file::parse(&json).map_err(|problems| TestCaseError::fail(format!("{problems}\n{json}")))?;
        prop_assert_eq!(&again, &config, "{}", json);
        let value = serde_json::to_value(&config).unwrap();
        let errors = validate::errors(&schema::schema(), &value);
        prop_assert!(errors.is_empty(), "{:?}", errors);
    }
}
