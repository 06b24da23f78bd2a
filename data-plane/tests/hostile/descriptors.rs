//! A node without free file descriptors.

use std::{fs, process::Command, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    backend::Backend,
    stage::{Stage, gauge},
};
use crate::support::DEADLINE;

/// More connections than the node has file descriptors for.
const LIMIT: usize = 64;
const CLIENTS: usize = 60;

/// CPU time of a process so far, in kernel ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(") ").unwrap().1;
    after_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// The program with a low limit on file descriptors.
fn limited() -> Command {
    limited_to(LIMIT)
}

fn limited_to(limit: usize) -> Command {
    let mut shell = Command::new("sh");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WEIR_")) {
        shell.env_remove(name);
    }
    let script = format!("ulimit -n {limit}; exec \"$@\"");
    shell.env("NO_COLOR", "1").args(["-c", &script, "sh", env!("CARGO_BIN_EXE_data-plane")]);
    shell
}

#[tokio::test]
async fn a_node_without_descriptors_pauses_and_serves_again_when_there_are_some() {
    let backend = Backend::start().await;
    let stage = Stage::by(limited(), backend.address, &[]).await;
    for round in 0..2 {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            // The kernel queues connections that are not accepted.
            let mut client = stage.client().await;
            client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            clients.push(client);
        }
        let exhausted = async {
            while !stage.node.log().contains("accepting paused") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, exhausted).await.unwrap_or_else(|_| panic!("no pause in round {round}"));

        // Waiting connections are closed at their timeout, the queue moves up, and each gets a response.
        let (begun, before) = (std::time::Instant::now(), ticks(stage.node.pid()));
        for mut client in clients {
            let mut said = Vec::new();
            let _ = timeout(DEADLINE, client.read_to_end(&mut said)).await.expect("an end in time");
            assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 408 "), "{}", said.escape_ascii());
        }
        let spent = Duration::from_millis(10 * (ticks(stage.node.pid()) - before));
        assert!(spent < begun.elapsed() / 4, "{spent:?} of CPU in {:?}", begun.elapsed());
        stage.at_rest().await;
    }
}

#[tokio::test]
async fn a_client_is_served_on_what_is_open_while_the_descriptors_are_exhausted() {
    let backend = Backend::start().await;
    let stage = Stage::by(limited(), backend.address, &[]).await;
    let mut served = stage.client().await;
    let mut exchange = async || {
        served.write_all(b"GET /length HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"\r\n\r\nhello") {
            said.push(timeout(DEADLINE, served.read_u8()).await.unwrap().unwrap());
        }
        assert!(said.starts_with(b"HTTP/1.1 200 "), "{}", said.escape_ascii());
    };
    exchange().await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(stage.client().await);
    }
    let mut pauses = 0;
    while pauses == 0 || clients.len() < CLIENTS {
        exchange().await;
        pauses = stage.node.log().matches("accepting paused").count();
    }
    for _ in 0..20 {
        exchange().await;
    }
    drop(clients);
    let only_one = |metrics: &str| gauge(metrics, "weir_node_connections") <= 1;
    stage.node.ask_until("/metrics", |answer| only_one(&answer.body)).await;
    exchange().await;
    drop(served);
    stage.at_rest().await;
}

/// Sets the node's limit on file descriptors; returns the previous one.
fn limit(node: u32, most: u64) -> u64 {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let before = rustix::process::getrlimit(Resource::Nofile);
    let new = Rlimit { current: Some(most), maximum: before.maximum };
    let pid = Pid::from_raw(i32::try_from(node).unwrap());
    prlimit(pid, Resource::Nofile, new).unwrap().current.unwrap()
}

