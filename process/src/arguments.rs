//! The command line.

use clap::Parser;

/// Reads the command line, or prints what is wrong with it, or the help, and ends the process.
///
/// clap itself ends with status 0 when `--help` could not be written.
pub fn parse<T: Parser>() -> T {
    let error = match T::try_parse() {
        Ok(arguments) => return arguments,
        Err(error) => error,
    };
    if !error.use_stderr()
        && let Err(problem) = error.print()
        && problem.kind() != std::io::ErrorKind::BrokenPipe
    {
        let problem = anyhow::Error::new(problem).context("cannot write to standard output");
        crate::ending::print(&problem);
        std::process::exit(1);
    }
    if error.use_stderr() {
        error.exit();
    }
    std::process::exit(0)
}
