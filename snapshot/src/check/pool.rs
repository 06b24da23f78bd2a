//! Checks pools, their backends and health checks.

use std::{sync::Arc, time::Duration};

use rustc_hash::FxHashSet;

use super::{duration, keep_alive, resilience, tls, within};
use crate::{
    config::{self, HealthCheckKind},
    problem::Problems,
    snapshot::{
        Backend, BackendId, BackendUrl, ExpectedStatus, HealthCheck, HealthProbe, Pool, Timeouts, Weight,
    },
};

/// Default probe interval after a change.
const FAST_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn check_pool(pool: &config::Pool, path: &str, problems: &mut Problems) -> Option<Pool> {
    let health_check = check_health(&pool.health_check, &format!("{path}.health_check"), problems);
    let least = Duration::from_millis(1);
    let timeouts = Timeouts {
        connect: duration(pool.timeouts.connect, least, format!("{path}.timeouts.connect"), problems),
        response: duration(pool.timeouts.response, least, format!("{path}.timeouts.response"), problems),
        response_body: duration(
            pool.timeouts.response_body,
            Duration::ZERO,
            format!("{path}.timeouts.response_body"),
            problems,
        ),
        idle: duration(pool.timeouts.idle, least, format!("{path}.timeouts.idle"), problems),
        tunnel: duration(pool.timeouts.tunnel, least, format!("{path}.timeouts.tunnel"), problems),
    };
    let keep_alive = keep_alive::pool(pool, path, problems);
    let resilience = resilience::pool(pool, path, problems);
    let tls = tls::upstream(pool.tls.as_ref(), &format!("{path}.tls"), problems);

    let mut seen = FxHashSet::default();
    let mut backends = Vec::with_capacity(pool.backends.len());
    for (j, backend) in pool.backends.iter().enumerate() {
        let place = |field: &str| format!("{path}.backends[{j}].{field}");
        let weight = Weight::new(backend.weight);
        if weight.is_none() {
            problems.add(
                place("weight"),
                format!(
                    "weight {} is out of bounds (1 to {}); to take a backend out of service, disable it",
                    backend.weight,
                    Weight::MAX
                ),
            );
        }
        let url = backend.url.parse::<BackendUrl>().map_err(|error| problems.add(place("url"), error)).ok();
        if let Some(url) = &url
            && !seen.insert(url.clone())
        {
            problems.add(place("url"), format!("backend {url} is already in pool {:?}", pool.name));
        }
        if let (Some(weight), Some(url)) = (weight, url) {
            let id = BackendId(Arc::from(backend.id.as_str()));
            backends.push(Backend { id, url, weight, state: backend.state });
        }
    }
    let name = Arc::from(pool.name.as_str());
    Some(Pool {
        name,
        strategy: pool.strategy,
        health_check: health_check?,
        timeouts,
        keep_alive,
        resilience,
        protocol: pool.protocol,
        omit_via: pool.omit_via,
        tls,
        backends,
    })
}

fn check_health(check: &config::HealthCheck, path: &str, problems: &mut Problems) -> Option<HealthCheck> {
    let interval = duration(check.interval, Duration::from_millis(100), format!("{path}.interval"), problems);
    let fast_interval = match check.fast_interval {
        None => interval.min(FAST_INTERVAL),
        Some(fast) => {
            if fast.0 > check.interval.0 {
                problems.add(
                    format!("{path}.fast_interval"),
                    format!("fast_interval {fast} is longer than interval {}", check.interval),
                );
            }
            duration(fast, Duration::from_millis(100), format!("{path}.fast_interval"), problems)
        }
    };
    let timeout = duration(check.timeout, Duration::from_millis(1), format!("{path}.timeout"), problems);
    for (field, value) in [("rise", check.rise), ("fall", check.fall)] {
        within(value, (1, 1000), path, field, problems);
    }
    let kind = check.kind;
    for (field, given, belongs) in [
        ("expect_body", check.expect_body.is_some(), kind == HealthCheckKind::Http),
        ("host", check.host.is_some(), matches!(kind, HealthCheckKind::Http | HealthCheckKind::Grpc)),
        ("service", check.service.is_some(), kind == HealthCheckKind::Grpc),
    ] {
        if given && !belongs {
            problems.add(
                format!("{path}.{field}"),
                format!("{field} is not allowed for this type of health check"),
            );
        }
    }
    if let Some(host) = &check.host
        && (host.is_empty()
            || host.len() > 260
            || !host.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@".contains(&b)))
    {
        problems.add(
            format!("{path}.host"),
            format!("{host:?} is not a host (expected for example books.internal)"),
        );
    }
    let expect = check
        .expect_status
        .parse::<ExpectedStatus>()
        .map_err(|error| problems.add(format!("{path}.expect_status"), error))
        .ok();
    let probe = match check.kind {
        HealthCheckKind::None => None,
        HealthCheckKind::Tcp => Some(HealthProbe::Tcp),
        HealthCheckKind::Http => {
            let path_is_fine =
                check.path.starts_with('/') && check.path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
            if !path_is_fine {
                problems.add(
                    format!("{path}.path"),
                    format!(
                        "{:?} is not a valid path: expected a leading / and only visible ASCII characters without a fragment",
                        check.path
                    ),
                );
            }
            Some(HealthProbe::Http {
                path: check.path.clone(),
                expect: expect?,
                body: check.expect_body.clone(),
                host: check.host.clone(),
            })
        }
        HealthCheckKind::Grpc => Some(HealthProbe::Grpc {
            service: check.service.clone().unwrap_or_default(),
            host: check.host.clone(),
        }),
    };
    Some(HealthCheck { probe, interval, fast_interval, timeout, rise: check.rise, fall: check.fall })
}
