//! Lookup time of an address in a filter with many prefixes: `cargo run --profile dist -p benches --bin ip_filter`.

use std::{
    fmt::Write as _,
    hint::black_box,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};

/// Number of lookups.
const LOOKUPS: usize = 4_000_000;

/// A route's filter with the given number of nested prefixes, allowing and denying.
fn file(prefixes: usize, rng: &mut fastrand::Rng) -> String {
    let mut seen = std::collections::HashSet::new();
    let mut lists = [String::new(), String::new()];
    while seen.len() < prefixes {
        let prefix = if rng.bool() {
            let length = rng.u32(8..=32);
            let bits = rng.u32(..) & (u32::MAX << (32 - length));
            format!("{}/{length}", Ipv4Addr::from(bits))
        } else {
            let length = rng.u32(16..=64);
            let bits = (0x2000 << 112 | rng.u128(..) >> 4) & (u128::MAX << (128 - length));
            format!("{}/{length}", Ipv6Addr::from(bits))
        };
        if seen.insert(prefix.clone()) {
            let _ = write!(lists[usize::from(rng.bool())], "\"{prefix}\",");
        }
    }
    let [allow, deny] = lists;
    format!(
        "{{\"pools\":[{{\"name\":\"p\"}}],\"routes\":[{{\"name\":\"r\",\"pool\":\"p\",\"ip_filter\":{{\"allow\":[{}],\"deny\":[{}]}}}}]}}",
        allow.trim_end_matches(','),
        deny.trim_end_matches(',')
    )
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

fn main() -> anyhow::Result<()> {
    println!("prefixes  check, ms  v4, ns  v6, ns");
    for prefixes in [10, 1_000, 100_000] {
        let mut rng = fastrand::Rng::with_seed(7);
        let config: weir_snapshot::Config = serde_json::from_str(&file(prefixes, &mut rng))?;
        let begun = cpu();
        let snapshot = weir_snapshot::check(&config)?;
        let check = cpu() - begun;
        let filters = snapshot.routes[0].filters.clone().context("a route with filters")?;
        let mut took = Vec::new();
        for v6 in [false, true] {
            let addresses: Vec<IpAddr> = (0..LOOKUPS)
                .map(|_| match v6 {
                    false => Ipv4Addr::from(rng.u32(..)).into(),
                    true => Ipv6Addr::from(0x2000 << 112 | rng.u128(..) >> 4).into(),
                })
                .collect();
            // The thread's own CPU time, so that other programs on the same core do not count.
            let begun = cpu();
            let allowed = addresses.iter().filter(|address| filters.ip[0].allows(**address)).count();
            black_box(allowed);
            took.push((cpu() - begun).as_nanos() as f64 / LOOKUPS as f64);
        }
        println!("{prefixes:>8}  {:>9.1}  {:>6.1}  {:>6.1}", check.as_secs_f64() * 1e3, took[0], took[1]);
    }
    Ok(())
}
