//! The figures: medians and ratios, as tables and as JSON.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Seen,
    measure::median,
    peer::Peer,
    workload::{Figure, Workload},
};

/// One round of one workload with one proxy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// The figure by which proxies are compared.
    pub figure: f64,
    /// Further results; `None` if there was no load.
    pub load: Option<Load>,
}

/// Results of a load, from the client and from the proxy.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Load {
    /// Results of the load generator.
    #[serde(flatten)]
    pub seen: Seen,
    /// CPU time of the proxy's processes per request, in microseconds.
    pub cpu_us_per_request: f64,
}

/// Medians of all rounds of one workload with one proxy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// Name of the workload.
    pub workload: String,
    /// Name of the proxy.
    pub peer: String,
    /// Kind of the figure by which proxies are compared.
    pub compared_by: Figure,
    /// Median of that figure.
    pub figure: f64,
    /// The figure divided by the smallest figure of all proxies except Weir; absent if there is none.
    pub ratio_to_best_peer: Option<f64>,
    /// Medians of each value; `requests` is the sum.
    pub load: Option<Load>,
    /// System calls per request by name, if they were counted.
    pub syscalls_per_request: Option<BTreeMap<String, f64>>,
    /// All rounds.
    pub rounds: Vec<Sample>,
}

/// A whole run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Name of the processor, as reported by the kernel.
    pub processor: String,
    /// Number of cores.
    pub cores: usize,
    /// Release of the kernel.
    pub kernel: String,
    /// Load average of the last minute before the run; a high value makes the figures less reliable.
    pub load_average: f64,
    /// Seconds per round.
    pub seconds: u32,
    /// Rate of the workload at half load, in requests per second.
    pub half_load: Option<f64>,
    /// Version of each proxy.
    pub versions: BTreeMap<String, String>,
    /// Sorted by workload, then by proxy.
    pub results: Vec<Outcome>,
}

/// Measurements of one proxy.
#[derive(Debug)]
pub struct Measured {
    /// The proxy.
    pub peer: Peer,
    /// All rounds.
    pub rounds: Vec<Sample>,
    /// System calls per request.
    pub syscalls: Option<BTreeMap<String, f64>>,
}

/// CPU time per request in microseconds.
#[must_use]
pub fn per_request(cpu: Duration, requests: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 requests")]
    let requests = requests.max(1) as f64;
    cpu.as_secs_f64() * 1e6 / requests
}

/// Medians and ratios of one workload.
#[must_use]
pub fn outcomes(workload: Workload, measured: Vec<Measured>) -> Vec<Outcome> {
    let figure = |rounds: &[Sample]| median(rounds.iter().map(|sample| sample.figure));
    let best = measured
        .iter()
        .filter(|one| one.peer != Peer::Weir)
        .map(|one| figure(&one.rounds))
        .min_by(f64::total_cmp)
        .filter(|best| *best > 0.0);
    measured
        .into_iter()
        .map(|one| Outcome {
            workload: workload.name().to_owned(),
            peer: one.peer.name().to_owned(),
            compared_by: workload.figure(),
            figure: figure(&one.rounds),
            ratio_to_best_peer: best.map(|best| figure(&one.rounds) / best),
            load: medians(&one.rounds),
            syscalls_per_request: one.syscalls,
            rounds: one.rounds,
        })
        .collect()
}

fn medians(rounds: &[Sample]) -> Option<Load> {
    let loads: Vec<Load> = rounds.iter().filter_map(|sample| sample.load).collect();
    let of = |field: fn(&Load) -> f64| median(loads.iter().map(field));
    (!loads.is_empty()).then(|| Load {
        seen: Seen {
            requests: loads.iter().map(|load| load.seen.requests).sum(),
            requests_per_second: of(|load| load.seen.requests_per_second),
            p50_ms: of(|load| load.seen.p50_ms),
            p99_ms: of(|load| load.seen.p99_ms),
        },
        cpu_us_per_request: of(|load| load.cpu_us_per_request),
    })
}

impl Report {
    /// The distinct names in the order of their first appearance.
    pub(crate) fn names(&self, name: fn(&Outcome) -> &str) -> Vec<&str> {
        let mut names = Vec::new();
        for outcome in &self.results {
            if !names.contains(&name(outcome)) {
                names.push(name(outcome));
            }
        }
        names
    }

    pub(crate) fn find(&self, workload: &str, peer: &str) -> Option<&Outcome> {
        self.results.iter().find(|outcome| outcome.workload == workload && outcome.peer == peer)
    }

    /// The measured programs and the machine.
    pub(crate) fn subject(&self) -> String {
        let versions: Vec<String> = self
            .names(|outcome| &outcome.peer)
            .into_iter()
            .map(|name| format!("{name} {}", self.versions.get(name).map_or("", String::as_str)))
            .collect();
        format!("{}; {} × {}; Linux {}", versions.join(", "), self.cores, self.processor, self.kernel)
    }
}

/// Markdown: the compared figures in one table, and all results in another.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.subject())?;
        writeln!(f, "Load average before the run: {:.1}.\n", self.load_average)?;
        f.write_str(&table(&self.summary()))?;
        if let Some(rate) = self.half_load {
            writeln!(f, "\nHalf load: {rate:.0} requests/s.")?;
        }
        writeln!(f)?;
        f.write_str(&table(&self.details()))
    }
}

