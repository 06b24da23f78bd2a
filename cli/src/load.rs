//! `weir load`: sends requests at a fixed rate or over a fixed number of connections, and counts the results exactly.
//!
//! At a fixed rate, the latency of a request is measured from when it was due, not from when it was sent. If the server
//! stalls, the wait of all delayed requests is counted (no coordinated omission).

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Uri, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinSet, time::Instant};
use weir_snapshot::units::HumanDuration;

use crate::{
    arguments::{Load, Output},
    output::{Bar, Cell, Table, print_safe, print_value},
};

/// Maximum number of concurrent requests at a fixed rate. A request that is due beyond it is counted as missed.
const MAX_IN_FLIGHT: usize = 10_000;
/// Interval at which the progress bar is redrawn.
const REDRAWN: Duration = Duration::from_millis(200);

pub(crate) async fn run(load: Load, output: Output) -> anyhow::Result<()> {
    let run = Arc::new(Run::new(&load)?);
    let started = Instant::now();
    let stop = Arc::clone(&run);
    let interrupted = tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.stopped.store(true, Ordering::Relaxed);
        }
    });
    let progress = tokio::spawn(progress(Arc::clone(&run)));
    match load.rps {
        Some(rps) => open_loop(&run, rps).await,
        None => closed_loop(&run, load.connections.unwrap_or(10)).await,
    }
    interrupted.abort();
    progress.abort();
    // The bar must be cleared before the result is written.
    let _ = progress.await;
    let tally = std::mem::take(&mut *run.tally.lock().unwrap_or_else(PoisonError::into_inner));
    tally.print(output, started.elapsed());
    ensure!(tally.failed == 0 && tally.missed == 0, "{} of {} requests failed", tally.failed, tally.sent);
    Ok(())
}

/// Shows the progress of the run until this task is aborted.
async fn progress(run: Arc<Run>) {
    let started = Instant::now();
    let (total, template) = match (run.duration, run.requests) {
        (_, requests) if requests < u64::MAX => (requests, "{bar:30} {pos}/{len} requests, {msg}"),
        (Some(duration), _) => {
            (u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), "{bar:30} {elapsed} of {msg}")
        }
        (None, _) => return,
    };
    let bar = Bar::new(total, template);
    loop {
        let (sent, failed) = {
            let tally = run.tally.lock().unwrap_or_else(PoisonError::into_inner);
            (tally.sent, tally.failed)
        };
        match run.duration {
            Some(duration) if run.requests == u64::MAX => {
                let done = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                bar.set(
                    done.min(total),
                    format!("{}, {sent} requests, {failed} failed", HumanDuration(duration)),
                );
            }
            _ => bar.set(sent, format!("{failed} failed")),
        }
        tokio::time::sleep(REDRAWN).await;
    }
}

/// State shared by all connections of a run.
struct Run {
    authority: String,
    plan: Plan,
    timeout: Duration,
    duration: Option<Duration>,
    requests: u64,
    /// Number of requests handed out to connections.
    taken: AtomicU64,
    stopped: AtomicBool,
    idle: Mutex<Vec<Connection>>,
    tally: Mutex<Tally>,
}

/// Requests to send.
enum Plan {
    Same {
        method: Method,
        target: String,
    },
    /// In turn: seven reads of the list, one read of a book, one creation, one deletion.
    Books {
        prefix: String,
    },
}

type Connection = http1::SendRequest<Full<Bytes>>;

