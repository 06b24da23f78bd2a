//! Where requests go: splits, rewritten paths and hosts, redirects, fallbacks.

use crate::asking::{Stage, counts};

#[tokio::test]
async fn a_split_gives_each_pool_its_share() {
    let file = "pools: [{ name: old }, { name: new }, { name: idle }]\n\
                routes: [{ name: r, split: [{ pool: old, weight: 80 }, { pool: new, weight: 20 }, { pool: idle, weight: 0 }] }]";
    let stage = Stage::start(file).await;
    let mut client = stage.http1().await;
    let mut answered = Vec::new();
    for _ in 0..1000 {
        answered.push(client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.backend().to_owned());
    }
    let counts = counts(answered);
    // Six standard deviations: fails about once in a billion runs.
    assert!((125..=275).contains(&counts["new"]), "{counts:?}");
    assert_eq!((counts["new"] + counts["old"], counts.len()), (1000, 2), "{counts:?}");
}

#[tokio::test]
async fn a_sticky_split_keeps_a_client_at_its_pool() {
    let file = "pools: [{ name: old }, { name: new }]\n\
                routes: [{ name: r, split: [{ pool: old }, { pool: new }], split_sticky: { cookie: side, ttl: 1h } }]";
    let stage = Stage::start(file).await;
    let mut sides = Vec::new();
    for _ in 0..20 {
        let first = stage.get("a", "/", "").await;
        let [set] = first.all("set-cookie")[..] else { panic!("{first:?}") };
        assert!(set.starts_with("side=") && set.contains("; HttpOnly") && !set.contains("Secure"), "{set}");
        let cookie = format!("Cookie: x=y; {}\r\n", set.split(';').next().unwrap());
        for _ in 0..5 {
            let again = stage.get("a", "/", &cookie).await;
            assert_eq!((again.backend(), again.all("set-cookie").len()), (first.backend(), 0));
        }
        sides.push(first.backend().to_owned());
    }
    assert_eq!(counts(sides).len(), 2, "both pools have clients");
    // A client with a forged cookie gets a new one.
    let forged = stage.get("a", "/", "Cookie: side=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n").await;
    assert_eq!(forged.all("set-cookie").len(), 1);
}

#[tokio::test]
async fn a_split_with_a_fallback_sets_no_cookie() {
    let file = "pools: [{ name: empty }, { name: spare }]\n\
                routes: [{ name: r, split: [{ pool: empty }], split_sticky: {}, fallback: { pool: spare } }]";
    let stage = Stage::start(file).await;
    let got = stage.get("a", "/", "").await;
    assert_eq!((got.status, got.backend(), got.all("set-cookie").len()), (200, "spare", 0));
}

const REWRITES: &str = r#"
pools: [{ name: p }]
routes:
  - { name: strip, match: { path: /v1 }, pool: p, rewrite: { strip_prefix: /v1, host: "books.internal:81" } }
  - { name: replace, match: { path: /old }, pool: p, rewrite: { replace_prefix: /new/place } }
  - { name: whole, match: { path_exact: /one }, pool: p, rewrite: { path: /other } }
  - { name: under, match: { hosts: [under.test] }, pool: p, rewrite: { replace_prefix: /base } }
  - { name: default, pool: p }
"#;

#[tokio::test]
async fn paths_and_hosts_are_rewritten() {
    let stage = Stage::start(REWRITES).await;
    for (host, target, expected) in [
        ("a", "/v1/books?q=1", "GET /books?q=1 HTTP/1.1"),
        ("a", "/v1", "GET / HTTP/1.1"),
        ("a", "/v1?x", "GET /?x HTTP/1.1"),
        ("a", "/%76%31/a%2Fb", "GET /a%2Fb HTTP/1.1"),
        ("a", "/v1x", "GET /v1x HTTP/1.1"),
        ("a", "/old/a/../b", "GET /new/place/a/../b HTTP/1.1"),
        ("a", "/old", "GET /new/place HTTP/1.1"),
        ("a", "/one?x=y", "GET /other?x=y HTTP/1.1"),
        ("under.test", "/x", "GET /base/x HTTP/1.1"),
        ("a", "http://a/v1/x", "GET /x HTTP/1.1"),
    ] {
        let got = stage.get(host, target, "").await;
        assert_eq!((got.status, got.asked()), (200, expected), "{target}");
        let asked_host = if expected.contains("/x ") && host == "a" || target.starts_with("/v1/") {
            "books.internal:81"
        } else {
            ""
        };
        if !asked_host.is_empty() {
            assert_eq!((got.seen("host"), got.seen("x-forwarded-host")), (vec![asked_host], vec![host]));
        }
    }
    let got = stage.http2().await.ask("GET", "a", "/v1/books", &[]).await;
    assert_eq!((got.asked(), got.seen("host")), ("GET /books HTTP/1.1", vec!["books.internal:81"]));
}

const REDIRECTS: &str = r#"
settings: { trusted_proxies: [127.0.0.1] }
pools: [{ name: p }]
routes:
  - { name: secure, match: { hosts: [shop.test] }, redirect: { scheme: https }, response_headers: { set: { x-route: "{route}" } } }
  - { name: shop, match: { hosts: [shop.test] }, pool: p }
  - { name: moved, match: { path: /old }, redirect: { replace_prefix: /new, status: 301 } }
  - { name: www, match: { hosts: [example.test] }, redirect: { host: www.example.test, status: 302 } }
  - { name: circle, match: { hosts: [circle.test] }, redirect: { host: circle.test } }
  - { name: port, match: { hosts: [port.test] }, redirect: { scheme: https, port: 8443, status: 307 } }
"#;

#[tokio::test]
async fn clients_are_redirected() {
    let stage = Stage::start(REDIRECTS).await;
    let mut by_http2 = stage.http2().await;
    for (host, target, status, location) in [
        ("shop.test:8080", "/cart?x=1", 308, "https://shop.test/cart?x=1"),
        ("shop.test", "//evil.test/", 308, "https://shop.test//evil.test/"),
        ("a.test:81", "/old/x?y", 301, "http://a.test:81/new/x?y"),
        ("example.test", "/", 302, "http://www.example.test/"),
        ("port.test", "/", 307, "https://port.test:8443/"),
    ] {
        for got in [stage.get(host, target, "").await, by_http2.ask("GET", host, target, &[]).await] {
            assert_eq!((got.status, got.all("location")), (status, vec![location]), "{host}{target}");
        }
    }
    assert_eq!(stage.get("shop.test", "/", "").await.all("x-route"), ["secure"]);
    assert_eq!(stage.get("circle.test", "/", "").await.status, 508);
    // The client reached the proxy in front of this one over TLS, so it needs no redirect.
    let got = stage.get("shop.test", "/x", "X-Forwarded-Proto: https\r\n").await;
    assert_eq!((got.status, got.seen("x-forwarded-proto")), (200, vec!["https"]));
    // Without a host no redirect is possible.
    assert_eq!(stage.raw("GET /old HTTP/1.0\r\n\r\n").await.status, 400);
    // A body that is not read does not become the next request.
    let mut client = stage.http1().await;
    let got = client.ask("POST / HTTP/1.1\r\nHost: example.test\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(got.status, 302);
    assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await.status, 308);
}
