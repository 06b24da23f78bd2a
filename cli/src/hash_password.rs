//! `weir hash-password`: makes of a password what `basic_auth` takes.

use std::io::{BufRead as _, IsTerminal as _};

use anyhow::Context as _;
use argon2::{Argon2, password_hash::PasswordHasher as _};

use crate::output::{print, tell};

/// Reads a line from stdin and prints its hash: Argon2id with the parameters that OWASP advises (19 MiB, 2 rounds).
pub(crate) fn run() -> anyhow::Result<()> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        tell!("password (it is shown while you type; better: weir hash-password < FILE):");
    }
    let mut line = Vec::new();
    stdin.lock().read_until(b'\n', &mut line).context("cannot read stdin")?;
    let password = line.strip_suffix(b"\n").unwrap_or(&line);
    let password = password.strip_suffix(b"\r").unwrap_or(password);
    anyhow::ensure!(!password.is_empty(), "the password is empty: give it as a line on stdin");
    let hash = Argon2::default().hash_password(password);
    print(&hash.map_err(|error| anyhow::anyhow!("cannot hash: {error}"))?.to_string());
    Ok(())
}
