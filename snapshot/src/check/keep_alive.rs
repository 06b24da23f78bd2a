//! Checks how a pool's nodes detect backends that disappeared.

use std::time::Duration;

use crate::{
    config::{self, Protocol},
    problem::Problems,
    snapshot::KeepAlive,
    units::HumanDuration,
};

/// Bounds of a probe interval. The kernel accepts up to nine hours, which is too slow to be useful.
const BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

pub(super) fn pool(pool: &config::Pool, path: &str, problems: &mut Problems) -> KeepAlive {
    let config::KeepAlive { tcp, ping, timeout } = pool.keep_alive;
    for (field, value) in [("tcp", tcp), ("ping", ping), ("timeout", timeout)] {
        let (least, most) = BOUNDS;
        if !value.0.is_zero() && !(least..=most).contains(&value.0) {
            let (least, most) = (HumanDuration(least), HumanDuration(most));
            problems.add(
                format!("{path}.keep_alive.{field}"),
                format!("{value} is out of bounds (0s to disable, or {least} to {most})"),
            );
        }
    }
    if !ping.0.is_zero() && pool.protocol != Protocol::Http2 {
        problems.add(format!("{path}.keep_alive.ping"), "PINGs need protocol: http2");
    }
    if !ping.0.is_zero() && timeout.0.is_zero() {
        problems.add(
            format!("{path}.keep_alive.timeout"),
            "0s is not allowed with keep_alive.ping: an unanswered PING would never fail",
        );
    }
    KeepAlive { tcp: tcp.0, ping: ping.0, timeout: timeout.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    fn problems(keep_alive: config::KeepAlive, protocol: Protocol) -> Vec<String> {
        let mut config = config::Config::default();
        config.pools[0].protocol = protocol;
        config.pools[0].keep_alive = keep_alive;
        match check(&config) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.0.iter().map(|problem| problem.path.clone()).collect(),
        }
    }

    #[test]
    fn each_interval_is_disabled_or_within_bounds_and_pings_need_http2() {
        let seconds = |n| HumanDuration(Duration::from_secs(n));
        let of = |tcp, ping, timeout| config::KeepAlive {
            tcp: seconds(tcp),
            ping: seconds(ping),
            timeout: seconds(timeout),
        };
        for good in [of(0, 0, 0), of(1, 1, 1), of(3600, 3600, 3600), config::KeepAlive::default()] {
            assert_eq!(problems(good, Protocol::Http2), [""; 0]);
        }
        for (bad, place) in [
            (of(3601, 0, 1), "pools[0].keep_alive.tcp"),
            (of(1, 3601, 1), "pools[0].keep_alive.ping"),
            (of(1, 1, 3601), "pools[0].keep_alive.timeout"),
            (of(1, 1, 0), "pools[0].keep_alive.timeout"),
            (
                config::KeepAlive { ping: HumanDuration(Duration::from_millis(999)), ..of(1, 0, 1) },
                "pools[0].keep_alive.ping",
            ),
        ] {
            assert_eq!(problems(bad, Protocol::Http2), [place]);
        }
        assert_eq!(problems(of(1, 20, 1), Protocol::Http1), ["pools[0].keep_alive.ping"]);
    }
}
