//! Ends of connections: early responses arrive while the client still sends, pipelined requests are answered after
//! the client has closed its side, and TLS ends with `close_notify`.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use weir_snapshot::Config;

use crate::support::{
    Origin,
    wire::{Kind, Wire, config},
    within,
};

async fn wire_with(change: impl FnOnce(&mut Config)) -> (Wire, Origin) {
    let origin = Origin::start("origin").await;
    let mut config = config(&[origin.url()]);
    change(&mut config);
    (Wire::start(config).await, origin)
}

/// All data until the end of the connection, which must be clean.
async fn read_all(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut said = Vec::new();
    within(client.read_to_end(&mut said)).await.unwrap_or_else(|error| {
        panic!("{error} after {:?}", String::from_utf8_lossy(&said));
    });
    String::from_utf8(said).unwrap()
}

/// A client that reads nothing before it has sent everything, like most clients.
async fn upload(wire: &Wire, kind: Kind, head: &str, piece: usize, pieces: usize, pause: Duration) -> String {
    let mut client = wire.connect(kind).await;
    client.write_all(head.as_bytes()).await.unwrap();
    let data = vec![b'x'; piece];
    for number in 0..pieces {
        within(client.write_all(&data)).await.unwrap_or_else(|error| panic!("{error} at piece {number}"));
        tokio::time::sleep(pause).await;
    }
    client.shutdown().await.unwrap();
    read_all(&mut client).await
}

#[tokio::test]
async fn an_early_error_response_arrives_while_the_client_still_sends() {
    let (wire, _origin) = wire_with(|config| {
        config.routes[0].limits.max_body = Some("1KiB".parse().unwrap());
    })
    .await;
    let fast = Duration::ZERO;
    for kind in Kind::HTTP1 {
        for (head, status) in [
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8388608\r\n\r\n", "413"),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "400"),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "400"),
            ("POST / HTTP/1.1\r\n\r\n", "400"),
        ] {
            // Much data at once.
            let said = upload(&wire, kind, head, 1 << 20, 8, fast).await;
            assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{kind:?} {head:?}: {said:?}");
        }
        // Slowly, for longer than the 0.5 s that a closing connection once had.
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n";
        let said = upload(&wire, kind, head, 1 << 17, 8, Duration::from_millis(150)).await;
        assert!(said.starts_with("HTTP/1.1 413 "), "{kind:?}: {said:?}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_after_the_client_closed_its_side() {
    let (wire, _origin) = wire_with(|_| {}).await;
    for kind in Kind::HTTP1 {
        let mut client = wire.connect(kind).await;
        let batch = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(5);
        client.write_all(batch.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let said = read_all(&mut client).await;
        assert_eq!(said.matches("HTTP/1.1 200 OK").count(), 5, "{kind:?}: {said}");
        assert_eq!(said.matches("\r\n\r\norigin").count(), 5, "{kind:?}: {said}");
    }
}

#[tokio::test]
async fn an_idle_tls_connection_ends_with_close_notify() {
    let (wire, _origin) = wire_with(|config| {
        config.settings.downstream.idle_timeout = "300ms".parse().unwrap();
        config.settings.downstream.header_timeout = "300ms".parse().unwrap();
    })
    .await;
    for alpn in ["http/1.1", "h2"] {
        let https = wire.node.https.unwrap();
        let mut client = wire.identity.connect(https, alpn).await.unwrap();
        // Without `close_notify` the end is an error here.
        read_all_bytes(&mut client, alpn).await;
    }
    let mut client = wire.connect(Kind::Http1Tls).await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let said = read_all(&mut client).await;
    assert!(said.ends_with("\r\n\r\norigin"), "{said}");
}

async fn read_all_bytes(client: &mut (impl AsyncRead + Unpin), name: &str) {
    let read = within(client.read_to_end(&mut Vec::new())).await;
    read.unwrap_or_else(|error| panic!("{name}: {error}"));
}

#[tokio::test]
async fn a_426_response_names_the_required_protocols() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut read = [0; 4096];
            let _ = stream.read(&mut read).await;
            let answer = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.3, websocket\r\nConnection: Upgrade\r\n\
                          Content-Length: 0\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let wire = Wire::start(config(&[url])).await;
    for (fields, connection) in [("", "upgrade"), ("Connection: close\r\n", "upgrade, close\r\n")] {
        let mut client = TcpStream::connect(wire.node.http).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let said = read_all(&mut client).await.to_ascii_lowercase();
        assert!(said.contains("\r\nupgrade: tls/1.3, websocket\r\n"), "{said}");
        assert!(said.contains(&format!("\r\nconnection: {connection}")), "{said}");
    }
    let mut client = wire.h2(Kind::H2).await;
    let request = http::Request::get("https://a.example/").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let response = within(response).await.unwrap();
    assert_eq!(response.status(), 426);
    // HTTP/2 has no such fields (RFC 9113 section 8.2.2).
    assert!(response.headers().get("upgrade").is_none() && response.headers().get("connection").is_none());
}

#[tokio::test]
async fn over_tls_the_handshake_alone_decides_for_http2() {
    let (wire, _origin) = wire_with(|_| {}).await;
    let mut client = wire.connect(Kind::Http1Tls).await;
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let said = read_all(&mut client).await;
    assert!(said.starts_with("HTTP/1.1 505 ") || said.starts_with("HTTP/1.1 400 "), "{said:?}");
}
