//! A node with short timeouts and one backend, and a check of everything that a connection could leak.

use std::{fs, net::SocketAddr, process::Command, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use weir_snapshot::{Config, config::Backend};

use crate::support::{DEADLINE, FakeControlPlane, Node, node::program};

/// Every timeout of the node.
pub(super) const SHORT: Duration = Duration::from_millis(800);

/// A running node and the resources that it used before the first client.
pub(super) struct Stage {
    pub(super) control: FakeControlPlane,
    pub(super) node: Node,
    before: Used,
}

/// Kernel resources of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Used {
    descriptors: usize,
    threads: usize,
}

impl Used {
    fn by(node: &Node) -> Self {
        let count = |folder: &str| fs::read_dir(format!("/proc/{}/{folder}", node.pid())).unwrap().count();
        Self { descriptors: count("fd"), threads: count("task") }
    }
}

impl Stage {
    pub(super) async fn new(backend: SocketAddr) -> Self {
        Self::by(program(), backend, &[]).await
    }

    /// With another command and default timeouts.
    pub(super) async fn patient(command: Command, backend: SocketAddr) -> Self {
        let mut config = Config::default();
        // Idle connections to the backend are not checked.
        config.pools[0].timeouts.idle = "1s".parse().unwrap();
        Self::of(config, command, backend, &[]).await
    }

    /// The same with another command and more flags.
    pub(super) async fn by(command: Command, backend: SocketAddr, flags: &[&str]) -> Self {
        let mut config = Config::default();
        let short = || format!("{}ms", SHORT.as_millis()).parse().unwrap();
        let downstream = &mut config.settings.downstream;
        downstream.header_timeout = short();
        downstream.body_timeout = short();
        downstream.send_timeout = short();
        downstream.idle_timeout = short();
        downstream.tls_handshake_timeout = short();
        let pool = &mut config.pools[0];
        pool.timeouts.response = short();
        pool.timeouts.response_body = short();
        pool.timeouts.idle = short();
        Self::of(config, command, backend, flags).await
    }

    async fn of(mut config: Config, command: Command, backend: SocketAddr, flags: &[&str]) -> Self {
        let pool = &mut config.pools[0];
        let url = format!("http://{backend}");
        pool.backends.push(Backend { id: "b1".into(), url, weight: 1, state: Default::default() });
        let control = FakeControlPlane::start(config).await;
        let node = Node::start_by(command, &control.url(), flags).await;
        node.ready().await;
        let before = Used::by(&node);
        Self { control, node, before }
    }

    pub(super) async fn client(&self) -> TcpStream {
        let stream = TcpStream::connect(self.node.http).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Asserts that the service responds and that all resources of closed connections are free: connections, requests
    /// in flight, in its own metrics and in its reports, descriptors, threads.
    pub(super) async fn at_rest(&self) {
        let answer = self.node.get("/").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let metrics = self.node.ask_until("/metrics", |answer| {
            gauge(&answer.body, "weir_node_connections") == 0
                && gauge(&answer.body, "weir_node_backend_active_requests") == 0
        });
        metrics.await;
        let told = self.control.heard(|heard| heard.loads.len());
        let fits = |heard: &crate::support::control_plane::Heard| {
            let load = heard.loads.iter().skip(told).find(|load| {
                load.connections == 0 && load.backends.iter().all(|backend| backend.active_requests == 0)
            });
            load.cloned()
        };
        self.control.wait("a load of nothing", fits).await;
        let freed = async {
            loop {
                let now = Used::by(&self.node);
                if now.descriptors <= self.before.descriptors && now.threads == self.before.threads {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(DEADLINE, freed).await.is_err() {
            panic!("{:?} are left of {:?}", Used::by(&self.node), self.before);
        }
        assert!(!self.node.log().contains("panicked"), "{}", self.node.log());
    }
}

/// The sum of a metric over its labels.
pub(super) fn gauge(metrics: &str, name: &str) -> u64 {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.split_once('}') {
            Some((labels, value)) if labels.starts_with('{') => value,
            _ if rest.starts_with(' ') => rest,
            _ => return None,
        };
        value.trim().parse::<u64>().ok()
    });
    let values: Vec<u64> = values.collect();
    assert!(!values.is_empty(), "no {name} in:\n{metrics}");
    values.iter().sum()
}

/// How a side closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// Closes; with unread input this resets the connection.
    Close,
    /// Resets the connection.
    Reset,
    /// Closes its sending side and reads until the end.
    HalfClose,
}

impl Leave {
    pub(super) async fn leave(self, mut stream: TcpStream) {
        match self {
            Self::Close => {}
            Self::Reset => socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
            Self::HalfClose => {
                // A connection that was refused already may be closed.
                let _ = stream.shutdown().await;
                let _ = timeout(DEADLINE, stream.read_to_end(&mut Vec::new()))
                    .await
                    .expect("the end of a half-closed connection");
            }
        }
    }
}

/// The response to a request, until the connection ends.
pub(super) async fn exchange(node: SocketAddr, request: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(node).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    // A reset is an end too; only the data before it counts.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut said)).await.expect("an end in time");
    said
}

/// The final status, and the body if it is complete; `None` if the connection was cut before.
pub(super) fn read(said: &str) -> Option<(u16, Option<String>)> {
    if said.is_empty() {
        return None;
    }
    let (head, rest) = said.split_once("\r\n\r\n").unwrap_or_else(|| panic!("half a head: {said:?}"));
    let status = head.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{head}"));
    if (100..200).contains(&status) {
        return read(rest);
    }
    let field = |name: &str| {
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix(name).map(str::to_owned))
    };
    let body = if let Some(length) = field("content-length: ") {
        (rest.len().to_string() == length).then(|| rest.to_owned())
    } else {
        assert_eq!(field("transfer-encoding: ").as_deref(), Some("chunked"), "{head}");
        let last = rest.rfind("0\r\n");
        last.filter(|_| rest.ends_with("\r\n\r\n")).map(|at| rest[..at].to_owned())
    };
    Some((status, body))
}

/// The final status of a GET.
pub(super) async fn status_of(node: SocketAddr, path: &str) -> u16 {
    let said = exchange(node, &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
    read(&String::from_utf8_lossy(&said)).expect("an answer").0
}

/// Runs jobs with limited concurrency.
pub(super) async fn together<T, F: Future<Output = ()> + Send + 'static>(
    jobs: impl IntoIterator<Item = T>,
    run: impl Fn(T) -> F,
) {
    const AT_ONCE: usize = 64;
    let mut running = tokio::task::JoinSet::new();
    for job in jobs {
        if running.len() == AT_ONCE {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(run(job));
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}
