//! How a node detects a lost backend: with PINGs, only if the pool asks for them, and never on a connection without
//! requests, for which gRPC servers would close it.

use std::{sync::Arc, time::Duration};

use tokio::{io::AsyncWriteExt as _, sync::Notify};
use weir_snapshot::units::HumanDuration;

use crate::{
    frames::{GET, Stage, backend},
    support::within,
};

fn seconds(n: u64) -> HumanDuration {
    HumanDuration(Duration::from_secs(n))
}

#[tokio::test]
async fn without_a_setting_there_is_no_ping() {
    let address = backend(|mut peer| async move {
        peer.settings(&[]).await;
        while let Some(frame) = peer.request().await {
            assert_eq!(peer.pings, 0);
            peer.answer(frame.stream, true).await;
        }
    })
    .await;
    let stage = Stage::new(&[address]).await;
    for _ in 0..5 {
        assert_eq!(stage.status(GET).await, 200);
    }
}

#[tokio::test]
async fn pings_are_sent_while_a_request_runs_and_not_on_an_idle_connection() {
    let pinged = Arc::new(Notify::new());
    let tell = Arc::clone(&pinged);
    let address = backend(move |mut peer| {
        let pinged = Arc::clone(&tell);
        async move {
            peer.settings(&[]).await;
            let first = peer.request().await.unwrap();
            peer.ping().await;
            peer.answer(first.stream, true).await;
            let before = peer.pings;
            assert!(peer.request().await.is_some());
            assert!(peer.pings <= before + 1, "{} PINGs on an idle connection", peer.pings - before);
            pinged.notify_one();
        }
    })
    .await;
    let stage = Stage::with(&[address], |config| config.pools[0].keep_alive.ping = seconds(1)).await;
    assert_eq!(stage.status(GET).await, 200);
    // Long enough for two PINGs, if they were sent.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let mut client = stage.client().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    within(pinged.notified()).await;
}

#[tokio::test]
async fn a_backend_that_answers_no_ping_is_gone() {
    let address = backend(|mut peer| async move {
        peer.settings(&[]).await;
        peer.answers_pings = false;
        while peer.next().await.is_some() {}
    })
    .await;
    let stage = Stage::with(&[address], |config| {
        let keep_alive = &mut config.pools[0].keep_alive;
        (keep_alive.ping, keep_alive.timeout) = (seconds(1), seconds(1));
    })
    .await;
    assert_eq!(stage.status("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await, 502);
}
