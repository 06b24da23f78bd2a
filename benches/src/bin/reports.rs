//! `cargo run --release -p benches --bin reports`: how long reports over a year take, asked over HTTP, and what taking
//! in the counts of many nodes costs.
//!
//! The year is made through the statistics themselves, with a clock that runs ahead, so that the database is what a
//! fleet would have left.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use clap::Parser;
use control_plane::{
    Config,
    stats::{Query, Retention, Stats},
    store::Store,
};
use hdrhistogram::{
    Histogram,
    serialization::{Serializer as _, V2Serializer},
};
use weir_proto::{FORMAT, v1};

const HOUR_MS: i64 = 3_600_000;

/// Measures reports, and what taking in counts costs.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Days of hours in the database that is asked.
    #[arg(long, default_value_t = 365)]
    days: i64,
    /// Routes; each goes to two backends, and is asked with two methods and answered with three statuses.
    #[arg(long, default_value_t = 5)]
    routes: usize,
    /// Hosts.
    #[arg(long, default_value_t = 20)]
    hosts: usize,
    /// Times that each report is asked for.
    #[arg(long, default_value_t = 15)]
    times: usize,
    /// Nodes whose batches are taken in, each second one of each.
    #[arg(long, default_value_t = 50)]
    nodes: usize,
    /// Rows of each batch.
    #[arg(long, default_value_t = 500)]
    keys: usize,
    /// Seconds of batches that are taken in.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Keeps the database of the year here, or uses the one that is there.
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let file = arguments.database.clone().unwrap_or_else(|| folder.path().join("year.db"));
    if !file.exists() {
        let begun = Instant::now();
        runtime.block_on(make_year(&arguments, &file))?;
        println!(
            "{} days in {:.0} s, {} MiB",
            arguments.days,
            begun.elapsed().as_secs_f64(),
            size(&file)? >> 20
        );
    }
    runtime.block_on(async { ask(&arguments, &file).await })?;
    runtime.block_on(take_in(&arguments, &folder.path().join("ingest.db")))
}

fn now_ms() -> anyhow::Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

/// A file with what is not yet moved from its log.
fn size(file: &Path) -> anyhow::Result<u64> {
    let wal = PathBuf::from(format!("{}-wal", file.display()));
    Ok(std::fs::metadata(file)?.len() + std::fs::metadata(wal).map_or(0, |data| data.len()))
}

fn latencies(around_us: u64, requests: u64) -> anyhow::Result<Vec<u8>> {
    let mut histogram = Histogram::<u64>::new(2)?;
    for n in 0..requests {
        // A long tail: most are near, some are ten times as slow.
        let spread = 1 + n * n * 9 / (requests * requests).max(1);
        histogram.record(around_us * spread + n * 17)?;
    }
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(&histogram, &mut bytes)?;
    Ok(bytes)
}

fn row(minute: i64, around_us: u64, requests: u64) -> anyhow::Result<v1::TrafficRow> {
    Ok(v1::TrafficRow {
        minute: minute.cast_unsigned(),
        requests,
        bytes_in: requests * 100,
        bytes_out: requests * 5_000,
        latency: latencies(around_us, requests)?,
        latency_max_us: around_us * 11,
        upstream_latency: latencies(around_us - around_us / 10, requests)?,
        upstream_max_us: around_us * 10,
        ..v1::TrafficRow::default()
    })
}

fn batch(node: usize, sequence: u64, at_ms: i64) -> v1::ReportRequest {
    v1::ReportRequest {
        format: FORMAT,
        node_id: format!("node-{node}"),
        boot_id: format!("boot-{node}"),
        sequence,
        sent_at_ms: at_ms.cast_unsigned(),
        ..v1::ReportRequest::default()
    }
}

async fn make_year(arguments: &Arguments, file: &Path) -> anyhow::Result<()> {
    let store = Store::open(&format!("sqlite:{}", file.display())).await?;
    let end = now_ms()?;
    let clock = Arc::new(AtomicI64::new(0));
    let reading = clock.clone();
    let stats = Stats::start_at(store.clone(), Arc::new(move || reading.load(Relaxed)), Retention::default());
    let begin = end - end % HOUR_MS - arguments.days * 24 * HOUR_MS;
    for hour in 0..arguments.days * 24 {
        let at_ms = begin + hour * HOUR_MS + HOUR_MS / 2;
        clock.store(at_ms, Relaxed);
        let mut batch = batch(1, hour.cast_unsigned() + 1, at_ms);
        let around_us = 800 + (hour.cast_unsigned() * 37) % 900;
        for n in 0..arguments.routes * 12 {
            let label = |name: &str, n: usize| format!("{name}{n}");
            batch.rows.push(v1::TrafficRow {
                route: label("route-", n / 12),
                pool: label("pool-", n / 12),
                backend: label("b", n / 6),
                method: ["GET", "POST"][n % 2].to_owned(),
                status: [200, 404, 503][n / 2 % 3],
                ..row(at_ms / 60_000, around_us + 40 * n as u64, 50)?
            });
        }
        for n in 0..arguments.hosts {
            let host = format!("shop-{n}.example");
            batch.hosts.push(v1::TrafficRow { host, status: 200, ..row(at_ms / 60_000, around_us, 30)? });
        }
        stats.ingest(batch).await?;
        if hour % 240 == 239 {
            stats.summary(&Query { from: Some("-1h".into()), ..Query::default() }).await?;
        }
    }
    stats.summary(&Query { from: Some("-1h".into()), ..Query::default() }).await?;
    stats.stop().await;
    store.close().await;
    Ok(())
}

