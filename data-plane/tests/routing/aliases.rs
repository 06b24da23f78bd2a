//! Headers that a backend could mistake for headers that Weir vouches for, and headers in which clients claim their
//! origin.

use bytes::Bytes;

use crate::asking::Stage;

/// Names that CGI-style backends mistake for a field that Weir writes or removes.
const ALIASES: [&str; 18] = [
    "X_Forwarded_For",
    "x_forwarded_for",
    "X-Forwarded_For",
    "X.Forwarded.For",
    "X_Forwarded_Proto",
    "X_Forwarded_Host",
    "X_Forwarded_Port",
    "X_Real_IP",
    "X_Request_Id",
    "Transfer_Encoding",
    "Content_Length",
    "Keep_Alive",
    "Proxy_Authorization",
    "X_Original_URL",
    "X_Rewrite_URL",
    "Proxy",
    "Client_IP",
    "X_Envoy_Internal",
];

/// Headers of proxies.
const CLAIMS: [&str; 26] = [
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Ssl",
    "X-Forwarded-Server",
    "X-Forwarded-Scheme",
    "X-Forwarded-By",
    "X-Forwarded-Uri",
    "X-Forwarded-Client-Cert",
    "X-Forwarded",
    "X-Original-URL",
    "X-Original-Host",
    "X-Rewrite-URL",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "True-Client-IP",
    "CF-Connecting-IP",
    "Front-End-Https",
    "X-Url-Scheme",
    "Client-IP",
    "Fly-Client-IP",
    "WL-Proxy-Client-IP",
    "X-Envoy-Original-Path",
    "X-Host",
    "X-Original-Method",
    "X-Remote-Addr",
    "Forwarded-For",
];

fn lines(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name}: EVIL\r\n")).collect()
}

fn fields(names: &[&str]) -> Vec<(String, String)> {
    names.iter().map(|name| (name.to_lowercase(), "EVIL".to_owned())).collect()
}

#[tokio::test]
async fn a_strangers_aliases_and_claims_do_not_arrive() {
    let stage = Stage::start("pools: [{ name: p }]\nroutes: [{ name: r, pool: p }]").await;
    let all: Vec<&str> = ALIASES.iter().chain(&CLAIMS).chain(&["Forwarded"]).copied().collect();
    let sent = format!("{}X_Own: kept\r\nuser_agent: kept\r\n", lines(&all));
    let got = stage.get("a", "/", &sent).await;
    assert!(got.status == 200 && !got.body.contains("EVIL"), "{}", got.body);
    assert_eq!((got.seen("x_own"), got.seen("user_agent")), (vec!["kept"], vec!["kept"]));
    assert_eq!(got.seen("x-forwarded-for"), ["127.0.0.1"]);
    let got = stage.http2().await.ask("GET", "a", "/", &fields(&all)).await;
    assert!(got.status == 200 && !got.body.contains("EVIL"), "{}", got.body);
    // `Connection` does not change that.
    let got = stage.get("a", "/", "Connection: x_own\r\nX_Own: gone\r\nX_Real_IP: EVIL\r\n").await;
    assert_eq!((got.seen("x_own").len(), got.seen("x_real_ip").len()), (0, 0));
}

#[tokio::test]
async fn a_trusted_proxys_claims_arrive_and_aliases_do_not() {
    let text =
        "settings: { trusted_proxies: [127.0.0.1] }\npools: [{ name: p }]\nroutes: [{ name: r, pool: p }]";
    let stage = Stage::start(text).await;
    let nominated = format!("Connection: {}\r\n", CLAIMS.join(", "));
    for more in ["", nominated.as_str()] {
        let got = stage.get("a", "/", &format!("{more}{}{}", lines(&CLAIMS), lines(&ALIASES))).await;
        for name in CLAIMS {
            assert_eq!(got.seen(name), ["EVIL"], "{name}");
        }
        for name in ALIASES {
            assert!(!got.seen(name).contains(&"EVIL"), "{name}: {}", got.body);
        }
    }
}

