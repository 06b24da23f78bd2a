//! `cargo run --profile dist -p benches --bin reports`: response times of reports over a year, requested over HTTP.
//!
//! The year is created by the statistics code itself with a fast clock, so that the database is the same as that of a
//! real fleet.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use benches::{
    measure,
    traffic::{batch, row},
};
use clap::Parser;
use control_plane::{
    Config,
    stats::{Query, Retention, Stats},
    store::Store,
};
use weir_proto::v1;

const HOUR_MS: i64 = 3_600_000;

/// Measures reports.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Days of hourly data in the database.
    #[arg(long, default_value_t = 365)]
    days: i64,
    /// Number of routes; each has two backends, two methods and three statuses.
    #[arg(long, default_value_t = 5)]
    routes: usize,
    /// Number of hosts.
    #[arg(long, default_value_t = 20)]
    hosts: usize,
    /// Repetitions of each report after the first.
    #[arg(long, default_value_t = 50)]
    times: usize,
    /// Keeps the database in this file, or uses an existing one.
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
    runtime.block_on(async { ask(&arguments, &file).await })
}

fn now_ms() -> anyhow::Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

/// The size of a database file and its write-ahead log.
fn size(file: &Path) -> anyhow::Result<u64> {
    let wal = PathBuf::from(format!("{}-wal", file.display()));
    Ok(std::fs::metadata(file)?.len() + std::fs::metadata(wal).map_or(0, |data| data.len()))
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
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = String::from_utf8_lossy(answer.get(..answer.len().min(200)).unwrap_or_default());
    anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "{path} answers {head}");
    Ok(answer)
}

async fn ask(arguments: &Arguments, file: &Path) -> anyhow::Result<()> {
    let running = control_plane::start(Config {
        database: format!("sqlite:{}", file.display()),
        // The reports cover a year of hours, so a year must be retained.
        ..Config::default()
    })
    .await?;
    let admin = running.admin;
    let times = arguments.times.max(1);
    let from = format!("-{}d", arguments.days - 1);
    println!(
        "{:<62} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "report", "first ms", "p50 ms", "p99 ms", "CPU ms", "KiB"
    );
    for path in [
        format!("/reports/hourly?from={from}"),
        format!("/reports/hourly?from={from}&route=route-1"),
        format!("/reports/hourly?from={from}&backend=b1"),
        format!("/reports/hourly?from={from}&host=shop-1.example"),
        format!("/reports/hourly?from={from}&tz=Europe/Berlin"),
        format!("/reports/hourly?from={from}&route=route-1&method=GET"),
        format!("/reports/hourly?from={from}&format=csv"),
        format!("/reports/daily?from={from}"),
        format!("/reports/daily?from={from}&tz=Europe/Berlin"),
        format!("/reports/daily?from={from}&route=route-1&method=GET"),
        format!("/reports/summary?from={from}&compare=true"),
        format!("/reports/summary?from={from}&tz=Europe/Berlin&route=route-1"),
        format!("/reports/top?from={from}&by=route"),
        format!("/reports/top?from={from}&by=backend&route=route-1&sort=slowest"),
        format!("/reports/top?from={from}&by=host"),
    ] {
        let asked = path.clone();
        let (first, mut took, cpu, bytes) = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
            let ask = || -> anyhow::Result<_> {
                let begun = Instant::now();
                let bytes = get(admin, &asked)?.len();
                Ok((begun.elapsed().as_secs_f64() * 1000.0, bytes))
            };
            let (first, bytes) = ask()?;
            let used = measure::cpu_time(std::process::id())?;
            let took: anyhow::Result<Vec<f64>> = (0..times).map(|_| Ok(ask()?.0)).collect();
            let used = measure::cpu_time(std::process::id())?.saturating_sub(used);
            Ok((first, took?, used.as_secs_f64() * 1000.0 / times as f64, bytes))
        })
        .await??;
        took.sort_by(f64::total_cmp);
        let share = |share: usize| took.get((took.len() - 1) * share / 100).copied().unwrap_or_default();
        println!(
            "{path:<62} {first:>8.1} {:>8.1} {:>8.1} {cpu:>8.1} {:>8}",
            share(50),
            share(99),
            bytes >> 10
        );
    }
    running.shutdown().await;
    Ok(())
}
