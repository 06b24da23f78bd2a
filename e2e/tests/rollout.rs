//! A revision that one node rejects, a node that starts without the control plane, and a node that is cut off.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use e2e::{Fleet, Load, Program, eventually, get, send};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use weir_proto::{
    FORMAT,
    v1::{
        self, admin_client::AdminClient, nodes_client::NodesClient, subscribe_request::Message as Say,
        subscribe_response::Message as Told,
    },
};

const LONG: Duration = Duration::from_secs(30);

/// A simulated node that rejects one revision and accepts all others.
#[derive(Default)]
struct Picky {
    refuses: AtomicU64,
    /// How often each revision was received.
    came: Mutex<BTreeMap<u64, u32>>,
    runs: Mutex<(u64, String)>,
}

impl Picky {
    fn start(control_plane: &str) -> (Arc<Self>, tokio::task::JoinHandle<()>) {
        let this = Arc::<Self>::default();
        let (own, url) = (Arc::clone(&this), format!("http://{control_plane}"));
        let task = tokio::spawn(async move {
            loop {
                let _ = own.stream(url.clone()).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        (this, task)
    }

    async fn stream(&self, url: String) -> anyhow::Result<()> {
        let (say, requests) = tokio::sync::mpsc::channel(8);
        let (active_revision, active_hash) = self.runs.lock().unwrap().clone();
        let hello = v1::Hello {
            node_id: "picky".into(),
            boot_id: "picky-boot".into(),
            format: FORMAT,
            active_revision,
            active_hash,
            ..v1::Hello::default()
        };
        say.send(v1::SubscribeRequest { message: Some(Say::Hello(hello)) }).await?;
        let mut client = NodesClient::connect(url).await?;
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        let mut stream = client.subscribe(requests).await?.into_inner();
        while let Some(message) = stream.message().await? {
            let (revision, hash) = match message.message {
                Some(Told::Snapshot(snapshot)) => (snapshot.revision, snapshot.hash),
                Some(Told::Delta(delta)) => (delta.revision, delta.hash),
                _ => continue,
            };
            *self.came.lock().unwrap().entry(revision).or_default() += 1;
            let answer = if revision == self.refuses.load(Relaxed) {
                let problem =
                    v1::Problem { path: "pools[0].strategy".into(), message: "not accepted".into() };
                Say::Rejection(v1::Rejection { revision, problems: vec![problem] })
            } else {
                *self.runs.lock().unwrap() = (revision, hash.clone());
                Say::Ack(v1::Ack { revision, hash })
            };
            say.send(v1::SubscribeRequest { message: Some(answer) }).await?;
        }
        Ok(())
    }
}

async fn node(fleet: &Fleet, id: &str) -> Option<Value> {
    let nodes = get(fleet.admin(), "/nodes").await.ok()?.json().ok()?;
    nodes["items"].as_array()?.iter().find(|node| node["id"] == id).cloned()
}

async fn node_is(fleet: &Fleet, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let found =
        eventually(what, Duration::from_secs(90), async || node(fleet, id).await.filter(|node| wanted(node)));
    found.await.unwrap()
}

async fn revision(fleet: &Fleet) -> u64 {
    fleet.status().await.unwrap()["revision"].as_u64().unwrap()
}

fn write_config(fleet: &Fleet, change: impl FnOnce(String) -> String) -> (String, String) {
    let text = change(fleet.weir(&["export"]).unwrap());
    let file = fleet.database().with_file_name("next.yaml");
    std::fs::write(&file, &text).unwrap();
    (text, file.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_names_the_node_that_rejects_it_and_a_rollback_heals() {
    let fleet = Fleet::start(2, 2).await.unwrap();
    let (picky, task) = Picky::start(fleet.nodes_address());
    node_is(&fleet, "picky", "the node's first revision", |node| node["state"] == "active").await;
    let good = revision(&fleet).await;
    let loads: Vec<Load> =
        (0..2).map(|n| Load::start(&fleet.http(n).unwrap(), "/books", 2, Duration::from_millis(5))).collect();

    // With the command line.
    picky.refuses.store(good + 1, Relaxed);
    let (_, file) = write_config(&fleet, |text| text.replace("round_robin", "random"));
    let said =
        fleet.weir(&["apply", "-f", &file, "--wait", "20s"]).expect_err("a refused revision").to_string();
    assert!(said.contains("picky") && said.contains("pools[0].strategy"), "{said}");
    for id in ["node-0", "node-1"] {
        node_is(&fleet, id, "the others' new revision", |node| node["active_revision"] == good + 1).await;
    }
    let table = fleet.weir(&["nodes"]).unwrap();
    let line = table.lines().find(|line| line.starts_with("picky")).unwrap();
    assert!(line.contains("rejected") && table.contains("not accepted"), "{table}");

    // With REST.
    picky.refuses.store(good + 2, Relaxed);
    let (text, _) =
        write_config(&fleet, |text| text.replace("strategy: random", "strategy: least_connections"));
    let answer = send("PUT", fleet.admin(), "/config?wait=20s", &text).await.unwrap();
    assert_eq!(answer.status, 504, "{answer:?}");
    assert!(
        answer.json().unwrap()["detail"].as_str().unwrap().contains("picky: pools[0].strategy"),
        "{answer:?}"
    );

    // With gRPC.
    picky.refuses.store(good + 3, Relaxed);
    let config_yaml = text.replace("least_connections", "power_of_two");
    let mut admin = AdminClient::connect(format!("http://{}", fleet.admin())).await.unwrap();
    let wait = Duration::from_secs(20).try_into().ok();
    let request = v1::ApplyConfigRequest { config_yaml, wait, ..Default::default() };
    let status = admin.apply_config(request).await.unwrap_err();
    assert!(status.message().contains("picky: pools[0].strategy"), "{status:?}");

    fleet.weir(&["rollback", &good.to_string()]).unwrap();
    let healed = |node: &Value| node["active_revision"] == good + 4 && node["state"] == "active";
    for id in ["picky", "node-0", "node-1"] {
        let node = node_is(&fleet, id, "the revision that heals", healed).await;
        assert_eq!(node["rejected_revision"], 0, "{node}");
    }
    task.abort();
    let came = picky.came.lock().unwrap().clone();
    assert!((good + 1..=good + 4).all(|revision| came[&revision] == 1), "each once: {came:?}");
    for load in loads {
        let totals = load.stop().await;
        assert!(totals.errors.is_empty() && totals.count(200) == totals.sent, "{totals:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_revision_is_not_sent_again_on_a_new_stream() {
    let mut fleet = Fleet::start(0, 1).await.unwrap();
    let (picky, _task) = Picky::start(fleet.nodes_address());
    node_is(&fleet, "picky", "the node's first revision", |node| node["state"] == "active").await;
    let refused = revision(&fleet).await + 1;
    picky.refuses.store(refused, Relaxed);
    fleet.weir(&["strategy", "default", "random"]).unwrap();
    node_is(&fleet, "picky", "a refusal", |node| node["state"] == "rejected").await;
    // A second stream of the same process ends the first, as a network failure does. The rejection is remembered.
    let hello = v1::Hello {
        node_id: "picky".into(),
        boot_id: "picky-boot".into(),
        format: FORMAT,
        active_revision: refused - 1,
        active_hash: picky.runs.lock().unwrap().1.clone(),
        ..v1::Hello::default()
    };
    let (say, requests) = tokio::sync::mpsc::channel(8);
    say.send(v1::SubscribeRequest { message: Some(Say::Hello(hello)) }).await.unwrap();
    let mut client = NodesClient::connect(format!("http://{}", fleet.nodes_address())).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let _stream = client.subscribe(requests).await.unwrap();
    fleet.weir(&["strategy", "default", "least_connections"]).unwrap();
    node_is(&fleet, "picky", "the next revision", |node| node["connected"] == true).await;
    eventually("the revision after it", LONG, async || {
        picky.came.lock().unwrap().contains_key(&(refused + 1)).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(picky.came.lock().unwrap()[&refused], 1);
    drop(fleet.control_plane.take());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_without_the_control_plane_serves_its_kept_state() {
    let mut fleet = Fleet::start(0, 2).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("node");
    let kept = kept.to_str().unwrap();
    let arguments = ["--state-dir", kept, "--label", "zone=west", "--label", "tier=edge"];
    fleet.add_node(&arguments).unwrap();
    fleet.ready(0).await.unwrap();
    let shown = node_is(&fleet, "node-0", "a node", |node| node["state"] == "active").await;
    assert_eq!(shown["labels"], json!({ "tier": "edge", "zone": "west" }));
    assert!(fleet.weir(&["nodes"]).unwrap().contains("tier=edge,zone=west"));
    let file = folder.path().join("node/node-state");
    eventually("the kept state", LONG, async || file.exists().then_some(())).await.unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    drop(fleet.control_plane.take());
    fleet.nodes[0].kill();
    let begun = Instant::now();
    fleet.add_node(&arguments).unwrap();
    let http = fleet.http(1).unwrap();
    eventually("a served request", LONG, async || {
        get(&http, "/books").await.ok().filter(|answer| answer.status == 200).map(drop)
    })
    .await
    .unwrap();
    println!("served {:?} after its start, without a control plane", begun.elapsed());
    assert_eq!(get(&fleet.nodes[1].address("status").unwrap(), "/readyz").await.unwrap().status, 200);

    fleet.start_control_plane().unwrap();
    fleet.weir(&["strategy", "default", "random"]).unwrap();
    node_is(&fleet, "node-1", "the newest revision", |node| node["state"] == "active").await;
    assert_eq!(get(&http, "/books").await.unwrap().status, 200);

    // A damaged file is reported and not changed; the node waits for the control plane and then serves.
    fleet.nodes[1].kill();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    drop(fleet.control_plane.take());
    fleet.add_node(&arguments).unwrap();
    eventually("a log message about it", LONG, async || {
        fleet.nodes[2].log().contains("kept state ignored").then_some(())
    })
    .await
    .unwrap();
    assert_eq!(get(&fleet.nodes[2].address("status").unwrap(), "/readyz").await.unwrap().status, 503);
    fleet.start_control_plane().unwrap();
    fleet.ready(2).await.unwrap();
}

#[tokio::test]
async fn invalid_state_folders_and_labels_are_rejected_by_name() {
    for (arguments, says) in [
        (&["--state-dir", "/proc/nowhere"][..], "--state-dir /proc/nowhere"),
        (&["--label", "zone"], "name=value"),
        (&["--label", "a b=c"], "not a label's name"),
        (&["--label", "a=1", "--label", "a=2"], "--label a is given twice"),
    ] {
        let mut all = vec!["--http", "127.0.0.1:0", "--status", "127.0.0.1:0"];
        all.extend(arguments);
        let mut process = Program::start("data-plane", &all).unwrap();
        assert!(!process.ended(LONG).await.unwrap(), "{arguments:?}");
        eventually("a message", LONG, async || process.log().contains(says).then_some(())).await.unwrap();
    }
}

/// A network between a node and the control plane that can be cut: then nothing passes, and neither side is notified.
struct Wire {
    address: String,
    is_cut: Arc<AtomicBool>,
}

impl Wire {
    async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let is_cut = Arc::<AtomicBool>::default();
        let (cut, target) = (Arc::clone(&is_cut), target.to_owned());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&target).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(carry(near_in, far_out, Arc::clone(&cut)));
                tokio::spawn(carry(far_in, near_out, Arc::clone(&cut)));
            }
        });
        Self { address, is_cut }
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_cut: Arc<AtomicBool>) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(count) = from.read(&mut bytes).await {
        // Data that arrives while the wire is cut is lost, including the end of a connection, so the connection
        // cannot be used again.
        let mut was_cut = false;
        while is_cut.load(Relaxed) {
            was_cut = true;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if was_cut || count == 0 || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_keeps_serving_and_its_counts_arrive_once() {
    let mut fleet = Fleet::start(1, 2).await.unwrap();
    let wire = Wire::to(fleet.nodes_address()).await;
    fleet.add_node_by(&wire.address, &[]).unwrap();
    fleet.ready(1).await.unwrap();
    let load = Load::start(&fleet.http(1).unwrap(), "/books", 4, Duration::from_millis(5));
    let counted = async |fleet: &Fleet| {
        let report = get(fleet.admin(), "/reports/summary").await.ok()?.json().ok()?;
        report["requests"].as_u64()
    };
    eventually("a first report", LONG, async || counted(&fleet).await.filter(|count| *count > 0))
        .await
        .unwrap();

    wire.is_cut.store(true, Relaxed);
    // Neither side is notified: each detects the cut by the other's silence.
    node_is(&fleet, "node-1", "its disconnection", |node| node["connected"] == false).await;
    fleet.weir(&["strategy", "default", "random"]).unwrap();
    let newest = revision(&fleet).await;
    node_is(&fleet, "node-0", "the other's new revision", |node| node["active_revision"] == newest).await;
    let shown = node(&fleet, "node-1").await.unwrap();
    assert_eq!((&shown["state"], &shown["lag_revisions"]), (&json!("away"), &json!(1)), "{shown}");
    let before = counted(&fleet).await.unwrap();
    for _ in 0..20 {
        assert_eq!(get(&fleet.http(1).unwrap(), "/books").await.unwrap().status, 200);
    }

    wire.is_cut.store(false, Relaxed);
    node_is(&fleet, "node-1", "its return", |node| node["state"] == "active").await;
    let totals = load.stop().await;
    assert!(totals.errors.is_empty() && totals.count(200) == totals.sent, "{totals:?}");
    let sent = totals.sent + 20;
    assert!(before < sent, "what was served meanwhile was not yet known");
    eventually("the whole count", Duration::from_secs(60), async || {
        counted(&fleet).await.filter(|count| *count >= sent)
    })
    .await
    .unwrap();
    // A batch that was counted twice would be visible by now.
    assert_eq!(counted(&fleet).await, Some(sent));
    let status = get(fleet.admin(), "/reports/summary").await.unwrap().json().unwrap()["status"].clone();
    assert_eq!(status, json!({ "200": sent }));
}
