//! The program `weir`: the command line of a fleet.
//!
//! `arguments` defines the grammar, `usage` parses the command line, and `commands` dispatches each command. Most
//! commands call the admin API (`client`) of the control plane that `connection` chooses, and write with `output`.
//! `check` needs no control plane, `load` sends traffic, and `dev` runs a whole fleet in this process.

mod access;
mod arguments;
mod backends;
mod certs;
mod check;
mod client;
mod commands;
mod completion;
mod configuration;
mod connection;
mod contexts;
mod dev;
mod each;
mod explain;
mod fields;
mod hash_password;
mod hidden_input;
mod load;
mod nodes;
mod output;
#[cfg(test)]
mod reference;
mod report_table;
mod reports;
mod resources;
mod rollout;
mod sparkline;
mod status;
mod tail;
mod tls;
mod usage;
mod version;

use std::process::ExitCode;

use self::{arguments::Command, client::ClientError, output::tell, usage::Typed};

#[global_allocator]
static ALLOCATOR: weir_allocator::MiMalloc = weir_allocator::MiMalloc;

fn main() -> ExitCode {
    // If a shell requests completions, this prints them and exits.
    clap_complete::CompleteEnv::with_factory(usage::command).complete();
    weir_allocator::give_back_soon();
    let Typed { arguments, flags, former } = usage::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tell!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Scripts expect exit status 1 of a diff to mean "different".
    let failure = if matches!(arguments.command, Command::Diff { .. }) { 2 } else { 1 };
    let result = runtime.block_on(commands::run(arguments, flags, &former));
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
