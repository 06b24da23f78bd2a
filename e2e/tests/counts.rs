//! Counts of real nodes for real requests: killed nodes, floods of names, and live requests.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use e2e::{Fleet, Load, eventually, get, send};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

const PAUSE: Duration = Duration::from_millis(4);
const WAIT: Duration = Duration::from_secs(30);

async fn report(fleet: &Fleet, path: &str) -> Option<Value> {
    get(fleet.admin(), path).await.ok().filter(|answer| answer.status == 200)?.json().ok()
}

async fn counted(fleet: &Fleet) -> Option<u64> {
    report(fleet, "/reports/summary").await?["requests"].as_u64()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_loses_less_than_a_second_and_the_report_is_marked_incomplete() {
    let mut fleet = Fleet::start(3, 2).await.unwrap();
    let loads = [1, 2].map(|node| Load::start(&fleet.http(node).unwrap(), "/books", 2, PAUSE));
    // Times of the responses of the node that will be killed.
    let address = fleet.http(0).unwrap();
    let asking = tokio::spawn(async move {
        let mut answers = Vec::new();
        while let Ok(answer) = get(&address, "/books").await {
            assert_eq!(answer.status, 200);
            answers.push(Instant::now());
        }
        answers
    });
    eventually("some counts", WAIT, async || counted(&fleet).await.filter(|n| *n > 100)).await.unwrap();
    // Acknowledged counts survive the control plane, and the others are sent again.
    fleet.control_plane.take().unwrap().kill();
    fleet.start_control_plane().unwrap();
    let before = counted(&fleet).await.unwrap();
    assert!(before > 100);
    eventually("new counts", WAIT, async || counted(&fleet).await.filter(|n| *n > before + 100))
        .await
        .unwrap();
    let ended = Instant::now();
    fleet.nodes[0].kill();
    let killed_at = jiff::Timestamp::now();
    let answers = asking.await.unwrap();
    let mut answered = answers.len() as u64;
    for load in loads {
        let totals = load.stop().await;
        assert!(totals.errors.is_empty(), "{totals:?}");
        answered += totals.sent;
    }
    // All counts of the other node, and those of the killed one except for its last moment.
    let until = killed_at + jiff::SignedDuration::from_secs(1);
    let path = format!("/reports/summary?from=-5m&to={until}");
    let summary = eventually("the report of the time of the kill", WAIT, async || {
        let summary = report(&fleet, &path).await?;
        (summary["nodes"] == json!({ "expected": 3, "reported": 2 })).then_some(summary)
    })
    .await
    .unwrap();
    assert_eq!(summary["complete"], false);
    let stored = counted(&fleet).await.unwrap();
    assert!(stored <= answered, "{stored} counted, {answered} answered");
    let lost = usize::try_from(answered - stored).unwrap();
    let oldest = answers.len().checked_sub(lost).and_then(|first| answers.get(first));
    let age = oldest.map_or(Duration::ZERO, |oldest| ended.saturating_duration_since(*oldest));
    println!("{lost} of {answered} requests died with their node, the oldest {age:?} before the kill");
    // A node promises one second; on a machine that is busy with other tests it may take twice as long.
    assert!(age < Duration::from_secs(2), "{lost} requests lost, the oldest {age:?} before the kill");
}

/// Sends requests for new hosts; the responses have no body.
async fn flood(address: &str, next: &AtomicU64, until: u64) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    loop {
        let n = next.fetch_add(1, Relaxed);
        if n >= until {
            return;
        }
        let request = format!("GET /status/204 HTTP/1.1\r\nHost: h{n}.example\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        answer.clear();
        while !answer.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "closed after {n} requests");
        }
        assert!(answer.starts_with(b"HTTP/1.1 204"), "{}", String::from_utf8_lossy(&answer));
    }
}

