//! Process-level behaviour of all Weir programs: command line, signals, log, exit status.

mod arguments;
mod ending;
mod log;
mod signals;

pub use self::{
    arguments::{FormerName, FormerNames, end, parse, parse_with_former_names, with_former_names},
    ending::exit_status,
    log::init as init_log,
    signals::{Signal, Signals, no_files},
};
