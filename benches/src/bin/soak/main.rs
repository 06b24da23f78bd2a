//! `cargo run --profile dist -p benches --bin soak`: idle clients, slow clients and random garbage, while requests
//! are sent at a fixed rate. No request may fail, and the node's memory must stay bounded.
//!
//! It runs the real programs; docs/evidence/soak.md has the figures and explains them.

mod crowd;
mod flow;
mod garbage;
mod memory;
mod weir;

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use serde::Serialize;

use crate::{crowd::Crowd, flow::Seen, memory::Memory, weir::Weir};

/// Puts idle clients, slow clients and garbage on a node while requests are sent.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Idle connections, each after one request.
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Connections that send their request head field by field and reconnect each time the node closes them.
    #[arg(long, default_value_t = 1_000)]
    slow: usize,
    /// Requests per second, all of which must succeed.
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    /// Duration of idle and slow clients, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Megabytes of garbage per second at each port.
    #[arg(long, default_value_t = 24)]
    garbage: u32,
    /// Duration of the garbage at each port, in seconds.
    #[arg(long, default_value_t = 60)]
    garbage_seconds: u32,
    /// Maximum memory of the node, in megabytes.
    #[arg(long, default_value_t = 400)]
    max_memory: u64,
    /// Worker threads of the node.
    #[arg(long, default_value_t = 1)]
    workers: u16,
    /// Smoke test of a few seconds; the figures are meaningless.
    #[arg(long)]
    smoke: bool,
    /// Also writes the figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Results of one part of the run.
#[derive(Debug, Serialize)]
struct Part {
    name: String,
    flow: Seen,
    memory: Memory,
    cpu_seconds: f64,
    /// Further counts by name.
    counts: Vec<(&'static str, u64)>,
    /// Violated expectations; empty if all is well.
    failures: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.smoke {
        arguments = Arguments {
            idle: 200,
            slow: 50,
            rate: 100,
            seconds: 3,
            garbage: 2,
            garbage_seconds: 3,
            ..arguments
        };
    }
    // This process has the other end of all connections.
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = rustix::process::Rlimit { current: descriptors.maximum, ..descriptors };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, most)?;
    let weir = Weir::start(arguments.workers)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let parts = runtime.block_on(run(&weir, &arguments))?;
    for part in &parts {
        print!("{}", describe(part));
    }
    if let Some(path) = &arguments.json {
        let json = serde_json::to_vec_pretty(&parts)?;
        fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let failed = parts.iter().map(|part| part.failures.len()).sum::<usize>();
    anyhow::ensure!(failed == 0, "{failed} expectations were violated");
    Ok(())
}

async fn run(weir: &Weir, arguments: &Arguments) -> anyhow::Result<Vec<Part>> {
    let second = |seconds: u32| Duration::from_secs(seconds.into());
    // Memory that a node allocates once, whatever the load, is not counted.
    flow::run(weir.http, arguments.rate, Duration::from_secs(2)).await;

    let mut parts = Vec::new();
    let observed = memory::Observer::start(weir.pid);
    let (flow, crowd) = {
        let crowd = Crowd::gather(weir.http, arguments.idle, arguments.slow).await?;
        let flow = flow::run(weir.http, arguments.rate, second(arguments.seconds)).await;
        (flow, crowd.leave().await)
    };
    let counts = vec![
        ("idle", arguments.idle as u64),
        ("slow", arguments.slow as u64),
        ("idle lost", crowd.lost),
        ("slow cut off", crowd.cut),
    ];
    let mut part = observed.end(weir, "crowd", flow, counts).await?;
    if crowd.lost > 0 {
        part.failures.push(format!("{} idle connections were lost", crowd.lost));
    }
    if arguments.seconds > 20 && crowd.cut < arguments.slow as u64 {
        part.failures.push(format!("only {} slow connections were cut off", crowd.cut));
    }
    parts.push(part);

    for (name, address) in [("garbage to HTTP", weir.http), ("garbage to HTTPS", weir.https)] {
        let observed = memory::Observer::start(weir.pid);
        let duration = second(arguments.garbage_seconds);
        let (flow, thrown) = tokio::join!(
            flow::run(weir.http, arguments.rate, duration),
            garbage::throw(address, u64::from(arguments.garbage) << 20, duration),
        );
        let thrown = thrown?;
        let counts = vec![("megabytes", thrown.bytes >> 20), ("connections", thrown.connections)];
        let mut part = observed.end(weir, name, flow, counts).await?;
        let due = u64::from(arguments.garbage) * u64::from(arguments.garbage_seconds);
        if (thrown.bytes >> 20) * 10 < due * 9 {
            part.failures.push(format!("only {} of {due} MB were accepted", thrown.bytes >> 20));
        }
        parts.push(part);
    }
    for part in &mut parts {
        let limit = arguments.max_memory << 20;
        if part.memory.peak > limit {
            part.failures.push(format!("memory grew to {} MB", part.memory.peak >> 20));
        }
        if part.memory.grows {
            part.failures.push("memory was still growing at the end".to_owned());
        }
        if part.flow.failed > 0 {
            let first = part.flow.first_failure.clone().unwrap_or_default();
            part.failures.push(format!("{} requests failed, the first: {first}", part.flow.failed));
        }
    }
    Ok(parts)
}

fn describe(part: &Part) -> String {
    let Part { name, flow, memory, cpu_seconds, counts, failures } = part;
    let mut text = format!("{name}\n");
    for (what, count) in counts {
        text.push_str(&format!("  {what}: {count}\n"));
    }
    text.push_str(&format!(
        "  requests: {} answered, {} failed; p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms\n",
        flow.answered, flow.failed, flow.p50_ms, flow.p99_ms, flow.max_ms
    ));
    text.push_str(&format!(
        "  memory: {} MB before, {} MB at most, {} MB after; CPU {cpu_seconds:.1} s\n",
        memory.before >> 20,
        memory.peak >> 20,
        memory.after >> 20
    ));
    for failure in failures {
        text.push_str(&format!("  FAILED: {failure}\n"));
    }
    text
}
