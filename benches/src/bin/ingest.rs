//! `cargo run --profile dist -p benches --bin ingest`: the control plane's cost of storing the counts of many nodes,
//! over real gRPC, and the daily growth of the database file.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use benches::{
    measure,
    process::{Process, free_addresses},
    programs,
    traffic::{batch, rows},
};
use clap::Parser;
use control_plane::{
    stats::{Query, Retention, Stats},
    store::Store,
};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use weir_proto::v1::{
    GetSummaryRequest, ReportRequest, nodes_client::NodesClient, reports_client::ReportsClient,
};

/// Requests counted in each row.
const REQUESTS: u64 = 20;

/// Measures the cost of storing traffic counts.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Number of nodes, each of which sends one batch per second.
    #[arg(long, default_value_t = 50)]
    nodes: usize,
    /// Rows per batch.
    #[arg(long, default_value_t = 500)]
    keys: usize,
    /// Seconds of batches.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Minutes of a day to store for the file's growth; 0: skip this part.
    #[arg(long, default_value_t = 1440)]
    minutes: i64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(take_in(&arguments, folder.path()))?;
    if arguments.minutes > 0 {
        runtime.block_on(grow(&arguments, &folder.path().join("day.db")))?;
    }
    Ok(())
}

fn now_ms() -> anyhow::Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

/// The size of a database file and its write-ahead log.
fn size(file: &Path) -> anyhow::Result<u64> {
    let wal = PathBuf::from(format!("{}-wal", file.display()));
    Ok(std::fs::metadata(file)?.len() + std::fs::metadata(wal).map_or(0, |data| data.len()))
}

async fn channel(address: std::net::SocketAddr) -> anyhow::Result<Channel> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?.connect().await?)
}

async fn take_in(arguments: &Arguments, folder: &Path) -> anyhow::Result<()> {
    let Arguments { nodes, keys, seconds, .. } = *arguments;
    let [admin, listen] = free_addresses()?;
    let mut command = std::process::Command::new(programs::build()?.join("control-plane"));
    command.args([
        "--database",
        "sqlite:weir.db",
        "--admin",
        &admin.to_string(),
        "--nodes",
        &listen.to_string(),
        "--config",
        "weir.yaml",
    ]);
    std::fs::write(folder.join("weir.yaml"), config(keys))?;
    let mut control_plane = Process::start(folder, "control-plane", command)?;
    control_plane.wait_for_port(listen)?;
    control_plane.wait_for_port(admin)?;
    let mut channels = Vec::with_capacity(nodes);
    for _ in 0..nodes {
        channels.push(channel(listen).await?);
    }
    let rows = Arc::new(rows(keys, REQUESTS)?);
    let pid = control_plane.pid();
    let (cpu_before, begun) = (measure::cpu_time(pid)?, Instant::now());
    let mut memory = 0;
    let mut waits: Vec<Duration> = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    for second in 1..=seconds {
        ticks.tick().await;
        let at_ms = now_ms()?;
        let mut waiting = JoinSet::new();
        for (node, channel) in channels.iter().enumerate() {
            let (rows, channel) = (Arc::clone(&rows), channel.clone());
            waiting.spawn(async move {
                let mut rows = rows.to_vec();
                rows.iter_mut().for_each(|row| row.minute = (at_ms / 60_000).cast_unsigned());
                let batch = ReportRequest { rows, ..batch(node, second, at_ms) };
                let sent = Instant::now();
                NodesClient::new(channel).report(batch).await.map(|_| sent.elapsed())
            });
        }
        while let Some(taken) = waiting.join_next().await {
            waits.push(taken??);
        }
        memory = memory.max(measure::memory(pid)?);
    }
    let took = begun.elapsed();
    let asked = Instant::now();
    let summary = ReportsClient::new(channel(admin).await?).get_summary(GetSummaryRequest::default()).await?;
    let report = asked.elapsed();
    let used = measure::cpu_time(pid)?.saturating_sub(cpu_before);
    let (counted, sent) = (
        summary.into_inner().measures.unwrap_or_default().requests,
        REQUESTS * (keys * nodes) as u64 * seconds,
    );
    anyhow::ensure!(counted == sent, "{sent} requests were sent, {counted} are counted");
    waits.sort_unstable();
    let ms = |share: usize| {
        waits.get((waits.len() - 1) * share / 100).map_or(0.0, |wait| wait.as_secs_f64() * 1e3)
    };
    println!(
        "{nodes} nodes with {keys} rows each second, {:.0} s: {:.0} % of a core, {} MiB of memory, {} MiB of file; \
         acknowledged after {:.0} ms (median), {:.0} ms (99 of 100), {:.0} ms (slowest); report of all after {:.0} ms; \
         all {counted} requests counted",
        took.as_secs_f64(),
        used.as_secs_f64() / took.as_secs_f64() * 100.0,
        memory >> 20,
        size(&folder.join("weir.db"))? >> 20,
        ms(50),
        ms(99),
        ms(100),
        report.as_secs_f64() * 1e3,
    );
    Ok(())
}

/// A configuration with the names in [`rows`].
fn config(keys: usize) -> String {
    use std::fmt::Write as _;
    let (mut pools, mut routes) = ("pools:\n".to_owned(), "routes:\n".to_owned());
    for n in 0..keys.div_ceil(10).max(1) {
        let backends = 1..=if n == 0 { 10 } else { 0 };
        let urls = backends.map(|port| format!("{{ url: \"http://127.0.0.1:{port}\" }}")).collect::<Vec<_>>();
        // Writing to a String cannot fail.
        let _ = writeln!(
            pools,
            "  - {{ name: pool-{n}, health_check: {{ type: none }}, backends: [{}] }}",
            urls.join(", ")
        );
        let _ = writeln!(routes, "  - {{ name: route-{n}, pool: pool-{n}, match: {{ path: /{n} }} }}");
    }
    pools + &routes
}

/// Stores the minutes of a day with all keys in each. The file grows by this, however many nodes share the keys.
async fn grow(arguments: &Arguments, file: &Path) -> anyhow::Result<()> {
    let store = Store::open(&format!("sqlite:{}", file.display())).await?;
    let end = now_ms()? / 60_000;
    let clock = Arc::new(AtomicI64::new(0));
    let reading = clock.clone();
    let stats = Stats::start_at(store.clone(), Arc::new(move || reading.load(Relaxed)), Retention::default());
    let rows = rows(arguments.keys, REQUESTS * 60)?;
    let begun = Instant::now();
    for minute in 0..arguments.minutes {
        let at = end - arguments.minutes + minute;
        clock.store(at * 60_000, Relaxed);
        let mut rows = rows.clone();
        rows.iter_mut().for_each(|row| row.minute = at.cast_unsigned());
        stats.ingest(ReportRequest { rows, ..batch(0, minute.cast_unsigned() + 1, at * 60_000) }).await?;
        if minute % 60 == 59 {
            stats.summary(&Query { from: Some("-1m".into()), ..Query::default() }).await?;
        }
    }
    stats.summary(&Query { from: Some("-1m".into()), ..Query::default() }).await?;
    stats.stop().await;
    store.close().await;
    let bytes = size(file).context("the file of the day")?;
    println!(
        "{} minutes with {} keys each: {} MiB, {:.0} bytes per key and minute (stored in {:.0} s)",
        arguments.minutes,
        arguments.keys,
        bytes >> 20,
        bytes as f64 / (arguments.minutes as f64 * arguments.keys as f64),
        begun.elapsed().as_secs_f64(),
    );
    Ok(())
}
