//! `cargo run --profile dist -p benches --bin fleet`: the control plane with a thousand nodes; see
//! `docs/evidence/fleet.md`.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use benches::fleet::{
    calls::{self, Cost},
    plot,
    scenario::{Effort, Outcome, Size, measure},
};
use clap::Parser;

/// Measures the control plane with many simulated nodes.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Number of nodes.
    #[arg(long, default_value_t = 1000)]
    nodes: usize,
    /// Number of nodes that assemble and hash everything they receive.
    #[arg(long, default_value_t = 5)]
    checking: usize,
    /// Number of backends in all pools.
    #[arg(long, default_value_t = 10_000)]
    backends: usize,
    /// Number of pools.
    #[arg(long, default_value_t = 200)]
    pools: usize,
    /// Number of routes, each for its own host.
    #[arg(long, default_value_t = 5000)]
    routes: usize,
    /// Number of weight changes.
    #[arg(long, default_value_t = 100)]
    changes: u32,
    /// Number of backends whose health changes once per second.
    #[arg(long, default_value_t = 100)]
    flappers: usize,
    /// How long the health of these backends changes, in seconds.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Also measures smaller fleets and draws the growth of the cost to this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Writes all figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Path of the control-plane program [default: beside this program].
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Measures single calls and the command line at this number of backends and routes instead; needs `weir` beside
    /// this program.
    #[arg(long)]
    calls: bool,
    /// Smoke test: a small fleet for a short time, and only limits that do not depend on the machine.
    #[arg(long)]
    smoke: bool,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.smoke {
        let small = Arguments { nodes: 60, checking: 60, backends: 400, pools: 10, routes: 50, ..arguments };
        arguments = Arguments { changes: 5, flappers: 20, seconds: 2, ..small };
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.with_file_name("control-plane"),
    };
    anyhow::ensure!(program.exists(), "{} is not built", program.display());
    let program = std::path::absolute(program)?;
    let Arguments { nodes, checking, backends, pools, routes, .. } = *arguments;
    let size = Size { nodes, checking, backends, pools, routes };
    if arguments.calls {
        println!("{}", Cost::HEAD);
        let weir = program.with_file_name("weir");
        return calls::measure(&program, &weir, size, |cost| println!("{}", cost.show()));
    }
    let effort = Effort {
        changes: arguments.changes,
        flappers: arguments.flappers,
        flapping: Duration::from_secs(arguments.seconds),
    };
    heading();
    let full = measure(&program, size, effort).await?;
    show(&full);
    let mut all = vec![full.clone()];
    if let Some(file) = &arguments.svg {
        let brief = Effort { changes: effort.changes.min(40), flapping: Duration::from_secs(5), ..effort };
        let (mut by_nodes, mut by_backends) = (Vec::new(), Vec::new());
        for part in [10, 4, 2] {
            let size = Size { nodes: (nodes / part).max(1), ..size };
            by_nodes.push(measured(&program, size, brief, &mut all).await?);
        }
        for part in [50, 10, 4, 2] {
            let backends = (backends / part).max(effort.flappers + pools);
            let size = Size { backends, routes: (routes / part).max(1), ..size };
            by_backends.push(measured(&program, size, brief, &mut all).await?);
        }
        by_nodes.push(full.clone());
        by_backends.push(full.clone());
        std::fs::write(file, plot::svg(&by_nodes, &by_backends))
            .with_context(|| file.display().to_string())?;
    }
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&all)?)
            .with_context(|| file.display().to_string())?;
    }
    anyhow::ensure!(full.bytes_per_change <= 1024, "a change takes {} bytes per node", full.bytes_per_change);
    anyhow::ensure!(full.restart_wholes == 0, "{} nodes got a whole snapshot", full.restart_wholes);
    Ok(())
}

async fn measured(
    program: &std::path::Path,
    size: Size,
    effort: Effort,
    all: &mut Vec<Outcome>,
) -> anyhow::Result<Outcome> {
    let outcome = measure(program, size, effort).await?;
    show(&outcome);
    all.push(outcome.clone());
    Ok(outcome)
}

fn heading() {
    println!(
        "nodes backends routes | change p50  p99 ms | last node p50  p99 ms | bytes | CPU ms | MiB  peak | first s | \
         flaps/s cores (probing) | restart s  peak MiB wholes | hashed"
    );
}

fn show(o: &Outcome) {
    println!(
        "{:>5} {:>8} {:>6} | {:>10.1} {:>7.1} | {:>13.1} {:>7.1} | {:>5} | {:>6.1} | {:>4} {:>5} | {:>7.2} | {:>7.1} \
         {:>5.2} {:>9.2} | {:>9.2} {:>9} {:>6} | {:>6}",
        o.size.nodes,
        o.size.backends,
        o.size.routes,
        o.change_p50_ms,
        o.change_p99_ms,
        o.all_p50_ms,
        o.all_p99_ms,
        o.bytes_per_change,
        o.cpu_per_change_ms,
        o.memory_mib,
        o.memory_peak_mib,
        o.first_s,
        o.flaps_per_second,
        o.flapping_cores,
        o.probing_cores,
        o.restart_s,
        o.restart_peak_mib,
        o.restart_wholes,
        o.hashed.0,
    );
}