fn get(admin: SocketAddr, path: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(admin)?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = String::from_utf8_lossy(answer.get(..answer.len().min(200)).unwrap_or_default());
    anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "{path} answers {head}");
    Ok(answer)
}

async fn ask(arguments: &Arguments, file: &Path) -> anyhow::Result<()> {
    let running = control_plane::start(Config {
        database: format!("sqlite:{}", file.display()),
        // A year of hours is asked for, so a year of them is kept.
        ..Config::default()
    })
    .await?;
    let admin = running.admin;
    let times = arguments.times.max(1);
    let from = format!("-{}d", arguments.days - 1);
    println!("{:<58} {:>9} {:>9} {:>9}", "report", "median ms", "worst ms", "KiB");
    for path in [
        format!("/reports/hourly?from={from}"),
        format!("/reports/hourly?from={from}&route=route-1"),
        format!("/reports/hourly?from={from}&backend=b1"),
        format!("/reports/hourly?from={from}&host=shop-1.example"),
        format!("/reports/hourly?from={from}&tz=Europe/Berlin"),
        format!("/reports/hourly?from={from}&route=route-1&method=GET"),
        format!("/reports/daily?from={from}"),
        format!("/reports/summary?from={from}&compare=true"),
        format!("/reports/top?from={from}&by=route"),
        format!("/reports/top?from={from}&by=host"),
    ] {
        let asked = path.clone();
        let (mut took, bytes) = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
            let mut took = Vec::with_capacity(times);
            let mut bytes = get(admin, &asked)?.len();
            for _ in 0..times {
                let begun = Instant::now();
                bytes = get(admin, &asked)?.len();
                took.push(begun.elapsed().as_secs_f64() * 1000.0);
            }
            Ok((took, bytes))
        })
        .await??;
        took.sort_by(f64::total_cmp);
        let worst = took.last().copied().unwrap_or_default();
        println!("{path:<58} {:>9.1} {worst:>9.1} {:>9}", took[took.len() / 2], bytes >> 10);
    }
    running.shutdown().await;
    Ok(())
}

/// CPU time of this process.
fn cpu() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit_once(')').context("no process name in /proc/self/stat")?.1;
    let ticks: Vec<u64> = after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse().ok()).collect();
    Ok(Duration::from_millis(ticks.iter().sum::<u64>() * 10))
}

async fn take_in(arguments: &Arguments, file: &Path) -> anyhow::Result<()> {
    let store = Store::open(&format!("sqlite:{}", file.display())).await?;
    let stats = Stats::start(store.clone(), Retention::default());
    let rows: Vec<v1::TrafficRow> = (0..arguments.keys)
        .map(|n| {
            Ok(v1::TrafficRow {
                route: format!("route-{}", n / 10),
                pool: format!("pool-{}", n / 10),
                backend: format!("b{}", n % 10),
                method: "GET".into(),
                status: 200,
                ..row(0, 1_000 + n as u64, 20)?
            })
        })
        .collect::<anyhow::Result<_>>()?;
    let (cpu_before, begun) = (cpu()?, Instant::now());
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut slowest = Duration::ZERO;
    for second in 1..=arguments.seconds {
        ticks.tick().await;
        let at_ms = now_ms()?;
        let sent = Instant::now();
        let mut waiting = tokio::task::JoinSet::new();
        for node in 0..arguments.nodes {
            let mut rows = rows.clone();
            rows.iter_mut().for_each(|row| row.minute = (at_ms / 60_000).cast_unsigned());
            let (stats, batch) = (stats.clone(), v1::ReportRequest { rows, ..batch(node, second, at_ms) });
            waiting.spawn(async move { stats.ingest(batch).await });
        }
        while let Some(taken) = waiting.join_next().await {
            taken??;
        }
        slowest = slowest.max(sent.elapsed());
    }
    let asked = Instant::now();
    let counted = stats.summary(&Query::default()).await?.requests;
    let report = asked.elapsed();
    let (took, used) = (begun.elapsed(), cpu()?.saturating_sub(cpu_before));
    let sent = 20 * arguments.keys as u64 * arguments.nodes as u64 * arguments.seconds;
    anyhow::ensure!(counted == sent, "{sent} requests were sent, {counted} are counted");
    stats.stop().await;
    store.close().await;
    println!(
        "{} nodes with {} keys each second for {:.0} s: {:.0} % of a core, slowest second's batches stored after \
         {:.0} ms, report after {:.0} ms, {} MiB, {counted} requests counted exactly",
        arguments.nodes,
        arguments.keys,
        took.as_secs_f64(),
        used.as_secs_f64() / took.as_secs_f64() * 100.0,
        slowest.as_secs_f64() * 1000.0,
        report.as_secs_f64() * 1000.0,
        size(file)? >> 20,
    );
    Ok(())
}
