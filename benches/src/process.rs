//! Child processes that are pinned to cores and never outlive the benchmark.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;

const START_DEADLINE: Duration = Duration::from_secs(20);
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// A running program. Dropping it terminates the program, and kills it if it does not end.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

/// A command that is pinned to these cores.
#[must_use]
pub fn on(cores: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", cores]).arg(program);
    command
}

impl Process {
    /// Starts a program in `folder`. Its standard output and error go to `<name>.out` and `<name>.log` there.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(folder: &Path, name: &str, mut command: Command) -> anyhow::Result<Self> {
        let child = command
            .current_dir(folder)
            // Otherwise only root can read a node's memory usage.
            .env("WEIR_ALLOW_CORE_DUMPS", "true")
            .stdin(Stdio::null())
            .stdout(File::create(folder.join(format!("{name}.out")))?)
            .stderr(File::create(folder.join(format!("{name}.log")))?)
            .spawn()
            .with_context(|| format!("cannot start {name} through taskset"))?;
        Ok(Self { child, name: name.to_owned(), log: folder.join(format!("{name}.log")) })
    }

    /// Process id. taskset replaces itself by the program.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the condition holds.
    ///
    /// # Errors
    /// The program ended, or the deadline passed.
    pub fn wait_until(&mut self, what: &str, mut holds: impl FnMut() -> bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !holds() {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                anyhow::bail!("{} ended with {status} before {what}; its log:\n{log}", self.name);
            }
            anyhow::ensure!(begun.elapsed() < START_DEADLINE, "{}: {what} took too long", self.name);
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until the program accepts connections.
    ///
    /// # Errors
    /// As [`Process::wait_until`].
    pub fn wait_for_port(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        self.wait_until("it accepts connections", || TcpStream::connect(address).is_ok())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The program may have ended already; then the signals fail.
        let _ =
            Command::new("kill").args(["-TERM", &self.child.id().to_string()]).stderr(Stdio::null()).status();
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begun.elapsed() > STOP_DEADLINE {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

/// Free loopback addresses for programs that cannot choose a port themselves. They are bound at the same time, so
/// that they differ, and then released.
///
/// # Errors
/// No port is free.
pub fn free_addresses<const N: usize>() -> anyhow::Result<[SocketAddr; N]> {
    let listeners = (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); N];
    for (address, listener) in addresses.iter_mut().zip(&listeners) {
        *address = listener.local_addr()?;
    }
    Ok(addresses)
}
