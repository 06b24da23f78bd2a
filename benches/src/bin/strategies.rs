//! Compares the load-balancing strategies on the same recorded workload with unequal backends.
//!
//! The workload is a list of arrivals (exponential gaps, users by a power law) generated from a fixed seed and
//! replayed for each strategy. It is an open loop: a request is sent on schedule, and its latency counts from the
//! scheduled time, so that waiting counts as latency. One node has five mock backends: two with full capacity, one
//! with half, one that takes four times as long, and one that fails for two of every four seconds. Prints a table,
//! and draws the 99th percentiles with `--svg FILE`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Parser;
use serde_json::{Value, json};

const STRATEGIES: [&str; 7] =
    ["round_robin", "random", "least_connections", "power_of_two", "peak_ewma", "ip_hash", "consistent_hash"];

/// Name, concurrency, milliseconds per request.
const BACKENDS: [(&str, u32, u32); 5] =
    [("whole-1", 8, 10), ("whole-2", 8, 10), ("half", 4, 10), ("slow", 8, 40), ("flapping", 8, 10)];

/// Sending threads, each with its own connection.
const SENDERS: usize = 128;

#[derive(Parser)]
struct Arguments {
    /// Requests per second.
    #[arg(long, default_value_t = 900)]
    rate: u32,
    /// Seconds per strategy.
    #[arg(long, default_value_t = 12)]
    seconds: u32,
    /// Draws the 99th percentiles to this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir()?;
    let mocks = BACKENDS.map(|(name, concurrency, ms)| {
        let (concurrency, ms) = (concurrency.to_string(), format!("{ms}ms"));
        Program::start(
            "backend-mock",
            &[
                "--listen",
                "127.0.0.1:0",
                "--name",
                name,
                "--concurrency",
                &concurrency,
                "--service-time",
                &ms,
            ],
        )
    });
    let mocks = mocks.into_iter().collect::<anyhow::Result<Vec<Program>>>()?;
    let backends = mocks
        .iter()
        .map(|mock| Ok(json!({ "url": format!("http://{}", mock.address("listening")?) })))
        .collect::<anyhow::Result<Vec<Value>>>()?;
    let database = format!("sqlite:{}", folder.path().join("weir.db").display());
    let control_plane = Program::start(
        "control-plane",
        &["--database", &database, "--admin", "127.0.0.1:0", "--nodes", "127.0.0.1:0"],
    )?;
    let (admin, nodes) = (control_plane.address("admin")?, control_plane.address("nodes")?);
    let node = Program::start(
        "data-plane",
        &["--control-plane", &format!("http://{nodes}"), "--http", "127.0.0.1:0", "--status", "127.0.0.1:0"],
    )?;
    let http = node.address("http")?;
    let flapping = mocks[4].address("listening")?;

