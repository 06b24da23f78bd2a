//! `played-day --nodes http://HOST:PORT`: fills a control plane with one day of history, as two nodes would have
//! reported it, including two hours in which neither node was connected. For viewing the dashboard, and for its
//! browser tests.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::Parser;
use e2e::played::{self, Labels, Request};
use fastrand::Rng;
use tonic::transport::Endpoint;
use weir_proto::v1::{ReportRequest, nodes_client::NodesClient};

/// Sends one day of simulated reports of two nodes.
#[derive(Debug, Parser)]
struct Arguments {
    /// URL of the control plane's port for nodes.
    #[arg(long)]
    nodes: String,
    /// Requests in the busiest minute.
    #[arg(long, default_value_t = 60)]
    busiest: u64,
}

/// Minutes of history.
const DAY: u64 = 23 * 60;
/// Start of the outage in minutes before now; it covers two whole hours.
const OUTAGE: u64 = 10 * 60;
/// Minutes per batch.
const BATCH: u64 = 10;

const ROUTES: [(&str, &str, [&str; 2], u64, u32); 3] = [
    // Route, pool, backends, typical latency in microseconds, percentage of all requests.
    ("shop", "default", ["b1", "b2"], 9_000, 60),
    ("api", "default", ["b1", "b2"], 3_000, 30),
    ("search", "search", ["b3", "b3"], 45_000, 10),
];
const HOSTS: [&str; 4] = ["shop.example", "www.shop.example", "api.shop.example", "search.shop.example"];

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / 60;
    let mut client = NodesClient::new(Endpoint::from_shared(arguments.nodes.clone())?.connect().await?);
    let mut rng = Rng::with_seed(1);
    let (mut sequence, mut boot) = (0, "first");
    let outage = (now - OUTAGE) / 60 * 60;
    for begin in ((now - DAY) / BATCH * BATCH..now).step_by(BATCH as usize) {
        if (outage..outage + 120).contains(&begin) {
            (sequence, boot) = (0, "second");
            continue;
        }
        sequence += 1;
        let last = begin + BATCH >= now;
        for node in ["eu-1", "eu-2"] {
            let requests: Vec<Request> = (begin..(begin + BATCH).min(now))
                .flat_map(|minute| {
                    let share = load(minute, now);
                    let count = arguments.busiest as f64 * share / 2.0 * (0.85 + 0.3 * rng.f64());
                    let incident = (now - minute) / 12 == 18;
                    (0..count as u64).map(|_| request(&mut rng, minute, incident)).collect::<Vec<_>>()
                })
                .collect();
            let sent_at_ms = (begin + BATCH).min(now) * 60_000 - 1_000;
            let batch = played::batch(node, boot, sequence, sent_at_ms, &requests)?;
            client.report(ReportRequest { last, ..batch }).await.context("the batch was rejected")?;
        }
    }
    Ok(())
}

/// Load relative to the busiest minute: a day has a low and a high.
fn load(minute: u64, now: u64) -> f64 {
    let of_day = (now - minute) as f64 / 1440.0;
    0.55 + 0.45 * (of_day * std::f64::consts::TAU + 0.6).cos()
}

fn request(rng: &mut Rng, minute: u64, incident: bool) -> Request {
    let mut of = rng.u32(..100);
    let &(route, pool, backends, usual, _) = ROUTES
        .iter()
        .find(|(_, _, _, _, part)| match of.checked_sub(*part) {
            Some(rest) => {
                of = rest;
                false
            }
            None => true,
        })
        .unwrap_or(&ROUTES[0]);
    let failing = if incident { 25 } else { 1 };
    let status = match rng.u32(..100) {
        n if n < failing => 503,
        n if n < failing + 5 => 404,
        n if n < failing + 12 => 304,
        _ => 200,
    };
    let refused = (status == 503 && rng.bool()).then_some(if incident { "no_room" } else { "breaker" });
    let slow = if incident { 6 } else { 1 };
    let latency_us = usual * slow / 2 + rng.u64(..usual) * (1 + rng.u64(..60).pow(2) / 600);
    Request {
        minute,
        labels: Labels {
            route,
            pool,
            backend: if refused.is_some() { "" } else { backends[rng.usize(..2)] },
            method: if rng.u32(..5) == 0 { "POST" } else { "GET" },
            host: HOSTS[if route == "shop" {
                rng.usize(..2)
            } else if route == "api" {
                2
            } else {
                3
            }],
        },
        status,
        latency_us,
        upstream_us: if refused.is_some() { 0 } else { latency_us * 9 / 10 },
        bytes_in: rng.u64(..400),
        bytes_out: if status == 200 { rng.u64(500..40_000) } else { 0 },
        retries: u64::from(incident && rng.bool()),
        refused,
        cut: (refused.is_none() && rng.u32(..500) == 0).then_some("client"),
        streamed: false,
    }
}
