//! Python's `websockets` on one end or both. `WEIR_PYTHON` names an interpreter with it. Without one these tests are
//! skipped, and fail if `CI` is set.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    ends::{Echo, Speaks, connect},
    support::{
        wire::{Kind, Wire, config},
        within,
    },
};

fn script() -> Command {
    let python = std::env::var_os("WEIR_PYTHON").unwrap_or_else(|| "python3".into());
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/websocket/peer.py"));
    command
}

/// Whether there is an interpreter with the library.
fn is_there() -> bool {
    let python = std::env::var_os("WEIR_PYTHON").unwrap_or_else(|| "python3".into());
    let imports =
        Command::new(python).args(["-c", "import websockets.asyncio.server"]).stderr(Stdio::null()).status();
    let there = imports.is_ok_and(|status| status.success());
    assert!(there || std::env::var_os("CI").is_none(), "no Python with websockets (pip install websockets)");
    if !there {
        println!("skipped: no Python with websockets (pip install websockets, or WEIR_PYTHON)");
    }
    there
}

struct PythonBackend {
    child: Child,
    url: String,
}

impl PythonBackend {
    fn start() -> Self {
        let mut child = script().arg("serve").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, url: format!("http://127.0.0.1:{}", line.trim()) }
    }
}

impl Drop for PythonBackend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The Python client sends all kinds of messages, over cleartext and TLS.
async fn python_talks_through(wire: &Wire) {
    let https = wire.node.https.unwrap();
    let plain = vec![format!("ws://{}/chat", wire.node.http)];
    let tls = vec![format!("wss://{https}/chat"), wire.identity.certificate().display().to_string()];
    for arguments in [plain, tls] {
        let talk =
            script().arg("talk").args(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let output = tokio::task::spawn_blocking(move || talk.unwrap().wait_with_output().unwrap());
        let output = within(output).await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.starts_with("ok "), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn a_client_of_python_speaks_to_tungstenite() {
    if !is_there() {
        return;
    }
    let echo = Echo::start(Speaks::Http1).await;
    python_talks_through(&Wire::start(config(&[echo.url()])).await).await;
}

#[tokio::test]
async fn a_client_of_python_speaks_to_python() {
    if !is_there() {
        return;
    }
    let backend = PythonBackend::start();
    python_talks_through(&Wire::start(config(std::slice::from_ref(&backend.url))).await).await;
}

#[tokio::test]
async fn tungstenite_speaks_to_a_backend_of_python() {
    if !is_there() {
        return;
    }
    let backend = PythonBackend::start();
    let wire = Wire::start(config(std::slice::from_ref(&backend.url))).await;
    for kind in Kind::ALL {
        let (mut socket, _) = within(connect(&wire, kind)).await;
        for message in [
            Message::text("grüße"),
            Message::binary(vec![0, 255]),
            Message::binary((0..1_u32 << 24).map(|n| (n >> 3) as u8).collect::<Vec<u8>>()),
        ] {
            within(socket.send(message.clone())).await.unwrap();
            assert!(within(socket.next()).await.unwrap().unwrap() == message, "{kind:?}");
        }
        socket.send(Message::Ping("are you there".into())).await.unwrap();
        assert_eq!(within(socket.next()).await.unwrap().unwrap(), Message::Pong("are you there".into()));
        within(socket.close(None)).await.unwrap();
    }
}
