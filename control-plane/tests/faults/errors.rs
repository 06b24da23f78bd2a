//! Writes that the system rejects: I/O errors at each write, and a file system that becomes read-only.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use super::{beside, folder, is_there, newest_elsewhere, program::Program, read_elsewhere, skip};

fn revision(program: &Program) -> u64 {
    let (_, status) = program.call("GET", "/status", &Value::Null);
    serde_json::from_str::<Value>(&status).unwrap()["revision"].as_u64().unwrap()
}

/// A change that needs a few pages.
fn route(number: u64) -> Value {
    let padding = "x".repeat(3000);
    json!({ "pool": "default", "match": { "hosts": [format!("h{number}.example")], "headers": { "x-a": padding } } })
}

fn token(name: &str) -> Value {
    json!({ "name": name, "role": "viewer" })
}

/// A program with an admin token.
fn started(database: &Path) -> Program {
    let mut program = Program::start(database, &["--allow-core-dumps"]);
    let (status, made) = program.call("POST", "/tokens", &json!({ "name": "root", "role": "admin" }));
    assert_eq!(status, 201, "{made}");
    let made: Value = serde_json::from_str(&made).unwrap();
    program.show(made["token"].as_str().unwrap());
    program
}

#[test]
fn a_change_that_fails_at_any_write_with_an_i_o_error_is_refused_and_the_next_one_is_stored() {
    if !is_there("python3") {
        return;
    }
    let folder = folder();
    let database = folder.path().join("weir.db");
    let program = started(&database);
    let (mut failed, mut number) = (0, 0);
    let mut names = vec!["root".to_owned()];
    let mut room = 0;
    // The log grows by a page of 16 KiB and the head of its frame; the steps hit both, and the middle of a page.
    for _ in 0..60 {
        number += 1;
        let length = fs::metadata(beside(&database, "-wal")).unwrap().len();
        program.limit_files(Some(length + room));
        let (put, refusal) = program.call("PUT", &format!("/routes/r{}", number % 7), &route(number));
        let name = format!("t{number}");
        let (made, _) = program.call("POST", "/tokens", &token(&name));
        program.limit_files(None);
        if made == 201 {
            names.push(name);
        }
        if put == 503 {
            failed += 1;
            assert!(refusal.contains("I/O error") || refusal.contains("disk is full"), "{refusal}");
        } else {
            assert!(put < 300, "{put} {refusal}");
        }
        let after = format!("after{number}");
        let (made, refusal) = program.call("POST", "/tokens", &token(&after));
        assert_eq!(made, 201, "with {room} bytes of room, afterwards: {refusal}");
        names.push(after);
        if number % 10 == 0 {
            assert_eq!(newest_elsewhere(&database), revision(&program), "with {room} bytes of room");
        }
        room = (room + 4_001) % 120_000;
    }
    assert!(failed > 10, "only {failed} changes failed");
    let stored = read_elsewhere(&database, "SELECT name FROM tokens ORDER BY id");
    let stored: Vec<&str> = stored.iter().map(|row| row[0].as_str().unwrap()).collect();
    assert_eq!(stored, names);
    let newest = revision(&program);
    program.kill();
    assert_eq!(newest_elsewhere(&database), newest);
}

/// A file system in a file that can be made read-only while files on it are open, as the kernel does after an error.
struct Loop(tempfile::TempDir);

impl Loop {
    fn mount() -> Option<Self> {
        if !Path::new("/dev/loop-control").exists() {
            println!("skipped: there are no loop devices here");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        let run = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let is_mounted = fs::File::create(&image).and_then(|file| file.set_len(16 << 20)).is_ok()
            && fs::create_dir(folder.path().join("disk")).is_ok()
            && run(Command::new("mkfs.ext4").arg("-q").arg(&image))
            && run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(folder.path().join("disk")));
        skip(is_mounted, "a loop device cannot be mounted without root").then(|| Self(folder))
    }

    fn database(&self) -> std::path::PathBuf {
        self.0.path().join("disk/weir.db")
    }

    fn mount_again(&self, options: &str) {
        let done = Command::new("mount").args(["-o", options]).arg(self.0.path().join("disk")).output();
        assert!(done.unwrap().status.success(), "{options}");
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path().join("disk")).status();
    }
}

#[test]
fn a_file_system_that_becomes_read_only_loses_no_acknowledged_change() {
    let Some(disk) = Loop::mount() else { return };
    if !is_there("python3") {
        return;
    }
    let database = disk.database();
    let program = started(&database);
    let (put, _) = program.call("PUT", "/routes/before", &route(0));
    assert_eq!(put, 201);
    let newest = revision(&program);
    disk.mount_again("remount,abort");
    for (method, path, body) in [
        ("PUT", "/routes/r", route(1)),
        ("POST", "/tokens", token("lost")),
        ("POST", "/node-tokens", json!({})),
        ("PUT", "/routes/r", route(1)),
    ] {
        let (status, refusal) = program.call(method, path, &body);
        assert_eq!(status, 503, "{method} {path}: {refusal}");
        assert!(refusal.contains("read-only") || refusal.contains("I/O error"), "{refusal}");
    }
    assert_eq!(revision(&program), newest, "the current configuration is still served");
    let (status, route) = program.call("GET", "/routes/before", &Value::Null);
    assert_eq!(status, 200, "{route}");
    program.kill();

    // The file system's journal is replayed, as after a reboot.
    let place = disk.0.path().join("disk");
    assert!(Command::new("umount").arg(&place).status().unwrap().success());
    let mounted =
        Command::new("mount").args(["-o", "loop"]).arg(disk.0.path().join("image")).arg(&place).status();
    assert!(mounted.unwrap().success());
    assert_eq!(newest_elsewhere(&database), newest);
    let stored = read_elsewhere(&database, "SELECT name FROM tokens ORDER BY id");
    assert_eq!(stored, [[Value::from("root")]]);
}

#[test]
fn core_dumps_of_the_program_are_disabled() {
    let folder = folder();
    for (flags, forbidden) in [(&[][..], true), (&["--allow-core-dumps"][..], false)] {
        let database = folder.path().join("weir.db");
        let program = Program::start(&database, flags);
        let limits = fs::read_to_string(format!("/proc/{}/limits", program.pid()));
        let Ok(limits) = limits else {
            assert!(skip(false, "there is no /proc"));
            return;
        };
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let is_zero = line.split_whitespace().skip(4).take(2).eq(["0", "0"]);
        assert!(is_zero || !forbidden, "{line}");
    }
}
