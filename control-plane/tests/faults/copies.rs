//! A database restored from a copy: no number is reused, and clients that saw later revisions cannot overwrite the
//! restored state.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::{
    beside, folder,
    support::{ControlPlane, config},
};

/// A way to restore a copy.
type Restore = fn(copy: &Path, database: &Path);

const RESTORES: &[(&str, Restore)] = &[
    ("written over the file", |copy, database| {
        fs::write(database, fs::read(copy).unwrap()).unwrap();
    }),
    ("put in its place", |copy, database| {
        fs::remove_file(database).unwrap();
        fs::copy(copy, database).unwrap();
    }),
    ("put in its place, without the lock file", |copy, database| {
        fs::remove_file(database).unwrap();
        fs::remove_file(beside(database, ".lock")).unwrap();
        fs::copy(copy, database).unwrap();
    }),
];

#[tokio::test]
async fn numbers_continue_beyond_those_used_before() {
    for (how, restore) in RESTORES {
        let folder = folder();
        let database = folder.path().join("weir.db");
        let control_plane = ControlPlane::start_in(folder, config(&database)).await;
        let first = control_plane.add("http://10.0.0.1:80").await;
        let folder = control_plane.stop().await;
        let copy = folder.path().join("copy");
        fs::copy(&database, &copy).unwrap();

        let control_plane = ControlPlane::start_in(folder, config(&database)).await;
        let mut given = vec![first];
        for n in 2..6 {
            given.push(control_plane.add(&format!("http://10.0.0.{n}:80")).await);
        }
        assert_eq!(given, ["b1", "b2", "b3", "b4", "b5"], "{how}: a plain restart skips no numbers");
        let seen: Vec<String> = (1..=control_plane.revision().await).map(|n| format!("\"{n}\"")).collect();
        let folder = control_plane.stop().await;
        restore(&copy, &database);

        let control_plane = ControlPlane::start_in(folder, config(&database)).await;
        let urls = control_plane.get("/backends").await;
        assert_eq!(urls["items"].as_array().unwrap().len(), 1, "{how}: the copy's content is served");
        for etag in &seen {
            let body = json!({ "weight": 9 }).to_string();
            let stale = control_plane.call_with("PATCH", "/backends/b1", &body, &[("if-match", etag)]).await;
            stale.expect(412);
        }
        let id = control_plane.add("http://10.0.0.77:80").await;
        assert!(!given.contains(&id), "{how}: {id} was assigned before");
        for etag in &seen {
            let stale = control_plane.call_with("PATCH", "/backends/b1", "{}", &[("if-match", etag)]).await;
            stale.expect(412);
        }
        // The history in the copy is still available for a rollback.
        let list = control_plane.get("/revisions").await;
        let numbers: Vec<u64> =
            list["items"].as_array().unwrap().iter().filter_map(|one| one["revision"].as_u64()).collect();
        assert_eq!(numbers.len(), 4, "{how}: {numbers:?}");
        assert_eq!(list["items"][1]["source"], "restore", "{how}: {list}");
        assert_eq!(list["items"][1]["changes"], Value::Array(Vec::new()));
        control_plane.call("POST", "/revisions/1/rollback", "").await.expect(200);
        let newest = control_plane.revision().await;

        // A restart is not another restore.
        let folder = control_plane.stop().await;
        let control_plane = ControlPlane::start_in(folder, config(&database)).await;
        assert_eq!(control_plane.revision().await, newest, "{how}");
    }
}

#[tokio::test]
async fn a_kill_or_a_database_of_an_older_version_is_not_mistaken_for_a_copy() {
    let control_plane = ControlPlane::start().await;
    control_plane.add("http://10.0.0.1:80").await;
    let control_plane = control_plane.killed_and_started().await;
    assert_eq!(control_plane.add("http://10.0.0.2:80").await, "b2");
    let folder = control_plane.stop().await;
    let database = folder.path().join("weir.db");
    fs::remove_file(beside(&database, ".lock")).unwrap();
    let control_plane = ControlPlane::start_in(folder, config(&database)).await;
    assert_eq!(
        (control_plane.add("http://10.0.0.3:80").await, control_plane.revision().await),
        ("b3".into(), 4)
    );
}
