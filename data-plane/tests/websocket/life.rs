//! Lifetime of WebSockets: a thousand in parallel; what must not end them (a drain before its deadline, a new
//! snapshot, request timeouts), and what must (their own timeout, the loss of a peer).

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _, future::join_all};
use tokio_tungstenite::tungstenite::Message;
use weir_proto::v1::subscribe_response;
use weir_snapshot::{
    config::{Config, Strategy},
    units::HumanDuration,
};

use crate::{
    ends::{Echo, Socket, Speaks, connect, extended_connect},
    support::{
        Origin, snapshot,
        wire::{Kind, Wire, config},
        within,
    },
};

async fn still_speaks(socket: &mut Socket, text: &str) {
    within(socket.send(Message::text(text))).await.unwrap();
    assert_eq!(within(socket.next()).await.unwrap().unwrap(), Message::text(text));
}

/// Asserts that the connection ends without further data.
async fn has_ended(socket: &mut Socket) {
    assert!(within(socket.next()).await.is_none_or(|end| end.is_err()));
}

async fn a_thousand_speak_at_once(kind: Kind) {
    let echo = Echo::start(Speaks::Http1).await;
    let wire = Wire::start(config(&[echo.url()])).await;
    let mut sockets = Vec::new();
    // Concurrent handshakes; all of them stay open.
    for _ in 0..20 {
        sockets.extend(
            join_all((0..50).map(|_| connect(&wire, kind))).await.into_iter().map(|(socket, _)| socket),
        );
    }
    for round in 0..2 {
        let speak = sockets.iter_mut().enumerate().map(|(n, socket)| async move {
            still_speaks(socket, &format!("{round}: this is {n}")).await;
        });
        join_all(speak).await;
    }
    assert_eq!(sockets.len(), 1000);
}

#[tokio::test]
async fn a_thousand_speak_at_once_over_http1() {
    a_thousand_speak_at_once(Kind::Http1).await;
}

#[tokio::test]
async fn a_thousand_speak_at_once_over_tls() {
    a_thousand_speak_at_once(Kind::Http1Tls).await;
}

#[tokio::test]
async fn a_thousand_speak_at_once_as_streams_of_ten_connections() {
    let echo = Echo::start(Speaks::Http1).await;
    let wire = Wire::start(config(&[echo.url()])).await;
    let mut sockets = Vec::new();
    for _ in 0..10 {
        let client = wire.h2(Kind::H2c).await;
        for io in join_all((0..100).map(|_| extended_connect(client.clone(), "/chat"))).await {
            let role = tokio_tungstenite::tungstenite::protocol::Role::Client;
            sockets.push(
                tokio_tungstenite::WebSocketStream::from_raw_socket(io.expect("a tunnel"), role, None).await,
            );
        }
    }
    let speak = sockets.iter_mut().enumerate().map(|(n, socket)| async move {
        let text = Message::text(format!("this is {n}"));
        within(socket.send(text.clone())).await.unwrap();
        assert_eq!(within(socket.next()).await.unwrap().unwrap(), text);
    });
    assert_eq!(join_all(speak).await.len(), 1000);
}

#[tokio::test]
async fn a_drain_lets_it_speak_until_it_ends() {
    for kind in Kind::ALL {
        let echo = Echo::start(Speaks::Http1).await;
        let mut wire = Wire::start(config(&[echo.url()])).await;
        let (mut socket, _) = within(connect(&wire, kind)).await;
        wire.node.terminate();
        wire.node.ask_until("/readyz", |answer| answer.body.contains("draining")).await;
        for n in 0..20 {
            still_speaks(&mut socket, &format!("{kind:?} {n}")).await;
        }
        socket.close(None).await.unwrap();
        assert_eq!(within(socket.next()).await.unwrap().unwrap(), Message::Close(None));
        drop(socket);
        assert!(wire.node.ended().await.success(), "{kind:?}");
    }
}

#[tokio::test]
async fn the_drain_deadline_ends_it() {
    for kind in Kind::ALL {
        let echo = Echo::start(Speaks::Http1).await;
        let mut wire = Wire::start_with(config(&[echo.url()]), &["--drain-timeout", "300ms"]).await;
        let (mut socket, _) = within(connect(&wire, kind)).await;
        still_speaks(&mut socket, "before").await;
        wire.node.terminate();
        has_ended(&mut socket).await;
        wire.node.ended().await;
    }
}

