//! Header changes of a route, on the wire.

use crate::asking::Stage;

const FILE: &str = r#"
pools: [{ name: books }, { name: empty }]
routes:
  - name: edited
    match: { path: /edited }
    pool: books
    request_headers:
      set: { x-env: prod, X-Who: "{client_ip} {peer_ip}", x-what: "{method} {scheme}://{host}{path}?{query}", x-uri: "{uri}", x-id: "{request_id}", x-user: "{header:x-name}", authorization: "Bearer {{x}}", accept: a/b }
      add: { x-more: mine }
      remove: [X-Debug, cookie, x-forwarded-host, x-real-ip, via]
    response_headers:
      set: { x-served-by: "{pool}/{backend}", x-request-id: "{request_id}", x-status: "{status}", content-type: text/x }
      add: { set-cookie: a=b }
      remove: [server, X-BACKEND, via]
  - { name: own, match: { path: /own }, pool: empty, fallback: { status: 503, body: soon }, response_headers: { set: { content-type: text/html, x-route: "{route}", x-none: "{backend}" }, remove: [retry-after] } }
  - { name: broken, match: { path: /broken }, pool: empty, response_headers: { add: { x-status: "{status}" } } }
  - { name: default, pool: books }
"#;

#[tokio::test]
async fn fields_are_set_added_and_removed_both_ways() {
    let stage = Stage::start(FILE).await;
    let sent = "X-Env: dev\r\nx-env: test\r\nX-DEBUG: 1\r\nCookie: a=b\r\nX-Name: ann\r\nX-More: theirs\r\nX-Keep: k\r\n\
                Authorization: Basic x\r\nAccept: */*\r\nX-Request-Id: id-1\r\nVia: 1.0 other\r\n";
    let got = stage.get("a.test:8080", "/edited/x?y=z", sent).await;
    assert_eq!(got.status, 200);
    for (name, values) in [
        ("x-env", &["prod"][..]),
        ("x-who", &["127.0.0.1 127.0.0.1"]),
        ("x-what", &["GET http://a.test:8080/edited/x?y=z"]),
        ("x-uri", &["/edited/x?y=z"]),
        ("x-id", &["id-1"]),
        ("x-request-id", &["id-1"]),
        ("x-user", &["ann"]),
        ("authorization", &["Bearer {x}"]),
        ("accept", &["a/b"]),
        ("x-more", &["theirs", "mine"]),
        ("x-keep", &["k"]),
        ("x-debug", &[]),
        ("cookie", &[]),
        ("x-forwarded-host", &[]),
        ("x-real-ip", &[]),
        ("via", &[]),
        ("x-forwarded-for", &["127.0.0.1"]),
    ] {
        assert_eq!(got.seen(name), values, "{name}: {}", got.body);
    }
    for (name, values) in [
        ("x-served-by", &["books/b1"][..]),
        ("x-request-id", &["id-1"]),
        ("x-status", &["200"]),
        ("content-type", &["text/x"]),
        ("set-cookie", &["a=b"]),
        ("server", &[]),
        ("x-backend", &[]),
        ("via", &[]),
    ] {
        assert_eq!(got.all(name), values, "{name}: {got:?}");
    }
    assert_eq!(got.all("date").len(), 1);
}

#[tokio::test]
async fn the_same_over_http2() {
    let stage = Stage::start(FILE).await;
    let fields = [("x-debug".to_owned(), "1".to_owned()), ("x-env".into(), "dev".into())];
    let got = stage.http2().await.ask("GET", "a.test", "/edited", &fields).await;
    assert_eq!((got.status, got.seen("x-env"), got.seen("x-debug")), (200, vec!["prod"], vec![]));
    assert_eq!(
        (got.all("x-served-by"), got.all("server"), got.all("via")),
        (vec!["books/b1"], vec![], vec![])
    );
    // A request id is generated if the client sends none, and is the same for backend and client.
    assert_eq!(got.seen("x-id"), got.all("x-request-id"));
    assert_eq!(got.seen("x-id"), got.seen("x-request-id"));
    assert_eq!(got.seen("x-id")[0].len(), 16);
    // A header with an empty value is not sent.
    assert_eq!(got.seen("x-user"), [""; 0]);
}

#[tokio::test]
async fn responses_of_weir_itself_are_edited_too() {
    let stage = Stage::start(FILE).await;
    let mut by_http2 = stage.http2().await;
    for got in [stage.get("a", "/own", "").await, by_http2.ask("GET", "a", "/own", &[]).await] {
        assert_eq!((got.status, got.body.as_str()), (503, "soon"));
        assert_eq!(
            (got.all("content-type"), got.all("x-route")),
            (vec!["text/html"], vec!["own"]),
            "{got:?}"
        );
        assert_eq!((got.all("retry-after").len(), got.all("x-none").len()), (0, 0), "{got:?}");
    }
    let got = stage.get("a", "/broken", "X-Request-Id: mine-1\r\n").await;
    assert_eq!((got.status, got.all("x-status"), got.all("retry-after")), (503, vec!["503"], vec!["1"]));
    assert!(got.body.contains("\"request_id\":\"mine-1\""), "{got:?}");
    // An id that is not safe in a document is not used there.
    let got = stage.get("a", "/broken", "X-Request-Id: \"x\r\n").await;
    assert!(!got.body.contains("\"request_id\":\"\"x"), "{got:?}");
}

#[tokio::test]
async fn client_values_cannot_inject_header_lines() {
    let stage = Stage::start(FILE).await;
    // A carriage return within a value is rejected by the parser; other values stay visible.
    for value in ["a\rX-Evil: 1", "a\n X-Evil: 1", "a\0b"] {
        let got = stage.get("a", "/edited", &format!("X-Name: {value}\r\n")).await;
        assert_eq!(got.status, 400, "{value:?}");
    }
    let got = stage.get("a", "/edited?x=%0d%0aX-Evil:%201", "X-Name: a%0d%0aX-Evil: 1\r\n").await;
    assert_eq!(got.seen("x-evil"), [""; 0], "{}", got.body);
    assert_eq!(got.seen("x-user"), ["a%0d%0aX-Evil: 1"]);
}

#[tokio::test]
async fn a_route_without_edits_changes_nothing() {
    let stage = Stage::start(FILE).await;
    let got = stage.get("a", "/x", "X-Env: dev\r\nCookie: a=b\r\n").await;
    assert_eq!(
        (got.seen("x-env"), got.seen("cookie"), got.seen("via")),
        (vec!["dev"], vec!["a=b"], vec!["1.1 weir"])
    );
    assert_eq!((got.all("server"), got.all("x-request-id").len()), (vec!["secret"], 0));
}
