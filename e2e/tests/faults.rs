//! Random faults in a whole fleet with the real programs: control plane, nodes and backends are killed, stopped and
//! restarted, and callers hang up, while clients send requests and operators change the configuration.
//!
//! Runs for 60 s with `CI=true`, otherwise for 15 s. `WEIR_FAULTS_SECONDS` sets the duration, `WEIR_FAULTS_SEED`
//! repeats a run's choices.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use e2e::{Fleet, Load, Totals, eventually, get, mock, send};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Time for all nodes to get the newest revision after the last fault.
const CATCH_UP: Duration = Duration::from_secs(10);

/// Clients per node; each pauses between its requests.
const CLIENTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(2);

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// A backend for requests that must not be repeated. It reads each request and then responds, closes or resets the
/// connection.
struct Once {
    url: String,
    seen: Arc<Mutex<HashMap<String, u32>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Once {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Once {
    async fn start(seen: Arc<Mutex<HashMap<String, u32>>>, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let book = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed);
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Self::serve(stream, Arc::clone(&book), random.fork()));
            }
        });
        Self { url, seen, task }
    }

    async fn serve(mut stream: TcpStream, seen: Arc<Mutex<HashMap<String, u32>>>, mut random: fastrand::Rng) {
        let mut input = Vec::new();
        loop {
            while let Some(end) = input.windows(4).position(|part| part == b"\r\n\r\n") {
                let head = String::from_utf8(input.drain(..end + 4).collect()).unwrap();
                let path = head.split(' ').nth(1).unwrap().to_owned();
                *seen.lock().unwrap().entry(path).or_default() += 1;
                match random.u8(0..10) {
                    0 => return,
                    1 => {
                        stream.set_zero_linger().unwrap();
                        return;
                    }
                    2 => tokio::time::sleep(Duration::from_millis(random.u64(0..40))).await,
                    _ => {}
                }
                let status = if random.u8(0..10) == 0 { "503 Service Unavailable" } else { "201 Created" };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
            if stream.read_buf(&mut input).await.unwrap_or(0) == 0 {
                return;
            }
        }
    }
}

/// The operators' expectation: for each route, the values of which one must be current.
#[derive(Default)]
struct Model {
    routes: BTreeMap<String, Vec<Option<String>>>,
    acknowledged: u64,
}

/// A route with this value, for a host without traffic.
fn route(name: &str, value: &str) -> Value {
    json!({
        "match": { "hosts": [format!("{name}.example")] },
        "pool": "default",
        "request_headers": { "set": { "x-value": value } },
    })
}

