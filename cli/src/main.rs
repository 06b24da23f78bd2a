//! The program `weir`: the command line of the fleet.
//!
//! `arguments` is what can be typed; `commands` does it through the admin API (`client`) and prints (`output`);
//! `check` needs no server, `load` sends traffic, `dev` runs a whole fleet in this process.

mod access;
mod arguments;
mod certs;
mod check;
mod client;
mod commands;
mod configuration;
mod dev;
mod explain;
mod hash_password;
mod load;
mod nodes;
mod output;
mod report;
mod report_table;
mod rollout;
mod sparkline;
mod tail;
mod tls;

use std::process::ExitCode;

use clap::CommandFactory as _;

use self::{
    arguments::{Arguments, Command},
    client::{Client, ClientError},
    output::tell,
};

#[global_allocator]
static ALLOCATOR: weir_allocator::MiMalloc = weir_allocator::MiMalloc;

fn main() -> ExitCode {
    weir_allocator::give_back_soon();
    let arguments: Arguments = weir_process::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tell!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    // diff(1) has taught scripts that 1 means "different".
    let failure = if matches!(arguments.command, Command::Diff { .. }) { 2 } else { 1 };
    let result = runtime.block_on(run(arguments));
    if let Err(error) = &result {
        match error.downcast_ref::<ClientError>() {
            Some(error) => error.print(),
            None => tell!("error: {error:#}"),
        }
    }
    let unwritten = output::error();
    if let Some(error) = &unwritten {
        tell!("error: {error}");
    }
    match result {
        Ok(code) if unwritten.is_none() => code,
        _ => ExitCode::from(failure),
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { admin, token, token_file, ca, output, command } = arguments;
    match command {
        Command::Check { file } => check::check(&file, output)?,
        Command::HashPassword => hash_password::run()?,
        Command::Schema => output::print_exact(&weir_snapshot::schema::text()),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "weir", &mut script);
            output::print_exact(&String::from_utf8_lossy(&script));
        }
        Command::Load(load) => load::run(load, output).await?,
        Command::Dev(_)
            if admin != arguments::ADMIN && std::env::var("WEIR_ADMIN").ok().as_ref() != Some(&admin) =>
        {
            anyhow::bail!(
                "weir dev is where the control plane listens: write --admin-listen ADDRESS instead of --admin"
            );
        }
        Command::Dev(dev) => dev::run(dev, access::given(token, token_file.as_deref())?).await?,
        command => {
            let token = access::given(token, token_file.as_deref())?;
            return commands::run(&Client::new(&admin, token, ca.as_deref())?, output, command).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}
