//! The database files: their permissions, and other programs that lock, delete or replace them.

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::json;

use super::{
    beside, folder, is_there, newest_elsewhere,
    support::{ControlPlane, config, within},
};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

const SUFFIXES: [&str; 5] = ["", "-wal", "-shm", ".lock", ".key"];

#[tokio::test]
async fn only_the_owner_may_read_the_files_of_the_database() {
    let control_plane = ControlPlane::start().await;
    let database = control_plane.database();
    control_plane.add("http://10.0.0.1:80").await;
    for suffix in SUFFIXES {
        assert_eq!(mode(&beside(&database, suffix)), 0o600, "{suffix}");
    }
    // As left by earlier versions.
    let folder = control_plane.stop().await;
    for suffix in ["", ".lock"] {
        fs::set_permissions(beside(&database, suffix), Permissions::from_mode(0o644)).unwrap();
    }
    let control_plane = ControlPlane::start_in(folder, config(&database)).await;
    control_plane.add("http://10.0.0.2:80").await;
    for suffix in SUFFIXES {
        assert_eq!(mode(&beside(&database, suffix)), 0o600, "{suffix}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_waits_while_another_program_keeps_the_database_locked() {
    if !is_there("python3") {
        return;
    }
    const LOCK: &str = "import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute('BEGIN IMMEDIATE')
print('locked', flush=True)
sys.stdin.readline()
connection.execute('ROLLBACK')";
    let control_plane = ControlPlane::start().await;
    let database = control_plane.database();
    let mut other = Command::new("python3")
        .args(["-c", LOCK])
        .arg(&database)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(other.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "locked\n");
    let mut adding = Box::pin(control_plane.add("http://10.0.0.1:80"));
    let waited = tokio::time::timeout(std::time::Duration::from_millis(300), &mut adding).await;
    assert!(waited.is_err(), "the change is made while the database is locked");
    assert_eq!(control_plane.revision().await, 1, "readers do not wait");
    other.stdin.take().unwrap().write_all(b"\n").unwrap();
    within("the change", adding).await;
    assert!(other.wait().unwrap().success());
    assert_eq!(newest_elsewhere(&database), 2);
}

#[tokio::test]
async fn no_change_is_acknowledged_once_a_file_was_deleted_or_replaced() {
    type Harm = fn(&Path);
    let harms: &[(&str, Harm)] = &[
        ("deleted", |database| fs::remove_file(database).unwrap()),
        ("its log deleted", |database| fs::remove_file(beside(database, "-wal")).unwrap()),
        ("replaced", |database| {
            let other = beside(database, ".other");
            fs::copy(database, &other).unwrap();
            fs::rename(&other, database).unwrap();
        }),
        ("moved away", |database| fs::rename(database, beside(database, ".old")).unwrap()),
    ];
    for (what, harm) in harms {
        let folder = folder();
        let database = folder.path().join("weir.db");
        let control_plane = ControlPlane::start_in(folder, config(&database)).await;
        control_plane.add("http://10.0.0.1:80").await;
        harm(&database);
        for (method, path, body) in [
            ("POST", "/backends", json!({ "url": "http://10.0.0.2:80" })),
            ("POST", "/tokens", json!({ "name": "root", "role": "admin" })),
            ("POST", "/node-tokens", json!({})),
            ("POST", "/nodes/a/revoke", json!({})),
        ] {
            let refused = control_plane.call(method, path, &body.to_string()).await;
            assert_eq!(refused.status, 503, "{what}: {method} {path}: {refused:?}");
            assert!(refused.text.contains("deleted or replaced"), "{what}: {refused:?}");
        }
        assert_eq!(control_plane.revision().await, 2, "{what}: the current configuration is still served");
        if *what == "its log deleted" && is_there("python3") {
            // Changes acknowledged earlier are in the file nevertheless.
            let url = format!("file:{}?immutable=1", database.display());
            let read = "import sqlite3, sys
print(sqlite3.connect(sys.argv[1], uri=True).execute('SELECT max(revision) FROM revisions').fetchone()[0])";
            let output = Command::new("python3").args(["-c", read, &url]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), "2\n", "{output:?}");
        }
        assert!(*what != "deleted" || !database.exists(), "no new database is created in its place");
    }
}
