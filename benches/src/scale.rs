//! Weir under different conditions: the cost of a request with a large configuration, and the gain of a second
//! worker.

use std::{fs, path::Path};

use crate::{
    BOTH_CORES, OTHER_CORE, PROXY_CORE,
    backend::Crowd,
    certificate::Certificate,
    measure::{cpu_time, median},
    peer::{Plan, Running},
    report::per_request,
    weir::{self, Size},
    workload::Workload,
    wrk::{Kind, Wrk},
};

/// One way to run Weir.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Name in the table.
    pub name: String,
    size: Size,
    workers: u16,
    /// Whether worker, load and backends share both cores.
    floating: bool,
}

/// Medians of a variant's rounds.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// CPU time per request in microseconds.
    pub cpu_us_per_request: f64,
    /// Responses per second.
    pub requests_per_second: f64,
    /// 99th percentile of the latency in milliseconds.
    pub p99_ms: f64,
}

const SMALL: Size = Size { pools: 1, backends: 2, routes: 1 };

/// The small configuration, the same with each dimension enlarged separately, and one and two workers. Dimensions
/// that are not larger than in the small configuration are skipped.
#[must_use]
pub fn variants(large: Size) -> Vec<Variant> {
    let pinned = |name: String, size| Variant { name, size, workers: 1, floating: false };
    let floating =
        |name: &str, workers| Variant { name: name.to_owned(), size: SMALL, workers, floating: true };
    let mut variants = vec![pinned("one pool of two backends, one route".into(), SMALL)];
    if large.pools > SMALL.pools {
        variants.push(pinned(format!("{} pools", large.pools), Size { pools: large.pools, ..SMALL }));
    }
    if large.backends > SMALL.backends {
        variants.push(pinned(
            format!("{} backends in the pool", large.backends),
            Size { backends: large.backends, ..SMALL },
        ));
    }
    if large.routes > SMALL.routes {
        for routes in [5, large.routes] {
            variants.push(pinned(format!("{routes} routes"), Size { routes, ..SMALL }));
        }
    }
    variants.push(floating("one worker, both cores shared", 1));
    variants.push(floating("two workers, both cores shared", 2));
    variants
}

/// Measures the variants in interleaved rounds.
///
/// # Errors
/// A program does not start, or a request failed.
pub fn run(
    folder: &Path,
    programs: &Path,
    variants: &[Variant],
    seconds: u32,
    rounds: u32,
) -> anyhow::Result<Vec<Figures>> {
    let certificate = Certificate::make(folder)?;
    let most = variants.iter().map(|variant| variant.size.backends).max().unwrap_or(SMALL.backends);
    let places = [("pinned", OTHER_CORE), ("floating", BOTH_CORES)].map(|(name, cores)| {
        let own = folder.join(name);
        fs::create_dir_all(&own)?;
        anyhow::Ok((Crowd::start(&own, cores, most)?, Wrk::new(&own, cores)?))
    });
    let [pinned, floating] = places;
    let (pinned, floating) = (pinned?, floating?);
    let place = |variant: &Variant| if variant.floating { &floating } else { &pinned };

    let running = variants
        .iter()
        .enumerate()
        .map(|(index, variant)| {
            let own = folder.join(format!("variant-{index}"));
            fs::create_dir_all(&own)?;
            let backends = &place(variant).0.addresses;
            let plan = Plan {
                folder: &own,
                programs,
                backends: [backends[0], backends[1]],
                workers: variant.workers,
                cores: if variant.floating { BOTH_CORES } else { PROXY_CORE },
                certificate: &certificate,
            };
            let mut running = weir::start(&own, plan, &weir::sized(backends, variant.size))?;
            running.wait_until_it_forwards()?;
            Ok(running)
        })
        .collect::<anyhow::Result<Vec<Running>>>()?;

    let mut samples: Vec<Vec<Figures>> = variants.iter().map(|_| Vec::new()).collect();
    for round in 0..=rounds {
        for ((variant, running), samples) in variants.iter().zip(&running).zip(&mut samples) {
            let wrk = &place(variant).1;
            let figures = sample(wrk, running, if round == 0 { 1 } else { seconds })?;
            // The first round is the warm-up.
            if round > 0 {
                eprintln!(
                    "{round}/{rounds} {}: {:.1} µs CPU per request, {:.0} requests/s",
                    variant.name, figures.cpu_us_per_request, figures.requests_per_second
                );
                samples.push(figures);
            }
        }
    }
    let of = |samples: &[Figures], field: fn(&Figures) -> f64| median(samples.iter().map(field));
    Ok(samples
        .iter()
        .map(|samples| Figures {
            cpu_us_per_request: of(samples, |figures| figures.cpu_us_per_request),
            requests_per_second: of(samples, |figures| figures.requests_per_second),
            p99_ms: of(samples, |figures| figures.p99_ms),
        })
        .collect())
}

fn sample(wrk: &Wrk, running: &Running, seconds: u32) -> anyhow::Result<Figures> {
    let before = cpu_time(running.pid)?;
    let seen = wrk.run(Kind::Get, running.listeners.http, Workload::SmallGet.path(), seconds)?;
    let cpu = cpu_time(running.pid)?.saturating_sub(before);
    Ok(Figures {
        cpu_us_per_request: per_request(cpu, seen.requests),
        requests_per_second: seen.requests_per_second,
        p99_ms: seen.p99_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dimension_is_enlarged_separately() {
        let all = variants(Size { pools: 5000, backends: 5000, routes: 1 });
        let sizes: Vec<(u16, u16, u16)> =
            all.iter().map(|one| (one.size.pools, one.size.backends, one.size.routes)).collect();
        assert_eq!(sizes, [(1, 2, 1), (5000, 2, 1), (1, 5000, 1), (1, 2, 1), (1, 2, 1)]);
        let workers: Vec<u16> = all.iter().map(|one| one.workers).collect();
        assert_eq!(workers, [1, 1, 1, 1, 2]);
        let routes: Vec<u16> =
            variants(Size { routes: 5000, ..SMALL }).iter().map(|one| one.size.routes).collect();
        assert_eq!(routes, [1, 5, 5000, 1, 1]);
    }
}