#[tokio::test]
async fn a_new_snapshot_cuts_nothing() {
    let echo = Echo::start(Speaks::Http1).await;
    let other = Origin::start("other").await;
    let wire = Wire::start(config(&[echo.url()])).await;
    let mut sockets = Vec::new();
    for kind in Kind::ALL {
        sockets.push(within(connect(&wire, kind)).await.0);
    }
    // The new snapshot lacks its backend and changes everything else.
    let mut next = config(&[other.url()]);
    next.pools[0].backends[0].id = "b9".into();
    next.pools[0].strategy = Strategy::Random;
    next.pools[0].timeouts.tunnel = HumanDuration(Duration::from_secs(7));
    wire.control.push(subscribe_response::Message::Snapshot(snapshot(2, &next)));
    wire.control.acked(2).await;
    assert_eq!(wire.node.get("/").await.body, "other");
    for socket in &mut sockets {
        still_speaks(socket, "still here").await;
    }
}

fn impatient(echo: &Echo) -> Config {
    let mut config = config(&[echo.url()]);
    let short = HumanDuration(Duration::from_millis(300));
    (config.pools[0].timeouts.response, config.pools[0].timeouts.response_body) = (short, short);
    config.pools[0].timeouts.idle = short;
    config.settings.downstream.header_timeout = short;
    config.settings.downstream.body_timeout = short;
    config.settings.downstream.idle_timeout = short;
    config
}

#[tokio::test]
async fn the_deadlines_of_requests_do_not_end_it() {
    let echo = Echo::start(Speaks::Http1).await;
    let wire = Wire::start(impatient(&echo)).await;
    let mut sockets = Vec::new();
    for kind in Kind::ALL {
        sockets.push(within(connect(&wire, kind)).await.0);
    }
    // Three times the longest timeout, without data.
    for socket in &mut sockets {
        assert!(tokio::time::timeout(Duration::from_millis(250), socket.next()).await.is_err());
    }
    for socket in &mut sockets {
        still_speaks(socket, "after").await;
    }
}

#[tokio::test]
async fn its_own_deadline_ends_it_when_nothing_moves() {
    let mut echo = Echo::start(Speaks::Http1).await;
    let mut config = config(&[echo.url()]);
    config.pools[0].timeouts.tunnel = HumanDuration(Duration::from_millis(500));
    let wire = Wire::start(config).await;
    for kind in Kind::ALL {
        let (mut socket, _) = within(connect(&wire, kind)).await;
        still_speaks(&mut socket, "once").await;
        has_ended(&mut socket).await;
        within(echo.seen.recv()).await.unwrap();
    }
}

#[tokio::test]
async fn the_loss_of_a_client_is_told_to_the_backend() {
    let mut echo = Echo::start(Speaks::Http1).await;
    let wire = Wire::start(config(&[echo.url()])).await;
    for kind in Kind::ALL {
        let (mut socket, _) = within(connect(&wire, kind)).await;
        still_speaks(&mut socket, "here").await;
        drop(socket);
        within(echo.seen.recv()).await.unwrap();
    }
}

#[tokio::test]
async fn the_loss_of_a_backend_is_told_to_the_client() {
    for kind in Kind::ALL {
        let echo = Echo::start(Speaks::Http1).await;
        let wire = Wire::start(config(&[echo.url()])).await;
        let (mut socket, _) = within(connect(&wire, kind)).await;
        still_speaks(&mut socket, "here").await;
        drop(echo);
        has_ended(&mut socket).await;
    }
}

#[tokio::test]
async fn a_backend_that_declines_a_stream_is_heard() {
    let origin = Origin::start("no websocket here").await;
    let wire = Wire::start(config(&[origin.url()])).await;
    for kind in Kind::HTTP2 {
        let client = wire.h2(kind).await;
        // Any success response to an extended CONNECT would open a tunnel.
        let status = extended_connect(client, "/chat").await.err().expect("no tunnel");
        assert!(status.is_client_error() || status.is_server_error(), "{status}");
    }
}
