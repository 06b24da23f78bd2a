//! What is refused before any route is looked for, over both protocols.

use crate::asking::Stage;

const FILE: &str = "settings: { downstream: { max_head: 32KiB, max_headers: 50 } }\n\
                    pools: [{ name: p }]\nroutes: [{ name: r, match: { path: / }, pool: p }]";

#[tokio::test]
async fn a_bad_host_is_a_bad_request() {
    let stage = Stage::start(FILE).await;
    for host in ["", "a b", "a/b", "user@a", "a:port", "a,b", "[::1", "a\\b", "a:99999"] {
        assert_eq!(stage.get(host, "/", "").await.status, 400, "{host:?}");
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
