//! The program `control-plane`.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use clap::Parser;
use control_plane::Config;
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: weir_allocator::MiMalloc = weir_allocator::MiMalloc;

/// Stores, checks, streams and reports for a fleet.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    config: Config,
    /// Log lines for people or for machines.
    #[arg(long, env = "WEIR_LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    log_format: String,
    /// Lets the system write core dumps, and other processes of the same user read this one's memory, which holds private
    /// keys: to look for a fault, not for use.
    #[arg(long, env = "WEIR_ALLOW_CORE_DUMPS")]
    allow_core_dumps: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    weir_allocator::give_back_soon();
    let arguments = Arguments::parse();
    init_log(&arguments.log_format);
    if !arguments.allow_core_dumps
        && let Err(error) = control_plane::core_dumps::forbid()
    {
        tracing::warn!(%error, "core dumps of this process, which would hold private keys, cannot be forbidden");
    }
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With all its causes in one line; what the operator can do about it does not stand in a stack trace.
            let _ = writeln!(std::io::stderr(), "Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut running = control_plane::start(arguments.config).await?;
    // Whoever started it may have closed its end.
    let _ = writeln!(
        std::io::stdout(),
        "admin {}://{}\nnodes {}://{}",
        running.admin_scheme,
        running.admin,
        running.nodes_scheme,
        running.nodes
    );
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut reload = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = running.stopped() => break,
            _ = reload.recv() => running.reload().await,
        }
    }
    tracing::info!("stopping");
    running.shutdown().await;
    Ok(())
}

fn init_log(format: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| "info".into());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    if format == "json" { log.json().init() } else { log.init() }
}
