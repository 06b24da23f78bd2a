//! A connection that a backend closes, or on which it has no room (RFC 9113, 6.8 and 8.7): requests that were not begun
//! are sent again, whatever their method, and nothing of it counts against the backend.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use futures_util::future::join_all;
use tokio::{io::AsyncWriteExt as _, sync::Notify};

use crate::{
    frames::{
        DATA, ENHANCE_YOUR_CALM, GET, MAX_CONCURRENT_STREAMS, NO_ERROR, POST, REFUSED_STREAM, Stage, backend,
    },
    read_until,
    support::within,
};

/// The highest stream id: what servers send first that close a connection gracefully.
const ALL: u32 = 0x7fff_ffff;

#[tokio::test]
async fn after_goaway_new_requests_use_another_connection_and_open_streams_finish() {
    for (last, code) in [(1, NO_ERROR), (ALL, NO_ERROR), (1, ENHANCE_YOUR_CALM)] {
        let (finish, finished) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (wait, tell) = (Arc::clone(&finish), Arc::clone(&finished));
        let address = backend(move |mut peer| {
            let (finish, finished) = (Arc::clone(&wait), Arc::clone(&tell));
            async move {
                peer.settings(&[]).await;
                if peer.number > 0 {
                    peer.serve().await;
                    return;
                }
                let open = peer.request().await.unwrap().stream;
                peer.answer(open, false).await;
                peer.go_away(last, code).await;
                finish.notified().await;
                peer.end(open).await;
                finished.notify_one();
                peer.serve().await;
            }
        })
        .await;
        let stage = Stage::new(&[address]).await;
        let mut open = stage.client().await;
        open.write_all(GET.as_bytes()).await.unwrap();
        let head = read_until(&mut open, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        for _ in 0..10 {
            let statuses = join_all([stage.status(GET), stage.status(POST)]).await;
            assert_eq!(statuses, [200, 200], "{last} {code}");
        }
        finish.notify_one();
        within(finished.notified()).await;
        assert_eq!(read_until(&mut open, "0\r\n\r\n").await, "0\r\n\r\n");
        stage.holds_nothing_against_backends().await;
    }
}

#[tokio::test]
async fn streams_above_the_last_id_are_sent_again_at_the_only_backend_post_too() {
    for code in [NO_ERROR, ENHANCE_YOUR_CALM] {
        for graceful in [false, true] {
            let address = backend(move |mut peer| async move {
                peer.settings(&[]).await;
                if peer.number >= 2 {
                    peer.serve().await;
                    return;
                }
                peer.request().await;
                if graceful {
                    peer.go_away(ALL, NO_ERROR).await;
                }
                peer.go_away(0, code).await;
                // It is not the end of the connection that says what was not begun.
                while peer.next().await.is_some() {}
            })
            .await;
            // Not as a retry: there are none by this policy.
            let stage = Stage::with(&[address], |config| config.pools[0].retry.attempts = 1).await;
            for request in [POST, GET, POST] {
                assert_eq!(stage.status(request).await, 200, "{code} {graceful}");
            }
            stage.holds_nothing_against_backends().await;
        }
    }
}

#[tokio::test]
async fn a_stream_at_or_below_the_last_id_is_not_sent_again_if_it_is_a_post() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let address = backend(move |mut peer| {
        let count = Arc::clone(&count);
        async move {
            peer.settings(&[]).await;
            let stream = peer.request().await.unwrap().stream;
            count.fetch_add(1, SeqCst);
            peer.go_away(stream, NO_ERROR).await;
            peer.close().await;
        }
    })
    .await;
    let stage = Stage::new(&[address]).await;
    assert_eq!(stage.status(POST).await, 502);
    assert_eq!(seen.load(SeqCst), 1);
    assert_eq!(stage.failed("backend").await, 1);
}

#[tokio::test]
async fn a_body_goes_up_again_from_its_beginning() {
    let half = Arc::new(Notify::new());
    let tell = Arc::clone(&half);
    let address = backend(move |mut peer| {
        let half = Arc::clone(&tell);
        async move {
            peer.settings(&[]).await;
            let mut body = Vec::new();
            while let Some(frame) = peer.next().await {
                if frame.kind == DATA {
                    body.extend_from_slice(&frame.payload);
                }
                if body == b"hello" {
                    if peer.number == 0 {
                        peer.go_away(0, NO_ERROR).await;
                    } else {
                        half.notify_one();
                    }
                }
                if frame.ends() {
                    assert_eq!((peer.number, body.as_slice()), (1, &b"hello again"[..]));
                    peer.answer(frame.stream, true).await;
                }
            }
        }
    })
    .await;
    let stage = Stage::new(&[address]).await;
    let mut client = stage.client().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello";
    client.write_all(head.as_bytes()).await.unwrap();
    within(half.notified()).await;
    client.write_all(b" again").await.unwrap();
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
}

#[tokio::test]
async fn streams_beyond_a_limit_that_comes_late_are_sent_again() {
    const LIMIT: usize = 4;
    let address = backend(|mut peer| async move {
        peer.settings(&[]).await;
        let (mut open, mut limited) = (Vec::new(), false);
        while let Some(frame) = peer.request().await {
            if open.len() >= LIMIT {
                if !limited {
                    limited = true;
                    peer.settings(&[(MAX_CONCURRENT_STREAMS, LIMIT as u32)]).await;
                }
                peer.reset(frame.stream, REFUSED_STREAM).await;
            } else {
                open.push(frame.stream);
            }
            // The first ones are held until there are too many of them.
            if limited || peer.number > 0 {
                for stream in open.drain(..) {
                    peer.answer(stream, true).await;
                }
            }
        }
    })
    .await;
    let stage = Stage::with(&[address], |config| config.pools[0].retry.attempts = 1).await;
    let requests = (0..20).map(|i| stage.status(if i % 2 == 0 { POST } else { GET }));
    assert_eq!(join_all(requests).await, [200; 20]);
    stage.holds_nothing_against_backends().await;
}

#[tokio::test]
async fn a_backend_that_refuses_every_stream_costs_a_503_and_a_few_attempts() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let address = backend(move |mut peer| {
        let count = Arc::clone(&count);
        async move {
            peer.settings(&[]).await;
            while let Some(frame) = peer.request().await {
                count.fetch_add(1, SeqCst);
                peer.reset(frame.stream, REFUSED_STREAM).await;
            }
        }
    })
    .await;
    let stage = Stage::new(&[address]).await;
    let said = stage.ask(POST).await;
    assert!(said.starts_with("HTTP/1.1 503 ") && said.contains("takes no more requests"), "{said}");
    assert!((2..=8).contains(&seen.load(SeqCst)), "{seen:?}");
    stage.holds_nothing_against_backends().await;
}