impl Report {
    /// One row per proxy, one column per workload: the figure, and in parentheses its ratio to the best other
    /// proxy's.
    fn summary(&self) -> Vec<Vec<String>> {
        let peers = self.names(|outcome| &outcome.peer);
        let workloads = self.names(|outcome| &outcome.workload);
        let head = |workload: &&str| {
            let figure = self.results.iter().find(|outcome| outcome.workload == *workload);
            format!("{workload}, {}", figure.map_or("", |outcome| outcome.compared_by.label()))
        };
        let mut rows = vec![[String::new()].into_iter().chain(workloads.iter().map(head)).collect()];
        for peer in peers {
            let cell = |workload: &&str| {
                let Some(outcome) = self.find(workload, peer) else { return "-".to_owned() };
                let ratio =
                    outcome.ratio_to_best_peer.map_or(String::new(), |ratio| format!(" ({ratio:.2})"));
                outcome.compared_by.show(outcome.figure) + &ratio
            };
            rows.push([peer.to_owned()].into_iter().chain(workloads.iter().map(cell)).collect());
        }
        rows
    }

    fn details(&self) -> Vec<Vec<String>> {
        let counted = self.results.iter().any(|outcome| outcome.syscalls_per_request.is_some());
        let mut head = vec!["workload", "proxy", "CPU µs/request", "requests/s", "p50 ms", "p99 ms"];
        if counted {
            head.push("system calls/request");
        }
        let mut rows = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
        for outcome in &self.results {
            let Some(load) = outcome.load else { continue };
            let mut row = vec![
                outcome.workload.clone(),
                outcome.peer.clone(),
                format!("{:.1}", load.cpu_us_per_request),
                format!("{:.0}", load.seen.requests_per_second),
                format!("{:.2}", load.seen.p50_ms),
                format!("{:.2}", load.seen.p99_ms),
            ];
            if counted {
                let calls = outcome.syscalls_per_request.as_ref();
                row.push(calls.map_or("-".into(), calls_of_note));
            }
            rows.push(row);
        }
        rows
    }
}

/// `4.1: recvfrom 2.0, writev 2.0`: the sum, and calls that at least every twentieth request makes.
fn calls_of_note(calls: &BTreeMap<String, f64>) -> String {
    let mut each: Vec<(&String, &f64)> = calls.iter().filter(|(_, count)| **count >= 0.05).collect();
    each.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let each: Vec<String> = each.iter().map(|(name, count)| format!("{name} {count:.1}")).collect();
    format!("{:.1}: {}", calls.values().sum::<f64>(), each.join(", "))
}

/// A Markdown table; the first row is the head.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).min().unwrap_or(0);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} "));
        text.push_str(&format!("|{}|\n", cells.collect::<Vec<_>>().join("|")));
        if index == 0 {
            let rule: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
            text.push_str(&format!("|{}|\n", rule.join("|")));
        }
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests")]

    use super::*;

    fn sample(figure: f64) -> Sample {
        let seen = Seen { requests: 3, requests_per_second: 1.0, p50_ms: 1.0, p99_ms: 2.0 };
        Sample { figure, load: Some(Load { seen, cpu_us_per_request: figure }) }
    }

    fn measured(peer: Peer, figures: &[f64]) -> Measured {
        Measured { peer, rounds: figures.iter().copied().map(sample).collect(), syscalls: None }
    }

    pub(crate) fn report() -> Report {
        let mut results = outcomes(
            Workload::SmallGet,
            vec![
                measured(Peer::Weir, &[9.0, 8.0, 100.0]),
                measured(Peer::Nginx, &[12.0]),
                measured(Peer::Haproxy, &[10.0]),
            ],
        );
        results[0].syscalls_per_request =
            Some([("read".to_owned(), 2.01), ("futex".to_owned(), 0.01)].into());
        let idle = |peer, bytes| Measured {
            peer,
            rounds: vec![Sample { figure: bytes, load: None }],
            syscalls: None,
        };
        results.extend(outcomes(
            Workload::IdleConnection,
            vec![idle(Peer::Weir, 2700.0), idle(Peer::Nginx, 680.0)],
        ));
        Report {
            processor: "P".into(),
            cores: 2,
            kernel: "6".into(),
            load_average: 0.1,
            seconds: 1,
            half_load: Some(20_000.0),
            versions: [("weir".to_owned(), "0.1.0".to_owned())].into(),
            results,
        }
    }

    #[test]
    fn the_ratio_is_to_the_best_other_proxy() {
        let ratios: Vec<Option<f64>> =
            report().results[..3].iter().map(|outcome| outcome.ratio_to_best_peer).collect();
        assert_eq!(ratios, [Some(0.9), Some(1.2), Some(1.0)]);
        let alone = outcomes(Workload::SmallGet, vec![measured(Peer::Weir, &[9.0])]);
        assert_eq!(alone[0].ratio_to_best_peer, None);
    }

    #[test]
    fn the_tables_contain_all_results() {
        let text = report().to_string();
        for line in [
            "| weir    | 9.0 (0.90)                    | 2,700 (3.97)                          |",
            "| haproxy | 10.0 (1.00)                   | -                                     |",
            "| small GET | weir    | 9.0            | 1          | 1.00   | 2.00   | 2.0: read 2.0        |",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn a_report_round_trips_through_json() {
        let text = serde_json::to_string(&report()).unwrap();
        let back: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(back.to_string(), report().to_string());
    }
}