#[tokio::test]
async fn a_trusted_proxys_claims_do_not_replace_what_the_route_sets() {
    let stage = Stage::start(
        "settings: { trusted_proxies: [127.0.0.1] }\npools: [{ name: p }]\n\
         routes: [{ name: r, pool: p, request_headers: { set: { x_forwarded_user: mine } } }]",
    )
    .await;
    let got = stage.get("a", "/", "X-Forwarded-User: EVIL\r\nX-Forwarded-Email: kept\r\n").await;
    assert!(got.status == 200 && !got.body.contains("EVIL"), "{}", got.body);
    assert_eq!((got.seen("x_forwarded_user"), got.seen("x-forwarded-email")), (vec!["mine"], vec!["kept"]));
}

const GUARDED: &str = r#"
pools: [{ name: p }]
routes:
  - { name: pass, match: { path: /pass }, pool: p, underscore_headers: pass, request_headers: { set: { x-env: prod } } }
  - { name: drop, match: { path: /drop }, pool: p, underscore_headers: drop }
  - name: rules
    match: { path: /rules, headers: { x-kind: a } }
    pool: p
    rewrite: { strip_prefix: /rules, prefix_header: x-script-name }
    request_headers: { set: { x-env: prod }, add: { x-more: mine }, remove: [x-debug] }
  - { name: rest, pool: p }
"#;

#[tokio::test]
async fn what_a_route_vouches_for_has_no_other_spelling() {
    let stage = Stage::start(GUARDED).await;
    let names = [
        "X_Env",
        "x.env",
        "X_More",
        "X_Debug",
        "X-Debug",
        "X_Kind",
        "X_Script_Name",
        "X-Script-Name",
        "X-Env",
    ];
    let sent = format!("X-Kind: a\r\nX_Free: kept\r\n{}", lines(&names));
    let got = stage.get("a", "/rules/x", &sent).await;
    assert!(got.status == 200 && !got.body.contains("EVIL"), "{}", got.body);
    for (name, values) in [
        ("x-env", &["prod"][..]),
        ("x-more", &["mine"]),
        ("x-kind", &["a"]),
        ("x_free", &["kept"]),
        ("x-script-name", &["/rules"]),
        ("x-forwarded-prefix", &["/rules"]),
    ] {
        assert_eq!(got.seen(name), values, "{name}");
    }
    let got = stage.get("a", "/pass", "X_Env: EVIL\r\nX_Forwarded_For: EVIL\r\nX_A: EVIL\r\n").await;
    assert_eq!(got.body.matches("EVIL").count(), 3, "{}", got.body);
    assert_eq!(got.seen("x-env"), ["prod"]);
    let got = stage.get("a", "/drop", "X_Env: EVIL\r\nX_A: EVIL\r\nX-A: kept\r\n").await;
    assert!(!got.body.contains("EVIL") && got.seen("x-a") == ["kept"], "{}", got.body);
}

#[tokio::test]
async fn trailers_say_nothing_that_is_vouched_for() {
    let stage = Stage::start(GUARDED).await;
    let names = [
        "X_Env",
        "X-Env",
        "X_Debug",
        "X-Debug",
        "X_Script_Name",
        "X_Forwarded_For",
        "X-Forwarded-Port",
        "X_Real_IP",
        "Content_Length",
    ];
    let request = format!(
        "POST /rules/x HTTP/1.1\r\nHost: a\r\nX-Kind: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n{}X-Sum: kept\r\n\r\n",
        lines(&names)
    );
    let got = stage.raw(&request).await;
    assert!(got.status == 200 && !got.body.contains("EVIL"), "{}", got.body);
    assert!(got.body.contains("X-Sum: kept"), "{}", got.body);

    let mut client = stage.http2().await;
    let mut send = client.0.clone().ready().await.unwrap();
    let request = http::Request::post("http://a/rules/x").header("x-kind", "a").body(()).unwrap();
    let (answer, mut stream) = send.send_request(request, false).unwrap();
    stream.send_data(Bytes::from_static(b"abc"), false).unwrap();
    let mut trailers = http::HeaderMap::new();
    for name in names.iter().filter(|name| **name != "Content_Length") {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        trailers.append(name, http::HeaderValue::from_static("EVIL"));
    }
    trailers.insert("x-sum", http::HeaderValue::from_static("kept"));
    stream.send_trailers(trailers).unwrap();
    let mut body = crate::support::within(answer).await.unwrap().into_body();
    let mut text = Vec::new();
    while let Some(piece) = crate::support::within(body.data()).await {
        text.extend_from_slice(&piece.unwrap());
    }
    let text = String::from_utf8(text).unwrap();
    assert!(!text.contains("EVIL") && text.contains("x-sum: kept"), "{text}");
    let _ = client.ask("GET", "a", "/", &[]).await;
}

