//! The program `data-plane`: one node of the fleet.

use std::io::{IsTerminal as _, Write as _};

use clap::Parser;
use data_plane::Config;
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: weir_allocator::MiMalloc = weir_allocator::MiMalloc;

/// Carries the fleet's traffic as the control plane says.
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

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    weir_allocator::give_back_soon();
    let arguments = Arguments::parse();
    init_log(&arguments.log_format);
    if !arguments.allow_core_dumps
        && let Err(error) = data_plane::core_dumps::forbid()
    {
        tracing::warn!(%error, "core dumps of this process, which would hold private keys, cannot be forbidden");
    }
    let running = data_plane::start(arguments.config).await?;
    // Whoever started it may have closed its end.
    let https = running.https.map_or_else(String::new, |https| format!("https https://{https}\n"));
    let _ =
        write!(std::io::stdout(), "http http://{}\n{https}status http://{}\n", running.http, running.status);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("draining");
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
