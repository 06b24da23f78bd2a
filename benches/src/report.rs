//! The figures as a table for people and as JSON for scripts.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use crate::{measure::median, peer::Peer, workload::Workload};

/// One round of one workload at one proxy.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Answers that arrived.
    pub requests: u64,
    /// CPU time of the proxy's processes divided by requests, in microseconds.
    pub cpu_us_per_request: f64,
    /// Answers per second.
    pub requests_per_second: f64,
    /// Half of the answers took less, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 answers took less, in milliseconds.
    pub p99_ms: f64,
}

/// The medians of all rounds of one workload at one proxy.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The workload's name.
    pub workload: &'static str,
    /// The proxy's name.
    pub peer: &'static str,
    /// CPU microseconds per request.
    pub cpu_us_per_request: f64,
    /// That, divided by the least of all proxies that are not Weir.
    pub ratio_to_best_peer: f64,
    /// Answers per second.
    pub requests_per_second: f64,
    /// Milliseconds.
    pub p50_ms: f64,
    /// Milliseconds.
    pub p99_ms: f64,
    /// What the medians were taken from.
    pub rounds: Vec<Sample>,
}

/// A whole run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The processor, as the kernel names it.
    pub processor: String,
    /// The kernel's release.
    pub kernel: String,
    /// Of each round.
    pub seconds: u32,
    /// Each proxy's version.
    pub versions: BTreeMap<&'static str, String>,
    /// By workload, then proxy.
    pub results: Vec<Outcome>,
}

/// Medians and ratios of one workload's samples.
#[must_use]
pub fn outcomes(workload: Workload, samples: Vec<(Peer, Vec<Sample>)>) -> Vec<Outcome> {
    let cpu = |rounds: &[Sample]| median(rounds.iter().map(|sample| sample.cpu_us_per_request));
    let best_peer = samples
        .iter()
        .filter(|(peer, _)| *peer != Peer::Weir)
        .map(|(_, rounds)| cpu(rounds))
        .fold(f64::INFINITY, f64::min);
    samples
        .into_iter()
        .map(|(peer, rounds)| Outcome {
            workload: workload.name,
            peer: peer.name(),
            cpu_us_per_request: cpu(&rounds),
            ratio_to_best_peer: cpu(&rounds) / best_peer,
            requests_per_second: median(rounds.iter().map(|sample| sample.requests_per_second)),
            p50_ms: median(rounds.iter().map(|sample| sample.p50_ms)),
            p99_ms: median(rounds.iter().map(|sample| sample.p99_ms)),
            rounds,
        })
        .collect()
}

/// The table.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut text = String::new();
    let versions: Vec<String> =
        report.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{}; {}; Linux {}\n", versions.join(", "), report.processor, report.kernel);
    let _ = writeln!(
        text,
        "| {:<14} | {:<8} | {:>14} | {:>12} | {:>10} | {:>8} | {:>8} |",
        "workload", "proxy", "CPU µs/request", "to best peer", "requests/s", "p50 ms", "p99 ms"
    );
    let _ = writeln!(
        text,
        "|{:-<16}|{:-<10}|{:-<15}:|{:-<13}:|{:-<11}:|{:-<9}:|{:-<9}:|",
        "", "", "", "", "", "", ""
    );
    for outcome in &report.results {
        let _ = writeln!(
            text,
            "| {:<14} | {:<8} | {:>14.1} | {:>12.2} | {:>10.0} | {:>8.2} | {:>8.2} |",
            outcome.workload,
            outcome.peer,
            outcome.cpu_us_per_request,
            outcome.ratio_to_best_peer,
            outcome.requests_per_second,
            outcome.p50_ms,
            outcome.p99_ms
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::SMALL_GET;

    fn sample(cpu: f64) -> Sample {
        Sample { requests: 1, cpu_us_per_request: cpu, requests_per_second: 1.0, p50_ms: 1.0, p99_ms: 1.0 }
    }

    #[test]
    fn the_ratio_is_to_the_best_of_the_others() {
        let samples = vec![
            (Peer::Weir, vec![sample(9.0), sample(8.0), sample(100.0)]),
            (Peer::Nginx, vec![sample(12.0)]),
            (Peer::Haproxy, vec![sample(10.0)]),
        ];
        let ratios: Vec<f64> =
            outcomes(SMALL_GET, samples).iter().map(|outcome| outcome.ratio_to_best_peer).collect();
        assert_eq!(ratios, [0.9, 1.2, 1.0]);
    }
}