/// Changes its own routes one after the other. Acknowledged changes must hold; others may hold.
async fn operate(admin: String, operator: usize, seed: u64, stop: Arc<AtomicBool>) -> Model {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut model = Model::default();
    let mut number = 0;
    while !stop.load(Relaxed) {
        let name = format!("op{operator}-{}", random.usize(0..3));
        let may_be = model.routes.entry(name.clone()).or_insert_with(|| vec![None]);
        number += 1;
        let (method, body, value) = if random.u8(0..4) == 0 {
            ("DELETE", String::new(), None)
        } else {
            let value = format!("{operator}-{number}");
            ("PUT", route(&name, &value).to_string(), Some(value))
        };
        let deadline = Duration::from_secs(20);
        let sent =
            tokio::time::timeout(deadline, send(method, &admin, &format!("/routes/{name}"), &body)).await;
        match sent {
            Ok(Ok(answer)) if answer.status < 300 => {
                *may_be = vec![value];
                model.acknowledged += 1;
            }
            // The route did not exist, and still does not.
            Ok(Ok(answer)) if answer.status == 404 && method == "DELETE" => *may_be = vec![None],
            Ok(Ok(answer)) => panic!("{method} {name}: {answer:?}"),
            // The control plane is away, or was killed during the call.
            Ok(Err(_)) => {
                may_be.push(value);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(_) => panic!("{method} {name}: no response within {deadline:?}"),
        }
    }
    model
}

/// Sends a change and closes the connection a moment later, whatever its outcome.
async fn hang_up(admin: &str, number: u64, random: &mut fastrand::Rng) {
    let name = format!("gone-{}", number % 4);
    let body = route(&name, &number.to_string()).to_string();
    let request = format!(
        "PUT /routes/{name} HTTP/1.1\r\nHost: {admin}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // The control plane may be down.
    let Ok(mut stream) = TcpStream::connect(admin).await else { return };
    let _ = stream.write_all(request.as_bytes()).await;
    tokio::time::sleep(Duration::from_micros(random.u64(0..8_000))).await;
}

/// Sends POSTs, each with its own path.
async fn post(address: String, next: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> u64 {
    let mut sent = 0;
    while !stop.load(Relaxed) {
        let path = format!("/once/{}", next.fetch_add(1, Relaxed));
        // A failure is fine: only the number of times that backends see the request matters.
        let _ = send("POST", &address, &path, "").await;
        sent += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sent
}

/// Everything that one run starts.
struct World {
    fleet: Fleet,
    random: fastrand::Rng,
    /// Logs of programs that have ended.
    logs: Vec<String>,
    /// The load on the node that is killed now and then, and its start.
    fragile: Option<(Load, Instant)>,
    /// Requests sent to killed nodes, and how many of them may be missing in the report.
    killed: Vec<(Totals, u64)>,
    hung_up: u64,
    faults: BTreeMap<&'static str, u32>,
}

impl World {
    async fn start_control_plane(&mut self) {
        // The previous control plane's ports may be in use for another moment.
        let begun = Instant::now();
        while let Err(error) = self.fleet.start_control_plane() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the control plane does not start: {error:#}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn load(&mut self) {
        let node = self.fleet.nodes.len() - 1;
        let load = Load::start(&self.fleet.http(node).unwrap(), "/books", CLIENTS, PAUSE);
        self.fragile = Some((load, Instant::now()));
    }

    /// Causes one fault and ends it.
    async fn fault(&mut self) {
        let kind = self.random.usize(0..8);
        let name = match kind {
            0 => {
                let mut program = self.fleet.control_plane.take().unwrap();
                program.kill();
                self.logs.push(program.log());
                tokio::time::sleep(Duration::from_millis(self.random.u64(0..500))).await;
                self.start_control_plane().await;
                "control plane killed"
            }
            1 => {
                let mut program = self.fleet.control_plane.take().unwrap();
                assert!(program.terminate(Duration::from_secs(20)).await.unwrap(), "{}", program.log());
                self.logs.push(program.log());
                self.start_control_plane().await;
                "control plane restarted"
            }
            2 => {
                for _ in 0..self.random.u8(5..30) {
                    self.hung_up += 1;
                    hang_up(self.fleet.admin(), self.hung_up, &mut self.random).await;
                }
                "callers hung up"
            }
            3 => {
                let stopped = self.fleet.control_plane.as_ref().unwrap();
                stopped.signal("STOP").unwrap();
                tokio::time::sleep(Duration::from_millis(self.random.u64(50..1_500))).await;
                stopped.signal("CONT").unwrap();
                "control plane stopped"
            }
            4 => {
                let stopped = self.fleet.nodes.last().unwrap();
                stopped.signal("STOP").unwrap();
                tokio::time::sleep(Duration::from_millis(self.random.u64(50..1_000))).await;
                stopped.signal("CONT").unwrap();
                "node stopped"
            }
            5 => {
                let (load, since) = self.fragile.take().unwrap();
                let node = self.fleet.nodes.last_mut().unwrap();
                node.kill();
                self.logs.push(node.log());
                let totals = load.stop().await;
                // A node sends its counts every second; while the control plane is away it keeps them.
                let lifetime = since.elapsed().as_secs().max(1);
                let missing = totals.sent.min(totals.sent * 12 / lifetime);
                self.killed.push((totals, missing));
                self.fleet.add_node(&[]).unwrap();
                self.fleet.ready(self.fleet.nodes.len() - 1).await.unwrap();
                self.load();
                "node killed"
            }
            6 => {
                let which = self.random.usize(0..self.fleet.mocks.len());
                let address = self.fleet.mocks[which].address("listening").unwrap();
                self.fleet.mocks[which].kill();
                tokio::time::sleep(Duration::from_millis(self.random.u64(0..1_500))).await;
                self.fleet.mocks[which] = mock(&address).unwrap();
                self.fleet.wait_alive(&address, true).await.unwrap();
                "backend killed"
            }
            _ => {
                self.fleet.control_plane.as_ref().unwrap().hang_up().unwrap();
                "control plane reloaded"
            }
        };
        *self.faults.entry(name).or_default() += 1;
    }
}

/// Every route of the control plane by name, with its value.
async fn values(admin: &str) -> BTreeMap<String, String> {
    let routes = get(admin, "/routes").await.unwrap().json().unwrap();
    let value = |route: &Value| {
        let set = &route["request_headers"]["set"]["x-value"];
        Some((route["name"].as_str()?.to_owned(), set.as_str()?.to_owned()))
    };
    routes["items"].as_array().unwrap().iter().filter_map(value).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_lose_no_change_no_request_and_no_count() {
    let seconds = variable("WEIR_FAULTS_SECONDS");
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    let seconds = seconds.unwrap_or(if is_ci { 60 } else { 15 });
    let seed = variable("WEIR_FAULTS_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("WEIR_FAULTS_SEED={seed} WEIR_FAULTS_SECONDS={seconds}");

    let fleet = Fleet::start(2, 3).await.unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    let seen = Arc::default();
    let (a, b) = (Once::start(Arc::clone(&seen), seed).await, Once::start(seen, seed ^ 1).await);
    let admin = fleet.admin().to_owned();
    let pool = json!({
        "health_check": { "type": "none" },
        "retry": { "attempts": 3, "on": ["connect_failure", "reset", "502", "503", "504"] },
        "backends": [{ "url": a.url }, { "url": b.url }],
    });
    for (path, body) in
        [("/pools/once", pool), ("/routes/once", json!({ "match": { "path": "/once" }, "pool": "once" }))]
    {
        let answer = send("PUT", &admin, path, &body.to_string()).await.unwrap();
        assert!(answer.status < 300, "{answer:?}");
    }

    let stop = Arc::new(AtomicBool::new(false));
    let steady = Load::start(&fleet.http(0).unwrap(), "/books", CLIENTS, PAUSE);
    let next = Arc::<AtomicU64>::default();
    let posting = tokio::spawn(post(fleet.http(0).unwrap(), Arc::clone(&next), Arc::clone(&stop)));
    let operating: Vec<_> = (0..2)
        .map(|operator| tokio::spawn(operate(admin.clone(), operator, random.u64(..), Arc::clone(&stop))))
        .collect();
    let mut world = World {
        fleet,
        random,
        logs: Vec::new(),
        fragile: None,
        killed: Vec::new(),
        hung_up: 0,
        faults: BTreeMap::new(),
    };
    world.load();

    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        world.fault().await;
        tokio::time::sleep(Duration::from_millis(world.random.u64(0..150))).await;
    }

    stop.store(true, Relaxed);
    let mut model = BTreeMap::new();
    let mut acknowledged = 0;
    for operator in operating {
        let one = operator.await.expect("each change is answered");
        acknowledged += one.acknowledged;
        model.extend(one.routes);
    }
    let posts = posting.await.unwrap();
    let (fragile, _) = world.fragile.take().unwrap();
    let (steady, fragile) = (steady.stop().await, fragile.stop().await);
    println!(
        "{:?}, {acknowledged} changes, {} requests, {posts} POSTs",
        world.faults,
        steady.sent + fragile.sent
    );

    // No change blocks later ones.
    let last = send("PUT", &admin, "/routes/last", &route("last", "last").to_string()).await.unwrap();
    assert!(last.status < 300, "{last:?}");
    // Acknowledged changes hold, and no other values than those sent.
    let values = values(&admin).await;
    for (name, may_be) in &model {
        let is = values.get(name).cloned();
        assert!(may_be.contains(&is), "{name} is {is:?}, and may be {may_be:?}");
    }
    let config = get(&admin, "/config").await.unwrap().text();
    for (name, value) in &values {
        assert!(config.contains(name) && config.contains(value), "{name} is not in /config:\n{config}");
    }
    // All nodes get the newest revision.
    let live = [0, world.fleet.nodes.len() - 1].map(|node| format!("node-{node}"));
    eventually("all nodes at the newest revision", CATCH_UP, async || {
        let status = world.fleet.status().await.ok()?;
        let nodes = status["nodes"].as_array()?;
        let at = |id: &String| {
            nodes
                .iter()
                .any(|node| node["id"] == id.as_str() && node["active_revision"] == status["revision"])
        };
        live.iter().all(at).then_some(())
    })
    .await
    .unwrap();

    // Every request was answered except those on a killed node.
    for totals in [&steady, &fragile] {
        assert_eq!(totals.errors, Vec::<String>::new());
        assert_eq!(totals.count(200), totals.sent, "{:?}", totals.status);
    }
    // The report equals the sent requests. The last moments of killed nodes may be missing; the report is then marked
    // incomplete.
    let sent = steady.sent + fragile.sent + world.killed.iter().map(|(totals, _)| totals.sent).sum::<u64>();
    let missing: u64 = world.killed.iter().map(|(_, missing)| missing).sum();
    let summary = async || get(&admin, "/reports/summary?route=default").await.ok()?.json().ok();
    let came = Mutex::new(json!(null));
    let found = eventually("a report of what was sent", Duration::from_secs(20), async || {
        let summary = summary().await?;
        let requests = summary["requests"].as_u64()?;
        came.lock().unwrap().clone_from(&summary);
        (sent - missing..=sent).contains(&requests).then_some(summary)
    });
    let found = found.await;
    let found = found.unwrap_or_else(|error| {
        panic!("{error}: {sent} sent, up to {missing} missing: {}", came.lock().unwrap())
    });
    if found["requests"] != sent {
        assert_eq!(found["complete"], false, "missing counts are marked: {found}");
    }
    // No POST ran twice.
    let twice: Vec<_> = a
        .seen
        .lock()
        .unwrap()
        .iter()
        .filter(|(_, times)| **times > 1)
        .map(|(path, _)| path.clone())
        .collect();
    assert_eq!(twice, Vec::<String>::new());
    assert!(b.seen.lock().unwrap().len() as u64 <= posts);

    let running = world.fleet.nodes.iter().chain(&world.fleet.control_plane).chain(&world.fleet.mocks);
    world.logs.extend(running.map(e2e::Program::log));
    for log in &world.logs {
        assert!(!log.contains("panicked"), "{log}");
    }
}
