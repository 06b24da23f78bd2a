//! A live view that does not keep up loses events, gets the number of lost events, and costs no memory.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use e2e::{Fleet, Load, eventually, get, path};
use tonic::{Streaming, transport::Endpoint};
use weir_proto::v1::{TailRequest, TailResponse, reports_client::ReportsClient};

const WAIT: Duration = Duration::from_secs(30);
/// Path of the first requests.
const PATH: &str = "/status/204";
/// Path of the requests during the flood.
const FLOOD: &str = "/status/204?flood";

/// Value of a metric without labels.
async fn metric(address: &str, name: &str) -> u64 {
    let text = get(address, "/metrics").await.unwrap().text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

/// `weir tail`, whose output is not read at first.
struct Printing {
    program: Child,
    lines: Option<BufReader<ChildStdout>>,
}

impl Drop for Printing {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

impl Printing {
    fn start(admin: &str) -> Self {
        let mut program = Command::new(path("weir").unwrap())
            .args(["--admin", &format!("http://{admin}"), "--output", "json", "tail", "--path", PATH])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = program.stdout.take().map(BufReader::new);
        Self { program, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.as_mut().unwrap().read_line(&mut line).unwrap();
        line
    }

    /// Reads until all requests were shown or reported as lost; returns how many were shown.
    fn read(mut self, all: u64) -> u64 {
        let (send, seen) = mpsc::channel();
        let (shown, left_out) = (send.clone(), send);
        let errors = BufReader::new(self.program.stderr.take().unwrap());
        let mut lines = self.lines.take().unwrap();
        std::thread::spawn(move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
                if line.contains("flood") && shown.send((1, 0)).is_err() {
                    return;
                }
                line.clear();
            }
        });
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                let number = line.split_once(" requests are not shown").map(|(number, _)| number.parse());
                let Some(Ok(number)) = number else { panic!("weir tail says {line:?}") };
                let _ = left_out.send((0, number));
            }
        });
        let (mut shown, mut left_out) = (0, 0);
        while shown + left_out < all {
            let (one, more) = seen.recv_timeout(WAIT).unwrap_or_else(|_| {
                panic!("of {all} requests {shown} were shown and {left_out} said to be left out")
            });
            shown += one;
            left_out += more;
        }
        assert_eq!(shown + left_out, all, "{shown} shown, {left_out} left out");
        shown
    }
}

/// Like [`Printing::read`], over gRPC.
async fn read(mut stream: Streaming<TailResponse>, all: u64) -> u64 {
    let (mut shown, mut left_out) = (0, 0);
    while shown + left_out < all {
        let next = tokio::time::timeout(WAIT, stream.message()).await;
        let next =
            next.unwrap_or_else(|_| panic!("of {all} requests {shown} were shown, {left_out} left out"));
        let TailResponse { events, dropped } = next.unwrap().unwrap();
        shown += events.iter().filter(|event| event.path == FLOOD).count() as u64;
        left_out += dropped;
    }
    assert_eq!(shown + left_out, all, "{shown} shown, {left_out} left out");
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_tail_reports_the_number_of_lost_requests_and_costs_no_memory() {
    let fleet = Fleet::start(1, 1).await.unwrap();
    let node = fleet.http(0).unwrap();
    let mut printing = Printing::start(fleet.admin());
    let admin = Endpoint::from_shared(format!("http://{}", fleet.admin())).unwrap();
    let mut reports = ReportsClient::new(admin.connect().await.unwrap());
    let asked = TailRequest { path_prefix: PATH.into(), ..TailRequest::default() };
    let mut stream = reports.tail(asked).await.unwrap().into_inner();
    // Once both have seen a request, both get all later ones.
    let asking = tokio::spawn({
        let node = node.clone();
        async move {
            loop {
                get(&node, PATH).await.unwrap();
            }
        }
    });
    let printing = tokio::task::spawn_blocking(move || {
        assert!(printing.line().contains(PATH));
        printing
    });
    let printing = tokio::time::timeout(WAIT, printing).await.unwrap().unwrap();
    let first = tokio::time::timeout(WAIT, stream.message()).await.unwrap().unwrap().unwrap();
    assert!(first.events.iter().all(|event| event.path == PATH), "{first:?}");
    asking.abort();
    assert_eq!(metric(fleet.admin(), "weir_tail_watchers").await, 2);
    assert_eq!(metric(fleet.admin(), "weir_tail_dropped_total").await, 0);

    let load = Load::start(&node, FLOOD, 8, Duration::ZERO);
    let dropped = async |more: u64| {
        eventually("requests that are left out", Duration::from_secs(60), async || {
            Some(metric(fleet.admin(), "weir_tail_dropped_total").await).filter(|dropped| *dropped >= more)
        })
        .await
        .unwrap()
    };
    let memory = || {
        let of = |program: &e2e::Program| program.memory().unwrap() / 1024;
        [of(&fleet.nodes[0]), of(fleet.control_plane.as_ref().unwrap())]
    };
    // Two full live views lose each request.
    dropped(5_000).await;
    let before = memory();
    let so_many = dropped(15_000).await;
    let after = memory();
    println!("{so_many} left out: KiB of node and control plane at 5000 {before:?}, now {after:?}");
    for (before, after) in before.into_iter().zip(after) {
        assert!(after < before + 8 * 1024, "{before} KiB became {after} KiB");
    }
    let totals = load.stop().await;
    assert!(totals.errors.is_empty() && totals.count(204) == totals.sent, "{totals:?}");

    // Each request was either shown to or reported as lost by each live view.
    let by_hand = tokio::task::spawn_blocking(move || printing.read(totals.sent));
    let (printed, streamed) = tokio::join!(by_hand, read(stream, totals.sent));
    println!("of {} requests, weir tail printed {}, gRPC gave {streamed}", totals.sent, printed.unwrap());
    let left_out = metric(fleet.admin(), "weir_tail_dropped_total").await;
    let by_node = metric(&fleet.nodes[0].address("status").unwrap(), "weir_node_tail_dropped_total").await;
    println!("{left_out} left out, of these {by_node} by the node");
    assert!(left_out >= 15_000 && by_node <= left_out);
    // All requests are nevertheless in the report.
    eventually("all counts", WAIT, async || {
        let summary = get(fleet.admin(), "/reports/summary").await.ok()?.json().ok()?;
        (summary["requests"].as_u64()? > totals.sent).then_some(())
    })
    .await
    .unwrap();
    eventually("no live view", WAIT, async || {
        (metric(fleet.admin(), "weir_tail_watchers").await == 0).then_some(())
    })
    .await
    .unwrap();
}
