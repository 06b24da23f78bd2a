//! `Strict-Transport-Security` on Weir's own responses, and headers that routes add to gRPC errors.

use bytes::Bytes;
use weir_snapshot::file;

use crate::{
    asking::{Echo, Got, Http1, Http2},
    support::wire::{Kind, Wire},
};

const FILE: &str = r#"
pools: [{ name: books, backends: [{ url: "BOOKS" }] }, { name: empty }]
routes:
  - { name: books, match: { path: /books }, pool: books, hsts: { max_age: 1d } }
  - { name: moved, match: { path: /moved }, redirect: { host: b.example }, hsts: { max_age: 2d } }
  - { name: soon, match: { path: /soon }, pool: empty, fallback: { status: 503, body: soon }, hsts: { max_age: 3d } }
  - { name: lost, match: { path: /lost }, pool: empty, hsts: { max_age: 4d, include_subdomains: true } }
  - { name: none, match: { path: /none }, pool: books, ip_filter: { deny: [127.0.0.0/8] }, hsts: { max_age: 5d } }
  - { name: once, match: { path: /once }, pool: books, rate_limit: { requests: 1, per: 1d }, hsts: { max_age: 6d } }
  - { name: mute, match: { path: /mute }, pool: empty, hsts: { max_age: 7d }, response_headers: { remove: [strict-transport-security] } }
  - { name: bare, match: { path: /bare }, pool: empty }
  - name: calls
    match: { path: /weir.test.Calls }
    pool: empty
    hsts: { max_age: 8d }
    response_headers: { set: { x-route: "{route}", content-type: text/html, grpc-status: "0", grpc-message: fine }, remove: [retry-after] }
"#;

async fn stage() -> (Wire, Echo) {
    let echo = Echo::start("books").await;
    let (mut config, _) = file::parse(&FILE.replace("BOOKS", &echo.url)).unwrap();
    config.pools[0].backends[0].id = "b1".into();
    (Wire::start(config).await, echo)
}

async fn get(wire: &Wire, kind: Kind, path: &str) -> Got {
    if kind.is_http2() {
        return Http2(wire.h2(kind).await).ask("GET", "a.example", path, &[]).await;
    }
    let request = format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n");
    Http1::on(wire.connect(kind).await).ask(&request).await
}

#[tokio::test]
async fn every_answer_of_a_route_over_https_tells_of_it() {
    let (wire, _echo) = stage().await;
    // The first request of that route is not refused.
    get(&wire, Kind::Http1, "/once").await;
    for kind in Kind::ALL {
        let secure = matches!(kind, Kind::Http1Tls | Kind::H2);
        for (path, status, told) in [
            ("/books", 200, Some("max-age=86400")),
            ("/moved", 308, Some("max-age=172800")),
            ("/soon", 503, Some("max-age=259200")),
            ("/lost", 503, Some("max-age=345600; includeSubDomains")),
            ("/none", 403, Some("max-age=432000")),
            ("/once", 429, Some("max-age=518400")),
            ("/mute", 503, None),
            ("/bare", 503, None),
            ("/nowhere", 404, None),
        ] {
            let got = get(&wire, kind, path).await;
            let told: Vec<&str> = told.filter(|_| secure).into_iter().collect();
            assert_eq!(
                (got.status, got.all("strict-transport-security")),
                (status, told),
                "{kind:?} {path}: {got:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_status_for_a_client_of_grpc_has_what_its_route_says() {
    let (wire, _echo) = stage().await;
    for kind in Kind::HTTP2 {
        let fields = [("content-type".to_owned(), "application/grpc".to_owned())];
        let mut client = Http2(wire.h2(kind).await);
        let got = client
            .send("POST", "a.example", "/weir.test.Calls/Any", &fields, Bytes::from_static(&[0; 5]))
            .await;
        for (name, values) in [
            ("x-route", &["calls"][..]),
            ("content-type", &["application/grpc"]),
            ("grpc-status", &["14"]),
            ("grpc-message", &["the pool has no active backend"]),
            ("retry-after", &[]),
            ("strict-transport-security", if kind == Kind::H2 { &["max-age=691200"] } else { &[] }),
        ] {
            assert_eq!(got.all(name), values, "{kind:?} {name}: {got:?}");
        }
        assert_eq!((got.status, got.body.as_str()), (200, ""));
    }
}
