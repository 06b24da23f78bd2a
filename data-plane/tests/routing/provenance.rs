//! Which headers about a request's origin are trusted, and which of them backends receive.

use crate::asking::Stage;

fn file(trusted: &str) -> String {
    format!(
        "settings: {{ trusted_proxies: {trusted} }}\npools: [{{ name: p, strategy: ip_hash }}]\n\
         routes: [{{ name: r, pool: p, request_headers: {{ set: {{ x-client: \"{{client_ip}} {{scheme}} {{host}}\" }} }} }}]"
    )
}

const CLAIMS: &str = "X-Forwarded-For: 198.51.100.9, 203.0.113.7\r\nX-Forwarded-Proto: https\r\n\
                      X-Forwarded-Host: www.example\r\nX-Real-IP: 198.51.100.9\r\nForwarded: for=198.51.100.9\r\n";

#[tokio::test]
async fn the_headers_of_untrusted_clients_are_replaced() {
    for trusted in ["[]", "[10.0.0.0/8, \"2001:db8::/32\"]"] {
        let stage = Stage::start(&file(trusted)).await;
        let got = stage.get("own.test", "/", CLAIMS).await;
        for (name, values) in [
            ("x-client", &["127.0.0.1 http own.test"][..]),
            ("x-forwarded-for", &["127.0.0.1"]),
            ("x-forwarded-proto", &["http"]),
            ("x-forwarded-host", &["own.test"]),
            ("x-real-ip", &["127.0.0.1"]),
            ("forwarded", &[]),
        ] {
            assert_eq!(got.seen(name), values, "{name} {trusted}");
        }
    }
}

#[tokio::test]
async fn the_headers_of_trusted_proxies_are_kept_and_extended() {
    for trusted in ["[127.0.0.1/32]", "[\"::ffff:127.0.0.0/104\"]"] {
        let stage = Stage::start(&file(trusted)).await;
        let got = stage.get("own.test", "/", CLAIMS).await;
        for (name, values) in [
            // A client can have written everything before the last untrusted address.
            ("x-client", &["203.0.113.7 https www.example"][..]),
            ("x-forwarded-for", &["198.51.100.9, 203.0.113.7, 127.0.0.1"]),
            ("x-forwarded-proto", &["https"]),
            ("x-forwarded-host", &["www.example"]),
            ("x-real-ip", &["203.0.113.7"]),
            ("forwarded", &["for=198.51.100.9, for=127.0.0.1;proto=http"]),
        ] {
            assert_eq!(got.seen(name), values, "{name} {trusted}");
        }
        // A proxy that appends its own value to its client's.
        let added = "X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n\
                     X-Forwarded-Host: lie\r\nX-Forwarded-Host: www.example\r\n";
        let got = stage.get("own.test", "/", added).await;
        assert_eq!(got.seen("x-client"), ["127.0.0.1 http www.example"]);
        assert_eq!(got.seen("x-forwarded-proto"), ["http"]);
        assert_eq!(got.seen("x-forwarded-host"), ["www.example"]);
        let bare = stage.get("own.test", "/", "").await;
        assert_eq!(bare.seen("x-client"), ["127.0.0.1 http own.test"]);
        let mut by_http2 = stage.http2().await;
        let claim = [("x-forwarded-for".to_owned(), "203.0.113.8".to_owned())];
        let got = by_http2.ask("GET", "own.test", "/", &claim).await;
        assert_eq!(got.seen("x-client"), ["203.0.113.8 http own.test"]);
    }
}

#[tokio::test]
async fn a_websocket_over_tls_is_not_redirected_in_a_loop() {
    let stage = Stage::start(
        "settings: { trusted_proxies: [127.0.0.1] }\npools: [{ name: p }]\n\
         routes: [{ name: tls, redirect: { scheme: https } }, { name: r, pool: p }]",
    )
    .await;
    for (fields, status) in [
        ("X-Forwarded-Proto: wss\r\n", 200),
        ("X-Forwarded-Proto: \"https\"\r\n", 200),
        ("Forwarded: for=192.0.2.1;proto=wss\r\n", 200),
        ("X-Forwarded-Proto: ws\r\n", 308),
        ("X-Forwarded-Proto: http\r\n", 308),
        ("X-Forwarded-Proto: unknown\r\n", 308),
    ] {
        let got = stage.get("own.test", "/", fields).await;
        assert_eq!(got.status, status, "{fields}");
        if status == 200 {
            assert_eq!(got.seen("x-forwarded-proto"), ["https"], "{fields}");
        }
    }
}

#[tokio::test]
async fn the_forwarded_header_is_used_if_there_is_no_other() {
    let stage = Stage::start(&file("[127.0.0.1]")).await;
    let got = stage.get("own.test", "/", "Forwarded: for=\"[2001:db8::9]:80\";proto=https\r\n").await;
    assert_eq!(got.seen("x-client"), ["2001:db8::9 https own.test"]);
    assert_eq!(got.seen("x-forwarded-proto"), ["https"], "the backend gets the scheme that Weir uses");
    for garbage in ["for=", "for=\"", ";;;,,,", "for=_x", "for=unknown, ,", "\\\"=,for=300.1.1.1"] {
        let got = stage.get("own.test", "/", &format!("Forwarded: {garbage}\r\n")).await;
        assert_eq!(got.seen("x-client"), ["127.0.0.1 http own.test"], "{garbage}");
    }
}
