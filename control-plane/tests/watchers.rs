//! The memory cost of live views of a large page. The test measures this process, so it is the only test in it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::json;
use support::{ControlPlane, begin, within};
use tokio::io::AsyncReadExt as _;

/// A page with many routes costs the same for one live view and for many, even if they read nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_page_is_stored_once_for_all_live_views() {
    let control_plane = ControlPlane::start().await;
    let routes: Vec<_> = (0..3_000)
        .map(|i| json!({ "name": format!("r{i}"), "pool": "default", "match": { "path": format!("/p{i}") } }))
        .collect();
    let config = json!({ "pools": [{ "name": "default" }], "routes": routes }).to_string();
    control_plane.call("PUT", "/config", &config).await.expect(200);
    let root = control_plane.token(None, "root", "admin", None).await;
    let before = resident();
    let mut held = Vec::new();
    for i in 0..10 {
        let token = control_plane.token(Some(&root), &format!("t{i}"), "viewer", None).await;
        for _ in 0..10 {
            held.push(begin(&control_plane, &token, "/ui/events?page=routes").await.1);
        }
    }
    // One live view reads a complete event; by then all others were sent the page as well.
    let mut reader = held.pop().unwrap();
    let mut event = Vec::new();
    within("an event", async {
        let mut buffer = vec![0; 64 << 10];
        while !event.windows(4).any(|end| end == b"\n\n\r\n") {
            let read = reader.read(&mut buffer).await.unwrap();
            assert!(read > 0, "the stream ends");
            event.extend_from_slice(&buffer[..read]);
        }
    })
    .await;
    assert!(event.len() > 500_000, "{} bytes", event.len());
    let grown = resident().saturating_sub(before);
    assert!(grown < 40 * event.len(), "{} MiB for {} KiB", grown >> 20, event.len() >> 10);
}

/// Bytes of memory of this process.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
