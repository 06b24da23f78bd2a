//! The `control-plane` program.

use std::{io::Write as _, process::ExitCode};

use control_plane::{Arguments, Config};
use weir_process::{Signal, Signals};

#[global_allocator]
static ALLOCATOR: weir_allocator::MiMalloc = weir_allocator::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    weir_allocator::give_back_soon();
    let (arguments, former): (Arguments, _) = weir_process::parse_with_former_names(Arguments::FORMER_NAMES);
    weir_process::init_log(&arguments.log_format, "info");
    former.log();
    if !arguments.allow_core_dumps
        && let Err(error) = control_plane::core_dumps::forbid()
    {
        tracing::warn!(%error, "cannot disable core dumps of this process, which would contain private keys");
    }
    weir_process::exit_status(run(arguments.config).await)
}

async fn run(config: Config) -> anyhow::Result<()> {
    let mut signals = Signals::handle()?;
    let mut running = tokio::select! {
        running = control_plane::start(config) => running?,
        () = signals.stop() => return Ok(()),
    };
    let addresses = format!(
        "admin {}://{}\nnodes {}://{}\n",
        running.admin_scheme, running.admin, running.nodes_scheme, running.nodes
    );
    // The process that started this one may have closed its end of the pipe.
    let _ = std::io::stdout().write_all(addresses.as_bytes());
    loop {
        tokio::select! {
            () = running.stopped() => break,
            signal = signals.next() => match signal {
                Signal::Reload => running.reload().await,
                Signal::Stop => break,
            },
        }
    }
    tracing::info!("stopping");
    running.shutdown().await;
    Ok(())
}
