//! Disables core dumps, which would write the private keys in this process's memory to disk.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Disables core dumps of this process and, on Linux, prevents other processes of the same user from reading its
/// memory.
///
/// # Errors
/// The operating system refused.
pub fn forbid() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}
