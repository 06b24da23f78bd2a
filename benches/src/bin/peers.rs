//! `cargo run --release -p benches --bin peers`: Weir beside nginx and HAProxy, in interleaved rounds.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use benches::{
    backend::Backends,
    load,
    measure::cpu_time,
    peer::{Peer, Running},
    report::{self, Report, Sample},
    workload::{self, Workload},
};
use clap::Parser;

/// Measures Weir beside its peers: CPU time per request, requests per second, latency.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// How long each round of each proxy takes.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// How many rounds; medians are reported.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only these proxies.
    #[arg(long, value_delimiter = ',', default_values_t = Peer::ALL.to_vec(), value_enum)]
    peers: Vec<Peer>,
    /// One round of a second each: shows that the bench runs; the figures mean nothing.
    #[arg(long)]
    smoke: bool,
    /// Also write the figures here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let (seconds, rounds) =
        if arguments.smoke { (1, 1) } else { (arguments.seconds.max(1), arguments.rounds.max(1)) };
    let cores = std::thread::available_parallelism()?.get();
    anyhow::ensure!(cores >= 2, "two cores are needed: one for the proxy, one for the load and the backends");
    let programs = build()?;

    let folder = tempfile::tempdir()?;
    let mut versions = std::collections::BTreeMap::new();
    for peer in &arguments.peers {
        versions.insert(peer.name(), peer.version(&programs)?);
    }
    let backends = Backends::start(folder.path())?;
    let running = arguments
        .peers
        .iter()
        .map(|peer| peer.start(folder.path(), &programs, &backends.addresses))
        .collect::<anyhow::Result<Vec<Running>>>()?;

    let mut results = Vec::new();
    for workload in workload::ALL {
        results.extend(report::outcomes(workload, measure(&running, workload, seconds, rounds)?));
    }
    let report = Report { processor: processor(), kernel: kernel(), seconds, versions, results };
    print!("{}", report::table(&report));
    if let Some(path) = arguments.json {
        fs::write(&path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// All rounds of one workload; each round visits every proxy.
fn measure(
    running: &[Running],
    workload: Workload,
    seconds: u32,
    rounds: u32,
) -> anyhow::Result<Vec<(Peer, Vec<Sample>)>> {
    let mut samples: Vec<(Peer, Vec<Sample>)> =
        running.iter().map(|proxy| (proxy.peer, Vec::new())).collect();
    for proxy in running {
        load::run(proxy.address, workload.path, 1).with_context(|| failed(proxy, workload))?;
    }
    for round in 1..=rounds {
        for (proxy, (_, samples)) in running.iter().zip(&mut samples) {
            let before = cpu_time(proxy.pid)?;
            let seen =
                load::run(proxy.address, workload.path, seconds).with_context(|| failed(proxy, workload))?;
            let cpu = cpu_time(proxy.pid)?.saturating_sub(before);
            let sample = Sample {
                requests: seen.requests,
                cpu_us_per_request: per_request(cpu, seen.requests),
                requests_per_second: seen.requests_per_second,
                p50_ms: seen.p50_ms,
                p99_ms: seen.p99_ms,
            };
            eprintln!(
                "{} {round}/{rounds} {}: {:.1} µs CPU a request, {:.0} requests/s",
                workload.name,
                proxy.peer.name(),
                sample.cpu_us_per_request,
                sample.requests_per_second
            );
            samples.push(sample);
        }
    }
    Ok(samples)
}

fn failed(proxy: &Running, workload: Workload) -> String {
    format!("{} at {}", workload.name, proxy.peer.name())
}

fn per_request(cpu: Duration, requests: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 requests")]
    let requests = requests.max(1) as f64;
    cpu.as_secs_f64() * 1e6 / requests
}

/// Builds Weir's programs when cargo runs this; they stand beside this one.
fn build() -> anyhow::Result<PathBuf> {
    if let Some(cargo) = std::env::var_os("CARGO") {
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--release", "-p", "control-plane", "-p", "data-plane"])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
            .status()?;
        anyhow::ensure!(status.success(), "weir does not build");
    }
    let own = std::env::current_exe()?;
    let folder = own.parent().context("this program stands in no folder")?.to_owned();
    anyhow::ensure!(
        folder.ends_with("release"),
        "figures of a debug build mean nothing: use cargo run --release"
    );
    Ok(folder)
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or("unknown processor", |(_, name)| name).to_owned()
}

fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}
