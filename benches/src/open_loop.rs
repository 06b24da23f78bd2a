//! Load at a fixed rate (open loop): requests are scheduled in advance, whatever the proxy does, and latency counts
//! from the scheduled time. A proxy that stalls is thus charged for all requests that it delays. A closed loop would
//! stop sending instead (coordinated omission).
//!
//! Tokio's timers have a resolution of one millisecond and would create bursts, so a kernel timer wakes the loop.

use std::{
    cell::RefCell,
    io::ErrorKind,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, unix::pipe},
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use crate::{CONNECTIONS, Seen};

/// How long to wait for responses after the last request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends `rate` requests per second for some seconds, on the core of this thread.
///
/// # Errors
/// A connection or a request failed.
pub fn run(address: SocketAddr, path: &str, rate: f64, seconds: u32) -> anyhow::Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let duration = Duration::from_secs(seconds.into());
    local.block_on(&runtime, load(address, path, rate, duration, PATIENCE))
}

async fn load(
    address: SocketAddr,
    path: &str,
    rate: f64,
    duration: Duration,
    patience: Duration,
) -> anyhow::Result<Seen> {
    let (due, arrivals) = mpsc::unbounded_channel::<Instant>();
    // A fair lock: connections take turns.
    let arrivals = Rc::new(Mutex::new(arrivals));
    let times = Rc::new(RefCell::new(Histogram::<u64>::new(3)?));
    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(address, path).await?;
        // The extra cost of the first request on a connection is not measured.
        connection.exchange().await?;
        let (arrivals, times) = (arrivals.clone(), times.clone());
        connections.spawn_local(async move {
            loop {
                let arrival = arrivals.lock().await.recv().await;
                let Some(arrival) = arrival else { return anyhow::Ok(()) };
                connection.exchange().await?;
                let micros = u64::try_from(arrival.elapsed().as_micros())?;
                times.borrow_mut().record(micros)?;
            }
        });
    }

    let timer = Timer::new()?;
    let mut gaps = Gaps::new(rate);
    let begun = Instant::now();
    let mut next = begun;
    loop {
        next += gaps.draw();
        if next - begun > duration {
            break;
        }
        timer.wait_until(next).await?;
        if due.send(next).is_err() {
            break;
        }
    }
    drop(due);
    let all = async {
        while let Some(ended) = connections.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    };
    let waited = tokio::time::timeout(patience, all).await;
    if let Ok(result) = waited {
        result?;
    } else {
        // Requests that could not be sent in time count too.
        connections.abort_all();
        while connections.join_next().await.is_some() {}
        while let Ok(arrival) = arrivals.lock().await.try_recv() {
            times.borrow_mut().record(u64::try_from(arrival.elapsed().as_micros())?)?;
        }
    }

    let times = times.borrow();
    let took = begun.elapsed().max(duration).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (requests, p50, p99) =
        (times.len() as f64, times.value_at_quantile(0.5) as f64, times.value_at_quantile(0.99) as f64);
    Ok(Seen {
        requests: times.len(),
        requests_per_second: requests / took,
        p50_ms: p50 / 1000.0,
        p99_ms: p99 / 1000.0,
    })
}

/// A kernel timer with a resolution of microseconds.
struct Timer {
    /// A timer descriptor is read like a pipe, and tokio's pipe accepts any descriptor.
    descriptor: pipe::Receiver,
}

impl Timer {
    fn new() -> anyhow::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { descriptor: pipe::Receiver::from_owned_fd_unchecked(descriptor)? })
    }

    async fn wait_until(&self, moment: Instant) -> anyhow::Result<()> {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            // Let the connections run even if this loop is late.
            tokio::task::yield_now().await;
            return Ok(());
        }
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: i64::try_from(left.as_secs())?,
                tv_nsec: left.subsec_nanos().into(),
            },
        };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &once)?;
        loop {
            self.descriptor.readable().await?;
            // The number of expirations. The read is shorter than the buffer, which tells tokio that there is nothing
            // more to read.
            match self.descriptor.try_read(&mut [0; 16]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read.map(|_| ()).map_err(Into::into),
            }
        }
    }
}

/// Time between two requests of many independent clients (a Poisson process); the same sequence for every proxy.
struct Gaps {
    random: fastrand::Rng,
    mean: f64,
}

impl Gaps {
    fn new(rate: f64) -> Self {
        Self { random: fastrand::Rng::with_seed(1), mean: 1.0 / rate.max(1.0) }
    }

    fn draw(&mut self) -> Duration {
        Duration::from_secs_f64(-(1.0 - self.random.f64()).ln() * self.mean)
    }
}

/// A connection that repeats the same request.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr, path: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            request: format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes(),
            buffer: vec![0; 4096],
        })
    }

    /// Sends one request and reads the response, which must be a 200 that fits the buffer.
    pub(crate) async fn exchange(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&self.request).await?;
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            anyhow::ensure!(read > 0, "the connection was closed, or the response is too large");
            filled += read;
            if let Some(length) = answer_length(&self.buffer[..filled])?
                && filled >= length
            {
                anyhow::ensure!(filled == length, "more than one response");
                return Ok(());
            }
        }
    }
}

/// Length of a 200 response, once its head is complete.
fn answer_length(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut answer = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = answer.parse(bytes)? else { return Ok(None) };
    anyhow::ensure!(answer.code == Some(200), "status {:?}", answer.code);
    let length = answer
        .headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("content-length"))
        .context("no content-length")?;
    Ok(Some(head + std::str::from_utf8(length.value)?.trim().parse::<usize>()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests")]

    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn a_response_ends_at_its_content_length() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
        assert_eq!(answer_length(answer).unwrap(), Some(answer.len()));
        assert_eq!(answer_length(&answer[..20]).unwrap(), None);
        assert!(answer_length(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").is_err());
        assert!(answer_length(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn gaps_have_the_mean_of_the_rate_and_are_reproducible() {
        let sum = |mut gaps: Gaps| (0..100_000).map(|_| gaps.draw()).sum::<Duration>();
        let total = sum(Gaps::new(1000.0));
        assert!((total.as_secs_f64() - 100.0).abs() < 2.0, "{total:?}");
        assert_eq!(total, sum(Gaps::new(1000.0)));
    }

    /// A server that answers this many requests per connection and then only reads.
    fn server(answers: usize) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let (mut buffer, mut left) = ([0; 1024], answers);
                    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
                        if left > 0 {
                            left -= 1;
                            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                        }
                    }
                });
            }
        });
        address
    }

    fn due_within_a_second(rate: f64) -> u64 {
        let mut gaps = Gaps::new(rate);
        let mut next = Duration::ZERO;
        (0..)
            .take_while(|_| {
                next += gaps.draw();
                next <= Duration::from_secs(1)
            })
            .count() as u64
    }

    #[test]
    fn every_scheduled_request_is_sent_and_counted() {
        let seen = run(server(usize::MAX), "/", 500.0, 1).unwrap();
        assert_eq!(seen.requests, due_within_a_second(500.0));
        assert!(seen.p50_ms > 0.0 && seen.p50_ms <= seen.p99_ms);
    }

    #[test]
    fn requests_delayed_by_a_stalled_proxy_are_counted() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = tokio::task::LocalSet::new();
        let (second, patience) = (Duration::from_secs(1), Duration::from_millis(10));
        let load = load(server(1), "/", 500.0, second, patience);
        let seen = local.block_on(&runtime, load).unwrap();
        // The requests in flight were sent but not answered.
        assert_eq!(seen.requests, due_within_a_second(500.0) - u64::from(CONNECTIONS));
    }
}
