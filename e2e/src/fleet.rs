//! A control plane, data-plane nodes and mocks on free ports.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::{Program, client, eventually, path};

/// A whole fleet.
pub struct Fleet {
    folder: tempfile::TempDir,
    /// The control plane; `None` while it is stopped.
    pub control_plane: Option<Program>,
    /// The nodes.
    pub nodes: Vec<Program>,
    /// The mocks.
    pub mocks: Vec<Program>,
    admin: String,
    nodes_address: String,
}

impl Fleet {
    /// Starts a control plane, `nodes` data-plane nodes and `mocks` backends in the pool `default`, probed every 200
    /// ms, and waits until all of them are ready.
    ///
    /// # Errors
    /// A program did not start.
    pub async fn start(nodes: usize, mocks: usize) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut fleet = Self {
            folder,
            control_plane: None,
            nodes: Vec::new(),
            mocks: Vec::new(),
            admin: "127.0.0.1:0".into(),
            nodes_address: "127.0.0.1:0".into(),
        };
        fleet.start_control_plane()?;
        for _ in 0..mocks {
            fleet.mocks.push(mock("127.0.0.1:0")?);
        }
        let backends: Vec<Value> = fleet
            .mocks
            .iter()
            .map(|mock| Ok(json!({ "url": format!("http://{}", mock.address("listening")?) })))
            .collect::<anyhow::Result<_>>()?;
        let config = json!({
            "pools": [{
                "name": "default",
                "health_check": { "type": "http", "path": "/health", "interval": "200ms", "timeout": "1s", "rise": 2, "fall": 2 },
                "backends": backends,
            }],
            "routes": [{ "name": "default", "pool": "default" }],
        });
        let answer = client::send("PUT", fleet.admin(), "/config", &config.to_string()).await?;
        anyhow::ensure!(answer.status == 200, "PUT /config: {answer:?}");
        for _ in 0..nodes {
            fleet.add_node(&[])?;
        }
        for i in 0..nodes {
            fleet.ready(i).await?;
        }
        Ok(fleet)
    }

    /// Starts the control plane with its previous database and ports.
    ///
    /// # Errors
    /// It did not start.
    pub fn start_control_plane(&mut self) -> anyhow::Result<()> {
        let database = format!("sqlite:{}", self.database().display());
        let arguments = ["--database", &database, "--admin", &self.admin, "--nodes", &self.nodes_address];
        let program = Program::start("control-plane", &arguments)?;
        self.admin = program.address("admin")?;
        self.nodes_address = program.address("nodes")?;
        self.control_plane = Some(program);
        Ok(())
    }

    /// Path of the database file.
    pub fn database(&self) -> PathBuf {
        self.folder.path().join("weir.db")
    }

    /// Starts another node, which connects over the local socket.
    ///
    /// # Errors
    /// It did not start.
    pub fn add_node(&mut self, arguments: &[&str]) -> anyhow::Result<()> {
        let socket = format!("unix:{}.sock", self.database().display());
        self.add_node_at(&socket, arguments)
    }

    /// Starts another node, which connects to this address.
    ///
    /// # Errors
    /// It did not start.
    pub fn add_node_by(&mut self, address: &str, arguments: &[&str]) -> anyhow::Result<()> {
        self.add_node_at(&format!("http://{address}"), arguments)
    }

    fn add_node_at(&mut self, control_plane: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let id = format!("node-{}", self.nodes.len());
        let mut all =
            vec!["--control-plane", control_plane, "--http", "127.0.0.1:0", "--status", "127.0.0.1:0"];
        all.extend(["--node-id", &id]);
        all.extend(arguments);
        self.nodes.push(Program::start("data-plane", &all)?);
        Ok(())
    }

    /// Waits until a node is ready.
    ///
    /// # Errors
    /// It did not become ready in time.
    pub async fn ready(&self, node: usize) -> anyhow::Result<()> {
        let status = self.nodes[node].address("status")?;
        eventually("a ready node", Duration::from_secs(20), async || {
            client::get(&status, "/readyz").await.ok().filter(|answer| answer.status == 200).map(drop)
        })
        .await
        .with_context(|| self.nodes[node].log())
    }

    /// Address of the admin API.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// Address of the port for nodes.
    pub fn nodes_address(&self) -> &str {
        &self.nodes_address
    }

    /// HTTP address of a node.
    ///
    /// # Errors
    /// The node did not print it.
    pub fn http(&self, node: usize) -> anyhow::Result<String> {
        self.nodes[node].address("http")
    }

    /// `GET /status`.
    ///
    /// # Errors
    /// No response.
    pub async fn status(&self) -> anyhow::Result<Value> {
        client::get(&self.admin, "/status").await?.json()
    }

    /// Waits until the health check of the backend at `address` has this result.
    ///
    /// # Errors
    /// The deadline passed.
    pub async fn wait_alive(&self, address: &str, alive: bool) -> anyhow::Result<()> {
        let url = format!("http://{address}");
        eventually("a change of health", Duration::from_secs(10), async || {
            let status = self.status().await.ok()?;
            let backend =
                status["backends"].as_array()?.iter().find(|backend| backend["url"] == url.as_str())?;
            (backend["alive"] == alive).then_some(())
        })
        .await
    }

    /// Runs `weir` with this control plane and returns its output.
    ///
    /// # Errors
    /// The command failed.
    pub fn weir(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = std::process::Command::new(path("weir")?)
            .args(["--admin", &format!("http://{}", self.admin)])
            .args(arguments)
            .output()?;
        let (printed, complained) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        anyhow::ensure!(output.status.success(), "weir {arguments:?} failed: {complained}{printed}");
        Ok(printed)
    }
}

/// Starts a mock.
///
/// # Errors
/// It did not start.
pub fn mock(listen: &str) -> anyhow::Result<Program> {
    let program = Program::start("backend-mock", &["--listen", listen])?;
    program.address("listening")?;
    Ok(program)
}
