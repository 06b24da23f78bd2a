//! `weir explain` compared with a real node.
//!
//! Routes lead to a pool without backends, and their fallback response contains the route's name.

use std::time::Duration;

use anyhow::Context as _;
use e2e::{Fleet, get, send};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

fn named(name: &str, matches: Value) -> Value {
    json!({ "name": name, "match": matches, "pool": "empty", "fallback": { "status": 200, "body": name } })
}

/// Sends one raw request; returns the status and the body.
async fn raw(
    address: &str,
    method: &str,
    host: &str,
    path: &str,
    header: &str,
) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
    let request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{header}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await??;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, body.to_owned()))
}

fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_agrees_with_the_node() -> anyhow::Result<()> {
    let fleet = Fleet::start(1, 0).await?;
    let (http, admin) = (fleet.http(0)?, fleet.admin());
    let routes = [
        named("exact", json!({ "hosts": ["api.example"], "path_exact": "/v1/books" })),
        named("v1", json!({ "hosts": ["api.example"], "path": "/v1" })),
        named("v1-post", json!({ "hosts": ["api.example"], "path": "/v1", "methods": ["POST", "PUT"] })),
        named("canary", json!({ "hosts": ["api.example"], "path": "/v1", "headers": { "x-canary": "1" } })),
        named("wild", json!({ "hosts": ["*.example"] })),
        named("deep", json!({ "hosts": ["*.eu.example"], "path": "/v1/deep" })),
        named("assets", json!({ "path": "/assets" })),
        named("traced", json!({ "path": "/assets", "headers": { "x-trace": { "present": true } } })),
        named(
            "plain",
            json!({ "path": "/assets", "headers": { "x-trace": { "present": false } }, "methods": ["GET"] }),
        ),
    ];
    let config = json!({ "pools": [{ "name": "empty" }], "routes": routes });
    let answer = send("PUT", admin, "/config?wait=20s", &config.to_string()).await?;
    anyhow::ensure!(answer.status == 200, "{answer:?}");

    let hosts = ["api.example", "API.example:80", "www.example", "x.eu.example", "example", "other"];
    let paths = [
        "/",
        "/v1",
        "/v1/books",
        "/v1/books/7",
        "/v10",
        "/v1/deep/x",
        "/assets",
        "/assets/a.css",
        "//v1//books",
        "//x/v1/books",
        "/\\x/assets",
        "/v1/./books",
        "/v1/../assets",
        "/%76%31/books",
        "/v1%2Fbooks",
        "/..",
        "/%zz",
        "/a?x=/v1",
    ];
    let methods = ["GET", "POST", "DELETE"];
    let headers = ["", "x-canary: 1", "x-canary: 2", "X-Trace: abc"];
    let (mut seen, mut taken) = (0_u32, std::collections::BTreeSet::new());
    let mut number = 7_u64;
    while seen < 250 {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pick = |shift: u32, of: usize| usize::try_from(number >> shift & 0xffff).unwrap_or(0) % of;
        let (host, path) = (hosts[pick(10, hosts.len())], paths[pick(26, paths.len())]);
        let (method, header) = (methods[pick(40, methods.len())], headers[pick(47, headers.len())]);
        let (status, body) = raw(&http, method, host, path, header).await?;
        let mut about = format!("/explain?method={method}&url={}", encode(&format!("http://{host}{path}")));
        if !header.is_empty() {
            about.push_str(&format!("&header={}", encode(header)));
        }
        let explained = get(admin, &about).await?;
        anyhow::ensure!(explained.status == 200, "{about}: {explained:?}");
        let explained = explained.json()?;
        match explained["route"].as_str() {
            Some(route) => {
                assert_eq!((status, body.as_str()), (200, route), "{about}: {explained}");
                taken.insert(route.to_owned());
            }
            None => {
                let answer = explained["answer"].as_str().context("neither route nor answer")?;
                assert!(
                    answer.starts_with(&status.to_string()),
                    "{about}: the node returned {status}, {explained}"
                );
            }
        }
        seen += 1;
    }
    assert!(taken.len() >= 7, "{taken:?}");
    let printed = fleet.weir(&["explain", "GET", "http://api.example/v1/x", "-H", "x-canary: 1"])?;
    assert!(printed.starts_with("route canary (revision "), "{printed}");
    // Without a scheme the URL is read like in curl.
    assert_eq!(fleet.weir(&["explain", "GET", "api.example/v1/x", "-H", "x-canary: 1"])?, printed);
    assert!(printed.contains("  v1: would match, but is less specific or comes later"), "{printed}");
    let printed = fleet.weir(&[
        "explain",
        "GET",
        "http://api.example/v1/x",
        "-H",
        "x-canary: 1",
        "-H",
        "X_Real_IP: ::1",
    ])?;
    assert!(printed.contains("  drops x_real_ip: a backend could mistake it for x-real-ip"), "{printed}");
    Ok(())
}