impl Run {
    fn new(load: &Load) -> anyhow::Result<Self> {
        let books = load.scenario == "books";
        let url = if books { &load.target } else { &load.scenario };
        let uri: Uri =
            url.parse().with_context(|| format!("{url:?} is neither a URL nor the scenario books"))?;
        if uri.scheme_str() != Some("http") {
            bail!("{url:?} is neither a URL such as http://127.0.0.1:8080/books nor the scenario books");
        }
        let authority = uri.authority().with_context(|| format!("{url:?} names no host"))?;
        let target =
            load.path.clone().unwrap_or_else(|| uri.path_and_query().map_or("/", |t| t.as_str()).to_owned());
        ensure!(target.starts_with('/') && target.parse::<Uri>().is_ok(), "--path {target:?} is not a path");
        let plan = if books {
            // Titles are unique in the store, so every run uses its own prefix.
            let since =
                std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            Plan::Books { prefix: format!("{:x}", since.as_nanos()) }
        } else {
            Plan::Same { method: load.method.clone(), target }
        };
        let duration = match (load.duration, load.requests) {
            (Some(duration), _) => Some(duration.0),
            (None, Some(_)) => None,
            (None, None) => Some(Duration::from_secs(10)),
        };
        Ok(Self {
            authority: format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)),
            plan,
            timeout: load.timeout.0,
            duration,
            requests: load.requests.unwrap_or(u64::MAX),
            taken: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            idle: Mutex::default(),
            tally: Mutex::default(),
        })
    }

    /// Returns the number of the next request, or `None` if the run is over after `gone_by`.
    fn take(&self, gone_by: Duration) -> Option<u64> {
        if self.over(gone_by) {
            return None;
        }
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        (number < self.requests).then_some(number)
    }

    fn over(&self, gone_by: Duration) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.duration.is_some_and(|duration| gone_by >= duration)
    }

    fn request(&self, number: u64) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let (method, target, body) = match &self.plan {
            Plan::Same { method, target } => (method.clone(), target.clone(), String::new()),
            Plan::Books { prefix } => match number % 10 {
                0..=6 => (Method::GET, "/books".to_owned(), String::new()),
                7 => (Method::GET, format!("/books/{}", number % 5 + 1), String::new()),
                8 => {
                    let book = json!({"title": format!("Book {prefix}-{number}"), "author": "weir load"});
                    (Method::POST, "/books".to_owned(), book.to_string())
                }
                _ => (Method::DELETE, format!("/books/{}", 6 + number / 30), String::new()),
            },
        };
        let mut request = Request::builder().method(method).uri(target).header(header::HOST, &self.authority);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request.body(Full::new(Bytes::from(body)))
    }

    /// Sends one request over the connection, opens the connection if needed, and counts the result.
    async fn send(&self, connection: &mut Option<Connection>, number: u64, due: Instant) {
        let exchange = tokio::time::timeout(self.timeout, self.exchange(connection, number)).await;
        let outcome = match exchange {
            Ok(outcome) => outcome,
            Err(_) => Err("no answer in time".to_owned()),
        };
        if outcome.is_err() {
            *connection = None;
        }
        // In the books scenario, a book may be deleted or on another backend, so 404 is not an error.
        let good = |status: u16| match self.plan {
            Plan::Same { .. } => status < 400,
            Plan::Books { .. } => status < 400 || status == 404,
        };
        let took = due.elapsed();
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.sent += 1;
        match outcome {
            Ok((status, backend)) => {
                *if good(status) { &mut tally.ok } else { &mut tally.failed } += 1;
                *tally.status.entry(status).or_default() += 1;
                if let Some(backend) = backend {
                    *tally.backends.entry(backend).or_default() += 1;
                }
                tally.record(took);
            }
            Err(error) => {
                tally.failed += 1;
                *tally.errors.entry(error).or_default() += 1;
            }
        }
    }

    async fn exchange(
        &self,
        connection: &mut Option<Connection>,
        number: u64,
    ) -> Result<(u16, Option<String>), String> {
        let request = self.request(number).map_err(|error| error.to_string())?;
        // If the server closed the idle connection, a new one is opened instead of failing the request.
        if connection.as_ref().is_some_and(Connection::is_closed) {
            *connection = None;
        }
        let sender = match connection {
            Some(sender) => sender,
            None => connection.insert(self.connect().await?),
        };
        sender.ready().await.map_err(|error| format!("connection lost: {error}"))?;
        let response = sender.send_request(request).await.map_err(|error| format!("no answer: {error}"))?;
        let status = response.status().as_u16();
        let backend = response
            .headers()
            .get("x-backend")
            .map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|error| format!("answer cut off: {error}"))?;
        }
        Ok((status, backend))
    }

    async fn connect(&self) -> Result<Connection, String> {
        let stream =
            TcpStream::connect(&self.authority).await.map_err(|error| format!("cannot connect: {error}"))?;
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| format!("cannot connect: {error}"))?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// Each connection sends its next request as soon as it has received a response.
async fn closed_loop(run: &Arc<Run>, connections: u32) {
    let mut tasks = JoinSet::new();
    let start = Instant::now();
    for _ in 0..connections {
        let run = Arc::clone(run);
        tasks.spawn(async move {
            let mut connection = None;
            while let Some(number) = run.take(start.elapsed()) {
                run.send(&mut connection, number, Instant::now()).await;
                if connection.is_none() {
                    // Avoids a busy loop while the server is unreachable.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// Sends requests when they are due, however fast the responses arrive. The run ends when the next request would be due
/// after its end. On a busy machine the last requests are sent late, but none is skipped.
async fn open_loop(run: &Arc<Run>, rps: u32) {
    let mut tasks = JoinSet::new();
    let start = Instant::now();
    let mut due_count = 0u64;
    loop {
        let after = Duration::from_secs(1).mul_f64(due_count as f64 / f64::from(rps));
        if run.over(after) {
            break;
        }
        let due = start + after;
        tokio::time::sleep_until(due).await;
        while tasks.try_join_next().is_some() {}
        due_count += 1;
        if tasks.len() >= MAX_IN_FLIGHT {
            run.tally.lock().unwrap_or_else(PoisonError::into_inner).missed += 1;
            continue;
        }
        let Some(number) = run.take(after) else { break };
        let run = Arc::clone(run);
        tasks.spawn(async move {
            let mut connection = run.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            run.send(&mut connection, number, due).await;
            if let Some(connection) = connection {
                run.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// Results of a run.
#[derive(Default)]
struct Tally {
    sent: u64,
    ok: u64,
    failed: u64,
    missed: u64,
    status: BTreeMap<u16, u64>,
    backends: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
    latency_us: Option<Histogram<u64>>,
}

impl Tally {
    fn record(&mut self, took: Duration) {
        if self.latency_us.is_none() {
            self.latency_us = Histogram::new(3).ok();
        }
        if let Some(histogram) = &mut self.latency_us {
            let _ = histogram.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }

    fn latency_ms(&self) -> [(&'static str, f64); 4] {
        let at = |quantile: f64| {
            self.latency_us
                .as_ref()
                .map_or(0.0, |histogram| histogram.value_at_quantile(quantile) as f64 / 1000.0)
        };
        [("p50", at(0.5)), ("p90", at(0.9)), ("p99", at(0.99)), ("max", at(1.0))]
    }

    fn print(&self, output: Output, took: Duration) {
        let latency = self.latency_ms();
        let rate = self.sent as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE);
        if !output.is_for_people() {
            let value = json!({
                "sent": self.sent,
                "ok": self.ok,
                "failed": self.failed,
                "missed": self.missed,
                "status": counts(&self.status),
                "backends": counts(&self.backends),
                "errors": counts(&self.errors),
                "latency_ms": Value::from_iter(latency),
                "seconds": took.as_secs_f64(),
                "requests_per_second": rate,
            });
            print_value(output, &value);
            return;
        }
        let mut rows = vec![
            vec![Cell::from("sent"), self.sent.to_string().into()],
            vec!["ok".into(), self.ok.to_string().into()],
            vec!["failed".into(), failures(self.failed)],
        ];
        let mut push = |name: String, cell: Cell| rows.push(vec![name.into(), cell]);
        if self.missed > 0 {
            push("missed".to_owned(), failures(self.missed));
        }
        self.status.iter().for_each(|(status, n)| push(format!("status {status}"), n.to_string().into()));
        self.backends
            .iter()
            .for_each(|(backend, n)| push(format!("backend {backend}"), n.to_string().into()));
        self.errors.iter().for_each(|(error, n)| push(error.clone(), failures(*n)));
        for (name, ms) in latency {
            // Without a response there is no latency.
            let cell = if self.latency_us.is_some() { format!("{ms:.2}").into() } else { Cell::missing() };
            push(format!("{name} ms"), cell);
        }
        push("requests/s".to_owned(), format!("{rate:.0}").into());
        let headings = vec!["load".to_owned(), format!("{:.1} s", took.as_secs_f64())];
        print_safe(&Table::rows(headings, rows).render(output));
    }
}

fn failures(count: u64) -> Cell {
    let cell = Cell::from(count.to_string());
    if count > 0 { cell.bad() } else { cell }
}

fn counts(counts: &BTreeMap<impl ToString, u64>) -> Value {
    counts.iter().map(|(key, count)| (key.to_string(), *count)).collect()
}
