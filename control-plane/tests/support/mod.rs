//! Shared code of the control plane's tests: a control plane on free ports with its own database, a REST client, and
//! a scripted node.

// Each test program uses only a part of this.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod grpc;
pub mod node;
pub mod world;

use std::{
    future::Future,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use control_plane::{Config, Running};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// The longest wait in a test.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A control plane with its own database.
pub struct ControlPlane {
    pub folder: tempfile::TempDir,
    running: Running,
}

/// A REST response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub etag: String,
    pub headers: http::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts the status and returns the body.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json()
    }
}

/// A configuration with free ports and this database.
pub fn config(database: &std::path::Path) -> Config {
    Config { database: format!("sqlite:{}", database.display()), ..Config::default() }
}

impl ControlPlane {
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// Starts a control plane after changing its flags.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&folder.path().join("weir.db"));
        change(&mut config);
        Self::start_in(folder, config).await
    }

    /// Starts a control plane on an existing folder.
    pub async fn start_in(folder: tempfile::TempDir, config: Config) -> Self {
        let running = control_plane::start(config).await.unwrap();
        Self { folder, running }
    }

    /// Wraps a control plane started by the test.
    pub fn from(folder: tempfile::TempDir, running: Running) -> Self {
        Self { folder, running }
    }

    /// Creates a token through the API, as `by`.
    pub async fn token(&self, by: Option<&str>, name: &str, role: &str, expires: Option<&str>) -> String {
        let body = serde_json::json!({ "name": name, "role": role, "expires": expires }).to_string();
        let made = self.call_as(by, "POST", "/tokens", &body).await.expect(201);
        made["token"].as_str().unwrap().to_owned()
    }

    pub async fn call_as(&self, token: Option<&str>, method: &str, path: &str, body: &str) -> Answer {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> =
            bearer.iter().map(|value| ("authorization", value.as_str())).collect();
        self.call_with(method, path, body, &headers).await
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("weir.db")
    }

    /// The local socket for nodes.
    pub fn socket(&self) -> PathBuf {
        let url = self.running.nodes_socket.clone().expect("a local socket");
        url.strip_prefix("unix:").unwrap().into()
    }

    pub fn admin(&self) -> SocketAddr {
        self.running.admin
    }

    pub fn nodes(&self) -> SocketAddr {
        self.running.nodes
    }

    /// Stops it and returns the folder of its database.
    pub async fn stop(self) -> tempfile::TempDir {
        self.running.shutdown().await;
        self.folder
    }

    /// Kills it and starts another one with the same file.
    pub async fn killed_and_started(self) -> Self {
        let Self { folder, running } = self;
        drop(running);
        let running = control_plane::start(config(&folder.path().join("weir.db"))).await.unwrap();
        Self { folder, running }
    }

    pub async fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        self.call_with(method, path, body, &[]).await
    }

    pub async fn call_with(&self, method: &str, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        within("an answer", async {
            let stream = TcpStream::connect(self.admin()).await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let mut request = http::Request::builder().method(method).uri(path);
            if !headers.iter().any(|(name, _)| *name == "host") {
                request = request.header("host", self.admin().to_string());
            }
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
            let response = sender.send_request(request).await.unwrap();
            let header = |name: &str| {
                let value = response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
                value.unwrap_or_default()
            };
            let (content_type, etag) = (header("content-type"), header("etag"));
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            Answer { status, content_type, etag, headers, text: String::from_utf8(bytes.into()).unwrap() }
        })
        .await
    }

    pub async fn get(&self, path: &str) -> Value {
        self.call("GET", path, "").await.expect(200)
    }

    pub async fn revision(&self) -> u64 {
        self.get("/status").await["revision"].as_u64().unwrap()
    }

    /// Adds a backend to the default pool and gives its id.
    pub async fn add(&self, url: &str) -> String {
        let body = serde_json::json!({ "url": url }).to_string();
        let created = self.call("POST", "/backends", &body).await.expect(201);
        created["id"].as_str().unwrap().to_owned()
    }

    /// Repeats the request until the response is as wanted.
    pub async fn wait_for(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        let mut again = tokio::time::interval(Duration::from_millis(10));
        loop {
            again.tick().await;
            let value = self.get(path).await;
            if wanted(&value) {
                return value;
            }
            assert!(begun.elapsed() < DEADLINE, "{path} does not become what is waited for: {value}");
        }
    }
}

/// Opens a stream; returns the response head.
pub async fn begin(control_plane: &ControlPlane, token: &str, path: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(control_plane.admin()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within("a head", stream.read_u8()).await.unwrap());
    }
    (String::from_utf8(head).unwrap(), stream)
}

/// Waits for a future until the deadline.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not come within {DEADLINE:?}"),
    }
}
