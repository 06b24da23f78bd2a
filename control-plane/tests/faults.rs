//! Acknowledged changes are stored, whatever fails: clients that hang up, transactions that SQLite aborts, full
//! disks, locked, deleted, replaced and restored files.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

#[path = "faults/copies.rs"]
mod copies;
#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/errors.rs"]
mod errors;
#[path = "faults/files.rs"]
mod files;
#[path = "faults/hang_up.rs"]
mod hang_up;
#[path = "faults/program.rs"]
mod program;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// A folder in memory if possible: these tests write often, and disk speed does not matter.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// Whether a program is installed. With `CI=true` a missing program is a failure.
fn is_there(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    skip(found, &format!("{program} is not installed"))
}

/// Continues if the condition holds, otherwise prints why the test is skipped; `CI=true` forbids skipping.
fn skip(holds: bool, why: &str) -> bool {
    if !holds {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI=true, and {why}");
        println!("skipped: {why}");
    }
    holds
}

/// The rows that another program reads from the file.
fn read_elsewhere(database: &Path, sql: &str) -> Vec<Vec<Value>> {
    const READ: &str = "import json, sqlite3, sys
connection = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True)
print(json.dumps(connection.execute(sys.argv[2]).fetchall()))";
    let read = Command::new("python3").args(["-c", READ]).arg(database).arg(sql).output().unwrap();
    assert!(read.status.success(), "{sql}: {}", String::from_utf8_lossy(&read.stderr));
    serde_json::from_slice(&read.stdout).unwrap()
}

/// The newest revision that another program reads from the file.
fn newest_elsewhere(database: &Path) -> u64 {
    read_elsewhere(database, "SELECT max(revision) FROM revisions")[0][0].as_u64().unwrap()
}

/// A file beside the database.
fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
