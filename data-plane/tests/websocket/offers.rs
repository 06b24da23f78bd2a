//! A backend that switches to a protocol that was not offered, or answers with a wrong key: no tunnel is opened.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    ends::extended_connect,
    support::{
        wire::{Kind, Wire, config},
        within,
    },
};

/// Starts a backend that answers each request with these lines; `KEY` stands for the correct answer to its key.
async fn backend(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let key = head.lines().find_map(|line| {
                    line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
                });
                let key = key.map_or("", |(_, key)| key);
                let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
                stream.write_all(answer.replace("KEY", &accept).as_bytes()).await.unwrap();
                // Until the node closes.
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    url
}

#[tokio::test]
async fn a_client_of_http1_gets_only_a_protocol_that_it_offered() {
    for (offered, switched, status) in [
        ("websocket", "websocket", 101),
        ("WebSocket", "websocket", 101),
        ("a/1, b/2", "b/2", 101),
        ("websocket", "h2c", 502),
        ("websocket", "websocket/13", 502),
        ("a/1", "websocket", 502),
        ("a/1", "a/1, b/2", 502),
        ("a/1", ",", 502),
    ] {
        let answer =
            format!("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {switched}\r\n\r\n");
        let wire = Wire::start(config(&[backend(answer.leak()).await])).await;
        for kind in Kind::HTTP1 {
            let mut client = wire.connect(kind).await;
            let head =
                format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: {offered}\r\n\r\n");
            client.write_all(head.as_bytes()).await.unwrap();
            let mut said = vec![0; 12];
            within(client.read_exact(&mut said)).await.unwrap();
            let said = String::from_utf8(said).unwrap();
            assert_eq!(said, format!("HTTP/1.1 {status}"), "{kind:?}: {offered:?} and {switched:?}");
        }
    }
}

#[tokio::test]
async fn for_a_client_of_http2_the_node_verifies_the_answer_to_its_key() {
    for (fields, is_good) in [
        ("Upgrade: websocket\r\nSec-WebSocket-Accept: KEY\r\n", true),
        ("Upgrade: WebSocket\r\nsec-websocket-accept: KEY\r\n", true),
        ("Upgrade: websocket\r\n", false),
        ("Upgrade: websocket\r\nSec-WebSocket-Accept: \r\n", false),
        // The answer to the example of RFC 6455, 1.3.
        ("Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", false),
        ("Upgrade: websocket\r\nSec-WebSocket-Accept: KEYx\r\n", false),
        ("Upgrade: websocket\r\nSec-WebSocket-Accept: KEY\r\nSec-WebSocket-Accept: KEY\r\n", false),
        ("Upgrade: h2c\r\nSec-WebSocket-Accept: KEY\r\n", false),
    ] {
        let answer = format!("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n{fields}\r\n");
        let wire = Wire::start(config(&[backend(answer.leak()).await])).await;
        for kind in Kind::HTTP2 {
            let result = extended_connect(wire.h2(kind).await, "/chat").await;
            match result {
                Ok(_) => assert!(is_good, "{kind:?}: {fields:?}"),
                Err(status) => assert_eq!((status.as_u16(), is_good), (502, false), "{kind:?}: {fields:?}"),
            }
        }
    }
}
