//! The program `backend-mock`: one backend to try Weir with.

use std::{io::Write as _, process::ExitCode};

use backend_mock::{Config, Faults};
use clap::Parser;
use weir_process::Signals;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A backend to try Weir with: a bookstore API, faults on demand, WebSocket, streams.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    config: Config,
    #[command(flatten)]
    faults: Faults,
    /// How log lines are written to stderr.
    #[arg(long, env = "WEIR_LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    log_format: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Arguments = weir_process::parse();
    weir_process::init_log(&arguments.log_format, "info");
    weir_process::exit_status(run(arguments).await)
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut signals = Signals::handle()?;
    let running = backend_mock::start_with_faults(arguments.config, arguments.faults).await?;
    let address = format!("listening {}://{}\n", running.scheme, running.address);
    // The process that started it may have closed its end.
    let _ = std::io::stdout().write_all(address.as_bytes());
    signals.stop_or_hangup().await;
    running.shutdown().await;
    Ok(())
}
