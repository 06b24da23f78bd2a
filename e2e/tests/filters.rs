//! Filters in a whole fleet with the real programs.

use std::time::{Duration, Instant};

use e2e::{Answer, Fleet, eventually, get, send};

fn field<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Remaining requests of a node's part of the limit, after one request.
async fn left(http: &str) -> Option<u64> {
    let answer = get(http, "/books").await.ok()?;
    field(&answer, "ratelimit").split("r=").nth(1)?.split(';').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_wide_limit_is_divided_among_the_nodes_and_redistributed_when_one_leaves()
-> anyhow::Result<()> {
    let mut fleet = Fleet::start(2, 1).await?;
    let nodes = [fleet.http(0)?, fleet.http(1)?];
    // Requests without the key's header count by address. Another header means new counters, so that no round waits
    // for the previous one.
    let put = |key: &str| {
        format!(
            "{{\"pool\":\"default\",\"rate_limit\":{{\"requests\":20,\"per\":\"1m\",\"key\":{{\"header\":\"{key}\"}},\"scope\":\"fleet\"}}}}"
        )
    };
    // A node learns within a fraction of a second that there is another one; until then it allows the whole limit.
    let warm = send("PUT", fleet.admin(), "/routes/default", &put("x-warm")).await?;
    anyhow::ensure!(warm.status < 300, "{warm:?}");
    active(&fleet, revision(&fleet).await?).await?;
    for node in &nodes {
        eventually("half of the limit", Duration::from_secs(20), async || {
            (left(node).await? < 10).then_some(())
        })
        .await?;
    }
    let mut round = 0;
    let (passed, refused) = loop {
        round += 1;
        anyhow::ensure!(round < 20, "never 25 requests within three seconds");
        let put = send("PUT", fleet.admin(), "/routes/default", &put(&format!("x-round-{round}"))).await?;
        anyhow::ensure!(put.status < 300, "{put:?}");
        active(&fleet, revision(&fleet).await?).await?;
        let begun = Instant::now();
        let mut statuses = [Vec::new(), Vec::new()];
        for i in 0..25 {
            statuses[i % 2].push(get(&nodes[i % 2], "/books").await?.status);
        }
        if begun.elapsed() < Duration::from_millis(2900) {
            let of = |status| statuses.iter().map(move |all| all.iter().filter(|s| **s == status).count());
            break (of(200).collect::<Vec<_>>(), of(429).sum::<usize>());
        }
    };
    assert_eq!(passed, [10, 10], "each node has its part");
    assert_eq!(refused, 5);
    counted(&fleet, 5).await?;
    let status = fleet.weir(&["status"])?;
    assert!(status.contains("refused by filters"), "{status}");

    // One node leaves: after 10 s the other has the whole limit.
    fleet.nodes[1].kill();
    let http = nodes[0].clone();
    let round = std::sync::atomic::AtomicU32::new(100);
    eventually("the whole limit", Duration::from_secs(60), async || {
        let round = round.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let put =
            send("PUT", fleet.admin(), "/routes/default", &put(&format!("x-round-{round}"))).await.ok()?;
        (put.status < 300).then_some(())?;
        let mut best = 0;
        for _ in 0..3 {
            best = best.max(left(&http).await?);
        }
        (best > 10).then_some(())
    })
    .await?;
    Ok(())
}

/// The counts arrive with the nodes' next load message.
async fn counted(fleet: &Fleet, least: u64) -> anyhow::Result<()> {
    eventually("the counts", Duration::from_secs(20), async || {
        let told = fleet.status().await.ok()?;
        (told["routes"][0]["refused"]["rate_limit"].as_u64()? >= least).then_some(())
    })
    .await
}

async fn revision(fleet: &Fleet) -> anyhow::Result<u64> {
    fleet.status().await?["revision"].as_u64().ok_or_else(|| anyhow::anyhow!("no revision"))
}

async fn active(fleet: &Fleet, revision: u64) -> anyhow::Result<()> {
    eventually("the revision on all nodes", Duration::from_secs(20), async || {
        let status = fleet.status().await.ok()?;
        let nodes = status["nodes"].as_array()?;
        let runs = |node: &serde_json::Value| node["active_revision"].as_u64() >= Some(revision);
        nodes.iter().filter(|node| node["connected"] == true).all(runs).then_some(())
    })
    .await
}