#[tokio::test]
async fn a_node_that_cannot_connect_holds_nothing_against_its_backend() {
    let backend = Backend::start().await;
    let stage = Stage::new(backend.address).await;
    let mut client = stage.client().await;
    let ask = async |client: &mut tokio::net::TcpStream| {
        client.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut said = String::new();
        while !said.contains("}\n") && !said.ends_with("hello") {
            let mut piece = [0; 1024];
            let read = timeout(DEADLINE, client.read(&mut piece)).await.unwrap().unwrap();
            assert!(read > 0, "{said}");
            said.push_str(std::str::from_utf8(&piece[..read]).unwrap());
        }
        said
    };
    // The node has accepted the client's connection and has none to the backend.
    let open = |answer: &crate::support::node::Answer| gauge(&answer.body, "weir_node_connections") == 1;
    stage.node.ask_until("/metrics", open).await;
    let node = stage.node.pid();
    // The standard streams; the node keeps its other descriptors and gets no new ones.
    let before = limit(node, 3);
    for _ in 0..10 {
        let said = ask(&mut client).await;
        assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
        assert!(said.contains("this node cannot open another connection"), "{said}");
    }
    limit(node, before);
    let said = ask(&mut client).await;
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    let metrics = stage.node.ask("/metrics").await.body;
    assert_eq!(gauge(&metrics, "weir_node_backend_ejections_total"), 0);
    let own = "weir_node_pool_attempts_failed_total{pool=\"default\",owner=\"node\"} 10";
    assert!(metrics.contains(own), "{metrics}");
    drop(client);
    stage.at_rest().await;
}

#[tokio::test]
async fn idle_clients_use_up_neither_the_backends_descriptors_nor_those_of_the_status_port() {
    let backend = Backend::start().await;
    // Clients keep their connections longer than the test takes, unless they make room.
    let stage = Stage::patient(limited_to(200), backend.address).await;
    let mut idle = Vec::new();
    for i in 0..400 {
        idle.push(stage.client().await);
        if i % 100 == 99 {
            assert_eq!(stage.node.ask("/healthz").await.status, 200, "{i}");
            assert_eq!(stage.node.get("/length").await.status, 200, "{i}");
        }
    }
    let metrics = stage.node.ask("/metrics").await.body;
    let most = gauge(&metrics, "weir_node_connections_max");
    assert!((32..=90).contains(&most) && gauge(&metrics, "weir_node_connections") <= most, "{metrics}");
    assert!(gauge(&metrics, "weir_node_connections_closed_for_room_total") > 0, "{metrics}");
    for _ in 0..20 {
        assert_eq!(stage.node.get("/length").await.status, 200);
    }
    assert!(!stage.node.log().contains("breaker open"), "{}", stage.node.log());
    drop(idle);
    stage.at_rest().await;
}

#[tokio::test]
async fn clients_that_hold_requests_leave_descriptors_for_their_backends_and_the_status_port() {
    let backend = Backend::start().await;
    let stage = Stage::patient(limited_to(200), backend.address).await;
    let mut clients = Vec::new();
    for _ in 0..200 {
        let mut client = stage.client().await;
        client.write_all(b"GET /chunked/trickle HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        clients.push(client);
    }
    let full = stage.node.ask_until("/metrics", |answer| {
        gauge(&answer.body, "weir_node_connections") == gauge(&answer.body, "weir_node_connections_max")
    });
    full.await;
    let most = gauge(&stage.node.ask("/metrics").await.body, "weir_node_connections_max");
    // Each accepted client gets its response.
    for client in clients.iter_mut().take(usize::try_from(most).unwrap()) {
        let mut said = [0; 12];
        timeout(DEADLINE, client.read_exact(&mut said)).await.unwrap().unwrap();
        assert_eq!(&said, b"HTTP/1.1 200");
    }
    assert_eq!(stage.node.ask("/healthz").await.status, 200);
    assert!(!stage.node.log().contains("breaker open"), "{}", stage.node.log());
    drop(clients);
    stage.at_rest().await;
}

#[tokio::test]
async fn clients_that_hold_the_status_port_do_not_keep_probes_from_it() {
    let backend = Backend::start().await;
    let stage = Stage::by(limited_to(200), backend.address, &[]).await;
    // More than the status port's share, which is 12 of 200.
    let mut held = Vec::new();
    for says in
        ["", "GET /healthz HTTP/1.1\r\nHost: a\r\n", "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"]
    {
        for i in 0..30 {
            let mut client = tokio::net::TcpStream::connect(stage.node.status).await.unwrap();
            client.write_all(says.as_bytes()).await.unwrap();
            held.push(client);
            if i % 10 == 9 {
                // Long before any of their timeouts.
                let answer = timeout(Duration::from_secs(8), stage.node.ask("/healthz")).await;
                assert_eq!(answer.expect("an answer in time").status, 200, "{says:?} {i}");
            }
        }
    }
    assert_eq!(stage.node.get("/length").await.status, 200);
    drop(held);
}
