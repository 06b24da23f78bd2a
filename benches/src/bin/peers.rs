//! `cargo run --profile dist -p benches --bin peers`: Weir and other proxies, in interleaved rounds.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use benches::{
    OTHER_CORE, idle,
    peer::{self, Peer},
    plot, programs,
    report::Report,
    run::{Bench, Settings},
    workload::Workload,
};
use clap::Parser;

/// Compares Weir with other proxies: CPU time per request, latency, memory.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Seconds per round and proxy.
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// Number of rounds; medians are reported.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only these proxies, all of which must be installed [default: all installed ones].
    #[arg(long, value_delimiter = ',', value_enum)]
    peers: Option<Vec<Peer>>,
    /// Only these workloads [default: all whose programs are installed].
    #[arg(long = "workload", value_delimiter = ',', value_enum, value_name = "WORKLOADS")]
    workloads: Option<Vec<Workload>>,
    /// Number of idle connections.
    #[arg(long, default_value_t = 5000, value_name = "N")]
    idle: u32,
    /// Also counts system calls, in a separate pass with strace.
    #[arg(long)]
    syscalls: bool,
    /// Smoke test: one round of one second; the figures are meaningless.
    #[arg(long)]
    smoke: bool,
    /// Also writes the figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draws the figures to this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Measures nothing and reads the figures of an earlier run with --json.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let report = match &arguments.from {
        Some(path) => {
            let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_slice(&text)
                .with_context(|| format!("{} contains no figures", path.display()))?
        }
        None => measure(&arguments)?,
    };
    print!("{report}");
    let write = |path: &Path, text: Vec<u8>| {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    if let Some(path) = &arguments.json {
        write(path, serde_json::to_vec_pretty(&report)?)?;
    }
    if let Some(path) = &arguments.svg {
        write(path, plot::svg(&report).into_bytes())?;
    }
    Ok(())
}

fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    let cores = std::thread::available_parallelism()?.get();
    anyhow::ensure!(
        cores >= 2,
        "at least two cores are needed: one for the proxy, one for the load and the backends"
    );
    let programs = if arguments.smoke { programs::beside()? } else { programs::build()? };
    let load_average = load_average();
    let versions = peers(arguments, &programs)?;
    let workloads = workloads(arguments);
    stay_off_the_proxy_core()?;

    let folder = tempfile::tempdir()?;
    let peers = versions.iter().map(|(peer, _)| *peer).collect();
    let mut bench = Bench::new(folder.path(), &programs, peers, settings(arguments))?;
    let results = bench.run(&workloads)?;
    Ok(Report {
        processor: processor(),
        cores,
        kernel: kernel(),
        load_average,
        seconds: arguments.seconds,
        half_load: workloads.contains(&Workload::HalfLoad).then(|| bench.half_load()).flatten(),
        versions: versions
            .into_iter()
            .map(|(peer, version)| (peer.name().to_owned(), version))
            .collect::<BTreeMap<_, _>>(),
        results,
    })
}

fn settings(arguments: &Arguments) -> Settings {
    let smoke = arguments.smoke;
    let rest = Duration::from_secs(if smoke { 1 } else { 3 });
    Settings {
        seconds: if smoke { 1 } else { arguments.seconds.max(1) },
        rounds: if smoke { 1 } else { arguments.rounds.max(1) },
        warm_up: u32::from(!smoke),
        idle: idle::Plan {
            connections: if smoke { 200 } else { arguments.idle.max(1) },
            rest,
            patience: rest * 3,
        },
        syscalls: arguments.syscalls,
    }
}

/// The proxies and their versions. A missing proxy is skipped unless it was requested.
fn peers(arguments: &Arguments, programs: &Path) -> anyhow::Result<Vec<(Peer, String)>> {
    let asked = arguments.peers.as_deref();
    if asked.is_some_and(|asked| asked.contains(&Peer::Pingora)) {
        peer::build_pingora()?;
    }
    let mut found = Vec::new();
    for peer in Peer::ALL.into_iter().filter(|peer| asked.is_none_or(|asked| asked.contains(peer))) {
        match peer.version(programs) {
            Ok(version) => found.push((peer, version)),
            Err(error) if asked.is_none() && peer != Peer::Weir => {
                eprintln!("skipped: {}: {error}", peer.name());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// HTTP/2 needs h2load. Without it, that workload is skipped unless it was requested.
fn workloads(arguments: &Arguments) -> Vec<Workload> {
    match &arguments.workloads {
        Some(asked) => Workload::ALL.into_iter().filter(|workload| asked.contains(workload)).collect(),
        None if Command::new("h2load").arg("--version").output().is_err() => {
            eprintln!("skipped: {}: h2load is not installed", Workload::Http2.name());
            Workload::ALL.into_iter().filter(|workload| *workload != Workload::Http2).collect()
        }
        None => Workload::ALL.to_vec(),
    }
}

/// Pins this thread, which makes some of the loads, to the other core.
fn stay_off_the_proxy_core() -> anyhow::Result<()> {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(OTHER_CORE.parse()?);
    rustix::thread::sched_setaffinity(None, &cores).context("cannot pin the thread to one core")
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or("unknown processor", |(_, name)| name).to_owned()
}

fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Load average of the last minute.
fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}
