//! Mapping of URLs under a prefix, and the `Via` header.

use crate::asking::Stage;

const FILE: &str = r#"
settings: { trusted_proxies: [127.0.0.1] }
pools: [{ name: p }, { name: quiet, omit_via: true }, { name: kept, sticky: {} }]
routes:
  - { name: strip, match: { path: /app }, pool: p, rewrite: { strip_prefix: /app, map_answers: true, prefix_header: X-Script-Name } }
  - { name: replace, match: { path: /old }, pool: p, rewrite: { replace_prefix: /new, host: app.internal, map_answers: true } }
  - { name: plain, match: { path: /plain }, pool: p, rewrite: { strip_prefix: /plain } }
  - { name: tls, match: { path: /tls }, pool: p, rewrite: { map_answers: true } }
  - { name: kept, match: { path: /kept }, pool: kept, rewrite: { strip_prefix: /kept, map_answers: true } }
  - { name: quiet, match: { path: /quiet }, pool: quiet }
  - { name: rest, pool: p }
"#;

fn say(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("X-Say: {line}\r\n")).collect()
}

#[tokio::test]
async fn answers_are_mapped_back_to_what_clients_asked_for() {
    let stage = Stage::start(FILE).await;
    let said = [
        "Location: http://a.test/login",
        "Content-Location: /x",
        "Refresh: 1; url=/y",
        "Set-Cookie: s=1; Path=/",
        "Set-Cookie: t=1; Path=/z; Domain=a.test",
        "Link: </s>",
    ];
    for scheme in ["http", "https"] {
        let sent = format!("X-Forwarded-Proto: {scheme}\r\n{}", say(&said));
        let got = stage.get("a.test", "/app/x?y", &sent).await;
        assert_eq!(got.asked(), "GET /x?y HTTP/1.1");
        assert_eq!(got.all("location"), [format!("{scheme}://a.test/app/login")]);
        assert_eq!(got.all("content-location"), ["/app/x"]);
        assert_eq!(got.all("refresh"), ["1; url=/app/y"]);
        assert_eq!(got.all("set-cookie"), ["s=1; Path=/app", "t=1; Path=/app/z; Domain=a.test"]);
        assert_eq!(got.all("link"), ["</s>"]);
        assert_eq!((got.seen("x-forwarded-prefix"), got.seen("x-script-name")), (vec!["/app"], vec!["/app"]));
    }
    let said = ["Location: http://app.internal/new/x", "Set-Cookie: s=1; Path=/new; Domain=app.internal"];
    let got = stage.get("a.test:8080", "/old/x", &say(&said)).await;
    assert_eq!((got.asked(), got.seen("host")), ("GET /new/x HTTP/1.1", vec!["app.internal"]));
    assert_eq!(got.all("location"), ["http://a.test:8080/old/x"]);
    assert_eq!(got.all("set-cookie"), ["s=1; Path=/old; Domain=a.test"]);
    assert_eq!(got.seen("x-forwarded-prefix"), ["/old"]);
    // The URL is not mapped where the route does not ask for it, but the prefix is sent.
    let got = stage.get("a.test", "/plain/x", &say(&["Location: /login"])).await;
    assert_eq!((got.all("location"), got.seen("x-forwarded-prefix")), (vec!["/login"], vec!["/plain"]));
    // A prefix stripped by a trusted proxy comes before our own.
    let got = stage.get("a.test", "/app/x", "X-Forwarded-Prefix: /outer/\r\n").await;
    assert_eq!(
        (got.seen("x-forwarded-prefix"), got.seen("x-script-name")),
        (vec!["/outer/app"], vec!["/outer/app"])
    );
    let got = stage.get("a.test", "/app/x", "X-Forwarded-Prefix: /a, /b\r\n").await;
    assert_eq!(got.seen("x-forwarded-prefix"), ["/app"]);
    // Weir's own cookie is not mapped: it is valid for the whole host.
    let got = stage.get("a.test", "/kept/x", &say(&["Set-Cookie: s=1; Path=/"])).await;
    assert!(
        got.all("set-cookie")[0] == "s=1; Path=/kept" && got.all("set-cookie")[1].contains("Path=/;"),
        "{got:?}"
    );
    let got = stage
        .get(
            "a.test",
            "/tls/x",
            &format!("X-Forwarded-Proto: https\r\n{}", say(&["Location: http://a.test/y"])),
        )
        .await;
    assert_eq!(got.all("location"), ["https://a.test/y"]);
}

#[tokio::test]
async fn a_destination_is_mapped_to_the_backends_names() {
    let stage = Stage::start(FILE).await;
    for (target, destination, seen) in [
        ("/app/a", "https://a.test/app/b", "http://a.test/b"),
        ("/app/a", "http://A.test:443/app/b%20c?d", "http://a.test/b%20c?d"),
        ("/app/a", "/app/b", "/b"),
        ("/old/a", "https://a.test/old/b", "http://app.internal/new/b"),
        ("/tls/a", "https://a.test/tls/b", "http://a.test/tls/b"),
        ("/app/a", "https://other.test/app/b", "https://other.test/app/b"),
        ("/plain/a", "https://a.test/plain/b", "https://a.test/plain/b"),
    ] {
        for method in ["MOVE", "COPY"] {
            let request = format!(
                "{method} {target} HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: https\r\nDestination: {destination}\r\n\r\n"
            );
            let got = stage.raw(&request).await;
            assert_eq!(
                (got.status, got.seen("destination")),
                (200, vec![seen]),
                "{method} {target} {destination}"
            );
        }
    }
    for (lines, status) in [
        ("Destination: https://a.test/admin/b\r\n", 502),
        ("Destination: /application\r\n", 502),
        ("Destination: /app/../admin\r\n", 400),
        ("Destination: /app%2Fb\r\n", 400),
        ("Destination: /app/b\r\nDestination: /app/c\r\n", 400),
    ] {
        let got = stage.raw(&format!("MOVE /app/a HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n")).await;
        assert_eq!(got.status, status, "{lines}");
    }
    // With other methods it is an ordinary field.
    let got = stage.get("a.test", "/app/a", "Destination: /x\r\n").await;
    assert_eq!(got.seen("destination"), ["/x"]);
}

#[tokio::test]
async fn via_is_sent_unless_the_pool_goes_without() {
    let stage = Stage::start(FILE).await;
    let got = stage.get("a", "/x", "").await;
    assert_eq!((got.seen("via"), got.all("via")), (vec!["1.1 weir"], vec!["1.1 weir"]));
    let got = stage.get("a", "/quiet", "Via: 1.0 other\r\n").await;
    assert_eq!((got.seen("via"), got.all("via")), (vec!["1.0 other"], vec!["1.1 weir"]));
    let got = stage.http2().await.ask("GET", "a", "/quiet", &[]).await;
    assert_eq!(got.seen("via"), [""; 0]);
}
