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

/// Path of a program of the workspace: in the folder `WEIR_PROGRAMS`, or where cargo puts it, two folders above the
/// test program.
///
/// # Errors
/// The program is not built.
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
    /// Starts a program with arguments.
    ///
    /// # Errors
    /// The program is not built or cannot be started.
    pub fn start<S: AsRef<std::ffi::OsStr>>(name: &str, arguments: &[S]) -> anyhow::Result<Self> {
        Self::start_in(name, arguments, &[])
    }

    /// Starts a program with arguments and environment variables.
    ///
    /// # Errors
    /// The program is not built or cannot be started.
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

    /// The address that the program printed after `what`, such as `admin`; an unspecified address becomes loopback.
    ///
    /// # Errors
    /// The program ended, or did not print the address within 30 s.
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

    /// The log so far.
    pub fn log(&self) -> String {
        self.logged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Current memory in bytes.
    ///
    /// # Errors
    /// The program has ended.
    pub fn memory(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        Ok(kib.with_context(|| format!("no memory usage of {}", self.name))? << 10)
    }

    /// Kills the program like `kill -9`.
    pub fn kill(&mut self) {
        // The program may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM, like an orchestrator, and waits; returns whether the exit status was 0.
    ///
    /// # Errors
    /// The program did not end in time.
    pub async fn terminate(&mut self, within: Duration) -> anyhow::Result<bool> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status()?;
        self.ended(within).await
    }

    /// Sends SIGHUP, which reloads the configuration.
    ///
    /// # Errors
    /// The signal could not be sent.
    pub fn hang_up(&self) -> anyhow::Result<()> {
        self.signal("HUP")
    }

    /// Sends a signal, named without `SIG`.
    ///
    /// # Errors
    /// The signal could not be sent.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status()?;
        Ok(())
    }

    /// Waits until the program ends; returns whether the exit status was 0.
    ///
    /// # Errors
    /// The program did not end in time.
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