/// `WEIR_HOSTS=1000000` sends a million requests.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_hosts_costs_no_memory_and_loses_no_count() {
    let hosts: u64 = std::env::var("WEIR_HOSTS").ok().map_or(20_000, |hosts| hosts.parse().unwrap());
    let fleet = Fleet::start(1, 1).await.unwrap();
    let address = fleet.http(0).unwrap();
    let next = Arc::new(AtomicU64::new(0));
    let memory = || {
        let of = |program: &e2e::Program| program.memory().unwrap() / 1024;
        [of(&fleet.nodes[0]), of(fleet.control_plane.as_ref().unwrap())]
    };
    let send_until = async |until: u64| {
        let mut clients = JoinSet::new();
        for _ in 0..8 {
            let (address, next) = (address.clone(), Arc::clone(&next));
            clients.spawn(async move { flood(&address, &next, until).await });
        }
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        next.store(until, Relaxed);
        eventually("all counts", Duration::from_secs(60), async || {
            counted(&fleet).await.filter(|n| *n >= until)
        })
        .await
        .unwrap()
    };
    let mut over_time = Vec::new();
    for part in 1..=8 {
        let until = hosts * part / 8;
        assert_eq!(send_until(until).await, until, "every request is counted");
        over_time.push(memory());
    }
    println!("{hosts} hosts: KiB of node and control plane after each eighth: {over_time:?}");
    // Memory that programs allocate when traffic starts is not growth.
    for (before, after) in over_time[1].into_iter().zip(over_time[7]) {
        assert!(after < before + 24 * 1024, "{over_time:?}");
    }
    let top = report(&fleet, "/reports/top?by=host&limit=1").await.unwrap();
    assert_eq!(top["requests"], hosts, "also by host, with what shares a name");
    assert_eq!(top["items"][0]["name"], "_other");
    // A node distinguishes a few hundred hosts per minute, however many there are.
    assert!(top["names"].as_u64().unwrap() < hosts / 4, "{top}");
}

/// The families of a `/metrics` page in the text format, with the sum of their samples.
fn families(text: &str) -> std::collections::BTreeMap<String, u64> {
    let mut families = std::collections::BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        *families.entry(name.to_owned()).or_default() += value.parse().unwrap_or(0);
    }
    families
}

