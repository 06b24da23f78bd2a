//! How real servers read the paths that Weir forwards. Each test needs a program: without it the test skips itself, and
//! fails where `CI` is set.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{asking::Stage, support::within};

const FILE: &str = r#"
pools: [{ name: open }, { name: protected }]
routes:
  - { name: open, pool: open }
  - { name: admin, match: { path: /admin }, pool: protected }
  - { name: app, match: { path: /app }, pool: open, rewrite: { strip_prefix: /app } }
  - { name: app-admin, match: { path: /app/admin }, pool: protected, rewrite: { strip_prefix: /app } }
"#;

/// Paths that at least one server reads as `/admin`.
const FIXED: [&str; 30] = [
    "//admin",
    "//x/admin",
    "/\\x/admin",
    "/\\/x\\admin",
    "//u@x/admin",
    "//u:p@x:80/admin/a",
    "///x/admin",
    "////admin",
    "/%2Fx/admin",
    "/%5cx/admin",
    "/.//x/admin",
    "/a/..//x/admin",
    "/;a/x/admin",
    "//x;y/admin",
    "//x/./admin",
    "//x/%61dmin",
    "//%78/admin",
    "//[::1]/admin",
    "/x/../admin",
    "/x/%2e%2e/admin",
    "/x/..%2fadmin",
    "/x\\..\\admin",
    "/./admin",
    "/%61dmin",
    "/ad%0amin",
    "/%09/x/admin",
    "/x/.%0d./admin",
    "/admin%20",
    "/admin%3Fx",
    "/admin%23x",
];

const PATHS: &str = "(/|/|/|/|admin|\\.|\\.\\.|%2[fF]|%2e%2E|%5[cC]|\\\\|;|;a=b|%61dmin|x|@|:80|%3f|%23|%c0%af|%20|%09|%0d){1,9}";

/// Number of requests, half of them with a prefix that is stripped.
const CASES: usize = 1200;

/// Targets that Weir forwarded to the backend of the open pool, as the backend received them.
async fn forwarded() -> BTreeSet<String> {
    let stage = Stage::start(FILE).await;
    let paths = proptest::string::string_regex(PATHS).unwrap();
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut client = stage.http1().await;
    let mut targets = BTreeSet::new();
    for n in 0..CASES {
        let path = match FIXED.get(n / 2) {
            Some(path) => (*path).to_owned(),
            None => format!("/{}", paths.new_tree(&mut runner).unwrap().current()),
        };
        let prefix = ["", "/app"][n % 2];
        let got = client.ask(&format!("GET {prefix}{path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        if got.status == 200 && got.backend() == "open" {
            targets.extend(got.asked().split(' ').nth(1).map(str::to_owned));
        }
    }
    assert!(targets.len() > 100, "{}", targets.len());
    targets
}

/// A server that responds with its interpretation of a target's path, one reading per line.
struct Server {
    child: Child,
    port: u16,
    _folder: Option<tempfile::TempDir>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/routing/servers").join(name)
}

impl Server {
    /// Runs a program that prints its port; `None`: it is not installed.
    async fn start(program: &str, arguments: &[&str], script: &str) -> Option<Self> {
        let mut command = Command::new(program);
        command.args(arguments).arg(file(script)).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = run(command, program)?;
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            output.read_line(&mut line).map(|_| line)
        });
        let line = tokio::time::timeout(Duration::from_secs(60), line).await.unwrap().unwrap().unwrap();
        let port = line.trim().parse().unwrap_or_else(|_| panic!("{program} printed {line:?} for its port"));
        Some(Self { child, port, _folder: None })
    }

    /// Runs nginx, which cannot choose its port itself.
    async fn nginx(merges: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let text = std::fs::read_to_string(file("nginx.conf")).unwrap();
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let text = text.replace("PORT", &port.to_string()).replace("MERGES", merges);
            std::fs::write(folder.path().join("nginx.conf"), text).unwrap();
            let mut command = Command::new("nginx");
            command.args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(folder.path());
            command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap()));
            let mut child = run(command, "nginx")?;
            // Another process may have taken the port meanwhile; then nginx exits.
            while child.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).await.is_ok()
                    && child.try_wait().unwrap().is_none()
                {
                    return Some(Self { child, port, _folder: Some(folder) });
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        panic!("nginx does not start");
    }

    /// The server's readings of a target's path; none if it rejects the path.
    async fn readings(&self, target: &str) -> Vec<String> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut answer = Vec::new();
        within(async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            // A server may reset the connection after an error.
            let _ = stream.read_to_end(&mut answer).await;
        })
        .await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.split(' ').nth(1) == Some("200") => {
                body.lines().map(str::to_owned).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Starts a program; `None`: it is not installed.
fn run(mut command: Command, program: &str) -> Option<Child> {
    match command.spawn() {
        Ok(child) => Some(child),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{program}: {error}");
            println!("skipped: {program} cannot be run: {error}");
            None
        }
    }
}

fn is_admin(reading: &str) -> bool {
    reading.strip_prefix("/admin").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Compares the paths that Weir lets through with the server's interpretation.
async fn compare(server: Option<Server>) {
    let Some(server) = server else { return };
    let mut taken = 0;
    for target in FIXED {
        taken += usize::from(server.readings(target).await.iter().any(|reading| is_admin(reading)));
    }
    assert!(taken >= 2, "the server takes {taken} of the paths for /admin");
    for target in forwarded().await {
        let readings = server.readings(&target).await;
        assert!(!readings.iter().any(|reading| is_admin(reading)), "{target} is read as {readings:?}");
    }
}

#[tokio::test]
async fn node_serves_no_protected_path_to_an_open_route() {
    compare(Server::start("node", &[], "server.js").await).await;
}

#[tokio::test]
async fn java_serves_no_protected_path_to_an_open_route() {
    let quick = ["-XX:TieredStopAtLevel=1", "-Xshare:auto"];
    compare(Server::start("java", &quick, "Server.java").await).await;
}

#[tokio::test]
async fn python_serves_no_protected_path_to_an_open_route() {
    compare(Server::start("python3", &[], "server.py").await).await;
}

#[tokio::test]
async fn php_serves_no_protected_path_to_an_open_route() {
    compare(Server::start("php", &[], "server.php").await).await;
}

#[tokio::test]
async fn nginx_serves_no_protected_path_to_an_open_route() {
    compare(Server::nginx("on").await).await;
    compare(Server::nginx("off").await).await;
}
