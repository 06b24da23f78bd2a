//! A node as a real process.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::DEADLINE;

/// A running node; dropping it kills the process.
pub struct Node {
    pub http: SocketAddr,
    /// Only if the flags enable it.
    pub https: Option<SocketAddr>,
    pub status: SocketAddr,
    child: Child,
    log: Arc<Mutex<String>>,
}

/// The response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// The program without the environment variables that it would read.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_data-plane"));
    // Without it, only root can count the node's descriptors and threads.
    command.env("WEIR_ALLOW_CORE_DUMPS", "true");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WEIR_")) {
        command.env_remove(name);
    }
    // Tests read the log's text.
    command.env("NO_COLOR", "1");
    command
}

impl Node {
    /// Starts a node with one worker on free ports.
    pub async fn start(control_plane: &str) -> Self {
        Self::start_with(control_plane, &[]).await
    }

    /// The same with more flags.
    pub async fn start_with(control_plane: &str, flags: &[&str]) -> Self {
        Self::start_by(program(), control_plane, flags).await
    }

    /// The same with a command that executes the program with the arguments it gets.
    pub async fn start_by(mut command: Command, control_plane: &str, flags: &[&str]) -> Self {
        let mut child = command
            .args(["--control-plane", control_plane, "--http", "127.0.0.1:0", "--status", "127.0.0.1:0"])
            .args(["--workers", "1", "--node-id", "node-1"])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, lines) = (child.stderr.take().unwrap(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = lines.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let (send, mut printed) = tokio::sync::mpsc::unbounded_channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let (mut http, mut https) = (None, None);
        let status = loop {
            let line = timeout(DEADLINE, printed.recv()).await.ok().flatten().expect("an address on stdout");
            let (name, address) = line.split_once(' ').expect(&line);
            let address = address.split_once("://").expect(&line).1.parse().expect(&line);
            match name {
                "http" => http = Some(address),
                "https" => https = Some(address),
                "status" => break address,
                _ => panic!("{line}"),
            }
        };
        Self { http: http.expect("where it takes traffic"), https, status, child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// GET through the proxy.
    pub async fn get(&self, path: &str) -> Answer {
        get(self.http, path).await
    }

    /// GET from the status port.
    pub async fn ask(&self, path: &str) -> Answer {
        get(self.status, path).await
    }

    /// GET from the status port, under a name.
    pub async fn ask_as(&self, path: &str, host: &str) -> Answer {
        get_as(self.status, path, host).await
    }

    /// Waits until `fits` returns true for the response of the status port.
    pub async fn ask_until(&self, path: &str, fits: impl Fn(&Answer) -> bool) -> Answer {
        let found = async {
            loop {
                let answer = self.ask(path).await;
                if fits(&answer) {
                    return answer;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, found).await.unwrap_or_else(|_| panic!("in vain: {path}; log:\n{}", self.log()))
    }

    pub async fn ready(&self) {
        self.ask_until("/readyz", |answer| answer.status == 200).await;
    }

    /// Sends SIGTERM, like an orchestrator.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        let signal = format!("-{name}");
        let sent = Command::new("kill").args([&signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until the process has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, ended).await.expect("the node ends")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn get(address: SocketAddr, path: &str) -> Answer {
    get_as(address, path, "test").await
}

async fn get_as(address: SocketAddr, path: &str, host: &str) -> Answer {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = timeout(DEADLINE, exchange).await.expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect(head).parse().unwrap();
    Answer { status, body: body.to_owned() }
}
