//! Load on keep-alive connections; counts everything that it sends.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

/// Repeated GETs until the load is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Totals>,
}

/// Totals of a load.
#[derive(Debug, Default)]
pub struct Totals {
    /// Requests sent.
    pub sent: u64,
    /// Responses by status.
    pub status: BTreeMap<u16, u64>,
    /// Responses by mock.
    pub backends: BTreeMap<String, u64>,
    /// Requests without a complete response, and why.
    pub errors: Vec<String>,
}

impl Totals {
    /// Number of responses with this status.
    pub fn count(&self, status: u16) -> u64 {
        self.status.get(&status).copied().unwrap_or_default()
    }

    fn add(&mut self, other: Totals) {
        self.sent += other.sent;
        for (status, count) in other.status {
            *self.status.entry(status).or_default() += count;
        }
        for (backend, count) in other.backends {
            *self.backends.entry(backend).or_default() += count;
        }
        self.errors.extend(other.errors);
    }
}

impl Load {
    /// Starts `connections` clients that request `path`, each with a pause of `pause` between requests.
    pub fn start(address: &str, path: &str, connections: usize, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            tasks.spawn(client(address.to_owned(), path.to_owned(), Arc::clone(&stop), pause));
        }
        Self { stop, tasks }
    }

    /// Lets running requests finish and returns the totals.
    pub async fn stop(mut self) -> Totals {
        self.stop.store(true, Relaxed);
        let mut totals = Totals::default();
        while let Some(result) = self.tasks.join_next().await {
            match result {
                Ok(one) => totals.add(one),
                Err(error) => totals.errors.push(error.to_string()),
            }
        }
        totals
    }
}

async fn client(address: String, path: String, stop: Arc<AtomicBool>, pause: Duration) -> Totals {
    let mut totals = Totals::default();
    let mut sender: Option<http1::SendRequest<Empty<Bytes>>> = None;
    while !stop.load(Relaxed) {
        totals.sent += 1;
        let one = async {
            let mut open = match sender.take() {
                Some(open) => open,
                None => {
                    let stream = TcpStream::connect(&address).await.map_err(|error| error.to_string())?;
                    let (open, connection) =
                        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
                    tokio::spawn(connection);
                    open
                }
            };
            open.ready().await.map_err(|error| error.to_string())?;
            let request = Request::get(&path)
                .header("host", &address)
                .body(Empty::<Bytes>::new())
                .map_err(|error| error.to_string())?;
            let response = open.send_request(request).await.map_err(|error| error.to_string())?;
            let status = response.status().as_u16();
            let backend = response.headers().get("x-backend").and_then(|value| value.to_str().ok());
            let backend = backend.unwrap_or("none").to_owned();
            response.into_body().collect().await.map_err(|error| error.to_string())?;
            Ok::<_, String>((open, status, backend))
        };
        match tokio::time::timeout(Duration::from_secs(30), one).await {
            Ok(Ok((open, status, backend))) => {
                *totals.status.entry(status).or_default() += 1;
                *totals.backends.entry(backend).or_default() += 1;
                sender = Some(open);
            }
            Ok(Err(error)) => totals.errors.push(error),
            Err(_) => totals.errors.push("no response within 30 s".into()),
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    totals
}
