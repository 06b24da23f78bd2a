//! Reads a line from the terminal without echo.

use std::io::{self, BufRead as _, Write as _};

use anyhow::Context as _;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Writes the question to standard error and reads a line from standard input, which is a terminal.
pub(crate) fn line(question: &str) -> anyhow::Result<String> {
    let stdin = io::stdin();
    let _ = io::stderr().write_all(question.as_bytes());
    let before = Silenced::new()?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line).context("cannot read the terminal");
    drop(before);
    let _ = io::stderr().write_all(b"\n");
    read?;
    Ok(line)
}

/// Restores the terminal's echo when dropped.
struct Silenced(Termios);

impl Silenced {
    fn new() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin()).context("cannot read the terminal's settings")?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent).context("cannot silence the terminal")?;
        Ok(Self(before))
    }
}

impl Drop for Silenced {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
