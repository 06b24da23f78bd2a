//! The control plane's process: start, kill, CPU time and memory.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;

/// A control plane on given ports, with a database that outlives it.
pub struct ControlPlane {
    child: Child,
    program: PathBuf,
    folder: PathBuf,
    /// Admin address.
    pub admin: SocketAddr,
    /// Address for nodes.
    pub nodes: SocketAddr,
}

impl ControlPlane {
    /// Starts a control plane with a database in the folder.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(
        program: &Path,
        folder: &Path,
        admin: SocketAddr,
        nodes: SocketAddr,
    ) -> anyhow::Result<Self> {
        let child = Self::spawn(program, folder, admin, nodes)?;
        let (program, folder) = (program.to_owned(), folder.to_owned());
        let mut this = Self { child, program, folder, admin, nodes };
        this.wait()?;
        Ok(this)
    }

    fn spawn(program: &Path, folder: &Path, admin: SocketAddr, nodes: SocketAddr) -> anyhow::Result<Child> {
        let log = fs::File::options().create(true).append(true).open(folder.join("control-plane.log"))?;
        Command::new(program)
            .args(["--admin", &admin.to_string(), "--nodes", &nodes.to_string()])
            .args(["--database", &format!("sqlite:{}", folder.join("weir.db").display())])
            // One log line per health change would measure the log file, not the control plane.
            .env("WEIR_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while TcpStream::connect(self.admin).is_err() {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(self.folder.join("control-plane.log")).unwrap_or_default();
                anyhow::bail!("the control plane ended with {status}: {log}");
            }
            anyhow::ensure!(begun.elapsed() < Duration::from_secs(60), "the control plane does not start");
            #[expect(clippy::disallowed_methods, reason = "waits for a condition, with a deadline")]
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Kills it like `kill -9` and starts it again; returns when its ports are open.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.kill();
        self.child = Self::spawn(&self.program, &self.folder, self.admin, self.nodes)?;
        self.wait()
    }

    fn kill(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// CPU time used so far.
    ///
    /// # Errors
    /// The process has ended.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after = stat.rsplit_once(')').context("no process name in /proc/PID/stat")?.1;
        let ticks: Vec<u64> =
            after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse().ok()).collect();
        Ok(Duration::from_millis(ticks.iter().sum::<u64>() * 10))
    }

    /// Current and peak memory in MiB.
    ///
    /// # Errors
    /// The process has ended.
    pub fn memory(&self) -> anyhow::Result<(u64, u64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let of = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        Ok((of("VmRSS:").context("no VmRSS")? >> 10, of("VmHWM:").context("no VmHWM")? >> 10))
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.kill();
    }
}
