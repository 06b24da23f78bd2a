//! `cargo run --profile dist -p benches --bin scale`: Weir with a small and a large configuration, and with one and
//! two workers.

use benches::{
    matching::{self, By, Popularity},
    programs,
    report::table,
    scale::{self, Figures, Variant},
    weir::Size,
};
use clap::Parser;

/// Measures whether a request costs more with a large configuration, and the gain of a second worker.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Seconds per round and variant.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Number of rounds; medians are reported.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Pools of the large configuration.
    #[arg(long, default_value_t = 5000)]
    pools: u16,
    /// Backends in the pool of the large configuration that gets the traffic.
    #[arg(long, default_value_t = 5000)]
    backends: u16,
    /// Routes of the large configuration.
    #[arg(long, default_value_t = 5000)]
    routes: u16,
    /// Measures only the route lookup, without starting programs.
    #[arg(long)]
    only_matching: bool,
    /// Number of lookups per case.
    #[arg(long, default_value_t = 200_000)]
    lookups: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    println!("{}", matching(arguments.routes.max(5).into(), arguments.lookups)?);
    if arguments.only_matching {
        return Ok(());
    }
    let programs = programs::build()?;
    let folder = tempfile::tempdir()?;
    let Arguments { pools, backends, routes, .. } = arguments;
    let variants = scale::variants(Size { pools, backends, routes });
    let (seconds, rounds) = (arguments.seconds.max(1), arguments.rounds.max(1));
    let figures = scale::run(folder.path(), &programs, &variants, seconds, rounds)?;
    print!("{}", show(&variants, &figures));
    Ok(())
}

/// The cost of a route lookup by kind of match, popularity and number of routes.
fn matching(routes: usize, lookups: usize) -> anyhow::Result<String> {
    let head = ["routes differ by", "popularity", "routes", "CPU ns per lookup", "ratio to 5"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (by, name) in By::ALL {
        for (popularity, asked_for) in Popularity::ALL {
            let few = matching::nanoseconds(by, 5, popularity, lookups)?;
            for count in [5, 500, routes] {
                let cost = matching::nanoseconds(by, count, popularity, lookups)?;
                let (count, figure) = (count.to_string(), format!("{cost:.0}"));
                let ratio = format!("{:.2}", cost / few);
                rows.push([name, asked_for, &count, &figure, &ratio].map(str::to_owned).to_vec());
            }
        }
    }
    Ok(table(&rows))
}

/// One row per variant, compared with the first.
fn show(variants: &[Variant], figures: &[Figures]) -> String {
    let head = ["weir with", "CPU µs/request", "ratio to first", "requests/s", "p99 ms"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let first = figures.first().map_or(0.0, |figures| figures.cpu_us_per_request);
    for (variant, figures) in variants.iter().zip(figures) {
        rows.push(vec![
            variant.name.clone(),
            format!("{:.1}", figures.cpu_us_per_request),
            format!("{:.2}", figures.cpu_us_per_request / first),
            format!("{:.0}", figures.requests_per_second),
            format!("{:.2}", figures.p99_ms),
        ]);
    }
    table(&rows)
}
