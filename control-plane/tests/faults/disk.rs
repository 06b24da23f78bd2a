//! Failing writes: SQLite aborts the transaction by itself, and acknowledged changes are in the file nevertheless.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use super::{
    folder, is_there, newest_elsewhere, read_elsewhere, skip,
    support::{
        ControlPlane, config,
        world::{NOON, World, batch, row},
    },
};

/// Every table that operator calls write.
const TABLES: &[&str] = &[
    "revisions",
    "changes",
    "pools",
    "backends",
    "routes",
    "certificates",
    "secrets",
    "settings",
    "tokens",
    "node_tokens",
    "revoked_nodes",
    "meta",
    "audit",
];

async fn sql(database: &Path, text: String) {
    let url = format!("sqlite:{}", database.display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Lets this many writes succeed; the next one aborts its transaction, as on a full disk or an I/O error. `None`: all
/// succeed.
async fn let_succeed(database: &Path, writes: Option<i64>) {
    sql(database, format!("UPDATE faults SET left = {}", writes.unwrap_or(i64::MAX))).await;
}

async fn inject(database: &Path) {
    let mut text = format!("CREATE TABLE faults (left INTEGER); INSERT INTO faults VALUES ({});", i64::MAX);
    for table in TABLES {
        for write in ["INSERT", "UPDATE", "DELETE"] {
            text += &format!(
                "CREATE TRIGGER fault_{table}_{write} BEFORE {write} ON {table} BEGIN
                     SELECT RAISE(ROLLBACK, 'the disk is on fire') FROM faults WHERE left = 0;
                     UPDATE faults SET left = left - 1;
                 END;"
            );
        }
    }
    sql(database, text).await;
}

#[tokio::test]
async fn a_transaction_that_fails_at_any_write_is_rejected_and_the_next_one_is_stored() {
    let folder = folder();
    let database = folder.path().join("weir.db");
    let control_plane = ControlPlane::start_in(folder, config(&database)).await;
    let admin = control_plane.token(None, "root", "admin", None).await;
    let call = async |method: &str, path: &str, body: Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        control_plane.call_as(Some(&admin), method, path, &body).await.status
    };
    inject(&database).await;
    let can_read = is_there("python3");
    let (mut failed, mut weight) = (0, 1);
    type Make = fn(usize) -> (&'static str, String, Value);
    let changes: &[Make] = &[
        |n| ("POST", "/backends".into(), json!({ "url": format!("http://10.0.0.{n}:80") })),
        |n| {
            (
                "PUT",
                format!("/routes/r{n}"),
                json!({ "pool": "default", "match": { "hosts": [format!("h{n}.example")] } }),
            )
        },
        |n| ("POST", "/tokens".into(), json!({ "name": format!("t{n}"), "role": "viewer" })),
        |n| ("DELETE", format!("/tokens/t{}", n - 1), Value::Null),
        |_| ("POST", "/node-tokens".into(), json!({})),
        |n| ("POST", format!("/nodes/n{n}/revoke"), Value::Null),
    ];
    let_succeed(&database, None).await;
    assert_eq!(call("POST", "/backends", json!({ "url": "http://10.1.1.1:80" })).await, 201);
    for (kind, change) in changes.iter().enumerate() {
        if kind == 3 {
            assert_eq!(call("POST", "/tokens", json!({ "name": "t300", "role": "viewer" })).await, 201);
        }
        for writes in 0.. {
            let number = if kind == 3 { 301 } else { kind * 100 + usize::try_from(writes).unwrap() };
            let (method, path, body) = change(number);
            let_succeed(&database, Some(writes)).await;
            let status = call(method, &path, body).await;
            let_succeed(&database, None).await;
            // The next change is applied, stored and current.
            weight = weight % 9 + 1;
            let patched = call("PATCH", "/backends/b1", json!({ "weight": weight })).await;
            assert_eq!(patched, 200, "{method} {path} after {writes} writes");
            let token = format!("after{kind}x{writes}");
            assert_eq!(call("POST", "/tokens", json!({ "name": token, "role": "viewer" })).await, 201);
            if can_read && writes % 4 == 0 {
                let read = control_plane.call_as(Some(&admin), "GET", "/status", "").await.expect(200);
                assert_eq!(newest_elsewhere(&database), read["revision"], "{method} {path} after {writes}");
                let names = read_elsewhere(&database, "SELECT name FROM tokens ORDER BY id DESC LIMIT 1");
                assert_eq!(names[0][0], token.as_str());
            }
            if status < 300 {
                break;
            }
            assert!(status >= 500, "{method} {path} after {writes} writes: {status}");
            failed += 1;
        }
    }
    println!("{} changes, failed at {failed} writes", changes.len());
    assert!(failed > changes.len());
}

/// A small separate file system.
struct Small(PathBuf, #[expect(dead_code, reason = "removed when it is dropped")] tempfile::TempDir);

impl Small {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small");
        fs::create_dir(&path).unwrap();
        let options = format!("size={size}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path).output();
        let is_mounted = mounted.is_ok_and(|output| output.status.success());
        skip(is_mounted, "a small file system cannot be mounted without root").then(|| Self(path, folder))
    }

    /// Fills the file system except for this many bytes.
    fn fill(&self, but: usize) {
        let mut file = fs::File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(u64::try_from(but).unwrap())).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn changes_acknowledged_on_a_disk_that_fills_up_are_in_the_file() {
    let Some(disk) = Small::mount("6m") else { return };
    if !is_there("python3") {
        return;
    }
    let database = disk.0.join("weir.db");
    let start = || config(&database);
    let running = control_plane::start(start()).await.unwrap();
    let mut control_plane = ControlPlane::from(tempfile::tempdir().unwrap(), running);
    let admin = control_plane.token(None, "root", "admin", None).await;
    let (mut names, mut refused, mut number) = (vec!["root".to_owned()], 0, 0);
    for round in 0..9 {
        // The disk is full at another moment in each round.
        disk.fill(round * 16 * 1024);
        for _ in 0..40 {
            number += 1;
            // A large change needs more pages than a small one.
            let padding = "x".repeat(20_000 * (number % 3));
            let body = json!({ "pool": "default", "match": { "hosts": ["h.example"], "headers": { "x-a": padding } } });
            let route = format!("/routes/r{}", number % 5);
            let put = control_plane.call_as(Some(&admin), "PUT", &route, &body.to_string()).await;
            let name = format!("t{number}");
            let body = json!({ "name": name, "role": "viewer" }).to_string();
            let made = control_plane.call_as(Some(&admin), "POST", "/tokens", &body).await;
            if made.status == 201 {
                names.push(name);
            }
            let full = [&put, &made].into_iter().filter(|answer| answer.status >= 300);
            for answer in full.clone() {
                assert_eq!(answer.status, 503, "{answer:?}");
                assert!(answer.text.contains("the disk is full"), "{answer:?}");
            }
            if full.count() == 2 {
                refused += 1;
                break;
            }
        }
        disk.free();
        let name = format!("after{round}");
        let body = json!({ "name": name, "role": "viewer" }).to_string();
        control_plane.call_as(Some(&admin), "POST", "/tokens", &body).await.expect(201);
        names.push(name);
        let read = control_plane.call_as(Some(&admin), "GET", "/status", "").await.expect(200);
        assert_eq!(newest_elsewhere(&database), read["revision"], "round {round}");
        let stored = read_elsewhere(&database, "SELECT name FROM tokens ORDER BY id");
        let stored: Vec<&str> = stored.iter().map(|row| row[0].as_str().unwrap()).collect();
        assert_eq!(stored, names, "round {round}");
    }
    assert!(refused > 7, "the disk was full only {refused} times");
    let before = control_plane.call_as(Some(&admin), "GET", "/config", "").await.text;
    drop(control_plane.stop().await);
    let running = control_plane::start(start()).await.unwrap();
    control_plane = ControlPlane::from(tempfile::tempdir().unwrap(), running);
    assert_eq!(control_plane.call_as(Some(&admin), "GET", "/config", "").await.text, before);
    drop(control_plane.stop().await);
}

#[test]
fn a_start_on_a_full_disk_fails_with_a_single_line() {
    let Some(disk) = Small::mount("1m") else { return };
    for but in [0, 8 << 10, 64 << 10, 128 << 10] {
        disk.fill(but);
        let database = format!("sqlite:{}", disk.0.join("weir.db").display());
        let output = Command::new(env!("CARGO_BIN_EXE_control-plane"))
            .args(["--database", &database, "--admin", "127.0.0.1:0", "--nodes", "127.0.0.1:0"])
            .env("RUST_BACKTRACE", "1")
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{but}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{but}: {stderr}");
        assert!(stderr.contains("the disk is full"), "{but}: {stderr}");
        disk.free();
        for file in fs::read_dir(&disk.0).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
    }
}

#[tokio::test]
async fn counts_that_could_not_be_stored_are_accepted_when_repeated() {
    let world = World::new(NOON).await;
    let database = world.folder.path().join("weir.db");
    let send =
        async |sequence| world.stats.ingest(batch(sequence, NOON, vec![row(NOON, 200, &[1000])])).await;
    send(1).await.unwrap();
    for table in ["batches_seen", "batches_log"] {
        for fault in ["ROLLBACK", "FAIL", "ABORT"] {
            let text = format!(
                "CREATE TRIGGER fault BEFORE INSERT ON {table} BEGIN SELECT RAISE({fault}, 'the disk is on fire'); END"
            );
            sql(&database, text).await;
            for _ in 0..3 {
                let refused = send(2).await.unwrap_err();
                assert_eq!(refused.code(), tonic::Code::Unavailable, "{table} {fault}: {refused}");
            }
            sql(&database, "DROP TRIGGER fault".into()).await;
            assert_eq!(world.requests().await, 1, "{table} {fault}");
        }
    }
    assert!(!send(2).await.unwrap().duplicate, "nothing of it was stored");
    assert!(send(2).await.unwrap().duplicate);
    let world = world.restarted().await;
    assert_eq!(world.requests().await, 2);
}