    let workload = Arc::new(workload(arguments.rate, arguments.seconds));
    println!("{} requests, {} per second, the same for each strategy\n", workload.len(), arguments.rate);
    println!(
        "{:<18} {:>8} {:>8} {:>8}  share by backend ({})",
        "strategy",
        "p50 ms",
        "p99 ms",
        "errors",
        BACKENDS.map(|(name, ..)| name).join(" ")
    );
    let mut results = Vec::new();
    for strategy in STRATEGIES {
        let mut pool = json!({
            "name": "default",
            "strategy": strategy,
            "health_check": { "type": "http", "path": "/health", "interval": "500ms" },
            "breaker": { "window": "2s", "open_for": "1s" },
            "backends": backends,
        });
        if strategy == "consistent_hash" {
            pool["hash_on"] = json!({ "header": "x-user" });
        }
        let config = json!({ "pools": [pool], "routes": [{ "name": "default", "pool": "default" }] });
        let (status, body) = call(&admin, "PUT", "/config?wait=10s", &[], &config.to_string())?;
        anyhow::ensure!(status == 200, "PUT /config: {status} {body}");
        let played = play(&http, &workload, &flapping)?;
        println!("{strategy:<18} {played}");
        results.push((strategy, played));
        // Wait until circuit breakers and latency averages have recovered.
        std::thread::park_timeout(Duration::from_secs(5));
    }
    let p99 =
        |name: &str| results.iter().find(|(strategy, _)| *strategy == name).map(|(_, played)| played.p99);
    if let (Some(base), Some(two), Some(ewma)) = (p99("round_robin"), p99("power_of_two"), p99("peak_ewma")) {
        println!(
            "\np99 relative to round_robin: power_of_two {:.2}, peak_ewma {:.2}",
            two / base,
            ewma / base
        );
    }
    if let Some(path) = &arguments.svg {
        std::fs::write(path, svg(&results)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// When a request is due, and for which user.
type Arrival = (Duration, u32);

fn workload(rate: u32, seconds: u32) -> Vec<Arrival> {
    // xorshift64* with a fixed seed: the same list in each run and on every machine.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut chance = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    };
    let (mut at, mut arrivals) = (0.0, Vec::new());
    loop {
        at += -(1.0 - chance()).ln() / f64::from(rate);
        if at >= f64::from(seconds) {
            return arrivals;
        }
        // A few of the thousand users send most requests.
        let user = (chance().powi(2) * 1000.0) as u32;
        arrivals.push((Duration::from_secs_f64(at), user));
    }
}

/// Results of one strategy.
struct Played {
    p50: f64,
    p99: f64,
    errors: usize,
    shares: [f64; BACKENDS.len()],
}

impl std::fmt::Display for Played {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { p50, p99, errors, shares } = self;
        let shares = shares.map(|share| format!("{:.0} %", share * 100.0)).join(" ");
        write!(f, "{p50:>8.1} {p99:>8.1} {errors:>8}  {shares}")
    }
}

fn play(http: &str, workload: &Arc<Vec<Arrival>>, flapping: &str) -> anyhow::Result<Played> {
    let next = Arc::new(AtomicUsize::new(0));
    let answers = Arc::new(Mutex::new(Vec::<(f64, bool, String)>::new()));
    let begun = Instant::now();
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (next, answers, workload) = (Arc::clone(&next), Arc::clone(&answers), Arc::clone(workload));
            let http = http.to_owned();
            std::thread::spawn(move || {
                let (mut own, mut connection) = (Vec::new(), None);
                while let Some((due, user)) = workload.get(next.fetch_add(1, Relaxed)) {
                    while let Some(early) = due.checked_sub(begun.elapsed()) {
                        std::thread::park_timeout(early.max(Duration::from_micros(100)));
                    }
                    let answer = ask(&http, &mut connection, *user);
                    let took = begun.elapsed().saturating_sub(*due).as_secs_f64() * 1000.0;
                    let (ok, backend) = match answer {
                        Ok((status, backend)) => (status == 200, backend),
                        Err(_) => {
                            connection = None;
                            (false, String::new())
                        }
                    };
                    own.push((took, ok, backend));
                }
                answers.lock().unwrap_or_else(PoisonError::into_inner).append(&mut own);
            })
        })
        .collect();
    let done = Arc::new(AtomicBool::new(false));
    let flapper = {
        let (done, flapping) = (Arc::clone(&done), flapping.to_owned());
        std::thread::spawn(move || {
            for turn in 0_u32.. {
                let bad = turn % 2 == 1 && !done.load(Relaxed);
                let faults = json!({ "concurrency": 8, "service_time": "10ms", "error_rate": if bad { 0.8 } else { 0.0 } });
                let _ = call(&flapping, "PUT", "/faults", &[], &faults.to_string());
                if done.load(Relaxed) {
                    return;
                }
                std::thread::park_timeout(Duration::from_secs(2));
            }
        })
    };
    senders.into_iter().for_each(|sender| drop(sender.join()));
    done.store(true, Relaxed);
    flapper.thread().unpark();
    let _ = flapper.join();

    let mut answers = std::mem::take(&mut *answers.lock().unwrap_or_else(PoisonError::into_inner));
    anyhow::ensure!(!answers.is_empty(), "nothing was sent");
    answers.sort_by(|a, b| a.0.total_cmp(&b.0));
    let at = |share: f64| answers[((answers.len() - 1) as f64 * share) as usize].0;
    let mut counts = BTreeMap::<&str, usize>::new();
    answers.iter().for_each(|(.., backend)| *counts.entry(backend).or_default() += 1);
    let share = |name: &str| counts.get(name).copied().unwrap_or_default() as f64 / answers.len() as f64;
    Ok(Played {
        p50: at(0.5),
        p99: at(0.99),
        errors: answers.iter().filter(|(_, ok, _)| !ok).count(),
        shares: BACKENDS.map(|(name, ..)| share(name)),
    })
}

