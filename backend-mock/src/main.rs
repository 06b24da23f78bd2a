//! The program `backend-mock`: a mock backend for trying Weir.

use std::{io::Write as _, process::ExitCode};

use backend_mock::Arguments;
use weir_process::Signals;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let (arguments, former): (Arguments, _) = weir_process::parse_with_former_names(Arguments::FORMER_NAMES);
    weir_process::init_log(&arguments.log_format, "info");
    former.log();
    weir_process::exit_status(run(arguments).await)
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut signals = Signals::handle()?;
    let running = backend_mock::start_with_faults(arguments.config, arguments.faults).await?;
    let address = format!("listening {}://{}\n", running.scheme, running.address);
    // The parent process may have closed the other end.
    let _ = std::io::stdout().write_all(address.as_bytes());
    signals.stop_or_hangup().await;
    running.shutdown().await;
    Ok(())
}