/// Checks a page with Prometheus' own checker.
fn promtool(text: &str) {
    use std::{io::Write as _, process};
    let started = process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(process::Stdio::piped())
        .stdout(process::Stdio::piped())
        .stderr(process::Stdio::piped())
        .spawn();
    let mut checking = match started {
        Ok(checking) => checking,
        Err(error) if std::env::var("CI").as_deref() == Ok("true") => panic!("promtool: {error}"),
        Err(error) => return println!("skipped: promtool cannot be run: {error}"),
    };
    checking.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = checking.wait_with_output().unwrap();
    assert!(said.status.success(), "{}\n{text}", String::from_utf8_lossy(&said.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_reports_count_retries_alike_and_no_metric_is_on_both_planes() {
    let mut fleet = Fleet::start(1, 3).await.unwrap();
    let node = fleet.http(0).unwrap();
    let load = Load::start(&node, "/books", 4, PAUSE);
    eventually("traffic", WAIT, async || counted(&fleet).await.filter(|n| *n > 50)).await.unwrap();
    // Its connections break, and then it rejects them: retries that need the budget, and attempts that cost nothing.
    fleet.mocks.drain(..1).for_each(drop);
    eventually("retries", WAIT, async || {
        report(&fleet, "/reports/summary").await?["retries"].as_u64().filter(|n| *n > 0)
    })
    .await
    .unwrap();
    let totals = load.stop().await;
    let status = fleet.nodes[0].address("status").unwrap();
    let of_node = get(&status, "/metrics").await.unwrap().text();
    let metric = families(&of_node);
    let summary = eventually("all counts", WAIT, async || {
        let summary = report(&fleet, "/reports/summary").await?;
        (summary["requests"].as_u64()? >= totals.sent).then_some(summary)
    })
    .await
    .unwrap();
    assert_eq!(summary["retries"], metric["weir_node_pool_retries_total"], "{summary}");
    assert_eq!(summary["requests"], metric["weir_node_requests_total"], "{summary}");
    assert!(metric["weir_node_pool_retries_paid_total"] <= metric["weir_node_pool_retries_total"]);

    let of_control_plane = get(fleet.admin(), "/metrics").await.unwrap().text();
    let both = families(&of_control_plane);
    let both: Vec<&String> = both.keys().filter(|name| metric.contains_key(*name)).collect();
    assert!(both.is_empty(), "on both planes: {both:?}");
    for text in [of_node, of_control_plane] {
        assert!(!text.contains("# EOF"), "the text format has no such line");
        promtool(&text);
    }
}

/// The output of `weir tail` while requests of all kinds are sent.
async fn tail(fleet: &Arc<Fleet>, arguments: &[&str]) -> Vec<Value> {
    let mut all = vec!["--output", "json", "tail"];
    all.extend(arguments);
    let all: Vec<String> = all.into_iter().map(str::to_owned).collect();
    let (watched, done) = (Arc::clone(fleet), Arc::new(AtomicBool::new(false)));
    let ended = Arc::clone(&done);
    let watching = tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = all.iter().map(String::as_str).collect();
        let printed = watched.weir(&arguments);
        ended.store(true, Relaxed);
        printed.unwrap()
    });
    let begun = Instant::now();
    while !done.load(Relaxed) {
        assert!(begun.elapsed() < WAIT, "weir tail {arguments:?} saw too little");
        for node in 0..2 {
            let http = fleet.http(node).unwrap();
            for path in ["/books", "/status/404?a=1", "/status/503", "/slow?ms=120"] {
                get(&http, path).await.unwrap();
            }
            send("POST", &http, "/status/201", "{}").await.unwrap();
        }
    }
    watching.await.unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tail_shows_matching_requests_of_all_nodes() {
    let fleet = Arc::new(Fleet::start(2, 1).await.unwrap());
    // Statuses of 5xx would eject the only backend or be retried.
    let pool = json!({
        "name": "default", "breaker": { "enabled": false }, "retry": { "attempts": 1 },
        "backends": [{ "url": format!("http://{}", fleet.mocks[0].address("listening").unwrap()) }],
    });
    let put = send("PUT", fleet.admin(), "/pools/default", &pool.to_string()).await.unwrap();
    assert_eq!(put.status, 200, "{put:?}");
    let of = |events: &[Value], name: &str| -> Vec<String> {
        let mut values: Vec<String> = events.iter().map(|event| event[name].to_string()).collect();
        values.sort();
        values.dedup();
        values
    };
    let (failed, slow) = tokio::join!(
        tail(&fleet, &["--status", "5xx", "--count", "6"]),
        tail(&fleet, &["--min-latency", "100ms", "--path", "/slow", "--count", "4"])
    );
    assert_eq!((failed.len(), of(&failed, "status")), (6, vec!["503".to_owned()]));
    assert_eq!(of(&failed, "node"), ["\"node-0\"", "\"node-1\""]);
    assert_eq!((slow.len(), of(&slow, "path")), (4, vec!["\"/slow?ms=120\"".to_owned()]));
    assert!(slow.iter().all(|event| event["latency_ms"].as_f64().unwrap() >= 100.0), "{slow:?}");
    let posted =
        tail(&fleet, &["--method", "post", "--client", "127.0.0.0/8", "--route", "default", "--count", "2"])
            .await;
    assert_eq!(of(&posted, "method"), ["\"POST\""]);
    assert_eq!(of(&posted, "status"), ["201"]);
    let missing = tail(&fleet, &["--status", "400-404", "--count", "2"]).await;
    assert_eq!(of(&missing, "path"), ["\"/status/404?a=1\""]);
    let finished = tail(&fleet, &["--outcome", "finished", "--count", "2"]).await;
    assert_eq!(of(&finished, "outcome"), ["\"finished\""]);
    assert_eq!(of(&finished, "kind"), ["\"answer\""]);
    for wrong in [["--status", "6xx"], ["--outcome", "lost"], ["--route", "nowhere"]] {
        assert!(fleet.weir(&["tail", wrong[0], wrong[1]]).is_err(), "{wrong:?}");
    }
    // An unknown name is an error, not a report of zeros.
    let mistyped = fleet.weir(&["report", "hourly", "--route", "defualt"]).unwrap_err();
    assert!(format!("{mistyped:#}").contains("did you mean \"default\"?"), "{mistyped:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_requests_are_counted_by_reason() {
    let mut fleet = Fleet::start(1, 1).await.unwrap();
    let node = fleet.http(0).unwrap();
    let url = format!("http://{}", fleet.mocks[0].address("listening").unwrap());
    let pool = |limits: Value, backends: Value| json!({ "name": "default", "health_check": { "type": "none" }, "limits": limits, "backends": backends });
    let put = async |fleet: &Fleet, path: &str, what: Value| {
        let answer = send("PUT", fleet.admin(), path, &what.to_string()).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        eventually("the node at the new revision", WAIT, async || {
            let status = fleet.status().await.ok()?;
            (status["nodes"][0]["active_revision"] == status["revision"]).then_some(())
        })
        .await
        .unwrap();
    };
    // One request at a time and one waiting: all others are refused because there is no capacity.
    put(
        &fleet,
        "/pools/default",
        pool(json!({ "max_connections": 1, "max_pending": 1 }), json!([{ "url": url }])),
    )
    .await;
    let asked: Vec<_> = (0..6)
        .map(|_| {
            let node = node.clone();
            tokio::spawn(async move { get(&node, "/slow?ms=300").await.unwrap().status })
        })
        .collect();
    let mut full = 0;
    for asked in asked {
        full += u64::from(asked.await.unwrap() == 503);
    }
    assert!(full > 0);
    // No backend accepts connections.
    fleet.mocks.clear();
    let mut no_backend = 0;
    for _ in 0..3 {
        no_backend += u64::from(get(&node, "/books").await.unwrap().status == 503);
    }
    assert_eq!(no_backend, 3);
    // Requests beyond the rate limit reach no backend.
    let route = json!({
        "name": "default", "pool": "default",
        "rate_limit": { "requests": 1, "per": "1h", "burst": 1, "key": "client_ip", "scope": "node" },
    });
    put(&fleet, "/routes/default", route).await;
    let mut limited = 0;
    for _ in 0..4 {
        limited += u64::from(get(&node, "/books").await.unwrap().status == 429);
    }
    assert_eq!(limited, 3);
    let summary = eventually("all counts", WAIT, async || {
        let summary = report(&fleet, "/reports/summary").await?;
        (summary["requests"] == 13).then_some(summary)
    })
    .await
    .unwrap();
    let expected = json!({
        "ip_filter": 0, "method": 0, "auth": 0, "rate_limit": 3, "per_ip_limit": 0, "breaker": 0, "no_room": full, "no_backend": 4,
    });
    assert_eq!(summary["refused"], expected, "{summary}");
    let top = report(&fleet, "/reports/top?by=status&sort=refused").await.unwrap();
    assert_eq!(
        (&top["items"][0]["name"], &top["items"][0]["refused"]["no_room"]),
        (&json!("503"), &json!(full))
    );
    let csv = get(fleet.admin(), "/reports/summary?format=csv").await.unwrap();
    let csv = String::from_utf8(csv.body.to_vec()).unwrap();
    assert!(
        csv.lines().next().unwrap().contains(",refused_no_room,refused_no_backend,cut_by_client,"),
        "{csv}"
    );
    let table = fleet.weir(&["report", "summary"]).unwrap();
    assert!(table.contains("no backend: 4") && table.contains(&format!("no room: {full}")), "{table}");
}
