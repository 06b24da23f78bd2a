//! The cost of a route lookup with five routes and with thousands.

use std::{
    fmt::{self, Write as _},
    hint::black_box,
};

use anyhow::Context as _;
use fastrand::Rng;
use rustix::time::{ClockId, clock_gettime};
use weir_snapshot::{Snapshot, config::WebScheme, file, routing::Request};

use crate::measure::median;

/// A request to look up.
struct Lookup<'a> {
    host: &'a str,
    path: &'a str,
}

impl Request for Lookup<'_> {
    fn host(&self) -> Option<&[u8]> {
        Some(self.host.as_bytes())
    }

    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn method(&self) -> &[u8] {
        b"GET"
    }

    fn scheme(&self) -> WebScheme {
        WebScheme::Http
    }

    fn any_header(&self, _: &str, _: impl Fn(&[u8]) -> bool) -> bool {
        false
    }
}

/// How routes differ from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Each route has its own host and a path.
    Host,
    /// All routes have the same host, and each its own path with three segments.
    Path,
    /// Each route has its own host suffix.
    Suffix,
}

impl By {
    /// All values with their names.
    pub const ALL: [(Self, &str); 3] =
        [(Self::Host, "hosts"), (Self::Path, "paths"), (Self::Suffix, "suffixes")];

    /// Host and path of a route. For a suffix, `below` is the label before it.
    fn write(self, n: usize, below: &str, host: &mut String, path: &mut String) -> fmt::Result {
        match self {
            Self::Host => {
                write!(host, "host-{n}.example")?;
                path.write_str("/api/v1")
            }
            Self::Path => {
                host.write_str("api.example")?;
                write!(path, "/api/group-{}/thing-{n}", n % 50)
            }
            Self::Suffix => {
                write!(host, "{below}.tenant-{n}.example")?;
                path.write_str("/api")
            }
        }
    }
}

/// How often each route is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Popularity {
    /// All routes equally often.
    Uniform,
    /// Zipf's law: the second route half as often as the first, the third a third as often, and so on.
    Zipf,
}

impl Popularity {
    /// All values with their names.
    pub const ALL: [(Self, &str); 2] = [(Self::Uniform, "uniform"), (Self::Zipf, "zipf")];

    fn draw(self, routes: usize, random: &mut Rng) -> usize {
        match self {
            Self::Uniform => random.usize(..routes),
            // Uniform over the logarithm: the probability of rank k is ln(1 + 1/k). Ranks are spread over the
            // configuration.
            Self::Zipf => {
                let rank = ((routes + 1) as f64).powf(random.f64()) as usize;
                rank.clamp(1, routes) * 7919 % routes
            }
        }
    }
}

/// Requests per batch. They are written just before the lookups, as a parser would do, always to the same memory, so
/// that only the router's own memory accesses are measured.
const BATCH: usize = 64;

/// CPU time in nanoseconds to find one of `routes` routes: the median of all batches.
///
/// # Errors
/// The configuration is invalid, or a request does not match its route.
pub fn nanoseconds(by: By, routes: usize, popularity: Popularity, lookups: usize) -> anyhow::Result<f64> {
    let snapshot = snapshot(by, routes)?;
    let mut random = Rng::with_seed(42);
    let mut batch = vec![(0, String::new(), String::new()); BATCH];
    let mut samples = Vec::with_capacity(lookups / BATCH + 1);
    let clock = median((0..1000).map(|_| {
        let begun = thread_time();
        thread_time() - begun
    }));
    while samples.len() * BATCH < lookups {
        for (n, host, path) in &mut batch {
            *n = popularity.draw(routes, &mut random);
            host.clear();
            path.clear();
            by.write(*n, "www", host, path)?;
            path.push_str("/items/42");
        }
        let begun = thread_time();
        let found = look_up(&snapshot, &batch);
        samples.push((thread_time() - begun - clock) / BATCH as f64);
        anyhow::ensure!(found == BATCH, "{found} of {BATCH} requests found their route");
    }
    Ok(median(samples))
}

/// Number of requests that match their route. A separate function so that a profiler can select it.
#[inline(never)]
fn look_up(snapshot: &Snapshot, batch: &[(usize, String, String)]) -> usize {
    let is_right = |(n, host, path): &&(usize, String, String)| {
        snapshot.router.find(black_box(&Lookup { host, path })) == Ok(Some(*n))
    };
    batch.iter().filter(is_right).count()
}

fn thread_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn snapshot(by: By, routes: usize) -> anyhow::Result<Snapshot> {
    let mut text = "pools: [{ name: p }]\nroutes:\n".to_owned();
    for n in 0..routes {
        let (mut host, mut path) = (String::new(), String::new());
        by.write(n, "*", &mut host, &mut path)?;
        text.push_str(&format!(
            "  - {{ name: r{n}, match: {{ hosts: [\"{host}\"], path: {path} }}, pool: p }}\n"
        ));
    }
    text.push_str("  - { name: default, pool: p }\n");
    Ok(file::parse(&text).context("the configuration")?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_finds_its_route() {
        for (by, _) in By::ALL {
            for (popularity, _) in Popularity::ALL {
                assert!(nanoseconds(by, 60, popularity, 2000).is_ok(), "{by:?} {popularity:?}");
            }
        }
    }

    #[test]
    fn popular_routes_are_requested_more_often() {
        let mut random = Rng::with_seed(7);
        let mut times = vec![0; 100];
        (0..100_000).for_each(|_| times[Popularity::Zipf.draw(100, &mut random)] += 1);
        assert!(times.iter().all(|times| *times > 0), "{times:?}");
        // ln 2 / ln 101 and ln 1.5 / ln 101 of all requests.
        assert!((13_000..17_000).contains(&times[7919 % 100]), "{times:?}");
        assert!((7_500..10_000).contains(&times[2 * 7919 % 100]), "{times:?}");
    }
}
