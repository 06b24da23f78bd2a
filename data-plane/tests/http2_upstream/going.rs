//! A connection that a backend closes, or that has no capacity (RFC 9113 sections 6.8 and 8.7): requests that were
//! not started are sent again, whatever their method, and do not count against the backend.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::{Notify, mpsc},
};
use weir_snapshot::config::{Backend, Fallback, Pool};

use crate::{
    frames::{
        DATA, ENHANCE_YOUR_CALM, Frame, GET, HEADERS, MAX_CONCURRENT_STREAMS, NO_ERROR, POST, Peer,
        REFUSED_STREAM, Stage, backend,
    },
    read_until,
    support::within,
};

/// The highest stream id, which servers send first when they close a connection gracefully.
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
                // The end of the connection does not show which streams were not started.
                while peer.next().await.is_some() {}
            })
            .await;
            // This is not a retry: the policy allows none.
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
            // The first streams are held until there are too many.
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
    assert!(said.starts_with("HTTP/1.1 503 ") && said.contains("accepts no more requests"), "{said}");
    assert!((2..=8).contains(&seen.load(SeqCst)), "{seen:?}");
    stage.holds_nothing_against_backends().await;
}

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Requests with a body: the rest after the head, the content, and whether there are trailers.
fn bodies() -> [(String, &'static [u8], bool); 5] {
    [
        (POST.to_owned(), b"hello", false),
        (POST.replace("5\r\n\r\nhello", "0\r\n\r\n"), b"", false),
        (format!("{CHUNKED}3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"), b"hello", false),
        (format!("{CHUNKED}5\r\nhello\r\n0\r\nx-sum: 5\r\n\r\n"), b"hello", true),
        (format!("{CHUNKED}0\r\nx-sum: 0\r\n\r\n"), b"", true),
    ]
}

/// The content of a request, and whether trailers follow it.
async fn body_of(peer: &mut Peer, head: &Frame) -> (Vec<u8>, bool) {
    let (mut body, mut ends, mut trailers) = (Vec::new(), head.ends(), false);
    while !ends {
        let frame = peer.next().await.expect("the rest of a body");
        ends = frame.ends();
        trailers = frame.kind == HEADERS;
        if frame.kind == DATA {
            body.extend_from_slice(&frame.payload);
        }
    }
    (body, trailers)
}

#[tokio::test]
async fn a_body_that_was_sent_to_its_end_goes_up_again_whole() {
    for closes in [false, true] {
        for (request, body, trailers) in bodies() {
            let (tell, mut told) = mpsc::unbounded_channel();
            let address = backend(move |mut peer| {
                let tell = tell.clone();
                async move {
                    peer.settings(&[]).await;
                    while let Some(head) = peer.request().await {
                        let _ = tell.send(body_of(&mut peer, &head).await);
                        match (peer.number, head.stream, closes) {
                            (0, 1, false) => peer.reset(head.stream, REFUSED_STREAM).await,
                            (0, 1, true) => peer.go_away(0, NO_ERROR).await,
                            _ => peer.answer(head.stream, true).await,
                        }
                    }
                }
            })
            .await;
            let stage = Stage::new(&[address]).await;
            assert_eq!(stage.status(&request).await, 200, "{request}");
            for attempt in ["first", "second"] {
                let seen = within(told.recv()).await.unwrap();
                assert_eq!(seen, (body.to_vec(), trailers), "{attempt}: {request}");
            }
        }
    }
}

#[tokio::test]
async fn a_body_goes_to_a_fallback_in_the_framing_of_its_protocol() {
    for (request, body, trailers) in bodies() {
        let address = backend(|mut peer| async move {
            peer.settings(&[]).await;
            while let Some(head) = peer.request().await {
                body_of(&mut peer, &head).await;
                peer.reset(head.stream, REFUSED_STREAM).await;
            }
        })
        .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = listener.local_addr().unwrap();
        let stage = Stage::with(&[address], |config| {
            config.pools.push(Pool {
                name: "other".into(),
                backends: vec![Backend {
                    id: "o".into(),
                    url: format!("http://{other}"),
                    weight: 1,
                    state: Default::default(),
                }],
                ..Default::default()
            });
            config.routes[0].fallback = Some(Fallback { pool: Some("other".into()), ..Default::default() });
        })
        .await;
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = read_until(&mut stream, "\r\n\r\n").await;
            let end = match (head.contains("chunked"), trailers) {
                (true, true) => format!("0\r\nx-sum: {}\r\n\r\n", body.len()),
                (true, false) => "0\r\n\r\n".to_owned(),
                (false, _) => String::new(),
            };
            let content = String::from_utf8_lossy(body);
            let expected = match (head.contains("chunked"), body.len()) {
                (true, 1..) => format!("{:x}\r\n{content}\r\n{end}", body.len()),
                _ => format!("{content}{end}"),
            };
            let mut said = vec![0; expected.len()];
            stream.read_exact(&mut said).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&said), expected, "{request}");
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        };
        let (status, ()) = within(async { tokio::join!(stage.status(&request), serve) }).await;
        assert_eq!(status, 200, "{request}");
    }
}

/// gRPC servers reject streams beyond their limit with ENHANCE_YOUR_CALM, after which none may be sent again.
#[tokio::test]
async fn a_new_connection_gets_one_request_until_its_settings_come() {
    let early = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&early);
    let address = backend(move |mut peer| {
        let count = Arc::clone(&count);
        async move {
            let first = peer.request().await.unwrap();
            peer.settings(&[(MAX_CONCURRENT_STREAMS, 4)]).await;
            count.fetch_add(peer.requests_until_acknowledged().await, SeqCst);
            peer.answer(first.stream, true).await;
            peer.serve().await;
        }
    })
    .await;
    let stage = Stage::new(&[address]).await;
    assert_eq!(join_all((0..20).map(|_| stage.status(GET))).await, [200; 20]);
    assert_eq!(early.load(SeqCst), 0, "requests before the SETTINGS, beside the first");
}

#[tokio::test]
async fn a_backend_whose_settings_do_not_come_gets_all_requests_a_little_later() {
    let address = backend(|mut peer| async move {
        let mut open = Vec::new();
        while let Some(frame) = peer.request().await {
            open.push(frame.stream);
            if open.len() == 8 {
                peer.settings(&[]).await;
                for stream in open.drain(..) {
                    peer.answer(stream, true).await;
                }
            }
        }
    })
    .await;
    let stage = Stage::new(&[address]).await;
    assert_eq!(join_all((0..8).map(|_| stage.status(GET))).await, [200; 8]);
}
