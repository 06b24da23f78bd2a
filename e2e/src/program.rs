//! A real program as a child process.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;

/// A running program; killed when dropped.
pub struct Program {
    child: Child,
    name: String,
    printed: Arc<(Mutex<Printed>, Condvar)>,
    logged: Arc<Mutex<String>>,
}

#[derive(Default)]
struct Printed {
    addresses: HashMap<String, String>,
    ended: bool,
}

/// Where the workspace's programs are: in the folder that `WEIR_PROGRAMS` names, or where cargo puts them, two folders
/// above the test's own.
///
/// # Errors
/// It is not built.
pub fn path(name: &str) -> anyhow::Result<PathBuf> {
    let folder = match std::env::var_os("WEIR_PROGRAMS") {
        Some(folder) => folder.into(),
        None => {
            let test = std::env::current_exe()?;
            let folder = test.ancestors().nth(2);
            folder.context("the test's program has no folder")?.to_owned()
        }
    };
    let path = folder.join(name);
    anyhow::ensure!(path.exists(), "{} is not built; run `cargo build --workspace` first", path.display());
    Ok(path)
}

impl Program {
    /// Starts `name` with arguments.
    ///
    /// # Errors
    /// It is not built, or cannot be started.
    pub fn start<S: AsRef<std::ffi::OsStr>>(name: &str, arguments: &[S]) -> anyhow::Result<Self> {
        Self::start_in(name, arguments, &[])
    }

    /// Starts `name` with arguments and environment variables.
    ///
    /// # Errors
    /// It is not built, or cannot be started.
    pub fn start_in<S: AsRef<std::ffi::OsStr>>(
        name: &str,
        arguments: &[S],
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut child = Command::new(path(name)?)
            .args(arguments)
            .envs(variables.iter().copied())
            .env("WEIR_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let printed: Arc<(Mutex<Printed>, Condvar)> = Arc::default();
        let logged: Arc<Mutex<String>> = Arc::default();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        if let Some(stdout) = stdout {
            let printed = Arc::clone(&printed);
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let printed_address =
                        line.split_once(" http://").or_else(|| line.split_once(" https://"));
                    if let Some((what, address)) = printed_address {
                        let mut state = printed.0.lock().unwrap_or_else(PoisonError::into_inner);
                        state.addresses.insert(what.trim().to_owned(), address.trim().to_owned());
                        printed.1.notify_all();
                    }
                }
                printed.0.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
                printed.1.notify_all();
            });
        }
        if let Some(stderr) = stderr {
            let logged = Arc::clone(&logged);
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let mut text = logged.lock().unwrap_or_else(PoisonError::into_inner);
                    text.push_str(&line);
                    text.push('\n');
                }
            });
        }
        Ok(Self { child, name: name.to_owned(), printed, logged })
    }

    /// The address that it printed behind `what`, such as `admin`; any-address is given as loopback.
    ///
    /// # Errors
    /// It ended or did not print it within 30 s.
    pub fn address(&self, what: &str) -> anyhow::Result<String> {
        let begun = Instant::now();
        let (lock, changed) = &*self.printed;
        let mut state = lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(address) = state.addresses.get(what) {
                return Ok(address.replace("0.0.0.0", "127.0.0.1"));
            }
            anyhow::ensure!(
                !state.ended && begun.elapsed() < Duration::from_secs(30),
                "{} did not print its address {what:?}; it logged:\n{}",
                self.name,
                self.log()
            );
            state =
                changed.wait_timeout(state, Duration::from_secs(1)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.logged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Memory that it holds now, in bytes.
    ///
    /// # Errors
    /// It has ended.
    pub fn memory(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        Ok(kib.with_context(|| format!("{} has no memory", self.name))? << 10)
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, as an orchestrator does, and waits; whether it ended well.
    ///
    /// # Errors
    /// It did not end within the deadline.
    pub async fn terminate(&mut self, within: Duration) -> anyhow::Result<bool> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status()?;
        self.ended(within).await
    }

    /// Asks it to read its configuration again.
    ///
    /// # Errors
    /// The signal could not be sent.
    pub fn hang_up(&self) -> anyhow::Result<()> {
        self.signal("HUP")
    }

    /// Sends it a signal, by its name without `SIG`.
    ///
    /// # Errors
    /// The signal could not be sent.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status()?;
        Ok(())
    }

    /// Waits for its end; whether it ended well.
    ///
    /// # Errors
    /// It did not end within the deadline.
    pub async fn ended(&mut self, within: Duration) -> anyhow::Result<bool> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.success());
            }
            anyhow::ensure!(begun.elapsed() < within, "{} did not end within {within:?}", self.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
