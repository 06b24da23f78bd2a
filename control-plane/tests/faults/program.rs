//! The control plane as a process of its own, for limits that hold for a whole process.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;

use super::support::DEADLINE;

/// Dropping it kills the process.
pub(super) struct Program {
    child: Child,
    admin: String,
    token: Option<String>,
}

impl Program {
    /// Starts the program over a database. A write beyond a limit fails instead of ending it.
    pub(super) fn start(database: &Path, flags: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WEIR_")) {
            shell.env_remove(name);
        }
        let mut child = shell
            .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_control-plane")])
            .args(["--admin", "127.0.0.1:0", "--nodes", "127.0.0.1:0", "--database"])
            .arg(format!("sqlite:{}", database.display()))
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let admin = line.trim().strip_prefix("admin http://").unwrap_or_else(|| panic!("it prints {line:?}"));
        let admin = admin.to_owned();
        Self { child, admin, token: None }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn show(&mut self, token: &str) {
        self.token = Some(token.to_owned());
    }

    /// Limits the file size of the process; `None`: no limit.
    pub(super) fn limit_files(&self, bytes: Option<u64>) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        prlimit(pid, Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
    }

    /// Status and body of a call.
    pub(super) fn call(&self, method: &str, path: &str, body: &Value) -> (u16, String) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(&self.admin).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let token = self.token.as_ref().map(|token| format!("authorization: Bearer {token}\r\n"));
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{}content-length: {}\r\n\r\n{body}",
            self.admin,
            token.unwrap_or_default(),
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Kills the process, like a crash.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
