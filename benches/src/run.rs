//! One run: the order of proxies, workloads and rounds.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context as _;

use crate::{
    BOTH_CORES, OTHER_CORE, PROXY_CORE, Seen,
    backend::Backends,
    certificate::Certificate,
    h2load, idle,
    measure::cpu_time,
    open_loop,
    peer::{Peer, Plan, Running},
    report::{Load, Measured, Outcome, Sample, outcomes, per_request},
    syscalls,
    workload::{Figure, Workload},
    wrk::{Kind, Wrk},
};

/// Duration and number of rounds.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Seconds per round and proxy.
    pub seconds: u32,
    /// Number of rounds.
    pub rounds: u32,
    /// Seconds of load before the first round.
    pub warm_up: u32,
    /// Settings of the workload with idle connections.
    pub idle: idle::Plan,
    /// Whether to count system calls.
    pub syscalls: bool,
}

/// The proxies, backends and settings of a run.
#[derive(Debug)]
pub struct Bench<'a> {
    folder: &'a Path,
    programs: &'a Path,
    certificate: Certificate,
    settings: Settings,
    peers: Vec<Peer>,
    /// The highest rate of each proxy in a round of small requests.
    best: BTreeMap<&'static str, f64>,
}

impl<'a> Bench<'a> {
    /// Prepares a run with these proxies. Their files are written to the folder.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn new(
        folder: &'a Path,
        programs: &'a Path,
        peers: Vec<Peer>,
        settings: Settings,
    ) -> anyhow::Result<Self> {
        let certificate = Certificate::make(folder)?;
        Ok(Self { folder, programs, certificate, settings, peers, best: BTreeMap::new() })
    }

    /// Measures the workloads; the results are in the same order.
    ///
    /// # Errors
    /// A program does not start, or a request failed.
    pub fn run(&mut self, workloads: &[Workload]) -> anyhow::Result<Vec<Outcome>> {
        let mut results = Vec::new();
        let (fresh, standing): (Vec<Workload>, Vec<Workload>) =
            workloads.iter().copied().partition(|workload| *workload == Workload::IdleConnection);
        let (floating, pinned): (Vec<Workload>, Vec<Workload>) =
            standing.into_iter().partition(|workload| *workload == Workload::TwoWorkers);
        if !pinned.is_empty() {
            results.extend(self.stand(1, PROXY_CORE, OTHER_CORE, pinned)?);
        }
        if !floating.is_empty() {
            results.extend(self.stand(2, BOTH_CORES, BOTH_CORES, floating)?);
        }
        for workload in fresh {
            results.extend(self.idle(workload)?);
        }
        let place = |outcome: &Outcome| Workload::ALL.iter().position(|one| one.name() == outcome.workload);
        results.sort_by_key(place);
        Ok(results)
    }

    /// The rate of the workload at half load: half of what the slowest of the three most important proxies can do, so
    /// that it is at most half load for each of them.
    #[must_use]
    pub fn half_load(&self) -> Option<f64> {
        let of = |peers: &[Peer]| {
            peers.iter().filter_map(|peer| self.best.get(peer.name())).copied().min_by(f64::total_cmp)
        };
        of(&[Peer::Weir, Peer::Nginx, Peer::Haproxy]).or_else(|| of(&Peer::ALL)).map(|best| best / 2.0)
    }

    /// Starts all proxies; each round of each workload visits them in turn.
    fn stand(
        &mut self,
        workers: u16,
        proxy_cores: &str,
        load_cores: &'static str,
        workloads: Vec<Workload>,
    ) -> anyhow::Result<Vec<Outcome>> {
        let folder = self.folder.join(format!("workers-{workers}"));
        fs::create_dir_all(&folder)?;
        let backends = Backends::start(&folder, load_cores)?;
        let wrk = Wrk::new(&folder, load_cores)?;
        let running = self.start(&folder, &backends, workers, proxy_cores)?;
        let mut results = Vec::new();
        for workload in workloads {
            if workload == Workload::HalfLoad && self.best.is_empty() {
                for proxy in &running {
                    let seen = self.load(&wrk, Workload::SmallGet, proxy, self.settings.seconds)?;
                    self.best.insert(proxy.peer.name(), seen.requests_per_second);
                }
            }
            results.extend(outcomes(workload, self.rounds(&wrk, workload, &running)?));
        }
        Ok(results)
    }

    fn start(
        &self,
        folder: &Path,
        backends: &Backends,
        workers: u16,
        cores: &str,
    ) -> anyhow::Result<Vec<Running>> {
        let plan = Plan {
            folder,
            programs: self.programs,
            backends: backends.addresses,
            workers,
            cores,
            certificate: &self.certificate,
        };
        self.peers.iter().map(|peer| peer.start(plan)).collect()
    }

    fn rounds(
        &mut self,
        wrk: &Wrk,
        workload: Workload,
        running: &[Running],
    ) -> anyhow::Result<Vec<Measured>> {
        let Settings { seconds, rounds, warm_up, .. } = self.settings;
        let mut measured: Vec<Measured> = running
            .iter()
            .map(|proxy| Measured { peer: proxy.peer, rounds: Vec::new(), syscalls: None })
            .collect();
        for proxy in running.iter().filter(|_| warm_up > 0) {
            self.load(wrk, workload, proxy, warm_up)?;
        }
        for round in 1..=rounds {
            for (proxy, measured) in running.iter().zip(&mut measured) {
                let before = cpu_time(proxy.pid)?;
                let seen = self.load(wrk, workload, proxy, seconds)?;
                let cpu = cpu_time(proxy.pid)?.saturating_sub(before);
                let cpu_us_per_request = per_request(cpu, seen.requests);
                let (name, peer) = (workload.name(), proxy.peer.name());
                eprintln!(
                    "{name} {round}/{rounds} {peer}: {cpu_us_per_request:.1} µs CPU per request, {:.0} requests/s, p99 {:.2} ms",
                    seen.requests_per_second, seen.p99_ms
                );
                if workload == Workload::SmallGet {
                    let best = self.best.entry(peer).or_default();
                    *best = best.max(seen.requests_per_second);
                }
                let figure =
                    if workload.figure() == Figure::Latency { seen.p99_ms } else { cpu_us_per_request };
                measured.rounds.push(Sample { figure, load: Some(Load { seen, cpu_us_per_request }) });
            }
        }
        // The system calls at half load are those of small requests, and strace would turn it into full load.
        if self.settings.syscalls && workload != Workload::HalfLoad {
            for (proxy, measured) in running.iter().zip(&mut measured) {
                measured.syscalls = Some(self.syscalls(wrk, workload, proxy)?);
            }
        }
        Ok(measured)
    }

    fn syscalls(
        &self,
        wrk: &Wrk,
        workload: Workload,
        proxy: &Running,
    ) -> anyhow::Result<BTreeMap<String, f64>> {
        let count = syscalls::Count::start(self.folder, proxy.pid)?;
        let seen = self.load(wrk, workload, proxy, 1)?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let each = |calls: u64| calls as f64 / seen.requests.max(1) as f64;
        Ok(count.finish()?.into_iter().map(|(name, calls)| (name, each(calls))).collect())
    }

    fn load(&self, wrk: &Wrk, workload: Workload, proxy: &Running, seconds: u32) -> anyhow::Result<Seen> {
        let (listeners, path) = (proxy.listeners, workload.path());
        match workload {
            Workload::SmallGet | Workload::TwoWorkers | Workload::LargeAnswer | Workload::IdleConnection => {
                wrk.run(Kind::Get, listeners.http, path, seconds)
            }
            Workload::Upload => wrk.run(Kind::Upload, listeners.http, path, seconds),
            Workload::NewConnection => wrk.run(Kind::Close, listeners.http, path, seconds),
            Workload::Https => wrk.run(Kind::Https, listeners.https, path, seconds),
            Workload::Http2 => h2load::run(self.folder, listeners.http2, path, seconds),
            Workload::HalfLoad => {
                open_loop::run(listeners.http, path, self.half_load().context("no rate")?, seconds)
            }
        }
        .with_context(|| format!("{} at {}", workload.name(), proxy.peer.name()))
    }

    /// Each proxy is restarted: memory left by an earlier load would hide the memory of the connections.
    fn idle(&self, workload: Workload) -> anyhow::Result<Vec<Outcome>> {
        let folder = self.folder.join("idle");
        fs::create_dir_all(&folder)?;
        let backends = Backends::start(&folder, OTHER_CORE)?;
        let wrk = Wrk::new(&folder, OTHER_CORE)?;
        let mut measured = Vec::new();
        for proxy in self.start(&folder, &backends, 1, PROXY_CORE)? {
            // Memory that a proxy allocates once, whatever the number of connections, is not measured.
            self.load(&wrk, workload, &proxy, 1)?;
            let bytes = idle::bytes_per_connection(
                proxy.pid,
                proxy.listeners.http,
                workload.path(),
                self.settings.idle,
            )
            .with_context(|| format!("{} at {}", workload.name(), proxy.peer.name()))?;
            eprintln!("{} {}: {bytes:.0} bytes", workload.name(), proxy.peer.name());
            let rounds = vec![Sample { figure: bytes, load: None }];
            measured.push(Measured { peer: proxy.peer, rounds, syscalls: None });
        }
        Ok(outcomes(workload, measured))
    }
}
