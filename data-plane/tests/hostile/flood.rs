//! Excessive amounts of data from either side.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    backend::Backend,
    stage::{Stage, status_of},
};
use crate::support::DEADLINE;

#[tokio::test]
async fn answers_that_are_too_much_are_502_and_nothing_of_them_stays() {
    let backend = Backend::start().await;
    let stage = Stage::new(backend.address).await;
    for path in ["/field", "/fields", "/reason", "/hints", "/length-absurd", "/length-words", "/lengths"] {
        assert_eq!(status_of(stage.node.http, path).await, 502, "{path}");
    }
    stage.at_rest().await;
}

#[tokio::test]
async fn bytes_that_are_no_text_pass_as_they_are() {
    let backend = Backend::start().await;
    let stage = Stage::new(backend.address).await;
    let mut client = stage.client().await;
    client
        .write_all(b"GET /bytes HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: \xff\xfe\xc3\x28\r\n\r\n")
        .await
        .unwrap();
    let mut said = Vec::new();
    timeout(DEADLINE, client.read_to_end(&mut said)).await.unwrap().unwrap();
    let find = |what: &[u8]| said.windows(what.len()).any(|part| part == what);
    assert!(find(b"X: \xff\xfe\xc3\x28\r\n") && said.ends_with(b"\x80\xff\0"), "{}", said.escape_ascii());
    stage.at_rest().await;
}

#[tokio::test]
async fn a_body_without_end_that_the_backend_did_not_want_ends_with_the_answer() {
    let backend = Backend::start().await;
    let stage = Stage::new(backend.address).await;
    for path in ["/early", "/early/10/close"] {
        let client = stage.client().await;
        let (mut from, mut to) = client.into_split();
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        to.write_all(head.as_bytes()).await.unwrap();
        let chunk = [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat();
        let sending = async { while to.write_all(&chunk).await.is_ok() {} };
        timeout(DEADLINE, sending).await.unwrap_or_else(|_| panic!("{path}: it may send for ever"));
        let mut said = Vec::new();
        let _ = from.read_to_end(&mut said).await;
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 "), "{path}: {}", said.escape_ascii());
    }
    stage.at_rest().await;
}

#[tokio::test]
async fn a_crowd_that_says_nothing_is_gone_after_its_time_and_was_in_nobodys_way() {
    let backend = Backend::start().await;
    let stage = Stage::new(backend.address).await;
    let mut crowd = Vec::new();
    for i in 0..500 {
        crowd.push(stage.client().await);
        if i % 50 == 0 {
            assert_eq!(stage.node.get("/length").await.status, 200);
        }
    }
    for mut client in crowd {
        let end = timeout(DEADLINE, client.read(&mut [0; 16])).await.expect("an end in time");
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    stage.at_rest().await;
}
