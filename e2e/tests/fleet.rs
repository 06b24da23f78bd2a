//! The system's main promises, with the real programs.

use std::{collections::BTreeSet, time::Duration};

use e2e::{Fleet, Load, Program, eventually, get, mock, send};

/// Long enough for a debug build on a busy machine to keep up.
const PAUSE: Duration = Duration::from_millis(2);

async fn served_by(address: &str) -> anyhow::Result<String> {
    let answer = get(address, "/books").await?;
    anyhow::ensure!(answer.status == 200, "{answer:?}");
    Ok(answer.backend().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_to_all_backends_in_turn() -> anyhow::Result<()> {
    let fleet = Fleet::start(1, 3).await?;
    let http = fleet.http(0)?;
    let mut served = Vec::new();
    for _ in 0..6 {
        served.push(served_by(&http).await?);
    }
    assert_eq!(served[..3].iter().collect::<BTreeSet<_>>().len(), 3, "{served:?}");
    assert_eq!(served[..3], served[3..], "{served:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn adding_and_removing_a_backend_under_load_fails_no_request() -> anyhow::Result<()> {
    let fleet = Fleet::start(1, 2).await?;
    let http = fleet.http(0)?;
    let load = Load::start(&http, "/books", 8, PAUSE);
    let extra = mock("127.0.0.1:0")?;
    let address = extra.address("listening")?;
    let body = format!("{{\"url\":\"http://{address}\"}}");
    let created = send("POST", fleet.admin(), "/backends", &body).await?;
    assert_eq!(created.status, 201, "{created:?}");
    let name = get(&address, "/health").await?.backend().to_owned();
    eventually("traffic to the new backend", Duration::from_secs(5), async || {
        (served_by(&http).await.ok()? == name).then_some(())
    })
    .await?;
    let removed = send("DELETE", fleet.admin(), "/backends", &body).await?;
    assert!(removed.status < 300, "{removed:?}");
    eventually("no traffic to the removed backend", Duration::from_secs(5), async || {
        for _ in 0..6 {
            if served_by(&http).await.ok()? == name {
                return None;
            }
        }
        Some(())
    })
    .await?;
    let totals = load.stop().await;
    assert!(totals.errors.is_empty(), "{totals:?}");
    assert_eq!(totals.count(200), totals.sent, "{totals:?}");
    assert!(totals.backends[&name] > 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backend_fails_no_request_and_returns() -> anyhow::Result<()> {
    let mut fleet = Fleet::start(1, 3).await?;
    let http = fleet.http(0)?;
    let load = Load::start(&http, "/books", 8, PAUSE);
    let victim = fleet.mocks[0].address("listening")?;
    let name = get(&victim, "/health").await?.backend().to_owned();
    fleet.mocks[0].kill();
    fleet.wait_alive(&victim, false).await?;
    let table = fleet.weir(&["status"])?;
    assert!(table.contains("down"), "{table}");
    fleet.mocks[0] = mock(&victim)?;
    fleet.wait_alive(&victim, true).await?;
    eventually("traffic to the restarted backend", Duration::from_secs(5), async || {
        (served_by(&http).await.ok()? == name).then_some(())
    })
    .await?;
    let totals = load.stop().await;
    assert!(totals.errors.is_empty(), "{totals:?}");
    assert_eq!(totals.count(200), totals.sent, "{totals:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_get_503_quickly_while_all_backends_are_down() -> anyhow::Result<()> {
    let mut fleet = Fleet::start(1, 2).await?;
    let http = fleet.http(0)?;
    let addresses: Vec<String> =
        fleet.mocks.iter().map(|mock| mock.address("listening")).collect::<Result<_, _>>()?;
    fleet.mocks.iter_mut().for_each(Program::kill);
    for address in &addresses {
        fleet.wait_alive(address, false).await?;
    }
    let answer = get(&http, "/books").await?;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()?["status"], 503);
    for (mock, address) in fleet.mocks.iter_mut().zip(&addresses) {
        *mock = e2e::mock(address)?;
    }
    eventually("service", Duration::from_secs(5), async || served_by(&http).await.ok()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_control_plane_under_load_loses_no_request_and_no_count() -> anyhow::Result<()> {
    let mut fleet = Fleet::start(2, 2).await?;
    let loads = [
        Load::start(&fleet.http(0)?, "/books", 4, PAUSE),
        Load::start(&fleet.http(1)?, "/status/404", 4, PAUSE),
    ];
    eventually("a first report", Duration::from_secs(10), async || {
        let report = get(fleet.admin(), "/reports/summary").await.ok()?.json().ok()?;
        (report["requests"].as_u64()? > 0).then_some(())
    })
    .await?;
    for _ in 0..2 {
        if let Some(mut control_plane) = fleet.control_plane.take() {
            control_plane.kill();
        }
        assert_eq!(get(&fleet.http(0)?, "/books").await?.status, 200);
        fleet.start_control_plane()?;
        eventually("both nodes at the same revision", Duration::from_secs(20), async || {
            let nodes = fleet.status().await.ok()?["nodes"].as_array()?.clone();
            let connected =
                |node: &&serde_json::Value| node["connected"] == true && node["active_revision"] == 2;
            (nodes.iter().filter(connected).count() == 2).then_some(())
        })
        .await?;
    }
    // The two requests above were sent in addition to the loads.
    let (mut sent, mut ok) = (2, 2);
    for load in loads {
        let totals = load.stop().await;
        assert!(totals.errors.is_empty(), "{totals:?}");
        assert_eq!(totals.count(200) + totals.count(404), totals.sent, "{totals:?}");
        sent += totals.sent;
        ok += totals.count(200);
    }
    let report = eventually("the whole count", Duration::from_secs(20), async || {
        let report = get(fleet.admin(), "/reports/summary").await.ok()?.json().ok()?;
        (report["requests"].as_u64()? >= sent).then_some(report)
    })
    .await?;
    assert_eq!(report["requests"], sent);
    assert_eq!(report["status"]["200"], ok);
    assert_eq!(report["status"]["404"], sent - ok);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_serve_the_same_revision_and_their_connections_are_summed() -> anyhow::Result<()> {
    let fleet = Fleet::start(2, 2).await?;
    let slow: Vec<_> = (0..4)
        .map(|i| {
            let http = fleet.http(i % 2);
            tokio::spawn(async move { get(&http?, "/slow?ms=2000").await })
        })
        .collect();
    eventually("four requests in flight over both nodes", Duration::from_secs(10), async || {
        let status = fleet.status().await.ok()?;
        let active = |backend: &serde_json::Value| backend["active_connections"].as_u64();
        (status["backends"].as_array()?.iter().filter_map(active).sum::<u64>() == 4).then_some(())
    })
    .await?;
    for request in slow {
        assert_eq!(request.await??.status, 200);
    }
    let nodes: serde_json::Value = serde_json::from_str(&fleet.weir(&["--output", "json", "nodes"])?)?;
    let current = fleet.status().await?["revision"].clone();
    let nodes = nodes["items"].as_array().cloned().unwrap_or_default();
    assert_eq!(nodes.len(), 2);
    assert!(
        nodes.iter().all(|node| node["connected"] == true && node["active_revision"] == current),
        "{nodes:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_changes_the_fleet_and_reads_its_reports() -> anyhow::Result<()> {
    let fleet = Fleet::start(1, 2).await?;
    let http = fleet.http(0)?;
    fleet.weir(&["strategy", "default", "least_connections"])?;
    let second = format!("http://{}", fleet.mocks[1].address("listening")?);
    fleet.weir(&["backends", "drain", &second])?;
    let only = get(&fleet.mocks[0].address("listening")?, "/health").await?.backend().to_owned();
    eventually("traffic to one backend only", Duration::from_secs(5), async || {
        for _ in 0..4 {
            if served_by(&http).await.ok()? != only {
                return None;
            }
        }
        Some(())
    })
    .await?;
    fleet.weir(&["backends", "enable", &second])?;
    let exported = fleet.weir(&["export"])?;
    assert!(exported.contains("least_connections") && exported.contains(&second), "{exported}");
    let file = fleet.database().with_file_name("weir.yaml");
    std::fs::write(&file, &exported)?;
    let file = file.display().to_string();
    let before = fleet.status().await?["revision"].clone();
    fleet.weir(&["apply", "-f", &file, "--wait", "5s"])?;
    assert_eq!(fleet.status().await?["revision"], before, "an export applies back to no difference");
    fleet.weir(&["rollback", "2"])?;
    assert!(fleet.weir(&["pools"])?.contains("round_robin"));
    assert!(fleet.weir(&["revisions"])?.contains("least_connections"));
    eventually("a report", Duration::from_secs(10), async || {
        fleet.weir(&["report", "summary"]).ok().filter(|report| report.contains("200")).map(drop)
    })
    .await?;
    let wrong = fleet.weir(&["strategy", "default", "fastest"]).expect_err("an unknown strategy").to_string();
    assert!(wrong.contains("round_robin, random, least_connections"), "{wrong}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_finishes_what_runs_and_delivers_its_counts() -> anyhow::Result<()> {
    let mut fleet = Fleet::start(1, 1).await?;
    let http = fleet.http(0)?;
    let slow = tokio::spawn(async move { get(&http, "/slow?ms=1500").await });
    eventually("the request in flight", Duration::from_secs(5), async || {
        let status = fleet.status().await.ok()?;
        (status["backends"][0]["active_connections"] == 1).then_some(())
    })
    .await?;
    assert!(fleet.nodes[0].terminate(Duration::from_secs(20)).await?, "{}", fleet.nodes[0].log());
    assert_eq!(slow.await??.status, 200);
    let report = get(fleet.admin(), "/reports/summary").await?.json()?;
    assert_eq!(report["requests"], 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_started_first_logs_once_that_it_waits() -> anyhow::Result<()> {
    let mut fleet = Fleet::start(0, 1).await?;
    if let Some(mut control_plane) = fleet.control_plane.take() {
        control_plane.kill();
    }
    fleet.add_node(&[])?;
    let status = fleet.nodes[0].address("status")?;
    assert_eq!(get(&status, "/healthz").await?.status, 200);
    assert_eq!(get(&status, "/readyz").await?.status, 503);
    eventually("a log message about the wait", Duration::from_secs(10), async || {
        fleet.nodes[0].log().contains("control plane").then_some(())
    })
    .await?;
    fleet.start_control_plane()?;
    fleet.ready(0).await?;
    let warnings = fleet.nodes[0].log().lines().filter(|line| line.contains("WARN")).count();
    assert_eq!(warnings, 1, "{}", fleet.nodes[0].log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_flags_are_rejected_by_name() -> anyhow::Result<()> {
    for (program, arguments, says) in [
        ("control-plane", vec!["--admin", "nowhere"], "--admin"),
        ("data-plane", vec!["--workers", "many"], "--workers"),
        ("backend-mock", vec!["--listen", "80"], "--listen"),
    ] {
        let mut process = Program::start(program, &arguments)?;
        assert!(!process.ended(Duration::from_secs(10)).await?, "{program} {arguments:?}");
        eventually("a message", Duration::from_secs(5), async || process.log().contains(says).then_some(()))
            .await?;
    }
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = taken.local_addr()?.to_string();
    let folder = tempfile::tempdir()?;
    let database = format!("sqlite:{}", folder.path().join("weir.db").display());
    let mut process = Program::start(
        "control-plane",
        &["--admin", &address, "--nodes", "127.0.0.1:0", "--database", &database],
    )?;
    assert!(!process.ended(Duration::from_secs(10)).await?);
    eventually("a message", Duration::from_secs(5), async || process.log().contains(&address).then_some(()))
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_share_a_port_with_another_node() -> anyhow::Result<()> {
    let fleet = Fleet::start(1, 1).await?;
    let address = fleet.http(0)?;
    let arguments = ["--control-plane", "http://127.0.0.1:1", "--status", "127.0.0.1:0", "--http", &address];
    let mut second = Program::start("data-plane", &arguments)?;
    assert!(!second.ended(Duration::from_secs(10)).await?, "{}", second.log());
    let says = async || (second.log().contains(&address) && second.log().contains("in use")).then_some(());
    eventually("a message", Duration::from_secs(5), says).await?;
    served_by(&address).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_configuration_says_so_to_clients() -> anyhow::Result<()> {
    let arguments =
        ["--control-plane", "http://127.0.0.1:1", "--status", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let node = Program::start("data-plane", &arguments)?;
    let answer = get(&node.address("http")?, "/books").await?;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.text().contains("no configuration yet"), "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_control_plane_cannot_use_the_database_of_the_first() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let database = format!("sqlite:{}", folder.path().join("weir.db").display());
    let arguments = ["--admin", "127.0.0.1:0", "--nodes", "127.0.0.1:0", "--database", &database];
    let first = Program::start("control-plane", &arguments)?;
    let admin = first.address("admin")?;
    let mut second = Program::start("control-plane", &arguments)?;
    assert!(!second.ended(Duration::from_secs(30)).await?, "{}", second.log());
    assert!(second.log().contains("another control plane uses it"), "{}", second.log());
    assert_eq!(get(&admin, "/readyz").await?.status, 200);
    Ok(())
}
