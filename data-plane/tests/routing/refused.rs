//! Requests that are rejected before routing, over both protocols.

use crate::asking::Stage;

const FILE: &str = "settings: { downstream: { max_head: 32KiB, max_headers: 50 } }\n\
                    pools: [{ name: p }]\nroutes: [{ name: r, match: { path: / }, pool: p }]";

#[tokio::test]
async fn a_bad_host_is_a_bad_request() {
    let stage = Stage::start(FILE).await;
    let long = format!("{}.example", "a".repeat(250));
    let hosts = [
        "",
        "a b",
        "a/b",
        "user@a",
        "a:port",
        "a,b",
        "[::1",
        "a\\b",
        "a:99999",
        // Names that servers could interpret differently.
        "a..",
        "a..:80",
        "a..b",
        ".a",
        ".",
        "a%2e",
        "%61",
        "a%2Eb:80",
        &long,
        // Addresses in a non-canonical spelling.
        "127.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "2130706433",
        "010.0.0.1",
        "127.0.0.1..",
        "1.2.3.4.5",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[1.2.3.4]",
    ];
    let mut by_http2 = stage.http2().await;
    for host in hosts {
        assert_eq!(stage.get(host, "/", "").await.status, 400, "{host:?}");
        let target = format!("http://{host}/");
        let got = stage.raw(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(got.status, 400, "{target}");
        // The client's library rejects some of them itself.
        if http::Uri::builder().scheme("http").authority(host).path_and_query("/").build().is_ok() {
            assert_eq!(by_http2.ask("GET", host, "/", &[]).await.status, 400, "{host:?} over HTTP/2");
        }
    }
    assert_eq!(stage.raw("GET / HTTP/1.1\r\n\r\n").await.status, 400, "none");
    assert_eq!(stage.raw("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n").await.status, 400, "two");
    let disagrees = [("host".to_owned(), "b".to_owned())];
    let got = stage.http2().await.ask("GET", "a", "/", &disagrees).await;
    assert_eq!(got.status, 400, "an authority and another Host");
}

#[tokio::test]
async fn what_is_too_long_is_said_to_be() {
    let stage = Stage::start(FILE).await;
    let mut by_http2 = stage.http2().await;
    let long = format!("/{}", "a".repeat(17 << 10));
    assert_eq!(stage.get("a", &long, "").await.status, 414);
    assert_eq!(by_http2.ask("GET", "a", &long, &[]).await.status, 414);
    let many: Vec<(String, String)> = (0..60).map(|n| (format!("x-{n}"), "y".to_owned())).collect();
    let lines: String = many.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    assert_eq!(stage.get("a", "/", &lines).await.status, 431);
    assert_eq!(by_http2.ask("GET", "a", "/", &many).await.status, 431);
    let large = "y".repeat(33 << 10);
    assert_eq!(stage.get("a", "/", &format!("x: {large}\r\n")).await.status, 431);
    assert_eq!(stage.get("a", "/", "").await.status, 200);
}

#[tokio::test]
async fn a_fragment_is_refused_in_every_form_of_target() {
    let stage = Stage::start(FILE).await;
    for target in ["/#", "/a#b", "/a?b#c", "#", "http://a#b", "http://a/b#c", "/%61#/../x"] {
        assert_eq!(stage.get("a", target, "").await.status, 400, "{target}");
    }
}

#[tokio::test]
async fn a_long_path_of_many_readings_is_refused() {
    let text =
        "pools: [{ name: p }]\nroutes: [{ name: r, match: { path: /a }, pool: p }, { name: s, pool: p }]";
    let stage = Stage::start(text).await;
    let long = "/x;a%2Fb//./c".repeat(1200);
    let got = stage.get("a", &long, "").await;
    assert_eq!(got.status, 400);
    assert!(got.body.contains("too many ways"), "{got:?}");
    // A long path with few readings is valid.
    assert_eq!(stage.get("a", &format!("/x//{}", "b/".repeat(7000)), "").await.status, 200);
}
