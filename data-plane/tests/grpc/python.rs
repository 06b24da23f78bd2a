//! A grpcio server, whose core is shared by most languages' gRPC libraries. `WEIR_PYTHON` names an interpreter with
//! grpcio. Without one these tests are skipped, and fail if `CI` is set.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use weir_snapshot::Config;

use crate::{
    ends::{Client, config_of, request},
    support::{
        wire::{Kind, Wire},
        within,
    },
};

struct Server {
    child: Child,
    config: Config,
}

impl Server {
    /// Starts a server whose connections live for `age_ms` (0: forever) and that closes a connection after more than
    /// `strikes` early PINGs. `None` if grpcio is not installed.
    fn start(age_ms: u32, strikes: u32) -> Option<Self> {
        let python = std::env::var_os("WEIR_PYTHON").unwrap_or_else(|| "python3".into());
        let imports = Command::new(&python).args(["-c", "import grpc"]).stderr(Stdio::null()).status();
        let there = imports.is_ok_and(|status| status.success());
        assert!(there || std::env::var_os("CI").is_none(), "no Python with grpcio (pip install grpcio)");
        if !there {
            println!("skipped: no Python with grpcio (pip install grpcio, or WEIR_PYTHON)");
            return None;
        }
        let mut child = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/grpc/peer.py"))
            .args([age_ms.to_string(), strikes.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = format!("127.0.0.1:{}", line.trim()).parse().unwrap();
        Some(Self { child, config: config_of(address) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_server_that_closes_connections_by_age_fails_no_call_beside_a_streaming_one() {
    let Some(server) = Server::start(200, 2) else { return };
    let wire = Wire::start(server.config.clone()).await;
    let client = Client::connect(&wire, Kind::H2c).await;
    let mut ticks = within(client.server_streaming("Ticks", request("tick", &[]))).await.unwrap();
    assert_eq!(within(ticks.message()).await.unwrap().unwrap(), "tick");
    // Its connection gets a GOAWAY soon, and so does each later one.
    let (begun, mut calls) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_millis(1500) {
        let answer = within(client.unary("Unary", request(format!("{calls}"), &[]))).await;
        assert_eq!(answer.unwrap().get_ref(), format!("{calls}").as_bytes(), "call {calls}");
        calls += 1;
    }
    println!("{calls} calls");
    assert_eq!(within(ticks.message()).await.unwrap().unwrap(), "tick");
    let metrics = wire.node.ask("/metrics").await.body;
    let of_backend = "weir_node_pool_attempts_failed_total{pool=\"default\",owner=\"backend\"} 0";
    assert!(metrics.contains(of_backend), "{metrics}");
}

#[tokio::test]
async fn a_quiet_call_is_not_ended_for_its_pings() {
    // A single early PING closes the connection.
    let Some(server) = Server::start(0, 1) else { return };
    let wire = Wire::start(server.config.clone()).await;
    let client = Client::connect(&wire, Kind::H2c).await;
    let mut quiet = within(client.server_streaming("Quiet", request("2.5", &[]))).await.unwrap();
    for _ in 0..2 {
        assert_eq!(within(quiet.message()).await.unwrap().unwrap(), "2.5");
    }
    assert!(within(quiet.message()).await.unwrap().is_none());
}
