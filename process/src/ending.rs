//! How a program ends.

use std::{io::Write as _, process::ExitCode};

use weir_snapshot::visible;

/// The exit status of a program; an error is written to standard error, without a stack trace.
pub fn exit_status(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print(&error);
            ExitCode::FAILURE
        }
    }
}

/// Writes an error with its causes. It may hold bytes from outside, so each line is made safe for a terminal.
pub(crate) fn print(error: &anyhow::Error) {
    let text = format!("error: {error:#}");
    let lines: Vec<_> = text.lines().map(|line| visible(line, usize::MAX)).collect();
    // Where standard error cannot be written, the exit status has to do.
    let _ = writeln!(std::io::stderr(), "{}", lines.join("\n"));
}