#[tokio::test]
async fn session_cookies_are_by_pool_and_stay_with_weir() {
    let stage = Stage::start(
        "pools: [{ name: one, sticky: {} }, { name: two, sticky: {} }, { name: own, sticky: { cookie: side } }]\n\
         routes: [{ name: a, match: { path: /one }, pool: one }, { name: b, match: { path: /two }, pool: two }, \
         { name: c, match: { path: /split }, split: [{ pool: one }, { pool: two }], split_sticky: {} }, \
         { name: d, match: { hosts: [other] }, pool: own }, { name: e, match: { hosts: [plain] }, pool: two }]",
    )
    .await;
    let cookie = |got: &crate::asking::Got| -> Vec<String> {
        got.all("set-cookie").iter().map(|set| set.split(';').next().unwrap().to_owned()).collect()
    };
    let (one, two) = (cookie(&stage.get("h", "/one", "").await), cookie(&stage.get("h", "/two", "").await));
    assert!(one[0].starts_with("weir-one=") && two[0].starts_with("weir-two="), "{one:?} {two:?}");
    let split = cookie(&stage.get("h", "/split", "").await);
    assert!(split.iter().any(|cookie| cookie.starts_with("weir_split-c=")), "{split:?}");
    let split = split.iter().find(|cookie| cookie.starts_with("weir_split-c=")).unwrap();
    let sent = format!("Cookie: a=1; {}; {}; {split}; weir-three=x; b=2\r\n", one[0], two[0]);
    for target in ["/one", "/two", "/split"] {
        let got = stage.get("h", target, &sent).await;
        assert_eq!(got.seen("cookie"), ["a=1; weir-three=x; b=2"], "{target}");
        let set = cookie(&got);
        assert!(target == "/split" || set.is_empty(), "both sessions are known: {set:?}");
    }
    // A field without session cookies is passed on unchanged; a field with only session cookies is dropped.
    let got = stage
        .get("h", "/one", &format!("Cookie: a=1;b=2\r\nCookie: {}\r\ncookie: c=3 ; {}\r\n", one[0], two[0]))
        .await;
    assert_eq!(got.seen("cookie"), ["a=1;b=2", "c=3"]);
    // An older cookie with the same name, from another path or domain, does not hide the session.
    let got = stage.get("h", "/one", &format!("Cookie: weir-one=old; {}\r\n", one[0])).await;
    assert!(cookie(&got).is_empty() && got.seen("cookie").is_empty(), "{got:?}");
    // The session cookie of another host may be an application's cookie here.
    assert_eq!(stage.get("plain", "/", "Cookie: side=1\r\n").await.seen("cookie"), ["side=1"]);
    assert_eq!(stage.get("other", "/", "Cookie: side=1; a=1\r\n").await.seen("cookie"), ["a=1"]);
    let fields = [("cookie".to_owned(), format!("a=1; {}", one[0])), ("cookie".into(), "b=2".into())];
    let got = stage.http2().await.ask("GET", "h", "/one", &fields).await;
    assert_eq!(got.seen("cookie"), ["a=1; b=2"]);
}
