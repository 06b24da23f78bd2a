//! Exit status and final error message of a program.

use std::{io::Write as _, process::ExitCode};

use weir_snapshot::visible;

/// Returns the exit status. An error is written to standard error, without a stack trace.
pub fn exit_status(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints an error with its causes. It may contain untrusted bytes, so each line is escaped for the terminal.
pub(crate) fn print(error: &anyhow::Error) {
    let text = format!("error: {error:#}");
    let lines: Vec<_> = text.lines().map(|line| visible(line, usize::MAX)).collect();
    // If standard error cannot be written, only the exit status reports the failure.
    let _ = writeln!(std::io::stderr(), "{}", lines.join("\n"));
}
