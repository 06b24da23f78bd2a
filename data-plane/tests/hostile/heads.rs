//! HTTP/2 heads that cost the client a few bytes each (HPACK's indexed fields) and the node their full size.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};

use weir_snapshot::config::Protocol;

use super::backend::Backend;
use crate::support::{
    DEADLINE,
    wire::{Kind, Wire, config},
};

/// A field that fits into HPACK's table, so that it takes one byte from the second time on.
const VALUE: usize = 3900;

/// Repetitions in one head: together slightly less than `max_head`.
const TIMES: usize = 16;

fn amplified(path: &str) -> http::Request<()> {
    let mut request = http::Request::get(format!("http://a{path}")).body(()).unwrap();
    let value = http::HeaderValue::from_str(&"x".repeat(VALUE)).unwrap();
    for _ in 0..TIMES {
        request.headers_mut().append("x-large", value.clone());
    }
    request
}

/// A backend that reads requests and sends `head` to each, or nothing; reports their number.
async fn silent_backend(
    head: &'static [u8],
) -> (String, tokio::sync::watch::Receiver<usize>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (count, seen) = tokio::sync::watch::channel(0);
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                let mut read = Vec::new();
                while !read.ends_with(b"\r\n\r\n") {
                    if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                count.send_modify(|count| *count += 1);
                let _ = stream.write_all(head).await;
                let _ = stream.read_to_end(&mut read).await;
            });
        }
    });
    (url, seen, server)
}

#[tokio::test]
async fn heads_in_use_are_limited_per_connection() {
    let (url, mut seen, _server) = silent_backend(b"").await;
    let wire = Wire::start(config(&[url])).await;
    for kind in Kind::HTTP2 {
        let before = *seen.borrow();
        let mut client = wire.h2(kind).await;
        let mut answers = tokio::task::JoinSet::new();
        for _ in 0..100 {
            client = client.ready().await.unwrap();
            answers.spawn(client.send_request(amplified("/"), true).unwrap().0);
        }
        // Sixteen times the largest head, a little more than these.
        for _ in 0..84 {
            let answer = timeout(DEADLINE, answers.join_next()).await.expect("in time");
            assert_eq!(answer.unwrap().unwrap().unwrap().status(), 431, "{kind:?}");
        }
        let all = seen.wait_for(|count| *count >= before + 16);
        assert_eq!(*timeout(DEADLINE, all).await.expect("in time").unwrap(), before + 16, "{kind:?}");
        // Ordinary requests on this connection have no room for their heads now, but another connection has.
        let other = wire.h2(kind).await;
        let mut other = other.ready().await.unwrap();
        let answer = other.send_request(amplified("/"), true).unwrap().0;
        let all = seen.wait_for(|count| *count > before + 16);
        timeout(DEADLINE, all).await.expect("in time").unwrap();
        drop((answer, answers));
    }
}

#[tokio::test]
async fn heads_are_released_once_their_responses_have_started() {
    let (url, _seen, _server) =
        silent_backend(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n").await;
    let wire = Wire::start(config(&[url])).await;
    let mut client = wire.h2(Kind::H2c).await;
    let mut open = Vec::new();
    // Their responses continue, and their heads together are far beyond the limit.
    for i in 0..60 {
        client = client.ready().await.unwrap();
        let answer = timeout(DEADLINE, client.send_request(amplified("/"), true).unwrap().0).await;
        let answer = answer.expect("in time").unwrap();
        assert_eq!(answer.status(), 200, "{i}");
        open.push(answer);
    }
    drop(open);
}

#[tokio::test]
async fn a_client_has_as_many_streams_as_configured() {
    let (url, _seen, _server) = silent_backend(b"").await;
    let mut config = config(&[url]);
    config.settings.downstream.max_concurrent_streams = 7;
    let wire = Wire::start(config).await;
    for kind in Kind::HTTP2 {
        let io = wire.connect(kind).await;
        let (mut client, connection) = h2::client::Builder::new().handshake::<_, Bytes>(io).await.unwrap();
        tokio::spawn(connection);
        let settled = async {
            while client.current_max_send_streams() > 1000 {
                client = client.clone().ready().await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(DEADLINE, settled).await.expect("SETTINGS");
        assert_eq!(client.current_max_send_streams(), 7, "{kind:?}");
    }
}

#[tokio::test]
async fn trailers_are_limited_as_in_http1() {
    let backend = Backend::start().await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        // This backend speaks HTTP/1; an HTTP/2 backend accepts any trailers.
        let (address, _server) = match protocol {
            Protocol::Http1 => (backend.address, None),
            Protocol::Http2 => {
                let (address, server) = echoing_nothing().await;
                (address, Some(server))
            }
        };
        let mut config = config(&[format!("http://{address}")]);
        config.pools[0].protocol = protocol;
        let wire = Wire::start(config).await;
        for kind in Kind::HTTP2 {
            let client = wire.h2(kind).await;
            // 16 KiB in total: as many pieces of a value as fit, and one more.
            for (times, status) in [(1, 200), (4, 200), (5, 400), (TIMES, 400)] {
                let mut client = client.clone().ready().await.unwrap();
                let request = http::Request::post("http://a/length").body(()).unwrap();
                let (answer, mut body) = client.send_request(request, false).unwrap();
                body.send_data(Bytes::from_static(b"x"), false).unwrap();
                let mut trailers = http::HeaderMap::new();
                let value = http::HeaderValue::from_str(&"x".repeat(VALUE)).unwrap();
                (0..times).for_each(|_| {
                    trailers.append("x-large", value.clone());
                });
                body.send_trailers(trailers).unwrap();
                let answer = timeout(DEADLINE, answer).await.expect("in time").unwrap();
                assert_eq!(answer.status(), status, "{protocol:?} {kind:?} {times}");
            }
        }
    }
}

/// An HTTP/2 backend that reads each request completely and answers it.
async fn echoing_nothing() -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((mut request, mut answer))) = connection.accept().await {
                    tokio::spawn(async move {
                        while request.body_mut().data().await.is_some_and(|data| data.is_ok()) {}
                        if request.body_mut().trailers().await.is_ok() {
                            let _ = answer.send_response(http::Response::new(()), true);
                        }
                    });
                }
            });
        }
    });
    (address, server)
}
