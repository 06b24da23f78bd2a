//! The search for a route by itself: what it costs with five routes and with thousands.

use std::{hint::black_box, time::Instant};

use anyhow::Context as _;
use weir_snapshot::{Snapshot, config::WebScheme, file, routing::Request};

use crate::measure::median;

/// What is looked for.
struct Asked<'a> {
    host: &'a str,
    path: &'a str,
}

impl Request for Asked<'_> {
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
    /// Each has a host of its own, and a path.
    Host,
    /// All have the same host, and each a path of its own, three segments deep.
    Path,
    /// Each has a suffix of hosts of its own.
    Suffix,
}

impl By {
    /// Every one, with its name.
    pub const ALL: [(Self, &str); 3] =
        [(Self::Host, "hosts"), (Self::Path, "paths"), (Self::Suffix, "suffixes")];

    fn route(self, n: usize) -> (String, String) {
        match self {
            Self::Host => (format!("host-{n}.example"), "/api/v1".to_owned()),
            Self::Path => ("api.example".to_owned(), format!("/api/group-{}/thing-{n}", n % 50)),
            Self::Suffix => (format!("*.tenant-{n}.example"), "/api".to_owned()),
        }
    }

    fn asked(self, n: usize) -> (String, String) {
        let (host, path) = self.route(n);
        (host.replace('*', "www"), format!("{path}/items/42"))
    }
}

/// Nanoseconds that finding one of `routes` routes takes: the median of some rounds over all of them.
///
/// # Errors
/// The configuration is refused, or a request does not find its route.
pub fn nanoseconds(by: By, routes: usize) -> anyhow::Result<f64> {
    let (snapshot, texts) = prepared(by, routes)?;
    let rounds = (200_000 / routes).max(1);
    let samples = (0..15).map(|_| {
        let begun = Instant::now();
        for _ in 0..rounds {
            for (host, path) in &texts {
                let _ = black_box(snapshot.router.find(black_box(&Asked { host, path })));
            }
        }
        begun.elapsed().as_secs_f64() * 1e9 / (rounds * routes) as f64
    });
    Ok(median(samples))
}

/// The routes, and a request for each of them in no order, which finds it.
fn prepared(by: By, routes: usize) -> anyhow::Result<(Snapshot, Vec<(String, String)>)> {
    let snapshot = snapshot(by, routes)?;
    let texts: Vec<(String, String)> = (0..routes).map(|n| by.asked(n * 7919 % routes)).collect();
    for (n, (host, path)) in texts.iter().enumerate() {
        let found = snapshot.router.find(&Asked { host, path })?;
        anyhow::ensure!(found == Some(n * 7919 % routes), "{host}{path} leads to {found:?}");
    }
    Ok((snapshot, texts))
}

fn snapshot(by: By, routes: usize) -> anyhow::Result<Snapshot> {
    let mut text = "pools: [{ name: p }]\nroutes:\n".to_owned();
    for n in 0..routes {
        let (host, path) = by.route(n);
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
            assert_eq!(prepared(by, 60).unwrap().1.len(), 60);
        }
    }
}
