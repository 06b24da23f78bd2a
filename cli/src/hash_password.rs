//! `weir hash-password`: hashes a password for `basic_auth`.

use std::io::{BufRead as _, IsTerminal as _};

use anyhow::Context as _;
use argon2::{Argon2, password_hash::PasswordHasher as _};

use crate::{hidden_input, output::print};

/// Reads a line from stdin and prints its hash: Argon2id with the parameters that OWASP recommends (19 MiB, 2 rounds).
pub(crate) fn run() -> anyhow::Result<()> {
    let stdin = std::io::stdin();
    let mut line = Vec::new();
    if stdin.is_terminal() {
        line = hidden_input::line("password: ")?.into_bytes();
    } else {
        stdin.lock().read_until(b'\n', &mut line).context("cannot read standard input")?;
    }
    let password = line.strip_suffix(b"\n").unwrap_or(&line);
    let password = password.strip_suffix(b"\r").unwrap_or(password);
    anyhow::ensure!(!password.is_empty(), "the password is empty: write it as a line to standard input");
    let hash = Argon2::default().hash_password(password);
    print(&hash.map_err(|error| anyhow::anyhow!("cannot hash: {error}"))?.to_string());
    Ok(())
}
