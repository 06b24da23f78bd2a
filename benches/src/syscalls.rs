//! System calls per request, counted by strace. It slows the proxy down, so it has a separate pass.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::measure::processes;

const DEADLINE: Duration = Duration::from_secs(10);

/// A running count.
#[derive(Debug)]
pub struct Count {
    strace: Child,
    output: std::path::PathBuf,
}

impl Count {
    /// Attaches to a process and its descendants with all their threads.
    ///
    /// # Errors
    /// strace is missing or may not attach.
    pub fn start(folder: &Path, pid: u32) -> anyhow::Result<Self> {
        let (output, log) = (folder.join("strace.out"), folder.join("strace.log"));
        let mut command = Command::new("strace");
        command.args(["-c", "-f", "-o"]).arg(&output);
        let family = processes(pid)?;
        for pid in &family {
            command.args(["-p", &pid.to_string()]);
        }
        let strace = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()
            .context("cannot run strace")?;
        let mut count = Self { strace, output };
        let begun = Instant::now();
        while fs::read_to_string(&log)?.matches(" attached").count() < family.len() {
            let ended = count.strace.try_wait()?.is_some() || begun.elapsed() > DEADLINE;
            anyhow::ensure!(!ended, "strace does not attach: {}", fs::read_to_string(&log)?);
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(count)
    }

    /// Detaches; returns the number of calls by name.
    ///
    /// # Errors
    /// strace has not written its counts.
    pub fn finish(mut self) -> anyhow::Result<BTreeMap<String, u64>> {
        self.end()?;
        let text = fs::read_to_string(&self.output)?;
        parse(&text).with_context(|| format!("strace printed:\n{text}"))
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let pid = self.strace.id().to_string();
        Command::new("kill").args(["-INT", &pid]).stderr(Stdio::null()).status()?;
        let begun = Instant::now();
        while self.strace.try_wait()?.is_none() {
            if begun.elapsed() > DEADLINE {
                self.strace.kill()?;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// `% time, seconds, usecs/call, calls, [errors,] syscall` between two lines of dashes.
fn parse(text: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    text.lines()
        .skip_while(|line| !line.starts_with("---"))
        .skip(1)
        .take_while(|line| !line.starts_with("---"))
        .map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (calls, name) = fields.get(3).zip(fields.last()).context("a short line")?;
            Ok(((*name).to_owned(), calls.parse()?))
        })
        .collect::<anyhow::Result<BTreeMap<_, _>>>()
        .and_then(|calls| if calls.is_empty() { anyhow::bail!("no calls") } else { Ok(calls) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_parsed_from_the_output_of_strace() {
        let said = "% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 40.10    0.100000           3     30000           writev
 30.00    0.080000           2     40000     10000 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.180000           2     70000     10000 total
";
        let calls = parse(said).unwrap();
        assert_eq!(calls, BTreeMap::from([("recvfrom".into(), 40_000), ("writev".into(), 30_000)]));
        assert!(parse("").is_err());
    }
}
