//! Each failure has an owner: the client's own faults are neither counted against a backend nor tried elsewhere.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::io::AsyncWriteExt as _;

use crate::{
    frames::{
        ENHANCE_YOUR_CALM, GET, MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE, NO_ERROR, POST, Stage, backend,
    },
    read_until,
};

/// More than the circuit breaker and the retry budget allow for a backend's own failures.
const MANY: usize = 8;

#[tokio::test]
async fn what_http2_cannot_express_is_a_400_and_reaches_no_backend() {
    let seen = Arc::new(AtomicUsize::new(0));
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let count = Arc::clone(&seen);
        let serve = move |mut peer: crate::frames::Peer| {
            let count = Arc::clone(&count);
            async move {
                peer.settings(&[]).await;
                count.fetch_add(peer.serve().await, SeqCst);
            }
        };
        addresses.push(backend(serve).await);
    }
    let stage = Stage::new(&addresses).await;
    let target = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let inputs = [
        target("/<"),
        target("/a>b"),
        target("/`"),
        target("/?\""),
        target("/?<"),
        "GET / HTTP/1.0\r\n\r\n".to_owned(),
    ];
    let mut refused = 0;
    for input in &inputs {
        for _ in 0..MANY {
            assert_eq!(stage.status(input).await, 400, "{input}");
            refused += 1;
        }
    }
    // An ambiguous host is rejected before a backend is chosen.
    for _ in 0..MANY {
        assert_eq!(stage.status("GET / HTTP/1.1\r\nHost: %61.test\r\nConnection: close\r\n\r\n").await, 400);
    }
    assert_eq!(stage.status(GET).await, 200);
    assert_eq!(stage.failed("client").await, refused);
    stage.holds_nothing_against_backends().await;
}

#[tokio::test]
async fn a_head_beyond_the_backends_settings_is_a_431_and_is_not_sent() {
    let address = backend(|mut peer| async move {
        peer.settings(&[(MAX_HEADER_LIST_SIZE, 2000)]).await;
        while let Some(frame) = peer.request().await {
            assert!(frame.payload.len() < 2000, "{frame:?}");
            peer.answer(frame.stream, true).await;
        }
    })
    .await;
    let stage = Stage::new(&[address]).await;
    let large = |size| {
        let value = "a".repeat(size);
        format!("GET / HTTP/1.1\r\nHost: a\r\nX-Large: {value}\r\nConnection: close\r\n\r\n")
    };
    // The first request opens the connection and therefore waits for the SETTINGS.
    for _ in 0..MANY {
        assert_eq!(stage.status(&large(5000)).await, 431);
    }
    assert_eq!(stage.status(GET).await, 200);
    assert_eq!(stage.status(&large(2000)).await, 431);
    assert_eq!(stage.status(&large(1000)).await, 200);
    assert_eq!(stage.failed("client").await, MANY as u64 + 1);
    stage.holds_nothing_against_backends().await;
}

#[tokio::test]
async fn a_stream_that_is_too_much_for_the_backend_is_a_429() {
    let seen = Arc::new(AtomicUsize::new(0));
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let count = Arc::clone(&seen);
        let serve = move |mut peer: crate::frames::Peer| {
            let count = Arc::clone(&count);
            async move {
                peer.settings(&[]).await;
                while let Some(frame) = peer.request().await {
                    count.fetch_add(1, SeqCst);
                    peer.reset(frame.stream, ENHANCE_YOUR_CALM).await;
                }
            }
        };
        addresses.push(backend(serve).await);
    }
    let stage = Stage::new(&addresses).await;
    for _ in 0..MANY {
        assert_eq!(stage.status(GET).await, 429);
        assert_eq!(stage.status(POST).await, 429);
    }
    assert_eq!(seen.load(SeqCst), 2 * MANY, "no other backend gets it");
    assert_eq!(stage.failed("client").await, 2 * MANY as u64);
    stage.holds_nothing_against_backends().await;
}

#[tokio::test]
async fn a_connection_that_is_too_much_for_the_backend_says_nothing_against_it() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let address = backend(move |mut peer| {
        let count = Arc::clone(&count);
        async move {
            peer.settings(&[]).await;
            if let Some(frame) = peer.request().await {
                count.fetch_add(1, SeqCst);
                peer.go_away(frame.stream, ENHANCE_YOUR_CALM).await;
                peer.close().await;
            }
        }
    })
    .await;
    let stage = Stage::new(&[address]).await;
    for _ in 0..MANY {
        assert_eq!(stage.status(POST).await, 503);
    }
    assert_eq!(seen.load(SeqCst), MANY, "a POST may have been begun");
    assert_eq!(stage.status(GET).await, 503);
    assert_eq!(seen.load(SeqCst), MANY + 2, "a GET is sent once more");
    stage.holds_nothing_against_backends().await;
}

#[tokio::test]
async fn what_is_the_backends_own_failure_still_opens_its_breaker() {
    let address = backend(|mut peer| async move {
        peer.settings(&[]).await;
        if let Some(frame) = peer.request().await {
            peer.go_away(frame.stream, NO_ERROR).await;
            peer.close().await;
        }
    })
    .await;
    let good = backend(|mut peer| async move {
        peer.settings(&[]).await;
        peer.serve().await;
    })
    .await;
    let stage = Stage::new(&[address, good]).await;
    for _ in 0..3 * MANY {
        stage.status(POST).await;
    }
    let metrics = stage.node.ask("/metrics").await.body;
    assert!(
        metrics.lines().any(|line| line.starts_with("weir_node_backend_ejections_total{backend=\"b0\"")
            && line.ends_with(" 1")),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_backend_whose_streams_are_all_in_use_is_not_failing() {
    let address = backend(|mut peer| async move {
        peer.settings(&[(MAX_CONCURRENT_STREAMS, 1)]).await;
        while let Some(frame) = peer.request().await {
            peer.answer(frame.stream, false).await;
        }
    })
    .await;
    let stage =
        Stage::with(&[address], |config| config.pools[0].timeouts.connect = "200ms".parse().unwrap()).await;
    let mut open = Vec::new();
    for _ in 0..16 {
        let mut client = stage.client().await;
        client.write_all(GET.as_bytes()).await.unwrap();
        assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
        open.push(client);
    }
    for _ in 0..MANY {
        assert_eq!(stage.status(POST).await, 503);
    }
    stage.holds_nothing_against_backends().await;
}