fn ask(
    http: &str,
    connection: &mut Option<BufReader<TcpStream>>,
    user: u32,
) -> anyhow::Result<(u16, String)> {
    let stream = match connection {
        Some(stream) => stream,
        None => connection.insert(open(http)?),
    };
    let request = format!("GET /books HTTP/1.1\r\nHost: bench\r\nX-User: {user}\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes())?;
    let (status, fields, _) = read(stream)?;
    Ok((status, fields.get("x-backend").cloned().unwrap_or_default()))
}

fn open(address: &str) -> anyhow::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(BufReader::new(stream))
}

fn call(
    address: &str,
    method: &str,
    path: &str,
    fields: &[&str],
    body: &str,
) -> anyhow::Result<(u16, String)> {
    let mut stream = open(address)?;
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let length = body.len();
    write!(
        stream.get_mut(),
        "{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
    )?;
    let (status, _, body) = read(&mut stream)?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

type Answer = (u16, BTreeMap<String, String>, Vec<u8>);

/// Reads one response with a length or in chunks.
fn read(stream: &mut BufReader<TcpStream>) -> anyhow::Result<Answer> {
    let mut line = String::new();
    let mut next = |stream: &mut BufReader<TcpStream>| {
        line.clear();
        anyhow::ensure!(stream.read_line(&mut line)? > 0, "the connection was closed");
        Ok(line.trim_end().to_owned())
    };
    let first = next(stream)?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    let mut fields = BTreeMap::new();
    loop {
        let line = next(stream)?;
        let Some((name, value)) = line.split_once(':') else { break };
        fields.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = Vec::new();
    if fields.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        loop {
            let size = usize::from_str_radix(&next(stream)?, 16)?;
            let start = body.len();
            body.resize(start + size, 0);
            stream.read_exact(&mut body[start..])?;
            next(stream)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = fields.get("content-length") {
        body.resize(length.parse()?, 0);
        stream.read_exact(&mut body)?;
    }
    Ok((status, fields, body))
}

/// One bar per strategy.
fn svg(results: &[(&str, Played)]) -> String {
    let most = results.iter().map(|(_, played)| played.p99).fold(1.0, f64::max);
    let mut bars = String::new();
    for (i, (name, played)) in results.iter().enumerate() {
        let (y, width) = (40 + i * 28, played.p99 / most * 400.0);
        // Writing to a String cannot fail.
        let _ = writeln!(
            bars,
            "<text x=\"150\" y=\"{}\" text-anchor=\"end\">{name}</text><rect x=\"160\" y=\"{y}\" width=\"{width:.0}\" height=\"18\" fill=\"#4878a8\"/><text x=\"{:.0}\" y=\"{}\">{:.0} ms</text>",
            y + 14,
            168.0 + width,
            y + 14,
            played.p99
        );
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 {}\" font-family=\"sans-serif\" font-size=\"13\">\n<text x=\"160\" y=\"24\">99th percentile of latency over unequal backends</text>\n{bars}</svg>\n",
        60 + results.len() * 28
    )
}

/// A program that prints its addresses; killed when dropped.
struct Program {
    child: Child,
    addresses: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Program {
    fn start(name: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let path = own.parent().unwrap_or(Path::new(".")).join(name);
        anyhow::ensure!(
            path.exists(),
            "{} is not built: cargo build --profile dist --workspace",
            path.display()
        );
        let mut child = Command::new(path)
            .args(arguments)
            .env("WEIR_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let addresses = Arc::<Mutex<BTreeMap<String, String>>>::default();
        if let Some(stdout) = child.stdout.take() {
            let addresses = Arc::clone(&addresses);
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if let Some((what, address)) = line.split_once(" http://") {
                        let mut addresses = addresses.lock().unwrap_or_else(PoisonError::into_inner);
                        addresses.insert(what.trim().to_owned(), address.trim().to_owned());
                    }
                }
            });
        }
        Ok(Self { child, addresses })
    }

    fn address(&self, what: &str) -> anyhow::Result<String> {
        let begun = Instant::now();
        loop {
            let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(address) = addresses.get(what) {
                return Ok(address.clone());
            }
            drop(addresses);
            anyhow::ensure!(begun.elapsed() < Duration::from_secs(20), "no address {what:?} was printed");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The program may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
