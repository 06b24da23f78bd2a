//! Each side closes the connection after each byte of an exchange.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{
    backend::{Backend, answer},
    stage::{Leave, Stage, exchange, read, together},
};
use crate::support::DEADLINE;

const EVERY_WAY: [Leave; 3] = [Leave::Close, Leave::Reset, Leave::HalfClose];

/// Requests of clients; the last is a GET and a POST over HTTP/2.
const EXCHANGES: [&[u8]; 6] = [
    b"GET /length HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",
    b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world",
    b"POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n",
    b"GET /chunked HTTP/1.1\r\nHost: a\r\n\r\nGET /length HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nbytes",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
      \0\0\0\x04\0\0\0\0\0\
      \0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a\
      \0\0\x06\x01\x04\0\0\0\x03\x83\x86\x84\x41\x01a\
      \0\0\x05\0\x01\0\0\0\x03hello",
];

/// Requested responses, with the number of bytes between two positions at which the client leaves.
const ANSWERS: [(&str, usize); 4] = [("length", 1), ("chunked", 1), ("interim", 1), ("large", 100_003)];

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn a_client_that_leaves_after_any_byte_of_its_request_leaks_nothing() {
    let backend = Backend::start().await;
    let stage = Stage::new(backend.address).await;
    let node = stage.node.http;
    let jobs = EXCHANGES
        .into_iter()
        .flat_map(|bytes| (0..=bytes.len()).flat_map(move |cut| EVERY_WAY.map(|how| (&bytes[..cut], how))));
    together(jobs, |(sent, how)| async move {
        let mut stream = TcpStream::connect(node).await.unwrap();
        stream.write_all(sent).await.unwrap();
        how.leave(stream).await;
    })
    .await;
    stage.at_rest().await;
}

#[tokio::test]
async fn a_client_that_leaves_after_any_byte_of_its_response_leaks_nothing() {
    let backend = Backend::start().await;
    let stage = Stage::new(backend.address).await;
    let node = stage.node.http;
    for (name, step) in ANSWERS {
        let request = get(&format!("/{name}"));
        let whole = exchange(node, &request).await.len();
        assert!(whole >= answer(name).len() / 2, "{name}");
        let jobs = (0..=whole).step_by(step).flat_map(|count| EVERY_WAY.map(|how| (count, how)));
        together(jobs, |(count, how)| {
            let request = request.clone();
            async move {
                let mut stream = TcpStream::connect(node).await.unwrap();
                stream.write_all(request.as_bytes()).await.unwrap();
                // The length of the response is constant: a Date and a request id always have the same length.
                stream.read_exact(&mut vec![0; count]).await.unwrap();
                how.leave(stream).await;
            }
        })
        .await;
    }
    stage.at_rest().await;
}

#[tokio::test]
async fn a_backend_that_leaves_after_any_byte_of_its_response_causes_a_visible_error_and_leaks_nothing() {
    let backend = Backend::start().await;
    let stage = Stage::new(backend.address).await;
    let node = stage.node.http;
    for name in ["length", "chunked", "interim", "close"] {
        let whole = answer(name);
        // An incomplete interim response may be dropped; the final head counts.
        let final_head = whole.windows(4).rposition(|end| end == b"\r\n\r\n").unwrap();
        let head = if name == "chunked" {
            whole.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4
        } else {
            final_head + 4
        };
        let jobs = (0..=whole.len()).flat_map(|count| ["close", "reset"].map(|how| (count, how)));
        let length = whole.len();
        together(jobs, |(count, how)| async move {
            let path = format!("/{name}/{count}/{how}");
            let said = exchange(node, &get(&path)).await;
            let said = String::from_utf8(said).unwrap();
            let Some((status, body)) = read(&said) else {
                // Cut before any byte was forwarded.
                return assert!(count < length || how == "reset", "{path} is lost");
            };
            let is_whole = if name == "close" { how == "close" && count >= head } else { count == length };
            match status {
                // Also if it was cut within the head, before any byte was forwarded. A reset may overtake earlier
                // data.
                502 => assert!(how == "reset" || !is_whole, "{path}: {said}"),
                200 if body.is_some() => assert!(is_whole, "{path} ends as if it were whole: {said}"),
                200 => assert!(count >= head && (how == "reset" || !is_whole), "{path} is cut: {said}"),
                _ => panic!("{path}: {said}"),
            }
        })
        .await;
    }
    stage.at_rest().await;
}

#[tokio::test]
async fn a_backend_that_leaves_after_any_byte_of_the_request_causes_an_error_and_leaks_nothing() {
    let requests = [
        get("/"),
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 11\r\n\r\nhello world".to_owned(),
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n"
            .to_owned(),
    ];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stage = Stage::new(listener.local_addr().unwrap()).await;
    for request in requests {
        // The first response shows what the node sends; it is read until the node waits.
        let mut whole = usize::MAX;
        let mut count = 0;
        while count <= whole {
            for how in [Leave::Close, Leave::Reset] {
                let client = tokio::spawn({
                    let (node, request) = (stage.node.http, request.clone());
                    async move { exchange(node, &request).await }
                });
                let (mut stream, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
                if whole == usize::MAX {
                    let end: &[u8] = if request.contains("hello world") { b"world" } else { b"\r\n\r\n" };
                    let ends = 1 + usize::from(request.contains("chunked"));
                    let mut read = Vec::new();
                    while read.windows(end.len()).filter(|part| *part == end).count() < ends {
                        read.push(timeout(DEADLINE, stream.read_u8()).await.unwrap().unwrap());
                    }
                    whole = read.len();
                } else {
                    stream.read_exact(&mut vec![0; count]).await.unwrap();
                }
                how.leave(stream).await;
                let said = String::from_utf8(client.await.unwrap()).unwrap();
                // A connection that is reset at once may look as if it was not accepted.
                let refused = count == 0 && said.starts_with("HTTP/1.1 503 ");
                assert!(refused || said.starts_with("HTTP/1.1 502 "), "{how:?} after {count}: {said}");
            }
            count += 1;
        }
        assert!(whole > request.len(), "{whole}");
    }
    // From here on the backend answers.
    let _backend = Backend::on(listener);
    stage.at_rest().await;
}
