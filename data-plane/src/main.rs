//! The program `data-plane`: one node of the fleet.

use std::{io::Write as _, process::ExitCode};

use data_plane::{Arguments, Config};
use weir_process::{Signal, Signals};

#[global_allocator]
static ALLOCATOR: weir_allocator::MiMalloc = weir_allocator::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    weir_allocator::give_back_soon();
    let (arguments, former): (Arguments, _) = weir_process::parse_with_former_names(Arguments::FORMER_NAMES);
    weir_process::init_log(&arguments.log_format, "info");
    former.log();
    if !arguments.allow_core_dumps
        && let Err(error) = data_plane::core_dumps::forbid()
    {
        tracing::warn!(%error, "cannot disable core dumps of this process, which would contain private keys");
    }
    weir_process::exit_status(run(arguments.config).await)
}

async fn run(config: Config) -> anyhow::Result<()> {
    let mut signals = Signals::handle()?;
    let running = tokio::select! {
        running = data_plane::start(config) => running?,
        () = signals.stop() => return Ok(()),
    };
    let https = running.https.map_or_else(String::new, |https| format!("https https://{https}\n"));
    let addresses = format!("http http://{}\n{https}status http://{}\n", running.http, running.status);
    // The process that started it may have closed its end.
    let _ = std::io::stdout().write_all(addresses.as_bytes());
    while signals.next().await == Signal::Reload {
        running.reload();
    }
    tracing::info!("draining");
    running.shutdown().await;
    Ok(())
}
